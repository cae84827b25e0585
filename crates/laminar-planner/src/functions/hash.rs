//! `hash(x)`: a BIGINT of at least 0 that depends on the value alone.
//!
//! Users divide work by it (`mod(hash(id), 2) = 0` in one pipeline, `= 1` in the other), so it must never change. Integers of
//! every width hash alike; other values hash as their text, bytes as themselves. NULL gives NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::cast::{as_binary_array, as_int64_array, as_string_array};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hash {
    signature: Signature,
}

impl Default for Hash {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Hash {
    fn name(&self) -> &str {
        "hash"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(array) = arrays.first() else {
            return datafusion::common::exec_err!("hash takes one argument");
        };
        Ok(ColumnarValue::Array(Arc::new(hash(array)?)))
    }
}

fn hash(array: &ArrayRef) -> Result<Int64Array> {
    use DataType::*;
    match array.data_type() {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => {
            let widened = cast(array, &Int64)?;
            Ok(as_int64_array(&widened)?.iter().map(|v| v.map(|v| of_integer(v as u64))).collect())
        }
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => {
            let bytes = cast(array, &Binary)?;
            let bytes: &BinaryArray = as_binary_array(&bytes)?;
            Ok(bytes.iter().map(|v| v.map(of_bytes)).collect())
        }
        _ => {
            let text = cast(array, &Utf8)?;
            let text: &StringArray = as_string_array(&text)?;
            Ok(text.iter().map(|v| v.map(|v| of_bytes(v.as_bytes()))).collect())
        }
    }
}

/// FNV-1a of 64 bits, then mixed: FNV alone spreads its low bits badly.
fn of_bytes(bytes: &[u8]) -> i64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    of_integer(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The finaliser of SplitMix64, its sign bit cleared.
fn of_integer(value: u64) -> i64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) & (u64::MAX >> 1)) as i64
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, UInt64Array};

    use super::*;

    #[test]
    fn values_never_change() {
        let integers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(-1), None]));
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![Some(0), Some(1), Some(-1), None]));
        let expected = Int64Array::from(vec![
            Some(7070836379803831727),
            Some(1227844342346046657),
            Some(7266964230113668128),
            None,
        ]);
        assert_eq!(hash(&integers).unwrap(), hash(&narrow).unwrap());
        assert_eq!(hash(&integers).unwrap(), expected);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["abc", ""]));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"abc".as_slice(), b""]));
        assert_eq!(hash(&text).unwrap(), hash(&bytes).unwrap());
        let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert!(hash(&large).unwrap().value(0) >= 0);
    }
}

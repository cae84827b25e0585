//! `from_utf8_lossy(bytes)`: the text that the bytes are in UTF-8, with U+FFFD in place of what is none. NULL gives NULL.

use std::sync::Arc;

use arrow::array::{Array, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::cast::as_binary_array;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct FromUtf8Lossy {
    signature: Signature,
}

impl Default for FromUtf8Lossy {
    fn default() -> Self {
        Self { signature: Signature::exact(vec![DataType::Binary], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FromUtf8Lossy {
    fn name(&self) -> &str {
        "from_utf8_lossy"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [bytes] = arrays.as_slice() else {
            return datafusion::common::exec_err!("from_utf8_lossy takes one argument");
        };
        let bytes = as_binary_array(bytes)?;
        let mut text = StringBuilder::with_capacity(bytes.len(), bytes.value_data().len());
        for value in bytes {
            text.append_option(value.map(String::from_utf8_lossy));
        }
        Ok(ColumnarValue::Array(Arc::new(text.finish())))
    }
}

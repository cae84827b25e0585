//! Columns of one width a value: booleans, integers, floating-point numbers, decimals.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, Decimal128Array};
use arrow::datatypes::DataType;
use laminar_core::Result;

use crate::columns::{Booleans, Values};
use crate::fault::Fault;
use crate::json::number::{NotInteger, Rounding, quick_f64, quick_integer};
use crate::json::scan::literal;
use crate::json::value::{mismatch, out_of_range, quoted, read_scaled, with_number};

/// Integers of one width.
pub(crate) struct Integers<A: ArrowPrimitiveType>(Values<A::Native>);

impl<A: ArrowPrimitiveType> Integers<A>
where
    A::Native: TryFrom<i64> + TryFrom<i128> + Copy + Default,
{
    pub fn new() -> Self {
        Self(Values::new())
    }
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if let Some((value, end)) = quick_integer(bytes, at)
            && let Ok(value) = A::Native::try_from(value)
        {
            self.0.push(value);
            return Ok(end);
        }
        let (value, end) = read_scaled(bytes, at, depth, 0, Rounding::Exact, &A::DATA_TYPE)?;
        let value = A::Native::try_from(value).map_err(|_| out_of_range(bytes, at, depth, &A::DATA_TYPE))?;
        self.0.push(value);
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.0.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.take::<A>()?))
    }
}

/// Doubles or singles.
pub(crate) struct Floats<A: ArrowPrimitiveType>(pub Values<A::Native>);

/// What tells doubles from singles.
pub(crate) trait Float: Copy + Default + std::str::FromStr {
    fn quick(bytes: &[u8], at: usize) -> Option<(Self, usize)>;
    fn is_finite(self) -> bool;
}

impl Float for f64 {
    #[inline(always)]
    fn quick(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        quick_f64(bytes, at)
    }
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for f32 {
    /// A single that is read as a double first would be rounded twice.
    fn quick(_: &[u8], _: usize) -> Option<(Self, usize)> {
        None
    }
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl<A: ArrowPrimitiveType> Floats<A>
where
    A::Native: Float,
{
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if let Some((value, end)) = A::Native::quick(bytes, at) {
            self.0.push(value);
            return Ok(end);
        }
        self.read_slowly(bytes, at, depth)
    }
    #[inline(never)]
    pub fn read_slowly(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if let Some((text, end)) = quoted(bytes, at)?
            && matches!(text.as_ref(), b"NaN" | b"Infinity" | b"-Infinity")
        {
            let value = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
            self.0.push(value);
            return Ok(end);
        }
        let (value, end) = with_number(bytes, at, depth, &A::DATA_TYPE, |number| {
            let value: Option<A::Native> = number.text.parse().ok().filter(|value: &A::Native| value.is_finite());
            value.ok_or(NotInteger::OutOfRange)
        })?;
        self.0.push(value);
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.0.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.take::<A>()?))
    }
}

/// Decimals of one precision and scale; digits beyond the scale are rounded half away from zero.
pub(crate) struct Decimals {
    precision: u8,
    scale: i8,
    limit: u128,
    values: Values<i128>,
}

impl Decimals {
    pub fn new(precision: u8, scale: i8) -> Self {
        let limit = 10u128.saturating_pow(u32::from(precision));
        Self { precision, scale, limit, values: Values::new() }
    }
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let data_type = DataType::Decimal128(self.precision, self.scale);
        let (value, end) = read_scaled(bytes, at, depth, i32::from(self.scale), Rounding::HalfAway, &data_type)?;
        if value.unsigned_abs() >= self.limit {
            return Err(out_of_range(bytes, at, depth, &data_type));
        }
        self.values.push(value);
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.values.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let array: Decimal128Array = self.values.take()?;
        Ok(Arc::new(array.with_precision_and_scale(self.precision, self.scale)?))
    }
}

/// `true` and `false`, also in quotes.
pub(crate) struct Bools(pub Booleans);

impl Bools {
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let (value, end) = match bytes.get(at) {
            Some(b't') => (true, literal(bytes, at, "true")?),
            Some(b'f') => (false, literal(bytes, at, "false")?),
            _ => match quoted(bytes, at)? {
                Some((text, end)) if text.as_ref() == b"true" => (true, end),
                Some((text, end)) if text.as_ref() == b"false" => (false, end),
                _ => return Err(mismatch(bytes, at, depth, &DataType::Boolean)),
            },
        };
        self.0.push(value);
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.0.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.0.finish()
    }
}

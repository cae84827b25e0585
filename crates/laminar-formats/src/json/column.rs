//! One column under construction: reads a JSON value straight into Arrow's buffers.
//!
//! Every column obeys the same rules:
//! - `read` gets the index of the value's first byte, never that of a `null`, and returns the index after the value;
//! - when `read` errors, the column may be longer than before: whoever knows the row cuts it back with `truncate`;
//! - `finish` hands over the array and leaves an empty column with room for as many rows again.
//!
//! Types are read as PostgreSQL's `json_to_record` reads them: a column gets what the value's text means in its type. A
//! TEXT column takes a string's content, and any other value as written; a number may stand in quotes.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, NullBufferBuilder,
    PrimitiveArray, StringArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use laminar_core::table::TYPE_KEY;
use laminar_core::{Code, Error, Result};

use crate::fault::{Fault, fault, in_column};
use crate::json::nested::{Lists, Maps, Structs};
use crate::json::number::{NotInteger, Number, Rounding, number, quick_f64, quick_integer};
use crate::json::scan::{literal, unexpected};
use crate::json::skip::skip_value;
use crate::json::string;
use crate::json::types::sql_type;
use crate::options::TimestampFormat;
use crate::times;

/// A column and what its table says about it.
pub(crate) struct Slot {
    pub name: Box<str>,
    pub nullable: bool,
    pub column: Column,
}

impl Slot {
    pub fn new(field: &Field, format: TimestampFormat) -> Result<Self> {
        let json = field.metadata().get(TYPE_KEY).is_some_and(|kind| kind == "json");
        let column = Column::new(field.data_type(), json, format)?;
        Ok(Self { name: field.name().as_str().into(), nullable: field.is_nullable(), column })
    }

    /// Reads the value at `at`, which may be `null`.
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if bytes.get(at) == Some(&b'n') { self.read_null(bytes, at) } else { self.column.read(bytes, at, depth) }
    }

    fn read_null(&mut self, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        let end = literal(bytes, at, "null")?;
        if !self.nullable {
            return Err(fault(at, "null in a NOT NULL column"));
        }
        self.column.push_null();
        Ok(end)
    }

    /// The value is missing from the object that ends before `at`.
    pub fn read_absent(&mut self, at: usize) -> Result<(), Fault> {
        if !self.nullable {
            return Err(in_column(fault(at, "no value for a NOT NULL column"), &self.name));
        }
        self.column.push_null();
        Ok(())
    }
}

pub(crate) enum Column {
    Boolean(Booleans),
    Int8(Integers<Int8Type>),
    Int16(Integers<Int16Type>),
    Int32(Integers<Int32Type>),
    Int64(Integers<Int64Type>),
    UInt8(Integers<UInt8Type>),
    UInt16(Integers<UInt16Type>),
    UInt32(Integers<UInt32Type>),
    UInt64(Integers<UInt64Type>),
    Float32(Floats<Float32Type>),
    Float64(Floats<Float64Type>),
    Decimal(Decimals),
    Text(Texts),
    Json(JsonTexts),
    Binary(Binaries),
    Date(Dates),
    Time(Times),
    Timestamp(Timestamps),
    List(Box<Lists>),
    Struct(Box<Structs>),
    Map(Box<Maps>),
}

macro_rules! each {
    ($self:expr, $column:ident => $body:expr) => {
        match $self {
            Column::Boolean($column) => $body,
            Column::Int8($column) => $body,
            Column::Int16($column) => $body,
            Column::Int32($column) => $body,
            Column::Int64($column) => $body,
            Column::UInt8($column) => $body,
            Column::UInt16($column) => $body,
            Column::UInt32($column) => $body,
            Column::UInt64($column) => $body,
            Column::Float32($column) => $body,
            Column::Float64($column) => $body,
            Column::Decimal($column) => $body,
            Column::Text($column) => $body,
            Column::Json($column) => $body,
            Column::Binary($column) => $body,
            Column::Date($column) => $body,
            Column::Time($column) => $body,
            Column::Timestamp($column) => $body,
            Column::List($column) => $body,
            Column::Struct($column) => $body,
            Column::Map($column) => $body,
        }
    };
}

impl Column {
    pub fn new(data_type: &DataType, json: bool, format: TimestampFormat) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(Booleans::new()),
            DataType::Int8 => Self::Int8(Integers::new()),
            DataType::Int16 => Self::Int16(Integers::new()),
            DataType::Int32 => Self::Int32(Integers::new()),
            DataType::Int64 => Self::Int64(Integers::new()),
            DataType::UInt8 => Self::UInt8(Integers::new()),
            DataType::UInt16 => Self::UInt16(Integers::new()),
            DataType::UInt32 => Self::UInt32(Integers::new()),
            DataType::UInt64 => Self::UInt64(Integers::new()),
            DataType::Float32 => Self::Float32(Floats(Values::new())),
            DataType::Float64 => Self::Float64(Floats(Values::new())),
            DataType::Decimal128(precision, scale) => Self::Decimal(Decimals::new(*precision, *scale)),
            DataType::Utf8 if json => Self::Json(JsonTexts(Bytes::new())),
            DataType::Utf8 => Self::Text(Texts(Bytes::new())),
            DataType::Binary => Self::Binary(Binaries(Bytes::new())),
            DataType::Date32 => Self::Date(Dates(Values::new())),
            DataType::Time64(unit) => Self::Time(Times { unit: *unit, values: Values::new() }),
            DataType::Timestamp(unit, zone) => Self::Timestamp(Timestamps::new(*unit, zone.clone(), format)),
            DataType::List(item) => Self::List(Box::new(Lists::new(item, format)?)),
            DataType::Struct(fields) => Self::Struct(Box::new(Structs::new(fields, format)?)),
            DataType::Map(entries, _) => Self::Map(Box::new(Maps::new(entries, format)?)),
            other => {
                let text = format!("type {} has no JSON form", sql_type(other));
                return Err(Error::new(Code::NotSupported, text));
            }
        })
    }

    /// Appends the value at `at`, which stands inside `depth` containers.
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        match self {
            Self::Int64(column) => column.read(bytes, at, depth),
            Self::Text(column) => column.read(bytes, at, depth),
            Self::Timestamp(column) => column.read(bytes, at, depth),
            Self::Float64(column) => column.read(bytes, at, depth),
            other => other.read_other(bytes, at, depth),
        }
    }

    /// The types that are not worth a place in the loop's own code.
    #[inline(never)]
    fn read_other(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        each!(self, column => column.read(bytes, at, depth))
    }

    /// Appends a null, whatever the table says about nulls.
    pub fn push_null(&mut self) {
        each!(self, column => column.push_null())
    }
    /// Cuts back to `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        each!(self, column => column.truncate(rows))
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        each!(self, column => column.finish())
    }
}

/// Values of one width, and which are null.
pub(crate) struct Values<T> {
    values: Vec<T>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowNativeType> Values<T> {
    fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }
    #[inline(always)]
    fn push(&mut self, value: T) {
        self.values.push(value);
        self.nulls.append_non_null();
    }
    fn push_null(&mut self) {
        self.values.push(T::default());
        self.nulls.append_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(rows);
    }
    fn take<A: ArrowPrimitiveType<Native = T>>(&mut self) -> Result<PrimitiveArray<A>> {
        let room = Vec::with_capacity(self.values.len());
        let values = ScalarBuffer::from(std::mem::replace(&mut self.values, room));
        Ok(PrimitiveArray::try_new(values, self.nulls.finish())?)
    }
}

/// Integers of one width.
pub(crate) struct Integers<A: ArrowPrimitiveType>(Values<A::Native>);

impl<A: ArrowPrimitiveType> Integers<A>
where
    A::Native: TryFrom<i64> + TryFrom<i128> + Copy + Default,
{
    fn new() -> Self {
        Self(Values::new())
    }
    #[inline(always)]
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
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
    fn push_null(&mut self) {
        self.0.push_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.take::<A>()?))
    }
}

/// Doubles or singles.
pub(crate) struct Floats<A: ArrowPrimitiveType>(Values<A::Native>);

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
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if let Some((value, end)) = A::Native::quick(bytes, at) {
            self.0.push(value);
            return Ok(end);
        }
        self.read_slowly(bytes, at, depth)
    }
    #[inline(never)]
    fn read_slowly(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
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
    fn push_null(&mut self) {
        self.0.push_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
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
    fn new(precision: u8, scale: i8) -> Self {
        let limit = 10u128.saturating_pow(u32::from(precision));
        Self { precision, scale, limit, values: Values::new() }
    }
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let data_type = DataType::Decimal128(self.precision, self.scale);
        let (value, end) = read_scaled(bytes, at, depth, i32::from(self.scale), Rounding::HalfAway, &data_type)?;
        if value.unsigned_abs() >= self.limit {
            return Err(out_of_range(bytes, at, depth, &data_type));
        }
        self.values.push(value);
        Ok(end)
    }
    fn push_null(&mut self) {
        self.values.push_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
        let array: Decimal128Array = self.values.take()?;
        Ok(Arc::new(array.with_precision_and_scale(self.precision, self.scale)?))
    }
}

/// `true` and `false`, also in quotes.
pub(crate) struct Booleans {
    values: BooleanBufferBuilder,
    nulls: NullBufferBuilder,
}

impl Booleans {
    fn new() -> Self {
        Self { values: BooleanBufferBuilder::new(0), nulls: NullBufferBuilder::new(0) }
    }
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let (value, end) = match bytes.get(at) {
            Some(b't') => (true, literal(bytes, at, "true")?),
            Some(b'f') => (false, literal(bytes, at, "false")?),
            _ => match quoted(bytes, at)? {
                Some((text, end)) if text.as_ref() == b"true" => (true, end),
                Some((text, end)) if text.as_ref() == b"false" => (false, end),
                _ => return Err(mismatch(bytes, at, depth, &DataType::Boolean)),
            },
        };
        self.values.append(value);
        self.nulls.append_non_null();
        Ok(end)
    }
    fn push_null(&mut self) {
        self.values.append(false);
        self.nulls.append_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(BooleanArray::new(self.values.finish(), self.nulls.finish())))
    }
}

/// Bytes of any length laid end to end.
pub(crate) struct Bytes {
    pub bytes: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Bytes {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }
    /// Ends the entry whose bytes were just appended; `at` is where it stands in the message.
    #[inline(always)]
    pub fn end_entry(&mut self, at: usize) -> Result<(), Fault> {
        match i32::try_from(self.bytes.len()) {
            Ok(end) => self.offsets.push(end),
            Err(_) => return Err(fault(at, "the batch has more than 2 GiB in this column")),
        }
        self.nulls.append_non_null();
        Ok(())
    }
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }
    pub fn push_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.nulls.append_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0);
        self.bytes.truncate(end);
        self.nulls.truncate(rows);
    }
    /// The entries from `row` on.
    pub fn entries_from(&self, row: usize) -> impl Iterator<Item = &[u8]> {
        let ends = self.offsets.get(row..).unwrap_or_default();
        ends.windows(2).map(|pair| match pair {
            [start, end] => self.bytes.get(*start as usize..*end as usize).unwrap_or_default(),
            _ => &[],
        })
    }
    fn take(&mut self) -> (OffsetBuffer<i32>, Vec<u8>, Option<arrow::buffer::NullBuffer>) {
        let mut room = Vec::with_capacity(self.offsets.len());
        room.push(0);
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, room).into());
        // A little more than last time, so that a usual batch does not grow.
        let room = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 16);
        (offsets, std::mem::replace(&mut self.bytes, room), self.nulls.finish())
    }
    pub fn finish_text(&mut self) -> Result<ArrayRef> {
        let (offsets, bytes, nulls) = self.take();
        Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?))
    }
}

/// A string's content, or any other value as written.
pub(crate) struct Texts(pub Bytes);

impl Texts {
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let end = match bytes.get(at) {
            Some(b'"') => string::read(bytes, at + 1, &mut self.0.bytes)?,
            _ => append_as_written(bytes, at, depth, &mut self.0.bytes)?,
        };
        self.0.end_entry(at)?;
        Ok(end)
    }
    fn push_null(&mut self) {
        self.0.push_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
        self.0.finish_text()
    }
}

/// Any value as written.
pub(crate) struct JsonTexts(pub Bytes);

impl JsonTexts {
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let end = append_as_written(bytes, at, depth, &mut self.0.bytes)?;
        self.0.end_entry(at)?;
        Ok(end)
    }
    fn push_null(&mut self) {
        self.0.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.0.finish_text()
    }
}

#[inline(never)]
fn append_as_written(bytes: &[u8], at: usize, depth: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
    let end = skip_value(bytes, at, depth)?;
    out.extend_from_slice(bytes.get(at..end).unwrap_or_default());
    Ok(end)
}

/// Both alphabets of RFC 4648 are read, the padding may be missing.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Bytes written in base64.
pub(crate) struct Binaries(Bytes);

impl Binaries {
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let Some((text, end)) = quoted(bytes, at)? else {
            return Err(mismatch(bytes, at, depth, &DataType::Binary));
        };
        let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
        let engine = if url_safe { &URL_SAFE } else { &STANDARD };
        if engine.decode_vec(text.as_ref(), &mut self.0.bytes).is_err() {
            return Err(fault(at, format!("expected BYTEA in base64, found {}", excerpt(bytes, at, end))));
        }
        self.0.end_entry(at)?;
        Ok(end)
    }
    fn push_null(&mut self) {
        self.0.push_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
        let (offsets, bytes, nulls) = self.0.take();
        Ok(Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?))
    }
}

/// `"2024-01-31"`, or a number of days since 1970-01-01.
pub(crate) struct Dates(Values<i32>);

impl Dates {
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if let Some((text, end)) = quoted(bytes, at)? {
            let days = times::parse_date(&text).ok_or_else(|| mismatch(bytes, at, depth, &DataType::Date32))?;
            self.0.push(days);
            return Ok(end);
        }
        let (days, end) = read_scaled(bytes, at, depth, 0, Rounding::Exact, &DataType::Date32)?;
        self.0.push(i32::try_from(days).map_err(|_| out_of_range(bytes, at, depth, &DataType::Date32))?);
        Ok(end)
    }
    fn push_null(&mut self) {
        self.0.push_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.take::<Date32Type>()?))
    }
}

/// `"23:59:59.123"`, or a number of microseconds since midnight.
pub(crate) struct Times {
    unit: TimeUnit,
    values: Values<i64>,
}

impl Times {
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let data_type = DataType::Time64(self.unit);
        let (nanos, end) = match quoted(bytes, at)? {
            Some((text, end)) => (times::parse_time(&text), end),
            None => {
                let (micros, end) = read_scaled(bytes, at, depth, 0, Rounding::Exact, &data_type)?;
                let inside = (0..86_400_000_000).contains(&micros);
                (inside.then_some(micros).and_then(|micros| i64::try_from(micros * 1_000).ok()), end)
            }
        };
        let nanos = nanos.ok_or_else(|| mismatch(bytes, at, depth, &data_type))?;
        self.values.push(if self.unit == TimeUnit::Nanosecond { nanos } else { nanos / 1_000 });
        Ok(end)
    }
    fn push_null(&mut self) {
        self.values.push_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self.unit {
            TimeUnit::Nanosecond => Arc::new(self.values.take::<Time64NanosecondType>()?),
            _ => Arc::new(self.values.take::<Time64MicrosecondType>()?),
        })
    }
}

/// Text in RFC 3339, or a number that counts what `timestamp_format` says.
pub(crate) struct Timestamps {
    unit: TimeUnit,
    zone: Option<Arc<str>>,
    /// Decimal digits behind the second of a bare number, and of the column.
    read_digits: u32,
    column_digits: u32,
    /// A bare integer times `factor` is the column's value; 0 if it must be divided.
    factor: i64,
    values: Values<i64>,
}

impl Timestamps {
    fn new(unit: TimeUnit, zone: Option<Arc<str>>, format: TimestampFormat) -> Self {
        let column_digits: u32 = match unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => 3,
            TimeUnit::Microsecond => 6,
            TimeUnit::Nanosecond => 9,
        };
        let read_digits = format.digits();
        let factor = column_digits.checked_sub(read_digits).map_or(0, |digits| 10i64.pow(digits));
        Self { unit, zone, read_digits, column_digits, factor, values: Values::new() }
    }

    #[inline(always)]
    fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if let Some((value, end)) = quick_integer(bytes, at)
            && self.factor != 0
            && let Some(value) = value.checked_mul(self.factor)
        {
            self.values.push(value);
            return Ok(end);
        }
        self.read_slowly(bytes, at, depth)
    }

    #[inline(never)]
    fn read_slowly(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let data_type = DataType::Timestamp(self.unit, self.zone.clone());
        if let Some((text, end)) = quoted(bytes, at)?
            && let Some(instant) = times::parse_timestamp(&text)
        {
            let value = instant.units(self.column_digits);
            self.values.push(value.ok_or_else(|| out_of_range(bytes, at, depth, &data_type))?);
            return Ok(end);
        }
        let scale = self.column_digits.cast_signed() - self.read_digits.cast_signed();
        let (value, end) = read_scaled(bytes, at, depth, scale, Rounding::Floor, &data_type)?;
        self.values.push(i64::try_from(value).map_err(|_| out_of_range(bytes, at, depth, &data_type))?);
        Ok(end)
    }
    fn push_null(&mut self) {
        self.values.push_null();
    }
    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }
    fn finish(&mut self) -> Result<ArrayRef> {
        let zone = self.zone.clone();
        Ok(match self.unit {
            TimeUnit::Second => Arc::new(self.values.take::<TimestampSecondType>()?.with_timezone_opt(zone)),
            TimeUnit::Millisecond => Arc::new(self.values.take::<TimestampMillisecondType>()?.with_timezone_opt(zone)),
            TimeUnit::Microsecond => Arc::new(self.values.take::<TimestampMicrosecondType>()?.with_timezone_opt(zone)),
            TimeUnit::Nanosecond => Arc::new(self.values.take::<TimestampNanosecondType>()?.with_timezone_opt(zone)),
        })
    }
}

/// The content of the string at `at` and the index after it; `None` if another kind of value stands there.
fn quoted(bytes: &[u8], at: usize) -> Result<Option<(Cow<'_, [u8]>, usize)>, Fault> {
    if bytes.get(at) != Some(&b'"') {
        return Ok(None);
    }
    let content = string::scan(bytes, at + 1)?;
    if !content.escaped {
        return Ok(Some((Cow::Borrowed(bytes.get(at + 1..content.end).unwrap_or_default()), content.end + 1)));
    }
    let mut text = Vec::new();
    let end = string::read(bytes, at + 1, &mut text)?;
    Ok(Some((Cow::Owned(text), end)))
}

/// The value of `f` for the number at `at`, which may stand in quotes, and the index after it.
fn with_number<T>(
    bytes: &[u8],
    at: usize,
    depth: usize,
    data_type: &DataType,
    f: impl FnOnce(&Number<'_>) -> Result<T, NotInteger>,
) -> Result<(T, usize), Fault> {
    let (value, end) = match (quoted(bytes, at)?, bytes.get(at)) {
        (Some((text, end)), _) => match number(&text, 0) {
            Ok(number) if number.end == text.len() => (f(&number), end),
            _ => return Err(mismatch(bytes, at, depth, data_type)),
        },
        (None, Some(b'-' | b'0'..=b'9')) => {
            let number = number(bytes, at)?;
            (f(&number), number.end)
        }
        _ => return Err(mismatch(bytes, at, depth, data_type)),
    };
    match value {
        Ok(value) => Ok((value, end)),
        Err(NotInteger::OutOfRange) => Err(out_of_range(bytes, at, depth, data_type)),
        Err(NotInteger::Fraction) => Err(mismatch(bytes, at, depth, data_type)),
    }
}

#[inline(never)]
fn read_scaled(
    bytes: &[u8],
    at: usize,
    depth: usize,
    scale: i32,
    rounding: Rounding,
    data_type: &DataType,
) -> Result<(i128, usize), Fault> {
    with_number(bytes, at, depth, data_type, |number| number.scaled(scale, rounding))
}

/// The fault for a value of another kind than the column's, or for what is not even a value.
#[cold]
pub(crate) fn mismatch(bytes: &[u8], at: usize, depth: usize, data_type: &DataType) -> Fault {
    describe(bytes, at, depth, |found| format!("expected {}, found {found}", sql_type(data_type)))
}

#[cold]
fn out_of_range(bytes: &[u8], at: usize, depth: usize, data_type: &DataType) -> Fault {
    describe(bytes, at, depth, |found| format!("{found} is out of range for {}", sql_type(data_type)))
}

fn describe(bytes: &[u8], at: usize, depth: usize, message: impl FnOnce(&str) -> String) -> Fault {
    match skip_value(bytes, at, depth) {
        Ok(end) => fault(at, message(&excerpt(bytes, at, end))),
        Err(_) if bytes.get(at).is_none() => unexpected(bytes, at, "a value"),
        Err(fault) => fault,
    }
}

/// The value as written, cut after 40 characters.
fn excerpt(bytes: &[u8], at: usize, end: usize) -> String {
    let text = String::from_utf8_lossy(bytes.get(at..end).unwrap_or_default());
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text.into_owned(),
    }
}

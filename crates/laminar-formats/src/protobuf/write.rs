//! A column's values as Protobuf: made ready once a batch, written row by row.
//!
//! What a field can be written from is what it can fill (see `source`), so that a table reads what it wrote. Of a field without
//! presence the default is not written, and neither is NULL: both are read as the default.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, Time64NanosecondType, TimeUnit,
};
use laminar_core::{Code, Error, Result};

use super::json_value;
use super::source::{EnumNames, Number, Source, put_bytes, put_number};
use super::wire::WireType;
use crate::internal;
use crate::options::TimestampFormat;
use crate::text_column::{digits_of, texts, timestamps};
use crate::times::{Instant, Scale};
use crate::varint::write_varint;

/// A field and the column that it is written from.
pub(super) struct FieldWriter {
    pub name: Box<str>,
    pub number: u32,
    pub shape: Shape,
    /// It must be there: `required`.
    pub required: bool,
    /// A value that is the default is written too.
    pub presence: bool,
}

/// What a field is.
pub(super) enum Shape {
    Scalar(Source),
    Message(Vec<FieldWriter>),
    Repeated { item: Box<Shape>, packed: bool },
    Map { key: Source, value: Box<Shape> },
}

impl Shape {
    fn wire_type(&self) -> WireType {
        match self {
            Self::Scalar(source) => source.wire_type(),
            _ => WireType::Bytes,
        }
    }
}

/// A column of a batch, ready to be written as a field.
pub(super) struct Column<'a> {
    field: &'a FieldWriter,
    values: Nullable<'a>,
}

struct Nullable<'a> {
    nulls: Option<NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(BooleanBuffer),
    Integers(Number, ScalarBuffer<i64>),
    /// Counts of 10^-scale.
    Wide(Number, ScalarBuffer<i128>, u32),
    Float32(ScalarBuffer<f32>),
    Float64(ScalarBuffer<f64>),
    Text(StringArray),
    Bytes(BinaryArray),
    EnumNames(&'a EnumNames, StringArray),
    EnumNumbers(ScalarBuffer<i64>),
    /// The digits behind the second that a value counts in.
    Instant(ScalarBuffer<i64>, u32),
    Duration(ScalarBuffer<IntervalMonthDayNano>),
    Wrapper(Box<Values<'a>>),
    Json(&'a Source, StringArray),
    Message(Vec<Column<'a>>),
    Repeated {
        offsets: OffsetBuffer<i32>,
        items: Box<Nullable<'a>>,
        wire: WireType,
        packed: bool,
    },
    Map {
        offsets: OffsetBuffer<i32>,
        keys: Box<Values<'a>>,
        values: Box<Nullable<'a>>,
        wires: [WireType; 2],
    },
}

impl<'a> Column<'a> {
    pub fn new(field: &'a FieldWriter, column: &ArrayRef, format: TimestampFormat) -> Result<Self> {
        Ok(Self { field, values: Nullable::new(&field.shape, column, format)? })
    }

    /// Appends the row's value with its tag, or nothing if it is absent.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Written {
        self.append(row, out).map_err(|refused| refused.in_column(&self.field.name))
    }

    #[inline(always)]
    fn append(&self, row: usize, out: &mut Vec<u8>) -> Written {
        let field = self.field;
        if self.values.is_null(row) {
            return match field.required {
                true => Err(Refused::new("it is NULL, and its field is required")),
                false => Ok(()),
            };
        }
        match &self.values.values {
            Values::Repeated { offsets, items, wire, packed } => {
                write_repeated(field.number, (offsets, items), (*wire, *packed), row, out)
            }
            Values::Map { offsets, keys, values, wires } => {
                write_map(field.number, offsets, (keys, values), *wires, row, out)
            }
            values => {
                if !field.presence && values.is_default(row) {
                    return Ok(());
                }
                put_tag(out, field.number, field.shape.wire_type());
                values.write(row, out)
            }
        }
    }
}

/// Why a value cannot be written, on its way up to who knows the row; inner columns come first. Boxed, as it is rare.
pub(super) struct Refused(Box<(String, String)>);

impl Refused {
    #[cold]
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new((String::new(), message.into())))
    }
    #[cold]
    fn in_column(mut self, name: &str) -> Self {
        let inner = &mut self.0.0;
        *inner = if inner.is_empty() { name.to_string() } else { format!("{name}.{inner}") };
        self
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let (column, message) = *refused.0;
        Error::new(Code::InvalidValue, format!("column {column} cannot be written: {message}")).with_field(column)
    }
}

pub(super) type Written = std::result::Result<(), Refused>;

impl<'a> Nullable<'a> {
    fn new(shape: &'a Shape, column: &ArrayRef, format: TimestampFormat) -> Result<Self> {
        Ok(Self { nulls: column.nulls().cloned(), values: Values::new(shape, column, format)? })
    }
    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
}

impl<'a> Values<'a> {
    fn new(shape: &'a Shape, column: &ArrayRef, format: TimestampFormat) -> Result<Self> {
        Ok(match shape {
            Shape::Scalar(source) => return Self::scalar(source, column, format),
            Shape::Message(fields) => {
                let columns = column.as_struct().columns();
                let columns = fields.iter().zip(columns).map(|(field, column)| Column::new(field, column, format));
                Self::Message(columns.collect::<Result<_>>()?)
            }
            Shape::Repeated { item, packed } => {
                let list = column.as_list::<i32>();
                let items = Box::new(Nullable::new(item, list.values(), format)?);
                Self::Repeated { offsets: list.offsets().clone(), items, wire: item.wire_type(), packed: *packed }
            }
            Shape::Map { key, value } => {
                let map = column.as_map();
                let keys = Box::new(Self::scalar(key, map.keys(), format)?);
                let wires = [key.wire_type(), value.wire_type()];
                let values = Box::new(Nullable::new(value, map.values(), format)?);
                Self::Map { offsets: map.offsets().clone(), keys, values, wires }
            }
        })
    }

    fn scalar(source: &'a Source, column: &ArrayRef, format: TimestampFormat) -> Result<Self> {
        Ok(match (source, column.data_type()) {
            (Source::Wrapper(inner), _) => Self::Wrapper(Box::new(Self::scalar(inner, column, format)?)),
            (Source::Number(_), DataType::Boolean) => Self::Boolean(column.as_boolean().values().clone()),
            (Source::Number(Number::Float), DataType::Float32) => {
                Self::Float32(column.as_primitive::<Float32Type>().values().clone())
            }
            // A REAL's field may fill a DOUBLE column; back it is rounded.
            (Source::Number(Number::Float), _) => {
                Self::Float32(cast(column, &DataType::Float32)?.as_primitive::<Float32Type>().values().clone())
            }
            (Source::Number(Number::Double), _) => Self::Float64(column.as_primitive::<Float64Type>().values().clone()),
            (Source::Number(number), DataType::Decimal128(_, scale)) => {
                let scale = u32::try_from(*scale).map_err(|_| internal("a DECIMAL of negative scale"))?;
                Self::Wide(*number, column.as_primitive::<Decimal128Type>().values().clone(), scale)
            }
            (Source::Number(number), DataType::UInt64) => {
                let wide = cast(column, &DataType::Decimal128(20, 0))?;
                Self::Wide(*number, wide.as_primitive::<Decimal128Type>().values().clone(), 0)
            }
            (Source::Number(number), DataType::Timestamp(unit, _)) => {
                let scale = Scale::digits(digits_of(*unit), format.digits());
                let values = timestamps(column, *unit);
                match values.iter().map(|value| scale.of(*value)).collect::<Option<Vec<_>>>() {
                    Some(values) => Self::Integers(*number, values.into()),
                    // One at least is too far away for 64 bits: its own row is refused.
                    None => Self::Wide(*number, values.iter().map(|value| scale.wide(*value)).collect(), 0),
                }
            }
            (Source::Number(number), DataType::Time64(_)) => {
                let micros = cast(column, &DataType::Time64(TimeUnit::Nanosecond))?;
                let micros = micros.as_primitive::<Time64NanosecondType>().values().iter().map(|nanos| nanos / 1_000);
                Self::Integers(*number, micros.collect::<Vec<_>>().into())
            }
            (Source::Number(number), DataType::Date32) => {
                let days = column.as_primitive::<Date32Type>().values().iter().map(|days| i64::from(*days));
                Self::Integers(*number, days.collect::<Vec<_>>().into())
            }
            (Source::Number(number), _) => Self::Integers(*number, integers(column)?),
            (Source::Enum(names), DataType::Utf8) => Self::EnumNames(names, column.as_string::<i32>().clone()),
            (Source::Enum(_), _) => Self::EnumNumbers(integers(column)?),
            (Source::Text, _) => Self::Text(texts(column)?),
            (Source::Bytes, _) => Self::Bytes(column.as_binary::<i32>().clone()),
            (Source::Instant, DataType::Timestamp(unit, _)) => {
                Self::Instant(timestamps(column, *unit), digits_of(*unit))
            }
            (Source::Duration, _) => Self::Duration(column.as_primitive::<IntervalMonthDayNanoType>().values().clone()),
            (Source::JsonObject | Source::JsonList | Source::JsonValue, _) => {
                Self::Json(source, column.as_string::<i32>().clone())
            }
            (Source::Instant, other) => return Err(internal(format!("a Timestamp from {other}"))),
        })
    }

    /// Is it what a field without presence is when it is absent? Only asked of such.
    fn is_default(&self, row: usize) -> bool {
        match self {
            Self::Boolean(values) => !values.value(row),
            Self::Integers(_, values) | Self::EnumNumbers(values) => at(values, row) == 0,
            Self::Wide(_, values, _) => at(values, row) == 0,
            // Minus zero is not the default.
            Self::Float32(values) => at(values, row).to_bits() == 0,
            Self::Float64(values) => at(values, row).to_bits() == 0,
            Self::Text(values) => values.value(row).is_empty(),
            Self::Bytes(values) => values.value(row).is_empty(),
            Self::EnumNames(names, values) => names.number(values.value(row)) == Some(0),
            _ => false,
        }
    }

    /// Appends the value without a tag.
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Written {
        match self {
            Self::Boolean(values) => out.push(u8::from(values.value(row))),
            Self::Integers(number, values) => {
                let value = at(values, row);
                let raw = number.raw(i128::from(value)).ok_or_else(|| out_of_range(i128::from(value)))?;
                put_number(out, number.wire_type(), raw);
            }
            Self::Wide(number, values, scale) => {
                let (value, unit) = (at(values, row), 10i128.pow(*scale));
                if value % unit != 0 {
                    return Err(Refused::new("it has digits behind the point, and its field is an integer"));
                }
                let raw = number.raw(value / unit).ok_or_else(|| out_of_range(value / unit))?;
                put_number(out, number.wire_type(), raw);
            }
            Self::Float32(values) => out.extend_from_slice(&at(values, row).to_le_bytes()),
            Self::Float64(values) => out.extend_from_slice(&at(values, row).to_le_bytes()),
            Self::Text(values) => put_bytes(out, values.value(row).as_bytes()),
            Self::Bytes(values) => put_bytes(out, values.value(row)),
            Self::EnumNames(names, values) => {
                let name = values.value(row);
                let number = names.number(name).ok_or_else(|| {
                    let shown: String = name.chars().take(40).collect();
                    Refused::new(format!("'{shown}' is none of {}", names.list()))
                })?;
                write_varint(i64::from(number).cast_unsigned(), out);
            }
            Self::EnumNumbers(values) => {
                let value = at(values, row);
                let number = i32::try_from(value).map_err(|_| out_of_range(i128::from(value)))?;
                write_varint(i64::from(number).cast_unsigned(), out);
            }
            Self::Instant(values, digits) => {
                let Instant { seconds, nanos } = Instant::from_units(at(values, row), *digits);
                write_parts(out, seconds, i64::from(nanos));
            }
            Self::Duration(values) => {
                let interval = values.get(row).copied().unwrap_or_default();
                if interval.months != 0 {
                    return Err(Refused::new("it has months, and a Duration has seconds only"));
                }
                let nanos = i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.nanoseconds);
                write_parts(out, (nanos / 1_000_000_000) as i64, (nanos % 1_000_000_000) as i64);
            }
            Self::Wrapper(inner) => {
                let start = begin(out);
                if !inner.is_default(row) {
                    put_tag(out, 1, inner.wire_type());
                    inner.write(row, out)?;
                }
                end(out, start);
            }
            Self::Json(source, values) => {
                let start = begin(out);
                json_value::write(source, values.value(row), out)?;
                end(out, start);
            }
            Self::Message(columns) => {
                let start = begin(out);
                for column in columns {
                    column.write(row, out)?;
                }
                end(out, start);
            }
            Self::Repeated { .. } | Self::Map { .. } => return Err(Refused::new("an array within an array")),
        }
        Ok(())
    }

    /// Of what stands in a wrapper.
    fn wire_type(&self) -> WireType {
        match self {
            Self::Integers(number, _) | Self::Wide(number, _, _) => number.wire_type(),
            Self::Float32(_) => WireType::Fixed32,
            Self::Float64(_) => WireType::Fixed64,
            Self::Boolean(_) | Self::EnumNames(..) | Self::EnumNumbers(_) => WireType::Varint,
            _ => WireType::Bytes,
        }
    }
}

fn write_repeated(
    number: u32,
    (offsets, items): (&OffsetBuffer<i32>, &Nullable<'_>),
    (wire, packed): (WireType, bool),
    row: usize,
    out: &mut Vec<u8>,
) -> Written {
    let range = entries(offsets, row);
    if range.is_empty() {
        return Ok(());
    }
    if range.clone().any(|item| items.is_null(item)) {
        return Err(Refused::new("an item of the array is null, and Protobuf has none such"));
    }
    if packed {
        put_tag(out, number, WireType::Bytes);
        let start = begin(out);
        for item in range {
            items.values.write(item, out)?;
        }
        end(out, start);
        return Ok(());
    }
    for item in range {
        put_tag(out, number, wire);
        items.values.write(item, out)?;
    }
    Ok(())
}

fn write_map(
    number: u32,
    offsets: &OffsetBuffer<i32>,
    (keys, values): (&Values<'_>, &Nullable<'_>),
    [key_wire, value_wire]: [WireType; 2],
    row: usize,
    out: &mut Vec<u8>,
) -> Written {
    for entry in entries(offsets, row) {
        if values.is_null(entry) {
            return Err(Refused::new("a value of the MAP is null, and Protobuf has none such"));
        }
        put_tag(out, number, WireType::Bytes);
        let start = begin(out);
        put_tag(out, 1, key_wire);
        keys.write(entry, out)?;
        put_tag(out, 2, value_wire);
        values.values.write(entry, out)?;
        end(out, start);
    }
    Ok(())
}

#[inline(always)]
pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire: WireType) {
    write_varint(u64::from(number) << 3 | wire as u64, out);
}

/// Makes room for a length of one byte, which is nearly always enough.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Writes the length of what was appended since `start`.
pub(super) fn end(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    if let (Ok(byte @ 0..0x80), Some(place)) = (u8::try_from(length), out.get_mut(start - 1)) {
        *place = byte;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    write_varint(length as u64, &mut prefix);
    out.splice(start - 1..start, prefix);
}

/// A `Timestamp` or `Duration`.
fn write_parts(out: &mut Vec<u8>, seconds: i64, nanos: i64) {
    let start = begin(out);
    for (number, part) in [(1, seconds), (2, nanos)] {
        if part != 0 {
            put_tag(out, number, WireType::Varint);
            write_varint(part.cast_unsigned(), out);
        }
    }
    end(out, start);
}

#[cold]
fn out_of_range(value: i128) -> Refused {
    Refused::new(format!("{value} is out of range for its field"))
}

#[inline(always)]
fn at<T: arrow::datatypes::ArrowNativeType>(values: &ScalarBuffer<T>, row: usize) -> T {
    values.get(row).copied().unwrap_or_default()
}

/// The items of a row.
fn entries(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    let at = |index: usize| offsets.get(index).and_then(|end| usize::try_from(*end).ok()).unwrap_or(0);
    at(row)..at(row + 1)
}

fn integers(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone())
}

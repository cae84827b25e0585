//! A row's values as JSON, by hand: no value is boxed, no text is formatted twice.
//!
//! | type | written as |
//! |---|---|
//! | integers, DECIMAL | a number, exact (`12.50` keeps its scale) |
//! | REAL, DOUBLE | the shortest number that reads back the same; NaN and infinities are `null`, as JSON has none |
//! | TEXT | a string; only `"`, `\` and control characters are escaped |
//! | JSON | the text itself, without line breaks; a string if it is not JSON after all |
//! | BYTEA | a string in base64 with padding |
//! | TIMESTAMP | `"2024-01-31T23:59:59.123Z"`, fraction of 0, 3, 6 or 9 digits; or a number, see `timestamp_format` |
//! | DATE, TIME | `"2024-01-31"`, `"23:59:59.123"` |
//! | arrays, STRUCT, MAP | an array, an object, an object |
//! | INTERVAL and others | a string, as Arrow shows them |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laminar_core::Result;
use laminar_core::table::TYPE_KEY;

use crate::columns::map_fields;
use crate::internal;
use crate::json::encode::plain_type;
use crate::json::out::{Out, write_string};
use crate::json::scan::{expect_end, skip_space};
use crate::json::skip::skip_value;
use crate::options::TimestampFormat;
use crate::times::{self, Instant, LastDate};

/// What the options say about every value.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub include_nulls: bool,
    pub timestamps: Option<TimestampFormat>,
}

/// A column of a batch, ready to be written row by row.
pub(crate) struct Writer {
    name: Name,
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Boolean(BooleanBuffer),
    Int8(ScalarBuffer<i8>),
    Int16(ScalarBuffer<i16>),
    Int32(ScalarBuffer<i32>),
    Int64(ScalarBuffer<i64>),
    UInt8(ScalarBuffer<u8>),
    UInt16(ScalarBuffer<u16>),
    UInt32(ScalarBuffer<u32>),
    UInt64(ScalarBuffer<u64>),
    Float32(ScalarBuffer<f32>),
    Float64(ScalarBuffer<f64>),
    Decimal(ScalarBuffer<i128>, i8),
    Text(StringArray),
    Json(StringArray),
    Bytes(BinaryArray),
    Date(ScalarBuffer<i32>),
    /// Nanoseconds since midnight.
    Time(ScalarBuffer<i64>),
    /// Text; the digits behind the second that a value counts in.
    Timestamp(ScalarBuffer<i64>, u32, LastDate),
    /// A number; the digits of the values, and those that are written.
    UnixTime(ScalarBuffer<i64>, u32, u32),
    List(OffsetBuffer<i32>, Box<Writer>),
    Struct(Vec<Writer>),
    Map(OffsetBuffer<i32>, StringArray, Box<Writer>),
}

pub(crate) fn write_fields(fields: &Fields, columns: &[ArrayRef], style: Style) -> Result<Vec<Writer>> {
    fields.iter().zip(columns).map(|(field, column)| Writer::new(field, column, style)).collect()
}

impl Writer {
    fn new(field: &Field, column: &ArrayRef, style: Style) -> Result<Self> {
        let plain = plain_type(column.data_type());
        let column = if plain == *column.data_type() { Arc::clone(column) } else { cast(column, &plain)? };
        let json = field.metadata().get(TYPE_KEY).is_some_and(|kind| kind == "json");
        let values = Values::new(&column, json, style)?;
        Ok(Self { name: Name::new(field.name()), nulls: column.nulls().cloned(), values })
    }
}

/// `,"name":`
struct Name {
    block: [u8; 32],
    len: usize,
    /// The whole of a name that is longer than the block.
    long: Vec<u8>,
}

impl Name {
    fn new(name: &str) -> Self {
        let mut all = vec![b','];
        write_string(&mut all, name);
        all.push(b':');
        let (len, mut block) = (all.len(), [0; 32]);
        match block.get_mut(..len) {
            Some(start) => {
                start.copy_from_slice(&all);
                Self { block, len, long: Vec::new() }
            }
            None => Self { block, len, long: all },
        }
    }
    #[inline(always)]
    fn write(&self, out: &mut Out<'_>) {
        if self.long.is_empty() { out.block(&self.block, self.len) } else { out.slice(&self.long) }
    }
}

impl Values {
    fn new(column: &ArrayRef, json: bool, style: Style) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(column.as_boolean().values().clone()),
            DataType::Int8 => Self::Int8(column.as_primitive::<Int8Type>().values().clone()),
            DataType::Int16 => Self::Int16(column.as_primitive::<Int16Type>().values().clone()),
            DataType::Int32 => Self::Int32(column.as_primitive::<Int32Type>().values().clone()),
            DataType::Int64 => Self::Int64(column.as_primitive::<Int64Type>().values().clone()),
            DataType::UInt8 => Self::UInt8(column.as_primitive::<UInt8Type>().values().clone()),
            DataType::UInt16 => Self::UInt16(column.as_primitive::<UInt16Type>().values().clone()),
            DataType::UInt32 => Self::UInt32(column.as_primitive::<UInt32Type>().values().clone()),
            DataType::UInt64 => Self::UInt64(column.as_primitive::<UInt64Type>().values().clone()),
            DataType::Float32 => Self::Float32(column.as_primitive::<Float32Type>().values().clone()),
            DataType::Float64 => Self::Float64(column.as_primitive::<Float64Type>().values().clone()),
            DataType::Decimal128(_, scale) => {
                Self::Decimal(column.as_primitive::<Decimal128Type>().values().clone(), *scale)
            }
            DataType::Utf8 if json => Self::Json(column.as_string::<i32>().clone()),
            DataType::Utf8 => Self::Text(column.as_string::<i32>().clone()),
            DataType::Binary => Self::Bytes(column.as_binary::<i32>().clone()),
            DataType::Date32 => Self::Date(column.as_primitive::<Date32Type>().values().clone()),
            DataType::Time64(_) => Self::Time(column.as_primitive::<Time64NanosecondType>().values().clone()),
            DataType::Timestamp(unit, _) => {
                let (values, digits) = match unit {
                    TimeUnit::Second => (column.as_primitive::<TimestampSecondType>().values(), 0),
                    TimeUnit::Millisecond => (column.as_primitive::<TimestampMillisecondType>().values(), 3),
                    TimeUnit::Microsecond => (column.as_primitive::<TimestampMicrosecondType>().values(), 6),
                    TimeUnit::Nanosecond => (column.as_primitive::<TimestampNanosecondType>().values(), 9),
                };
                match style.timestamps {
                    Some(format) => Self::UnixTime(values.clone(), digits, format.digits()),
                    None => Self::Timestamp(values.clone(), digits, LastDate::new()),
                }
            }
            DataType::List(item) => {
                let list = column.as_list::<i32>();
                Self::List(list.offsets().clone(), Box::new(Writer::new(item, list.values(), style)?))
            }
            DataType::Struct(fields) => Self::Struct(write_fields(fields, column.as_struct().columns(), style)?),
            DataType::Map(entries, _) => {
                let map = column.as_map();
                let (_, value) = map_fields(entries).ok_or_else(|| internal("a MAP without values"))?;
                let value = Writer::new(value, map.values(), style)?;
                Self::Map(map.offsets().clone(), map.keys().as_string::<i32>().clone(), Box::new(value))
            }
            other => return Err(internal(format!("type {other} cannot be written as JSON"))),
        })
    }
}

pub(crate) fn write_object(out: &mut Out<'_>, fields: &mut [Writer], row: usize, style: Style) {
    let start = out.len();
    for field in fields {
        if field.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            if style.include_nulls {
                field.name.write(out);
                out.block(b"null", 4);
            }
            continue;
        }
        field.name.write(out);
        write_value(out, &mut field.values, row, style);
    }
    // Every field begins with a comma; that of the first becomes the brace.
    if out.len() == start {
        out.push(b'{');
    }
    out.set(start, b'{');
    out.push(b'}');
}

/// A column's value by itself; `null` where it is null.
pub(crate) fn write_column_item(out: &mut Out<'_>, writer: &mut Writer, row: usize, style: Style) {
    write_item(out, writer, row, style);
}

fn write_item(out: &mut Out<'_>, writer: &mut Writer, row: usize, style: Style) {
    if writer.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
        out.block(b"null", 4);
    } else {
        write_value(out, &mut writer.values, row, style);
    }
}

fn write_value(out: &mut Out<'_>, values: &mut Values, row: usize, style: Style) {
    match values {
        Values::Null => out.block(b"null", 4),
        Values::Boolean(values) => {
            if values.value(row) {
                out.block(b"true", 4)
            } else {
                out.block(b"false", 5)
            }
        }
        Values::Int8(values) => out.integer(i64::from(at(values, row))),
        Values::Int16(values) => out.integer(i64::from(at(values, row))),
        Values::Int32(values) => out.integer(i64::from(at(values, row))),
        Values::Int64(values) => out.integer(at(values, row)),
        Values::UInt8(values) => out.unsigned(u64::from(at(values, row))),
        Values::UInt16(values) => out.unsigned(u64::from(at(values, row))),
        Values::UInt32(values) => out.unsigned(u64::from(at(values, row))),
        Values::UInt64(values) => out.unsigned(at(values, row)),
        Values::Float32(values) => write_float(out, Some(at(values, row)).filter(|value| value.is_finite())),
        Values::Float64(values) => write_float(out, Some(at(values, row)).filter(|value| value.is_finite())),
        Values::Decimal(values, scale) => write_decimal(out, at(values, row), *scale),
        Values::Text(values) => write_text(out, values, row),
        Values::Json(values) => write_json(out, values.value(row)),
        Values::Bytes(values) => write_base64(out, values.value(row)),
        Values::Date(values) => write_quoted(out, times::date_text(i64::from(at(values, row)))),
        Values::Time(values) => write_quoted(out, times::time_text(Instant::from_units(at(values, row), 9))),
        Values::Timestamp(values, digits, date) => {
            write_quoted(out, times::timestamp_text(Instant::from_units(at(values, row), *digits), date));
        }
        Values::UnixTime(values, digits, written) => {
            let value = i128::from(at(values, row));
            let value = match written.checked_sub(*digits) {
                Some(more) => value * 10i128.pow(more),
                None => value.div_euclid(10i128.pow(*digits - *written)),
            };
            out.slice(itoa::Buffer::new().format(value).as_bytes());
        }
        Values::List(offsets, items) => {
            out.push(b'[');
            for (at, item) in entries(offsets, row).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_item(out, items, item, style);
            }
            out.push(b']');
        }
        Values::Struct(fields) => write_object(out, fields, row, style),
        Values::Map(offsets, keys, values) => {
            out.push(b'{');
            for (at, entry) in entries(offsets, row).enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(out, keys, entry);
                out.push(b':');
                write_item(out, values, entry, style);
            }
            out.push(b'}');
        }
    }
}

#[inline(always)]
fn entries(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    let at = |row: usize| offsets.get(row).and_then(|at| usize::try_from(*at).ok()).unwrap_or(0);
    at(row)..at(row + 1)
}

#[inline(always)]
fn at<T: ArrowNativeType>(values: &ScalarBuffer<T>, row: usize) -> T {
    values.get(row).copied().unwrap_or_default()
}

#[inline(always)]
fn write_text(out: &mut Out<'_>, values: &StringArray, row: usize) {
    let range = entries(values.offsets(), row);
    out.string(values.value_data(), range.start, range.end);
}

#[inline(always)]
fn write_quoted(out: &mut Out<'_>, text: times::Text) {
    out.push(b'"');
    out.block(&text.bytes, text.len);
    out.push(b'"');
}

fn write_float<T: zmij::Float>(out: &mut Out<'_>, finite: Option<T>) {
    match finite {
        Some(value) => out.slice(zmij::Buffer::new().format_finite(value).as_bytes()),
        None => out.block(b"null", 4),
    }
}

/// `unscaled` times 10^-`scale`, all digits of the scale written.
fn write_decimal(out: &mut Out<'_>, unscaled: i128, scale: i8) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let Ok(scale) = usize::try_from(scale) else {
        out.slice(digits);
        if unscaled != 0 {
            (0..scale.unsigned_abs()).for_each(|_| out.push(b'0'));
        }
        return;
    };
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.slice(if whole.is_empty() { b"0" } else { whole });
    if scale > 0 {
        out.push(b'.');
        (fraction.len()..scale).for_each(|_| out.push(b'0'));
        out.slice(fraction);
    }
}

/// The text itself if it is JSON. Line breaks in JSON are only ever between tokens, so they can go.
fn write_json(out: &mut Out<'_>, text: &str) {
    let bytes = text.as_bytes();
    let start = skip_space(bytes, 0);
    match skip_value(bytes, start, 0) {
        Ok(end) if expect_end(bytes, end).is_ok() => {
            let value = bytes.get(start..end).unwrap_or_default();
            value.split(|byte| matches!(byte, b'\n' | b'\r')).for_each(|line| out.slice(line));
        }
        _ => out.string(bytes, 0, bytes.len()),
    }
}

fn write_base64(out: &mut Out<'_>, bytes: &[u8]) {
    const GROUP: usize = 48;
    out.push(b'"');
    for group in bytes.chunks(GROUP) {
        let mut text = [0; GROUP / 3 * 4];
        let n = STANDARD.encode_slice(group, &mut text).unwrap_or(0);
        out.block(&text, n);
    }
    out.push(b'"');
}

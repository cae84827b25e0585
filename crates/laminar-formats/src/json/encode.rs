//! Rows to JSON objects, by hand: no value is boxed, no text is formatted twice.
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
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, SchemaRef, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TYPE_KEY;
use laminar_core::{ChangeKind, Changes, Code, Error, Result};

use crate::internal;
use crate::json::pretty::write_indented;
use crate::json::scan::{expect_end, skip_space};
use crate::json::skip::skip_value;
use crate::json::string::write_string;
use crate::json::types::sql_type;
use crate::options::{FormatOptions, TimestampFormat};
use crate::times::{self, Instant};

/// Refuses rows that update or delete others: a plain record can only add.
pub(crate) fn refuse_changes(changes: &Changes, format: &str) -> Result<()> {
    match changes.kinds() {
        Some(kinds) if kinds.iter().any(|kind| kind != ChangeKind::Insert) => {
            let message = format!("format {format} cannot carry updates and deletes");
            Err(Error::new(Code::NotSupported, message).with_hint("the query must only add rows"))
        }
        _ => Ok(()),
    }
}

/// Writes one object a row.
pub(crate) struct JsonEncoder {
    schema: SchemaRef,
    style: Style,
    pretty: bool,
    /// One compact object, on its way to being indented.
    compact: Vec<u8>,
}

/// What the options say about every value.
#[derive(Clone, Copy)]
struct Style {
    include_nulls: bool,
    timestamps: Option<TimestampFormat>,
}

impl JsonEncoder {
    /// Errors with `not_supported` if a column's type cannot be written.
    pub fn new(schema: &Schema, options: &FormatOptions) -> Result<Self> {
        for field in schema.fields() {
            if !can_write(field.data_type()) {
                let message = format!(
                    "column {} of type {} cannot be written as JSON",
                    field.name(),
                    sql_type(field.data_type())
                );
                return Err(Error::new(Code::NotSupported, message).with_field(field.name()));
            }
        }
        let timestamps = options.timestamp_format();
        let style = Style {
            include_nulls: options.json_include_nulls.unwrap_or(true),
            timestamps: (timestamps != TimestampFormat::Rfc3339).then_some(timestamps),
        };
        let pretty = options.json_pretty.unwrap_or(false);
        Ok(Self { schema: Arc::new(schema.clone()), style, pretty, compact: Vec::new() })
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        refuse_changes(changes, "json")?;
        let rows = changes.rows();
        if rows.num_columns() != self.schema.fields().len() {
            return Err(internal("the rows have other columns than the sink"));
        }
        let fields = write_fields(self.schema.fields(), rows.columns(), self.style)?;
        for row in 0..rows.num_rows() {
            if self.pretty {
                self.compact.clear();
                write_object(&mut self.compact, &fields, row, self.style);
                write_indented(&mut out.bytes, &self.compact);
            } else {
                write_object(&mut out.bytes, &fields, row, self.style);
            }
            out.end_value();
        }
        Ok(())
    }
}

/// A column of a batch, ready to be written row by row.
struct Writer {
    /// `,"name":`
    name: Vec<u8>,
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
    Timestamp(ScalarBuffer<i64>, u32),
    /// A number; the digits of the values, and those that are written.
    UnixTime(ScalarBuffer<i64>, u32, u32),
    List(OffsetBuffer<i32>, Box<Writer>),
    Struct(Vec<Writer>),
    Map(OffsetBuffer<i32>, StringArray, Box<Writer>),
}

fn write_fields(fields: &Fields, columns: &[ArrayRef], style: Style) -> Result<Vec<Writer>> {
    fields.iter().zip(columns).map(|(field, column)| Writer::new(field, column, style)).collect()
}

impl Writer {
    fn new(field: &Field, column: &ArrayRef, style: Style) -> Result<Self> {
        let mut name = vec![b','];
        write_string(&mut name, field.name());
        name.push(b':');
        let plain = plain_type(column.data_type());
        let column = if plain == *column.data_type() { Arc::clone(column) } else { cast(column, &plain)? };
        let json = field.metadata().get(TYPE_KEY).is_some_and(|kind| kind == "json");
        let values = Values::new(&column, json, style)?;
        Ok(Self { name, nulls: column.nulls().cloned(), values })
    }
}

/// The type that a column is cast to before it is written: one of those that [`Values`] knows.
fn plain_type(data_type: &DataType) -> DataType {
    use DataType::*;
    match data_type {
        Null
        | Boolean
        | Int8
        | Int16
        | Int32
        | Int64
        | UInt8
        | UInt16
        | UInt32
        | UInt64
        | Float32
        | Float64
        | Utf8
        | Binary
        | Date32
        | Timestamp(_, _)
        | Decimal128(_, _)
        | Struct(_)
        | List(_) => data_type.clone(),
        Float16 => Float32,
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date64 => Date32,
        Time32(_) | Time64(_) => Time64(TimeUnit::Nanosecond),
        Decimal32(precision, scale) | Decimal64(precision, scale) => Decimal128(*precision, *scale),
        LargeList(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item) => List(Arc::clone(item)),
        Dictionary(_, value) => plain_type(value),
        Map(entries, sorted) => match entries.data_type() {
            Struct(fields) => match fields.iter().as_slice() {
                [key, _] if *key.data_type() == Utf8 => data_type.clone(),
                [key, value] => {
                    let key = Arc::new(key.as_ref().clone().with_data_type(Utf8));
                    let fields = Struct(Fields::from(vec![key, Arc::clone(value)]));
                    Map(Arc::new(entries.as_ref().clone().with_data_type(fields)), *sorted)
                }
                _ => Utf8,
            },
            _ => Utf8,
        },
        _ => Utf8,
    }
}

fn can_write(data_type: &DataType) -> bool {
    let plain = plain_type(data_type);
    let castable = plain == *data_type || can_cast_types(data_type, &plain);
    castable
        && match &plain {
            DataType::List(item) => can_write(item.data_type()),
            DataType::Struct(fields) => fields.iter().all(|field| can_write(field.data_type())),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) => fields.get(1).is_some_and(|value| can_write(value.data_type())),
                _ => false,
            },
            _ => true,
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
                    None => Self::Timestamp(values.clone(), digits),
                }
            }
            DataType::List(item) => {
                let list = column.as_list::<i32>();
                Self::List(list.offsets().clone(), Box::new(Writer::new(item, list.values(), style)?))
            }
            DataType::Struct(fields) => Self::Struct(write_fields(fields, column.as_struct().columns(), style)?),
            DataType::Map(entries, _) => {
                let map = column.as_map();
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(internal("a MAP without entries"));
                };
                let value = fields.get(1).ok_or_else(|| internal("a MAP without values"))?;
                let value = Writer::new(value, map.values(), style)?;
                Self::Map(map.offsets().clone(), map.keys().as_string::<i32>().clone(), Box::new(value))
            }
            other => return Err(internal(format!("type {other} cannot be written as JSON"))),
        })
    }
}

fn write_object(out: &mut Vec<u8>, fields: &[Writer], row: usize, style: Style) {
    let start = out.len();
    for field in fields {
        if field.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            if style.include_nulls {
                out.extend_from_slice(&field.name);
                out.extend_from_slice(b"null");
            }
            continue;
        }
        out.extend_from_slice(&field.name);
        write_value(out, &field.values, row, style);
    }
    // Every field begins with a comma; that of the first becomes the brace.
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

fn write_item(out: &mut Vec<u8>, writer: &Writer, row: usize, style: Style) {
    if writer.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
        out.extend_from_slice(b"null");
    } else {
        write_value(out, &writer.values, row, style);
    }
}

fn write_value(out: &mut Vec<u8>, values: &Values, row: usize, style: Style) {
    match values {
        Values::Null => out.extend_from_slice(b"null"),
        Values::Boolean(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
        Values::Int8(values) => write_integer(out, values.get(row).copied()),
        Values::Int16(values) => write_integer(out, values.get(row).copied()),
        Values::Int32(values) => write_integer(out, values.get(row).copied()),
        Values::Int64(values) => write_integer(out, values.get(row).copied()),
        Values::UInt8(values) => write_integer(out, values.get(row).copied()),
        Values::UInt16(values) => write_integer(out, values.get(row).copied()),
        Values::UInt32(values) => write_integer(out, values.get(row).copied()),
        Values::UInt64(values) => write_integer(out, values.get(row).copied()),
        Values::Float32(values) => write_float(out, values.get(row).copied().filter(|v| v.is_finite())),
        Values::Float64(values) => write_float(out, values.get(row).copied().filter(|v| v.is_finite())),
        Values::Decimal(values, scale) => write_decimal(out, values.get(row).copied().unwrap_or(0), *scale),
        Values::Text(values) => write_string(out, values.value(row)),
        Values::Json(values) => write_json(out, values.value(row)),
        Values::Bytes(values) => write_base64(out, values.value(row)),
        Values::Date(values) => {
            out.push(b'"');
            times::write_date(out, i64::from(values.get(row).copied().unwrap_or(0)));
            out.push(b'"');
        }
        Values::Time(values) => {
            let instant = Instant::from_units(values.get(row).copied().unwrap_or(0), 9);
            out.push(b'"');
            times::write_time(out, instant.seconds, instant.nanos);
            out.push(b'"');
        }
        Values::Timestamp(values, digits) => {
            out.push(b'"');
            times::write_timestamp(out, Instant::from_units(values.get(row).copied().unwrap_or(0), *digits));
            out.push(b'"');
        }
        Values::UnixTime(values, digits, written) => {
            let value = i128::from(values.get(row).copied().unwrap_or(0));
            let value = match written.checked_sub(*digits) {
                Some(more) => value * 10i128.pow(more),
                None => value.div_euclid(10i128.pow(digits - written)),
            };
            write_integer(out, Some(value));
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
                write_string(out, keys.value(entry));
                out.push(b':');
                write_item(out, values, entry, style);
            }
            out.push(b'}');
        }
    }
}

fn entries(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    let at = |row: usize| offsets.get(row).and_then(|at| usize::try_from(*at).ok()).unwrap_or(0);
    at(row)..at(row + 1)
}

#[inline(always)]
fn write_integer<T: itoa::Integer>(out: &mut Vec<u8>, value: Option<T>) {
    if let Some(value) = value {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

fn write_float<T: zmij::Float>(out: &mut Vec<u8>, finite: Option<T>) {
    match finite {
        Some(value) => out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

/// `unscaled` times 10^-`scale`, all digits of the scale written.
fn write_decimal(out: &mut Vec<u8>, unscaled: i128, scale: i8) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits);
        if unscaled != 0 {
            out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
        }
        return;
    };
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if scale > 0 {
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', scale - fraction.len()));
        out.extend_from_slice(fraction);
    }
}

/// The text itself if it is JSON. Line breaks in JSON are only ever between tokens, so they can go.
fn write_json(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let start = skip_space(bytes, 0);
    match skip_value(bytes, start, 0) {
        Ok(end) if expect_end(bytes, end).is_ok() => {
            let value = bytes.get(start..end).unwrap_or_default();
            out.extend(value.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        }
        _ => write_string(out, text),
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    let written = STANDARD.encode_slice(bytes, out.get_mut(start..).unwrap_or_default()).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

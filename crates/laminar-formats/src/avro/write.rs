//! A schema's fields from a table's columns: planned once, bound to the arrays of each batch, written row by row.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, RecordSchema, UuidSchema};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, MapArray, StringArray, StructArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Fields, Float32Type, Float64Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType,
};
use laminar_core::sql_name::sql_name;
use laminar_core::{Code, Error, Result};

use super::default::encode_default;
use super::program::Rescale;
use super::schema::{Names, type_name};
use super::wire_out::{write_bytes, write_long};
use super::within;
use crate::columns::text_map_value;
use crate::internal;
use crate::text_column::digits_of;
use crate::times::Scale;

/// How one field of the schema is written.
#[derive(Debug)]
pub(super) struct Put {
    /// For messages.
    name: String,
    from: From,
}

#[derive(Debug)]
enum From {
    /// Index of the column, or of the struct's child, and how its values are written.
    Column(usize, Value),
    /// Always the same bytes: the field's default.
    Constant(Vec<u8>),
}

/// A value, in a union or not.
#[derive(Debug)]
struct Value {
    /// Branch of null; `None`: null cannot be written.
    null: Option<i64>,
    /// Branch of the value; `None`: it is in no union.
    branch: Option<i64>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Boolean,
    /// An `int` if the limits are those of 32 bits.
    Integer {
        limits: (i64, i64),
    },
    Scaled {
        scale: Scale,
        limits: (i64, i64),
    },
    Float,
    Double,
    Text,
    Symbol(HashMap<String, i64>),
    Bytes,
    Fixed(usize),
    /// `None`: with the length in front and as few bytes as it takes.
    Decimal {
        size: Option<usize>,
        rescale: Rescale,
    },
    Uuid {
        framed: bool,
    },
    Duration,
    List(Box<Value>),
    Map(Box<Value>),
    Record(Vec<Put>),
}

const INT: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
const LONG: (i64, i64) = (i64::MIN, i64::MAX);

/// One entry per field of the schema. Errors: `unknown_column` for a column that no field takes, `type_mismatch`,
/// `invalid_schema` for a field that no column and no default fills.
pub(super) fn plan_record<'a>(record: &'a RecordSchema, names: &Names<'a>, columns: &Fields) -> Result<Vec<Put>> {
    let mut puts = Vec::with_capacity(record.fields.len());
    let mut used = vec![false; columns.len()];
    for field in &record.fields {
        let exact = columns.iter().position(|column| *column.name() == field.name);
        let index = exact.or_else(|| columns.iter().position(|column| column.name().eq_ignore_ascii_case(&field.name)));
        let from = match index.and_then(|index| Some((index, columns.get(index)?))) {
            Some((index, column)) => {
                if let Some(used) = used.get_mut(index) {
                    *used = true;
                }
                let value = plan(&field.schema, names, column).map_err(|error| within(error, column.name()))?;
                From::Column(index, value)
            }
            None => From::Constant(default_of(field, names)?),
        };
        puts.push(Put { name: field.name.clone(), from });
    }
    match columns.iter().zip(used).find(|(_, used)| !used) {
        Some((column, _)) => {
            let record = record.name.fullname(None);
            Err(Error::new(Code::UnknownColumn, format!("Avro record {record} has no field {}", column.name()))
                .with_hint("add the field to the schema, or remove the column from the sink")
                .with_field(column.name()))
        }
        None => Ok(puts),
    }
}

fn default_of(field: &apache_avro::schema::RecordField, names: &Names<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let null = serde_json::Value::Null;
    let default = field.default.as_ref().unwrap_or(&null);
    encode_default(&field.schema, names, default, &mut bytes).map_err(|_| {
        Error::new(Code::InvalidSchema, format!("the sink has no column for field {} of the schema", field.name))
            .with_detail("the field has no default and cannot be null")
            .with_field(&field.name)
    })?;
    Ok(bytes)
}

fn plan<'a>(schema: &'a Schema, names: &Names<'a>, field: &Field) -> Result<Value> {
    let undefined = || Error::new(Code::InvalidSchema, format!("Avro type {} is not defined", type_name(schema)));
    let schema = names.resolve(schema).ok_or_else(undefined)?;
    let Schema::Union(union) = schema else {
        return Ok(Value { null: None, branch: None, kind: kind(schema, names, field)? });
    };
    let null = (0i64..).zip(union.variants()).find(|(_, variant)| matches!(variant, Schema::Null)).map(|(i, _)| i);
    let mut first_error = None;
    for (branch, variant) in (0i64..).zip(union.variants()) {
        let variant = names.resolve(variant).ok_or_else(undefined)?;
        if matches!(variant, Schema::Null) {
            continue;
        }
        match kind(variant, names, field) {
            Ok(kind) => return Ok(Value { null, branch: Some(branch), kind }),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| mismatch(schema, field)))
}

fn mismatch(schema: &Schema, field: &Field) -> Error {
    let (column, avro) = (sql_name(field.data_type()), type_name(schema));
    Error::new(Code::TypeMismatch, format!("a column of type {column} cannot be written as an Avro {avro}"))
}

fn kind<'a>(schema: &'a Schema, names: &Names<'a>, field: &Field) -> Result<Kind> {
    use DataType as D;
    let data_type = field.data_type();
    let text = matches!(data_type, D::Utf8 | D::LargeUtf8 | D::Utf8View);
    let bytes = matches!(data_type, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_));
    let timestamp = |digits: u32| match data_type {
        D::Timestamp(unit, _) => Some(Kind::Scaled { scale: Scale::digits(digits_of(*unit), digits), limits: LONG }),
        D::Int64 => Some(Kind::Integer { limits: LONG }),
        _ => None,
    };
    let kind = match schema {
        Schema::Boolean if *data_type == D::Boolean => Some(Kind::Boolean),
        Schema::Int if data_type.is_integer() => Some(Kind::Integer { limits: INT }),
        Schema::Long if data_type.is_integer() => Some(Kind::Integer { limits: LONG }),
        Schema::Float if data_type.is_numeric() && !matches!(data_type, D::Decimal128(..)) => Some(Kind::Float),
        Schema::Double if data_type.is_numeric() && !matches!(data_type, D::Decimal128(..)) => Some(Kind::Double),
        Schema::String | Schema::Uuid(UuidSchema::String) if text => Some(Kind::Text),
        Schema::Bytes if text || bytes => Some(Kind::Bytes),
        Schema::Enum(symbols) if text => Some(Kind::Symbol(symbols.symbols.iter().cloned().zip(0i64..).collect())),
        Schema::Fixed(fixed) if bytes => Some(Kind::Fixed(fixed.size)),
        Schema::Decimal(decimal) => match data_type {
            D::Decimal128(_, scale) => {
                let size = match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                };
                let to = i32::try_from(decimal.scale).unwrap_or(i32::MAX);
                let precision = u32::try_from(decimal.precision).unwrap_or(u32::MAX);
                let limit = 10u128.saturating_pow(precision);
                Some(Kind::Decimal { size, rescale: Rescale { from: i32::from(*scale), to, limit } })
            }
            _ => None,
        },
        Schema::Uuid(UuidSchema::Bytes) if text => Some(Kind::Uuid { framed: true }),
        Schema::Uuid(UuidSchema::Fixed(_)) if text => Some(Kind::Uuid { framed: false }),
        Schema::Date if *data_type == D::Date32 => Some(Kind::Integer { limits: INT }),
        Schema::TimeMillis => match data_type {
            D::Time64(unit) | D::Time32(unit) => {
                Some(Kind::Scaled { scale: Scale::digits(digits_of(*unit), 3), limits: INT })
            }
            _ => None,
        },
        Schema::TimeMicros => match data_type {
            D::Time64(unit) | D::Time32(unit) => {
                Some(Kind::Scaled { scale: Scale::digits(digits_of(*unit), 6), limits: LONG })
            }
            _ => None,
        },
        Schema::TimestampMillis | Schema::LocalTimestampMillis => timestamp(3),
        Schema::TimestampMicros | Schema::LocalTimestampMicros => timestamp(6),
        Schema::TimestampNanos | Schema::LocalTimestampNanos => timestamp(9),
        Schema::Duration(fixed) if fixed.size == 12 && matches!(data_type, D::Interval(_)) => Some(Kind::Duration),
        Schema::Array(array) => match data_type {
            D::List(item) | D::LargeList(item) => Some(Kind::List(Box::new(plan(&array.items, names, item)?))),
            _ => None,
        },
        Schema::Map(map) => match data_type {
            D::Map(entries, _) => match text_map_value(entries) {
                Some(value) => Some(Kind::Map(Box::new(plan(&map.types, names, value)?))),
                None => None,
            },
            _ => None,
        },
        Schema::Record(record) => match data_type {
            D::Struct(fields) => Some(Kind::Record(plan_record(record, names, fields)?)),
            _ => None,
        },
        _ => None,
    };
    kind.ok_or_else(|| mismatch(schema, field))
}

impl Put {
    /// The field, with the arrays of a batch.
    pub fn bind<'a>(&'a self, columns: &[ArrayRef]) -> Result<BoundField<'a>> {
        let source = match &self.from {
            From::Constant(bytes) => Source::Constant(bytes),
            From::Column(index, value) => {
                let column = columns.get(*index).ok_or_else(|| internal("a column of the sink is missing"))?;
                Source::Column(value.bind(column)?)
            }
        };
        Ok(BoundField { name: &self.name, source })
    }
}

impl Value {
    fn bind<'a>(&'a self, column: &ArrayRef) -> Result<Bound<'a>> {
        let as_type = |data_type: &DataType| {
            cast_with_options(column, data_type, &CastOptions { safe: false, ..CastOptions::default() })
        };
        let values = match &self.kind {
            Kind::Boolean => Values::Boolean(column.as_boolean().clone()),
            // Some may be too large for any integer of Avro: their own row is refused then, with the column's name.
            Kind::Integer { limits } if *column.data_type() == DataType::UInt64 => {
                let wide = as_type(&DataType::Decimal128(20, 0))?;
                Values::Wide(wide.as_primitive::<Decimal128Type>().clone(), *limits)
            }
            Kind::Integer { limits } | Kind::Scaled { limits, .. } => {
                let scale = match &self.kind {
                    Kind::Scaled { scale, .. } => *scale,
                    _ => Scale::Times(1),
                };
                let numbers = match column.data_type() {
                    // Times are not cast to another unit but scaled, towards the past.
                    DataType::Date32 | DataType::Time32(_) => {
                        let days = as_type(&DataType::Int32)?;
                        cast_with_options(&days.as_primitive::<Int32Type>(), &DataType::Int64, &CastOptions::default())?
                    }
                    _ => as_type(&DataType::Int64)?,
                };
                Values::Integer(numbers.as_primitive::<Int64Type>().clone(), scale, *limits)
            }
            Kind::Float => Values::Float(as_type(&DataType::Float32)?.as_primitive::<Float32Type>().clone()),
            Kind::Double => Values::Double(as_type(&DataType::Float64)?.as_primitive::<Float64Type>().clone()),
            Kind::Text => Values::Text(as_type(&DataType::Utf8)?.as_string::<i32>().clone()),
            Kind::Symbol(symbols) => Values::Symbol(as_type(&DataType::Utf8)?.as_string::<i32>().clone(), symbols),
            Kind::Bytes => Values::Bytes(as_type(&DataType::Binary)?.as_binary::<i32>().clone()),
            Kind::Fixed(size) => Values::Fixed(as_type(&DataType::Binary)?.as_binary::<i32>().clone(), *size),
            Kind::Decimal { size, rescale } => {
                Values::Decimal(column.as_primitive::<Decimal128Type>().clone(), *size, *rescale)
            }
            Kind::Uuid { framed } => Values::Uuid(as_type(&DataType::Utf8)?.as_string::<i32>().clone(), *framed),
            Kind::Duration => Values::Duration(column.as_primitive::<IntervalMonthDayNanoType>().clone()),
            Kind::List(item) => {
                let list = match column.data_type() {
                    DataType::LargeList(field) => as_type(&DataType::List(FieldRef::clone(field)))?,
                    _ => ArrayRef::clone(column),
                };
                let list: ListArray = list.as_list::<i32>().clone();
                let items = item.bind(list.values())?;
                Values::List(list, Box::new(items))
            }
            Kind::Map(value) => {
                let map: MapArray = column.as_map().clone();
                let keys = map.keys().as_string::<i32>().clone();
                let values = value.bind(map.values())?;
                Values::Map(map, keys, Box::new(values))
            }
            Kind::Record(fields) => {
                let structs: StructArray = column.as_struct().clone();
                let fields = fields.iter().map(|field| field.bind(structs.columns())).collect::<Result<_>>()?;
                Values::Record(structs, fields)
            }
        };
        Ok(Bound { null: self.null, branch: self.branch, values })
    }
}

/// A field with a batch's arrays.
pub(super) struct BoundField<'a> {
    name: &'a str,
    source: Source<'a>,
}

#[allow(clippy::large_enum_variant)] // one a field and batch
enum Source<'a> {
    Column(Bound<'a>),
    Constant(&'a [u8]),
}

struct Bound<'a> {
    null: Option<i64>,
    branch: Option<i64>,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(BooleanArray),
    Integer(Int64Array, Scale, (i64, i64)),
    Wide(Decimal128Array, (i64, i64)),
    Float(Float32Array),
    Double(Float64Array),
    Text(StringArray),
    Symbol(StringArray, &'a HashMap<String, i64>),
    Bytes(BinaryArray),
    Fixed(BinaryArray, usize),
    Decimal(Decimal128Array, Option<usize>, Rescale),
    Uuid(StringArray, bool),
    Duration(IntervalMonthDayNanoArray),
    List(ListArray, Box<Bound<'a>>),
    Map(MapArray, StringArray, Box<Bound<'a>>),
    Record(StructArray, Vec<BoundField<'a>>),
}

/// Why a value cannot be written.
type Refused = String;

impl BoundField<'_> {
    /// Appends the field of the row. Errors with `invalid_value`.
    #[inline]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        self.put(row, out).map_err(|(path, why)| {
            Error::new(Code::InvalidValue, format!("column {path} cannot be written as Avro"))
                .with_detail(why)
                .with_field(path)
        })
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<(), (String, Refused)> {
        match &self.source {
            Source::Constant(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Source::Column(bound) => bound.put(row, out).map_err(|(inner, why)| match inner.is_empty() {
                true => (self.name.to_string(), why),
                false => (format!("{}.{inner}", self.name), why),
            }),
        }
    }
}

impl Bound<'_> {
    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<(), (String, Refused)> {
        let here = |why: &str| (String::new(), why.to_string());
        if self.values.is_null(row) {
            let null = self.null.ok_or_else(|| here("it is null, and the schema does not allow null"))?;
            write_long(null, out);
            return Ok(());
        }
        if let Some(branch) = self.branch {
            write_long(branch, out);
        }
        match &self.values {
            Values::Boolean(array) => out.push(u8::from(array.value(row))),
            Values::Integer(array, scale, limits) => {
                let value = scale.of(array.value(row)).filter(|value| (limits.0..=limits.1).contains(value));
                write_long(value.ok_or_else(|| here(&format!("{} is out of range", array.value(row))))?, out);
            }
            Values::Wide(array, limits) => {
                let value = i64::try_from(array.value(row)).ok().filter(|value| (limits.0..=limits.1).contains(value));
                write_long(value.ok_or_else(|| here(&format!("{} is out of range", array.value(row))))?, out);
            }
            Values::Float(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Values::Double(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Values::Text(array) => write_bytes(array.value(row).as_bytes(), out),
            Values::Symbol(array, symbols) => {
                let value = array.value(row);
                let index = symbols.get(value);
                write_long(*index.ok_or_else(|| here(&format!("'{value}' is not a symbol of the enum")))?, out);
            }
            Values::Bytes(array) => write_bytes(array.value(row), out),
            Values::Fixed(array, size) => {
                let value = array.value(row);
                if value.len() != *size {
                    return Err(here(&format!("it has {} bytes, and the schema says {size}", value.len())));
                }
                out.extend_from_slice(value);
            }
            Values::Decimal(array, size, rescale) => {
                let value = rescale.of(array.value(row));
                let value = value.ok_or_else(|| here("the decimal is out of range"))?;
                put_decimal(value, *size, out).ok_or_else(|| here("the decimal is out of range"))?;
            }
            Values::Uuid(array, framed) => {
                let value = uuid_bytes(array.value(row)).ok_or_else(|| here("the text is not a uuid"))?;
                match framed {
                    true => write_bytes(&value, out),
                    false => out.extend_from_slice(&value),
                }
            }
            Values::Duration(array) => {
                let value = array.value(row);
                let millis = value.nanoseconds / 1_000_000;
                let parts = (u32::try_from(value.months), u32::try_from(value.days), u32::try_from(millis));
                let (Ok(months), Ok(days), Ok(millis)) = parts else {
                    return Err(here("a duration of Avro is not negative"));
                };
                [months, days, millis].iter().for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
            }
            Values::List(list, items) => {
                let offsets = list.value_offsets();
                put_entries(range(offsets, row), out, |entry, out| items.put(entry, out))?;
            }
            Values::Map(map, keys, values) => {
                let offsets = map.value_offsets();
                put_entries(range(offsets, row), out, |entry, out| {
                    write_bytes(keys.value(entry).as_bytes(), out);
                    values.put(entry, out)
                })?;
            }
            Values::Record(_, fields) => fields.iter().try_for_each(|field| field.put(row, out))?,
        }
        Ok(())
    }
}

impl Values<'_> {
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(array) => array.is_null(row),
            Self::Integer(array, ..) => array.is_null(row),
            Self::Wide(array, _) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Double(array) => array.is_null(row),
            Self::Text(array) | Self::Symbol(array, _) | Self::Uuid(array, _) => array.is_null(row),
            Self::Bytes(array) | Self::Fixed(array, _) => array.is_null(row),
            Self::Decimal(array, ..) => array.is_null(row),
            Self::Duration(array) => array.is_null(row),
            Self::List(array, _) => array.is_null(row),
            Self::Map(array, ..) => array.is_null(row),
            Self::Record(array, _) => array.is_null(row),
        }
    }
}

/// The entries of a row's list.
fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    let at = |index: usize| offsets.get(index).and_then(|at| usize::try_from(*at).ok()).unwrap_or(0);
    at(row)..at(row + 1)
}

/// One block of all entries, and the end.
fn put_entries(
    entries: std::ops::Range<usize>,
    out: &mut Vec<u8>,
    mut put: impl FnMut(usize, &mut Vec<u8>) -> Result<(), (String, Refused)>,
) -> Result<(), (String, Refused)> {
    if !entries.is_empty() {
        write_long(entries.len() as i64, out);
        for entry in entries {
            put(entry, out)?;
        }
    }
    out.push(0);
    Ok(())
}

/// Two's complement, the highest byte first; `None` if it does not fit the size.
fn put_decimal(value: i128, size: Option<usize>, out: &mut Vec<u8>) -> Option<()> {
    let bytes = value.to_be_bytes();
    let fill = if value < 0 { 0xff } else { 0 };
    let same_sign = |byte: Option<&u8>| byte.is_some_and(|byte| (byte & 0x80 != 0) == (value < 0));
    let mut least = bytes.as_slice();
    while let [first, rest @ ..] = least
        && *first == fill
        && same_sign(rest.first())
    {
        least = rest;
    }
    match size {
        None => write_bytes(least, out),
        Some(size) => {
            let more = size.checked_sub(least.len())?;
            out.extend(std::iter::repeat_n(fill, more));
            out.extend_from_slice(least);
        }
    }
    Some(())
}

/// The 16 bytes of a uuid's text.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let well_formed = digits.len() == 32 && (text.len() == 32 || text.len() == 36);
    let value = u128::from_str_radix(&digits, 16).ok().filter(|_| well_formed)?;
    Some(value.to_be_bytes())
}

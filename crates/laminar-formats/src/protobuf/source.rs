//! What a field's value is on the wire, and which columns it can fill.
//!
//! | field | columns |
//! |---|---|
//! | `int32` … `sfixed64` | integers (out of range is a bad record), DECIMAL, TIMESTAMP (see `timestamp_format`), DATE (days), TIME (microseconds) |
//! | `bool`, `float`, `double` | BOOLEAN, REAL or DOUBLE, DOUBLE |
//! | `string` | TEXT, JSON, DECIMAL, DATE, TIME, TIMESTAMP: as text |
//! | `bytes` | BYTEA |
//! | an enum | TEXT: the name, or the number where it has none; integers: the number |
//! | `google.protobuf.Timestamp`, `Duration` | TIMESTAMP, INTERVAL |
//! | `google.protobuf.Int64Value` and its like | what the value in it fills; NULL where it is absent |
//! | `google.protobuf.Struct`, `Value`, `ListValue` | JSON, TEXT |
//! | another message | STRUCT |
//! | `repeated`, `map` | an array, a MAP |

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::wire::WireType;
use crate::varint::{write_varint, zigzag};

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Int32,
    Int64,
    UInt32,
    UInt64,
    SInt32,
    SInt64,
    Fixed32,
    Fixed64,
    SFixed32,
    SFixed64,
    Bool,
    Float,
    Double,
}

impl Number {
    pub fn wire_type(self) -> WireType {
        match self {
            Self::Fixed32 | Self::SFixed32 | Self::Float => WireType::Fixed32,
            Self::Fixed64 | Self::SFixed64 | Self::Double => WireType::Fixed64,
            _ => WireType::Varint,
        }
    }

    /// The integer that was written as `raw`; `None` above 2^63.
    #[inline(always)]
    pub fn integer(self, raw: u64) -> Option<i64> {
        Some(match self {
            Self::Int64 | Self::SFixed64 => raw.cast_signed(),
            // The upper half of a varint is cut off, as Protobuf says.
            Self::Int32 | Self::SFixed32 => i64::from(raw as u32 as i32),
            Self::UInt32 | Self::Fixed32 => i64::from(raw as u32),
            Self::SInt32 => i64::from((raw as u32 >> 1).cast_signed() ^ -((raw as u32 & 1).cast_signed())),
            Self::SInt64 => (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()),
            Self::Bool => i64::from(raw != 0),
            Self::UInt64 | Self::Fixed64 | Self::Float | Self::Double => return i64::try_from(raw).ok(),
        })
    }

    /// [`integer`](Self::integer) without a limit.
    pub fn wide(self, raw: u64) -> i128 {
        self.integer(raw).map_or(i128::from(raw), i128::from)
    }

    /// What is written for `value`; `None` if the field cannot hold it.
    pub fn raw(self, value: i128) -> Option<u64> {
        Some(match self {
            Self::Int64 | Self::SFixed64 => i64::try_from(value).ok()?.cast_unsigned(),
            // A negative varint is written in 64 bits.
            Self::Int32 => i64::from(i32::try_from(value).ok()?).cast_unsigned(),
            Self::SFixed32 => u64::from(i32::try_from(value).ok()?.cast_unsigned()),
            Self::UInt32 | Self::Fixed32 => u64::from(u32::try_from(value).ok()?),
            Self::SInt32 => {
                let value = i32::try_from(value).ok()?;
                u64::from(((value << 1) ^ (value >> 31)).cast_unsigned())
            }
            Self::SInt64 => zigzag(i64::try_from(value).ok()?),
            Self::Bool => u64::try_from(value).ok().filter(|value| *value < 2)?,
            Self::UInt64 | Self::Fixed64 | Self::Float | Self::Double => u64::try_from(value).ok()?,
        })
    }
}

/// What a value is, of a field that fills one column without others in it.
#[derive(Clone)]
pub(super) enum Source {
    Number(Number),
    Enum(Arc<EnumNames>),
    Text,
    Bytes,
    /// `google.protobuf.Timestamp`
    Instant,
    /// `google.protobuf.Duration`
    Duration,
    /// `google.protobuf.Int64Value` and its like: a message with one field, number 1.
    Wrapper(Box<Source>),
    /// `google.protobuf.Struct`
    JsonObject,
    /// `google.protobuf.ListValue`
    JsonList,
    /// `google.protobuf.Value`
    JsonValue,
}

impl Source {
    /// `None` for a message that is none of Protobuf's own.
    pub fn of(kind: &Kind) -> Option<Self> {
        Some(Self::Number(match kind {
            Kind::Int32 => Number::Int32,
            Kind::Int64 => Number::Int64,
            Kind::Uint32 => Number::UInt32,
            Kind::Uint64 => Number::UInt64,
            Kind::Sint32 => Number::SInt32,
            Kind::Sint64 => Number::SInt64,
            Kind::Fixed32 => Number::Fixed32,
            Kind::Fixed64 => Number::Fixed64,
            Kind::Sfixed32 => Number::SFixed32,
            Kind::Sfixed64 => Number::SFixed64,
            Kind::Bool => Number::Bool,
            Kind::Float => Number::Float,
            Kind::Double => Number::Double,
            Kind::String => return Some(Self::Text),
            Kind::Bytes => return Some(Self::Bytes),
            Kind::Enum(names) => return Some(Self::Enum(Arc::new(EnumNames::new(names)))),
            Kind::Message(message) => return Self::of_message(message),
        }))
    }

    fn of_message(message: &MessageDescriptor) -> Option<Self> {
        Some(match message.full_name().strip_prefix("google.protobuf.")? {
            "Timestamp" => Self::Instant,
            "Duration" => Self::Duration,
            "Struct" => Self::JsonObject,
            "ListValue" => Self::JsonList,
            "Value" => Self::JsonValue,
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue" => {
                Self::Wrapper(Box::new(Self::of(&message.get_field(1)?.kind())?))
            }
            _ => return None,
        })
    }

    pub fn wire_type(&self) -> WireType {
        match self {
            Self::Number(number) => number.wire_type(),
            Self::Enum(_) => WireType::Varint,
            _ => WireType::Bytes,
        }
    }

    /// Can many of them stand in one value, without a tag each?
    pub fn is_packable(&self) -> bool {
        self.wire_type() != WireType::Bytes
    }

    /// Can it fill, and be written from, a column of the type?
    pub fn fits(&self, data_type: &DataType) -> bool {
        use DataType::*;
        let integer = data_type.is_integer();
        match self {
            Self::Number(Number::Bool) => *data_type == Boolean,
            Self::Number(Number::Float) => matches!(data_type, Float32 | Float64),
            Self::Number(Number::Double) => *data_type == Float64,
            Self::Number(_) => integer || matches!(data_type, Decimal128(..) | Date32 | Time64(_) | Timestamp(..)),
            Self::Enum(_) => integer || *data_type == Utf8,
            Self::Text => matches!(data_type, Utf8 | Decimal128(..) | Date32 | Time64(_) | Timestamp(..)),
            Self::Bytes => *data_type == Binary,
            Self::Instant => matches!(data_type, Timestamp(..)),
            Self::Duration => *data_type == Interval(IntervalUnit::MonthDayNano),
            Self::Wrapper(inner) => inner.fits(data_type),
            Self::JsonObject | Self::JsonList | Self::JsonValue => *data_type == Utf8,
        }
    }

    /// The type of a column that holds every value, and whether it is JSON.
    pub fn natural_type(&self) -> (DataType, bool) {
        let plain = match self {
            Self::Number(Number::Bool) => DataType::Boolean,
            Self::Number(Number::Float) => DataType::Float32,
            Self::Number(Number::Double) => DataType::Float64,
            Self::Number(Number::Int32 | Number::SInt32 | Number::SFixed32) => DataType::Int32,
            // SQL has no unsigned types that every function knows.
            Self::Number(Number::UInt64 | Number::Fixed64) => DataType::Decimal128(20, 0),
            Self::Number(_) => DataType::Int64,
            Self::Enum(_) | Self::Text => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Duration => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Wrapper(inner) => return inner.natural_type(),
            Self::JsonObject | Self::JsonList | Self::JsonValue => return (DataType::Utf8, true),
        };
        (plain, false)
    }
}

/// The names of an enum's numbers, both ways. Of two names for one number the first is shown, both are understood.
pub(super) struct EnumNames {
    names: HashMap<i32, Box<str>>,
    numbers: HashMap<Box<str>, i32>,
}

impl EnumNames {
    fn new(descriptor: &EnumDescriptor) -> Self {
        let (mut names, mut numbers) = (HashMap::new(), HashMap::new());
        for value in descriptor.values() {
            names.entry(value.number()).or_insert_with(|| value.name().into());
            numbers.insert(value.name().into(), value.number());
        }
        Self { names, numbers }
    }
    pub fn name(&self, number: i32) -> Option<&str> {
        self.names.get(&number).map(AsRef::as_ref)
    }
    /// The number of a name, or of a number written as text.
    pub fn number(&self, text: &str) -> Option<i32> {
        self.numbers.get(text).copied().or_else(|| text.parse().ok())
    }
    /// All names, for a message.
    pub fn list(&self) -> String {
        let mut all: Vec<_> = self.names.iter().collect();
        all.sort();
        all.into_iter().map(|(_, name)| name.as_ref()).collect::<Vec<_>>().join(", ")
    }
}

/// The bytes, without a tag, that mean the same as a field that is not there; of one item, where the field is repeated.
pub(super) fn default_bytes(field: &FieldDescriptor) -> Box<[u8]> {
    let repeated = field.is_list() || field.is_map();
    let value = if repeated { field.kind().default_value() } else { field.default_value() };
    let mut out = Vec::new();
    let mut integer = |value: i128| match Source::of(&field.kind()) {
        Some(Source::Number(number)) => put_number(&mut out, number.wire_type(), number.raw(value).unwrap_or(0)),
        _ => put_number(&mut out, WireType::Varint, (value as i64).cast_unsigned()),
    };
    match value {
        Value::Bool(value) => integer(i128::from(value)),
        Value::I32(value) | Value::EnumNumber(value) => integer(i128::from(value)),
        Value::I64(value) => integer(i128::from(value)),
        Value::U32(value) => integer(i128::from(value)),
        Value::U64(value) => integer(i128::from(value)),
        Value::F32(value) => out.extend(value.to_le_bytes()),
        Value::F64(value) => out.extend(value.to_le_bytes()),
        Value::String(text) => put_bytes(&mut out, text.as_bytes()),
        Value::Bytes(bytes) => put_bytes(&mut out, &bytes),
        Value::Message(_) | Value::List(_) | Value::Map(_) => out.push(0),
    }
    out.into()
}

/// A number without a tag.
#[inline(always)]
pub(super) fn put_number(out: &mut Vec<u8>, wire: WireType, raw: u64) {
    match wire {
        WireType::Fixed64 => out.extend_from_slice(&raw.to_le_bytes()),
        WireType::Fixed32 => out.extend_from_slice(&(raw as u32).to_le_bytes()),
        _ => write_varint(raw, out),
    }
}

/// Bytes after their length.
#[inline(always)]
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

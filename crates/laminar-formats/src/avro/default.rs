//! A field's default, which a schema gives in JSON, as the bytes that it would have in a record.

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, UuidSchema};
use laminar_core::{Code, Error, Result};
use serde_json::Value;

use super::schema::{Names, type_name};
use super::wire_out::{write_bytes, write_long};

/// Appends the default's encoding. Errors with `invalid_schema` if it is not a value of its type.
pub(super) fn encode_default(schema: &Schema, names: &Names<'_>, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    encode(schema, names, value, out, 0)
}

/// Types within types deeper than this have no default.
const MAX_DEPTH: usize = 32;

fn encode(schema: &Schema, names: &Names<'_>, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let wrong = || {
        Error::new(
            Code::InvalidSchema,
            format!("the default {value} is not a value of Avro type {}", type_name(schema)),
        )
    };
    let schema = names.resolve(schema).filter(|_| depth < MAX_DEPTH).ok_or_else(wrong)?;
    match (schema, value) {
        (Schema::Null, Value::Null) => {}
        (Schema::Boolean, Value::Bool(value)) => out.push(u8::from(*value)),
        (Schema::Int | Schema::Date | Schema::TimeMillis, value) => {
            let value = value.as_i64().filter(|value| i32::try_from(*value).is_ok());
            write_long(value.ok_or_else(wrong)?, out);
        }
        (
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos,
            value,
        ) => write_long(value.as_i64().ok_or_else(wrong)?, out),
        (Schema::Float, value) => {
            let value = float(value).ok_or_else(wrong)?;
            out.extend_from_slice(&(value as f32).to_le_bytes());
        }
        (Schema::Double, value) => out.extend_from_slice(&float(value).ok_or_else(wrong)?.to_le_bytes()),
        (Schema::String | Schema::Uuid(UuidSchema::String), Value::String(text)) => write_bytes(text.as_bytes(), out),
        (Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes), Value::String(text)) => {
            write_bytes(&latin1(text).ok_or_else(wrong)?, out);
        }
        (Schema::Decimal(decimal), Value::String(text)) => {
            let bytes = latin1(text).ok_or_else(wrong)?;
            match &decimal.inner {
                InnerDecimalSchema::Bytes => write_bytes(&bytes, out),
                InnerDecimalSchema::Fixed(fixed) if fixed.size == bytes.len() => out.extend_from_slice(&bytes),
                InnerDecimalSchema::Fixed(_) => return Err(wrong()),
            }
        }
        (
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)),
            Value::String(text),
        ) => {
            let bytes = latin1(text).filter(|bytes| bytes.len() == fixed.size).ok_or_else(wrong)?;
            out.extend_from_slice(&bytes);
        }
        (Schema::Enum(symbols), Value::String(text)) => {
            let index = symbols.symbols.iter().position(|symbol| symbol == text);
            write_long(index.and_then(|index| i64::try_from(index).ok()).ok_or_else(wrong)?, out);
        }
        (Schema::Array(array), Value::Array(items)) => {
            write_count(items.len(), out);
            items.iter().try_for_each(|item| encode(&array.items, names, item, out, depth + 1))?;
            write_count_end(items.len(), out);
        }
        (Schema::Map(map), Value::Object(entries)) => {
            write_count(entries.len(), out);
            for (key, value) in entries {
                write_bytes(key.as_bytes(), out);
                encode(&map.types, names, value, out, depth + 1)?;
            }
            write_count_end(entries.len(), out);
        }
        (Schema::Record(record), Value::Object(fields)) => {
            for field in &record.fields {
                let value = fields.get(&field.name).or(field.default.as_ref()).ok_or_else(wrong)?;
                encode(&field.schema, names, value, out, depth + 1)?;
            }
        }
        // By the letter a default is of the first branch; any that it fits is understood.
        (Schema::Union(union), value) => {
            let start = out.len();
            for (index, variant) in (0i64..).zip(union.variants()) {
                write_long(index, out);
                if encode(variant, names, value, out, depth + 1).is_ok() {
                    return Ok(());
                }
                out.truncate(start);
            }
            return Err(wrong());
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

fn write_count(count: usize, out: &mut Vec<u8>) {
    write_long(i64::try_from(count).unwrap_or(i64::MAX), out);
}

/// The block that ends an array or map; an empty one has it already.
fn write_count_end(count: usize, out: &mut Vec<u8>) {
    if count > 0 {
        out.push(0);
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" | "INF" => Some(f64::INFINITY),
            "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        other => other.as_f64(),
    }
}

/// A default's bytes are written as the characters of the same numbers.
fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

//! JSON text as `google.protobuf.Struct`, `ListValue` or `Value`: what `known` reads, the other way.
//!
//! Numbers become doubles, as these messages have no others.

use serde_json::Value;

use super::source::{Source, put_bytes};
use super::wire::WireType;
use super::write::{Refused, begin, end, put_tag};

/// Appends the message, without its length.
pub(super) fn write(source: &Source, text: &str, out: &mut Vec<u8>) -> Result<(), Refused> {
    let value: Value = serde_json::from_str(text).map_err(|error| Refused::new(format!("it is not JSON: {error}")))?;
    match (source, &value) {
        (Source::JsonObject, Value::Object(fields)) => write_object(fields, out),
        (Source::JsonObject, _) => return Err(Refused::new("it is not a JSON object, and its field is a Struct")),
        (Source::JsonList, Value::Array(items)) => write_list(items, out),
        (Source::JsonList, _) => return Err(Refused::new("it is not a JSON array, and its field is a ListValue")),
        _ => write_value(&value, out),
    }
    Ok(())
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {
            put_tag(out, 1, WireType::Varint);
            out.push(0);
        }
        Value::Number(number) => {
            put_tag(out, 2, WireType::Fixed64);
            out.extend_from_slice(&number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        Value::String(text) => {
            put_tag(out, 3, WireType::Bytes);
            put_bytes(out, text.as_bytes());
        }
        Value::Bool(value) => {
            put_tag(out, 4, WireType::Varint);
            out.push(u8::from(*value));
        }
        Value::Object(fields) => {
            put_tag(out, 5, WireType::Bytes);
            let start = begin(out);
            write_object(fields, out);
            end(out, start);
        }
        Value::Array(items) => {
            put_tag(out, 6, WireType::Bytes);
            let start = begin(out);
            write_list(items, out);
            end(out, start);
        }
    }
}

fn write_object(fields: &serde_json::Map<String, Value>, out: &mut Vec<u8>) {
    for (name, value) in fields {
        put_tag(out, 1, WireType::Bytes);
        let entry = begin(out);
        put_tag(out, 1, WireType::Bytes);
        put_bytes(out, name.as_bytes());
        put_tag(out, 2, WireType::Bytes);
        let start = begin(out);
        write_value(value, out);
        end(out, start);
        end(out, entry);
    }
}

fn write_list(items: &[Value], out: &mut Vec<u8>) {
    for item in items {
        put_tag(out, 1, WireType::Bytes);
        let start = begin(out);
        write_value(item, out);
        end(out, start);
    }
}

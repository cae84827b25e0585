//! Columns filled from the record itself: `METADATA FROM 'topic'`.
//!
//! | key | filled with | types |
//! |---|---|---|
//! | `topic` | topic, file path or generator name | TEXT |
//! | `partition` | partition number | INT |
//! | `offset` | the record's own position in its split | BIGINT |
//! | `timestamp` | the record's timestamp | TIMESTAMP |
//! | `timestamp_type` | `CreateTime`, `LogAppendTime`, or null where the outside system has none | TEXT |
//! | `key` | the key's bytes; null without a key | BYTEA, TEXT (must be UTF-8) |
//! | `headers` | the headers | MAP of TEXT to BYTEA or TEXT, in order; JSON or TEXT: an object, the last of equal names |
//!
//! Any other type that Arrow can cast to works too (`partition BIGINT`).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, Int32Array, Int64Array, MapBuilder, MapFieldNames, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, Field};
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, timestamp_type};
use laminar_core::{Code, Error, Result};

use crate::fault::{Fault, fault_of_record, of_constraint};

/// One metadata column under construction.
pub(crate) struct MetadataColumn {
    name: String,
    data_type: DataType,
    nullable: bool,
    values: Values,
}

enum Values {
    Topic(Vec<Arc<str>>),
    Partition(Vec<i32>),
    Offset(Vec<i64>),
    Timestamp(Vec<i64>),
    TimestampType(Vec<Option<&'static str>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Box<[u8]>>>),
    HeadersText(Vec<String>),
    HeadersMap(Vec<Headers>),
}

type Headers = Vec<(String, Option<Vec<u8>>)>;

impl MetadataColumn {
    /// Errors: `unknown_column` if no record has such metadata, `type_mismatch` if the column's type cannot hold it.
    pub fn new(column: &Column) -> Result<Self> {
        let key = column.metadata.as_deref().unwrap_or_default();
        let wants_text = column.data_type == DataType::Utf8;
        let values = match key {
            "topic" => Values::Topic(Vec::new()),
            "partition" => Values::Partition(Vec::new()),
            "offset" => Values::Offset(Vec::new()),
            "timestamp" => Values::Timestamp(Vec::new()),
            "timestamp_type" => Values::TimestampType(Vec::new()),
            "key" if wants_text => Values::Text(Vec::new()),
            "key" => Values::Bytes(Vec::new()),
            "headers" if wants_text => Values::HeadersText(Vec::new()),
            "headers" => Values::HeadersMap(Vec::new()),
            other => {
                return Err(Error::new(Code::UnknownColumn, format!("a record has no metadata {other}"))
                    .with_hint("metadata: topic, partition, offset, timestamp, timestamp_type, key, headers")
                    .with_field(&column.name));
            }
        };
        let (name, data_type) = (column.name.clone(), column.data_type.clone());
        let mut new = Self { name, data_type, nullable: column.nullable, values };
        let empty = new.native()?;
        if !can_cast_types(empty.data_type(), &new.data_type) {
            let text = format!("column {} cannot hold metadata {key} as {}", new.name, new.data_type);
            return Err(Error::new(Code::TypeMismatch, text).with_field(&new.name));
        }
        Ok(new)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Appends the record's entry. On an error nothing is appended.
    pub fn push(&mut self, record: &RawRecord<'_>) -> Result<(), Fault> {
        match &mut self.values {
            Values::Topic(all) => {
                let topic = match all.last() {
                    Some(last) if **last == *record.topic => Arc::clone(last),
                    _ => Arc::from(record.topic),
                };
                all.push(topic);
            }
            Values::Partition(all) => all.push(record.partition),
            Values::Offset(all) => {
                let offset = i64::try_from(record.position.0);
                all.push(offset.map_err(|_| fault_of_record("the record's position does not fit BIGINT"))?);
            }
            Values::Timestamp(all) => all.push(record.timestamp_micros),
            Values::TimestampType(all) => {
                let text = match record.timestamp_type {
                    TimestampType::CreateTime => Some("CreateTime"),
                    TimestampType::LogAppendTime => Some("LogAppendTime"),
                    TimestampType::None => None,
                };
                refuse_null(self.nullable, text.is_none(), "timestamp type")?;
                all.push(text);
            }
            Values::Text(all) => {
                refuse_null(self.nullable, record.key.is_none(), "key")?;
                let text = record.key.map(std::str::from_utf8).transpose();
                let text = text.map_err(|_| fault_of_record("the record's key is not UTF-8"))?;
                all.push(text.map(str::to_string));
            }
            Values::Bytes(all) => {
                refuse_null(self.nullable, record.key.is_none(), "key")?;
                all.push(record.key.map(Box::from));
            }
            Values::HeadersText(all) => all.push(headers_as_json(&headers(record))),
            Values::HeadersMap(all) => all.push(headers(record)),
        }
        Ok(())
    }

    /// Cuts back to `rows` entries.
    pub fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Topic(all) => all.truncate(rows),
            Values::Partition(all) => all.truncate(rows),
            Values::Offset(all) | Values::Timestamp(all) => all.truncate(rows),
            Values::TimestampType(all) => all.truncate(rows),
            Values::Text(all) => all.truncate(rows),
            Values::Bytes(all) => all.truncate(rows),
            Values::HeadersText(all) => all.truncate(rows),
            Values::HeadersMap(all) => all.truncate(rows),
        }
    }

    /// The column in its declared type, and an empty start for the next batch.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let native = self.native()?;
        if *native.data_type() == self.data_type { Ok(native) } else { Ok(cast(&native, &self.data_type)?) }
    }

    fn native(&mut self) -> Result<ArrayRef> {
        use std::mem::take;
        Ok(match &mut self.values {
            Values::Topic(all) => Arc::new(StringArray::from_iter_values(take(all))),
            Values::Partition(all) => Arc::new(Int32Array::from(take(all))),
            Values::Offset(all) => Arc::new(Int64Array::from(take(all))),
            Values::Timestamp(all) => match &self.data_type {
                DataType::Timestamp(_, Some(zone)) => {
                    Arc::new(TimestampMicrosecondArray::from(take(all)).with_timezone(Arc::clone(zone)))
                }
                _ => {
                    debug_assert_eq!(timestamp_type(), *TimestampMicrosecondArray::from(Vec::<i64>::new()).data_type());
                    Arc::new(TimestampMicrosecondArray::from(take(all)))
                }
            },
            Values::TimestampType(all) => Arc::new(StringArray::from_iter(take(all))),
            Values::Text(all) => Arc::new(StringArray::from_iter(take(all))),
            Values::Bytes(all) => {
                let mut keys = BinaryBuilder::new();
                take(all).into_iter().for_each(|key| keys.append_option(key));
                Arc::new(keys.finish())
            }
            Values::HeadersText(all) => Arc::new(StringArray::from_iter_values(take(all))),
            Values::HeadersMap(all) => headers_as_map(&take(all))?,
        })
    }
}

fn refuse_null(nullable: bool, null: bool, what: &str) -> Result<(), Fault> {
    if null && !nullable {
        Err(of_constraint(fault_of_record(format!("the record has no {what}, and the column is NOT NULL"))))
    } else {
        Ok(())
    }
}

fn headers(record: &RawRecord<'_>) -> Headers {
    let mut all = Vec::new();
    record.headers(&mut |name, value| all.push((name.to_string(), value.map(<[u8]>::to_vec))));
    all
}

/// An object with a text for each header, the last of equal names; bytes that are not UTF-8 have U+FFFD in their place.
fn headers_as_json(headers: &Headers) -> String {
    let text = |value: &Option<Vec<u8>>| match value {
        Some(bytes) => serde_json::Value::from(String::from_utf8_lossy(bytes).into_owned()),
        None => serde_json::Value::Null,
    };
    let object: serde_json::Map<_, _> = headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    serde_json::Value::Object(object).to_string()
}

fn headers_as_map(rows: &[Headers]) -> Result<ArrayRef> {
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new())
        .with_values_field(Field::new("value", DataType::Binary, true));
    for row in rows {
        for (name, value) in row {
            map.keys().append_value(name);
            map.values().append_option(value.as_ref());
        }
        map.append(true)?;
    }
    Ok(Arc::new(map.finish()))
}

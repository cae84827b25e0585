//! Avro's types and SQL's: the schema that a table's columns make, and the columns that a schema makes.

use apache_avro::Schema;
use apache_avro::schema::{Name, RecordField, RecordSchema};
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use laminar_core::sql_name::sql_name;
use laminar_core::table::{Column, timestamp_type};
use laminar_core::{Code, Error, Result};
use serde_json::{Value, json};
use std::sync::Arc;

use super::decode::Content;
use super::envelope::row_schema;
use super::schema::{Names, Parsed, type_name};
use super::within;
use crate::columns::text_map_value;
use crate::outside::MAX_FIELDS;

/// The schema of rows with these fields, a record named after their table. Each field that may be null is a union with null
/// and has null as default, so that it may come and go.
///
/// Errors: `not_supported` for a type without Avro form, `invalid_name` for a column that no Avro field can be named like.
pub(super) fn schema_of<'a>(table: &str, fields: impl IntoIterator<Item = &'a Field>) -> Result<Value> {
    record(&avro_name(table), fields)
}

/// The schema of Debezium's envelopes around such rows.
pub(super) fn envelope_of<'a>(table: &str, fields: impl IntoIterator<Item = &'a Field>) -> Result<Value> {
    let name = avro_name(table);
    let row = record("Value", fields)?;
    Ok(json!({"type": "record", "name": "Envelope", "namespace": name, "fields": [
        {"name": "before", "type": ["null", row], "default": null},
        {"name": "after", "type": ["null", "Value"], "default": null},
        {"name": "op", "type": "string"},
    ]}))
}

fn record<'a>(name: &str, fields: impl IntoIterator<Item = &'a Field>) -> Result<Value> {
    let fields = fields.into_iter().map(|field| {
        if avro_name(field.name()) != *field.name() {
            return Err(Error::new(Code::InvalidName, format!("column {} cannot be a field in Avro", field.name()))
                .with_detail("a field's name has letters of ASCII, digits and _, and no digit first")
                .with_hint("give the sink's column another name, or write another format")
                .with_field(field.name()));
        }
        let inner = value(&format!("{name}_{}", field.name()), field)?;
        Ok(match field.is_nullable() {
            true => json!({"name": field.name(), "type": ["null", inner], "default": null}),
            false => json!({"name": field.name(), "type": inner}),
        })
    });
    Ok(json!({"type": "record", "name": name, "fields": fields.collect::<Result<Vec<_>>>()?}))
}

/// The type of the field's values but for null. `name` is what a record would be called.
fn value(name: &str, field: &Field) -> Result<Value> {
    use DataType::*;
    let nullable = |name: &str, field: &Field| {
        value(name, field).map(|inner| if field.is_nullable() { json!(["null", inner]) } else { inner })
    };
    Ok(match field.data_type() {
        Boolean => json!("boolean"),
        Int8 | Int16 | Int32 | UInt8 | UInt16 => json!("int"),
        Int64 | UInt32 | UInt64 => json!("long"),
        Float16 | Float32 => json!("float"),
        Float64 => json!("double"),
        Utf8 | LargeUtf8 | Utf8View => json!("string"),
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => json!("bytes"),
        Decimal128(precision, scale) if *scale >= 0 => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        Date32 => json!({"type": "int", "logicalType": "date"}),
        Time32(_) | Time64(_) => json!({"type": "long", "logicalType": "time-micros"}),
        Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _) => {
            json!({"type": "long", "logicalType": "timestamp-millis"})
        }
        Timestamp(TimeUnit::Microsecond, _) => json!({"type": "long", "logicalType": "timestamp-micros"}),
        Timestamp(TimeUnit::Nanosecond, _) => json!({"type": "long", "logicalType": "timestamp-nanos"}),
        Interval(IntervalUnit::MonthDayNano) => {
            json!({"type": "fixed", "name": name, "size": 12, "logicalType": "duration"})
        }
        List(item) | LargeList(item) => json!({"type": "array", "items": nullable(name, item)?}),
        Map(entries, _) if text_map_value(entries).is_some() => {
            let values = text_map_value(entries).map(|value| nullable(name, value)).transpose()?;
            json!({"type": "map", "values": values})
        }
        Struct(fields) => record(name, fields.iter().map(AsRef::as_ref))?,
        other => {
            let message = format!("column {} of type {} cannot be written as Avro", field.name(), sql_name(other));
            return Err(Error::new(Code::NotSupported, message).with_field(field.name()));
        }
    })
}

/// The name, with `_` for what Avro does not allow.
fn avro_name(name: &str) -> String {
    let mut all: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if all.is_empty() || all.starts_with(|c: char| c.is_ascii_digit()) {
        all.insert(0, '_');
    }
    all
}

/// The columns that hold all that records of the schema say. All may be null: a later schema may lack any field.
///
/// Errors: `invalid_schema` if it is no record, `not_supported` for a type that has no column type of its own, a recursive one
/// for instance, with the field.
pub(crate) fn columns_of(schema: &Parsed, content: Content) -> Result<Vec<Column>> {
    let names = schema.names()?;
    let row = match content {
        Content::Row => Some(&schema.root),
        Content::Change => row_schema(&schema.root, &names),
    };
    let Some(record) = row.and_then(|row| names.record(row)) else {
        return Err(Error::new(Code::InvalidSchema, format!("an Avro {} has no columns", type_name(&schema.root)))
            .with_hint("declare the table's column"));
    };
    Walk { names: &names, path: vec![&record.name], depth: 0, left: MAX_FIELDS }.columns(record)
}

/// Types within types deeper than this make no columns.
const MAX_DEPTH: usize = 64;

fn unfit(what: String) -> Error {
    Error::new(Code::NotSupported, what).with_hint("declare the table's columns, without this one or with another type")
}

/// From a schema's types to columns'. A type that many others name is walked once for each, so a schema of few lines may say types
/// without end: what has been walked is counted.
struct Walk<'a, 'n> {
    names: &'n Names<'a>,
    /// The records that the type at hand stands in.
    path: Vec<&'a Name>,
    depth: usize,
    /// Fields that may still come.
    left: usize,
}

impl<'a> Walk<'a, '_> {
    fn columns(&mut self, record: &'a RecordSchema) -> Result<Vec<Column>> {
        let column = |field: &'a RecordField| {
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                unfit(format!("Avro record {} has more than {MAX_FIELDS} fields in it", record.name.fullname(None)))
            })?;
            let data_type = self.inner(&field.schema).map_err(|error| within(error, &field.name))?;
            Ok(Column { name: field.name.clone(), data_type, nullable: true, json: false, metadata: None })
        };
        record.fields.iter().map(column).collect()
    }

    fn inner(&mut self, schema: &'a Schema) -> Result<DataType> {
        if self.depth >= MAX_DEPTH {
            return Err(unfit(format!("the Avro schema nests deeper than {MAX_DEPTH} types")));
        }
        self.depth += 1;
        let data_type = self.data_type(schema);
        self.depth -= 1;
        data_type
    }

    fn data_type(&mut self, schema: &'a Schema) -> Result<DataType> {
        let Some(schema) = self.names.not_null(schema) else {
            return Err(unfit(format!("an Avro {} has no column type of its own", type_name(schema))));
        };
        let nullable = |data_type: DataType, name: &str| Arc::new(Field::new(name, data_type, true));
        Ok(match schema {
            Schema::Boolean => DataType::Boolean,
            Schema::Int => DataType::Int32,
            Schema::Long => DataType::Int64,
            Schema::Float => DataType::Float32,
            Schema::Double => DataType::Float64,
            Schema::Bytes | Schema::Fixed(_) => DataType::Binary,
            Schema::String | Schema::Enum(_) | Schema::Uuid(_) | Schema::Duration(_) => DataType::Utf8,
            Schema::Decimal(decimal) => match (u8::try_from(decimal.precision), i8::try_from(decimal.scale)) {
                (Ok(precision @ 1..=38), Ok(scale)) => DataType::Decimal128(precision, scale),
                _ => return Err(unfit(format!("a {} has too many digits for DECIMAL", type_name(schema)))),
            },
            Schema::Date => DataType::Date32,
            Schema::TimeMillis | Schema::TimeMicros => DataType::Time64(TimeUnit::Microsecond),
            Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => timestamp_type(),
            Schema::Array(array) => DataType::List(nullable(self.inner(&array.items)?, "item")),
            Schema::Map(map) => {
                let value = self.inner(&map.types)?;
                let key = Arc::new(Field::new("key", DataType::Utf8, false));
                let entries = DataType::Struct([key, nullable(value, "value")].into_iter().collect());
                DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
            }
            Schema::Record(record) => {
                if self.path.contains(&&record.name) {
                    return Err(unfit(format!("Avro record {} contains itself", record.name.fullname(None))));
                }
                self.path.push(&record.name);
                let columns = self.columns(record)?;
                self.path.pop();
                DataType::Struct(columns.iter().map(Column::field).collect())
            }
            Schema::Null | Schema::BigDecimal | Schema::Union(_) | Schema::Ref { .. } => {
                return Err(unfit(format!("an Avro {} has no column type of its own", type_name(schema))));
            }
        })
    }
}

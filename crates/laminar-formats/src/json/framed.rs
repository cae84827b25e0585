//! JSON framed with the id of a JSON Schema, in both directions.
//!
//! A record's schema is not used to read it: the table's columns say what is read. But its id must be one that the registry knows, of a
//! JSON Schema, as otherwise the record is not what it says.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field};
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{ChangeKind, Changes, Result};
use serde_json::{Map, Value, json};

use super::{JsonEncoder, refuse_changes};
use crate::columns::map_fields;
use crate::fault::Fault;
use crate::options::FormatOptions;
use crate::record::ValueDecoder;
use crate::registry::{Frame, Framed, Programs, SchemaKind, SchemaText, TableRegistry};
use crate::upsert::RowEncoder;

/// Takes the frame off and gives the rest to `V`.
pub(crate) struct FramedDecoder<V> {
    values: V,
    ids: Programs<()>,
}

impl<V> FramedDecoder<V> {
    pub fn new(values: V, registry: &TableRegistry) -> Self {
        Self { values, ids: Programs::new(Arc::clone(&registry.registry), SchemaKind::Json) }
    }
}

impl<V: ValueDecoder> ValueDecoder for FramedDecoder<V> {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        let Some(bytes) = value else { return self.values.push(None) };
        let Framed { bytes, at, .. } = self.ids.of_record(bytes, |_| Ok(()))?;
        self.values.push(bytes.get(at..)).map_err(|mut fault| {
            fault.offset = fault.offset.map(|offset| offset + at);
            fault
        })
    }
    fn pushed(&self) -> &'static [ChangeKind] {
        self.values.pushed()
    }
    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }
    fn end_batch(&mut self) {
        self.ids.end_batch();
        self.values.end_batch();
    }
    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.values.finish()
    }
}

/// Writes one framed object a row. The schema, which the columns make, is registered when the first rows come.
pub(crate) struct FramedEncoder {
    json: JsonEncoder,
    frame: Frame,
}

impl FramedEncoder {
    pub fn new(options: &FormatOptions, table: &TableSpec, registry: &TableRegistry) -> Result<Self> {
        let schema = table.schema();
        let properties: Map<String, Value> =
            schema.fields().iter().map(|field| (field.name().clone(), schema_of(field))).collect();
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": table.name,
            "type": "object",
            "properties": properties,
        });
        let schema = SchemaText { kind: SchemaKind::Json, text: schema.to_string() };
        let json = JsonEncoder::new(&table.schema(), options)?;
        Ok(Self { json, frame: Frame::new(registry, &table.name, schema) })
    }
}

impl RowEncoder for FramedEncoder {
    fn write(&mut self, rows: &RecordBatch, out: &mut EncodedValues) -> Result<()> {
        let first = out.len();
        self.json.write_behind(self.frame.bytes()?, rows, out)?;
        self.frame.seal(out, first)
    }
}

impl Encoder for FramedEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        refuse_changes(changes, "json")?;
        self.write(changes.rows(), out)
    }
}

/// The JSON Schema of a column's values; NULL is one of them where the column may be.
fn schema_of(field: &Field) -> Value {
    let one = |kind: &str| match field.is_nullable() {
        true => json!({"type": ["null", kind]}),
        false => json!({"type": kind}),
    };
    let with = |mut schema: Value, key: &str, value: Value| {
        if let Some(schema) = schema.as_object_mut() {
            schema.insert(key.to_string(), value);
        }
        schema
    };
    match field.data_type() {
        DataType::Boolean => one("boolean"),
        integer if integer.is_integer() => one("integer"),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => one("number"),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => one("number"),
        // Text that is JSON may be anything; a TIMESTAMP may be written as a number.
        DataType::Utf8 if !field.metadata().is_empty() => json!({}),
        DataType::Timestamp(..) => json!({}),
        DataType::List(item) => with(one("array"), "items", schema_of(item)),
        DataType::Struct(fields) => {
            let properties: Map<String, Value> = fields.iter().map(|f| (f.name().clone(), schema_of(f))).collect();
            with(one("object"), "properties", properties.into())
        }
        DataType::Map(entries, _) => match map_fields(entries) {
            Some((_, value)) => with(one("object"), "additionalProperties", schema_of(value)),
            None => one("object"),
        },
        _ => one("string"),
    }
}

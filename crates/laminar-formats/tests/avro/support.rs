//! Tables, records and a registry in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions as Display};
use laminar_core::format::{DecodeError, Decoder, EncodedValues};
use laminar_core::options::Options;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Changes, Code, Error, Position, Result};
use laminar_formats::registry::{
    Part, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaRegistry, SchemaText, TableRegistry,
};
use laminar_formats::{FormatContext, FormatOptions, decoder_with, encoder_with};

pub fn column(name: &str, data_type: DataType) -> Column {
    Column { name: name.into(), data_type, nullable: true, json: false, metadata: None }
}

pub fn table(columns: Vec<Column>) -> TableSpec {
    let projection = (0..columns.len()).collect();
    TableSpec { name: "t".into(), columns, projection, event_time: None, primary_key: Vec::new() }
}

pub fn options(pairs: &[(&str, &str)]) -> FormatOptions {
    let all = [("format", "avro")].iter().chain(pairs);
    Options::from_pairs(all.copied()).parse("format").unwrap()
}

/// A decoder of plain records with this schema.
pub fn plain(columns: Vec<Column>, schema: &str) -> Result<Box<dyn Decoder>> {
    decoder_with(&options(&[("avro.schema", schema)]), &table(columns), &FormatContext::default())
}

pub fn push(decoder: &mut dyn Decoder, value: Option<&[u8]>) -> Result<(), DecodeError> {
    decoder.push(&RawRecord {
        key: None,
        value,
        timestamp_micros: 0,
        timestamp_type: TimestampType::None,
        topic: "t",
        partition: 0,
        position: Position(0),
        batch: None,
    })
}

pub fn rows(decoder: &mut dyn Decoder) -> RecordBatch {
    decoder.flush().unwrap().unwrap().rows().clone()
}

pub fn cell(batch: &RecordBatch, column: usize, row: usize) -> String {
    let display = Display::new().with_null("NULL");
    ArrayFormatter::try_new(batch.column(column), &display).unwrap().value(row).to_string()
}

/// The rows as text: columns apart by `|`, rows by `;`.
pub fn text(batch: &RecordBatch) -> String {
    let row = |row| (0..batch.num_columns()).map(|column| cell(batch, column, row)).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect::<Vec<_>>().join("; ")
}

/// As apache-avro writes it.
pub fn theirs(schema: &str, value: impl Into<Value>) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let value = value.into().resolve(&schema).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}

/// As apache-avro reads it.
pub fn read_by_them(schema: &str, bytes: &[u8]) -> Value {
    let schema = Schema::parse_str(schema).unwrap();
    let mut rest = bytes;
    let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "{rest:?} follow");
    value
}

/// A record's fields.
pub fn record(fields: &[(&str, Value)]) -> Value {
    Value::Record(fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
}

pub fn inserts(batch: RecordBatch) -> Changes {
    let times = vec![0i64; batch.num_rows()].into();
    Changes::inserts(batch, times).unwrap()
}

/// Encodes the rows; the table is named `t`.
pub fn encode(batch: &RecordBatch, pairs: &[(&str, &str)], ctx: &FormatContext) -> Result<Vec<Vec<u8>>> {
    let fields = batch.schema();
    let columns = fields
        .fields()
        .iter()
        .map(|field| Column { nullable: field.is_nullable(), ..column(field.name(), field.data_type().clone()) });
    let mut encoder = encoder_with(&options(pairs), &table(columns.collect()), ctx)?;
    let mut out = EncodedValues::default();
    encoder.encode(&inserts(batch.clone()), &mut out)?;
    Ok(out.iter().map(<[u8]>::to_vec).collect())
}

/// A registry in memory, which can be away.
#[derive(Debug, Default)]
pub struct Memory {
    schemas: Mutex<Vec<(String, SchemaText)>>,
    pub down: AtomicBool,
    pub asked: AtomicUsize,
}

impl Memory {
    pub fn context(self: &Arc<Self>, options: RegistryOptions) -> FormatContext {
        let registry: Arc<dyn SchemaRegistry> = Arc::<Self>::clone(self);
        FormatContext { registry: Some(TableRegistry { registry, part: Part::Value, topic: "t".into(), options }) }
    }
    pub fn add(&self, subject: &str, kind: SchemaKind, text: &str) -> u32 {
        match self.register(subject, &SchemaText { kind, text: text.into() }).unwrap() {
            SchemaId::Number(id) => id,
            SchemaId::Version(_) => unreachable!("ids are numbers here"),
        }
    }
    fn answer<T>(&self, answer: impl FnOnce(&Vec<(String, SchemaText)>) -> Option<T>) -> Result<T> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Unreachable, "the schema registry is away"));
        }
        answer(&self.schemas.lock().unwrap()).ok_or_else(|| Error::new(Code::UnknownSchema, "no such schema"))
    }
    pub fn texts(&self) -> HashMap<String, String> {
        self.schemas.lock().unwrap().iter().map(|(subject, schema)| (subject.clone(), schema.text.clone())).collect()
    }
}

fn number(id: usize) -> SchemaId {
    u32::try_from(id).unwrap().into()
}

fn registered(id: usize, schema: &SchemaText) -> Arc<RegisteredSchema> {
    let (id, kind, text) = (number(id), schema.kind, schema.text.clone());
    Arc::new(RegisteredSchema { id, kind, text, references: Vec::new() })
}

impl SchemaRegistry for Memory {
    fn schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>> {
        let SchemaId::Number(id) = id else { return Err(Error::new(Code::UnknownSchema, "no such schema")) };
        self.answer(|all| all.get(id as usize).map(|(_, schema)| registered(id as usize, schema)))
    }
    fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>> {
        self.answer(|all| {
            let newest = all.iter().enumerate().rev().find(|(_, (name, _))| name == subject);
            newest.map(|(id, (_, schema))| registered(id, schema))
        })
    }
    fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        if let Ok(id) = self.find(subject, schema) {
            return Ok(id);
        }
        self.answer(|all| Some(all.len()))?;
        let mut all = self.schemas.lock().unwrap();
        all.push((subject.into(), schema.clone()));
        Ok(number(all.len() - 1))
    }
    fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        self.answer(|all| all.iter().position(|(name, known)| name == subject && known == schema).map(number))
    }
}

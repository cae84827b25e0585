//! Tables of Avro's records, those records as apache-avro has them, and a registry.

#[path = "../support/mod.rs"]
mod common;
#[path = "registry.rs"]
mod registry;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow::array::RecordBatch;
use laminar_core::format::{DecodeError, Decoder, EncodedValues};
use laminar_core::table::Column;
use laminar_core::{Changes, Result};
use laminar_formats::{FormatContext, FormatOptions, decoder_with, encoder_with};

use common::format_options;
#[allow(unused_imports)] // each test uses its part
pub use common::{cell, column, rows, table};
pub use registry::Memory;

pub fn options(pairs: &[(&str, &str)]) -> FormatOptions {
    format_options(&[&[("format", "avro")], pairs].concat())
}

/// A decoder of plain records with this schema.
pub fn plain(columns: Vec<Column>, schema: &str) -> Result<Box<dyn Decoder>> {
    decoder_with(&options(&[("avro.schema", schema)]), &table(columns), &FormatContext::default())
}

pub fn push(decoder: &mut dyn Decoder, value: Option<&[u8]>) -> Result<(), DecodeError> {
    decoder.push(&common::record(value))
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

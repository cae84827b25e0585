//! What the tests of all formats share: columns and tables, records one by one, rows as text.
#![allow(dead_code)] // each test is a crate of its own, and uses some of it

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions as Display};
use arrow::util::pretty::pretty_format_batches;
use laminar_core::Position;
use laminar_core::format::{DecodeError, Decoder};
use laminar_core::options::Options;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, TableSpec};
use laminar_formats::FormatOptions;

pub fn column(name: &str, data_type: DataType) -> Column {
    Column { name: name.into(), data_type, nullable: true, json: false, metadata: None }
}

/// A table `t` of which all columns are read.
pub fn table(columns: Vec<Column>) -> TableSpec {
    let projection = (0..columns.len()).collect();
    TableSpec { name: "t".into(), columns, projection, event_time: None, primary_key: Vec::new() }
}

pub fn format_options(pairs: &[(&str, &str)]) -> FormatOptions {
    Options::from_pairs(pairs.iter().copied()).parse("format").unwrap()
}

pub fn record(value: Option<&[u8]>) -> RawRecord<'_> {
    RawRecord {
        key: None,
        value,
        timestamp_micros: 0,
        timestamp_type: TimestampType::None,
        topic: "t",
        partition: 0,
        position: Position(0),
        batch: None,
    }
}

pub fn push(decoder: &mut dyn Decoder, value: &[u8]) -> Result<(), DecodeError> {
    decoder.push(&record(Some(value)))
}

pub fn rows(decoder: &mut dyn Decoder) -> RecordBatch {
    decoder.flush().unwrap().unwrap().rows().clone()
}

/// The cells of the rows, one line a row.
pub fn show(batch: &RecordBatch) -> Vec<String> {
    let shown = pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string();
    let line = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
    shown.lines().skip(3).filter(|line| line.starts_with('|')).map(line).collect()
}

/// One cell; NULL says so, unlike an empty text.
pub fn cell(batch: &RecordBatch, column: usize, row: usize) -> String {
    let display = Display::new().with_null("NULL");
    ArrayFormatter::try_new(batch.column(column), &display).unwrap().value(row).to_string()
}

//! Records that take each other's place: values as inserts, tombstones as deletes of their keys, in the order in which they came.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::time::Duration;

use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use laminar_core::format::{DecodeError, Decoder};
use laminar_core::options::Options;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, EventTime, TableSpec, timestamp_type};
use laminar_core::{Changes, Code, Position};
use laminar_formats::{FormatContext, KeyForm, upsert_decoder_with};

fn column(name: &str, data_type: DataType) -> Column {
    Column { name: name.into(), data_type, nullable: false, json: false, metadata: None }
}

fn table(columns: Vec<Column>, key: &[&str]) -> TableSpec {
    let projection = (0..columns.len()).collect();
    let primary_key = key.iter().map(ToString::to_string).collect();
    TableSpec { name: "people".into(), columns, projection, event_time: None, primary_key }
}

fn decoder(table: &TableSpec, form: Option<KeyForm>) -> laminar_core::Result<Box<dyn Decoder>> {
    let json = Options::from_pairs([("format", "json")]).parse("format").unwrap();
    upsert_decoder_with(&json, table, form, &FormatContext::default())
}

fn push(decoder: &mut dyn Decoder, key: Option<&str>, value: Option<&str>) -> Result<(), DecodeError> {
    decoder.push(&RawRecord {
        key: key.map(str::as_bytes),
        value: value.map(str::as_bytes),
        timestamp_micros: 5,
        timestamp_type: TimestampType::None,
        topic: "t",
        partition: 0,
        position: Position(0),
        batch: None,
    })
}

/// Each row's kind and cells.
fn show(changes: &Changes) -> Vec<String> {
    let shown = pretty_format_batches(std::slice::from_ref(changes.rows())).unwrap().to_string();
    let line = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
    let cells = shown.lines().skip(3).filter(|line| line.starts_with('|')).map(line);
    let kind = |row| changes.kinds().map_or("Insert".to_string(), |kinds| format!("{:?}", kinds.get(row)));
    cells.enumerate().map(|(row, cells)| format!("{} {cells}", kind(row))).collect()
}

#[test]
fn values_and_tombstones_stay_in_their_order() {
    let spec = table(vec![column("v", DataType::Utf8), column("id", DataType::Int64)], &["id"]);
    let mut decoder = decoder(&spec, None).unwrap();
    let decoder = decoder.as_mut();
    push(decoder, Some("1"), Some(r#"{"id":1,"v":"a"}"#)).unwrap();
    push(decoder, Some("2"), None).unwrap();
    // Bad ones leave nothing behind.
    for (key, value) in [(None, None), (Some("x"), None), (Some("1,\"id\":2"), None), (Some("1"), Some("{}"))] {
        push(decoder, key, value).unwrap_err();
    }
    push(decoder, None, Some(r#"{"id":3,"v":"c"}"#)).unwrap();
    push(decoder, Some(r#" {"id":3} "#), None).unwrap();
    assert_eq!(decoder.len(), 4);
    let changes = decoder.flush().unwrap().unwrap();
    assert_eq!(show(&changes), ["Insert a|1", "Delete |2", "Insert c|3", "Delete |3"]);
    push(decoder, Some("4"), None).unwrap();
    assert_eq!(show(&decoder.flush().unwrap().unwrap()), ["Delete |4"]);
    push(decoder, None, Some(r#"{"id":5,"v":"e"}"#)).unwrap();
    assert_eq!(show(&decoder.flush().unwrap().unwrap()), ["Insert e|5"]);
    assert!(decoder.flush().unwrap().is_none());
}

#[test]
fn a_record_that_is_no_row_is_none() {
    let csv = Options::from_pairs([("format", "csv"), ("csv_header", "true")]).parse("format").unwrap();
    let spec = table(vec![column("id", DataType::Int64), column("v", DataType::Utf8)], &["id"]);
    let mut decoder = upsert_decoder_with(&csv, &spec, None, &FormatContext::default()).unwrap();
    push(decoder.as_mut(), None, Some("id,v")).unwrap();
    assert_eq!(decoder.len(), 0);
    push(decoder.as_mut(), Some("7"), None).unwrap();
    push(decoder.as_mut(), None, Some("id,v")).unwrap();
    push(decoder.as_mut(), None, Some("8,x")).unwrap();
    assert_eq!(show(&decoder.flush().unwrap().unwrap()), ["Delete 7|", "Insert 8|x"]);
}

#[test]
fn a_tombstone_has_no_event_time_where_the_value_has_it() {
    let mut spec = table(vec![column("id", DataType::Utf8), column("at", timestamp_type())], &["id"]);
    for (timed, expected) in [(false, [false, false]), (true, [false, true])] {
        spec.event_time = timed.then(|| EventTime { column: "at".into(), delay: Duration::ZERO });
        let mut decoder = decoder(&spec, None).unwrap();
        push(decoder.as_mut(), None, Some(r#"{"id":"a","at":"2024-01-01T00:00:00Z"}"#)).unwrap();
        push(decoder.as_mut(), Some("a"), None).unwrap();
        let changes = decoder.flush().unwrap().unwrap();
        let times = changes.times();
        assert_eq!([0, 1].map(|row| arrow::array::Array::is_null(times, row)), expected);
        assert_eq!(times.value(1), 5, "the record's own");
    }
}

#[test]
fn keys_are_text_or_json_of_one_column_or_several() {
    let one = |data_type| table(vec![column("id", data_type)], &["id"]);
    let two = table(vec![column("a", DataType::Int32), column("b", DataType::Utf8)], &["b", "a"]);
    let check = |spec: &TableSpec, form, key: &str, expected: &str| {
        let mut decoder = decoder(spec, form).unwrap();
        push(decoder.as_mut(), Some(key), None).unwrap();
        assert_eq!(show(&decoder.flush().unwrap().unwrap()), [format!("Delete {expected}")]);
    };
    check(&one(DataType::Utf8), None, "{\"x\"}", "{\"x\"}");
    check(&one(DataType::Utf8), Some(KeyForm::Json), "\"x\"", "x");
    check(&one(DataType::Utf8), Some(KeyForm::Json), r#"{"id":"x"}"#, "x");
    check(&one(DataType::Int16), Some(KeyForm::Raw), "-7", "-7");
    check(&one(DataType::Boolean), None, "true", "true");
    check(&two, None, r#"{"b":"x","a":1}"#, "1|x");
    // As a serialiser with a registry writes one.
    let mut text = decoder(&one(DataType::Utf8), None).unwrap();
    push(text.as_mut(), Some("\0\0\0\0\u{1}\u{6}foo"), None).unwrap_err();
    let mut from_key = column("id", DataType::Utf8);
    from_key.metadata = Some("key".into());
    check(&table(vec![column("v", DataType::Utf8), from_key], &["id"]), None, "any", "|any");
}

#[test]
fn what_fits_no_key_is_refused() {
    let check =
        |spec: &TableSpec, form, expected| assert_eq!(decoder(spec, form).map(drop).unwrap_err().code(), expected);
    check(&table(vec![column("v", DataType::Utf8)], &[]), None, Code::MissingOption);
    check(&table(vec![column("v", DataType::Utf8)], &["v", "computed"]), None, Code::NotSupported);
    check(&table(vec![column("v", DataType::Boolean)], &["v"]), Some(KeyForm::Raw), Code::ConflictingOptions);
    let two = table(vec![column("a", DataType::Int32), column("b", DataType::Utf8)], &["a", "b"]);
    check(&two, Some(KeyForm::Raw), Code::ConflictingOptions);
}

//! Whole records through the public door: values, metadata, event times, and what a failing record leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod support;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::pretty::pretty_format_batches;
use laminar_core::connector::Role;
use laminar_core::format::{DecodeError, Decoder};
use laminar_core::source::{RawRecord, RawRecords, TimestampType};
use laminar_core::table::{Column, EventTime, timestamp_type};
use laminar_core::{Code, Position};
use laminar_formats::decoder;
use support::{column, format_options as options, table};

fn metadata(name: &str, key: &str, data_type: DataType) -> Column {
    Column { metadata: Some(key.into()), ..column(name, data_type) }
}

fn record<'a>(value: &'a str, timestamp_micros: i64) -> RawRecord<'a> {
    RawRecord {
        key: Some(b"k1"),
        value: Some(value.as_bytes()),
        timestamp_micros,
        timestamp_type: TimestampType::CreateTime,
        topic: "orders",
        partition: 3,
        position: Position(42),
        batch: None,
    }
}

fn show(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch)).unwrap().to_string()
}

fn push(decoder: &mut dyn Decoder, value: &str) -> Result<(), DecodeError> {
    decoder.push(&record(value, 7))
}

struct WithHeaders;
impl RawRecords for WithHeaders {
    fn len(&self) -> usize {
        1
    }
    fn get(&self, _: usize) -> RawRecord<'_> {
        RawRecord { batch: Some((self, 0)), ..record(r#"{"v":1}"#, 5) }
    }
    fn headers(&self, _: usize, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        visit("trace", Some(b"a"));
        visit("empty", None);
        visit("trace", Some(b"b\"\xff"));
    }
}

#[test]
fn metadata_columns_come_from_the_record() {
    let headers_map = {
        use arrow::datatypes::{Field, Fields};
        let fields =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]);
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
    };
    let spec = table(vec![
        metadata("topic", "topic", DataType::Utf8),
        column("v", DataType::Int64),
        metadata("part", "partition", DataType::Int64),
        metadata("offset", "offset", DataType::Int64),
        metadata("at", "timestamp", timestamp_type()),
        metadata("kind", "timestamp_type", DataType::Utf8),
        metadata("k", "key", DataType::Binary),
        metadata("kt", "key", DataType::Utf8),
        metadata("h", "headers", DataType::Utf8),
        metadata("hm", "headers", headers_map),
    ]);
    let mut decoder = decoder(&options(&[]), &spec).unwrap();
    let batch = WithHeaders;
    decoder.push(&batch.get(0)).unwrap();
    let changes = decoder.flush().unwrap().unwrap();
    let expected = "\
+--------+---+------+--------+----------------------------+------------+------+----+------------------------------+----------------------------------------+
| topic  | v | part | offset | at                         | kind       | k    | kt | h                            | hm                                     |
+--------+---+------+--------+----------------------------+------------+------+----+------------------------------+----------------------------------------+
| orders | 1 | 3    | 42     | 1970-01-01T00:00:00.000005 | CreateTime | 6b31 | k1 | {\"trace\":\"b\\\"\u{fffd}\",\"empty\":null} | {trace: 61, empty: , trace: 6222ff}    |
+--------+---+------+--------+----------------------------+------------+------+----+------------------------------+----------------------------------------+";
    let cells = |text: &str| {
        text.split(['|', '\n'])
            .map(str::trim)
            .filter(|cell| !cell.starts_with('+'))
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(cells(&show(changes.rows())), cells(expected));
}

#[test]
fn the_event_time_is_the_column_where_it_is_not_null() {
    let mut spec = table(vec![column("v", DataType::Int64), column("at", timestamp_type())]);
    spec.event_time = Some(EventTime { column: "at".into(), delay: Duration::ZERO });
    spec.projection = vec![0];
    let mut decoder = decoder(&options(&[]), &spec).unwrap();
    push(decoder.as_mut(), r#"{"v":1,"at":1000}"#).unwrap();
    push(decoder.as_mut(), r#"{"v":2}"#).unwrap();
    push(decoder.as_mut(), r#"{"v":3,"at":"1970-01-01T00:00:00.000009Z"}"#).unwrap();
    let changes = decoder.flush().unwrap().unwrap();
    assert_eq!(changes.times().values().as_ref(), [1_000_000, 7, 9]);
    assert_eq!(changes.rows().num_columns(), 1);
    assert!(decoder.flush().unwrap().is_none());
}

#[test]
fn a_query_that_reads_no_column_still_gets_its_rows() {
    let mut spec = table(vec![column("v", DataType::Int64)]);
    spec.projection = Vec::new();
    let mut decoder = decoder(&options(&[]), &spec).unwrap();
    push(decoder.as_mut(), r#"{"v":1}"#).unwrap();
    assert!(push(decoder.as_mut(), r#"{"v":1"#).is_err());
    push(decoder.as_mut(), "{}").unwrap();
    assert_eq!(decoder.flush().unwrap().unwrap().num_rows(), 2);
}

#[test]
fn a_bad_record_between_good_ones_leaves_no_trace() {
    let mut spec =
        table(vec![column("a", DataType::Int64), column("b", DataType::Utf8), metadata("k", "key", DataType::Utf8)]);
    spec.projection = vec![1, 2, 0];
    let mut decoder = decoder(&options(&[]), &spec).unwrap();
    push(decoder.as_mut(), r#"{"a":1,"b":"one"}"#).unwrap();
    let error = push(decoder.as_mut(), r#"{"b":"two","a":"x"}"#).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.offset), ("expected BIGINT, found \"x\" (column a)", Some(15)));
    let error = decoder.push(&RawRecord { key: Some(b"\xff"), ..record(r#"{"a":9,"b":"nine"}"#, 1) }).unwrap_err();
    assert_eq!(error.to_string(), "the record's key is not UTF-8 (column k)");
    let error = decoder.push(&RawRecord { value: None, ..record("", 1) }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the record has no value (a tombstone), so it is not JSON; upsert = 'true' reads tombstones as deletes of their keys"
    );
    push(decoder.as_mut(), r#"{"a":3,"b":"three"}"#).unwrap();
    assert_eq!(decoder.len(), 2);
    let changes = decoder.flush().unwrap().unwrap();
    assert_eq!(changes.rows().column(2).as_primitive::<Int64Type>().values().as_ref(), [1, 3]);
    assert_eq!(changes.rows().column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["one", "three"]);
    assert_eq!(changes.times().values().as_ref(), [7, 7]);
}

#[test]
fn raw_values_are_copied() {
    let text = table(vec![column("value", DataType::Utf8), metadata("offset", "offset", DataType::Int64)]);
    let mut decoder = decoder(&options(&[("format", "raw")]), &text).unwrap();
    push(decoder.as_mut(), "any \"thing").unwrap();
    assert!(decoder.push(&RawRecord { value: Some(b"a\xff"), ..record("", 1) }).is_err());
    decoder.push(&RawRecord { value: None, ..record("", 1) }).unwrap();
    push(decoder.as_mut(), "").unwrap();
    let changes = decoder.flush().unwrap().unwrap();
    let values: Vec<_> = changes.rows().column(0).as_string::<i32>().iter().collect();
    assert_eq!(values, [Some("any \"thing"), None, Some("")]);
}

#[test]
fn an_unstructured_value_is_one_column() {
    let spec = table(vec![Column { json: true, ..column("value", DataType::Utf8) }]);
    let mut decoder = decoder(&options(&[("json.unstructured", "true")]), &spec).unwrap();
    push(decoder.as_mut(), " {\"a\" : [1]}\n").unwrap();
    assert!(push(decoder.as_mut(), "{\"a\":}").is_err());
    assert!(push(decoder.as_mut(), "1 2").is_err());
    push(decoder.as_mut(), "17").unwrap();
    let changes = decoder.flush().unwrap().unwrap();
    let values: Vec<_> = changes.rows().column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(values, ["{\"a\" : [1]}", "17"]);
}

#[track_caller]
fn check_refused(pairs: &[(&str, &str)], columns: Vec<Column>, code: Code, text: &str) {
    let error = decoder(&options(pairs), &table(columns)).err().expect("refused");
    assert_eq!((error.code(), format!("{error:?}").as_str()), (code, text));
}

#[test]
fn what_does_not_fit_is_refused() {
    use DataType::*;
    let one = || vec![column("a", Utf8)];
    check_refused(
        &[("format", "parquet")],
        one(),
        Code::NotSupported,
        "not_supported: format parquet is not supported yet (hint: formats that work: json, raw, debezium_json, avro, confluent_avro, debezium_avro, protobuf, csv, confluent_json)",
    );
    check_refused(
        &[("format", "jsn")],
        one(),
        Code::InvalidOption,
        "invalid_option: option format cannot be 'jsn': expected one of json, raw, debezium_json, avro, confluent_avro, debezium_avro, protobuf, csv, confluent_json (hint: did you mean json?)",
    );
    check_refused(
        &[("format", "raw"), ("json.unstructured", "true")],
        one(),
        Code::ConflictingOptions,
        "conflicting_options: option json.unstructured is not for format raw",
    );
    check_refused(
        &[("json.pretty", "true")],
        one(),
        Code::ConflictingOptions,
        "conflicting_options: option json.pretty is for sinks only (hint: remove it: a source reads every layout of JSON)",
    );
    check_refused(
        &[("format", "raw")],
        vec![column("a", Utf8), column("b", Utf8)],
        Code::ColumnCount,
        "column_count: format raw needs exactly one column for the value: table t has 2: a, b \
         (hint: columns that are filled from metadata do not count)",
    );
    check_refused(
        &[("format", "raw")],
        vec![column("a", Int64)],
        Code::TypeMismatch,
        "type_mismatch: format raw needs a column of type TEXT or BYTEA: column a is BIGINT",
    );
    check_refused(
        &[],
        vec![column("a", Interval(arrow::datatypes::IntervalUnit::DayTime))],
        Code::NotSupported,
        "not_supported: column a cannot be read from JSON: type INTERVAL has no JSON form",
    );
    check_refused(
        &[],
        vec![metadata("a", "colour", Utf8)],
        Code::UnknownColumn,
        "unknown_column: a record has no metadata colour \
         (hint: metadata: topic, partition, offset, timestamp, timestamp_type, key, headers)",
    );
}

#[test]
fn a_sink_may_have_types_that_a_source_cannot_read() {
    let spec = table(vec![column("a", DataType::Interval(arrow::datatypes::IntervalUnit::DayTime))]);
    let json = options(&[]);
    json.check(&spec).unwrap();
    json.check_table(Role::Sink, &spec).unwrap();
    assert_eq!(json.check_table(Role::Source, &spec).unwrap_err().code(), Code::NotSupported);
}

//! Rows to JSON: golden lines for each type and option, and whatever is written is read again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod support;

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use laminar_core::format::EncodedValues;
use laminar_core::table::{Column, TYPE_KEY, TableSpec};
use laminar_core::{ChangeKind, Changes, Code};
use laminar_formats::{FormatOptions, decoder, encoder};
use proptest::prelude::*;
use support::format_options as options;

fn inserts(rows: RecordBatch) -> Changes {
    let times = TimestampMicrosecondArray::from(vec![0; rows.num_rows()]);
    Changes::inserts(rows, times).unwrap()
}

/// The table that has these columns.
fn table(schema: &Schema) -> TableSpec {
    let column = |field: &Arc<Field>| Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: true,
        json: field.metadata().contains_key(TYPE_KEY),
        metadata: None,
    };
    let columns: Vec<Column> = schema.fields().iter().map(column).collect();
    let projection = (0..columns.len()).collect();
    TableSpec { name: "t".into(), columns, projection, event_time: None, primary_key: Vec::new() }
}

fn encode(rows: RecordBatch, pairs: &[(&str, &str)]) -> Vec<String> {
    let mut encoder = encoder(&options(pairs), &table(&rows.schema())).unwrap();
    let mut out = EncodedValues { bytes: b"kept".to_vec(), ends: vec![4], ..EncodedValues::default() };
    encoder.encode(&inserts(rows), &mut out).unwrap();
    let lines: Vec<String> = out.iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect();
    assert_eq!(lines.first().map(String::as_str), Some("kept"));
    lines[1..].to_vec()
}

#[track_caller]
fn check(column: impl Array + 'static, expected: &[&str]) {
    let rows = RecordBatch::try_from_iter_with_nullable([("a", Arc::new(column) as ArrayRef, true)]).unwrap();
    let expected: Vec<String> = expected.iter().map(|value| format!(r#"{{"a":{value}}}"#)).collect();
    assert_eq!(encode(rows, &[]), expected);
}

#[test]
fn a_name_may_be_long() {
    for length in 1..80 {
        let name = "n".repeat(length);
        let column = Arc::new(Int64Array::from(vec![7])) as ArrayRef;
        let rows = RecordBatch::try_from_iter([(name.as_str(), Arc::clone(&column)), ("b", column)]).unwrap();
        assert_eq!(encode(rows, &[]), [format!(r#"{{"{name}":7,"b":7}}"#)]);
    }
}

#[test]
fn each_type_has_its_form() {
    check(Int64Array::from(vec![Some(i64::MIN), None, Some(0)]), &["-9223372036854775808", "null", "0"]);
    check(UInt64Array::from(vec![u64::MAX]), &["18446744073709551615"]);
    check(Int8Array::from(vec![-128, 127]), &["-128", "127"]);
    check(BooleanArray::from(vec![true, false]), &["true", "false"]);
    check(
        Float64Array::from(vec![0.1, -0.0, 1e300, f64::NAN, f64::INFINITY, 3.0]),
        &["0.1", "-0.0", "1e+300", "null", "null", "3.0"],
    );
    check(Float32Array::from(vec![0.1, 16_777_216.0]), &["0.1", "16777216.0"]);
    check(StringArray::from(vec!["a\"\\\n\u{1}é😀"]), &[r#""a\"\\\n\u0001é😀""#]);
    check(LargeStringArray::from(vec!["x"]), &[r#""x""#]);
    check(StringViewArray::from(vec!["x"]), &[r#""x""#]);
    check(
        BinaryArray::from(vec![b"hi?".as_slice(), b"", &[0xff; 50]]),
        &[r#""aGk/""#, r#""""#, &format!("\"{}=\"", "/".repeat(66) + "8")],
    );
    check(NullArray::new(1), &["null"]);
    let dictionary: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
    check(dictionary, &[r#""x""#, r#""y""#, r#""x""#]);
    let decimal = |values: Vec<i128>, p, s| Decimal128Array::from(values).with_precision_and_scale(p, s).unwrap();
    check(decimal(vec![12_50, -7, 0], 6, 2), &["12.50", "-0.07", "0.00"]);
    check(decimal(vec![12, 0], 6, -2), &["1200", "0"]);
    check(decimal(vec![-12], 6, 0), &["-12"]);
    check(Date32Array::from(vec![19_782, -1]), &[r#""2024-02-29""#, r#""1969-12-31""#]);
    check(Time64MicrosecondArray::from(vec![86_399_000_001]), &[r#""23:59:59.000001""#]);
    check(Time32SecondArray::from(vec![1]), &[r#""00:00:01""#]);
    check(
        TimestampMicrosecondArray::from(vec![0, 1_700_000_000_123_000, -1, i64::MAX]),
        &[
            r#""1970-01-01T00:00:00Z""#,
            r#""2023-11-14T22:13:20.123Z""#,
            r#""1969-12-31T23:59:59.999999Z""#,
            r#""+294247-01-10T04:00:54.775807Z""#,
        ],
    );
    check(TimestampNanosecondArray::from(vec![1]), &[r#""1970-01-01T00:00:00.000000001Z""#]);
    check(IntervalYearMonthArray::from(vec![14]), &[r#""1 years 2 mons""#]);
}

#[test]
fn nested_types() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    check(list, &["[1,null]", "null", "[]"]);
    let fields = Fields::from(vec![Field::new("x", DataType::Int64, true), Field::new("y\"", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![None, Some("q")]))];
    let nulls = Some(NullBuffer::from(vec![true, false]));
    check(StructArray::new(fields, columns, nulls), &[r#"{"x":1,"y\"":null}"#, "null"]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.keys().append_value("l");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(true).unwrap();
    check(map.finish(), &[r#"{"k":1,"l":null}"#, "{}"]);
}

fn two_columns() -> RecordBatch {
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None]));
    let list: ArrayRef = Arc::new(ListArray::new(
        Arc::new(Field::new("item", DataType::Utf8, true)),
        OffsetBuffer::from_lengths([2, 0]),
        Arc::new(StringArray::from(vec!["{", "\\\""])),
        None,
    ));
    RecordBatch::try_from_iter_with_nullable([("at", at, true), ("list", list, true)]).unwrap()
}

#[test]
fn options_change_the_form() {
    let nulls_left_out = encode(two_columns(), &[("json.include_nulls", "false")]);
    assert_eq!(nulls_left_out, [r#"{"at":"2023-11-14T22:13:20.123456Z","list":["{","\\\""]}"#, r#"{"list":[]}"#]);
    for (format, expected) in [
        ("unix_seconds", "1700000000"),
        ("unix_millis", "1700000000123"),
        ("unix_micros", "1700000000123456"),
        ("unix_nanos", "1700000000123456000"),
    ] {
        let lines = encode(two_columns(), &[("timestamp_format", format)]);
        assert_eq!(lines[0], format!(r#"{{"at":{expected},"list":["{{","\\\""]}}"#));
    }
    let pretty = encode(two_columns(), &[("json.pretty", "true")]);
    assert_eq!(
        pretty[0],
        "{\n  \"at\": \"2023-11-14T22:13:20.123456Z\",\n  \"list\": [\n    \"{\",\n    \"\\\\\\\"\"\n  ]\n}"
    );
    assert_eq!(pretty[1], "{\n  \"at\": null,\n  \"list\": []\n}");
}

#[test]
fn json_columns_are_embedded() {
    let field = Field::new("j", DataType::Utf8, true).with_metadata([(TYPE_KEY.into(), "json".into())].into());
    let texts = StringArray::from(vec![Some(" {\"a\" :\r\n [1]} "), Some("not json"), None, Some("\"x\"")]);
    let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(texts)]).unwrap();
    let expected = [r#"{"j":{"a" : [1]}}"#, r#"{"j":"not json"}"#, r#"{"j":null}"#, r#"{"j":"x"}"#];
    assert_eq!(encode(rows.clone(), &[]), expected);
    assert_eq!(encode(rows.slice(0, 1), &[("json.unstructured", "true")]), [" {\"a\" :\r\n [1]} "]);
    assert_eq!(encode(rows.slice(1, 1), &[("format", "raw")]), ["not json"]);
}

#[test]
fn updates_are_refused() {
    let rows = two_columns();
    let times = TimestampMicrosecondArray::from(vec![0, 0]);
    let kinds = Some([ChangeKind::Insert, ChangeKind::Delete].into_iter().collect());
    let changes = Changes::new(rows.clone(), times, kinds).unwrap();
    let mut encoder = encoder(&FormatOptions::default(), &table(&rows.schema())).unwrap();
    let error = encoder.encode(&changes, &mut EncodedValues::default()).unwrap_err();
    assert_eq!(error.code(), Code::NotSupported);
}

#[test]
fn a_table_without_columns_writes_empty_objects() {
    let schema = Arc::new(Schema::empty());
    let rows = RecordBatch::try_new_with_options(schema, vec![], &RecordBatchOptions::new().with_row_count(Some(2)));
    assert_eq!(encode(rows.unwrap(), &[]), ["{}", "{}"]);
}

fn nullable<T: std::fmt::Debug + Clone + 'static>(
    values: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Vec<Option<T>>> {
    prop::collection::vec(prop::option::weighted(0.8, values), 7).boxed()
}

fn column<T: std::fmt::Debug + Clone + 'static, A: Array + 'static>(
    values: impl Strategy<Value = T> + 'static,
    build: impl Fn(Vec<Option<T>>) -> A + 'static,
) -> BoxedStrategy<ArrayRef> {
    nullable(values).prop_map(move |values| Arc::new(build(values)) as ArrayRef).boxed()
}

/// A column of 7 rows of any type that both directions know, with values at the edges.
fn any_column(depth: u32) -> BoxedStrategy<ArrayRef> {
    let finite = any::<f64>().prop_filter("JSON has no NaN", |value| value.is_finite());
    let finite32 = any::<f32>().prop_filter("JSON has no NaN", |value| value.is_finite());
    let text = "(.|[\"\\\\\u{0}-\u{1f}]|[a-z]{1,20}){0,8}";
    let decimal = (-99_999_999_999_999_999_999i128..99_999_999_999_999_999_999, -3i8..20);
    let decimals = (nullable(decimal.0), decimal.1).prop_map(|(values, scale)| {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(20, scale).unwrap()) as ArrayRef
    });
    let flat = prop_oneof![
        column(any::<i64>(), Int64Array::from),
        column(any::<i32>(), Int32Array::from),
        column(any::<i8>(), Int8Array::from),
        column(any::<u64>(), UInt64Array::from),
        column(any::<u16>(), UInt16Array::from),
        column(any::<bool>(), BooleanArray::from),
        column(finite, Float64Array::from),
        column(finite32, Float32Array::from),
        column(text.prop_map(String::from), StringArray::from),
        column(prop::collection::vec(any::<u8>(), 0..100), BinaryArray::from_iter),
        column(any::<i64>(), TimestampMicrosecondArray::from),
        column(any::<i64>(), TimestampNanosecondArray::from),
        column(any::<i64>(), |values| TimestampMillisecondArray::from(values).with_timezone("+00:00")),
        column(-700_000i32..2_900_000, Date32Array::from),
        column(0i64..86_400_000_000, Time64MicrosecondArray::from),
        column(0i64..86_400_000_000_000, Time64NanosecondArray::from),
        decimals,
    ];
    if depth == 0 {
        return flat.boxed();
    }
    let nulls = || prop::collection::vec(prop::bool::weighted(0.8), 3).prop_map(|valid| Some(NullBuffer::from(valid)));
    let lists = (any_column(depth - 1), nulls()).prop_map(|(items, nulls): (ArrayRef, _)| {
        let field = Arc::new(Field::new("item", items.data_type().clone(), true));
        Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([2, 0, items.len() - 2]), items, nulls)) as ArrayRef
    });
    let structs = (any_column(depth - 1), any_column(depth - 1), nulls()).prop_map(|(x, y, nulls)| {
        let (x, y) = (x.slice(0, 3.min(x.len())), y.slice(0, 3.min(y.len())));
        let field = |name: &str, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
        let fields = Fields::from(vec![field("x", &x), field("y \"é", &y)]);
        Arc::new(StructArray::new(fields, vec![x, y], nulls)) as ArrayRef
    });
    let maps = (any_column(0), nulls()).prop_map(|(values, nulls)| {
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "", "a", "c\"", "é", "d"]));
        let entry = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", values.data_type().clone(), true),
        ]);
        let entries = StructArray::new(entry.clone(), vec![keys, values], None);
        let field = Arc::new(Field::new("entries", DataType::Struct(entry), false));
        Arc::new(MapArray::new(field, OffsetBuffer::from_lengths([3, 0, 4]), entries, nulls, false)) as ArrayRef
    });
    prop_oneof![3 => flat, 1 => lists, 1 => structs, 1 => maps].boxed()
}

fn decode(values: &EncodedValues, schema: &Schema, options: &FormatOptions) -> RecordBatch {
    let mut decoder = decoder(options, &table(schema)).unwrap();
    for value in values.iter() {
        serde_json::from_slice::<serde_json::Value>(value).unwrap();
        support::push(decoder.as_mut(), value).unwrap();
    }
    decoder.flush().unwrap().unwrap().rows().clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_written_is_read_again(
        columns in prop::collection::vec(any_column(2), 1..5),
        pretty: bool,
        include_nulls: bool,
    ) {
        let rows = columns.iter().map(|column| column.len()).min().unwrap();
        let columns = columns.iter().enumerate().map(|(at, column)| (format!("c{at}"), column.slice(0, rows), true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let sink = [
            ("json.pretty", if pretty { "true" } else { "false" }),
            ("json.include_nulls", if include_nulls { "true" } else { "false" }),
        ];
        let mut encoder = encoder(&options(&sink), &table(&batch.schema())).unwrap();
        let mut values = EncodedValues::default();
        encoder.encode(&inserts(batch.clone()), &mut values).unwrap();
        let read = decode(&values, &batch.schema(), &FormatOptions::default());
        prop_assert_eq!(read.columns(), batch.columns());
    }

    #[test]
    fn times_as_numbers_are_read_again(values in prop::collection::vec(-9_000_000_000_000_000i64..9_000_000_000_000_000, 1..9)) {
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(values));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", column, true)]).unwrap();
        for format in ["unix_micros", "unix_nanos"] {
            let options = options(&[("timestamp_format", format)]);
            let mut encoded = EncodedValues::default();
            encoder(&options, &table(&batch.schema())).unwrap().encode(&inserts(batch.clone()), &mut encoded).unwrap();
            let read = decode(&encoded, &batch.schema(), &options);
            prop_assert_eq!(read.columns(), batch.columns());
        }
    }
}

//! `format = 'csv'` through the public door: fields to columns, what is refused and where, and that what is written reads back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod support;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields};
use laminar_core::Changes;
use laminar_core::format::EncodedValues;
use laminar_core::table::{Column, timestamp_type};
use laminar_formats::{FormatOptions, decoder, encoder};
use proptest::prelude::*;
use support::{column, format_options, push, show, table};

fn options(pairs: &[(&str, &str)]) -> FormatOptions {
    format_options(&[&[("format", "csv")], pairs].concat())
}

fn read(pairs: &[(&str, &str)], columns: Vec<Column>, records: &[&str]) -> Changes {
    let mut decoder = decoder(&options(pairs), &table(columns)).unwrap();
    records.iter().for_each(|record| push(decoder.as_mut(), record.as_bytes()).unwrap());
    decoder.flush().unwrap().unwrap()
}

fn sample() -> Vec<Column> {
    vec![
        column("id", DataType::Int64),
        column("name", DataType::Utf8),
        column("price", DataType::Decimal128(10, 2)),
        column("at", timestamp_type()),
        column("ok", DataType::Boolean),
        column("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))),
    ]
}

#[test]
fn fields_fill_columns_in_their_order() {
    let records = [
        "1,plain,1.5,2024-01-31T00:00:00Z,TRUE,\"[\"\"a\"\",null]\"",
        "\"2\",\"a \"\"b\"\", c\",-1,1000,false,[]\r\n",
        ",,,,,",
        "3,\"\",\"\",\"\",,",
    ];
    let mut decoder = decoder(&options(&[]), &table(sample())).unwrap();
    push(decoder.as_mut(), records[0].as_bytes()).unwrap();
    push(decoder.as_mut(), records[1].as_bytes()).unwrap();
    push(decoder.as_mut(), records[2].as_bytes()).unwrap();
    let error = push(decoder.as_mut(), records[3].as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "expected DECIMAL(10, 2), found \"\" (column price)");
    let changes = decoder.flush().unwrap().unwrap();
    let expected =
        ["1|plain|1.50|2024-01-31T00:00:00|true|[a, ]", "2|a \"b\", c|-1.00|1970-01-01T00:00:01|false|[]", "|||||"];
    assert_eq!(show(changes.rows()), expected);
}

#[test]
fn the_dialect_is_an_option() {
    let columns = || vec![column("a", DataType::Utf8), column("b", DataType::Utf8)];
    let pairs = [("csv_delimiter", "\\t"), ("csv_quote", "'"), ("csv_null", "\\N"), ("csv_header", "true")];
    let changes = read(&pairs, columns(), &["A\tb", "x,\"\t'it''s'", "\\N\t'\\N'", "\t''"]);
    let texts: Vec<Vec<Option<&str>>> =
        (0..2).map(|at| arrow::array::AsArray::as_string::<i32>(changes.rows().column(at)).iter().collect()).collect();
    assert_eq!(texts, [[Some("x,\""), None, Some("")], [Some("it's"), Some("\\N"), Some("")]]);
    let refused = |pairs: &[(&str, &str)]| format!("{:?}", decoder(&options(pairs), &table(columns())).err().unwrap());
    assert_eq!(
        refused(&[("csv_delimiter", ";;")]),
        "invalid_option: option csv_delimiter cannot be ';;': expected one character of ASCII, or \\t for a tab"
    );
    assert_eq!(
        refused(&[("csv_quote", ",")]),
        "conflicting_options: csv_delimiter and csv_quote are the same character"
    );
    assert!(refused(&[("csv_null", "a,b")]).starts_with("invalid_option"));
    let error = encoder(&options(&[("csv_header", "true")]), &table(columns())).err().unwrap();
    assert_eq!(
        format!("{error:?}"),
        "conflicting_options: option csv_header is for sources only (hint: remove it: a sink writes rows only)"
    );
}

#[track_caller]
fn check_bad(record: &[u8], expected: (&str, usize)) {
    let columns = vec![column("a", DataType::Int32), Column { nullable: false, ..column("b", DataType::Utf8) }];
    let mut decoder = decoder(&options(&[]), &table(columns)).unwrap();
    push(decoder.as_mut(), b"1,x").unwrap();
    let error = push(decoder.as_mut(), record).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.offset), (expected.0, Some(expected.1)));
    push(decoder.as_mut(), b"2,y").unwrap();
    assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), ["1|x", "2|y"]);
}

#[test]
fn a_bad_record_says_where_and_leaves_nothing_behind() {
    check_bad(b"", ("the record has 1 field, the table has 2 columns", 0));
    check_bad(b"1", ("the record has 1 field, the table has 2 columns", 1));
    check_bad(b"1,x,", ("the record has 3 fields, the table has 2 columns", 4));
    check_bad(b"one,x", ("expected INT, found \"one\" (column a)", 0));
    check_bad(b"3000000000,x", ("\"3000000000\" is out of range for INT (column a)", 0));
    check_bad(b"1,", ("NULL in a NOT NULL column (column b)", 2));
    check_bad(b"1,\xff", ("the text is not UTF-8 (column b)", 2));
    check_bad(b"1,\"x", ("the record ends within a quoted field", 4));
    check_bad(b"1,\"x\"y", ("a field goes on after its closing quote", 5));
    check_bad(b"1,x\"", ("a quote or line break in a field that does not begin with a quote", 3));
    check_bad(b"1,x\n2,y", ("a quote or line break in a field that does not begin with a quote", 3));
}

#[test]
fn blank_lines_of_a_file_are_layout_unless_a_record_is_one_field() {
    let columns = || vec![column("a", DataType::Int32), column("b", DataType::Utf8)];
    assert!(options(&[]).has_blank_lines(&table(columns())));
    assert!(!options(&[]).has_blank_lines(&table(columns().split_off(1))));
}

#[test]
fn only_the_columns_that_are_read_are_filled() {
    let mut spec = table(sample());
    spec.projection = vec![1, 0];
    let mut decoder = decoder(&options(&[]), &spec).unwrap();
    push(decoder.as_mut(), b"1,x,not a number,,,").unwrap();
    assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), ["x|1"]);
}

#[test]
fn rows_are_written_with_quotes_where_they_need_them() {
    let inner = DataType::Struct(Fields::from(vec![Field::new("n", DataType::Int32, true)]));
    let columns = vec![
        column("s", DataType::Utf8),
        column("d", DataType::Float64),
        column("t", timestamp_type()),
        column("b", DataType::Binary),
        column("o", inner),
        Column { json: true, ..column("j", DataType::Utf8) },
    ];
    let spec = table(columns);
    let mut json = decoder(&FormatOptions::default(), &spec).unwrap();
    for row in [
        r#"{"s":"a,\"b\"","d":1e300,"t":1500,"b":"AAE=","o":{"n":1},"j":[1, "x"]}"#,
        r#"{"s":"","d":"NaN"}"#,
        r#"{"s":" x","d":-1}"#,
    ] {
        push(json.as_mut(), row.as_bytes()).unwrap();
    }
    let changes = json.flush().unwrap().unwrap();
    let write = |pairs: &[(&str, &str)]| {
        let mut out = EncodedValues::default();
        encoder(&options(pairs), &spec).unwrap().encode(&changes, &mut out).unwrap();
        out.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    let expected = [
        r#""a,""b""",1e+300,1970-01-01T00:00:01.500Z,AAE=,"{""n"":1}","[1, ""x""]""#,
        r#""",NaN,,,,"#,
        r#"" x",-1.0,,,,"#,
    ];
    assert_eq!(write(&[]), expected);
    assert!(write(&[("timestamp_format", "unix_millis")])[0].contains(",1500,"));
}

proptest! {
    /// What we write, we and the csv crate read back.
    #[test]
    fn text_comes_back(rows in prop::collection::vec(prop::collection::vec(prop::option::of("[ -~\\n\\r\t\"é,]{0,12}"), 3), 1..6)) {
        let columns = ["a", "b", "c"].map(|name| column(name, DataType::Utf8)).to_vec();
        let arrays = (0..3).map(|at| {
            let texts = rows.iter().map(|row| row[at].clone());
            Arc::new(texts.collect::<arrow::array::StringArray>()) as arrow::array::ArrayRef
        });
        let spec = table(columns);
        let batch = RecordBatch::try_new(spec.schema(), arrays.collect()).unwrap();
        let times = vec![0; rows.len()].into();
        let changes = Changes::new(batch, times, None).unwrap();
        let mut out = EncodedValues::default();
        encoder(&options(&[]), &spec).unwrap().encode(&changes, &mut out).unwrap();
        let mut back = decoder(&options(&[]), &spec).unwrap();
        for (line, row) in out.iter().zip(&rows) {
            push(back.as_mut(), line).unwrap();
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
            let theirs: Vec<String> = reader.records().next().unwrap().unwrap().iter().map(str::to_string).collect();
            let ours: Vec<String> = row.iter().map(|field| field.clone().unwrap_or_default()).collect();
            prop_assert_eq!(theirs, ours);
        }
        let again = back.flush().unwrap().unwrap();
        prop_assert_eq!(again.rows(), changes.rows());
    }
}

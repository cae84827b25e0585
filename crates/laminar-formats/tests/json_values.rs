//! What each column type makes of a JSON value: one line a case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod support;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use laminar_core::format::Decoder;
use laminar_core::table::{Column, timestamp_type};
use laminar_formats::decoder;
use support::{cell, column, format_options, push, rows, table};

fn decoder_of(columns: Vec<Column>, options: &[(&str, &str)]) -> Box<dyn Decoder> {
    decoder(&format_options(options), &table(columns)).unwrap()
}

/// The cell that a message gives in a table of one column `a`, or the error.
fn read(column: Column, options: &[(&str, &str)], message: &[u8]) -> String {
    let mut decoder = decoder_of(vec![column], options);
    match push(decoder.as_mut(), message) {
        Ok(()) => cell(&rows(decoder.as_mut()), 0, 0),
        Err(error) => {
            assert!(decoder.flush().unwrap().is_none());
            format!("error: {error}")
        }
    }
}

#[track_caller]
fn check(data_type: DataType, value: &str, expected: &str) {
    let message = format!(r#"{{"a":{value}}}"#);
    assert_eq!(read(column("a", data_type), &[], message.as_bytes()), expected, "{value}");
}

#[track_caller]
fn check_error(data_type: DataType, value: &str, expected: &str) {
    check(data_type, value, &format!("error: {expected} (column a)"));
}

#[test]
fn integers() {
    use DataType::*;
    check(Int64, "9223372036854775807", "9223372036854775807");
    check(Int64, "-9223372036854775808", "-9223372036854775808");
    check_error(Int64, "9223372036854775808", "9223372036854775808 is out of range for BIGINT");
    check(UInt64, "18446744073709551615", "18446744073709551615");
    check_error(UInt64, "-1", "-1 is out of range for BIGINT UNSIGNED");
    check(Int8, "-128", "-128");
    check_error(Int8, "128", "128 is out of range for TINYINT");
    check(Int32, "-0", "0");
    check(Int32, "1.0", "1");
    check(Int32, "1e3", "1000");
    check(Int32, "12.50E1", "125");
    check_error(Int32, "1.5", "expected INT, found 1.5");
    check_error(Int32, "1e400", "1e400 is out of range for INT");
    check(Int32, "null", "NULL");
    check(Int32, r#""17""#, "17");
    check(Int32, r#""\u0031\u0037""#, "17");
    check_error(Int32, r#"" 17""#, r#"expected INT, found " 17""#);
    check_error(Int32, "true", "expected INT, found true");
    check_error(Int32, r#"[1, {"b":2}]"#, r#"expected INT, found [1, {"b":2}]"#);
    check_error(Int32, "01", "a number has a leading zero");
    check_error(Int32, "+1", "expected a value, found +");
    check_error(Int32, "-", "expected a digit, found }");
    check_error(Int32, "foo bar", "expected a value, found foo");
    check_error(Int32, "été", "expected a value, found été");
    check_error(Int32, "nul", "expected a value, found nul");
    let long = format!("\"{}\"", "x".repeat(60));
    check_error(Int32, &long, &format!("expected INT, found \"{}…", "x".repeat(39)));
}

#[test]
fn floats() {
    use DataType::*;
    check(Float64, "0.1", "0.1");
    check(Float64, "-0", "-0.0");
    check(Float64, "1.7976931348623157e308", "1.7976931348623157e308");
    check(Float64, "5e-324", "5e-324");
    check(Float64, "1e-400", "0.0");
    check(Float64, "123456789012345678", "1.2345678901234568e17");
    check_error(Float64, "1e400", "1e400 is out of range for DOUBLE");
    check(Float64, r#""NaN""#, "NaN");
    check(Float64, r#""-Infinity""#, "-inf");
    check(Float64, r#""2.5""#, "2.5");
    check_error(Float64, r#""inf""#, r#"expected DOUBLE, found "inf""#);
    check_error(Float64, "NaN", "expected a value, found NaN");
    check(Float32, "16777217", "16777216.0");
    check(Float32, "0.1", "0.1");
    check_error(Float32, "1e39", "1e39 is out of range for REAL");
}

#[test]
fn decimals_are_rounded_to_their_scale() {
    let decimal = DataType::Decimal128(6, 2);
    check(decimal.clone(), "1234.5", "1234.50");
    check(decimal.clone(), "1.005", "1.01");
    check(decimal.clone(), "-1.005", "-1.01");
    check(decimal.clone(), r#""0.07""#, "0.07");
    check(decimal.clone(), "1e-30", "0.00");
    check_error(decimal.clone(), "9999.995", "9999.995 is out of range for DECIMAL(6, 2)");
    check_error(decimal, "1e30", "1e30 is out of range for DECIMAL(6, 2)");
    let digits = "12345678901234567890123456789012345678";
    check(DataType::Decimal128(38, 0), digits, digits);
}

#[test]
fn booleans() {
    check(DataType::Boolean, "true", "true");
    check(DataType::Boolean, r#""false""#, "false");
    check_error(DataType::Boolean, "1", "expected BOOLEAN, found 1");
    check_error(DataType::Boolean, "tru", "expected a value, found tru");
}

#[test]
fn text_takes_a_string_or_any_value_as_written() {
    use DataType::Utf8;
    check(Utf8, r#""a\"b\\c\/d\b\f\n\r\té""#, "a\"b\\c/d\u{8}\u{c}\n\r\té");
    check(Utf8, r#""\u00e9\ud83d\ude00\u0000""#, "é😀\0");
    check(Utf8, "1.50", "1.50");
    check(Utf8, "true", "true");
    check(Utf8, r#"{"b": [1, "x"]}"#, r#"{"b": [1, "x"]}"#);
    check(Utf8, "null", "NULL");
    check_error(Utf8, r#""\ud83d""#, "a surrogate in a \\u escape without its other half");
    check_error(Utf8, r#""\ude00\ud83d""#, "a surrogate in a \\u escape without its other half");
    check_error(Utf8, r#""\x""#, "expected an escape such as \\n or \\u00e9, found x");
    check_error(Utf8, r#""\u12g4""#, "expected four hexadecimal digits, found g");
    check_error(Utf8, "\"a\nb\"", "control character 0x0a in a string must be escaped");
    let json = Column { json: true, ..column("a", Utf8) };
    assert_eq!(read(json.clone(), &[], br#"{"a": "x" }"#), r#""x""#);
    assert_eq!(read(json.clone(), &[], br#"{"a":{"b" : 1}}"#), r#"{"b" : 1}"#);
    assert_eq!(read(json, &[], br#"{"a":null}"#), "NULL");
}

#[test]
fn bytes_are_base64() {
    use DataType::Binary;
    check(Binary, r#""aGk/""#, "68693f");
    check(Binary, r#""-_-_""#, "fbffbf");
    check(Binary, r#""aA""#, "68");
    check(Binary, r#""aA==""#, "68");
    check(Binary, r#""""#, "");
    check_error(Binary, r#""a!""#, r#"expected BYTEA in base64, found "a!""#);
    check_error(Binary, "1", "expected BYTEA, found 1");
}

#[test]
fn times() {
    use DataType::*;
    check(timestamp_type(), "1700000000123", "2023-11-14T22:13:20.123");
    check(timestamp_type(), "1700000000123.4567", "2023-11-14T22:13:20.123456");
    check(timestamp_type(), r#""2023-11-14T23:13:20.123456+01:00""#, "2023-11-14T22:13:20.123456");
    check(timestamp_type(), r#""1700000000123""#, "2023-11-14T22:13:20.123");
    check_error(timestamp_type(), r#""soon""#, r#"expected TIMESTAMP, found "soon""#);
    check_error(timestamp_type(), "1e18", "1e18 is out of range for TIMESTAMP");
    let zoned = Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    check(zoned, r#""2023-11-14 22:13:20""#, "2023-11-14T22:13:20Z");
    for (format, value) in [
        ("unix_seconds", "1700000000.5"),
        ("unix_millis", "1700000000500"),
        ("unix_micros", "1700000000500000"),
        ("unix_nanos", "1700000000500000999"),
        ("unix_nanos", r#""2023-11-14T22:13:20.5Z""#),
        ("rfc3339", "1700000000500"),
    ] {
        let message = format!(r#"{{"a":{value}}}"#);
        let cell = read(column("a", timestamp_type()), &[("timestamp_format", format)], message.as_bytes());
        assert_eq!(cell, "2023-11-14T22:13:20.500", "{format}");
    }
    check(Date32, r#""2024-02-29""#, "2024-02-29");
    check(Date32, "19782", "2024-02-29");
    check_error(Date32, r#""2023-02-29""#, r#"expected DATE, found "2023-02-29""#);
    check(Time64(TimeUnit::Nanosecond), r#""23:59:59.123""#, "23:59:59.123");
    check(Time64(TimeUnit::Microsecond), "1000000", "00:00:01");
    check_error(Time64(TimeUnit::Microsecond), "86400000000", "expected TIME, found 86400000000");
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn fields(fields: &[(&str, DataType, bool)]) -> DataType {
    DataType::Struct(fields.iter().map(|(name, t, nullable)| Field::new(*name, t.clone(), *nullable)).collect())
}

fn map(value: DataType) -> DataType {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
}

#[test]
fn nested_columns() {
    use DataType::*;
    check(list(Int64), "[1, null ,3]", "[1, NULL, 3]");
    check(list(Int64), " [ ] ", "[]");
    check(list(list(Utf8)), r#"[["a"],null,[]]"#, "[[a], NULL, []]");
    check_error(list(Int64), "[1,]", "expected a value, found ]");
    check_error(list(Int64), "[1 2]", "expected , or ], found 2");
    check_error(list(Int64), "{}", "expected BIGINT[], found {}");
    let inner = fields(&[("x", Int64, true), ("Y", Utf8, false)]);
    check(inner.clone(), r#"{"Y":"q","z":{},"x":1}"#, "{x: 1, Y: q}");
    check(inner.clone(), r#"{"y":"q"}"#, "{x: NULL, Y: q}");
    check(inner.clone(), "null", "NULL");
    check(list(inner.clone()), r#"[{"y":"q"},null]"#, "[{x: NULL, Y: q}, NULL]");
    assert_eq!(
        read(column("a", inner.clone()), &[], br#"{"a":{"x":"?"}}"#),
        r#"error: expected BIGINT, found "?" (column a.x)"#
    );
    assert_eq!(read(column("a", inner), &[], br#"{"a":{}}"#), "error: no value for a NOT NULL column (column a.Y)");
    check(map(Int64), r#"{"k":1,"l":null}"#, "{k: 1, l: NULL}");
    check(map(Int64), r#"{"k":1,"l":2,"k":3}"#, "{k: 3, l: 2}");
    check(map(list(Int64)), r#"{"k":[1],"k":[2,3],"":[]}"#, "{k: [2, 3], : []}");
    assert_eq!(
        read(column("a", map(Int64)), &[], br#"{"a":{"k":true}}"#),
        "error: expected BIGINT, found true (column a.k)"
    );
}

/// Of equal keys the last wins, in the place of the first: in each row, on each level, and also next to records that are none.
#[test]
fn keys_of_a_map_that_come_twice() {
    let mut decoder = decoder_of(vec![column("a", map(map(DataType::Int64)))], &[]);
    let good = [
        (r#"{"x":{"k":1}}"#, "{x: {k: 1}}"),
        (r#"{"x":{"k":1},"y":{"k":2,"l":3,"k":4},"x":{"m":5,"m":6}}"#, "{x: {m: 6}, y: {k: 4, l: 3}}"),
        ("null", "NULL"),
        ("{}", "{}"),
        (r#"{"x":null,"x":{"k":1,"k":2,"k":3},"y":{}}"#, "{x: {k: 3}, y: {}}"),
        (r#"{"x":{"k":1},"x":null}"#, "{x: NULL}"),
        (r#"{"z":{"k":7}}"#, "{z: {k: 7}}"),
    ];
    for (value, _) in good {
        for bad in [r#"{"x":{"k":1,"k":2},"x":{"k":true}}"#, r#"{"x":{"k":1,"k":2},"x":{}}}"#] {
            push(decoder.as_mut(), format!(r#"{{"a":{bad}}}"#).as_bytes()).unwrap_err();
        }
        push(decoder.as_mut(), format!(r#"{{"a":{value}}}"#).as_bytes()).unwrap();
    }
    let batch = rows(decoder.as_mut());
    let cells: Vec<String> = (0..batch.num_rows()).map(|row| cell(&batch, 0, row)).collect();
    assert_eq!(cells, good.map(|(_, expected)| expected));
    push(decoder.as_mut(), br#"{"a":{"x":{"k":1}}}"#).unwrap();
    assert_eq!(cell(&rows(decoder.as_mut()), 0, 0), "{x: {k: 1}}");
}

#[track_caller]
fn check_row(columns: &[&str], message: &str, expected: &[&str]) {
    let mut decoder = decoder_of(columns.iter().map(|name| column(name, DataType::Int64)).collect(), &[]);
    push(decoder.as_mut(), message.as_bytes()).unwrap();
    let batch = rows(decoder.as_mut());
    let cells: Vec<_> = (0..columns.len()).map(|at| cell(&batch, at, 0)).collect();
    assert_eq!(cells, expected);
}

#[test]
fn fields_find_their_columns() {
    check_row(&["a", "b"], r#" { "b" : 2 , "a" : 1 } "#, &["1", "2"]);
    check_row(&["a", "b"], r#"{"a":1,"a":2}"#, &["2", "NULL"]);
    check_row(&["a", "b"], r#"{"A":1,"c":[{}]}"#, &["1", "NULL"]);
    check_row(&["a"], r#"{"a":1,"A":2}"#, &["1"]);
    check_row(&["a"], r#"{"A":2,"a":1}"#, &["1"]);
    check_row(&["a"], r#"{"A":2,"A":3}"#, &["3"]);
    check_row(&["a", "A"], r#"{"A":2,"a":1}"#, &["1", "2"]);
    check_row(&["straße"], r#"{"STRAßE":1}"#, &["1"]);
    check_row(&["a"], r#"{"\u0061":1}"#, &["1"]);
    check_row(&["a"], "{}", &["NULL"]);
}

#[test]
fn one_decoder_follows_changing_messages() {
    let mut decoder = decoder_of(vec![column("a", DataType::Int64), column("b", DataType::Int64)], &[]);
    let mut expected = Vec::new();
    for i in 0..3000i64 {
        let message = match i % 6 {
            0 => format!(r#"{{"a":{i},"b":1}}"#),
            1 => format!(r#"{{"b":1,"a":{i}}}"#),
            2 => format!(r#"{{"a": {i}, "key{i}": {{"x":[{i}]}}, "b": 1}}"#),
            3 => format!(r#"{{"a":{i},"a_rather_long_name_of_a_field":null,"b":1}}"#),
            4 => format!("{{\n  \"a\": {i},\n  \"b\": 1\n}}\n"),
            _ => format!(r#"{{"{}":0,"a":{i},"b":1}}"#, "k".repeat(300)),
        };
        push(decoder.as_mut(), message.as_bytes()).unwrap();
        assert!(push(decoder.as_mut(), &message.as_bytes()[..message.trim_end().len() - 1]).is_err());
        expected.push(i.to_string());
    }
    let batch = rows(decoder.as_mut());
    let cells: Vec<_> = (0..batch.num_rows()).map(|row| cell(&batch, 0, row)).collect();
    assert_eq!(cells, expected);
    assert!((0..batch.num_rows()).all(|row| cell(&batch, 1, row) == "1"));
}

#[track_caller]
fn check_message(message: &[u8], expected: &str) {
    assert_eq!(read(column("a", DataType::Int64), &[], message), format!("error: {expected}"));
}

#[test]
fn messages_that_are_not_one_object() {
    check_message(b"", "the value is empty");
    check_message(b" \n", "the value is empty");
    check_message(b"[1]", "expected an object ({), found [");
    check_message(b"17", "expected an object ({), found 1");
    check_message(b"\xef\xbb\xbf{}", "the value begins with a byte order mark; JSON is UTF-8 without one");
    check_message(b"{} {}", "the value holds more than one JSON object; a record is one object");
    check_message(b"{}x", "expected the end of the value, found x");
    check_message(b"{\"a\":1", "the value ends where , or } is expected");
    check_message(b"{\"a\":1,}", "expected a field name in quotes, found }");
    check_message(b"{\"a\"}", "expected :, found }");
    check_message(b"{'a':1}", "expected a field name in quotes, found '");
    check_message(b"{\"x\":\"\xff\"}", "the value is not UTF-8");
    check_message(b"{\"\xff\":1}", "the value is not UTF-8");
    check_message(b"{\"x\":\"\x01\"}", "control character 0x01 in a string must be escaped");
    check_message(b"{\"x\":\"abc", "the value ends inside a string");
    check_message(b"{\"x\":[1,{\"y\":tru}]}", "expected a value, found tru");
    check_message(b"{\"x\":\x001}", "expected a value, found byte 0x00");
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let column_a = || column("a", DataType::Int64);
    assert_eq!(read(column_a(), &[], nested(126).as_bytes()), "NULL");
    let error = "error: the value is nested deeper than 127 levels";
    assert_eq!(read(column_a(), &[], nested(127).as_bytes()), error);
    assert_eq!(read(column_a(), &[], nested(100_000).as_bytes()), error);
}

#[test]
fn columns_that_are_not_null() {
    let strict = || Column { nullable: false, ..column("a", DataType::Int64) };
    assert_eq!(read(strict(), &[], br#"{"a":1}"#), "1");
    assert_eq!(read(strict(), &[], br#"{"a":null}"#), "error: null in a NOT NULL column (column a)");
    assert_eq!(read(strict(), &[], b"{}"), "error: no value for a NOT NULL column (column a)");
}

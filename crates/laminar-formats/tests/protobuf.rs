//! `format = 'protobuf'` through the public door: which columns a field fills, what is refused and why, and what is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod support;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use laminar_core::connector::Role;
use laminar_core::format::{Decoder, EncodedValues};
use laminar_core::options::Options;
use laminar_core::table::{Column, timestamp_type};
use laminar_core::{Changes, Code, Result};
use laminar_formats::{FormatContext, FormatOptions, decoder, encoder, schema_columns};
use support::{column, format_options, push, record, show, table};

fn options(pairs: &[(&str, &str)]) -> FormatOptions {
    format_options(&[&[("format", "protobuf")], pairs].concat())
}

fn proto3(body: &str) -> String {
    format!("syntax = 'proto3';\n{body}")
}

fn reader(schema: &str, columns: Vec<Column>) -> Result<Box<dyn Decoder>> {
    decoder(&options(&[("protobuf.schema", schema)]), &table(columns))
}

#[track_caller]
fn check(schema: &str, columns: Vec<Column>, messages: &[&[u8]], expected: &[&str]) -> Changes {
    let mut decoder = reader(schema, columns).unwrap();
    for message in messages {
        push(decoder.as_mut(), message).unwrap();
    }
    let changes = decoder.flush().unwrap().unwrap();
    assert_eq!(show(changes.rows()), expected);
    changes
}

#[track_caller]
fn check_bad(schema: &str, columns: Vec<Column>, message: &[u8], expected: &str) {
    let mut decoder = reader(schema, columns).unwrap();
    push(decoder.as_mut(), &[]).unwrap();
    assert_eq!(push(decoder.as_mut(), message).unwrap_err().to_string(), expected);
    push(decoder.as_mut(), &[]).unwrap();
    assert_eq!(decoder.flush().unwrap().unwrap().num_rows(), 2);
}

#[track_caller]
fn check_refused(schema: &str, columns: Vec<Column>, expected: &str) {
    assert_eq!(format!("{:?}", reader(schema, columns).err().expect("refused")), expected);
}

#[test]
fn a_field_is_found_by_its_name_its_json_name_or_in_any_case() {
    let schema = proto3("message M { int32 id = 1; string userName = 2; string item_no = 3; }");
    let columns =
        vec![column("ID", DataType::Int32), column("username", DataType::Utf8), column("itemNo", DataType::Utf8)];
    check(&schema, columns, &[b"\x08\x05\x12\x01a\x1a\x01b"], &["5|a|b"]);
}

#[test]
fn integers_fill_what_they_are_told_to() {
    let schema = proto3("message M { int64 a = 1; int64 b = 2; sint32 c = 3; int32 d = 4; uint64 e = 5; }");
    let columns = vec![
        column("a", timestamp_type()),
        column("b", DataType::Decimal128(10, 2)),
        column("c", DataType::Int16),
        column("d", DataType::Date32),
        column("e", DataType::Int64),
    ];
    let message = b"\x08\xe8\x07\x10\x07\x18\x03\x20\x01\x28\x09";
    check(&schema, columns.clone(), &[message], &["1970-01-01T00:00:01|7.00|-2|1970-01-02|9"]);
    check_bad(&schema, columns.clone(), b"\x18\x80\x80\x04", "32768 is out of range for SMALLINT (column c)");
    let top = [0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    check_bad(&schema, columns, &top, "18446744073709551615 is out of range for BIGINT (column e)");
}

#[test]
fn text_fills_what_it_means() {
    let schema = proto3("message M { optional string a = 1; string b = 2; string c = 3; }");
    let columns = vec![
        column("a", DataType::Decimal128(10, 2)),
        column("b", timestamp_type()),
        Column { json: true, ..column("c", DataType::Utf8) },
    ];
    let message = b"\x0a\x05-1.50\x12\x142024-01-31T12:00:00Z\x1a\x07{\"a\":1}";
    check(&schema, columns.clone(), &[message, b""], &["-1.50|2024-01-31T12:00:00|{\"a\":1}", "||"]);
    check_bad(&schema, columns.clone(), b"\x0a\x01x", "expected DECIMAL(10, 2), found \"x\" (column a)");
    check_bad(
        &schema,
        columns.clone(),
        b"\x1a\x01{",
        "the text is not JSON: the value ends where a field name in quotes is expected (column c)",
    );
    check_bad(&schema, columns, b"\x1a\x01\xff", "the text is not UTF-8 (column c)");
}

#[test]
fn absent_is_null_or_the_default_as_the_schema_says() {
    let proto3 =
        proto3("message M { int32 a = 1; optional int32 b = 2; string c = 3; repeated int32 d = 4; M e = 5; }");
    let columns = || {
        vec![
            column("a", DataType::Int32),
            column("b", DataType::Int32),
            column("c", DataType::Utf8),
            column("d", DataType::List(Arc::new(Field::new("item", DataType::Int32, true)))),
            column("e", DataType::Struct(Fields::from(vec![Field::new("a", DataType::Int32, true)]))),
        ]
    };
    check(&proto3, columns(), &[b"", b"\x10\x00\x2a\x00"], &["0|||[]|", "0|0||[]|{a: 0}"]);
    let strict = vec![Column { nullable: false, ..column("b", DataType::Int32) }];
    let mut decoder = reader(&proto3, strict).unwrap();
    assert_eq!(push(decoder.as_mut(), b"").unwrap_err().to_string(), "no value for a NOT NULL column (column b)");
    let proto2 = "syntax = 'proto2'; enum C { X = 3; Y = 4; }
        message M { optional int32 a = 1 [default = -5]; optional string b = 2 [default = 'none']; optional C c = 3;
                    required int32 d = 4; optional C e = 5 [default = Y]; optional float f = 6 [default = 1.5]; }";
    let columns = vec![
        column("a", DataType::Int32),
        column("b", DataType::Utf8),
        column("c", DataType::Utf8),
        column("d", DataType::Int32),
        column("e", DataType::Utf8),
        column("f", DataType::Float64),
    ];
    check(proto2, columns.clone(), &[b"\x20\x01"], &["-5|none||1|Y|1.5"]);
    let mut decoder = reader(proto2, columns).unwrap();
    assert_eq!(push(decoder.as_mut(), b"\x08\x01").unwrap_err().to_string(), "a required field is missing (column d)");
}

#[test]
fn the_last_of_a_field_and_of_a_oneof_counts_and_messages_add_up() {
    let schema = proto3(
        "message M { message I { int32 x = 1; int32 y = 2; } int32 a = 1; oneof o { int32 b = 2; string c = 3; I d = 4; } I e = 5; }",
    );
    let inner = DataType::Struct(Fields::from(vec![
        Field::new("x", DataType::Int32, true),
        Field::new("y", DataType::Int32, true),
    ]));
    let all = || {
        vec![
            column("a", DataType::Int32),
            column("b", DataType::Int32),
            column("c", DataType::Utf8),
            column("d", inner.clone()),
            column("e", inner.clone()),
        ]
    };
    let messages: [&[u8]; 5] = [
        b"\x08\x01\x08\x02",
        b"\x10\x07\x1a\x01x",
        b"\x1a\x01x\x10\x07",
        b"\x22\x02\x08\x01\x10\x07\x22\x02\x10\x02",
        b"\x2a\x02\x08\x01\x08\x09\x2a\x02\x10\x02\x2a\x02\x08\x03",
    ];
    let expected = ["2||||", "0||x||", "0|7|||", "0|||{x: 0, y: 2}|", "9||||{x: 3, y: 2}"];
    check(&schema, all(), &messages, &expected);
    // A field of the oneof that nobody reads takes the place of one that is read.
    check(&schema, vec![column("b", DataType::Int32)], &[b"\x10\x07\x1a\x01x", b"\x1a\x01x\x10\x07"], &["", "7"]);
}

#[test]
fn two_halves_of_a_message_are_none() {
    let schema = proto3("message M { message S { int32 x = 2; } S s = 1; }");
    let columns = || vec![column("s", DataType::Struct(vec![Field::new("x", DataType::Int32, true)].into()))];
    // One behind the other the contents would be `x = 16`.
    check_bad(&schema, columns(), b"\x0a\x01\x10\x0a\x01\x10", "the value ends within a varint (column s)");
    check(&schema, columns(), &[b"\x0a\x02\x10\x01\x0a\x02\x10\x02"], &["{x: 2}"]);
}

#[test]
fn enums_are_names_or_numbers() {
    let schema = proto3("enum Colour { NONE = 0; RED = 1; } message M { Colour a = 1; repeated Colour b = 2; }");
    let names = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    check(
        &schema,
        vec![column("a", DataType::Utf8), column("b", names)],
        &[b"\x08\x01\x12\x03\x00\x01\x05", b""],
        &["RED|[NONE, RED, 5]", "NONE|[]"],
    );
    check(&schema, vec![column("a", DataType::Int32)], &[b"\x08\x01"], &["1"]);
}

#[test]
fn a_record_that_is_not_the_message_says_why() {
    let schema = proto3("message M { int32 a = 1; string b = 2; M m = 3; }");
    let inner = DataType::Struct(Fields::from(vec![Field::new("a", DataType::Int32, true)]));
    let columns = || vec![column("a", DataType::Int32), column("b", DataType::Utf8), column("m", inner.clone())];
    check_bad(&schema, columns(), b"{\"a\":1}", "a length of 97 bytes, and the message has 4 left");
    check_bad(
        &schema,
        columns(),
        b"\0\0\0\0\x01\0\x08\x01",
        "not a field: number 0 with wire type 0; it begins like a record whose schema is in a registry",
    );
    check_bad(&schema, columns(), b"\x0e", "not a field: number 1 with wire type 6; is this Protobuf?");
    check_bad(
        &schema,
        columns(),
        b"\x0a\x01x",
        "field 1 is bytes with a length, the schema says a varint: was it written with another schema? (column a)",
    );
    check_bad(&schema, columns(), b"\x08", "the value ends within a varint (column a)");
    check_bad(&schema, columns(), b"\x12\x05ab", "a length of 5 bytes, and the message has 2 left (column b)");
    check_bad(&schema, columns(), b"\x1a\x02\x08\x80", "the value ends within a varint (column m.a)");
    let mut decoder = reader(&schema, columns()).unwrap();
    let error = decoder.push(&record(None)).unwrap_err();
    assert_eq!(error.to_string(), "the record has no value (a tombstone), so it is not Protobuf");
}

#[test]
fn columns_are_checked_against_the_schema() {
    let schema = proto3(
        "import 'google/protobuf/any.proto'; message M { int32 amount = 1; repeated string tags = 2; map<string, M> kids = 3; google.protobuf.Any any = 4; uint64 big = 5; }",
    );
    check_refused(
        &schema,
        vec![column("amuont", DataType::Int32)],
        "unknown_column: message M has no field for column amuont (hint: did you mean amount?)",
    );
    check_refused(
        &schema,
        vec![column("amount", DataType::Utf8)],
        "type_mismatch: column amount of type TEXT does not fit the field, which is int32 (hint: declare it INT)",
    );
    check_refused(
        &schema,
        vec![column("tags", DataType::Utf8)],
        "type_mismatch: column tags of type TEXT does not fit the field, which is repeated string (hint: declare it TEXT[])",
    );
    check_refused(
        &schema,
        vec![column("kids", DataType::Utf8)],
        "type_mismatch: column kids of type TEXT does not fit the field, which is map<string, M>",
    );
    check_refused(
        &schema,
        vec![column("any", DataType::Utf8)],
        "type_mismatch: column any of type TEXT does not fit the field, which is google.protobuf.Any (hint: declare it STRUCT<type_url TEXT, value BYTEA>)",
    );
    check_refused(
        &schema,
        vec![column("amount", DataType::Int32), column("AMOUNT", DataType::Int64)],
        "duplicate_column: columns amount and AMOUNT are the same field of M",
    );
    check_refused(
        "syntax = 'proto2'; message M { optional group G = 1 { optional int32 a = 1; } }",
        vec![column("g", DataType::Int32)],
        "not_supported: column g means a group, which Protobuf gave up and which is not read",
    );
    let error = decoder(&options(&[]), &table(vec![column("a", DataType::Int32)])).err().unwrap();
    assert_eq!(
        format!("{error:?}"),
        "missing_option: format protobuf needs option protobuf.schema \
         (hint: add 'protobuf.schema' = 'syntax = \"proto3\"; message …', or 'protobuf.descriptor' = 'file')"
    );
    let twice = options(&[("protobuf.schema", &schema), ("protobuf.message", "M"), ("protobuf.message_type", "N")]);
    assert!(twice.check_table(Role::Source, &table(vec![column("amount", DataType::Int32)])).is_err());
    let json = Options::from_pairs([("protobuf.message", "M")]).parse::<FormatOptions>("format").unwrap();
    let error = json.check(&table(vec![column("amount", DataType::Int32)])).unwrap_err();
    assert_eq!(format!("{error:?}"), "conflicting_options: option protobuf.message is not for format json");
}

/// What is written for the rows that JSON objects describe, one value each.
fn written(schema: &str, columns: &[Column], rows: &[&str]) -> Result<Vec<Vec<u8>>> {
    let spec = table(columns.to_vec());
    let mut json = decoder(&FormatOptions::default(), &spec).unwrap();
    rows.iter().for_each(|row| push(json.as_mut(), row.as_bytes()).unwrap());
    let changes = json.flush().unwrap().unwrap();
    let mut out = EncodedValues::default();
    encoder(&options(&[("protobuf.schema", schema)]), &spec)?.encode(&changes, &mut out)?;
    Ok(out.iter().map(<[u8]>::to_vec).collect())
}

#[test]
fn rows_are_written_as_the_schema_says() {
    let schema = proto3(
        "import 'google/protobuf/timestamp.proto'; enum Colour { NONE = 0; RED = 1; }
         message M { int32 a = 1; optional int32 b = 2; repeated sint32 c = 3; map<string, int32> d = 4; Colour e = 5;
                     google.protobuf.Timestamp f = 6; string g = 7; int64 h = 8; message I { string s = 1; } I i = 9; }",
    );
    let columns = [
        column("a", DataType::Int32),
        column("b", DataType::Int32),
        column("c", DataType::List(Arc::new(Field::new("item", DataType::Int32, true)))),
        column("e", DataType::Utf8),
        column("f", timestamp_type()),
        column("g", DataType::Decimal128(10, 2)),
        column("h", timestamp_type()),
        column("i", DataType::Struct(Fields::from(vec![Field::new("s", DataType::Utf8, true)]))),
    ];
    let long = "x".repeat(200);
    let rows = [
        r#"{"a":0,"b":0}"#.to_string(),
        r#"{"a":1,"c":[-1,1],"e":"RED","f":1500,"g":"1.5","h":"1970-01-01T00:00:01Z"}"#.to_string(),
        format!(r#"{{"i":{{"s":"{long}"}}}}"#),
    ];
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let mut third = b"\x4a\xcb\x01\x0a\xc8\x01".to_vec();
    third.extend(long.bytes());
    let second = b"\x08\x01\x1a\x02\x01\x02\x28\x01\x32\x08\x08\x01\x10\x80\xca\xb5\xee\x01\x3a\x041.50\x40\xe8\x07";
    assert_eq!(written(&schema, &columns, &rows).unwrap(), [b"\x10\x00".to_vec(), second.to_vec(), third]);
}

#[test]
fn a_time_that_does_not_fit_is_refused_and_no_other_time_written() {
    let schema = proto3("message M { int64 at = 1; }");
    let spec = table(vec![column("at", timestamp_type())]);
    let nanos = options(&[("protobuf.schema", &schema), ("timestamp_format", "unix_nanos")]);
    let write = |rows: &[&str]| {
        let mut json = decoder(&FormatOptions::default(), &spec).unwrap();
        rows.iter().for_each(|row| push(json.as_mut(), row.as_bytes()).unwrap());
        let mut out = EncodedValues::default();
        encoder(&nanos, &spec)?.encode(&json.flush().unwrap().unwrap(), &mut out).map(|()| out.bytes)
    };
    assert_eq!(write(&[r#"{"at":"1970-01-01T00:00:00.000001Z"}"#]).unwrap(), b"\x08\xe8\x07");
    let error = write(&[r#"{"at":"2300-01-01T00:00:00Z"}"#]).unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "invalid_value: column at cannot be written: 10413792000000000000 is out of range for its field"
    );
}

#[track_caller]
fn check_unwritable(schema: &str, column: Column, row: &str, expected: &str) {
    let error = written(schema, &[column], &[row]).expect_err("refused");
    assert_eq!(format!("{error:?}"), expected);
}

#[test]
fn what_protobuf_cannot_say_is_refused() {
    let schema = proto3("import 'google/protobuf/struct.proto'; enum Colour { NONE = 0; RED = 1; }
        message M { message I { int32 n = 1; } int32 a = 1; repeated string b = 2; Colour c = 3; google.protobuf.Struct d = 4; I e = 5; int64 f = 6; }");
    let texts = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let inner = DataType::Struct(Fields::from(vec![Field::new("n", DataType::Int64, true)]));
    let json = Column { json: true, ..column("d", DataType::Utf8) };
    check_unwritable(
        &schema,
        column("a", DataType::Int64),
        r#"{"a":3000000000}"#,
        "invalid_value: column a cannot be written: 3000000000 is out of range for its field",
    );
    check_unwritable(
        &schema,
        column("b", texts),
        r#"{"b":["x",null]}"#,
        "invalid_value: column b cannot be written: an item of the array is null, and Protobuf has none such",
    );
    check_unwritable(
        &schema,
        column("c", DataType::Utf8),
        r#"{"c":"GREEN"}"#,
        "invalid_value: column c cannot be written: 'GREEN' is none of NONE, RED",
    );
    check_unwritable(
        &schema,
        json,
        r#"{"d":[1]}"#,
        "invalid_value: column d cannot be written: it is not a JSON object, and its field is a Struct",
    );
    check_unwritable(
        &schema,
        column("e", inner),
        r#"{"e":{"n":3000000000}}"#,
        "invalid_value: column e.n cannot be written: 3000000000 is out of range for its field",
    );
    check_unwritable(
        &schema,
        column("f", DataType::Decimal128(10, 2)),
        r#"{"f":1.5}"#,
        "invalid_value: column f cannot be written: it has digits behind the point, and its field is an integer",
    );
    check_unwritable(
        "syntax = 'proto2'; message M { optional int32 a = 1; required int32 b = 2; }",
        column("a", DataType::Int32),
        r#"{"a":1}"#,
        "type_mismatch: field b of message M is required, and the table has no column for it",
    );
}

/// Thirty messages of two fields, each of the next message: 2^30 columns in 2 KB.
#[test]
fn a_schema_that_multiplies_makes_no_columns_without_end() {
    let message = |at: usize| format!("message M{at} {{ M{0} a = 1; M{0} b = 2; }}\n", at + 1);
    let schema = proto3(&((0..30).map(message).collect::<String>() + "message M30 { int32 a = 1; }"));
    let pairs = [("protobuf.schema", schema.as_str()), ("protobuf.message", "M0")];
    let error = schema_columns(&options(&pairs), &FormatContext::default()).unwrap_err();
    assert_eq!(error.code(), Code::NotSupported);
    assert!(error.to_string().contains("more than 10000 fields"), "{error}");
    // Nor does the hint of a column that does not fit.
    let error = decoder(&options(&pairs), &table(vec![column("a", DataType::Utf8)])).err().unwrap();
    assert_eq!(format!("{error:?}"), "type_mismatch: column a of type TEXT does not fit the field, which is M1");
}

/// The bytes of field 1, a message, with the given content; the length may be long.
fn within(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x0a];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(content);
    out
}

/// Each level has its message twice, the first with all that is further down: 2^30 readings, if each were read where it stands and
/// again with the second.
#[test]
fn messages_that_come_twice_on_each_level_are_read_once() {
    let schema = proto3("message M { M m = 1; int32 a = 2; }");
    let mut inner = DataType::Int32;
    let mut message = b"\x10\x07".to_vec();
    for at in 0..30 {
        let mut fields = vec![Field::new("a", DataType::Int32, true)];
        if at > 0 {
            fields.push(Field::new("m", inner, true));
        }
        inner = DataType::Struct(fields.into());
        message = [within(&message), within(b"")].concat();
    }
    let mut decoder = reader(&schema, vec![column("m", inner)]).unwrap();
    push(decoder.as_mut(), &message).unwrap();
    let shown = show(decoder.flush().unwrap().unwrap().rows());
    assert!(shown[0].contains("{a: 7}"), "{shown:?}");
}

/// Of equal keys the last wins, on each of many levels of MAPs: without reading what is in them again for each.
#[test]
fn maps_within_maps_with_repeated_keys_are_read_once() {
    let levels = 25;
    let mut body = format!("message M{levels} {{ map<string, int32> m = 1; }}\n");
    (0..levels).for_each(|at| body += &format!("message M{at} {{ map<string, M{}> m = 1; }}\n", at + 1));
    let schema = proto3(&body);
    let map = |value: DataType| {
        let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
    };
    let mut data_type = map(DataType::Int32);
    let (mut message, mut expected) = (within(b"\x0a\x01k\x10\x07"), "{k: 7}".to_string());
    for _ in 0..levels {
        data_type = map(DataType::Struct(vec![Field::new("m", data_type, true)].into()));
        let entry = |key: &str, value: &[u8]| {
            let value = within(value);
            within(&[within(key.as_bytes()).as_slice(), &[0x12], &value[1..]].concat())
        };
        message = [entry("b", &[]), entry("a", &message), entry("b", &[])].concat();
        expected = format!("{{b: {{m: {{}}}}, a: {{m: {expected}}}}}");
    }
    let options = options(&[("protobuf.schema", &schema), ("protobuf.message", "M0")]);
    let mut decoder = decoder(&options, &table(vec![column("m", data_type)])).unwrap();
    for _ in 0..2 {
        push(decoder.as_mut(), &message).unwrap();
    }
    assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), [expected.as_str(), &expected]);
}

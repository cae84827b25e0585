//! Records of one schema, columns of another: what a table reads of records older and newer than it.

use apache_avro::types::Value;
use arrow::datatypes::{DataType, Field};
use laminar_core::Result;
use laminar_core::format::{DecodeError, FaultKind};
use laminar_core::table::Column;
use laminar_formats::decoder_with;
use laminar_formats::registry::{RegistryOptions, SchemaKind};
use std::sync::Arc;

use crate::support::*;

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), body].concat()
}

fn schema(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#)
}

/// The rows of one record written with `writer`, while the registry's newest schema is `newest`.
fn evolved(columns: Vec<Column>, writer: &str, value: Value, newest: &str) -> Result<String> {
    Ok(read_evolved(columns, writer, value, newest)?.unwrap_or_else(|error| format!("error: {error}")))
}

fn read_evolved(
    columns: Vec<Column>,
    writer: &str,
    value: Value,
    newest: &str,
) -> Result<std::result::Result<String, DecodeError>> {
    let registry = Arc::new(Memory::default());
    let id = registry.add("t-value", SchemaKind::Avro, &schema(writer));
    registry.add("t-value", SchemaKind::Avro, &schema(newest));
    let ctx = registry.context(RegistryOptions { register: true, ..RegistryOptions::default() });
    let mut decoder = decoder_with(&options(&[]), &table(columns), &ctx)?;
    let bytes = framed(id, &theirs(&schema(writer), value));
    Ok(push(decoder.as_mut(), Some(&bytes)).map(|()| text(&rows(decoder.as_mut()))))
}

fn a_and_b() -> Vec<Column> {
    vec![column("a", DataType::Int64), column("b", DataType::Utf8)]
}

const A: &str = r#"{"name":"a","type":"long"}"#;
const B: &str = r#"{"name":"b","type":"string"}"#;

#[test]
fn a_field_that_was_added_has_its_default_in_older_records() {
    let value = || record(&[("a", Value::Long(1))]);
    let with_default = format!(r#"{A},{{"name":"b","type":"string","default":"none"}}"#);
    assert_eq!(evolved(a_and_b(), A, value(), &with_default).unwrap(), "1|none");
    let nullable = format!(r#"{A},{{"name":"b","type":["null","string"],"default":null}}"#);
    assert_eq!(evolved(a_and_b(), A, value(), &nullable).unwrap(), "1|NULL");
    assert_eq!(evolved(a_and_b(), A, value(), A).unwrap(), "1|NULL");
    let required = vec![column("a", DataType::Int64), Column { nullable: false, ..column("b", DataType::Utf8) }];
    let error = read_evolved(required, A, value(), A).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the record's schema has no such field, and the column is NOT NULL (column b)");
    assert_eq!(error.kind, FaultKind::Constraint);
}

#[test]
fn defaults_of_every_shape() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let columns = |data_type: DataType| vec![column("a", DataType::Int64), column("b", data_type)];
    let check = |data_type: DataType, avro: &str, default: &str, expected: &str| {
        let newest = format!(r#"{A},{{"name":"b","type":{avro},"default":{default}}}"#);
        let row = evolved(columns(data_type), A, record(&[("a", Value::Long(1))]), &newest).unwrap();
        assert_eq!(row, format!("1|{expected}"), "{avro}");
    };
    check(DataType::Int32, r#""int""#, "-3", "-3");
    check(DataType::Float64, r#""double""#, "0.5", "0.5");
    check(DataType::Boolean, r#""boolean""#, "true", "true");
    check(DataType::Binary, r#""bytes""#, r#""\u00ff\u0000""#, "ff00");
    check(DataType::Utf8, r#"{"type":"enum","name":"e","symbols":["X","Y"]}"#, r#""Y""#, "Y");
    check(list, r#"{"type":"array","items":"long"}"#, "[1,2]", "[1, 2]");
    let fields = DataType::Struct(vec![Field::new("x", DataType::Int32, true)].into());
    check(fields, r#"{"type":"record","name":"i","fields":[{"name":"x","type":"int","default":9}]}"#, "{}", "{x: 9}");
}

/// The default is a record with a part that no column reads: how to step over that part is the reader's schema's to say, and the
/// writer's has other records in its place, or none.
#[test]
fn a_default_may_have_parts_that_no_column_reads() {
    let unread = r#"{"name":"u","type":{"type":"record","name":"unread","fields":[{"name":"x","type":"string"}]}}"#;
    let newest = format!(
        r#"{A},{{"name":"b","type":{{"type":"record","name":"i","fields":[{unread},{{"name":"y","type":"int"}}]}},
            "default":{{"u":{{"x":"text"}},"y":5}}}}"#
    );
    let columns = || {
        let inner = DataType::Struct(vec![Field::new("y", DataType::Int32, true)].into());
        vec![column("a", DataType::Int64), column("b", inner)]
    };
    assert_eq!(evolved(columns(), A, record(&[("a", Value::Long(1))]), &newest).unwrap(), "1|{y: 5}");
    let other = r#"{"name":"o","type":{"type":"record","name":"other","fields":[{"name":"z","type":"long"}]}}"#;
    let value = record(&[("a", Value::Long(1)), ("o", record(&[("z", Value::Long(300))]))]);
    assert_eq!(evolved(columns(), &format!("{A},{other}"), value, &newest).unwrap(), "1|{y: 5}");
}

#[test]
fn a_default_that_does_not_fit_says_which_column() {
    let columns = vec![
        column("a", DataType::Int64),
        column("b", DataType::Struct(vec![Field::new("y", DataType::Int8, true)].into())),
    ];
    let inner = r#"{"type":"record","name":"i","fields":[{"name":"y","type":"int"}]}"#;
    let newest = format!(r#"{A},{{"name":"b","type":{inner},"default":{{"y":300}}}}"#);
    let error = "error: its default: 300 is out of range for TINYINT (column b.y)";
    assert_eq!(evolved(columns, A, record(&[("a", Value::Long(1))]), &newest).unwrap(), error);
}

#[test]
fn a_field_that_was_removed_is_skipped_or_null() {
    let value = record(&[("b", Value::String("x".into())), ("a", Value::Long(1))]);
    let both = format!("{B},{A}");
    assert_eq!(evolved(vec![column("a", DataType::Int64)], &both, value, A).unwrap(), "1");
    assert_eq!(evolved(a_and_b(), A, record(&[("a", Value::Long(1))]), A).unwrap(), "1|NULL");
}

#[test]
fn a_field_that_was_renamed_is_found_by_its_alias() {
    let older = format!(r#"{A},{{"name":"old","type":"string"}}"#);
    let newest = format!(r#"{A},{{"name":"b","aliases":["old"],"type":"string"}}"#);
    let value = record(&[("a", Value::Long(1)), ("old", Value::String("x".into()))]);
    assert_eq!(evolved(a_and_b(), &older, value, &newest).unwrap(), "1|x");
}

#[test]
fn a_nested_field_evolves_too() {
    let nested = |fields: &str| format!(r#"{{"name":"n","type":{}}}"#, schema(fields).replace(r#""r""#, r#""n""#));
    let columns = vec![column(
        "n",
        DataType::Struct(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)].into()),
    )];
    let newest = nested(&format!(r#"{A},{{"name":"b","type":"string","default":"none"}}"#));
    let value = record(&[("n", record(&[("a", Value::Long(1))]))]);
    assert_eq!(evolved(columns, &nested(A), value, &newest).unwrap(), "{a: 1, b: none}");
}

#[test]
fn promoted_types() {
    let check = |data_type: DataType, older: &str, value: Value, newer: &str, expected: &str| {
        let field = |avro: &str| format!(r#"{{"name":"a","type":{avro}}}"#);
        let row = evolved(vec![column("a", data_type)], &field(older), record(&[("a", value)]), &field(newer)).unwrap();
        assert_eq!(row, expected, "{older} to {newer}");
    };
    check(DataType::Int64, r#""int""#, Value::Int(1), r#""long""#, "1");
    check(DataType::Float32, r#""int""#, Value::Int(1), r#""float""#, "1.0");
    check(DataType::Float64, r#""long""#, Value::Long(1), r#""double""#, "1.0");
    check(DataType::Float64, r#""float""#, Value::Float(1.5), r#""double""#, "1.5");
    check(DataType::Binary, r#""string""#, Value::String("a".into()), r#""bytes""#, "61");
    check(DataType::Utf8, r#""bytes""#, Value::Bytes(b"a".to_vec()), r#""string""#, "a");
    check(DataType::Int64, r#""long""#, Value::Long(1), r#"["null","long"]"#, "1");
}

#[test]
fn names_match_exactly_before_they_match_without_case() {
    let both = r#"{"name":"A","type":"long"},{"name":"a","type":"long"}"#;
    let value = || record(&[("A", Value::Long(1)), ("a", Value::Long(2))]);
    let one = |name: &str| vec![column(name, DataType::Int64)];
    assert_eq!(evolved(one("a"), both, value(), both).unwrap(), "2");
    assert_eq!(
        evolved(vec![column("a", DataType::Int64), column("A", DataType::Int64)], both, value(), both).unwrap(),
        "2|1"
    );
    let upper = r#"{"name":"USER_ID","type":"long"}"#;
    assert_eq!(evolved(one("user_id"), upper, record(&[("USER_ID", Value::Long(7))]), upper).unwrap(), "7");
}

#[test]
fn a_given_schema_is_the_readers() {
    let registry = Arc::new(Memory::default());
    let id = registry.add("t-value", SchemaKind::Avro, &schema(A));
    let ctx = registry.context(RegistryOptions::default());
    let reader = schema(&format!(r#"{A},{{"name":"b","type":"string","default":"given"}}"#));
    let mut decoder = decoder_with(&options(&[("avro.schema", &reader)]), &table(a_and_b()), &ctx).unwrap();
    push(decoder.as_mut(), Some(&framed(id, &theirs(&schema(A), record(&[("a", Value::Long(1))]))))).unwrap();
    assert_eq!(text(&rows(decoder.as_mut())), "1|given");
}

//! `debezium_avro`: envelopes of Debezium's shape to changes, and changes to envelopes.

use apache_avro::types::Value;
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use laminar_core::format::{Decoder, EncodedValues};
use laminar_core::options::Options;
use laminar_core::table::TableSpec;
use laminar_core::{ChangeKind, Changes, Code, Kinds};
use laminar_formats::registry::RegistryOptions;
use laminar_formats::{FormatContext, FormatOptions, decoder_with, encoder_with};
use std::sync::Arc;

use crate::support::*;

/// As Debezium's connector for PostgreSQL registers it, shortened.
const ENVELOPE: &str = r#"{"type":"record","name":"Envelope","namespace":"pg.shop.orders","fields":[
    {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
        {"name":"id","type":"long"},{"name":"name","type":["null","string"],"default":null},{"name":"extra","type":"int"}]}],"default":null},
    {"name":"after","type":["null","Value"],"default":null},
    {"name":"source","type":{"type":"record","name":"Source","fields":[{"name":"db","type":"string"},{"name":"lsn","type":["null","long"]}]}},
    {"name":"op","type":"string"},
    {"name":"ts_ms","type":["null","long"],"default":null}]}"#;

fn debezium(pairs: &[(&str, &str)]) -> FormatOptions {
    Options::from_pairs([("format", "debezium_avro")].iter().chain(pairs).copied()).parse("format").unwrap()
}

fn orders() -> TableSpec {
    table(vec![column("id", DataType::Int64), column("name", DataType::Utf8)])
}

fn decoder() -> Box<dyn Decoder> {
    decoder_with(&debezium(&[("avro.schema", ENVELOPE)]), &orders(), &FormatContext::default()).unwrap()
}

fn envelope(before: Option<(i64, &str)>, after: Option<(i64, &str)>, op: &str) -> Vec<u8> {
    let image = |row: Option<(i64, &str)>| match row {
        None => Value::Union(0, Box::new(Value::Null)),
        Some((id, name)) => Value::Union(
            1,
            Box::new(record(&[
                ("id", Value::Long(id)),
                ("name", Value::Union(1, Box::new(Value::String(name.into())))),
                ("extra", Value::Int(9)),
            ])),
        ),
    };
    let source = record(&[("db", Value::String("shop".into())), ("lsn", Value::Union(1, Box::new(Value::Long(4))))]);
    theirs(
        ENVELOPE,
        record(&[
            ("before", image(before)),
            ("after", image(after)),
            ("source", source),
            ("op", Value::String(op.into())),
            ("ts_ms", Value::Union(0, Box::new(Value::Null))),
        ]),
    )
}

fn seen(changes: &Changes) -> String {
    let signs =
        (0..changes.num_rows()).map(|row| match changes.kinds().map_or(ChangeKind::Insert, |kinds| kinds.get(row)) {
            ChangeKind::Insert => "+",
            ChangeKind::Delete => "-",
            ChangeKind::UpdateBefore => "u-",
            ChangeKind::UpdateAfter => "u+",
        });
    signs.zip(text(changes.rows()).split("; ")).map(|(sign, row)| format!("{sign}{row}")).collect::<Vec<_>>().join("; ")
}

#[test]
fn envelopes_are_changes() {
    let mut decoder = decoder();
    for bytes in [
        envelope(None, Some((1, "a")), "c"),
        envelope(None, Some((2, "b")), "r"),
        envelope(Some((1, "a")), Some((1, "z")), "u"),
        envelope(Some((2, "b")), None, "d"),
    ] {
        push(decoder.as_mut(), Some(&bytes)).unwrap();
    }
    // Debezium's tombstone after a delete.
    push(decoder.as_mut(), None).unwrap();
    assert_eq!(seen(&decoder.flush().unwrap().unwrap()), "+1|a; +2|b; u-1|a; u+1|z; -2|b");
}

#[test]
fn half_an_envelope_is_a_bad_record_and_leaves_nothing() {
    let mut decoder = decoder();
    let cases = [
        (envelope(None, Some((1, "a")), "u"), "op is u and before is missing"),
        (envelope(Some((1, "a")), None, "u"), "op is u and after is missing"),
        (envelope(None, None, "d"), "op is d and before is missing"),
        (envelope(None, Some((1, "a")), "x"), "op is x, expected c, r, u or d"),
        (envelope(None, Some((1, "a")), "c").into_iter().chain([0]).collect(), "1 bytes follow the record"),
        (envelope(Some((1, "a")), Some((2, "b")), "u")[..20].to_vec(), "the value ends too early"),
    ];
    for (bytes, expected) in cases {
        push(decoder.as_mut(), Some(&envelope(None, Some((7, "x")), "c"))).unwrap();
        let error = push(decoder.as_mut(), Some(&bytes)).unwrap_err();
        assert!(error.message.contains(expected), "{error}");
        assert_eq!(seen(&decoder.flush().unwrap().unwrap()), "+7|x");
    }
    let plain = r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"}]}"#;
    let options = debezium(&[("avro.schema", plain)]);
    let error = decoder_with(&options, &orders(), &FormatContext::default()).err().unwrap();
    assert_eq!(error.code(), Code::InvalidSchema);
}

#[test]
fn changes_are_envelopes_and_come_back() {
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 1, 1, 2])) as _, true),
        ("name", Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), Some("z"), None])) as _, true),
    ])
    .unwrap();
    use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let kinds: Kinds = [Insert, Insert, UpdateBefore, UpdateAfter, Delete].into_iter().collect();
    let changes = Changes::new(rows, vec![0i64; 5].into(), Some(kinds)).unwrap();
    let registry = Arc::new(Memory::default());
    let ctx = registry.context(RegistryOptions { register: true, ..RegistryOptions::default() });
    let written = |table: &TableSpec| {
        let mut encoder = encoder_with(&debezium(&[]), table, &ctx).unwrap();
        let mut out = EncodedValues::default();
        encoder.encode(&changes, &mut out).unwrap();
        let mut decoder = decoder_with(&debezium(&[]), &orders(), &ctx).unwrap();
        out.iter().for_each(|value| push(decoder.as_mut(), Some(value)).unwrap());
        seen(&decoder.flush().unwrap().unwrap())
    };
    assert_eq!(written(&orders()), "+1|a; +2|NULL; u-1|a; u+1|z; -2|NULL");
    let keyed = TableSpec { primary_key: vec!["id".into()], ..orders() };
    assert_eq!(written(&keyed), "+1|z");
    let schema = registry.texts().remove("t-value").unwrap();
    assert!(schema.contains(r#""name":"Envelope""#) && schema.contains(r#""namespace":"t""#), "{schema}");
}

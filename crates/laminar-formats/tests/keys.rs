//! Keys whose schema is registered: what a sink writes, byte for byte, and that an upsert source reads it from a tombstone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

#[path = "avro/registry.rs"]
#[allow(dead_code)] // how often it was asked does not matter here
mod registry;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use laminar_core::format::{DecodeError, Decoder, EncodedValues};
use laminar_core::source::RawRecord;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Changes, Code};
use laminar_formats::registry::{RegistryOptions, SchemaKind, SubjectStrategy};
use laminar_formats::{FormatContext, KeyForm, key_encoder, upsert_decoder_with};

use registry::Memory;
use support::{column, format_options, record};

const FORMS: [KeyForm; 3] = [KeyForm::Avro, KeyForm::Protobuf, KeyForm::FramedJson];

fn table(names: &[&str], key: &[&str]) -> TableSpec {
    let of = |name: &&str| if *name == "id" { DataType::Int64 } else { DataType::Utf8 };
    let columns = names.iter().map(|name| Column { nullable: false, ..column(name, of(name)) });
    let primary_key = key.iter().map(ToString::to_string).collect();
    TableSpec { name: "people".into(), primary_key, ..support::table(columns.collect()) }
}

/// The keys of two rows, `(1, "a")` and `(2, "b")`.
fn keys(form: KeyForm, ctx: &FormatContext) -> Vec<Vec<u8>> {
    let spec = table(&["id", "place"], &["id", "place"]);
    let (ids, places) = (Int64Array::from(vec![1, 2]), StringArray::from(vec!["a", "b"]));
    let rows = RecordBatch::try_new(spec.schema(), vec![Arc::new(ids), Arc::new(places)]).unwrap();
    let mut out = EncodedValues::default();
    let changes = Changes::inserts(rows, vec![0i64; 2].into()).unwrap();
    key_encoder(form, &spec, ctx).unwrap().encode(&changes, &mut out).unwrap();
    out.iter().map(<[u8]>::to_vec).collect()
}

fn decoder(spec: &TableSpec, form: KeyForm, ctx: &FormatContext) -> laminar_core::Result<Box<dyn Decoder>> {
    upsert_decoder_with(&format_options(&[("format", "json")]), spec, Some(form), ctx)
}

fn push(decoder: &mut dyn Decoder, key: Option<&[u8]>, value: Option<&str>) -> Result<(), DecodeError> {
    decoder.push(&RawRecord { key, ..record(value.map(str::as_bytes)) })
}

fn show(changes: &Changes) -> Vec<String> {
    let kind = |row| changes.kinds().map_or("Insert".to_string(), |kinds| format!("{:?}", kinds.get(row)));
    support::show(changes.rows()).iter().enumerate().map(|(row, cells)| format!("{} {cells}", kind(row))).collect()
}

#[test]
fn a_key_is_a_record_of_its_columns_under_its_own_subject() {
    let bodies: [&[u8]; 3] =
        [b"\0\0\0\0\0\x02\x02a", b"\0\0\0\0\0\0\x08\x01\x12\x01a", b"\0\0\0\0\0{\"id\":1,\"place\":\"a\"}"];
    for (form, expected) in FORMS.into_iter().zip(bodies) {
        let registry = Arc::new(Memory::default());
        let found = keys(form, &registry.context(RegistryOptions::default()));
        assert_eq!(found.first().unwrap(), expected, "{form:?}");
        assert_eq!(registry.texts().keys().collect::<Vec<_>>(), ["t-key"]);
    }
    let subject = |options: RegistryOptions| {
        let registry = Arc::new(Memory::default());
        keys(KeyForm::Avro, &registry.context(options));
        registry.texts().into_keys().next().unwrap()
    };
    let named = |strategy| RegistryOptions { strategy, value_subject: Some("v".into()), ..RegistryOptions::default() };
    assert_eq!(subject(RegistryOptions { key_subject: Some("k".into()), ..named(SubjectStrategy::RecordName) }), "k");
    assert_eq!(subject(named(SubjectStrategy::TopicName)), "t-key");
    assert_eq!(subject(named(SubjectStrategy::RecordName)), "people_key");
    assert_eq!(subject(named(SubjectStrategy::TopicRecordName)), "t-people_key");
}

#[test]
fn a_tombstone_takes_away_the_row_of_its_key() {
    for form in FORMS {
        let registry = Arc::new(Memory::default());
        let ctx = registry.context(RegistryOptions::default());
        let written = keys(form, &ctx);
        // In another order than in the key's schema, and with a column between them.
        let spec = table(&["place", "v", "id"], &["id", "place"]);
        let mut decoder = decoder(&spec, form, &ctx).unwrap();
        push(decoder.as_mut(), None, Some(r#"{"id":1,"place":"a","v":"x"}"#)).unwrap();
        push(decoder.as_mut(), Some(&written[1]), None).unwrap();
        let mut cut = written[0].clone();
        cut.pop();
        for key in [None, Some(&b"1"[..]), Some(&b"{\"id\":1,\"place\":\"a\"}"[..]), Some(&cut)] {
            let error = push(decoder.as_mut(), key, None).unwrap_err();
            assert!(error.message.starts_with("in the key: ") && error.outage().is_none(), "{form:?}: {error:?}");
        }
        push(decoder.as_mut(), Some(&written[0]), None).unwrap();
        assert_eq!(
            show(&decoder.flush().unwrap().unwrap()),
            ["Insert a|x|1", "Delete b||2", "Delete a||1"],
            "{form:?}"
        );
    }
}

#[test]
fn a_registry_that_is_away_is_not_the_keys_fault() {
    let registry = Arc::new(Memory::default());
    let ctx = registry.context(RegistryOptions::default());
    let written = keys(KeyForm::Avro, &ctx);
    let mut decoder = decoder(&table(&["id", "place"], &["id", "place"]), KeyForm::Avro, &ctx).unwrap();
    registry.down.store(true, Ordering::SeqCst);
    let error = push(decoder.as_mut(), Some(&written[0]), None).unwrap_err();
    assert_eq!(error.outage().unwrap().code(), Code::Unreachable);
    registry.down.store(false, Ordering::SeqCst);
    push(decoder.as_mut(), Some(&written[0]), None).unwrap();
    assert_eq!(show(&decoder.flush().unwrap().unwrap()), ["Delete 1|a"]);
}

/// Its writer may have more fields, fewer, or others of the same meaning: as with values.
#[test]
fn the_keys_schema_may_change() {
    let registry = Arc::new(Memory::default());
    let older = r#"{"type":"record","name":"k","fields":[{"name":"id","type":"int"},{"name":"gone","type":"string"}]}"#;
    let newer = r#"{"type":"record","name":"k","fields":[{"name":"id","type":"long"},
        {"name":"place","type":"string","default":"home"}]}"#;
    let old = registry.add("t-key", SchemaKind::Avro, older);
    registry.add("t-key", SchemaKind::Avro, newer);
    let ctx = registry.context(RegistryOptions::default());
    let mut decoder = decoder(&table(&["id", "place"], &["id", "place"]), KeyForm::Avro, &ctx).unwrap();
    let key = [&[0], old.to_be_bytes().as_slice(), b"\x0e\x02x"].concat();
    push(decoder.as_mut(), Some(&key), None).unwrap();
    assert_eq!(show(&decoder.flush().unwrap().unwrap()), ["Delete 7|home"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let registry = Arc::new(Memory::default());
    let ctx = registry.context(RegistryOptions::default());
    for form in FORMS {
        let spec = table(&["id", "v"], &["id"]);
        let error = decoder(&spec, form, &FormatContext::default()).map(drop).unwrap_err();
        assert_eq!((error.code(), error.field()), (Code::MissingOption, Some("schema_registry.endpoint")));
        let mut of_metadata = table(&["v", "id"], &["id"]);
        of_metadata.columns[1].metadata = Some("offset".into());
        assert_eq!(decoder(&of_metadata, form, &ctx).map(drop).unwrap_err().code(), Code::ConflictingOptions);
    }
}

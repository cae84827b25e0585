//! Records that name their schema: several schemas in one batch, ids that nobody knows, a registry that is away.

use apache_avro::types::Value;
use arrow::datatypes::DataType;
use laminar_core::Code;
use laminar_core::format::Decoder;
use laminar_formats::registry::{RegistryOptions, SchemaKind, SubjectStrategy};
use laminar_formats::{FormatContext, decoder_with};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::*;

const ONE: &str = r#"{"type":"record","name":"ns.r","fields":[{"name":"a","type":"long"}]}"#;
const TWO: &str =
    r#"{"type":"record","name":"ns.r","fields":[{"name":"b","type":"string"},{"name":"a","type":"int"}]}"#;

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), body].concat()
}

fn one(a: i64) -> Vec<u8> {
    theirs(ONE, record(&[("a", Value::Long(a))]))
}

fn decoder(registry: &Arc<Memory>) -> Box<dyn Decoder> {
    let ctx = registry.context(RegistryOptions::default());
    decoder_with(&options(&[]), &table(vec![column("a", DataType::Int64)]), &ctx).unwrap()
}

#[test]
fn records_of_several_schemas_share_a_batch() {
    let registry = Arc::new(Memory::default());
    let first = registry.add("t-value", SchemaKind::Avro, ONE);
    let second = registry.add("t-value", SchemaKind::Avro, TWO);
    let mut decoder = decoder(&registry);
    let two = theirs(TWO, record(&[("b", Value::String("x".into())), ("a", Value::Int(2))]));
    for _ in 0..3 {
        push(decoder.as_mut(), Some(&framed(first, &one(1)))).unwrap();
        push(decoder.as_mut(), Some(&framed(second, &two))).unwrap();
    }
    assert_eq!(text(&rows(decoder.as_mut())), "1; 2; 1; 2; 1; 2");
    let asked = registry.asked.load(Ordering::SeqCst);
    push(decoder.as_mut(), Some(&framed(second, &two))).unwrap();
    assert_eq!(registry.asked.load(Ordering::SeqCst), asked, "a schema that is known is asked for again");
}

#[test]
fn what_is_wrong_with_a_frame_is_the_records_fault() {
    let registry = Arc::new(Memory::default());
    let id = registry.add("t-value", SchemaKind::Avro, ONE);
    let proto = registry.add("t-value", SchemaKind::Protobuf, "syntax = 'proto3';");
    let wrong = registry.add(
        "t-value",
        SchemaKind::Avro,
        r#"{"type":"record","name":"r","fields":[{"name":"a","type":"string"}]}"#,
    );
    let broken = registry.add("t-value", SchemaKind::Avro, "{");
    let mut decoder = decoder(&registry);
    let cases = [
        (b"{\"a\":1}".to_vec(), "the value begins with byte 0x7b, not 0x00"),
        (vec![], "the value is empty"),
        (vec![0, 0], "the value ends within its schema id"),
        (framed(77, &one(1)), "no such schema"),
        (framed(proto, &one(1)), "is Protobuf, and the table reads Avro"),
        (framed(wrong, &one(1)), "an Avro string cannot fill a column of type BIGINT"),
        (framed(broken, &one(1)), "is not Avro"),
        (framed(id, &[]), "the value ends too early"),
        (framed(id, &[2, 2]), "1 bytes follow the record"),
        (framed(id, &[0xff; 12]), "an integer is longer than 64 bits"),
    ];
    for (bytes, expected) in cases {
        push(decoder.as_mut(), Some(&framed(id, &one(1)))).unwrap();
        let error = push(decoder.as_mut(), Some(&bytes)).unwrap_err();
        assert!(error.message.contains(expected), "{error}");
        assert_eq!(error.outage(), None, "{error}");
        push(decoder.as_mut(), Some(&framed(id, &one(2)))).unwrap();
        assert_eq!(text(&rows(decoder.as_mut())), "1; 2");
    }
}

#[test]
fn an_outage_is_nobodys_fault_and_passes() {
    let registry = Arc::new(Memory::default());
    let id = registry.add("t-value", SchemaKind::Avro, ONE);
    let mut decoder = decoder(&registry);
    registry.down.store(true, Ordering::SeqCst);
    let error = push(decoder.as_mut(), Some(&framed(id, &one(1)))).unwrap_err();
    assert_eq!(error.outage().map(|error| error.code()), Some(Code::Unreachable));
    registry.down.store(false, Ordering::SeqCst);
    push(decoder.as_mut(), Some(&framed(id, &one(1)))).unwrap();
    assert_eq!(text(&rows(decoder.as_mut())), "1");
}

#[test]
fn an_unknown_id_may_become_known() {
    let registry = Arc::new(Memory::default());
    registry.add("t-value", SchemaKind::Avro, ONE);
    let mut decoder = decoder(&registry);
    push(decoder.as_mut(), Some(&framed(0, &one(1)))).unwrap();
    let before = registry.asked.load(Ordering::SeqCst);
    for _ in 0..100 {
        push(decoder.as_mut(), Some(&framed(1, &one(1)))).unwrap_err();
    }
    assert_eq!(registry.asked.load(Ordering::SeqCst), before + 1, "once a batch");
    assert_eq!(text(&rows(decoder.as_mut())), "1");
    registry.add("t-value", SchemaKind::Avro, TWO);
    let two = theirs(TWO, record(&[("b", Value::String("x".into())), ("a", Value::Int(2))]));
    push(decoder.as_mut(), Some(&framed(1, &two))).unwrap();
    assert_eq!(text(&rows(decoder.as_mut())), "2");
}

#[test]
fn an_unknown_id_may_become_known_though_no_record_was_good() {
    let registry = Arc::new(Memory::default());
    let mut decoder = decoder(&registry);
    push(decoder.as_mut(), Some(&framed(0, &one(1)))).unwrap_err();
    assert!(decoder.flush().unwrap().is_none());
    registry.add("t-value", SchemaKind::Avro, ONE);
    push(decoder.as_mut(), Some(&framed(0, &one(1)))).unwrap();
}

#[test]
fn noise_hides_no_schema_that_is_new() {
    let registry = Arc::new(Memory::default());
    registry.add("t-value", SchemaKind::Avro, ONE);
    let mut decoder = decoder(&registry);
    for round in 0..2 {
        let before = registry.asked.load(Ordering::SeqCst);
        for id in (1..=5000).chain(1..=1000) {
            push(decoder.as_mut(), Some(&framed(id, &one(1)))).unwrap_err();
        }
        // Those of which is known that they are unknown are not asked for twice, and of these not without end.
        assert_eq!(registry.asked.load(Ordering::SeqCst) - before, 5000);
        push(decoder.as_mut(), Some(&framed(0, &one(round)))).unwrap();
        assert_eq!(decoder.flush().unwrap().unwrap().num_rows(), 1);
    }
}

#[test]
fn framing_follows_the_options() {
    let registry = Arc::new(Memory::default());
    let ctx = registry.context(RegistryOptions::default());
    let columns = || table(vec![column("a", DataType::Int64)]);
    let off = options(&[("avro.confluent_schema_registry", "false"), ("avro.schema", ONE)]);
    let mut plain = decoder_with(&off, &columns(), &ctx).unwrap();
    push(plain.as_mut(), Some(&one(5))).unwrap();
    assert_eq!(text(&rows(plain.as_mut())), "5");
    let code = |pairs: &[(&str, &str)], ctx: &FormatContext| {
        decoder_with(&options(pairs), &columns(), ctx).err().map(|error| error.code())
    };
    let none = FormatContext::default();
    assert_eq!(code(&[("avro.confluent_schema_registry", "true")], &none), Some(Code::MissingOption));
    assert_eq!(code(&[], &none), Some(Code::MissingOption));
    assert_eq!(code(&[("avro.schema", "{")], &none), Some(Code::InvalidSchema));
    let confluent = |pairs: &[(&str, &str)]| {
        laminar_core::Options::from_pairs([("format", "confluent_avro")].iter().chain(pairs).copied())
            .parse("f")
            .unwrap()
    };
    let code = |options, ctx: &FormatContext| decoder_with(&options, &columns(), ctx).err().map(|error| error.code());
    assert_eq!(code(confluent(&[]), &none), Some(Code::MissingOption));
    assert_eq!(code(confluent(&[]), &ctx), None);
    let off = confluent(&[("avro.confluent_schema_registry", "false")]);
    assert_eq!(code(off, &ctx), Some(Code::ConflictingOptions));
}

#[test]
fn subjects_are_named_by_the_strategy() {
    let registry = Arc::new(Memory::default());
    let subject = |options: RegistryOptions| registry.context(options).registry.unwrap().subject("ns.r");
    let strategy = |strategy| subject(RegistryOptions { strategy, ..RegistryOptions::default() });
    assert_eq!(strategy(SubjectStrategy::TopicName), "t-value");
    assert_eq!(strategy(SubjectStrategy::RecordName), "ns.r");
    assert_eq!(strategy(SubjectStrategy::TopicRecordName), "t-ns.r");
    assert_eq!(subject(RegistryOptions { value_subject: Some("s".into()), ..RegistryOptions::default() }), "s");
}

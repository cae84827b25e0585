//! Every kind of poison fails as its own record, in bounded time and memory, and no good neighbour is lost or changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod poison;
#[path = "avro/registry.rs"]
#[allow(dead_code)] // whether it was asked does not matter here
mod registry;
mod support;

use std::sync::Arc;

use arrow::datatypes::DataType;
use laminar_core::format::Decoder;
use laminar_core::options::Options;
use laminar_core::table::{Column, TableSpec};
use laminar_formats::registry::{RegistryOptions, SchemaKind};
use laminar_formats::{decoder, decoder_with};
use support::{column, push, record};

const SCHEMA: &str = "syntax = 'proto3'; message M { int64 id = 1; string name = 2; double price = 3; }";

/// `id BIGINT NOT NULL, name TEXT, price DOUBLE`
fn table() -> TableSpec {
    let id = Column { nullable: false, ..column("id", DataType::Int64) };
    support::table(vec![id, column("name", DataType::Utf8), column("price", DataType::Float64)])
}

fn check(pairs: &[(&str, &str)], good: &[u8]) {
    let format = pairs.first().map(|(_, format)| *format).unwrap();
    let options = Options::from_pairs(pairs.iter().copied()).parse("format").unwrap();
    check_kinds(poison::of(format, good), good, || decoder(&options, &table()).unwrap());
}

/// Good, poison, good, for each kind; what is left is what there would be without the poison.
fn check_kinds(kinds: Vec<poison::Poison>, good: &[u8], decoder: impl Fn() -> Box<dyn Decoder>) {
    let (mut clean, mut poisoned, mut lonely) = (decoder(), decoder(), decoder());
    let mut bad = 0;
    for poison in kinds {
        let value = poison.value.as_deref();
        let alone = lonely.push(&record(value));
        lonely.flush().unwrap();
        push(poisoned.as_mut(), good).unwrap();
        push(clean.as_mut(), good).unwrap();
        let error = poisoned.push(&record(value));
        assert_eq!(error.is_err(), alone.is_err(), "{}: neighbours decide whether it is good", poison.name);
        assert!(error.is_err() || !poison.sure, "{}: it is no record and yet taken", poison.name);
        match error {
            Err(error) => {
                bad += 1;
                assert!(!error.message.is_empty() && error.message.len() < 500, "{}: {error}", poison.name);
                assert!(
                    error.offset.is_none_or(|at| at <= value.unwrap_or_default().len()),
                    "{}: {error:?}",
                    poison.name
                );
            }
            // Damaged, and yet a record, as a prefix of a Protobuf message is.
            Ok(()) => clean.push(&record(value)).unwrap(),
        }
        push(poisoned.as_mut(), good).unwrap();
        push(clean.as_mut(), good).unwrap();
    }
    assert!(bad >= 200, "only {bad} kinds of poison");
    assert_eq!(poisoned.len(), clean.len());
    let (poisoned, clean) = (poisoned.flush().unwrap().unwrap(), clean.flush().unwrap().unwrap());
    assert_eq!(poisoned.rows(), clean.rows());
}

#[test]
fn json() {
    check(
        &[("format", "json")],
        br#"{"id":1234567890,"name":"an \"escaped\" \u00e9 name of some length","price":-12.5e-3}"#,
    );
}

#[test]
fn csv() {
    let good = format!("1234567890,\"a \"\"quoted\"\", {} name\",-12.5e-3", "very ".repeat(30));
    check(&[("format", "csv")], good.as_bytes());
}

#[test]
fn protobuf() {
    let mut good = b"\x08\xd2\x85\xd8\xcc\x04".to_vec();
    // 120 letters: cut anywhere within, the length says more than there is.
    good.extend(b"\x12\x78");
    good.extend(b"name ".repeat(24));
    good.extend(b"\x19\x9a\x99\x99\x99\x99\x99\x89\xbf");
    check(&[("format", "protobuf"), ("protobuf.schema", SCHEMA)], &good);
}

const AVRO: &str = r#"{"type":"record","name":"M","fields":[{"name":"id","type":"long"},
    {"name":"name","type":["null","string"]},{"name":"price","type":["null","double"]}]}"#;

fn good_avro() -> Vec<u8> {
    let mut good = b"\xa4\x8b\xb0\x99\x09".to_vec();
    good.extend(b"\x02\xf0\x01");
    good.extend(b"name ".repeat(24));
    good.extend(b"\x02\x9a\x99\x99\x99\x99\x99\x89\xbf");
    good
}

#[test]
fn avro() {
    check(&[("format", "avro"), ("avro.schema", AVRO)], &good_avro());
}

#[test]
fn framed_avro() {
    let registry = Arc::new(registry::Memory::default());
    // Not the first, whose id is that of a record full of zeros.
    let other = registry.add("other", SchemaKind::Avro, r#"{"type":"record","name":"N","fields":[]}"#);
    let id = registry.add("t-value", SchemaKind::Avro, AVRO);
    assert_eq!((other, id), (0, 1));
    let strange = [
        registry.add("t-value-2", SchemaKind::Protobuf, SCHEMA),
        registry.add("t-value-3", SchemaKind::Avro, &AVRO.replace("\"long\"", "\"string\"")),
        registry.add("t-value-4", SchemaKind::Avro, "{"),
        other,
    ];
    let framed = |id: u32, body: &[u8]| [&[0], id.to_be_bytes().as_slice(), body].concat();
    let good = framed(id, &good_avro());
    let mut kinds = poison::of("framed_avro", &good);
    for strange in strange {
        let value = Some(framed(strange, &good_avro()));
        kinds.push(poison::Poison { name: format!("the id of schema {strange}"), value, sure: true });
    }
    let options = Options::from_pairs([("format", "avro")]).parse("format").unwrap();
    check_kinds(kinds, &good, || {
        decoder_with(&options, &table(), &registry.context(RegistryOptions::default())).unwrap()
    });
}

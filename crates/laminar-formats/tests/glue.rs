//! Records framed as AWS Glue's own serialisers do, over a registry in memory: the same bodies behind another frame, as they are or
//! compressed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod support;

use std::sync::{Arc, Mutex};

use arrow::datatypes::DataType;
use laminar_core::format::{DecodeError, EncodedValues};
use laminar_core::options::Options;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{ChangeKind, Changes, Code, Error, Result};
use laminar_formats::registry::{
    Framing, Part, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaRegistry, SchemaText, TableRegistry,
};
use laminar_formats::{
    FormatContext, FormatOptions, KeyForm, decoder, decoder_with, encoder_with, key_encoder, upsert_encoder_with,
};
use proptest::prelude::*;
use support::{column, format_options as format, push, show};

/// Versions of schemas, whose UUIDs are [`uuid`] of their numbers.
#[derive(Debug, Default)]
struct Glue(Mutex<Vec<(String, RegisteredSchema)>>);

fn uuid(number: usize) -> u128 {
    (0xb7b4_a7f0_9c96_4e4a_a687_fb5d_e9ef_0c00) + number as u128
}

impl Glue {
    fn add(&self, name: &str, kind: SchemaKind, text: &str) -> SchemaId {
        let mut all = self.0.lock().unwrap();
        let id = SchemaId::Version(uuid(all.len()));
        all.push((name.into(), RegisteredSchema { id, kind, text: text.into(), references: Vec::new() }));
        id
    }
    fn search(&self, is: impl Fn(&str, &RegisteredSchema) -> bool) -> Result<Arc<RegisteredSchema>> {
        let all = self.0.lock().unwrap();
        let found = all.iter().rev().find(|(name, schema)| is(name, schema));
        found.map(|(_, s)| Arc::new(s.clone())).ok_or_else(|| Error::new(Code::UnknownSchema, "no such schema"))
    }
    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }
}

impl SchemaRegistry for Glue {
    fn schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>> {
        self.search(|_, schema| schema.id == id)
    }
    fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>> {
        self.search(|name, _| name == subject)
    }
    fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        match self.find(subject, schema) {
            Err(error) if error.code() == Code::UnknownSchema => Ok(self.add(subject, schema.kind, &schema.text)),
            found => found,
        }
    }
    fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        self.search(|name, known| name == subject && known.text == schema.text).map(|schema| schema.id)
    }
    fn framing(&self) -> Framing {
        Framing::Glue
    }
}

fn context(registry: &Arc<Glue>, compression: &str) -> FormatContext {
    let pairs = [
        ("schema_registry.type", "glue"),
        ("schema_registry.region", "eu-west-1"),
        ("schema_registry.compression", compression),
    ];
    let options: RegistryOptions = Options::from_pairs(pairs).parse("registry").unwrap();
    options.check().unwrap();
    FormatContext {
        registry: Some(TableRegistry { registry: registry.clone(), part: Part::Value, topic: "t".into(), options }),
    }
}

/// `id BIGINT NOT NULL, name TEXT`
fn table() -> TableSpec {
    let id = Column { nullable: false, ..column("id", DataType::Int64) };
    TableSpec { name: "r".into(), ..support::table(vec![id, column("name", DataType::Utf8)]) }
}

/// A frame and a body.
fn framed(number: usize, compression: u8, body: &[u8]) -> Vec<u8> {
    [&[3, compression], uuid(number).to_be_bytes().as_slice(), body].concat()
}

fn rows(of: &[&str]) -> Changes {
    let mut json = decoder(&FormatOptions::default(), &table()).unwrap();
    of.iter().for_each(|row| push(json.as_mut(), row.as_bytes()).unwrap());
    json.flush().unwrap().unwrap()
}

fn list(values: &EncodedValues) -> Vec<Vec<u8>> {
    values.iter().map(<[u8]>::to_vec).collect()
}

fn written(options: &FormatOptions, ctx: &FormatContext, changes: &Changes) -> Vec<Vec<u8>> {
    let mut encoder = encoder_with(options, &table(), ctx).unwrap();
    let mut out = EncodedValues::default();
    encoder.encode(changes, &mut out).unwrap();
    let values = list(&out);
    // Buffers are reused, frames and compressors too.
    out.clear();
    encoder.encode(changes, &mut out).unwrap();
    assert_eq!(list(&out), values);
    values
}

fn read_back(options: &FormatOptions, ctx: &FormatContext, values: &[Vec<u8>]) -> Vec<String> {
    let mut decoder = decoder_with(options, &table(), ctx).unwrap();
    values.iter().for_each(|value| push(decoder.as_mut(), value).unwrap());
    show(decoder.flush().unwrap().unwrap().rows())
}

/// What a sink writes, byte for byte, and that a source reads it, compressed or not.
fn check(format_options: &[(&str, &str)], bodies: [&[u8]; 2]) {
    let registry = Arc::new(Glue::default());
    let options = format(format_options);
    let changes = rows(&[r#"{"id":1,"name":"ada"}"#, r#"{"id":2,"name":null}"#]);
    let plain = context(&registry, "none");
    let values = written(&options, &plain, &changes);
    assert_eq!(values, bodies.map(|body| framed(0, 0, body)));
    assert_eq!(registry.names(), ["t"], "Glue's schemas have the topic's name");
    assert_eq!(read_back(&options, &plain, &values), ["1|ada", "2|"]);
    let zlib = context(&registry, "zlib");
    let compressed = written(&options, &zlib, &changes);
    for (value, body) in compressed.iter().zip(bodies) {
        assert_eq!(value[..18], framed(0, 5, b""));
        assert_eq!(miniz_oxide::inflate::decompress_to_vec_zlib(&value[18..]).unwrap(), body);
    }
    // A source reads both, whatever its options say of sinks.
    let both = [values, compressed].concat();
    assert_eq!(read_back(&options, &plain, &both), ["1|ada", "2|", "1|ada", "2|"]);
}

#[test]
fn avro() {
    check(&[("format", "avro")], [b"\x02\x02\x06ada", b"\x04\0"]);
}

#[test]
fn json() {
    check(&[("format", "confluent_json")], [br#"{"id":1,"name":"ada"}"#, br#"{"id":2,"name":null}"#]);
}

#[test]
fn protobuf() {
    check(&[("format", "protobuf"), ("protobuf.message", "M")], [b"\0\x08\x01\x12\x03ada", b"\0\x08\x02"]);
}

/// Glue numbers the messages of a file by their names, and writes the number as it is.
#[test]
fn a_message_is_found_by_its_number() {
    let text = "syntax = 'proto3'; package s; message Row { int64 id = 1; optional string name = 2; message In {} }
        message Alpha { int32 x = 1; }";
    let message = [("format", "protobuf"), ("protobuf.message", "s.Row"), ("protobuf.schema", text)];
    check(&message, [b"\x01\x08\x01\x12\x03ada", b"\x01\x08\x02"]);
    let registry = Arc::new(Glue::default());
    registry.add("t", SchemaKind::Protobuf, text);
    let mut decoder = decoder_with(&format(&message), &table(), &context(&registry, "none")).unwrap();
    let fault = |result: std::result::Result<(), DecodeError>| result.unwrap_err().to_string();
    assert_eq!(fault(push(decoder.as_mut(), &framed(0, 0, b"\0"))), "the record is a s.Alpha, the table reads s.Row");
    assert_eq!(
        fault(push(decoder.as_mut(), &framed(0, 0, b"\x02"))),
        "the record is a s.Row.In, the table reads s.Row"
    );
    assert_eq!(fault(push(decoder.as_mut(), &framed(0, 0, b"\x03"))), "the schema has no message number 3");
    push(decoder.as_mut(), &framed(0, 0, b"\x01\x08\x05")).unwrap();
    push(decoder.as_mut(), &framed(0, 0, b"\x01\x08\x06")).unwrap();
    assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), ["5|", "6|"]);
}

#[test]
fn what_is_wrong_is_the_records_fault() {
    let registry = Arc::new(Glue::default());
    let avro = r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"name","type":"string"}]}"#;
    registry.add("t", SchemaKind::Avro, avro);
    registry.add("u", SchemaKind::Json, "{}");
    let mut decoder = decoder_with(&format(&[("format", "avro")]), &table(), &context(&registry, "none")).unwrap();
    let body = b"\x02\x06ada";
    let compressed = miniz_oxide::deflate::compress_to_vec_zlib(body, 6);
    let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 65 << 20], 6);
    let cases = [
        (b"{\"a\":1}".to_vec(), "begins with byte 0x7b, not 0x03"),
        ([&[0, 0, 0, 0, 1], body.as_slice()].concat(), "Confluent"),
        (framed(0, 5, body), "not compressed by zlib"),
        (framed(0, 5, &compressed[..compressed.len() - 1]), "ends within its compressed body"),
        (framed(0, 5, &bomb), "longer than 64 MB"),
        (framed(0, 1, body), "the compression is 1"),
        (framed(7, 0, body), "no such schema"),
        (framed(1, 0, body), "b7b4a7f0-9c96-4e4a-a687-fb5de9ef0c01 is JSON Schema, and the table reads Avro"),
        (framed(0, 0, &body[..3]), "ends too early"),
        (framed(0, 5, &miniz_oxide::deflate::compress_to_vec_zlib(&body[..3], 6)), "ends too early"),
        (framed(0, 0, b"")[..17].to_vec(), "ends within the UUID"),
    ];
    for (value, expected) in cases {
        push(decoder.as_mut(), &framed(0, 0, body)).unwrap();
        let error = push(decoder.as_mut(), &value).unwrap_err();
        assert!(error.message.contains(expected) && error.outage().is_none(), "{expected}: {error:?}");
        push(decoder.as_mut(), &framed(0, 5, &compressed)).unwrap();
        assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), ["1|ada", "1|ada"]);
    }
    // The other framing says whose record it is.
    let numbers = FormatContext {
        registry: Some(TableRegistry {
            registry: Arc::new(Numbers),
            part: Part::Value,
            topic: "t".into(),
            options: RegistryOptions::default(),
        }),
    };
    let mut decoder = decoder_with(&format(&[("format", "avro")]), &table(), &numbers).unwrap();
    let error = push(decoder.as_mut(), &framed(0, 0, body)).unwrap_err();
    assert!(error.message.contains("schema_registry.type = 'glue'"), "{error}");
}

/// A registry of Confluent's protocol, without a schema.
#[derive(Debug)]
struct Numbers;

impl SchemaRegistry for Numbers {
    fn schema(&self, _: SchemaId) -> Result<Arc<RegisteredSchema>> {
        Err(Error::new(Code::UnknownSchema, "no such schema"))
    }
    fn latest(&self, _: &str) -> Result<Arc<RegisteredSchema>> {
        Err(Error::new(Code::UnknownSchema, "no such schema"))
    }
    fn register(&self, _: &str, _: &SchemaText) -> Result<SchemaId> {
        Ok(1.into())
    }
    fn find(&self, _: &str, _: &SchemaText) -> Result<SchemaId> {
        Ok(1.into())
    }
}

proptest! {
    /// Whatever is changed in a record, it is a row or a bad record, and its neighbours stay what they are.
    #[test]
    fn damage_stays_in_its_record(at in 0usize..60, byte: u8, cut in 0usize..60, zlib: bool) {
        let registry = Arc::new(Glue::default());
        let (options, ctx) = (format(&[("format", "avro")]), context(&registry, if zlib { "zlib" } else { "none" }));
        let good = written(&options, &ctx, &rows(&[r#"{"id":1,"name":"ada"}"#])).remove(0);
        let mut bad = good.clone();
        bad.truncate(good.len().saturating_sub(cut % good.len()));
        if let Some(found) = bad.get_mut(at % good.len()) {
            *found = byte;
        }
        let mut decoder = decoder_with(&options, &table(), &ctx).unwrap();
        push(decoder.as_mut(), &good).unwrap();
        let read = push(decoder.as_mut(), &bad);
        prop_assert!(read.as_ref().err().is_none_or(|error| error.outage().is_none()));
        push(decoder.as_mut(), &good).unwrap();
        let found = show(decoder.flush().unwrap().unwrap().rows());
        prop_assert_eq!(found.len(), if read.is_ok() { 3 } else { 2 });
        prop_assert_eq!([found.first().unwrap(), found.last().unwrap()], ["1|ada", "1|ada"]);
        // A checksum finds what changed in a body.
        prop_assert!(!zlib || bad == good || read.is_err() || bad.get(..18) != good.get(..18));
    }
}

/// Partitions and compaction compare the bytes of keys, which must not depend on a compressor.
#[test]
fn keys_are_never_compressed() {
    let registry = Arc::new(Glue::default());
    let ctx = context(&registry, "zlib");
    let mut keys = EncodedValues::default();
    let changes = rows(&[r#"{"id":1,"name":"ada"}"#]);
    key_encoder(KeyForm::Avro, &table(), &ctx).unwrap().encode(&changes, &mut keys).unwrap();
    assert_eq!(list(&keys), [framed(0, 0, b"\x02\x02\x06ada")]);
    assert_eq!(registry.names(), ["t-key"]);
}

#[test]
fn updates_and_deletes_are_compressed_each_by_itself() {
    let registry = Arc::new(Glue::default());
    let ctx = context(&registry, "zlib");
    let keyed = TableSpec { primary_key: vec!["id".into()], ..table() };
    let inserts = rows(&[r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":"b"}"#, r#"{"id":1,"name":"a"}"#]);
    let kinds = [ChangeKind::Insert, ChangeKind::Insert, ChangeKind::Delete].into_iter().collect();
    let changes = Changes::new(inserts.rows().clone(), inserts.times().clone(), Some(kinds)).unwrap();
    let mut out = EncodedValues::default();
    upsert_encoder_with(&format(&[("format", "avro")]), &keyed, &ctx).unwrap().encode(&changes, &mut out).unwrap();
    let alive: Vec<_> = (0..out.len()).filter(|at| !out.is_tombstone(*at)).map(|at| out.get(at).to_vec()).collect();
    assert_eq!(read_back(&format(&[("format", "avro")]), &ctx, &alive), ["2|b"]);
    let mut out = EncodedValues::default();
    let debezium = format(&[("format", "debezium_avro")]);
    encoder_with(&debezium, &table(), &ctx).unwrap().encode(&inserts, &mut out).unwrap();
    assert_eq!(read_back(&debezium, &ctx, &list(&out)), ["1|a", "2|b", "1|a"]);
}

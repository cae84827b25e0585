//! Protobuf and JSON framed with the ids of registered schemas, over a registry in memory: which schema a record is read with, what is
//! the record's fault and what is the registry's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field};
use laminar_core::format::{DecodeError, EncodedValues};
use laminar_core::options::Options;
use laminar_core::table::{Column, TableSpec, timestamp_type};
use laminar_core::{Code, Error, Result};
use laminar_formats::registry::{
    Part, ReferencedSchema, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaRegistry, SchemaText,
    TableRegistry,
};
use laminar_formats::{FormatContext, FormatOptions, decoder, decoder_with, encoder_with, schema_columns};
use support::{column, format_options as options, push, show, table};

/// Schemas by id, each under a subject.
#[derive(Debug, Default)]
struct Memory {
    schemas: Mutex<Vec<(String, RegisteredSchema)>>,
    down: AtomicBool,
}

impl Memory {
    fn add(&self, subject: &str, kind: SchemaKind, text: &str, references: &[(&str, &str)]) -> u32 {
        let mut schemas = self.schemas.lock().unwrap();
        let id = u32::try_from(schemas.len()).unwrap() + 1;
        let reference = |(name, text): &(&str, &str)| ReferencedSchema { name: (*name).into(), text: (*text).into() };
        let references = references.iter().map(reference).collect();
        schemas.push((subject.into(), RegisteredSchema { id: id.into(), kind, text: text.into(), references }));
        id
    }
    fn search(&self, is: impl Fn(&str, &RegisteredSchema) -> bool) -> Result<Arc<RegisteredSchema>> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Unreachable, "the registry is down"));
        }
        let schemas = self.schemas.lock().unwrap();
        let found = schemas.iter().rev().find(|(subject, schema)| is(subject, schema));
        found
            .map(|(_, schema)| Arc::new(schema.clone()))
            .ok_or_else(|| Error::new(Code::UnknownSchema, "no such schema"))
    }
}

impl SchemaRegistry for Memory {
    fn schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>> {
        self.search(|_, schema| schema.id == id)
    }
    fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>> {
        self.search(|name, _| name == subject)
    }
    fn register(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        match self.find(subject, schema) {
            Err(error) if error.code() == Code::UnknownSchema => {
                Ok(self.add(subject, schema.kind, &schema.text, &[]).into())
            }
            found => found,
        }
    }
    fn find(&self, subject: &str, schema: &SchemaText) -> Result<SchemaId> {
        self.search(|name, known| name == subject && known.text == schema.text).map(|schema| schema.id)
    }
}

fn context(registry: &Arc<Memory>) -> FormatContext {
    let options: RegistryOptions =
        Options::from_pairs([("schema_registry.endpoint", "http://registry")]).parse("registry").unwrap();
    FormatContext {
        registry: Some(TableRegistry { registry: registry.clone(), part: Part::Value, topic: "t".into(), options }),
    }
}

fn protobuf() -> FormatOptions {
    options(&[("format", "protobuf")])
}

/// A frame, a message index and a message.
fn framed(id: u32, index: &[u8], body: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), index, body].concat()
}

const V1: &str = "syntax = 'proto3'; package s; message Other { int32 x = 1; }
    message Order { int32 id = 1; string customer = 2; string gone = 3; }";
const V2: &str =
    "syntax = 'proto3'; package s; message Order { int64 id = 1; string client = 2; optional int32 added = 4; }
    message Other { int32 x = 1; }";

#[test]
fn every_version_is_read_with_the_newest_by_the_numbers_of_its_fields() {
    let registry = Arc::new(Memory::default());
    let (old, new) = (
        registry.add("t-value", SchemaKind::Protobuf, V1, &[]),
        registry.add("t-value", SchemaKind::Protobuf, V2, &[]),
    );
    let avro = registry.add("t-value-2", SchemaKind::Avro, "\"int\"", &[]);
    let columns =
        vec![column("id", DataType::Int64), column("client", DataType::Utf8), column("added", DataType::Int32)];
    let mut decoder = decoder_with(&protobuf(), &table(columns), &context(&registry)).unwrap();
    let decoder = decoder.as_mut();
    // `Order` is the second message of the old file, the first of the new.
    push(decoder, &framed(old, b"\x02\x02", b"\x08\x01\x12\x03ada\x1a\x01g")).unwrap();
    push(decoder, &framed(new, b"\0", b"\x08\x02\x12\x03bob\x20\x05")).unwrap();
    push(decoder, &framed(new, b"\x02\0", b"\x08\x03")).unwrap();
    let message = |result: Result<(), DecodeError>| {
        let error = result.unwrap_err();
        assert!(error.outage().is_none(), "{error:?}");
        error.to_string()
    };
    assert_eq!(
        message(push(decoder, &framed(old, b"\0", b"\x08\x01"))),
        "the record is a s.Other, the table reads s.Order"
    );
    assert_eq!(message(push(decoder, &framed(new, b"\x02\x0a", b""))), "the schema has no message at index [5]");
    assert_eq!(message(push(decoder, &framed(new, b"\x01", b""))), "the message index behind the schema id is not one");
    assert_eq!(message(push(decoder, &framed(99, b"\0", b""))), "no such schema");
    assert_eq!(message(push(decoder, &framed(avro, b"\0", b""))), "schema 3 is Avro, and the table reads Protobuf");
    assert!(message(push(decoder, b"\x08\x01")).contains("without a schema registry"));
    assert!(message(push(decoder, &framed(new, b"\0", b"\x08"))).contains("ends within a varint"));
    push(decoder, &framed(old, b"\x02\x02", b"")).unwrap();
    assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), ["1|ada|", "2|bob|5", "3||", "0||"]);
    // While the registry is down what is known is still read; what is not is nobody's fault.
    registry.down.store(true, Ordering::SeqCst);
    push(decoder, &framed(new, b"\0", b"\x08\x07")).unwrap();
    assert_eq!(push(decoder, &framed(98, b"\0", b"")).unwrap_err().outage().unwrap().code(), Code::Unreachable);
    assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), ["7||"]);
}

#[test]
fn the_first_record_does_not_decide_which_message_the_table_reads() {
    let registry = Arc::new(Memory::default());
    let id = registry.add("t-value", SchemaKind::Protobuf, V2, &[]);
    let spec = table(vec![column("client", DataType::Utf8)]);
    let mut decoder = decoder_with(&protobuf(), &spec, &context(&registry)).unwrap();
    let error = push(decoder.as_mut(), &framed(id, b"\x02\x02", b"\x08\x01")).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.outage()),
        ("the record is a s.Other, the table reads s.Order", None)
    );
    push(decoder.as_mut(), &framed(id, b"\0", b"\x12\x03ada")).unwrap();
    assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), ["ada"]);
}

#[test]
fn a_column_that_no_schema_has_is_the_tables_fault() {
    let registry = Arc::new(Memory::default());
    let id = registry.add("t-value", SchemaKind::Protobuf, V2, &[]);
    let mut decoder =
        decoder_with(&protobuf(), &table(vec![column("clinet", DataType::Utf8)]), &context(&registry)).unwrap();
    let error = push(decoder.as_mut(), &framed(id, b"\0", b"\x08\x01")).unwrap_err().outage().cloned().unwrap();
    assert_eq!((error.code(), error.hint()), (Code::UnknownColumn, Some("did you mean client?")));
}

#[test]
fn a_schema_may_import_others_and_be_a_descriptor() {
    use base64::Engine;
    use prost_reflect::prost::Message;
    let registry = Arc::new(Memory::default());
    let text = "syntax = 'proto3'; import 'money.proto'; import 'google/protobuf/timestamp.proto';
        message Order { Money total = 1; google.protobuf.Timestamp at = 2; }";
    let money = "syntax = 'proto3'; message Money { int64 units = 1; }";
    // As confluent-kafka for Python registers them.
    let descriptor = |name: &str, text: &str| {
        let file = protox::file::File::from_source(name, text).unwrap();
        base64::engine::general_purpose::STANDARD.encode(file.file_descriptor_proto().encode_to_vec())
    };
    let (encoded, encoded_money) = (descriptor("order.proto", text), descriptor("money.proto", money));
    for (text, money) in [(text, money), (encoded.as_str(), encoded_money.as_str())] {
        let id = registry.add("t-value", SchemaKind::Protobuf, text, &[("money.proto", money)]);
        let found = schema_columns(&protobuf(), &context(&registry)).unwrap().unwrap();
        let units = DataType::Struct(vec![Field::new("units", DataType::Int64, true)].into());
        assert_eq!(found, [column("total", units), column("at", timestamp_type())]);
        let mut decoder = decoder_with(&protobuf(), &table(found), &context(&registry)).unwrap();
        push(decoder.as_mut(), &framed(id, b"\0", b"\x0a\x02\x08\x05\x12\x02\x08\x01")).unwrap();
        assert_eq!(show(decoder.flush().unwrap().unwrap().rows()), ["{units: 5}|1970-01-01T00:00:01"]);
    }
}

#[test]
fn an_option_of_the_registry_needs_one() {
    let check = |pairs: &[(&str, &str)]| {
        Options::from_pairs(pairs.iter().copied()).parse::<RegistryOptions>("registry").unwrap().check()
    };
    check(&[]).unwrap();
    check(&[("auto.register.schemas", "true")]).unwrap();
    check(&[("auto.register.schemas", "false"), ("schema_registry.endpoint", "http://registry")]).unwrap();
    for pair in [("auto.register.schemas", "false"), ("value_subject", "s"), ("schema_registry.api_key", "k")] {
        let error = check(&[pair]).unwrap_err();
        assert_eq!((error.code(), error.field()), (Code::MissingOption, Some("schema_registry.endpoint")));
        assert!(error.to_string().contains(pair.0), "{error}");
    }
}

/// The rows that JSON objects describe, written by a sink with a registry.
fn written(options: &FormatOptions, spec: &TableSpec, registry: &Arc<Memory>, rows: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut json = decoder(&FormatOptions::default(), spec).unwrap();
    rows.iter().for_each(|row| push(json.as_mut(), row.as_bytes()).unwrap());
    let changes = json.flush().unwrap().unwrap();
    let mut out = EncodedValues::default();
    encoder_with(options, spec, &context(registry))?.encode(&changes, &mut out)?;
    Ok(out.iter().map(<[u8]>::to_vec).collect())
}

#[test]
fn a_sink_registers_the_message_that_its_columns_make() {
    let registry = Arc::new(Memory::default());
    let item = DataType::Struct(vec![Field::new("sku", DataType::Utf8, true)].into());
    let spec = table(vec![
        Column { nullable: false, ..column("id", DataType::Int64) },
        column("note", DataType::Utf8),
        column("items", DataType::List(Arc::new(Field::new("item", item, true)))),
        column("at", timestamp_type()),
        column("price", DataType::Decimal128(10, 2)),
    ]);
    let named = options(&[("format", "protobuf"), ("protobuf.message", "shop.Line")]);
    let rows = [r#"{"id":1,"items":[{"sku":"a"}],"at":1000,"price":1.5}"#, r#"{"id":0,"note":""}"#];
    let values = written(&named, &spec, &registry, &rows).unwrap();
    let expected =
        [framed(1, b"\0", b"\x08\x01\x1a\x03\x0a\x01a\x22\x02\x08\x01\x2a\x041.50"), framed(1, b"\0", b"\x12\0")];
    assert_eq!(values, expected);
    let text = registry.latest("t-value").unwrap().text.clone();
    let expected = "syntax = \"proto3\";\npackage shop;\nimport \"google/protobuf/timestamp.proto\";\n\nmessage Line {\n  int64 id = 1;\n  \
                    optional string note = 2;\n  message Items_ {\n    optional string sku = 1;\n  }\n  repeated Items_ items = 3;\n  \
                    optional google.protobuf.Timestamp at = 4;\n  optional string price = 5;\n}\n";
    assert_eq!(text, expected);
    // And what was written is read back.
    let mut back = decoder_with(&named, &spec, &context(&registry)).unwrap();
    values.iter().for_each(|value| push(back.as_mut(), value).unwrap());
    let found = show(back.flush().unwrap().unwrap().rows());
    assert_eq!(found, ["1||[{sku: a}]|1970-01-01T00:00:01|1.50", "0||[]||"]);
    let odd = table(vec![column("no identifier", DataType::Int64)]);
    assert_eq!(written(&protobuf(), &odd, &registry, &["{}"]).unwrap_err().code(), Code::NotSupported);
}

#[test]
fn a_sink_that_registers_nothing_writes_with_the_newest_schema_of_its_kind() {
    let registry = Arc::new(Memory::default());
    let spec = table(vec![column("id", DataType::Int64)]);
    let mut ctx = context(&registry);
    if let Some(table) = &mut ctx.registry {
        table.options.register = false;
    }
    let mut encoder = encoder_with(&protobuf(), &spec, &ctx).unwrap();
    let mut json = decoder(&FormatOptions::default(), &spec).unwrap();
    push(json.as_mut(), br#"{"id":1}"#).unwrap();
    let changes = json.flush().unwrap().unwrap();
    let mut out = EncodedValues::default();
    assert_eq!(encoder.encode(&changes, &mut out).unwrap_err().code(), Code::UnknownSchema);
    registry.add("t-value", SchemaKind::Avro, "\"long\"", &[]);
    assert_eq!(
        format!("{:?}", encoder.encode(&changes, &mut out).unwrap_err()),
        "invalid_schema: the newest schema of the subject is Avro, not Protobuf"
    );
    let id = registry.add("t-value", SchemaKind::Protobuf, V2, &[]);
    encoder.encode(&changes, &mut out).unwrap();
    assert_eq!(out.bytes, framed(id, b"\0", b"\x08\x01"));
}

#[test]
fn json_is_framed_with_the_id_of_a_json_schema() {
    let registry = Arc::new(Memory::default());
    let framed_json = options(&[("format", "confluent_json")]);
    let spec = table(vec![
        column("id", DataType::Int64),
        column("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))),
    ]);
    let values = written(&framed_json, &spec, &registry, &[r#"{"id":1,"tags":["a"]}"#]).unwrap();
    assert_eq!(values, [framed(1, b"", br#"{"id":1,"tags":["a"]}"#)]);
    let schema: serde_json::Value = serde_json::from_str(&registry.latest("t-value").unwrap().text).unwrap();
    assert_eq!(schema["properties"]["tags"]["items"]["type"], serde_json::json!(["null", "string"]));
    let mut reader = decoder_with(&framed_json, &spec, &context(&registry)).unwrap();
    push(reader.as_mut(), &values[0]).unwrap();
    assert!(push(reader.as_mut(), br#"{"id":1}"#).unwrap_err().message.contains("without a schema registry"));
    let error = push(reader.as_mut(), &framed(1, b"", br#"{"id":"x"}"#)).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.offset), ("expected BIGINT, found \"x\" (column id)", Some(11)));
    assert_eq!(push(reader.as_mut(), &framed(9, b"", b"{}")).unwrap_err().message, "no such schema");
    assert_eq!(show(reader.flush().unwrap().unwrap().rows()), ["1|[a]"]);
    // Lines do not part such records, and a registry that they need is one to ask.
    let with_option = options(&[("json.confluent_schema_registry", "true")]);
    for framed in [&framed_json, &with_option] {
        assert!(framed.is_binary() && !framed.has_blank_lines(&spec) && framed.wants_frame());
        assert!(framed.is_framed(&context(&registry)) && !framed.is_framed(&FormatContext::default()));
    }
    let plain = options(&[]);
    assert!(!plain.is_binary() && plain.has_blank_lines(&spec) && !plain.is_framed(&context(&registry)));
    let unframed = options(&[("format", "avro"), ("avro.confluent_schema_registry", "false")]);
    assert!(unframed.is_binary() && !unframed.wants_frame() && !unframed.is_framed(&context(&registry)));
    assert!(options(&[("format", "json_schema")]).check_options().is_err());
    // Without being told to, JSON is plain though there is a registry.
    let mut plain = decoder_with(&options(&[]), &spec, &context(&registry)).unwrap();
    push(plain.as_mut(), br#"{"id":1}"#).unwrap();
    let error = laminar_formats::decoder(&framed_json, &spec).err().unwrap();
    assert_eq!(error.code(), Code::MissingOption);
}

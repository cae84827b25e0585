//! Any bytes as records of every format that frames or wraps them: nothing panics, and a record that fails leaves nothing behind. The
//! same body runs over random seeds and under libFuzzer.

#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use arrow::datatypes::DataType;
use laminar_core::format::Decoder;
use laminar_core::options::Options;
use laminar_core::source::RawRecord;
use laminar_core::{Code, Error, Result};
use laminar_formats::registry::{
    Framing, Part, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaRegistry, SchemaText, TableRegistry,
};
use laminar_formats::{FormatContext, decoder_with, upsert_decoder_with};
use support::{column, format_options, record, table};

const AVRO: &str =
    r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"t","type":["null","string"]}]}"#;
const CHANGE: &str = r#"{"type":"record","name":"e","fields":[
    {"name":"before","type":["null",{"type":"record","name":"v","fields":[{"name":"id","type":"long"},{"name":"t","type":["null","string"]}]}]},
    {"name":"after","type":["null","v"]},{"name":"op","type":"string"}]}"#;
const PROTOBUF: &str =
    "syntax = 'proto3'; message Other { int32 x = 1; } message M { int64 id = 1; optional string t = 2; }";
const JSON: &str = r#"{"type":"object","properties":{"id":{"type":"integer"},"t":{"type":"string"}}}"#;

/// Schemas whose ids are their places.
#[derive(Debug)]
struct Fixed(Framing);

impl Fixed {
    const SCHEMAS: [(SchemaKind, &'static str); 4] = [
        (SchemaKind::Avro, AVRO),
        (SchemaKind::Avro, CHANGE),
        (SchemaKind::Protobuf, PROTOBUF),
        (SchemaKind::Json, JSON),
    ];

    fn id(&self, place: usize) -> SchemaId {
        match self.0 {
            Framing::Confluent => SchemaId::Number(place as u32),
            Framing::Glue => SchemaId::Version(place as u128),
        }
    }
    fn at(&self, place: usize) -> Result<Arc<RegisteredSchema>> {
        let (kind, text) = Self::SCHEMAS.get(place).ok_or_else(|| Error::new(Code::UnknownSchema, "no such schema"))?;
        let (id, text) = (self.id(place), (*text).to_string());
        Ok(Arc::new(RegisteredSchema { id, kind: *kind, text, references: Vec::new() }))
    }
}

impl SchemaRegistry for Fixed {
    fn schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>> {
        self.at((0..Self::SCHEMAS.len()).find(|place| self.id(*place) == id).unwrap_or(usize::MAX))
    }
    fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>> {
        self.at(subject.parse().unwrap_or(usize::MAX))
    }
    fn register(&self, _: &str, _: &SchemaText) -> Result<SchemaId> {
        Err(Error::internal("nothing is written"))
    }
    fn find(&self, _: &str, _: &SchemaText) -> Result<SchemaId> {
        Err(Error::internal("nothing is written"))
    }
    fn framing(&self) -> Framing {
        self.0
    }
}

fn context(framing: Framing, place: usize) -> FormatContext {
    let kind = if framing == Framing::Glue { "glue" } else { "confluent" };
    let subject = place.to_string();
    let pairs = [("schema_registry.type", kind), ("schema_registry.region", "eu"), ("value_subject", &subject)];
    let pairs = pairs.into_iter().filter(|(key, _)| framing == Framing::Glue || !key.ends_with("region"));
    let options: RegistryOptions = Options::from_pairs(pairs).parse("registry").unwrap();
    let registry: Arc<dyn SchemaRegistry> = Arc::new(Fixed(framing));
    FormatContext { registry: Some(TableRegistry { registry, part: Part::Value, topic: "t".into(), options }) }
}

/// One decoder, and the bytes in front of a body that it reads.
struct Reader {
    decoder: Box<dyn Decoder>,
    frames: Vec<Vec<u8>>,
}

pub struct Judge {
    readers: Vec<Reader>,
}

impl Judge {
    pub fn new() -> Self {
        let columns = || table(vec![column("id", DataType::Int64), column("t", DataType::Utf8)]);
        let mut readers = Vec::new();
        for framing in [Framing::Confluent, Framing::Glue] {
            for (place, format) in ["confluent_avro", "debezium_avro", "protobuf", "confluent_json"].iter().enumerate()
            {
                let mut pairs = vec![("format", *format)];
                pairs.extend((*format == "protobuf").then_some(("protobuf.message", "M")));
                let decoder = decoder_with(&format_options(&pairs), &columns(), &context(framing, place)).unwrap();
                let frames = match framing {
                    Framing::Confluent => vec![[&[0], (place as u32).to_be_bytes().as_slice()].concat()],
                    Framing::Glue => {
                        [0, 5].map(|how| [&[3, how], (place as u128).to_be_bytes().as_slice()].concat()).into()
                    }
                };
                readers.push(Reader { decoder, frames });
            }
        }
        let changes = format_options(&[("format", "debezium_json")]);
        let plain = decoder_with(&changes, &columns(), &FormatContext::default()).unwrap();
        readers.push(Reader {
            decoder: plain,
            frames: vec![br#"{"op":"c","after":"#.to_vec(), br#"{"op":"d","before":"#.to_vec()],
        });
        let mut keyed = columns();
        keyed.primary_key = vec!["id".into()];
        let upserts = upsert_decoder_with(&format_options(&[]), &keyed, None, &FormatContext::default()).unwrap();
        readers.push(Reader { decoder: upserts, frames: vec![br#"{"id":"#.to_vec()] });
        Self { readers }
    }

    /// The first bytes choose the decoder and the frame, the rest is a record behind it, without it, and a tombstone's key.
    pub fn check(&mut self, entropy: &[u8]) {
        let [which, frame, body @ ..] = entropy else { return };
        let count = self.readers.len();
        let reader = &mut self.readers[usize::from(*which) % count];
        let framed = [reader.frames[usize::from(*frame) % reader.frames.len()].as_slice(), body].concat();
        let tombstone = RawRecord { key: Some(body), ..record(None) };
        for record in [record(Some(&framed)), record(Some(body)), tombstone] {
            let before = reader.decoder.len();
            if reader.decoder.push(&record).is_err() {
                assert_eq!(reader.decoder.len(), before, "a record that fails leaves nothing behind");
            }
        }
        let rows = reader.decoder.len();
        let flushed = reader.decoder.flush().unwrap();
        assert_eq!(flushed.map_or(0, |changes| changes.num_rows()), rows);
    }
}

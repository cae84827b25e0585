//! How fast Avro becomes columns and columns become Avro, beside the library one would use instead.
//!
//! `cargo bench -p laminar-formats --bench avro -- [rows]` (3 million by default). Every contender gets the same bytes in the same
//! run: Nexmark-style bids of 7 fields, made by apache-avro from a fixed seed. Time is the process's own CPU time, as the
//! machine may be shared; each figure is the best of three repetitions. apache-avro makes its values, a tree of its own, and no
//! columns yet.

mod bids;

use std::hint::black_box;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bids::{Bid, CHUNK, Contender, Outcome, compare, rows_or, table};
use laminar_core::Changes;
use laminar_core::format::{Decoder, EncodedValues, Encoder};
use laminar_core::options::Options;
use laminar_formats::registry::{
    Part, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaRegistry, SchemaText, TableRegistry,
};
use laminar_formats::{FormatContext, FormatOptions, decoder, decoder_with, encoder};

const SCHEMA: &str = r#"{"type":"record","name":"Bid","fields":[
    {"name":"auction","type":"long"},
    {"name":"bidder","type":"long"},
    {"name":"price","type":"long"},
    {"name":"channel","type":"string"},
    {"name":"url","type":"string"},
    {"name":"date_time","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"extra","type":"string"}]}"#;

fn record(bid: Bid) -> Value {
    let fields = [
        ("auction", Value::Long(bid.auction)),
        ("bidder", Value::Long(bid.bidder)),
        ("price", Value::Long(bid.price)),
        ("channel", Value::String(bid.channel)),
        ("url", Value::String(bid.url)),
        ("date_time", Value::TimestampMillis(bid.date_time)),
        ("extra", Value::String(bid.extra)),
    ];
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

fn options() -> Outcome<FormatOptions> {
    Ok(Options::from_pairs([("format", "avro"), ("avro.schema", SCHEMA)]).parse("bench")?)
}

fn decode(decoder: &mut dyn Decoder, records: &[Vec<u8>], rows: impl FnMut(Changes)) -> Outcome<()> {
    bids::decode(decoder, records.iter().map(Vec::as_slice), rows)
}

/// A registry of one schema.
#[derive(Debug)]
struct One;

impl SchemaRegistry for One {
    fn schema(&self, id: SchemaId) -> laminar_core::Result<Arc<RegisteredSchema>> {
        let (kind, text, references) = (SchemaKind::Avro, SCHEMA.to_string(), Vec::new());
        Ok(Arc::new(RegisteredSchema { id, kind, text, references }))
    }
    fn latest(&self, _: &str) -> laminar_core::Result<Arc<RegisteredSchema>> {
        self.schema(1.into())
    }
    fn register(&self, _: &str, _: &SchemaText) -> laminar_core::Result<SchemaId> {
        Ok(1.into())
    }
    fn find(&self, _: &str, _: &SchemaText) -> laminar_core::Result<SchemaId> {
        Ok(1.into())
    }
}

fn framed() -> FormatContext {
    let options = RegistryOptions::default();
    let table = TableRegistry { registry: Arc::new(One), part: Part::Value, topic: "bids".into(), options };
    FormatContext { registry: Some(table) }
}

fn main() -> Outcome<()> {
    let schema = Schema::parse_str(SCHEMA)?;
    let writer = GenericDatumWriter::builder(&schema).build()?;
    let values = bids::bids(CHUNK, record);
    let records = values.iter().map(|value| writer.write_value_to_vec(value.clone())).collect::<Result<Vec<_>, _>>()?;
    let framed_records: Vec<_> = records.iter().map(|record| [&[0, 0, 0, 0, 1], record.as_slice()].concat()).collect();
    let bytes: usize = records.iter().map(Vec::len).sum();

    let mut sample = Vec::new();
    decode(decoder(&options()?, &table((0..7).collect()))?.as_mut(), &records, |changes| sample.push(changes))?;
    let mut all = decoder(&options()?, &table((0..7).collect()))?;
    let mut two = decoder(&options()?, &table(vec![0, 2]))?;
    let mut two_framed = decoder_with(&options()?, &table(vec![0, 2]), &framed())?;
    let mut ours: Box<dyn Encoder> = encoder(&options()?, &table((0..7).collect()))?;
    let mut out = EncodedValues::default();
    let reader = GenericDatumReader::builder(&schema).build()?;
    let contenders: Vec<Contender<'_>> = vec![
        (
            "decode, 7 columns: apache-avro, to values",
            None,
            Box::new(|| {
                for record in &records {
                    black_box(reader.read_value(&mut record.as_slice())?);
                }
                Ok(())
            }),
        ),
        (
            "decode, 7 columns: laminar",
            Some(0),
            Box::new(|| decode(all.as_mut(), &records, |changes| drop(black_box(changes)))),
        ),
        (
            "decode, 2 columns: laminar",
            Some(0),
            Box::new(|| decode(two.as_mut(), &records, |changes| drop(black_box(changes)))),
        ),
        (
            "decode, 2 columns, framed: laminar",
            Some(0),
            Box::new(|| decode(two_framed.as_mut(), &framed_records, |changes| drop(black_box(changes)))),
        ),
        (
            "encode, 7 columns: apache-avro, of values",
            None,
            Box::new(|| {
                for value in &values {
                    black_box(writer.write_value_to_vec(value.clone())?);
                }
                Ok(())
            }),
        ),
        (
            "encode, 7 columns: laminar",
            Some(4),
            Box::new(|| {
                for changes in &sample {
                    out.clear();
                    ours.encode(changes, &mut out)?;
                    black_box(&out);
                }
                Ok(())
            }),
        ),
    ];
    compare(contenders, bytes, rows_or(3_000_000))
}

//! How fast Avro becomes columns and columns become Avro, beside the library one would use instead.
//!
//! `cargo bench -p laminar-formats --bench avro -- [rows]` (3 million by default). Every contender gets the same bytes in the same
//! run: Nexmark-style bids of 7 fields, made by apache-avro from a fixed seed. Time is the process's own CPU time, as the
//! machine may be shared; each figure is the best of three repetitions. apache-avro makes its values, a tree of its own, and no
//! columns yet.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrow::datatypes::DataType;
use laminar_core::format::{Decoder, EncodedValues, Encoder};
use laminar_core::options::Options;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, TableSpec, timestamp_type};
use laminar_core::{Changes, Position};
use laminar_formats::registry::{
    Part, RegisteredSchema, RegistryOptions, SchemaId, SchemaKind, SchemaRegistry, SchemaText, TableRegistry,
};
use laminar_formats::{FormatContext, FormatOptions, decoder, decoder_with, encoder};

type Outcome<T> = Result<T, Box<dyn Error>>;

const REPETITIONS: usize = 3;
const BATCH: usize = 8192;
const CHUNK: usize = 8 * BATCH;

const SCHEMA: &str = r#"{"type":"record","name":"Bid","fields":[
    {"name":"auction","type":"long"},
    {"name":"bidder","type":"long"},
    {"name":"price","type":"long"},
    {"name":"channel","type":"string"},
    {"name":"url","type":"string"},
    {"name":"date_time","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"extra","type":"string"}]}"#;

/// The same bids every time (SplitMix64).
fn bids(rows: usize) -> Vec<Value> {
    let mut state = 42u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut bid = |number: usize| {
        let url = format!("https://www.nexmark.com/{:05x}/item.htm?query=1", random() & 0xf_ffff);
        let extra: String = (0..60).map(|_| char::from(b'a' + (random() % 26) as u8)).collect();
        let long = |value: u64| Value::Long(value.cast_signed());
        let fields = [
            ("auction", long(1000 + random() % 100)),
            ("bidder", long(1000 + random() % 50_000)),
            ("price", long(100 + random() % 199_900)),
            ("channel", Value::String(format!("channel-{}", random() % 10_000))),
            ("url", Value::String(url)),
            ("date_time", Value::TimestampMillis(1_700_000_000_000 + number as i64)),
            ("extra", Value::String(extra)),
        ];
        Value::Record(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    };
    (0..rows).map(&mut bid).collect()
}

fn table(projection: Vec<usize>) -> TableSpec {
    let columns = [
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8),
        ("url", DataType::Utf8),
        ("date_time", timestamp_type()),
        ("extra", DataType::Utf8),
    ];
    let column = |(name, data_type): (&str, DataType)| Column {
        name: name.into(),
        data_type,
        nullable: true,
        json: false,
        metadata: None,
    };
    let columns = columns.into_iter().map(column).collect();
    TableSpec { name: "bids".into(), columns, projection, event_time: None, primary_key: Vec::new() }
}

fn options() -> Outcome<FormatOptions> {
    Ok(Options::from_pairs([("format", "avro"), ("avro.schema", SCHEMA)]).parse("bench")?)
}

fn decode(decoder: &mut dyn Decoder, records: &[Vec<u8>], mut rows: impl FnMut(Changes)) -> Outcome<()> {
    for (offset, record) in records.iter().enumerate() {
        decoder.push(&RawRecord {
            key: None,
            value: Some(record),
            timestamp_micros: 0,
            timestamp_type: TimestampType::None,
            topic: "bids",
            partition: 0,
            position: Position(offset as u64),
            batch: None,
        })?;
        if decoder.len() == BATCH
            && let Some(changes) = decoder.flush()?
        {
            rows(changes);
        }
    }
    Ok(())
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

/// Nanoseconds of CPU that this thread has used.
fn cpu_nanos() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

type Run<'a> = Box<dyn FnMut() -> Outcome<()> + 'a>;

fn main() -> Outcome<()> {
    let rows: usize = std::env::args().skip(1).find_map(|arg| arg.replace('_', "").parse().ok()).unwrap_or(3_000_000);
    let rounds = rows.div_ceil(CHUNK).max(1);
    let schema = Schema::parse_str(SCHEMA)?;
    let writer = GenericDatumWriter::builder(&schema).build()?;
    let values = bids(CHUNK);
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
    let contenders: Vec<(&str, Option<usize>, Run<'_>)> = vec![
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
    println!(
        "{} rows of {} bytes, batches of {BATCH}, best of {REPETITIONS}, CPU time of one core",
        rounds * CHUNK,
        bytes / CHUNK
    );
    println!("{:42} {:>10} {:>8} {:>7}", "", "M rows/s", "ns/row", "ratio");
    let mut times: Vec<f64> = Vec::new();
    for (name, against, mut run) in contenders {
        let mut best = u64::MAX;
        for _ in 0..REPETITIONS {
            let before = cpu_nanos()?;
            for _ in 0..rounds {
                run()?;
            }
            best = best.min(cpu_nanos()? - before);
        }
        let nanos = best as f64 / (rounds * CHUNK) as f64;
        let ratio = against.and_then(|at| times.get(at)).map(|base| format!("{:.1} x", base / nanos));
        println!("{name:42} {:>10.2} {nanos:>8.1} {:>7}", 1e3 / nanos, ratio.unwrap_or_default());
        times.push(nanos);
    }
    Ok(())
}

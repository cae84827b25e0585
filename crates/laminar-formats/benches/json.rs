//! How fast JSON becomes columns and columns become JSON, beside the libraries one would use instead.
//!
//! `cargo bench -p laminar-formats --bench json -- [rows]` (10 million by default). Every contender gets the same bytes in the
//! same run: Nexmark-style bids of 200 bytes and 7 fields, made chunk by chunk from a fixed seed, so memory stays small.
//! Time is the process's own CPU time, as the machine may be shared; each figure is the best of three repetitions.
//!
//! Ours and sonic-rs are given one message after the other, as they come from Kafka; arrow-json gets each chunk as one
//! buffer of lines, which it likes best.

mod bids;

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bids::{BATCH, CHUNK, Outcome, REPETITIONS, Random, columns, cpu_nanos, rows_or, table};
use laminar_core::Changes;
use laminar_core::format::{Decoder, EncodedValues, Encoder};
use laminar_formats::FormatOptions;
use serde::Deserialize;

const MESSAGE_BYTES: usize = 200;

/// Messages of one chunk, each on its line.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Chunk {
    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end + 1));
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}

/// Makes the same bids every time.
struct Bids {
    random: Random,
    number: u64,
}

impl Bids {
    fn fill(&mut self, chunk: &mut Chunk, rows: usize) -> Outcome<()> {
        chunk.bytes.clear();
        chunk.ends.clear();
        let mut line = String::new();
        for _ in 0..rows {
            line.clear();
            let auction = 1000 + self.number / 500 + self.random.next() % 100;
            let bidder = 1000 + self.random.next() % 50_000;
            let price = 100 + self.random.next() % 199_900;
            let time = 1_700_000_000_000 + self.number / 100;
            let channel = match self.random.next() % 5 {
                0 => "Apple".to_string(),
                1 => "Google".to_string(),
                2 => "Facebook".to_string(),
                3 => "Baidu".to_string(),
                _ => format!("channel-{}", self.random.next() % 10_000),
            };
            let page = self.random.next();
            write!(
                line,
                r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"channel":"{channel}","url":"https://www.nexmark.com/{:05x}/item.htm?query=1","date_time":{time},"extra":""#,
                page & 0xf_ffff
            )?;
            let mut letters = 0;
            while line.len() < MESSAGE_BYTES - 2 {
                if letters == 0 {
                    letters = self.random.next();
                }
                line.push(char::from(b'a' + (letters % 26) as u8));
                letters /= 26;
            }
            line.push_str("\"}");
            chunk.bytes.extend_from_slice(line.as_bytes());
            chunk.ends.push(chunk.bytes.len());
            chunk.bytes.push(b'\n');
            self.number += 1;
        }
        Ok(())
    }
}

fn peak_megabytes() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

type Run = dyn FnMut(&Chunk) -> Outcome<usize>;

/// One thing that is measured: it takes a chunk and says how many bytes of JSON it handled.
struct Contender {
    name: &'static str,
    /// Index of the contender that its speed is compared with.
    against: Option<usize>,
    run: Box<Run>,
    nanos: u64,
    best: u64,
    bytes: u64,
}

impl Contender {
    fn new(name: &'static str, against: Option<usize>, run: impl FnMut(&Chunk) -> Outcome<usize> + 'static) -> Self {
        Self { name, against, run: Box::new(run), nanos: 0, best: u64::MAX, bytes: 0 }
    }
}

fn ours(projection: Vec<usize>) -> Outcome<Box<dyn Decoder>> {
    Ok(laminar_formats::decoder(&FormatOptions::default(), &table(projection))?)
}

fn decode_ours(decoder: &mut dyn Decoder, chunk: &Chunk, rows: impl FnMut(Changes)) -> Outcome<usize> {
    bids::decode(decoder, chunk.messages(), rows)?;
    Ok(chunk.bytes.len())
}

fn arrow_schema(projection: &[usize]) -> SchemaRef {
    let columns = columns(DataType::Timestamp(TimeUnit::Millisecond, None));
    let fields = projection.iter().filter_map(|i| columns.get(*i)).map(|(name, t)| Field::new(*name, t.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn decode_arrow(decoder: &mut arrow_json::reader::Decoder, chunk: &Chunk) -> Outcome<usize> {
    let mut rest = chunk.bytes.as_slice();
    while !rest.is_empty() {
        let read = decoder.decode(rest)?;
        rest = rest.get(read..).unwrap_or_default();
        if read == 0 || rest.is_empty() {
            black_box(decoder.flush()?);
        }
    }
    Ok(chunk.bytes.len())
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Bid<'a> {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: &'a str,
    url: &'a str,
    date_time: i64,
    extra: &'a str,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Price {
    auction: i64,
    price: i64,
}

/// Rows to encode, made from the first chunk.
fn sample_batches(projection: Vec<usize>) -> Outcome<Vec<Changes>> {
    let mut chunk = Chunk::default();
    Bids { random: Random(1), number: 0 }.fill(&mut chunk, CHUNK)?;
    let mut batches = Vec::new();
    decode_ours(ours(projection)?.as_mut(), &chunk, |changes| batches.push(changes))?;
    Ok(batches)
}

fn encode_ours(projection: Vec<usize>) -> Outcome<impl FnMut(&Chunk) -> Outcome<usize>> {
    let mut table = table(Vec::new());
    table.columns = projection.iter().filter_map(|index| table.columns.get(*index).cloned()).collect();
    let batches = sample_batches(projection)?;
    let mut encoder: Box<dyn Encoder> = laminar_formats::encoder(&FormatOptions::default(), &table)?;
    let mut out = EncodedValues::default();
    Ok(move |_: &Chunk| {
        let mut bytes = 0;
        for changes in &batches {
            out.clear();
            encoder.encode(changes, &mut out)?;
            bytes += black_box(&out).bytes.len() + out.len();
        }
        Ok(bytes)
    })
}

fn encode_arrow(projection: Vec<usize>) -> Outcome<impl FnMut(&Chunk) -> Outcome<usize>> {
    let batches: Vec<RecordBatch> = sample_batches(projection)?.iter().map(|changes| changes.rows().clone()).collect();
    let mut out = Vec::new();
    Ok(move |_: &Chunk| {
        let mut bytes = 0;
        for batch in &batches {
            out.clear();
            let mut writer = arrow_json::WriterBuilder::new()
                .with_explicit_nulls(true)
                .build::<_, arrow_json::writer::LineDelimited>(&mut out);
            writer.write(batch)?;
            writer.finish()?;
            bytes += black_box(&out).len();
        }
        Ok(bytes)
    })
}

fn contenders() -> Outcome<Vec<Contender>> {
    let (all, two) = ((0..7).collect::<Vec<usize>>(), vec![0, 2]);
    let (mut ours_all, mut ours_two) = (ours(all.clone())?, ours(two.clone())?);
    let arrow = |projection: &[usize]| {
        arrow_json::ReaderBuilder::new(arrow_schema(projection)).with_batch_size(BATCH).build_decoder()
    };
    let (mut arrow_all, mut arrow_two) = (arrow(&all)?, arrow(&two)?);
    Ok(vec![
        Contender::new("decode, 7 columns: arrow-json", None, move |chunk| decode_arrow(&mut arrow_all, chunk)),
        Contender::new("decode, 7 columns: sonic-rs to structs", Some(0), |chunk| {
            for message in chunk.messages() {
                black_box(sonic_rs::from_slice::<Bid<'_>>(message)?);
            }
            Ok(chunk.bytes.len())
        }),
        Contender::new("decode, 7 columns: laminar", Some(0), move |chunk| {
            decode_ours(ours_all.as_mut(), chunk, |changes| drop(black_box(changes)))
        }),
        Contender::new("decode, 2 columns: arrow-json", None, move |chunk| decode_arrow(&mut arrow_two, chunk)),
        Contender::new("decode, 2 columns: sonic-rs to structs", Some(3), |chunk| {
            for message in chunk.messages() {
                black_box(sonic_rs::from_slice::<Price>(message)?);
            }
            Ok(chunk.bytes.len())
        }),
        Contender::new("decode, 2 columns: laminar", Some(3), move |chunk| {
            decode_ours(ours_two.as_mut(), chunk, |changes| drop(black_box(changes)))
        }),
        Contender::new("encode, 7 columns: arrow-json", None, encode_arrow(all.clone())?),
        Contender::new("encode, 7 columns: laminar", Some(6), encode_ours(all)?),
        Contender::new("encode, 3 integers: arrow-json", None, encode_arrow(vec![0, 1, 2])?),
        Contender::new("encode, 3 integers: laminar", Some(8), encode_ours(vec![0, 1, 2])?),
    ])
}

fn main() -> Outcome<()> {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-') && arg.parse::<usize>().is_err());
    let chunks = rows_or(10_000_000).div_ceil(CHUNK).max(1);
    let rows = (chunks * CHUNK) as u64;
    let mut contenders = contenders()?;
    let chosen = |name: &str| only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    for _ in 0..REPETITIONS {
        let mut bids = Bids { random: Random(42), number: 0 };
        let mut chunk = Chunk::default();
        for contender in &mut contenders {
            (contender.nanos, contender.bytes) = (0, 0);
        }
        for _ in 0..chunks {
            bids.fill(&mut chunk, CHUNK)?;
            for contender in contenders.iter_mut().filter(|c| chosen(c.name)) {
                let before = cpu_nanos()?;
                contender.bytes += (contender.run)(&chunk)? as u64;
                contender.nanos += cpu_nanos()? - before;
            }
        }
        for contender in &mut contenders {
            contender.best = contender.best.min(contender.nanos);
        }
    }
    println!("{rows} rows, batches of {BATCH}, best of {REPETITIONS}, CPU time of one core");
    println!("{:42} {:>10} {:>8} {:>8} {:>7}", "", "M rows/s", "MB/s", "ns/row", "ratio");
    for contender in contenders.iter().filter(|c| c.best > 0) {
        let nanos = contender.best as f64;
        let base = contender.against.and_then(|at| contenders.get(at)).map(|base| base.best as f64 / nanos);
        println!(
            "{:42} {:>10.2} {:>8.0} {:>8.1} {:>7}",
            contender.name,
            rows as f64 * 1e3 / nanos,
            contender.bytes as f64 * 1e3 / nanos,
            nanos / rows as f64,
            base.filter(|ratio| *ratio > 0.0).map(|ratio| format!("{ratio:.1} x")).unwrap_or_default(),
        );
    }
    println!("peak memory {} MB", peak_megabytes()?);
    Ok(())
}

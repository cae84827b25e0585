//! What the benchmarks of the formats share: Nexmark-style bids and their table, how records are decoded, how time is taken.
//!
//! Time is the thread's own CPU time, as the machine may be shared; each figure is the best of [`REPETITIONS`].
#![allow(dead_code)] // each benchmark is a crate of its own, and uses some of it

use std::error::Error;
use std::fs;

use arrow::datatypes::DataType;
use laminar_core::format::Decoder;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, TableSpec, timestamp_type};
use laminar_core::{Changes, Position};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

pub const REPETITIONS: usize = 3;
pub const BATCH: usize = 8192;
pub const CHUNK: usize = 8 * BATCH;

/// The same numbers every time (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// From `least` on, `count` different ones.
    fn within(&mut self, least: i64, count: u64) -> i64 {
        least + (self.next() % count).cast_signed()
    }
}

/// One bid; `date_time` counts milliseconds.
pub struct Bid {
    pub auction: i64,
    pub bidder: i64,
    pub price: i64,
    pub channel: String,
    pub url: String,
    pub date_time: i64,
    pub extra: String,
}

/// The same bids every time, as `make` has them.
pub fn bids<T>(rows: usize, make: impl Fn(Bid) -> T) -> Vec<T> {
    let mut random = Random(42);
    let mut bid = |number: i64| {
        let url = format!("https://www.nexmark.com/{:05x}/item.htm?query=1", random.next() & 0xf_ffff);
        let extra = (0..60).map(|_| char::from(b'a' + (random.next() % 26) as u8)).collect();
        let (auction, bidder) = (random.within(1000, 100), random.within(1000, 50_000));
        let (price, channel) = (random.within(100, 199_900), format!("channel-{}", random.next() % 10_000));
        make(Bid { auction, bidder, price, channel, url, date_time: 1_700_000_000_000 + number, extra })
    };
    (0i64..).take(rows).map(&mut bid).collect()
}

/// Names and types of a bid's columns.
pub fn columns(time: DataType) -> [(&'static str, DataType); 7] {
    [
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8),
        ("url", DataType::Utf8),
        ("date_time", time),
        ("extra", DataType::Utf8),
    ]
}

/// The table of bids of which these columns are read.
pub fn table(projection: Vec<usize>) -> TableSpec {
    let column = |(name, data_type): (&str, DataType)| Column {
        name: name.into(),
        data_type,
        nullable: true,
        json: false,
        metadata: None,
    };
    let columns = columns(timestamp_type()).map(column).to_vec();
    TableSpec { name: "bids".into(), columns, projection, event_time: None, primary_key: Vec::new() }
}

/// Decodes the records in batches of [`BATCH`].
pub fn decode<'a>(
    decoder: &mut dyn Decoder,
    records: impl Iterator<Item = &'a [u8]>,
    mut rows: impl FnMut(Changes),
) -> Outcome<()> {
    for (offset, record) in records.enumerate() {
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
    if let Some(changes) = decoder.flush()? {
        rows(changes);
    }
    Ok(())
}

/// Nanoseconds of CPU that this thread has used.
pub fn cpu_nanos() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// The number of rows that the command line says.
pub fn rows_or(default: usize) -> usize {
    std::env::args().skip(1).find_map(|arg| arg.replace('_', "").parse().ok()).unwrap_or(default)
}

/// One thing that is measured: its name, the index of the one that its speed is compared with, and what it does with [`CHUNK`] rows.
pub type Contender<'a> = (&'static str, Option<usize>, Box<dyn FnMut() -> Outcome<()> + 'a>);

/// Measures each over at least `rows` rows, and prints what it found. `bytes` is the size of [`CHUNK`] records.
pub fn compare(contenders: Vec<Contender<'_>>, bytes: usize, rows: usize) -> Outcome<()> {
    let rounds = rows.div_ceil(CHUNK).max(1);
    println!(
        "{} rows of {} bytes, batches of {BATCH}, best of {REPETITIONS}, CPU time of one core",
        rounds * CHUNK,
        bytes / CHUNK
    );
    println!("{:46} {:>10} {:>8} {:>7}", "", "M rows/s", "ns/row", "ratio");
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
        println!("{name:46} {:>10.2} {nanos:>8.1} {:>7}", 1e3 / nanos, ratio.unwrap_or_default());
        times.push(nanos);
    }
    Ok(())
}

//! Dead letters as they stand in their topics, read anew for each query.
//!
//! Bounded in number, in bytes and in time: the newest ones of each partition.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use laminar_core::connector::SourceContext;
use laminar_core::dead_letter::HEADER_PREFIX;
use laminar_core::source::{BatchLimit, Fetched, RawRecord, Source, SourceReader, SplitStart, StartAt};
use laminar_core::{Code, Position, Result, SplitId};
use tokio::time::{Instant, timeout_at};

use crate::System;

/// Letters that are looked at in each partition.
const MAX_LETTERS: u64 = 10_000;
/// Bytes of letters that one query holds; of more, the newest.
const MAX_BYTES: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(10);
const FETCH: BatchLimit = BatchLimit { rows: 1000, bytes: 4 << 20 };

/// One dead letter.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredLetter {
    /// What its headers say of it, by the name behind [`HEADER_PREFIX`].
    pub about: BTreeMap<String, String>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The record's own headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Where the letter itself stands.
    pub topic: String,
    pub partition: i32,
    pub offset: u64,
    /// When it was written, µs since 1970 UTC.
    pub written_micros: i64,
}

impl StoredLetter {
    /// `None`: the record is no letter of ours.
    fn of(record: &RawRecord<'_>) -> Option<Self> {
        let bytes = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
        let mut letter = Self {
            key: bytes(record.key),
            value: bytes(record.value),
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.position.0,
            written_micros: record.timestamp_micros,
            ..Self::default()
        };
        record.headers(&mut |name, value| match name.strip_prefix(HEADER_PREFIX) {
            // The last of a name counts: the others are of an earlier life as a letter.
            Some(name) => {
                let text = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                letter.about.insert(name.to_string(), text);
            }
            None => letter.headers.push((name.to_string(), bytes(value))),
        });
        letter.about.contains_key("table").then_some(letter)
    }

    fn num_bytes(&self) -> usize {
        let of = |b: &Option<Vec<u8>>| b.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + of(value)).sum();
        of(&self.key) + of(&self.value) + headers
    }
}

impl System {
    /// Letters of all tables that keep some, each table's together, in the order of their partitions.
    pub(crate) async fn dead_letters(&self) -> Result<Vec<StoredLetter>> {
        let catalog = self.catalog();
        let (values, snapshot) = (self.values(&catalog), &catalog.snapshot);
        let ctx = SourceContext { pipeline: None, clock: self.config.clock.clone(), partitions: None };
        let mut letters = Vec::new();
        for table in snapshot.tables.values() {
            let Some(source) = self.planner.dead_letter_source(snapshot, table, &ctx, &values)? else { continue };
            let found = read(source.as_ref()).await?;
            // Tables may share a topic of letters.
            letters.extend(found.into_iter().filter(|letter| letter.about.get("table") == Some(&table.name)));
        }
        Ok(letters)
    }
}

async fn read(source: &dyn Source) -> Result<Vec<StoredLetter>> {
    let splits = match source.discover().await {
        Ok(splits) => splits,
        // It is made when the first pipeline starts.
        Err(error) if error.code() == Code::UnknownTopic => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let ends = source.ends(&splits).await?;
    let mut open: BTreeMap<SplitId, Position> =
        splits.into_iter().zip(ends).filter_map(|(split, end)| Some((split, end?))).collect();
    let mut reader = open_near_the_end(source, &open).await?;
    let (mut letters, mut bytes) = (VecDeque::<StoredLetter>::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        for (split, position) in reader.positions() {
            if open.get(&split).is_some_and(|end| position >= *end) {
                open.remove(&split);
            }
        }
        if open.is_empty() {
            break;
        }
        let Ok(fetched) = timeout_at(deadline, reader.next(FETCH)).await else { break };
        let Fetched::Records(fetched) = fetched? else { break };
        for index in 0..fetched.records.len() {
            let Some(letter) = StoredLetter::of(&fetched.records.get(index)) else { continue };
            bytes += letter.num_bytes();
            letters.push_back(letter);
            while bytes > MAX_BYTES
                && let Some(oldest) = letters.pop_front()
            {
                bytes -= oldest.num_bytes();
            }
        }
    }
    let mut letters: Vec<_> = letters.into();
    letters.sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    Ok(letters)
}

/// A reader over the last [`MAX_LETTERS`] of each split.
async fn open_near_the_end(source: &dyn Source, ends: &BTreeMap<SplitId, Position>) -> Result<Box<dyn SourceReader>> {
    let beginning = ends.keys().map(|split| SplitStart { split: split.clone(), at: StartAt::Beginning });
    let reader = source.open(beginning.collect()).await?;
    let mut skips = false;
    let near = |(split, first): (SplitId, Position)| {
        let last = ends.get(&split).map_or(0, |end| end.0).saturating_sub(MAX_LETTERS);
        skips |= last > first.0;
        SplitStart { split, at: StartAt::At(Position(first.0.max(last))) }
    };
    let starts: Vec<_> = reader.positions().into_iter().map(near).collect();
    if skips { source.open(starts).await } else { Ok(reader) }
}

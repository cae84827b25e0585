//! Dead letters as they stand in their topics, read anew for each query.
//!
//! Bounded in number, in bytes and in time: the newest ones of each partition. What could not be read in time is an error, never
//! left out in silence.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use laminar_core::connector::SourceContext;
use laminar_core::dead_letter::HEADER_PREFIX;
use laminar_core::source::{BatchLimit, Fetched, RawRecord, Source, SourceReader, SplitStart, StartAt};
use laminar_core::{Code, Error, PipelineId, Position, Result, SplitId};
use laminar_planner::catalog::{CatalogSnapshot, TableDef};
use laminar_planner::statement::ObjectKind;
use tokio::time::timeout;

use crate::System;
use crate::catalog::Catalog;
use crate::define::{Definition, define};

/// Letters that are looked at in each partition.
const MAX_LETTERS: u64 = 10_000;
/// Bytes of letters that one query holds, of all tables together; of more, the newest of each.
const MAX_BYTES: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(10);
const FETCH: BatchLimit = BatchLimit { rows: 1000, bytes: 4 << 20 };

/// What a piece of a letter costs besides its bytes.
const OVERHEAD: usize = 64;

/// Topic, partition and offset of a letter.
pub(crate) type Place = (String, i64, i64);

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

    /// Where the letter stands.
    pub fn place(&self) -> Place {
        (self.topic.clone(), i64::from(self.partition), i64::try_from(self.offset).unwrap_or(i64::MAX))
    }

    fn num_bytes(&self) -> usize {
        let of = |b: &Option<Vec<u8>>| b.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| OVERHEAD + name.len() + of(value)).sum();
        let about: usize = self.about.iter().map(|(name, text)| OVERHEAD + name.len() + text.len()).sum();
        OVERHEAD + self.topic.len() + of(&self.key) + of(&self.value) + headers + about
    }
}

/// A table that keeps its dead letters, and those that stand in its topics now.
pub(crate) struct Kept {
    pub table: KeepingTable,
    /// In the order of their topics, partitions and offsets.
    pub letters: Result<Vec<StoredLetter>>,
}

/// A table that keeps its dead letters.
pub(crate) struct KeepingTable {
    /// What the table is defined in.
    pub snapshot: Arc<CatalogSnapshot>,
    pub name: String,
    /// The only pipeline that knows the table; `None`: it is the catalogue's.
    of: Option<PipelineId>,
}

impl KeepingTable {
    pub fn def(&self) -> Result<&TableDef> {
        let def = self.snapshot.tables.get(&self.name);
        def.ok_or_else(|| Error::internal(format!("table {} is nowhere", self.name)))
    }

    /// Is the letter one of this table's? Tables may share a topic of letters.
    fn keeps(&self, letter: &StoredLetter) -> bool {
        letter.about.get("table") == Some(&self.name)
            && self.of.as_ref().is_none_or(|id| letter.about.get("pipeline").is_some_and(|of| of == id.as_str()))
    }
}

impl System {
    /// Letters of all tables that keep some, the catalogue's and those that are a pipeline's own. All tables are read at once;
    /// one that cannot be read takes no other along.
    pub(crate) async fn dead_letters(&self) -> Vec<Kept> {
        let catalog = self.catalog();
        let ctx = SourceContext { pipeline: None, clock: self.config.clock.clone(), partitions: None };
        let mut sources = Vec::new();
        for table in self.tables_in_reach(&catalog) {
            let source = table
                .def()
                .and_then(|def| self.planner.dead_letter_source(&table.snapshot, def, &ctx, &self.values(&catalog)));
            if let Some(source) = source.transpose() {
                sources.push((table, source));
            }
        }
        let budget = MAX_BYTES / sources.len().max(1);
        let read = sources.into_iter().map(|(table, source)| async move {
            let letters = match source {
                Ok(source) => in_time(&table.name, read(source.as_ref(), |letter| table.keeps(letter), budget)).await,
                Err(error) => Err(error),
            };
            Kept { table, letters }
        });
        join_all(read).await
    }

    /// Every table that the catalogue or the text of a pipeline defines.
    fn tables_in_reach(&self, catalog: &Arc<Catalog>) -> Vec<KeepingTable> {
        let shared = Arc::new(catalog.snapshot.clone());
        let of_all = |name: &String| KeepingTable { snapshot: Arc::clone(&shared), name: name.clone(), of: None };
        let mut tables: Vec<_> = shared.tables.keys().map(of_all).collect();
        for pipeline in catalog.pipelines.values() {
            let defined = define(&self.planner, &catalog.snapshot, &pipeline.sql, &self.values(catalog));
            // One whose text is not valid any more has no tables that could be read.
            let Ok(Definition { snapshot, local, .. }) = defined else { continue };
            let snapshot = Arc::new(snapshot);
            let own = local.into_iter().filter(|object| object.kind == ObjectKind::Table);
            tables.extend(own.map(|object| KeepingTable {
                snapshot: Arc::clone(&snapshot),
                name: object.name,
                of: Some(pipeline.id.clone()),
            }));
        }
        tables
    }
}

async fn in_time<T>(table: &str, answer: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        let what = format!("the dead letters of table {table} were not read within {} s", PATIENCE.as_secs());
        Err(Error::new(Code::Timeout, what))
    })
}

/// The newest letters that are wanted, of at most `budget` bytes; but the newest in any case.
async fn read(source: &dyn Source, wanted: impl Fn(&StoredLetter) -> bool, budget: usize) -> Result<Vec<StoredLetter>> {
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
    // By when they were written, so that those that are over the budget are the oldest, whichever partition came first.
    let (mut letters, mut bytes) = (BTreeMap::new(), 0);
    loop {
        for (split, position) in reader.positions() {
            if open.get(&split).is_some_and(|end| position >= *end) {
                open.remove(&split);
            }
        }
        if open.is_empty() {
            break;
        }
        let Fetched::Records(fetched) = reader.next(FETCH).await? else { break };
        for index in 0..fetched.records.len() {
            let Some(letter) = StoredLetter::of(&fetched.records.get(index)).filter(&wanted) else { continue };
            bytes += letter.num_bytes();
            letters.insert((letter.written_micros, letter.place()), letter);
            while bytes > budget
                && letters.len() > 1
                && let Some((_, oldest)) = letters.pop_first()
            {
                bytes -= oldest.num_bytes();
            }
        }
    }
    let mut letters: Vec<_> = letters.into_values().collect();
    letters.sort_by_key(StoredLetter::place);
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

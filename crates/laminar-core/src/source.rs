//! A system we read from, divided into splits.
//!
//! The contract that makes exactly-once work: records of one split are totally ordered by [`Position`]; a checkpoint
//! stores one position per split, the *next* record to read; reading again from it yields the same records. The traits
//! carry bytes and positions, never a client library's types, so another way of reading can stand behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use async_trait::async_trait;

use crate::format::Decoder;
use crate::{Error, Health, Position, Result, SplitId};

#[async_trait]
pub trait Source: Send + Sync {
    /// Splits that exist now, in a stable order. Errors if the outside system cannot be reached or the thing to read
    /// (topic, file) does not exist.
    async fn discover(&self) -> Result<Vec<SplitId>>;

    /// Opens a reader over `splits`; each starts where its [`StartAt`] says. Errors with
    /// `checkpoint_mismatch` for a split that this source does not read.
    async fn open(&self, splits: Vec<SplitStart>) -> Result<Box<dyn SourceReader>>;

    /// A decoder for the records, or `None` if the reader yields rows.
    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>>;

    /// Ends of the splits as they are now: for each split, the position after its last record. A bounded preview reads
    /// up to here. `None` for a split without an end (a generator).
    async fn ends(&self, splits: &[SplitId]) -> Result<Vec<Option<Position>>>;

    /// Can its readers leave splits out for a while ([`SourceReader::pause`])?
    fn can_pause(&self) -> bool {
        false
    }

    /// How often to look for splits that appeared; `None`: those of the start are all there will ever be. A reader of such a
    /// source takes more splits ([`SourceReader::add`]).
    fn discovery_interval(&self) -> Option<Duration> {
        None
    }

    /// What tells each of these splits from an earlier one of the same name, where the outside system says it (a topic that is
    /// deleted and created again has another id): positions in the one mean nothing in the other.
    ///
    /// Errors: `unknown_topic` if a split is gone, and the options do not allow that its records are missed.
    async fn generations(&self, _splits: &[SplitId]) -> Result<BTreeMap<SplitId, String>> {
        Ok(BTreeMap::new())
    }

    /// A record may update or delete a row that an earlier one inserted: the decoder's changes have kinds.
    fn yields_changes(&self) -> bool {
        false
    }

    /// Each row takes the place of the one of its primary key: the decoder's changes are inserts, and deletes of which only the key is
    /// not null, whatever the columns say. Only if [`Source::yields_changes`].
    fn upserts(&self) -> bool {
        false
    }

    /// The consumer group whose offsets follow the checkpoints, if the outside system has such a thing.
    fn group(&self) -> Option<ConsumerGroup> {
        None
    }
}

/// Where the outside system records progress for other tools to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// Names the cluster: two objects with equal text are the same cluster.
    pub cluster: String,
    pub group_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitStart {
    pub split: SplitId,
    pub at: StartAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// Where the table's options say (earliest, latest, a timestamp).
    Configured,
    /// At the first record that there is: a split that appeared after the pipeline began.
    Beginning,
    At(Position),
    /// At the first record, if the options allow that records are missed: the checkpoint stands at this position of an
    /// earlier split of the same name, which is gone. See [`Source::generations`].
    Replaced(Position),
}

impl StartAt {
    /// For splits whose first record is at 0 and that have no other place to start.
    pub fn or_zero(self) -> Position {
        match self {
            Self::At(position) => position,
            Self::Configured | Self::Beginning | Self::Replaced(_) => Position(0),
        }
    }
}

#[async_trait]
pub trait SourceReader: Send {
    /// Waits for at least one record and returns what is at hand, at most `limit`. Cancel-safe: dropping the future
    /// loses nothing.
    async fn next(&mut self, limit: BatchLimit) -> Result<Fetched>;

    /// Where each split stands now: the next record to be fetched. A split that had no record yet has a concrete
    /// position too (`latest` must be pinned once it is resolved), else a restart would resolve it anew and lose rows.
    fn positions(&self) -> Vec<(SplitId, Position)>;

    /// Reads these splits too from now on; on an error it reads none of them, and may be asked again. Only if
    /// [`Source::discovery_interval`] says that there may be more.
    async fn add(&mut self, _splits: Vec<SplitStart>) -> Result<()> {
        Err(Error::internal("a source whose splits are fixed was given another"))
    }

    /// Leaves these splits out until it is called again without them; what was fetched of them and not returned is fetched
    /// anew. Only if [`Source::can_pause`].
    fn pause(&mut self, _splits: &BTreeSet<SplitId>) -> Result<()> {
        Err(Error::internal("a source that cannot pause was asked to"))
    }

    /// Splits that have not been read to the end that they have outside, though nothing of them is at hand: their silence
    /// says nothing.
    fn behind(&self) -> BTreeSet<SplitId> {
        BTreeSet::new()
    }

    /// Splits of which everything was returned and that will not grow.
    fn ended(&self) -> Vec<SplitId> {
        Vec::new()
    }

    /// `None`: it never says how the outside system does.
    fn health(&self) -> Option<Arc<dyn Health>> {
        None
    }

    /// These positions are now part of a committed checkpoint. Advisory: Kafka commits them to the group.
    async fn checkpointed(&mut self, _positions: &[(SplitId, Position)]) {}
}

/// Upper bounds of one fetch; the first that is reached ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimit {
    pub rows: usize,
    pub bytes: usize,
}

pub enum Fetched {
    /// Bytes, to be decoded.
    Records(FetchedRecords),
    /// Columns already, as generators make them.
    Rows(FetchedRows),
    /// Every split is exhausted and will not grow.
    End,
}

pub struct FetchedRecords {
    pub records: Box<dyn RawRecords>,
    /// Which split the records belong to: consecutive runs that together cover all records.
    pub runs: Vec<Run>,
    /// Nothing more is at hand: emit now rather than wait for a full batch.
    pub drained: bool,
    /// Records that the outside system had lost before they were read, and that the options allow to miss.
    pub lost: u64,
}

pub struct FetchedRows {
    /// The table's projected columns.
    pub rows: RecordBatch,
    /// Event time of each row, µs.
    pub times: TimestampMicrosecondArray,
    pub runs: Vec<Run>,
}

/// `count` consecutive records of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub split: SplitId,
    pub count: usize,
    /// Position after the run's last record. May skip numbers (compacted topics, transaction markers).
    pub next: Position,
}

/// A batch of records as the client library holds them; dropped when decoded.
pub trait RawRecords: Send {
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The record at `index`, below `len()`.
    fn get(&self, index: usize) -> RawRecord<'_>;
    /// Calls `visit` with the headers of record `index`, in order.
    fn headers(&self, _index: usize, _visit: &mut dyn FnMut(&str, Option<&[u8]>)) {}
}

/// One record as it came from outside, borrowed from its batch.
#[derive(Clone, Copy)]
pub struct RawRecord<'a> {
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// When the outside system says it happened, µs since 1970 UTC; arrival time if it says nothing.
    pub timestamp_micros: i64,
    pub timestamp_type: TimestampType,
    /// Topic, file path or generator name.
    pub topic: &'a str,
    pub partition: i32,
    /// This record's own position in its split.
    pub position: Position,
    /// The batch and index this record came from, for its headers.
    pub batch: Option<(&'a dyn RawRecords, usize)>,
}

impl RawRecord<'_> {
    pub fn headers(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        if let Some((batch, index)) = self.batch {
            batch.headers(index, visit);
        }
    }
}

/// What a record's timestamp means (KIP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
    /// The outside system has none; the timestamp is the arrival time.
    None,
}

/// Owned records, for connectors that read lines or messages into memory, and for tests.
#[derive(Debug, Default)]
pub struct OwnedRecords {
    pub topic: Arc<str>,
    pub partition: i32,
    pub timestamp_micros: i64,
    pub records: Vec<(Position, Vec<u8>)>,
}

impl RawRecords for OwnedRecords {
    fn len(&self) -> usize {
        self.records.len()
    }
    fn get(&self, index: usize) -> RawRecord<'_> {
        let (position, value) = match self.records.get(index) {
            Some((position, value)) => (*position, Some(value.as_slice())),
            None => (Position(0), None),
        };
        RawRecord {
            key: None,
            value,
            timestamp_micros: self.timestamp_micros,
            timestamp_type: TimestampType::None,
            topic: &self.topic,
            partition: self.partition,
            position,
            batch: Some((self, index)),
        }
    }
}

//! A system we write to.
//!
//! Writers are many (one per sink task); the outside transaction is one. So a [`SinkWriter`] only writes and flushes, and
//! the [`Committer`], shared by all writers of a pipeline into one outside system, makes an epoch visible:
//!
//! ```text
//!  recover ─► write … write ─► flush(N) ─┐ (every writer)
//!                              flush(N) ─┴► manifest N durable ─► commit(marker N) ─► write … (epoch N+1)
//! ```
//!
//! Between a writer's `flush(N)` and the return of `commit(N)` the runner writes nothing: rows of epoch N+1 must not enter
//! the transaction of epoch N. A checkpoint that is given up has no `commit(N)`: writing goes on, `flush(N+1)` follows, and
//! `commit(N+1)` makes the rows of both visible.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::source::ConsumerGroup;
use crate::{Changes, Epoch, Health, OperatorId, Position, Result, SplitId, TaskId};

#[async_trait]
pub trait Sink: Send + Sync {
    /// Opens the writer of one task. Called after the committer's `recover`.
    async fn open(&self, task: &TaskId) -> Result<Box<dyn SinkWriter>>;
    fn delivery(&self) -> Delivery;
    /// Which changes its writers take. The planner refuses a query whose rows are updated for a sink that only takes inserts.
    fn changes(&self) -> ChangeSupport {
        ChangeSupport::InsertOnly
    }
    /// Present exactly when `delivery()` is exactly-once. Sinks whose committers have equal ids share one transaction:
    /// the runner uses the first and drops the others.
    fn committer(&self) -> Option<Arc<dyn Committer>>;
}

/// Which changes a sink can show its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeSupport {
    /// Rows can only be added; any other kind is an error.
    InsertOnly,
    /// Rows can be updated and deleted too.
    Changes,
}

/// What a sink guarantees for each row across crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Rows are visible at once, and may come again after a failure.
    AtLeastOnce,
    /// Rows become visible with their checkpoint, each once.
    ExactlyOnce,
}

#[async_trait]
pub trait SinkWriter: Send {
    /// Accepts the rows; they may be buffered, within bounds. Waits while the outside system is slow. Errors for kinds that the
    /// sink's [`Sink::changes`] excludes.
    async fn write(&mut self, changes: &Changes) -> Result<()>;
    /// Returns when the outside system has acknowledged every row written so far: durable (at-least-once), or inside
    /// the open transaction and invisible (exactly-once). Errors if any row was refused.
    async fn flush(&mut self, epoch: Epoch) -> Result<()>;
    /// `None`: it never says how the outside system does.
    fn health(&self) -> Option<Arc<dyn Health>> {
        None
    }
}

/// One outside transaction after another, each ended by a marker that says which epoch it made visible.
#[async_trait]
pub trait Committer: Send + Sync {
    /// Equal for sinks that share a transaction, such as all topics of one Kafka cluster.
    fn id(&self) -> &str;
    /// Fences every earlier instance, ends its open transaction, then says which epoch the outside world has last:
    /// `None` if this pipeline never committed. Opens the next transaction.
    async fn recover(&self) -> Result<Option<Marker>>;
    /// Makes all flushed rows and the marker visible, atomically, and opens the next transaction. An error whose
    /// outcome is unknown or fenced must not be retried: the job recovers instead.
    async fn commit(&self, marker: &Marker, sources: &[SourceProgress]) -> Result<()>;
}

/// Written inside the sink's own transaction: the truth about what is visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Layout of this record; stored outside, do not renumber. Now 1.
    pub version: u32,
    pub epoch: Epoch,
    /// sha256 of the epoch's manifest, hex.
    pub manifest_digest: String,
    /// Next record to read, per source operator and split.
    pub positions: BTreeMap<OperatorId, BTreeMap<SplitId, Position>>,
    /// Smallest watermark of the sinks, µs since 1970 UTC.
    pub watermark: Option<i64>,
    /// The epoch that was committed before this one; absent where it is one less, as in markers of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Epoch>,
}

impl Marker {
    /// The epoch that was committed before this one; 0 if this is the first.
    pub fn previous(&self) -> Epoch {
        self.previous.unwrap_or(Epoch(self.epoch.0.saturating_sub(1)))
    }
}

/// How far one source operator got in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceProgress {
    pub group: Option<ConsumerGroup>,
    pub positions: Vec<(SplitId, Position)>,
}

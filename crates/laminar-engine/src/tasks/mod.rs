//! The loops. Each task is one parallel instance of a chain: `source` drives a chain whose head reads, `operator` one
//! whose head merges inputs; both push into a `chain` of operators, sinks and exchanges.

pub(crate) mod bad_rows;
pub(crate) mod chain;
pub(crate) mod channel;
pub(crate) mod discovery;
pub(crate) mod drift;
pub(crate) mod operator;
pub(crate) mod plan;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod watermark;

use std::collections::BTreeMap;

use laminar_core::source::SplitStart;
use laminar_core::{Barrier, Epoch, Error, OperatorId, Position, SplitId, TaskId};
use laminar_state::SourcePositions;

use crate::job::BadRow;
use crate::ledger::TaskCounts;
use crate::operator::Snapshot;

/// From the coordinator to a source task.
pub(crate) enum Command {
    Barrier(Barrier),
    /// This task's positions are part of a committed checkpoint.
    Committed(Vec<(SplitId, Position)>),
    /// Splits that appeared and that this task shall read.
    Add {
        splits: Vec<SplitStart>,
        generations: BTreeMap<SplitId, String>,
    },
}

/// From a task to the coordinator.
pub(crate) enum TaskEvent {
    Frozen(Frozen),
    /// The source has no more rows, ever.
    Exhausted(TaskId),
    /// The source stands exactly at the replay's bounds and waits for the barrier.
    Replayed(TaskId),
    BadRow(BadRow),
}

/// One task's part of a checkpoint.
pub(crate) struct Frozen {
    pub task: TaskId,
    pub epoch: Epoch,
    pub source: Option<(OperatorId, SourcePositions)>,
    pub snapshots: Vec<(OperatorId, Snapshot)>,
    /// All of the chain, those without a snapshot too.
    pub operators: Vec<OperatorId>,
    pub counts: TaskCounts,
    /// µs since 1970 UTC.
    pub watermark: Option<i64>,
}

/// The coordinator is gone: the job has ended, and so does the task.
pub(crate) fn coordinator_gone() -> Error {
    Error::internal("the checkpoint coordinator is gone")
}

//! What an operator must do, and what it may rely on.
//!
//! The runner calls an operator; the operator never reads channels, clocks or storage itself. The runner guarantees that
//! calls never overlap, that barriers are aligned over the inputs, and that the watermark only grows.

use std::fmt::Debug;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use laminar_core::{Changes, Epoch, Result, TaskId, Watermark};

/// Makes one operator per parallel instance.
pub trait OperatorFactory: Send + Sync + Debug {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>>;
    /// What the operator computes, for comparison with a checkpoint: equal text means its state fits.
    fn fingerprint(&self) -> String {
        format!("{self:?}")
    }
}

/// One step of a running query.
#[async_trait]
pub trait Operator: Send {
    /// Called once before any row; `ctx` has the restored state, if any.
    async fn open(&mut self, _ctx: &mut OperatorContext) -> Result<()> {
        Ok(())
    }
    /// Takes a batch of the input with this index and pushes what follows from it.
    async fn on_changes(&mut self, input: usize, changes: Changes, out: &mut Output) -> Result<()>;
    /// Does it compute what may not be computable of a row? Then [`Operator::check`] finds such rows.
    fn may_reject(&self) -> bool {
        false
    }
    /// After an error of `on_changes`, is it as before the call? Then it is offered the batch once more, without the rows that are to
    /// blame.
    fn can_retry(&self) -> bool {
        self.may_reject()
    }
    /// Computes of the rows what `on_changes` computes, and keeps nothing of it. Errors: those of `on_changes`.
    fn check(&self, _changes: &Changes) -> Result<()> {
        Ok(())
    }
    /// Rows that it left out since it was made, as the query says, if every other row that goes in comes out and no other does. `None`:
    /// it keeps rows, or makes some.
    fn filtered(&self) -> Option<u64> {
        None
    }
    /// What it has in its state, if it keeps something.
    fn held(&self) -> Option<Held> {
        None
    }
    /// No later row of any input is older. The runner forwards the watermark after the call.
    async fn on_watermark(&mut self, _watermark: Watermark, _out: &mut Output) -> Result<()> {
        Ok(())
    }
    /// Every input is exhausted: emit what is held back.
    async fn on_end(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }
    /// A barrier is about to pass: push rows that are held back only to be combined, so that they need not be kept.
    async fn on_barrier(&mut self, _out: &mut Output) -> Result<()> {
        Ok(())
    }
    /// What changed since the last snapshot. Does no I/O: files are written while the task goes on.
    fn snapshot(&mut self, _epoch: Epoch) -> Result<Snapshot> {
        Ok(Snapshot::default())
    }
}

/// What an operator keeps, for the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Rows in its state now; of a grouping, groups.
    pub now: u64,
    /// Rows that came, or were there when it was opened, and that it does not keep, or not any more: so many are missing in `now`. `None`:
    /// what it keeps are not the rows that come, as in a grouping.
    pub released: Option<u64>,
}

impl Held {
    pub(crate) fn rows(now: usize, released: u64) -> Self {
        Self { now: now as u64, released: Some(released) }
    }
    pub(crate) fn groups(now: usize) -> Self {
        Self { now: now as u64, released: None }
    }
}

/// What an operator learns when it is opened.
pub struct OperatorContext {
    pub task: TaskId,
    pub parallelism: usize,
    /// The files of the restored checkpoint, of *all* instances of the operator: one made at another parallelism has other
    /// files. Empty on a fresh start.
    pub restored: Vec<StateFile>,
    /// The watermark at the restored checkpoint's barrier: what it closed was emitted before.
    pub watermark: Option<i64>,
}

/// One immutable piece of an operator's state.
#[derive(Clone, Debug)]
pub struct StateFile {
    /// Unique among the files of the operator: `<task index>-<epoch>`, with a suffix if there are more.
    pub name: String,
    pub rows: Vec<RecordBatch>,
}

/// The difference between two checkpoints of one operator instance.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub add: Vec<StateFile>,
    /// Names of files that no restore needs any more.
    pub remove: Vec<String>,
}

/// Where an operator pushes its rows.
#[derive(Default)]
pub struct Output {
    changes: Vec<Changes>,
}

impl Output {
    /// Empty batches are dropped.
    pub fn push(&mut self, changes: Changes) {
        if changes.num_rows() > 0 {
            self.changes.push(changes);
        }
    }
    pub(crate) fn append(&mut self, other: &mut Output) {
        self.changes.append(&mut other.changes);
    }
    /// What was pushed since the last call, in order.
    pub fn take(&mut self) -> Vec<Changes> {
        std::mem::take(&mut self.changes)
    }
}

//! A sink at the end of a chain: its writer, and the rows that wait in front of it.
//!
//! ```text
//!  write … flush(N) ─┤ rows of N+1 are held ├─ released(N) ─► write held rows, write …
//! ```
//!
//! Between the flush and the commit of an epoch the transaction belongs to that epoch, so later rows are held, up to a bound;
//! then the task waits. While a sink is muted (its marker is ahead of the restored checkpoint) its rows are dropped: the
//! outside world has them.

use std::collections::VecDeque;
use std::sync::Arc;

use laminar_core::sink::SinkWriter;
use laminar_core::{Changes, Epoch, Result};
use tokio::sync::watch;
use tokio::time::Instant;

use super::coordinator_gone;
use crate::metrics::{OperatorMetrics, add};

/// Rows and bytes held in front of one writer while a commit is under way.
const HELD_ROWS: usize = 100_000;
const HELD_BYTES: usize = 32 << 20;

pub(crate) struct SinkEnd {
    writer: Box<dyn SinkWriter>,
    /// The last epoch that was committed; the sender is the coordinator.
    released: watch::Receiver<Epoch>,
    /// Rows written now would belong to this epoch's transaction, which is already flushed.
    awaiting: Option<Epoch>,
    /// Up to and including this epoch rows are dropped.
    muted_until: Option<Epoch>,
    waits_for_commit: bool,
    held: VecDeque<Changes>,
    held_rows: usize,
    held_bytes: usize,
    /// Rows that the writer took, or that are outside already.
    done: u64,
    metrics: Arc<OperatorMetrics>,
}

impl SinkEnd {
    /// `waits_for_commit`: the sink has a committer.
    pub(crate) fn new(
        writer: Box<dyn SinkWriter>,
        released: watch::Receiver<Epoch>,
        waits_for_commit: bool,
        muted_until: Option<Epoch>,
        metrics: Arc<OperatorMetrics>,
    ) -> Self {
        let held = VecDeque::new();
        metrics.watch(writer.health());
        Self {
            writer,
            released,
            awaiting: None,
            muted_until,
            waits_for_commit,
            held,
            held_rows: 0,
            held_bytes: 0,
            done: 0,
            metrics,
        }
    }

    pub(crate) async fn write(&mut self, changes: Changes) -> Result<()> {
        if self.muted_until.is_some() {
            self.done += changes.num_rows() as u64;
            return Ok(());
        }
        add(&self.metrics.rows_in, changes.num_rows());
        add(&self.metrics.batches_in, 1);
        if self.awaiting.is_none() {
            return self.hand_over(&changes).await;
        }
        self.held_rows += changes.num_rows();
        self.held_bytes += changes.num_bytes();
        self.held.push_back(changes);
        if self.held_rows >= HELD_ROWS || self.held_bytes >= HELD_BYTES {
            self.settle().await?;
        }
        Ok(())
    }

    /// Ends the epoch: all of its rows are acknowledged when this returns.
    pub(crate) async fn flush(&mut self, epoch: Epoch) -> Result<()> {
        self.settle().await?;
        if let Some(muted) = self.muted_until {
            if epoch >= muted {
                self.muted_until = None;
            }
            return Ok(());
        }
        self.writer.flush(epoch).await?;
        self.awaiting = self.waits_for_commit.then_some(epoch);
        Ok(())
    }

    /// Rows wait for a commit: call [`SinkEnd::settle`] when [`SinkEnd::released`] changes.
    pub(crate) fn holds_rows(&self) -> bool {
        !self.held.is_empty()
    }

    /// Waits until the flushed epoch, if any, is committed, then writes what was held.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        let Some(epoch) = self.awaiting else { return Ok(()) };
        let since = Instant::now();
        self.released.wait_for(|released| *released >= epoch).await.map_err(|_| coordinator_gone())?;
        add(&self.metrics.commit_wait_micros, since.elapsed().as_micros() as usize);
        self.awaiting = None;
        self.held_rows = 0;
        self.held_bytes = 0;
        for changes in std::mem::take(&mut self.held) {
            self.hand_over(&changes).await?;
        }
        Ok(())
    }

    async fn hand_over(&mut self, changes: &Changes) -> Result<()> {
        self.writer.write(changes).await?;
        add(&self.metrics.rows_out, changes.num_rows());
        self.done += changes.num_rows() as u64;
        Ok(())
    }

    /// Rows since the job started that need nothing more from the writer but its flush.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }
}

//! What a job is told when it starts, and what it tells while it runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::{Error, JobId, PipelineId, Result};
use laminar_engine::graph::Graph;
use laminar_engine::job::{Restore, StopMode};
use laminar_engine::metrics::JobMetrics;
use laminar_metastore::{CheckpointRow, JobErrorRow};
use tokio::sync::{mpsc, watch};

use crate::transition::{Phase, RestartPolicy};

/// Checkpoints and errors of a job that are kept in memory, to be shown while the metadata database is down.
const KEPT_IN_MEMORY: usize = 100;

/// Plans a pipeline's graph. Called before each launch: sources and sinks are never reused.
#[async_trait]
pub trait GraphFactory: Send + Sync {
    async fn graph(&self) -> Result<Graph>;
}

/// A job to be run.
#[derive(Clone)]
pub struct JobSpec {
    pub pipeline: PipelineId,
    pub parallelism: usize,
    pub checkpoint_interval: Duration,
    pub checkpoint_timeout: Duration,
    /// So many checkpoints in a row may fail before the job does.
    pub tolerable_failed_checkpoints: u32,
    pub policy: RestartPolicy,
    /// Where the first launch begins, and every other until the job has a checkpoint of its own.
    pub restore: Restore,
    pub graphs: Arc<dyn GraphFactory>,
}

/// Where a job stands.
#[derive(Clone, Debug)]
pub struct JobStatus {
    pub id: JobId,
    pub pipeline: PipelineId,
    /// 1 for the first job of its pipeline.
    pub run: u64,
    pub phase: Phase,
    /// Why it is `Failed`, `Recovering` or `Scheduling` again; in `Stopped`, why it stopped without a last checkpoint.
    pub failure: Option<Error>,
    pub restarts: u64,
    /// It has a checkpoint of its own, so a restart begins there.
    pub has_checkpoint: bool,
    pub parallelism: usize,
    /// Milliseconds since 1970 UTC.
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
}

/// A job that this process runs or ran last of its pipeline. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobHandle {
    pub(crate) commands: mpsc::Sender<StopMode>,
    pub(crate) status: watch::Receiver<JobStatus>,
    pub(crate) shared: Arc<Shared>,
}

/// Written by the driver, read by everybody.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    metrics: Mutex<Option<Arc<JobMetrics>>>,
    checkpoints: Mutex<VecDeque<CheckpointRow>>,
    errors: Mutex<VecDeque<JobErrorRow>>,
}

impl JobHandle {
    pub fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// The engine's counters since the last launch; `None` before the first.
    pub fn metrics(&self) -> Option<Arc<JobMetrics>> {
        lock(&self.shared.metrics).clone()
    }

    /// The latest checkpoints, newest first.
    pub fn checkpoints(&self) -> Vec<CheckpointRow> {
        lock(&self.shared.checkpoints).iter().rev().cloned().collect()
    }

    /// The latest errors, newest first.
    pub fn errors(&self) -> Vec<JobErrorRow> {
        lock(&self.shared.errors).iter().rev().cloned().collect()
    }

    /// Asks the job to stop and returns at once. A second, more urgent stop is heeded.
    pub async fn stop(&self, mode: StopMode) {
        // The receiver is gone when the job has ended: then there is nothing to stop.
        let _ = self.commands.send(mode).await;
    }

    /// Waits until the job runs, then returns its status; or the error that it could not start with. A job that ran and has
    /// ended since counts as started, whatever ended it.
    pub async fn wait_started(&self) -> Result<JobStatus> {
        let begun = |s: &JobStatus| !matches!(s.phase, Phase::Created | Phase::Scheduling | Phase::Recovering);
        let status = self.wait_for(begun).await?;
        match (status.phase, &status.failure) {
            (Phase::Failed, Some(error)) if status.started_at.is_none() => Err(error.clone()),
            _ => Ok(status),
        }
    }

    /// Waits until the job has a checkpoint of its own: from then on every restart, the server's too, begins there and not
    /// where the job before it ended. Errors: why it ended without one.
    pub async fn wait_checkpointed(&self) -> Result<()> {
        let status = self.wait_for(|s| s.has_checkpoint || s.phase.is_final()).await?;
        match status.failure {
            Some(error) if !status.has_checkpoint => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until the job's phase is final.
    pub async fn wait_ended(&self) -> Result<JobStatus> {
        self.wait_for(|s| s.phase.is_final()).await
    }

    async fn wait_for(&self, reached: impl FnMut(&JobStatus) -> bool) -> Result<JobStatus> {
        let mut status = self.status.clone();
        let found = status.wait_for(reached).await.map(|s| s.clone());
        found.map_err(|_| Error::internal(format!("the driver of job {} ended", self.status().id)))
    }
}

impl Shared {
    pub fn set_metrics(&self, metrics: Arc<JobMetrics>) {
        *lock(&self.metrics) = Some(metrics);
    }
    /// A later row of an epoch replaces the earlier one.
    pub fn push_checkpoint(&self, row: CheckpointRow) {
        let mut rows = lock(&self.checkpoints);
        match rows.iter_mut().rev().find(|r| r.epoch == row.epoch) {
            Some(known) => *known = row,
            None => push_bounded(&mut rows, row),
        }
    }
    pub fn push_error(&self, row: JobErrorRow) {
        push_bounded(&mut lock(&self.errors), row);
    }
}

fn push_bounded<T>(rows: &mut VecDeque<T>, row: T) {
    if rows.len() >= KEPT_IN_MEMORY {
        rows.pop_front();
    }
    rows.push_back(row);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

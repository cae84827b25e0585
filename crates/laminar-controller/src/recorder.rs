//! Keeps the metadata database's picture of jobs up to date, without ever holding up a job.
//!
//! Drivers leave what is new and go on. One task writes it down, and tries again while the database is away. What waits is
//! bounded: of a job only its latest state waits, of checkpoints and errors the newest [`WAITING_ROWS`].
//!
//! Nothing is lost that matters: a checkpoint's truth is its manifest, and the latest state of each job is kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use laminar_core::{Code, Epoch, Error, JobId, PipelineId, Result};
use laminar_metastore::{CheckpointRow, JobChange, Metastore, NewJobError};
use tokio::sync::Notify;

use crate::job::JobStatus;

/// Checkpoint rows, and error rows, that wait for the database at most; the oldest are given up.
const WAITING_ROWS: usize = 1_000;
/// Checkpoint rows of a pipeline that the database keeps.
const KEPT_CHECKPOINTS: u64 = 1_000;
/// Old checkpoint rows are deleted once in so many epochs.
const FORGET_EVERY: u64 = 100;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Recorder {
    metastore: Arc<dyn Metastore>,
    waiting: Mutex<Waiting>,
    /// Something waits.
    wake: Notify,
    /// Nothing waits any more.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of job ids, which is that of creation.
    jobs: BTreeMap<JobId, JobStatus>,
    checkpoints: VecDeque<CheckpointRow>,
    errors: VecDeque<NewJobError>,
    /// The writer has taken something and is not done with it.
    busy: bool,
}

enum Write {
    Job(JobStatus),
    Checkpoint(CheckpointRow),
    Error(NewJobError),
}

impl Recorder {
    /// Starts the writing task; it ends with the last clone of the recorder.
    pub fn start(metastore: Arc<dyn Metastore>) -> Arc<Self> {
        let recorder =
            Arc::new(Self { metastore, waiting: Mutex::default(), wake: Notify::new(), idle: Notify::new() });
        let weak = Arc::downgrade(&recorder);
        tokio::spawn(async move {
            // The state each job has in the database: an update names it.
            let mut recorded = HashMap::new();
            while let Some(recorder) = weak.upgrade() {
                match recorder.take() {
                    Some(write) => recorder.write(write, &mut recorded).await,
                    None => {
                        let wait = tokio::time::timeout(RETRY_MAX, recorder.wake.notified());
                        // woken or not, look again: the recorder may have been dropped meanwhile
                        let _ = wait.await;
                    }
                }
            }
        });
        recorder
    }

    pub fn job(&self, status: JobStatus) {
        self.lock().jobs.insert(status.id.clone(), status);
        self.wake.notify_one();
    }

    pub fn checkpoint(&self, row: CheckpointRow) {
        let mut waiting = self.lock();
        let epoch = (row.pipeline_id.clone(), row.epoch);
        waiting.checkpoints.retain(|r| (&r.pipeline_id, &r.epoch) != (&epoch.0, &epoch.1));
        push_bounded(&mut waiting.checkpoints, row);
        drop(waiting);
        self.wake.notify_one();
    }

    pub fn error(&self, row: NewJobError) {
        push_bounded(&mut self.lock().errors, row);
        self.wake.notify_one();
    }

    /// Waits until everything is written, at most `patience`.
    pub async fn flush(&self, patience: Duration) {
        let idle = async {
            loop {
                let notified = self.idle.notified();
                if self.lock().is_idle() {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(patience, idle).await.is_err() {
            tracing::warn!("the metadata database did not take the last job states in time");
        }
    }

    /// Forgets what waits for the rows of a pipeline that is being dropped.
    pub fn forget(&self, pipeline: &PipelineId) {
        let mut waiting = self.lock();
        waiting.jobs.retain(|_, status| status.pipeline != *pipeline);
        waiting.checkpoints.retain(|row| row.pipeline_id != *pipeline);
    }

    fn take(&self) -> Option<Write> {
        let mut waiting = self.lock();
        let job = waiting.jobs.pop_first().map(|(_, status)| Write::Job(status));
        let write = job
            .or_else(|| waiting.checkpoints.pop_front().map(Write::Checkpoint))
            .or_else(|| waiting.errors.pop_front().map(Write::Error));
        waiting.busy = write.is_some();
        if write.is_none() {
            self.idle.notify_waiters();
        }
        write
    }

    async fn write(&self, write: Write, recorded: &mut HashMap<JobId, String>) {
        let mut pause = RETRY_FIRST;
        loop {
            let result = match &write {
                Write::Job(status) => self.write_job(status, recorded).await,
                Write::Checkpoint(row) => self.write_checkpoint(row).await,
                Write::Error(row) => self.metastore.add_job_error(row.clone()).await.map(drop),
            };
            match result {
                Ok(()) => return,
                Err(error) if error.code() == Code::MetadataUnavailable => {
                    tracing::warn!(%error, "the metadata database is away; job states wait for it");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                    // A newer state of the job makes this one pointless.
                    if let Write::Job(status) = &write
                        && self.lock().jobs.contains_key(&status.id)
                    {
                        return;
                    }
                }
                // The pipeline was dropped, or the row cannot be stored: trying again would not help.
                Err(error) => {
                    tracing::debug!(%error, "a row about a job was not recorded");
                    return;
                }
            }
        }
    }

    async fn write_job(&self, status: &JobStatus, recorded: &mut HashMap<JobId, String>) -> Result<()> {
        let expected = match recorded.get(&status.id) {
            Some(state) => state.clone(),
            None => self.metastore.job(&status.id).await?.state,
        };
        let change = JobChange {
            state: status.phase.as_str().to_string(),
            failure: Some(status.failure.as_ref().map(failure_value)),
            restarts: Some(u32::try_from(status.restarts).unwrap_or(u32::MAX)),
            started_at: status.started_at,
            finished_at: Some(status.finished_at),
        };
        match self.metastore.update_job(&status.id, &expected, change).await {
            Ok(job) if status.phase.is_final() => {
                recorded.remove(&job.id);
                Ok(())
            }
            Ok(job) => {
                recorded.insert(job.id, job.state);
                Ok(())
            }
            Err(error) => {
                recorded.remove(&status.id);
                Err(error)
            }
        }
    }

    async fn write_checkpoint(&self, row: &CheckpointRow) -> Result<()> {
        self.metastore.put_checkpoint(row).await?;
        let epoch = row.epoch.0;
        if epoch.is_multiple_of(FORGET_EVERY) && epoch > KEPT_CHECKPOINTS {
            self.metastore.forget_checkpoints(&row.pipeline_id, Epoch(epoch - KEPT_CHECKPOINTS)).await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.checkpoints.is_empty() && self.errors.is_empty() && !self.busy
    }
}

fn push_bounded<T>(rows: &mut VecDeque<T>, row: T) {
    if rows.len() >= WAITING_ROWS {
        rows.pop_front();
    }
    rows.push_back(row);
}

/// An error as the REST API shows it.
pub(crate) fn failure_value(error: &Error) -> serde_json::Value {
    serde_json::json!({
        "code": error.code().as_str(),
        "message": error.message(),
        "detail": error.detail(),
        "hint": error.hint(),
    })
}

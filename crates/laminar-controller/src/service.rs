//! The door: starts, stops and lists jobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, JobId, PipelineId, Result};
use laminar_engine::crash::CrashPoints;
use laminar_engine::job::StopMode;
use laminar_metastore::{JobChange, Metastore, NewJob, Page};
use laminar_state::CheckpointStore;
use tokio::sync::{broadcast, mpsc, watch};

use crate::driver::Driver;
use crate::job::{JobHandle, JobSpec, JobStatus, Shared};
use crate::recorder::{Recorder, failure_value};
use crate::transition::Phase;

/// Status changes that a slow subscriber may lag behind.
const SUBSCRIBER_EVENTS: usize = 256;
/// Stops that wait for the driver's attention.
const COMMANDS: usize = 4;
/// How long a shutdown waits for the database to take the last states.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

pub struct ControllerConfig {
    pub metastore: Arc<dyn Metastore>,
    pub store: CheckpointStore,
    pub clock: SharedClock,
    pub crash: CrashPoints,
}

/// Runs at most one job per pipeline. One per process.
pub struct Controller {
    config: ControllerConfig,
    recorder: Arc<Recorder>,
    /// The latest job of each pipeline that this process started.
    jobs: Mutex<HashMap<PipelineId, JobHandle>>,
    events: broadcast::Sender<JobStatus>,
}

impl Controller {
    pub fn new(config: ControllerConfig) -> Self {
        let recorder = Recorder::start(Arc::clone(&config.metastore));
        let (events, _) = broadcast::channel(SUBSCRIBER_EVENTS);
        Self { config, recorder, jobs: Mutex::default(), events }
    }

    /// Marks jobs that a process before this one left unfinished: it died without a word.
    pub async fn close_orphans(&self) -> Result<()> {
        let error = Error::new(Code::Interrupted, "the server ended while the job ran")
            .with_hint("the pipeline goes on from its last checkpoint in a new job, if it was to run");
        for job in self.config.metastore.jobs(None, &Page::all()).await? {
            let is_open = Phase::parse(&job.state).is_none_or(|phase| !phase.is_final());
            if !is_open || self.job(&job.id).is_some() {
                continue;
            }
            let change = JobChange {
                state: Phase::Failed.as_str().to_string(),
                failure: Some(Some(failure_value(&error))),
                finished_at: Some(Some(self.config.clock.now_millis())),
                ..JobChange::default()
            };
            match self.config.metastore.update_job(&job.id, &job.state, change).await {
                // What ran it is just now recording how it ended.
                Err(error) if error.code() == Code::WrongState => {}
                changed => drop(changed?),
            }
        }
        Ok(())
    }

    /// Starts a job and returns at once; see [`JobHandle::wait_started`].
    ///
    /// Errors: `wrong_state` if the pipeline runs; `metadata_unavailable`.
    pub async fn start(&self, spec: JobSpec) -> Result<JobHandle> {
        let id = JobId::new(laminar_metastore::new_id(&self.config.clock));
        self.refuse_running(&spec.pipeline)?;
        let new = NewJob { id, pipeline_id: spec.pipeline.clone(), state: Phase::Created.as_str().to_string() };
        let row = self.config.metastore.create_job(new).await?;
        let (status, status_reader) = watch::channel(JobStatus {
            id: row.id,
            pipeline: row.pipeline_id,
            run: row.run,
            phase: Phase::Created,
            failure: None,
            restarts: 0,
            has_checkpoint: false,
            parallelism: spec.parallelism,
            created_at: row.created_at,
            started_at: None,
            finished_at: None,
        });
        let (commands, command_reader) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared::default());
        let handle = JobHandle { commands, status: status_reader, shared: Arc::clone(&shared) };
        {
            let mut jobs = self.lock();
            // two starts may have passed the first look together
            if let Some(running) = jobs.get(&spec.pipeline).filter(|j| !j.status().phase.is_final()) {
                return Err(already_running(&running.status()));
            }
            jobs.insert(spec.pipeline.clone(), handle.clone());
        }
        let driver = Driver {
            spec,
            store: self.config.store.clone(),
            clock: Arc::clone(&self.config.clock),
            crash: self.config.crash.clone(),
            recorder: Arc::clone(&self.recorder),
            shared,
            status,
            events: self.events.clone(),
            commands: command_reader,
        };
        tokio::spawn(driver.run());
        Ok(handle)
    }

    /// Stops the pipeline's job and waits until it has ended, at most `patience`. `None` if no job runs.
    ///
    /// Errors: `timeout` (the job goes on stopping).
    pub async fn stop(&self, pipeline: &PipelineId, mode: StopMode, patience: Duration) -> Result<Option<JobStatus>> {
        let Some(handle) = self.latest(pipeline).filter(|j| !j.status().phase.is_final()) else { return Ok(None) };
        handle.stop(mode).await;
        match tokio::time::timeout(patience, handle.wait_ended()).await {
            Ok(status) => status.map(Some),
            Err(_) => Err(Error::new(
                Code::Timeout,
                format!("job {} has not stopped within {patience:?}", handle.status().id),
            )
            .with_hint("it goes on stopping; STOP PIPELINE without a checkpoint does not wait for one")),
        }
    }

    /// Stops every job with a checkpoint; a job that has not ended within `patience` is stopped without one.
    pub async fn shutdown(&self, patience: Duration) {
        let running: Vec<_> = self.latest_jobs().into_iter().filter(|j| !j.status().phase.is_final()).collect();
        let stop = async |job: &JobHandle| {
            job.stop(StopMode::Checkpoint).await;
            if tokio::time::timeout(patience, job.wait_ended()).await.is_err() {
                tracing::warn!(job = %job.status().id, "no checkpoint in time; the job is stopped without one");
                job.stop(StopMode::Immediate).await;
                let _ = tokio::time::timeout(FLUSH_PATIENCE, job.wait_ended()).await;
            }
        };
        join_all(running.iter().map(stop)).await;
        self.recorder.flush(FLUSH_PATIENCE).await;
    }

    /// Waits until the metadata database has all that is known of jobs, within limits.
    pub async fn flush(&self) {
        self.recorder.flush(FLUSH_PATIENCE).await;
    }

    /// The pipeline's latest job, if this process started it.
    pub fn latest(&self, pipeline: &PipelineId) -> Option<JobHandle> {
        self.lock().get(pipeline).cloned()
    }

    /// The job, if it is the latest of its pipeline and this process started it.
    pub fn job(&self, id: &JobId) -> Option<JobHandle> {
        self.lock().values().find(|j| j.status.borrow().id == *id).cloned()
    }

    /// The latest job of each pipeline that this process started, oldest first.
    pub fn latest_jobs(&self) -> Vec<JobHandle> {
        let mut jobs: Vec<_> = self.lock().values().cloned().collect();
        jobs.sort_by_key(|j| j.status.borrow().id.clone());
        jobs
    }

    /// Forgets a stopped pipeline that is being dropped.
    pub fn forget(&self, pipeline: &PipelineId) {
        self.lock().remove(pipeline);
        self.recorder.forget(pipeline);
    }

    /// Every change of a job's phase from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<JobStatus> {
        self.events.subscribe()
    }

    fn refuse_running(&self, pipeline: &PipelineId) -> Result<()> {
        match self.latest(pipeline).map(|j| j.status()) {
            Some(status) if !status.phase.is_final() => Err(already_running(&status)),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PipelineId, JobHandle>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn already_running(status: &JobStatus) -> Error {
    let message = format!("job {} of the pipeline is {}", status.id, status.phase.as_str().to_lowercase());
    Error::new(Code::WrongState, message).with_hint("stop the pipeline first, or RESTART it")
}

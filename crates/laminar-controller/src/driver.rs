//! One task per running pipeline: feeds what happens to [`step`] and does what it says.
//!
//! The driver owns the engine job and the launch that precedes it. It never waits for the metadata database.

use std::sync::Arc;
use std::time::Duration;

use laminar_core::time::SharedClock;
use laminar_core::{Code, Epoch, Error, ErrorKind, Retry};
use laminar_engine::crash::CrashPoints;
use laminar_engine::job::{CheckpointSummary, Job, JobConfig, JobEvent, Restore, StopMode};
use laminar_metastore::{CheckpointRow, JobErrorRow, NewJobError};
use laminar_state::CheckpointStore;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::job::{JobSpec, JobStatus, Shared};
use crate::recorder::{Recorder, failure_value};
use crate::transition::{Action, Event, JobState, Phase, step};

/// How long the end of a job waits for its engine job to be gone.
const LET_GO_PATIENCE: Duration = Duration::from_secs(10);
/// Launches at a time in this process. Each holds a blocking thread and waits for calls that need another, so with as many
/// launches as there are such threads nothing would ever move.
static LAUNCHES: Semaphore = Semaphore::const_new(16);
/// Errors of one job that are recorded; further ones are only counted by the engine.
const RECORDED_ERRORS: usize = 1_000;

pub(crate) struct Driver {
    pub spec: JobSpec,
    pub store: CheckpointStore,
    pub clock: SharedClock,
    pub crash: CrashPoints,
    pub recorder: Arc<Recorder>,
    pub shared: Arc<Shared>,
    pub status: watch::Sender<JobStatus>,
    pub events: broadcast::Sender<JobStatus>,
    pub commands: mpsc::Receiver<StopMode>,
}

/// What the driver holds while the job lives.
#[derive(Default)]
struct Running {
    state: JobState,
    launch: Option<Launch>,
    job: Option<Job>,
    retry_at: Option<Instant>,
    /// Nobody is left who could ask for anything: the system is gone.
    abandoned: bool,
    /// The failure that the next status shows.
    failure: Option<Error>,
    errors: usize,
}

impl Driver {
    /// Returns when the job's phase is final and published.
    pub async fn run(mut self) {
        let mut running = Running::default();
        self.feed(&mut running, Event::Start);
        while !running.state.phase.is_final() {
            let event = self.next(&mut running).await;
            if let Some(event) = event {
                self.feed(&mut running, event);
            }
        }
        let_go(&mut running).await;
        self.publish(&running);
    }

    /// Waits for whatever happens next; `None` if it changes nothing about the job's life.
    async fn next(&mut self, running: &mut Running) -> Option<Event> {
        tokio::select! {
            command = self.commands.recv(), if !running.abandoned => match command {
                Some(mode) => Some(Event::Stop(mode)),
                None => {
                    running.abandoned = true;
                    Some(Event::Stop(StopMode::Immediate))
                }
            },
            launched = ended(&mut running.launch) => {
                running.launch = None;
                match launched {
                    Ok(Ok(job)) => {
                        self.shared.set_metrics(job.metrics());
                        running.job = Some(job);
                        None
                    }
                    Ok(Err(error)) => Some(self.failed(running, error)),
                    Err(panic) => Some(self.failed(running, Error::internal(format!("starting the job panicked: {panic}")))),
                }
            }
            event = next_event(&mut running.job) => self.on_engine(running, event),
            () = until(running.retry_at) => {
                running.retry_at = None;
                Some(Event::RetryDue)
            }
        }
    }

    fn on_engine(&self, running: &mut Running, event: Option<JobEvent>) -> Option<Event> {
        let Some(event) = event else {
            return Some(self.failed(running, Error::internal("the engine job vanished")));
        };
        match event {
            JobEvent::Started { restored } => {
                tracing::info!(job = %self.status.borrow().id, epoch = restored.map(|e| e.0), "job runs");
                return Some(Event::Started);
            }
            JobEvent::CheckpointStarted { epoch } => self.record_started(epoch),
            JobEvent::CheckpointCommitted(summary) => {
                self.record_committed(&summary);
                // Only the first is news: nobody is woken for the others.
                self.status.send_if_modified(|status| !std::mem::replace(&mut status.has_checkpoint, true));
            }
            JobEvent::CheckpointFailed { epoch, started_micros, finished_micros, error } => {
                self.record_failed(epoch, started_micros, finished_micros, &error);
                self.record_error(running, "warning", None, error.to_string(), failure_value(&error));
            }
            JobEvent::BadRow(bad) => {
                let detail = json!({
                    "table": bad.table,
                    "topic": bad.topic,
                    "partition": bad.partition,
                    "position": bad.position,
                    "stage": bad.stage.as_str(),
                    "code": bad.code.as_str(),
                });
                self.record_error(running, "warning", Some(bad.table), bad.message, detail);
            }
            JobEvent::Finished => return Some(Event::Finished),
            JobEvent::Stopped { .. } => return Some(Event::Stopped),
            JobEvent::Failed(error) => return Some(self.failed(running, error)),
        }
        None
    }

    fn failed(&self, running: &mut Running, error: Error) -> Event {
        // What we did wrong may be over after a restart, and its owner has no other remedy.
        let retry = if error.kind() == ErrorKind::Internal { Retry::Backoff } else { error.retry() };
        self.record_error(running, "error", None, error.to_string(), failure_value(&error));
        running.failure = Some(error);
        Event::Failed { retry, at_micros: self.clock.now_micros() }
    }

    fn feed(&mut self, running: &mut Running, event: Event) {
        let before = running.state.phase;
        if event == Event::Started {
            running.failure = None;
        }
        let (state, actions) = step(std::mem::take(&mut running.state), event, &self.spec.policy);
        running.state = state;
        for action in actions {
            self.act(running, action);
        }
        // The final phase is shown once nothing of the engine is left.
        if running.state.phase != before && !running.state.phase.is_final() {
            self.publish(running);
        }
    }

    fn act(&mut self, running: &mut Running, action: Action) {
        match action {
            Action::Launch => {
                running.job = None;
                running.launch = Some(Launch::begin(self.spec.clone(), self.config()));
            }
            Action::AbandonLaunch => {
                if let Some(launch) = &mut running.launch {
                    launch.keep = None;
                }
            }
            Action::StopEngine(mode) => {
                if let Some(job) = &running.job {
                    job.stop(mode);
                }
            }
            Action::RetryAfter(wait) => {
                running.job = None;
                running.retry_at = Some(Instant::now() + jittered(wait));
            }
            Action::End => running.retry_at = None,
        }
    }

    fn config(&self) -> JobConfig {
        JobConfig {
            job: self.status.borrow().id.clone(),
            pipeline: self.spec.pipeline.clone(),
            parallelism: self.spec.parallelism,
            checkpoint_interval: self.spec.checkpoint_interval,
            checkpoint_timeout: self.spec.checkpoint_timeout,
            tolerable_failed_checkpoints: self.spec.tolerable_failed_checkpoints,
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            restore: if self.status.borrow().has_checkpoint { Restore::Latest } else { self.spec.restore },
            crash: self.crash.clone(),
        }
    }

    fn publish(&self, running: &Running) {
        let now = self.clock.now_millis();
        let phase = running.state.phase;
        self.status.send_modify(|status| {
            status.phase = phase;
            status.restarts = running.state.restarts;
            status.failure = running.failure.clone().filter(|_| phase != Phase::Finished);
            if phase == Phase::Running {
                status.started_at.get_or_insert(now);
            }
            if phase.is_final() {
                status.finished_at = Some(now);
            }
        });
        let status = self.status.borrow().clone();
        match &status.failure {
            Some(error) if phase == Phase::Failed => {
                tracing::error!(job = %status.id, pipeline = %status.pipeline, code = %error.code(), %error, "job failed");
            }
            Some(error) if phase != Phase::Scheduling => {
                tracing::warn!(job = %status.id, pipeline = %status.pipeline, phase = phase.as_str(), %error, "job was interrupted");
            }
            _ => {
                tracing::info!(job = %status.id, pipeline = %status.pipeline, phase = phase.as_str(), "job changed")
            }
        }
        self.recorder.job(status.clone());
        // Nobody may be listening.
        let _ = self.events.send(status);
    }

    fn record_committed(&self, summary: &CheckpointSummary) {
        let row = CheckpointRow {
            pipeline_id: self.spec.pipeline.clone(),
            job_id: self.status.borrow().id.clone(),
            epoch: summary.epoch,
            state: "committed".to_string(),
            started_at: summary.started_micros / 1_000,
            finished_at: Some(summary.finished_micros / 1_000),
            bytes: summary.bytes,
            detail: json!({ "files": summary.files, "positions": summary.positions }),
        };
        self.shared.push_checkpoint(row.clone());
        self.recorder.checkpoint(row);
    }

    fn record_failed(&self, epoch: Epoch, started_micros: i64, finished_micros: i64, error: &Error) {
        let row = CheckpointRow {
            pipeline_id: self.spec.pipeline.clone(),
            job_id: self.status.borrow().id.clone(),
            epoch,
            state: "failed".to_string(),
            started_at: started_micros / 1_000,
            finished_at: Some(finished_micros / 1_000),
            bytes: 0,
            detail: json!({ "failure": failure_value(error) }),
        };
        self.shared.push_checkpoint(row.clone());
        self.recorder.checkpoint(row);
    }

    fn record_started(&self, epoch: Epoch) {
        let row = CheckpointRow {
            pipeline_id: self.spec.pipeline.clone(),
            job_id: self.status.borrow().id.clone(),
            epoch,
            state: "running".to_string(),
            started_at: self.clock.now_millis(),
            finished_at: None,
            bytes: 0,
            detail: Value::Null,
        };
        self.shared.push_checkpoint(row.clone());
        self.recorder.checkpoint(row);
    }

    fn record_error(
        &self,
        running: &mut Running,
        level: &str,
        operator: Option<String>,
        message: String,
        detail: Value,
    ) {
        running.errors += 1;
        if running.errors > RECORDED_ERRORS {
            return;
        }
        let job_id = self.status.borrow().id.clone();
        self.shared.push_error(JobErrorRow {
            id: format!("{job_id}-{}", running.errors),
            job_id: job_id.clone(),
            at: self.clock.now_millis(),
            level: level.to_string(),
            operator: operator.clone(),
            message: message.clone(),
            detail: detail.clone(),
        });
        self.recorder.error(NewJobError { job_id, level: level.to_string(), operator, message, detail });
    }
}

/// Waits until nothing of the engine is left: a launch that was abandoned may just have succeeded.
async fn let_go(running: &mut Running) {
    if let Some(mut launch) = running.launch.take() {
        launch.keep = None;
        // an error means that there is no job
        running.job = launch.result.await.ok().and_then(Result::ok);
    }
    let Some(job) = &mut running.job else { return };
    job.stop(StopMode::Immediate);
    let drained = async { while job.next_event().await.is_some() {} };
    if tokio::time::timeout(LET_GO_PATIENCE, drained).await.is_err() {
        tracing::warn!("an engine job did not end in time");
    }
    running.job = None;
}

/// The planning and start of an engine job. It has a thread of its own: planning computes, and connectors may block while
/// they open.
struct Launch {
    result: JoinHandle<Result<Job, Error>>,
    /// Dropped: the launch is given up.
    keep: Option<oneshot::Sender<()>>,
}

impl Launch {
    fn begin(spec: JobSpec, config: JobConfig) -> Self {
        let (keep, given_up) = oneshot::channel::<()>();
        let runtime = Handle::current();
        let result = tokio::spawn(async move {
            // Never closed: an error cannot be.
            let _permit = LAUNCHES.acquire().await;
            let launch = move || {
                runtime.block_on(async {
                    let start = async {
                        let graph = spec.graphs.graph().await?;
                        Job::start(graph, config).await
                    };
                    tokio::select! {
                        started = start => started,
                        _ = given_up => Err(Error::new(Code::Cancelled, "the start was given up")),
                    }
                })
            };
            let ended = tokio::task::spawn_blocking(launch).await;
            ended.unwrap_or_else(|panic| Err(Error::internal(format!("starting the job panicked: {panic}"))))
        });
        Self { result, keep: Some(keep) }
    }
}

async fn ended(launch: &mut Option<Launch>) -> Result<Result<Job, Error>, tokio::task::JoinError> {
    match launch {
        Some(launch) => (&mut launch.result).await,
        None => std::future::pending().await,
    }
}

async fn next_event(job: &mut Option<Job>) -> Option<JobEvent> {
    match job {
        Some(job) => job.next_event().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Between half of `wait` and all of it, so that pipelines that failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..=1.0))
}

//! Does what the protocol decides: injects barriers, writes manifests, commits, reports.
//!
//! One coordinator a job, one task. It owns the job's tasks: when one fails, all are stopped and the job ends with that
//! error; recovery is a new job. It never touches the metadata database, so a pipeline runs on while that is down.
//!
//! A checkpoint that is too slow, or that the store does not take, is given up and the job goes on, so many times in a row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{AbortHandle, abortable};
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use laminar_core::sink::{Committer, Marker, SourceProgress};
use laminar_core::source::ConsumerGroup;
use laminar_core::time::SharedClock;
use laminar_core::{
    Barrier, Code, Epoch, Error, JobId, OperatorId, PipelineId, Position, Result, Retry, SplitId, TaskId,
};
use laminar_state::{Manifest, PipelineStore, Publish, SourcePositions};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{info, warn};

use super::pending::PendingState;
use super::protocol::{Action, Protocol};
use crate::crash::CrashPoints;
use crate::job::{CheckpointSummary, JobEvent, StopMode};
use crate::ledger::{Books, LedgerEntry, Totals};
use crate::metrics::JobMetrics;
use crate::tasks::{Command, Frozen, TaskEvent};

/// State files written at the same time.
const UPLOADS: usize = 8;
/// Sinks and metadata may be slow to let go; tasks are dropped after this.
const TEARDOWN: Duration = Duration::from_secs(5);

pub(crate) struct Coordinator {
    pub job: JobId,
    pub pipeline: PipelineId,
    pub protocol: Protocol,
    pub committers: Vec<Arc<dyn Committer>>,
    pub store: PipelineStore,
    pub clock: SharedClock,
    pub interval: Duration,
    pub checkpoint_timeout: Duration,
    /// So many checkpoints in a row may fail.
    pub tolerable_failures: u32,
    /// Checkpoints that failed since the last that did not.
    pub failures: u32,
    pub tasks: JoinSet<Result<()>>,
    pub task_events: mpsc::Receiver<TaskEvent>,
    pub sources: BTreeMap<TaskId, SourceHandle>,
    pub groups: BTreeMap<OperatorId, Option<ConsumerGroup>>,
    pub released: watch::Sender<Epoch>,
    pub stop: mpsc::Receiver<StopMode>,
    pub events: mpsc::Sender<JobEvent>,
    pub metrics: Arc<JobMetrics>,
    pub crash: CrashPoints,
    /// What every operator computes, for the manifest.
    pub operators: BTreeMap<OperatorId, String>,
    pub books: Books,
    /// The last checkpoint that counts, if any.
    pub previous: Option<(Manifest, String)>,
    /// What was frozen since `previous`.
    pub pending: PendingState,
    /// Stops the writing of files and manifest that is under way.
    pub persisting: Option<AbortHandle>,
    /// Sources replay to the positions of the next epoch first.
    pub replaying: bool,
    /// Begin with a checkpoint that pins the start positions, before the first read.
    pub pin_start: bool,
}

/// How the coordinator reaches one source task.
pub(crate) struct SourceHandle {
    pub commands: mpsc::Sender<Command>,
    pub exhausted: bool,
    pub replayed: bool,
}

/// The checkpoint under way.
#[derive(Default)]
struct Current {
    epoch: Epoch,
    started_micros: i64,
    deadline: Option<Instant>,
    sources: BTreeMap<OperatorId, SourcePositions>,
    /// Positions by task, to acknowledge to each reader.
    by_task: BTreeMap<TaskId, Vec<(SplitId, Position)>>,
    /// Of each task.
    watermarks: Vec<Option<i64>>,
    /// Of each operator's tasks, by their index.
    operator_watermarks: BTreeMap<OperatorId, Vec<Option<i64>>>,
    totals: Totals,
    ledger: Vec<LedgerEntry>,
    manifest: Option<(Manifest, String)>,
    files: usize,
    bytes: u64,
}

/// Work that runs while the coordinator goes on listening.
// A few values a checkpoint: their size is no matter.
#[allow(clippy::large_enum_variant)]
enum Done {
    Persisted {
        manifest: Manifest,
        digest: String,
        files: usize,
        bytes: u64,
    },
    Committed {
        committer: usize,
        epoch: Epoch,
    },
    /// The store did not take it.
    NotPersisted {
        epoch: Epoch,
        error: Error,
    },
    CleanedUp(Result<()>),
    /// It was given up meanwhile.
    Nothing,
}

type Work = FuturesUnordered<futures::future::BoxFuture<'static, Result<Done>>>;

impl Coordinator {
    pub(crate) async fn run(mut self) {
        let mut current = Current::default();
        let last = match self.drive(&mut current).await {
            Ok(end) => end,
            Err(error) => {
                if self.protocol.is_undecided() {
                    self.report_failure(&current, &error);
                }
                JobEvent::Failed(error)
            }
        };
        let _ = timeout(TEARDOWN, self.tasks.shutdown()).await;
        let _ = self.events.send(last).await;
    }

    async fn drive(&mut self, current: &mut Current) -> Result<JobEvent> {
        let mut work = Work::new();
        let mut stopping = false;
        let mut ticks = interval_at(Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.pin_start {
            self.begin(false, current, &mut work).await?;
        }
        loop {
            let deadline = current.deadline;
            tokio::select! {
                Some(joined) = self.tasks.join_next() => task_result(joined)?,
                Some(event) = self.task_events.recv() => {
                    self.on_task_event(event, current, &mut work).await?;
                }
                Some(done) = work.next() => {
                    let actions = match done? {
                        Done::NotPersisted { epoch, error } if epoch == current.epoch => self.give_up(error, current)?,
                        done => self.on_done(done, current)?,
                    };
                    if let Some(epoch) = self.perform(actions, current, &mut work).await? {
                        return self.stopped(epoch, &mut work).await;
                    }
                }
                Some(mode) = self.stop.recv() => match mode {
                    StopMode::Checkpoint => stopping = true,
                    StopMode::Immediate => return Ok(JobEvent::Stopped { epoch: None }),
                },
                _ = ticks.tick() => {
                    if !self.replaying && !self.all_exhausted() {
                        self.begin(false, current, &mut work).await?;
                    }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let actions = self.overdue(current)?;
                    self.perform(actions, current, &mut work).await?;
                }
            }
            if self.protocol.is_idle() && !self.replaying && (stopping || self.all_exhausted()) {
                self.begin(true, current, &mut work).await?;
            }
        }
    }

    fn all_exhausted(&self) -> bool {
        self.sources.values().all(|s| s.exhausted)
    }

    async fn begin(&mut self, stop: bool, current: &mut Current, work: &mut Work) -> Result<()> {
        let actions = self.protocol.begin(stop);
        self.perform(actions, current, work).await.map(|_| ())
    }

    /// The checkpoint under way took too long; or one that was given up is still on its way, which counts as another.
    fn overdue(&mut self, current: &mut Current) -> Result<Vec<Action>> {
        let waited = humantime(self.checkpoint_timeout);
        let message =
            format!("checkpoint {} of pipeline {} was not done within {waited}", current.epoch, self.pipeline);
        let error = Error::new(Code::Timeout, message);
        if !self.protocol.is_draining() {
            return self.give_up(error, current);
        }
        self.count_failure(error.with_detail("its barrier has not passed every task since"))?;
        current.deadline = Some(Instant::now() + self.checkpoint_timeout);
        Ok(vec![])
    }

    /// The job goes on without this checkpoint: the next one has all of it. Errors: `error`, if it cannot, or not any more.
    fn give_up(&mut self, error: Error, current: &mut Current) -> Result<Vec<Action>> {
        let Some(actions) = self.protocol.give_up() else { return Err(error) };
        let error = self.count_failure(error).inspect_err(|error| self.report_failure(current, error))?;
        if let Some(persisting) = self.persisting.take() {
            persisting.abort();
        }
        warn!(pipeline = %self.pipeline, failures = self.failures, %error, "a checkpoint failed; the next one has all of it");
        current.deadline = self.protocol.is_draining().then(|| Instant::now() + self.checkpoint_timeout);
        self.report_failure(current, &error);
        Ok(actions)
    }

    fn report_failure(&self, current: &Current, error: &Error) {
        self.metrics.checkpoints_failed.fetch_add(1, Ordering::Relaxed);
        let event = JobEvent::CheckpointFailed {
            epoch: current.epoch,
            started_micros: current.started_micros,
            finished_micros: self.clock.now_micros(),
            error: error.clone(),
        };
        let _ = self.events.try_send(event);
    }

    /// Errors: `error`, if it is one too many.
    fn count_failure(&mut self, error: Error) -> Result<Error> {
        self.failures += 1;
        if self.failures > self.tolerable_failures {
            let in_a_row = format!("checkpoints that failed in a row: {}", self.failures);
            let detail = error.detail().map_or_else(|| in_a_row.clone(), |detail| format!("{detail}; {in_a_row}"));
            let hint = "checkpoint_timeout waits longer, tolerable_failed_checkpoints tries more often";
            return Err(error.with_detail(detail).with_hint(hint));
        }
        Ok(error)
    }

    async fn on_task_event(&mut self, event: TaskEvent, current: &mut Current, work: &mut Work) -> Result<()> {
        match event {
            TaskEvent::Frozen(frozen) => {
                let actions = self.protocol.frozen(&frozen.task, frozen.epoch)?;
                current.add(frozen, &mut self.pending);
                if self.protocol.is_idle() {
                    // The last task has seen a barrier that was given up: nothing is waited for.
                    current.deadline = None;
                }
                self.perform(actions, current, work).await.map(|_| ())
            }
            TaskEvent::Exhausted(task) => {
                self.sources.entry(task).and_modify(|s| s.exhausted = true);
                Ok(())
            }
            TaskEvent::Replayed(task) => {
                self.sources.entry(task).and_modify(|s| s.replayed = true);
                if self.replaying && self.sources.values().all(|s| s.replayed) {
                    self.replaying = false;
                    self.begin(false, current, work).await?;
                }
                Ok(())
            }
            TaskEvent::BadRow(bad) => {
                // A sample for people; the counters have all of them.
                let _ = self.events.try_send(JobEvent::BadRow(bad));
                Ok(())
            }
        }
    }

    fn on_done(&mut self, done: Done, current: &mut Current) -> Result<Vec<Action>> {
        match done {
            Done::Persisted { manifest, digest, files, bytes } => {
                self.crash.hit("manifest-written")?;
                let epoch = manifest.epoch;
                self.metrics.set_state(&manifest);
                current.manifest = Some((manifest, digest));
                self.pending = PendingState::default();
                self.persisting = None;
                (current.files, current.bytes) = (files, bytes);
                self.protocol.manifest_durable(epoch)
            }
            Done::Committed { committer, epoch } => {
                self.crash.hit("after-commit")?;
                self.protocol.committed(committer, epoch)
            }
            // Of an epoch that was given up.
            Done::NotPersisted { .. } | Done::Nothing => Ok(vec![]),
            Done::CleanedUp(result) => {
                // Left-over files cost space, not correctness; the next checkpoint tries again.
                if let Err(error) = result {
                    warn!(%error, "old checkpoint files were not deleted");
                }
                Ok(vec![])
            }
        }
    }

    /// Returns the epoch after which the job has stopped, if it has.
    async fn perform(&mut self, actions: Vec<Action>, current: &mut Current, work: &mut Work) -> Result<Option<Epoch>> {
        for action in actions {
            match action {
                Action::Inject(barrier) => self.inject(barrier, current).await?,
                Action::Persist(epoch) => {
                    current.ledger = self.books.close(epoch, &current.totals)?;
                    self.crash.hit("sinks-flushed")?;
                    let (persist, handle) = abortable(self.persist(current));
                    self.persisting = Some(handle);
                    work.push(Box::pin(async move {
                        match persist.await {
                            Ok(Err(error)) if error.retry() == Retry::Backoff => {
                                Ok(Done::NotPersisted { epoch, error })
                            }
                            Ok(done) => done,
                            Err(_) => Ok(Done::Nothing),
                        }
                    }));
                }
                Action::Commit { committer, epoch } => {
                    self.crash.hit("before-commit")?;
                    work.push(self.commit(committer, epoch, current)?);
                }
                Action::Release(_) => self.release(current).await?,
                // Its rows stay in the open transaction, and what follows joins them.
                Action::GiveUp(epoch) => {
                    self.released.send_replace(epoch);
                }
                Action::CleanUp(_) => {
                    self.crash.hit("before-cleanup")?;
                    work.push(self.clean_up(current));
                }
                Action::Stopped(epoch) => return Ok(Some(epoch)),
            }
        }
        Ok(None)
    }

    async fn inject(&mut self, barrier: Barrier, current: &mut Current) -> Result<()> {
        *current = Current {
            epoch: barrier.epoch,
            started_micros: self.clock.now_micros(),
            deadline: Some(Instant::now() + self.checkpoint_timeout),
            ..Current::default()
        };
        let _ = self.events.try_send(JobEvent::CheckpointStarted { epoch: barrier.epoch });
        for source in self.sources.values() {
            // A task that is gone reports why through its own result.
            let _ = source.commands.send(Command::Barrier(barrier)).await;
        }
        self.crash.hit("barrier-injected")
    }

    /// Writes all state files, then the manifest.
    fn persist(&self, current: &Current) -> impl Future<Output = Result<Done>> + Send + 'static {
        let deciding = self.committers.is_empty();
        let mut state = self.previous.as_ref().map(|(m, _)| m.state.clone()).unwrap_or_default();
        let pending = self.pending.clone();
        let mut manifest = Manifest {
            version: Manifest::VERSION,
            pipeline: self.pipeline.clone(),
            job: self.job.clone(),
            epoch: current.epoch,
            created_micros: current.started_micros,
            operators: self.operators.clone(),
            sources: current.sources.clone(),
            state: BTreeMap::new(),
            watermark: current.watermark(),
            watermarks: current.operator_watermarks.clone(),
            previous_digest: self.previous.as_ref().map(|(_, digest)| digest.clone()),
        };
        let (store, crash) = (self.store.clone(), self.crash.clone());
        async move {
            let epoch = manifest.epoch;
            let mut uploads = Vec::new();
            for (operator, pending) in pending.into_operators() {
                let files = &mut state.entry(operator.clone()).or_default().files;
                files.retain(|name, _| !pending.remove.contains(name));
                uploads.extend(pending.add.into_iter().map(|file| (operator.clone(), file)));
            }
            let write = |(operator, file): (OperatorId, crate::operator::StateFile)| {
                let store = store.clone();
                async move {
                    let written = store.write_state(&operator, epoch, &file.name, &file.rows).await?;
                    Ok::<_, Error>((operator, file.name, written))
                }
            };
            let written = futures::stream::iter(uploads).map(write).buffer_unordered(UPLOADS);
            let written: Vec<_> = written.try_collect().await?;
            let (files, bytes) = (written.len(), written.iter().map(|(_, _, f)| f.bytes).sum());
            for (operator, name, file) in written {
                state.entry(operator).or_default().files.insert(name, file);
            }
            crash.hit("state-written")?;
            manifest.state = state;
            let how = if deciding { Publish::Deciding } else { Publish::Candidate };
            let digest = store.publish(&manifest, how).await?;
            Ok(Done::Persisted { manifest, digest, files, bytes })
        }
    }

    fn commit(
        &self,
        index: usize,
        epoch: Epoch,
        current: &Current,
    ) -> Result<futures::future::BoxFuture<'static, Result<Done>>> {
        let (Some(committer), Some((manifest, digest))) = (self.committers.get(index), &current.manifest) else {
            return Err(Error::internal(format!("nothing to commit for epoch {epoch}")));
        };
        let marker = Marker {
            version: 1,
            epoch,
            manifest_digest: digest.clone(),
            positions: manifest.sources.iter().map(|(id, s)| (id.clone(), s.splits.clone())).collect(),
            watermark: manifest.watermark,
            previous: Some(self.protocol.last()).filter(|last| last.next() != epoch),
        };
        let progress = |(id, s): (&OperatorId, &SourcePositions)| SourceProgress {
            group: self.groups.get(id).cloned().flatten(),
            positions: s.splits.iter().map(|(split, at)| (split.clone(), *at)).collect(),
        };
        let sources: Vec<_> = manifest.sources.iter().map(progress).collect();
        let committer = Arc::clone(committer);
        Ok(Box::pin(async move {
            committer.commit(&marker, &sources).await?;
            Ok(Done::Committed { committer: index, epoch })
        }))
    }

    async fn release(&mut self, current: &mut Current) -> Result<()> {
        self.crash.hit("before-release")?;
        self.released.send_replace(current.epoch);
        for (task, positions) in std::mem::take(&mut current.by_task) {
            if let Some(source) = self.sources.get(&task) {
                let _ = source.commands.send(Command::Committed(positions)).await;
            }
        }
        self.metrics.set_ledger(std::mem::take(&mut current.ledger));
        current.deadline = None;
        self.failures = 0;
        let finished_micros = self.clock.now_micros();
        let took = u64::try_from(finished_micros - current.started_micros).unwrap_or(0);
        self.metrics.checkpoints_committed.fetch_add(1, Ordering::Relaxed);
        self.metrics.last_epoch.store(current.epoch.0, Ordering::Relaxed);
        self.metrics.last_checkpoint_bytes.store(current.bytes, Ordering::Relaxed);
        self.metrics.last_checkpoint_micros.store(took, Ordering::Relaxed);
        let summary = CheckpointSummary {
            epoch: current.epoch,
            started_micros: current.started_micros,
            finished_micros,
            bytes: current.bytes,
            files: current.files,
            positions: current.sources.iter().map(|(id, s)| (id.clone(), s.splits.clone())).collect(),
        };
        let _ = self.events.try_send(JobEvent::CheckpointCommitted(summary));
        Ok(())
    }

    fn clean_up(&mut self, current: &mut Current) -> futures::future::BoxFuture<'static, Result<Done>> {
        let newest = current.manifest.take();
        let previous = std::mem::replace(&mut self.previous, newest.clone());
        let store = self.store.clone();
        Box::pin(async move {
            let keep: Vec<_> = previous.iter().chain(&newest).map(|(m, digest)| (m, digest.as_str())).collect();
            Ok(Done::CleanedUp(store.retain(&keep).await))
        })
    }

    /// The last epoch is committed: lets the tasks and the clean-up end.
    async fn stopped(&mut self, epoch: Epoch, work: &mut Work) -> Result<JobEvent> {
        while let Some(joined) = self.tasks.join_next().await {
            task_result(joined)?;
        }
        while let Some(done) = work.next().await {
            self.on_done(done?, &mut Current::default())?;
        }
        info!(job = %self.job, %epoch, "job stopped with a checkpoint");
        Ok(if self.all_exhausted() { JobEvent::Finished } else { JobEvent::Stopped { epoch: Some(epoch) } })
    }
}

impl Current {
    fn add(&mut self, frozen: Frozen, pending: &mut PendingState) {
        let index = frozen.task.index as usize;
        if let Some((operator, positions)) = frozen.source {
            let of_task = positions.splits.iter().map(|(split, at)| (split.clone(), *at)).collect();
            self.by_task.insert(frozen.task, of_task);
            let all = self.sources.entry(operator).or_default();
            all.splits.extend(positions.splits);
            all.watermarks.extend(positions.watermarks);
            all.generations.extend(positions.generations);
        }
        for (operator, snapshot) in frozen.snapshots {
            pending.add(operator, snapshot);
        }
        self.totals.add(frozen.counts);
        self.watermarks.push(frozen.watermark);
        for operator in frozen.operators {
            let of_tasks = self.operator_watermarks.entry(operator).or_default();
            of_tasks.resize(of_tasks.len().max(index + 1), None);
            of_tasks.get_mut(index).into_iter().for_each(|watermark| *watermark = frozen.watermark);
        }
    }

    /// The smallest, of the tasks that have one.
    fn watermark(&self) -> Option<i64> {
        self.watermarks.iter().flatten().copied().min()
    }
}

/// A task ends by itself only when it stops with its job.
fn task_result(joined: Result<Result<()>, JoinError>) -> Result<()> {
    match joined {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            let panic = error.into_panic();
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(Error::internal("a task panicked").with_detail(text.unwrap_or_default()))
        }
        Err(_) => Ok(()),
    }
}

fn humantime(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

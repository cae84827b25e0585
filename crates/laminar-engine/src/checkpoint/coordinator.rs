//! Does what the protocol decides: injects barriers, writes manifests, commits, reports.
//!
//! One coordinator a job, one task. It owns the job's tasks: when one fails, all are stopped and the job ends with that
//! error; recovery is a new job. It never touches the metadata database, so a pipeline runs on while that is down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use laminar_core::sink::{Committer, Marker, SourceProgress};
use laminar_core::source::ConsumerGroup;
use laminar_core::time::SharedClock;
use laminar_core::{Barrier, Code, Epoch, Error, JobId, OperatorId, PipelineId, Position, Result, SplitId, TaskId};
use laminar_state::{Manifest, PipelineStore, Publish, SourcePositions};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{info, warn};

use super::protocol::{Action, Protocol};
use crate::crash::CrashPoints;
use crate::job::{CheckpointSummary, JobEvent, StopMode};
use crate::metrics::JobMetrics;
use crate::operator::Snapshot;
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
    /// The last checkpoint that counts, if any.
    pub previous: Option<(Manifest, String)>,
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
    snapshots: Vec<(OperatorId, Snapshot)>,
    /// Of each task.
    watermarks: Vec<Option<i64>>,
    /// The smallest of each operator's tasks; `None` while one has none.
    operator_watermarks: BTreeMap<OperatorId, Option<i64>>,
    manifest: Option<(Manifest, String)>,
    files: usize,
    bytes: u64,
}

/// Work that runs while the coordinator goes on listening.
// A few values a checkpoint: their size is no matter.
#[allow(clippy::large_enum_variant)]
enum Done {
    Persisted { manifest: Manifest, digest: String, files: usize, bytes: u64 },
    Committed { committer: usize, epoch: Epoch },
    CleanedUp(Result<()>),
}

type Work = FuturesUnordered<futures::future::BoxFuture<'static, Result<Done>>>;

impl Coordinator {
    pub(crate) async fn run(mut self) {
        let last = match self.drive().await {
            Ok(end) => end,
            Err(error) => {
                self.metrics.checkpoints_failed.fetch_add(u64::from(!self.protocol.is_idle()), Ordering::Relaxed);
                JobEvent::Failed(error)
            }
        };
        let _ = timeout(TEARDOWN, self.tasks.shutdown()).await;
        let _ = self.events.send(last).await;
    }

    async fn drive(&mut self) -> Result<JobEvent> {
        let mut work = Work::new();
        let mut current = Current::default();
        let mut stopping = false;
        let mut ticks = interval_at(Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.pin_start {
            self.begin(false, &mut current, &mut work).await?;
        }
        loop {
            let deadline = current.deadline;
            tokio::select! {
                Some(joined) = self.tasks.join_next() => task_result(joined)?,
                Some(event) = self.task_events.recv() => {
                    self.on_task_event(event, &mut current, &mut work).await?;
                }
                Some(done) = work.next() => {
                    let actions = self.on_done(done?, &mut current)?;
                    if let Some(epoch) = self.perform(actions, &mut current, &mut work).await? {
                        return self.stopped(epoch, &mut work).await;
                    }
                }
                Some(mode) = self.stop.recv() => match mode {
                    StopMode::Checkpoint => stopping = true,
                    StopMode::Immediate => return Ok(JobEvent::Stopped { epoch: None }),
                },
                _ = ticks.tick() => {
                    if !self.replaying && !self.all_exhausted() {
                        self.begin(false, &mut current, &mut work).await?;
                    }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let waited = humantime(self.checkpoint_timeout);
                    let message = format!("checkpoint {} of pipeline {} was not done within {waited}", current.epoch, self.pipeline);
                    return Err(Error::new(Code::Timeout, message));
                }
            }
            if self.protocol.is_idle() && !self.replaying && (stopping || self.all_exhausted()) {
                self.begin(true, &mut current, &mut work).await?;
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

    async fn on_task_event(&mut self, event: TaskEvent, current: &mut Current, work: &mut Work) -> Result<()> {
        match event {
            TaskEvent::Frozen(frozen) => {
                let actions = self.protocol.frozen(&frozen.task, frozen.epoch)?;
                current.add(frozen);
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
            TaskEvent::BadRecord { table, split, position, message } => {
                // A sample for people; the counters have all of them.
                let _ = self.events.try_send(JobEvent::BadRecord { table, split, position, message });
                Ok(())
            }
        }
    }

    fn on_done(&mut self, done: Done, current: &mut Current) -> Result<Vec<Action>> {
        match done {
            Done::Persisted { manifest, digest, files, bytes } => {
                self.crash.hit("manifest-written")?;
                let epoch = manifest.epoch;
                current.manifest = Some((manifest, digest));
                (current.files, current.bytes) = (files, bytes);
                self.protocol.manifest_durable(epoch)
            }
            Done::Committed { committer, epoch } => {
                self.crash.hit("after-commit")?;
                self.protocol.committed(committer, epoch)
            }
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
                Action::Persist(_) => {
                    self.crash.hit("sinks-flushed")?;
                    work.push(Box::pin(self.persist(current)));
                }
                Action::Commit { committer, epoch } => {
                    self.crash.hit("before-commit")?;
                    work.push(self.commit(committer, epoch, current)?);
                }
                Action::Release(_) => self.release(current).await?,
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
    fn persist(&self, current: &mut Current) -> impl Future<Output = Result<Done>> + Send + 'static {
        let deciding = self.committers.is_empty();
        let mut state = self.previous.as_ref().map(|(m, _)| m.state.clone()).unwrap_or_default();
        let snapshots = std::mem::take(&mut current.snapshots);
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
            watermarks: current.operator_watermarks.iter().filter_map(|(id, w)| Some((id.clone(), (*w)?))).collect(),
            previous_digest: self.previous.as_ref().map(|(_, digest)| digest.clone()),
        };
        let (store, crash) = (self.store.clone(), self.crash.clone());
        async move {
            let epoch = manifest.epoch;
            let mut uploads = Vec::new();
            for (operator, snapshot) in snapshots {
                let files = &mut state.entry(operator.clone()).or_default().files;
                snapshot.remove.iter().for_each(|name| drop(files.remove(name)));
                uploads.extend(snapshot.add.into_iter().map(|file| (operator.clone(), file)));
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
        current.deadline = None;
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
    fn add(&mut self, frozen: Frozen) {
        if let Some((operator, positions)) = frozen.source {
            let of_task = positions.splits.iter().map(|(split, at)| (split.clone(), *at)).collect();
            self.by_task.insert(frozen.task, of_task);
            let all = self.sources.entry(operator).or_default();
            all.splits.extend(positions.splits);
            all.watermarks.extend(positions.watermarks);
        }
        self.snapshots.extend(frozen.snapshots);
        self.watermarks.push(frozen.watermark);
        for operator in frozen.operators {
            let smallest = self.operator_watermarks.entry(operator).or_insert(frozen.watermark);
            *smallest = (*smallest).min(frozen.watermark);
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

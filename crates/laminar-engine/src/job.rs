//! The door to the engine: start a graph, watch it, stop it.
//!
//! [`Job::start`] recovers first (fence, markers, manifest, state), opens every reader and writer, and only then moves rows;
//! its errors mean that nothing was read or written. Afterwards the job reports through [`Job::next_event`]; `Finished`,
//! `Stopped` or `Failed` is the last event. A job never restarts itself: that is the controller's business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use laminar_core::dead_letter::Stage;
use laminar_core::sink::{Committer, Delivery, Sink};
use laminar_core::source::{SplitStart, StartAt};
use laminar_core::time::SharedClock;
use laminar_core::{Code, Epoch, Error, JobId, OperatorId, PipelineId, Position, Result, SplitId, TaskId};
use laminar_state::{CheckpointStore, SourcePositions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checkpoint::coordinator::{Coordinator, SourceHandle};
use crate::checkpoint::pending::PendingState;
use crate::checkpoint::protocol::Protocol;
use crate::checkpoint::recovery::{Recovered, recover};
use crate::crash::CrashPoints;
use crate::graph::{Exchange, Graph, NodeKind, SourceNode};
use crate::ledger::{Books, Counts};
use crate::metrics::{JobMetrics, OperatorKind, OperatorMetrics};
use crate::operator::OperatorContext;
use crate::tasks::TaskEvent;
use crate::tasks::bad_rows::BadRows;
use crate::tasks::chain::{Chain, ChainNode, Next, Step, Way};
use crate::tasks::channel::{Outlet, Receiver, Sender, channel};
use crate::tasks::discovery::{Discovery, KnownSplits};
use crate::tasks::drift::{Drift, Pace};
use crate::tasks::operator::OperatorTask;
use crate::tasks::plan::{ChainPlan, chains};
use crate::tasks::sink::SinkEnd;
use crate::tasks::source::SourceTask;
use crate::tasks::watermark::{MergedWatermark, SplitWatermarks};

/// Life-cycle events that wait for their reader.
const JOB_EVENTS: usize = 1024;
/// Events of all tasks that wait for the coordinator.
const TASK_EVENTS: usize = 1024;
/// Commands that wait for one source task: at most one barrier and one acknowledgement are under way.
const COMMANDS: usize = 8;

#[derive(Clone)]
pub struct JobConfig {
    pub job: JobId,
    pub pipeline: PipelineId,
    /// Parallel instances of every chain, at least 1.
    pub parallelism: usize,
    pub checkpoint_interval: Duration,
    /// A checkpoint that takes longer is given up: what it should have committed is part of the next.
    pub checkpoint_timeout: Duration,
    /// So many checkpoints in a row may fail before the job does.
    pub tolerable_failed_checkpoints: u32,
    pub store: CheckpointStore,
    pub clock: SharedClock,
    pub restore: Restore,
    pub crash: CrashPoints,
}

/// What a job starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// The last committed checkpoint, if there is one.
    Latest,
    /// An older one that is still kept: rows after it are written again.
    Epoch(Epoch),
    /// No state: sources start as configured.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// One more checkpoint, then the end.
    Checkpoint,
    /// At once; what came after the last checkpoint will be read again.
    Immediate,
}

/// One run of a pipeline.
pub struct Job {
    events: mpsc::Receiver<JobEvent>,
    stop: mpsc::Sender<StopMode>,
    metrics: Arc<JobMetrics>,
}

#[derive(Clone, Debug)]
pub enum JobEvent {
    Started {
        /// `None`: without state.
        restored: Option<Epoch>,
    },
    CheckpointStarted {
        epoch: Epoch,
    },
    CheckpointCommitted(CheckpointSummary),
    /// It was given up, and the job goes on.
    CheckpointFailed {
        epoch: Epoch,
        /// µs since 1970 UTC.
        started_micros: i64,
        finished_micros: i64,
        error: Error,
    },
    /// One of a sample of those that were left out.
    BadRow(BadRow),
    /// Every source was exhausted, and all rows are committed.
    Finished,
    Stopped {
        /// The checkpoint it stopped with; `None` if it stopped at once.
        epoch: Option<Epoch>,
    },
    Failed(Error),
}

/// A record or row that could not be used, and why.
#[derive(Clone, Debug)]
pub struct BadRow {
    pub table: String,
    /// Where its record stands; `None` if it comes from none, as a generated row.
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub position: Option<Position>,
    pub stage: Stage,
    pub code: Code,
    pub message: String,
}

/// A checkpoint that is done.
#[derive(Clone, Debug)]
pub struct CheckpointSummary {
    pub epoch: Epoch,
    /// µs since 1970 UTC.
    pub started_micros: i64,
    pub finished_micros: i64,
    /// Written for this checkpoint, not the whole state.
    pub bytes: u64,
    pub files: usize,
    /// Next record to read, per source and split.
    pub positions: BTreeMap<OperatorId, BTreeMap<SplitId, Position>>,
}

impl Job {
    /// Recovers, opens everything and starts the tasks.
    pub async fn start(graph: Graph, config: JobConfig) -> Result<Job> {
        graph.check()?;
        let committers = committers(&graph);
        let store = config.store.pipeline(&config.pipeline);
        let recovered = recover(&graph, &committers, &store, config.restore, &config.crash).await?;
        let restored = recovered.manifest.as_ref().map(|(m, _)| m.epoch);
        let (released, released_by_tasks) = watch::channel(recovered.last);
        let (task_events, from_tasks) = mpsc::channel(TASK_EVENTS);
        let metrics = Arc::new(JobMetrics::default());
        if let Some((manifest, _)) = &recovered.manifest {
            metrics.set_state(manifest);
        }
        let pin_start = recovered.pin_start;
        let first = recovered.replay.as_ref().map(|r| r.epoch).or(pin_start.then(|| recovered.last.next()));
        let mut builder = Builder {
            graph: &graph,
            config: &config,
            committers: &committers,
            recovered: &recovered,
            released: released_by_tasks,
            events: task_events,
            metrics: Arc::clone(&metrics),
            tasks: JoinSet::new(),
            ids: Vec::new(),
            sources: BTreeMap::new(),
            futures: Vec::new(),
        };
        builder.build().await?;
        let Builder { mut tasks, ids, sources, futures, .. } = builder;
        for task in futures {
            tasks.spawn(task);
        }
        let (events_out, events) = mpsc::channel(JOB_EVENTS);
        let (stop, stop_in) = mpsc::channel(4);
        let _ = events_out.try_send(JobEvent::Started { restored });
        let group = |node: &crate::graph::Node| match &node.kind {
            NodeKind::Source(source) => Some((node.id.clone(), source.source.group())),
            _ => None,
        };
        let protocol = Protocol::new(ids.into_iter().collect(), recovered.ahead, recovered.last);
        let coordinator = Coordinator {
            job: config.job.clone(),
            pipeline: config.pipeline.clone(),
            protocol: match first {
                Some(epoch) => protocol.starting_with(epoch),
                None => protocol,
            },
            committers,
            store,
            clock: config.clock.clone(),
            interval: config.checkpoint_interval,
            checkpoint_timeout: config.checkpoint_timeout,
            tolerable_failures: config.tolerable_failed_checkpoints,
            failures: 0,
            tasks,
            task_events: from_tasks,
            sources,
            groups: graph.nodes.iter().filter_map(group).collect(),
            released,
            stop: stop_in,
            events: events_out,
            metrics: Arc::clone(&metrics),
            crash: config.crash.clone(),
            operators: graph.fingerprint(),
            books: Books::of(&graph),
            previous: recovered.manifest,
            pending: PendingState::default(),
            persisting: None,
            replaying: recovered.replay.is_some(),
            pin_start,
        };
        tokio::spawn(coordinator.run());
        Ok(Job { events, stop, metrics })
    }

    /// Asks the job to stop; the end arrives as an event. Asking again is harmless, and `Immediate` overrides.
    pub fn stop(&self, mode: StopMode) {
        // Full: enough requests are waiting already. Closed: it has ended.
        let _ = self.stop.try_send(mode);
    }

    pub fn metrics(&self) -> Arc<JobMetrics> {
        Arc::clone(&self.metrics)
    }

    /// `None` after the last event.
    pub async fn next_event(&mut self) -> Option<JobEvent> {
        self.events.recv().await
    }
}

/// One of each id, in the order of the graph: sinks with equal ids share a transaction, dead letters and rows too.
fn committers(graph: &Graph) -> Vec<Arc<dyn Committer>> {
    let mut found: Vec<Arc<dyn Committer>> = Vec::new();
    for sink in graph.written() {
        let committer = sink.committer().filter(|_| sink.delivery() == Delivery::ExactlyOnce);
        if let Some(committer) = committer
            && !found.iter().any(|c| c.id() == committer.id())
        {
            found.push(committer);
        }
    }
    found
}

type TaskFuture = futures::future::BoxFuture<'static, Result<()>>;

/// Opens what the tasks need. Nothing runs until all of it is open.
struct Builder<'a> {
    graph: &'a Graph,
    config: &'a JobConfig,
    committers: &'a [Arc<dyn Committer>],
    recovered: &'a Recovered,
    released: watch::Receiver<Epoch>,
    events: mpsc::Sender<TaskEvent>,
    metrics: Arc<JobMetrics>,
    tasks: JoinSet<Result<()>>,
    ids: Vec<TaskId>,
    sources: BTreeMap<TaskId, SourceHandle>,
    futures: Vec<TaskFuture>,
}

/// What one source task begins with.
struct Splits<'a> {
    starts: Vec<SplitStart>,
    /// Of all tasks' splits.
    generations: &'a BTreeMap<SplitId, String>,
    /// `None`: the source does not grow.
    growth: Option<KnownSplits>,
}

fn of_these(
    generations: &BTreeMap<SplitId, String>,
    splits: &BTreeMap<SplitId, Position>,
) -> BTreeMap<SplitId, String> {
    let ours = generations.iter().filter(|(split, _)| splits.contains_key(*split));
    ours.map(|(split, generation)| (split.clone(), generation.clone())).collect()
}

/// Ends of the channels that an edge becomes: `senders[from][to]`, `receivers[to][from]`.
struct Wires {
    outlets: Vec<Option<Outlet>>,
    receivers: Vec<Vec<Receiver>>,
}

impl Builder<'_> {
    async fn build(&mut self) -> Result<()> {
        let plans = chains(self.graph);
        let parallelism = self.config.parallelism.max(1);
        let mut wires: BTreeMap<usize, Wires> = BTreeMap::new();
        for plan in &plans {
            for edge in &plan.inputs {
                wires.insert(*edge, self.wire(*edge, parallelism));
            }
        }
        for plan in &plans {
            let Some(head) = plan.nodes.first().and_then(|n| self.graph.nodes.get(*n)) else { continue };
            let drift = match &head.kind {
                NodeKind::Source(source) => source.max_drift.map(|max| Arc::new(Drift::new(max))),
                _ => None,
            };
            let (mut starts, generations) = match &head.kind {
                NodeKind::Source(source) => self.starts(&head.id, source, parallelism).await?,
                _ => Default::default(),
            };
            let known = KnownSplits::default();
            for (index, start) in starts.iter().enumerate().flat_map(|(i, of)| of.iter().map(move |start| (i, start))) {
                known.insert(start.split.clone(), index, generations.get(&start.split).cloned());
            }
            if let Some(drift) = &drift {
                drift.expect(starts.iter().flatten().map(|start| start.split.clone()));
            }
            for index in 0..parallelism {
                let task = TaskId { operator: head.id.clone(), index: index as u32 };
                let chain = self.chain(plan, index, &mut wires).await?;
                match &head.kind {
                    NodeKind::Source(source) => {
                        let splits = starts.get_mut(index).map(std::mem::take).unwrap_or_default();
                        let pace = drift.clone().map(Pace::new);
                        let growth = source.source.discovery_interval().map(|_| known.clone());
                        let splits = Splits { starts: splits, generations: &generations, growth };
                        self.source_task(task, source, splits, chain, pace).await?;
                    }
                    _ => self.operator_task(task, plan, index, chain, &mut wires),
                }
            }
            if let NodeKind::Source(source) = &head.kind {
                self.discovery(&head.id, source, known);
            }
        }
        Ok(())
    }

    fn wire(&self, edge: usize, parallelism: usize) -> Wires {
        let mut receivers: Vec<Vec<Receiver>> = (0..parallelism).map(|_| Vec::new()).collect();
        let exchange = self.graph.edges.get(edge).map(|e| &e.exchange);
        let mut outlets = Vec::with_capacity(parallelism);
        for from in 0..parallelism {
            let outlet = match exchange {
                Some(Exchange::Hash(keys)) => {
                    let ends: Vec<(Sender, Receiver)> = (0..parallelism).map(|_| channel()).collect();
                    let (senders, ends): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
                    receivers.iter_mut().zip(ends).for_each(|(to, end)| to.push(end));
                    Outlet::Hash { keys: keys.clone(), receivers: senders }
                }
                _ => {
                    let (sender, end) = channel();
                    if let Some(to) = receivers.get_mut(from) {
                        to.push(end);
                    }
                    Outlet::Forward(sender)
                }
            };
            outlets.push(Some(outlet));
        }
        Wires { outlets, receivers }
    }

    /// Where each instance's splits start: as restored, else as configured. A split that a restored job has never seen is
    /// new, so it is read from its beginning. With what tells the splits from earlier ones of the same name.
    async fn starts(
        &self,
        id: &OperatorId,
        source: &SourceNode,
        parallelism: usize,
    ) -> Result<(Vec<Vec<SplitStart>>, BTreeMap<SplitId, String>)> {
        let known = self.recovered.manifest.as_ref().map(|(m, _)| m.sources.get(id).cloned().unwrap_or_default());
        let mut discovered = source.source.discover().await?;
        // What the checkpoint has is read, and what a replay is to make again, though a broker does not know of it now.
        let replayed = self.recovered.replay.iter().filter_map(|replay| replay.bounds.get(id)).flat_map(|b| b.keys());
        let expected: BTreeSet<&SplitId> = known.iter().flat_map(|k| k.splits.keys()).chain(replayed).collect();
        let found = discovered.len();
        let missing: Vec<_> = expected.into_iter().filter(|split| !discovered.contains(split)).cloned().collect();
        discovered.extend(missing);
        let mut generations = source.source.generations(&discovered).await?;
        let is_another = |split: &SplitId, known: &SourcePositions| {
            known.generations.get(split).zip(generations.get(split)).is_some_and(|(before, now)| before != now)
        };
        // But not one that is missing in another topic of the same name: it is not there to be read. Unless nobody else is asked whether
        // that may be missed.
        let other = |split: &SplitId| known.as_ref().is_some_and(|k| is_another(split, k));
        let is_asked = discovered.iter().take(found).any(other);
        let is_gone = |i: usize, split: &SplitId| i >= found && is_asked && other(split);
        let there = discovered.into_iter().enumerate().filter(|(i, split)| !is_gone(*i, split)).map(|(_, split)| split);
        let mut starts: Vec<Vec<SplitStart>> = vec![Vec::new(); parallelism];
        for (i, split) in there.collect::<Vec<_>>().into_iter().enumerate() {
            let at = match &known {
                None => StartAt::Configured,
                Some(known) => match known.splits.get(&split) {
                    None => StartAt::Beginning,
                    Some(position) if is_another(&split, known) => StartAt::Replaced(*position),
                    Some(position) => StartAt::At(*position),
                },
            };
            if let Some(of_task) = starts.get_mut(i % parallelism) {
                of_task.push(SplitStart { split, at });
            }
        }
        // One that is not there now may come back as another.
        for (split, generation) in known.into_iter().flat_map(|k| k.generations) {
            generations.entry(split).or_insert(generation);
        }
        Ok((starts, generations))
    }

    /// Lets the source grow, if it can.
    fn discovery(&mut self, id: &OperatorId, node: &SourceNode, known: KnownSplits) {
        let Some(period) = node.source.discovery_interval() else { return };
        let tasks = self.sources.iter().filter(|(task, _)| task.operator == *id);
        let discovery = Discovery {
            table: node.table.clone(),
            source: Arc::clone(&node.source),
            period,
            known,
            tasks: tasks.map(|(_, handle)| handle.commands.clone()).collect(),
        };
        self.futures.push(Box::pin(discovery.run()));
    }

    async fn source_task(
        &mut self,
        id: TaskId,
        node: &SourceNode,
        splits: Splits<'_>,
        chain: Chain,
        pace: Option<Pace>,
    ) -> Result<()> {
        let operator = id.operator.clone();
        let (reader, decoder) = match splits.starts.is_empty() {
            true => (None, None),
            false => (Some(node.source.open(splits.starts).await?), node.source.decoder()?),
        };
        let positions: BTreeMap<_, _> = reader.iter().flat_map(|r| r.positions()).collect();
        let replay = self.recovered.replay.as_ref().map(|replay| {
            let mut bounds = replay.bounds.get(&operator).cloned().unwrap_or_default();
            // A split that appeared since has no part in the epoch that is made again: it stays where it starts.
            for (split, at) in &positions {
                bounds.entry(split.clone()).or_insert(*at);
            }
            bounds
        });
        let restored = self.recovered.manifest.as_ref().and_then(|(m, _)| m.sources.get(&operator));
        let watermarks = SplitWatermarks::new(
            positions.keys().cloned(),
            restored.map(|s| &s.watermarks).unwrap_or(&BTreeMap::new()),
            node.watermark_delay,
            node.idle_timeout,
            Instant::now(),
        );
        let (commands, commands_in) = mpsc::channel(COMMANDS);
        // A task without splits has nothing to read, if it will not get any: a bounded job must not wait for it.
        let exhausted = reader.is_none() && splits.growth.is_none();
        let handle = SourceHandle { commands, exhausted, replayed: false };
        self.sources.insert(id.clone(), handle);
        let metrics = chain.head_metrics().cloned().unwrap_or_default();
        let letters = match &node.dead_letters {
            // One without splits may get some.
            Some(sink) if !exhausted => Some(self.sink_end(sink.as_ref(), &id, Arc::default()).await?),
            _ => None,
        };
        let bad = BadRows::new(
            &self.config.pipeline,
            (node, &chain),
            letters,
            self.events.clone(),
            (Arc::clone(&metrics), Arc::clone(&self.metrics)),
        );
        let task = SourceTask {
            metrics,
            id: id.clone(),
            operator: operator.clone(),
            node: node.clone(),
            reader,
            decoder,
            chain,
            commands: commands_in,
            events: self.events.clone(),
            released: self.released.clone(),
            generations: of_these(splits.generations, &positions),
            growth: splits.growth,
            offered: Vec::new(),
            unread: None,
            positions,
            watermarks,
            pace,
            replay,
            wait_for_barrier: self.recovered.pin_start,
            bad,
            read: Counts::default(),
            crash: self.config.crash.clone(),
        };
        self.ids.push(id);
        self.futures.push(Box::pin(task.run()));
        Ok(())
    }

    fn operator_task(
        &mut self,
        id: TaskId,
        plan: &ChainPlan,
        index: usize,
        chain: Chain,
        wires: &mut BTreeMap<usize, Wires>,
    ) {
        let mut inputs = Vec::new();
        for edge in &plan.inputs {
            let input = self.graph.edges.get(*edge).map_or(0, |e| e.input);
            let ends = wires.get_mut(edge).and_then(|w| w.receivers.get_mut(index)).map(std::mem::take);
            inputs.extend(ends.into_iter().flatten().map(|end| (input, end)));
        }
        let inputs_len = inputs.len();
        let task = OperatorTask {
            id: id.clone(),
            inputs,
            chain,
            events: self.events.clone(),
            released: self.released.clone(),
            crash: self.config.crash.clone(),
            watermarks: MergedWatermark::restored(inputs_len, self.restored_watermark(&id)),
            turn: 0,
        };
        self.ids.push(id);
        self.futures.push(Box::pin(task.run()));
    }

    async fn chain(&mut self, plan: &ChainPlan, index: usize, wires: &mut BTreeMap<usize, Wires>) -> Result<Chain> {
        let mut nodes = Vec::with_capacity(plan.nodes.len());
        for node in &plan.nodes {
            let Some(described) = self.graph.nodes.get(*node) else { continue };
            let task = TaskId { operator: described.id.clone(), index: index as u32 };
            let kind = match described.kind {
                NodeKind::Source(_) => OperatorKind::Source,
                NodeKind::Operator(_) => OperatorKind::Transform,
                NodeKind::Sink(_) => OperatorKind::Sink,
            };
            let metrics = self.metrics.operator(&described.id, task.index, &described.name, kind);
            let step = match &described.kind {
                NodeKind::Source(_) => Step::Source,
                NodeKind::Operator(factory) => {
                    let mut operator = factory.create(&task)?;
                    let restored = self.recovered.state.get(&described.id).cloned().unwrap_or_default();
                    let parallelism = self.config.parallelism.max(1);
                    let watermark = self.restored_watermark(&task);
                    let mut context = OperatorContext { task: task.clone(), parallelism, restored, watermark };
                    operator.open(&mut context).await?;
                    Step::Operator(operator)
                }
                NodeKind::Sink(sink) => {
                    Step::Sink(self.sink_end(sink.sink.as_ref(), &task, Arc::clone(&metrics)).await?)
                }
            };
            let mut ways = Vec::new();
            for (i, edge) in self.graph.edges.iter().enumerate().filter(|(_, e)| e.from == *node) {
                let to = match wires.get_mut(&i) {
                    Some(wire) => wire.outlets.get_mut(index).and_then(Option::take).map(Next::Outlet),
                    None => plan.nodes.iter().position(|n| *n == edge.to).map(|at| Next::Child(at, edge.input)),
                };
                ways.extend(to.map(|to| Way { edge: i, to, sent: 0 }));
            }
            let found = match &step {
                Step::Operator(operator) => operator.held().map_or(0, |held| held.now),
                Step::Source | Step::Sink(_) => 0,
            };
            let counts = Counts { found, ..Counts::default() };
            nodes.push(ChainNode { id: described.id.clone(), step, ways, metrics, counts });
        }
        Ok(Chain::new(nodes, self.config.crash.clone()))
    }

    async fn sink_end(&self, sink: &dyn Sink, task: &TaskId, metrics: Arc<OperatorMetrics>) -> Result<SinkEnd> {
        let committer = self.committer_of(sink);
        let ahead = committer.and_then(|c| self.recovered.ahead.get(c)).copied();
        let muted = ahead.filter(|ahead| self.recovered.replay.is_some() && *ahead > self.recovered.last);
        let writer = sink.open(task).await?;
        Ok(SinkEnd::new(writer, self.released.clone(), committer.is_some(), muted, metrics))
    }

    /// At another parallelism it is the smallest of all instances; `None` if one had none.
    fn restored_watermark(&self, task: &TaskId) -> Option<i64> {
        let (manifest, _) = self.recovered.manifest.as_ref()?;
        let of_tasks = manifest.watermarks.get(&task.operator)?;
        match of_tasks.len() == self.config.parallelism.max(1) {
            true => of_tasks.get(task.index as usize).copied().flatten(),
            false => of_tasks.iter().copied().min().flatten(),
        }
    }

    fn committer_of(&self, sink: &dyn Sink) -> Option<usize> {
        let id = sink.committer().filter(|_| sink.delivery() == Delivery::ExactlyOnce)?;
        self.committers.iter().position(|c| c.id() == id.id())
    }
}

//! Jobs over the memory connector: what comes out, after crashes at every point, at every parallelism.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed test panics

mod changes;
mod dead_letters;
mod drift;
mod envelopes;
mod growth;
mod ledger;
mod slow_checkpoints;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{binary, col, lit};
use laminar_connectors::memory::{MemoryConnector, MemoryLogs};
use laminar_core::connector::{Connector, SinkContext, SourceContext};
use laminar_core::source::{BatchLimit, Source};
use laminar_core::table::{Column, TableSpec};
use laminar_core::time::{SharedClock, SystemClock};
use laminar_core::{Changes, Code, OperatorId, Options, PipelineId, Result, TaskId};
use laminar_engine::crash::{CrashPoints, POINTS};
use laminar_engine::operators::{ProjectFactory, UnionFactory};
use laminar_engine::{
    BadDataPolicy, Edge, Exchange, Graph, Job, JobConfig, JobEvent, Node, NodeKind, Operator, OperatorFactory, Output,
    Restore, SinkNode, SourceNode, StopMode,
};
use laminar_state::CheckpointStore;

/// One test's outside world.
struct World {
    logs: MemoryLogs,
    connector: MemoryConnector,
    clock: SharedClock,
    folder: tempfile::TempDir,
    interval: Duration,
}

impl World {
    fn new() -> Self {
        let logs = MemoryLogs::default();
        let connector = MemoryConnector::new(logs.clone());
        let folder = tempfile::tempdir().unwrap();
        Self { logs, connector, clock: Arc::new(SystemClock), folder, interval: Duration::from_millis(5) }
    }

    fn table(name: &str, columns: &[&str]) -> TableSpec {
        let column = |name: &&str| Column {
            name: (*name).to_string(),
            data_type: DataType::Int64,
            nullable: true,
            json: false,
            metadata: None,
        };
        TableSpec {
            name: name.into(),
            columns: columns.iter().map(column).collect(),
            projection: (0..columns.len()).collect(),
            event_time: None,
            primary_key: vec![],
        }
    }

    fn options(partitions: u32) -> Options {
        Options::from_pairs([("format", "json".to_string()), ("partitions", partitions.to_string())])
    }

    fn log(&self, name: &str, partitions: u32) -> Arc<dyn Source> {
        let context = SourceContext { pipeline: Some(pipeline()), clock: self.clock.clone(), partitions: None };
        self.connector.source(&Self::options(partitions), &Self::table(name, &["k", "v"]), &context).unwrap()
    }

    fn source(&self, graph: &mut Graph, name: &str, partitions: u32, batch_rows: usize) -> usize {
        self.read(graph, name, self.log(name, partitions), batch_rows)
    }

    fn read(&self, graph: &mut Graph, name: &str, source: Arc<dyn Source>, batch_rows: usize) -> usize {
        let table = Self::table(name, &["k", "v"]);
        let node = SourceNode {
            table: name.into(),
            source,
            batch: BatchLimit { rows: batch_rows, bytes: 1 << 20 },
            batch_timeout: Duration::from_millis(10),
            watermark_delay: Duration::ZERO,
            idle_timeout: Duration::from_secs(30),
            time: laminar_engine::RowTime::Record,
            late: laminar_engine::LateRows::Keep,
            max_drift: None,
            watermark_column: false,
            bad_data: BadDataPolicy::Fail,
            dead_letters: None,
        };
        add(graph, "source", NodeKind::Source(node), table.schema(), &[])
    }

    fn sink(&self, graph: &mut Graph, name: &str, from: usize, exactly_once: bool) -> usize {
        let schema = graph.nodes[from].schema.clone();
        let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let table = Self::table(name, &columns);
        let context = SinkContext {
            instance: "test".into(),
            pipeline: pipeline(),
            delivery: (!exactly_once).then_some(laminar_core::sink::Delivery::AtLeastOnce),
            checkpoint_interval: self.interval,
            clock: self.clock.clone(),
        };
        let options = Options::from_pairs([("format", "json")]);
        let sink = self.connector.sink(&options, &table, &context).unwrap();
        add(graph, "sink", NodeKind::Sink(SinkNode { table: name.into(), sink }), schema, &[(from, Exchange::Forward)])
    }

    fn config(&self, parallelism: usize, crash: CrashPoints) -> JobConfig {
        JobConfig {
            job: "job_1".into(),
            pipeline: pipeline(),
            parallelism,
            checkpoint_interval: self.interval,
            checkpoint_timeout: Duration::from_secs(20),
            tolerable_failed_checkpoints: 3,
            store: CheckpointStore::open(self.folder.path().to_str().unwrap(), []).unwrap(),
            clock: self.clock.clone(),
            restore: Restore::Latest,
            crash,
        }
    }

    /// Rows `v` from 0 on, with `k = v % keys`, then the end of the log.
    fn fill(&self, log: &str, rows: u64, keys: u64) {
        let lines: String = (0..rows).map(|v| format!("{{\"k\":{},\"v\":{v}}}\n", v % keys)).collect();
        self.logs.append_json(log, &lines).unwrap();
        self.logs.close(log);
    }

    fn values(&self, log: &str, column: &str) -> Vec<u64> {
        let value = |line: String| {
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            object[column].as_u64().unwrap()
        };
        self.logs.records(log).into_iter().map(value).collect()
    }
}

fn pipeline() -> PipelineId {
    PipelineId::from("pipe_1")
}

fn add(graph: &mut Graph, kind: &str, node: NodeKind, schema: SchemaRef, inputs: &[(usize, Exchange)]) -> usize {
    let index = graph.nodes.len();
    let id = OperatorId::new(format!("{kind}-{index}"));
    graph.nodes.push(Node { name: id.to_string(), id, kind: node, schema });
    for (input, (from, exchange)) in inputs.iter().enumerate() {
        graph.edges.push(Edge { from: *from, to: index, input, exchange: exchange.clone() });
    }
    index
}

fn expr(schema: &Schema, column: &str, op: BinaryOperator, value: i64) -> Arc<dyn PhysicalExpr> {
    binary(col(column, schema).unwrap(), op, lit(ScalarValue::Int64(Some(value))), schema).unwrap()
}

/// `SELECT k, v * 2 AS v WHERE v % 3 <> 1`
fn project(graph: &mut Graph, from: usize) -> usize {
    let schema = graph.nodes[from].schema.clone();
    let remainder = expr(&schema, "v", BinaryOperator::Modulo, 3);
    let predicate = binary(remainder, BinaryOperator::NotEq, lit(ScalarValue::Int64(Some(1))), &schema).unwrap();
    let exprs = vec![col("k", &schema).unwrap(), expr(&schema, "v", BinaryOperator::Multiply, 2)];
    let factory = ProjectFactory { predicate: Some(predicate), exprs, timed: false, schema: schema.clone() };
    add(graph, "project", NodeKind::Operator(Arc::new(factory)), schema, &[(from, Exchange::Forward)])
}

fn projected(rows: u64) -> Vec<u64> {
    (0..rows).filter(|v| v % 3 != 1).map(|v| v * 2).collect()
}

fn sorted(mut values: Vec<u64>) -> Vec<u64> {
    values.sort_unstable();
    values
}

/// Runs until the last event and returns it.
async fn run(graph: Graph, config: JobConfig) -> JobEvent {
    let mut job = match Job::start(graph, config).await {
        Ok(job) => job,
        Err(error) => return JobEvent::Failed(error),
    };
    let mut last = None;
    while let Some(event) = job.next_event().await {
        last = Some(event);
    }
    last.unwrap()
}

#[track_caller]
fn check_finished(event: &JobEvent) {
    assert!(matches!(event, JobEvent::Finished), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_once_in_order_per_key_at_any_parallelism() {
    for parallelism in [1, 2, 4, 6] {
        let world = World::new();
        world.fill("in", 5_000, 4);
        let mut graph = Graph::default();
        let source = world.source(&mut graph, "in", 4, 64);
        let project = project(&mut graph, source);
        world.sink(&mut graph, "out", project, true);
        check_finished(&run(graph, world.config(parallelism, CrashPoints::default())).await);
        assert_eq!(sorted(world.values("out", "v")), projected(5_000), "parallelism {parallelism}");
        let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (k, v) in world.values("out", "k").into_iter().zip(world.values("out", "v")) {
            by_key.entry(k).or_default().push(v);
        }
        assert!(by_key.values().all(|v| v.is_sorted()), "parallelism {parallelism}");
    }
}

/// One source, two sinks with a transaction each: every crash point, at its first, second and fifth pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_loses_and_repeats_nothing() {
    for point in POINTS {
        for nth in [1, 2, 5] {
            for parallelism in [1, 3] {
                let world = World::new();
                world.fill("in", 2_000, 4);
                let graph = || {
                    let mut graph = Graph::default();
                    let source = world.source(&mut graph, "in", 4, 16);
                    let project = project(&mut graph, source);
                    world.sink(&mut graph, "out", project, true);
                    world.sink(&mut graph, "copy", source, true);
                    graph
                };
                let crash = CrashPoints::fail_at(point, nth).unwrap();
                let mut crashes = 0;
                while !matches!(run(graph(), world.config(parallelism, crash.clone())).await, JobEvent::Finished) {
                    crashes += 1;
                    assert!(crashes <= 1, "{point} {nth}: it must fail once");
                }
                let at = format!("{point}, pass {nth}, parallelism {parallelism}");
                assert_eq!(sorted(world.values("out", "v")), projected(2_000), "{at}");
                assert_eq!(sorted(world.values("copy", "v")), (0..2_000).collect::<Vec<_>>(), "{at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_union_aligns_the_barriers_of_its_inputs() {
    for point in ["task-frozen", "after-commit"] {
        let world = World::new();
        world.fill("a", 1_500, 2);
        world.fill("b", 900, 2);
        let graph = || {
            let mut graph = Graph::default();
            let a = world.source(&mut graph, "a", 2, 8);
            let b = world.source(&mut graph, "b", 1, 8);
            let schema = graph.nodes[a].schema.clone();
            let union = NodeKind::Operator(Arc::new(UnionFactory { schema: schema.clone() }));
            let union = add(&mut graph, "union", union, schema, &[(a, Exchange::Forward), (b, Exchange::Forward)]);
            world.sink(&mut graph, "out", union, true);
            graph
        };
        let crash = CrashPoints::fail_at(point, 4).unwrap();
        let first = run(graph(), world.config(2, crash.clone())).await;
        if !matches!(first, JobEvent::Finished) {
            check_finished(&run(graph(), world.config(2, crash)).await);
        }
        let expected = sorted((0..1_500).chain(0..900).collect());
        assert_eq!(sorted(world.values("out", "v")), expected, "{point}");
    }
}

/// Replaces `v` by the number of the instance that saw the row.
#[derive(Debug)]
struct TagFactory;

impl OperatorFactory for TagFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Tag(i64::from(task.index))))
    }
}

struct Tag(i64);

#[async_trait]
impl Operator for Tag {
    async fn on_changes(&mut self, _: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let keys = changes.rows().column(0).as_primitive::<Int64Type>().clone();
        let tags = arrow::array::Int64Array::from(vec![self.0; keys.len()]);
        let rows = RecordBatch::try_new(changes.rows().schema(), vec![Arc::new(keys), Arc::new(tags)])?;
        out.push(changes.with_rows(rows)?);
        Ok(())
    }
    fn filtered(&self) -> Option<u64> {
        Some(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_key_meet_in_one_instance() {
    let world = World::new();
    world.fill("in", 3_000, 50);
    let mut graph = Graph::default();
    let source = world.source(&mut graph, "in", 4, 100);
    let schema = graph.nodes[source].schema.clone();
    let exchange = Exchange::Hash(vec![col("k", &schema).unwrap()]);
    let tag = add(&mut graph, "tag", NodeKind::Operator(Arc::new(TagFactory)), schema, &[(source, exchange)]);
    world.sink(&mut graph, "out", tag, true);
    check_finished(&run(graph, world.config(4, CrashPoints::default())).await);
    let mut instance_of: BTreeMap<u64, u64> = BTreeMap::new();
    let pairs: Vec<_> = world.values("out", "k").into_iter().zip(world.values("out", "v")).collect();
    assert_eq!(pairs.len(), 3_000);
    for (key, instance) in pairs {
        assert_eq!(*instance_of.entry(key).or_insert(instance), instance, "key {key} is in two instances");
    }
    let used: std::collections::BTreeSet<_> = instance_of.values().collect();
    assert_eq!(used.len(), 4, "fifty keys reach every instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_job_goes_on_at_another_parallelism() {
    let world = World::new();
    let lines: String = (0..400).map(|v| format!("{{\"k\":0,\"v\":{v}}}\n")).collect();
    world.logs.append_json("in", &lines).unwrap();
    let graph = || {
        let mut graph = Graph::default();
        let source = world.source(&mut graph, "in", 4, 10);
        world.sink(&mut graph, "out", source, true);
        graph
    };
    let mut job = Job::start(graph(), world.config(3, CrashPoints::default())).await.unwrap();
    world.logs.wait_for("out", 400).await;
    job.stop(StopMode::Checkpoint);
    let mut last = None;
    while let Some(event) = job.next_event().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(JobEvent::Stopped { epoch: Some(_) })), "{last:?}");
    let more: String = (400..500).map(|v| format!("{{\"k\":0,\"v\":{v}}}\n")).collect();
    world.logs.append_json("in", &more).unwrap();
    world.logs.close("in");
    check_finished(&run(graph(), world.config(1, CrashPoints::default())).await);
    assert_eq!(sorted(world.values("out", "v")), (0..500).collect::<Vec<_>>());
}

fn manifests(world: &World) -> Vec<std::path::PathBuf> {
    let folder = world.folder.path().join("pipe_1/manifests");
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

/// Runs into a crash after a commit, damages the manifests from the `spared`th on, and runs again.
async fn run_with_damage(world: &World, spared: usize) -> JobEvent {
    // Without an end the first job goes on until the crash.
    let lines: String = (0..2_000).map(|v| format!("{{\"k\":0,\"v\":{v}}}\n")).collect();
    world.logs.append_json("in", &lines).unwrap();
    let graph = || {
        let mut graph = Graph::default();
        let source = world.source(&mut graph, "in", 4, 10);
        world.sink(&mut graph, "out", source, true);
        graph
    };
    let crash = CrashPoints::fail_at("before-release", 4).unwrap();
    let first = run(graph(), world.config(2, crash)).await;
    assert!(matches!(first, JobEvent::Failed(_)), "{first:?}");
    let manifests = manifests(world);
    // Two are kept, and the one before them was not yet cleaned up; nor may older ones be.
    let older = manifests.len().checked_sub(3).expect("three manifests");
    for path in manifests.iter().skip(older + spared) {
        std::fs::write(path, b"{}").unwrap();
    }
    world.logs.close("in");
    run(graph(), world.config(2, CrashPoints::default())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_rebuilt_from_the_one_before() {
    let world = World::new();
    check_finished(&run_with_damage(&world, 2).await);
    assert_eq!(sorted(world.values("out", "v")), (0..2_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_damaged_manifests_stop_the_job() {
    let world = World::new();
    match run_with_damage(&world, 1).await {
        JobEvent::Failed(error) => assert_eq!(error.code(), Code::CheckpointDamaged),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_fails_the_job_or_is_counted() {
    let world = World::new();
    world.logs.append_json("in", "{\"k\":1,\"v\":1}\n{\"k\":broken\n{\"k\":2,\"v\":2}").unwrap();
    world.logs.close("in");
    let graph = |bad_data| {
        let mut graph = Graph::default();
        let source = world.source(&mut graph, "in", 1, 10);
        if let NodeKind::Source(node) = &mut graph.nodes[source].kind {
            node.bad_data = bad_data;
        }
        world.sink(&mut graph, "out", source, true);
        graph
    };
    match run(graph(BadDataPolicy::Fail), world.config(1, CrashPoints::default())).await {
        JobEvent::Failed(error) => {
            assert_eq!(error.code(), Code::BadData);
            assert!(error.message().contains("in/0 offset 1"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let skip = BadDataPolicy::Skip { max_errors_per_batch: None };
    check_finished(&run(graph(skip), world.config(1, CrashPoints::default())).await);
    assert_eq!(world.values("out", "v"), [1, 2]);
}

#[derive(Debug)]
struct PanicFactory;

impl OperatorFactory for PanicFactory {
    fn create(&self, _: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Panic))
    }
}

struct Panic;

#[async_trait]
impl Operator for Panic {
    async fn on_changes(&mut self, _: usize, _: Changes, _: &mut Output) -> Result<()> {
        panic!("on purpose")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_task_fails_its_job_and_nothing_else() {
    let world = World::new();
    world.fill("in", 10, 1);
    let mut graph = Graph::default();
    let source = world.source(&mut graph, "in", 1, 10);
    let schema = graph.nodes[source].schema.clone();
    add(&mut graph, "panic", NodeKind::Operator(Arc::new(PanicFactory)), schema, &[(source, Exchange::Forward)]);
    match run(graph, world.config(2, CrashPoints::default())).await {
        JobEvent::Failed(error) => {
            assert_eq!((error.code(), error.detail()), (Code::Internal, Some("on purpose")));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_goes_on_from_the_last_manifest() {
    let world = World::new();
    world.fill("in", 2_000, 4);
    let graph = || {
        let mut graph = Graph::default();
        let source = world.source(&mut graph, "in", 4, 10);
        world.sink(&mut graph, "out", source, false);
        graph
    };
    let crash = CrashPoints::fail_at("manifest-written", 5).unwrap();
    run(graph(), world.config(2, crash)).await;
    check_finished(&run(graph(), world.config(2, CrashPoints::default())).await);
    let mut values = sorted(world.values("out", "v"));
    values.dedup();
    assert_eq!(values, (0..2_000).collect::<Vec<_>>(), "none is lost; some may be twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_query_does_not_take_over_the_state() {
    let world = World::new();
    world.fill("in", 10, 1);
    let graph = |name: &str| {
        let mut graph = Graph::default();
        let source = world.source(&mut graph, name, 1, 10);
        world.sink(&mut graph, "out", source, true);
        graph
    };
    check_finished(&run(graph("in"), world.config(1, CrashPoints::default())).await);
    match run(graph("other"), world.config(1, CrashPoints::default())).await {
        JobEvent::Failed(error) => assert_eq!(error.code(), Code::CheckpointMismatch),
        other => panic!("{other:?}"),
    }
}

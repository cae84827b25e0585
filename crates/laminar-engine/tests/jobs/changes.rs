//! What may change between two lives of a pipeline: records and splits that appear, the delivery, the place of a sink.

use super::topics::Topics;
use super::*;

/// A pipeline from topics, read ten records at a time, into sinks of these names.
fn graph(world: &World, topics: &Topics, sinks: &[&str], exactly_once: bool) -> Graph {
    graph_of(world, topics, sinks, exactly_once, 10)
}

fn graph_of(world: &World, topics: &Topics, sinks: &[&str], exactly_once: bool, batch: usize) -> Graph {
    let mut graph = Graph::default();
    let source = world.read(&mut graph, "in", Arc::new(topics.clone()), batch);
    for sink in sinks {
        world.sink(&mut graph, sink, source, exactly_once);
    }
    graph
}

fn topics(world: &World) -> Topics {
    Topics::new(world.log("unused", 1))
}

async fn crash(graph: Graph, world: &World, point: &str, pass: u32) {
    let crash = CrashPoints::fail_at(point, pass).unwrap();
    let ended = run(graph, world.config(2, crash)).await;
    assert!(matches!(ended, JobEvent::Failed(_)), "{point} {pass}: {ended:?}");
}

/// Compares as sets first: lists of thousands say nothing when they differ.
#[track_caller]
fn check_rows(world: &World, log: &str, expected: &[u64], pass: u32) {
    let values = sorted(world.values(log, "v"));
    let lost: Vec<_> = expected.iter().filter(|v| values.binary_search(v).is_err()).collect();
    let repeated: Vec<_> = values.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(lost.is_empty() && repeated.is_empty(), "{log}, pass {pass}: lost {lost:?}, repeated {repeated:?}");
    assert_eq!(values.len(), expected.len(), "{log}, pass {pass}");
}

fn all(ranges: &[std::ops::Range<u64>]) -> Vec<u64> {
    ranges.iter().cloned().flatten().collect()
}

/// Between the commits of two sinks the process dies, and meanwhile more is written: the replay of the epoch that only one
/// of them has must end where the epoch ended, though the end of the partition is far behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_at_its_bound_though_positions_without_records_follow() {
    for pass in [3, 5, 9] {
        let world = World::new();
        let topics = topics(&world);
        topics.append("p0", 0..2000);
        let pipeline = || graph(&world, &topics, &["out", "copy"], true);
        crash(pipeline(), &world, "after-commit", pass).await;
        topics.append("p0", 2000..2050);
        // One fetch brings all records and the end behind them.
        let pipeline = graph_of(&world, &topics, &["out", "copy"], true, 10_000);
        check_finished(&run(pipeline, world.config(2, CrashPoints::default())).await);
        for log in ["out", "copy"] {
            check_rows(&world, log, &(0..2050).collect::<Vec<_>>(), pass);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_appears_has_no_part_in_a_replay() {
    for pass in [3, 5, 9] {
        let world = World::new();
        let topics = topics(&world);
        topics.append("p1", 0..2000);
        let pipeline = || graph(&world, &topics, &["out", "copy"], true);
        crash(pipeline(), &world, "after-commit", pass).await;
        topics.append("p0", 3000..3050);
        topics.append("p2", 5000..5050);
        // In one task with the one that is replayed.
        check_finished(&run(pipeline(), world.config(1, CrashPoints::default())).await);
        for log in ["out", "copy"] {
            check_rows(&world, log, &all(&[0..2000, 3000..3050, 5000..5050]), pass);
        }
    }
}

/// The last manifest may be of an epoch that was aborted.
#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_after_exactly_once_loses_nothing() {
    for (point, pass) in [("manifest-written", 1), ("manifest-written", 6), ("before-commit", 6), ("after-commit", 6)] {
        let world = World::new();
        let topics = topics(&world);
        topics.append("p0", 0..2000);
        crash(graph(&world, &topics, &["out"], true), &world, point, pass).await;
        // Another log: the first one still holds the rows that were never committed.
        check_finished(&run(graph(&world, &topics, &["rest"], false), world.config(2, CrashPoints::default())).await);
        let mut values = sorted([world.values("out", "v"), world.values("rest", "v")].concat());
        values.dedup();
        assert!(values.iter().copied().eq(0..2000), "{point} {pass}: {} of 2000", values.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_once_after_at_least_once_goes_on_where_that_stood() {
    let world = World::new();
    let topics = topics(&world);
    topics.append("p0", 0..2000);
    let pipeline = |exactly_once| graph(&world, &topics, &["out"], exactly_once);
    for exactly_once in [false, true, false, true] {
        let mut job = Job::start(pipeline(exactly_once), world.config(2, CrashPoints::default())).await.unwrap();
        let before = world.logs.records("out").len();
        world.logs.wait_for("out", before + 40).await;
        job.stop(StopMode::Checkpoint);
        while job.next_event().await.is_some() {}
    }
    check_finished(&run(pipeline(true), world.config(2, CrashPoints::default())).await);
    let values = world.values("out", "v");
    let mut distinct = sorted(values.clone());
    distinct.dedup();
    assert!(distinct.into_iter().eq(0..2000), "none is lost");
    // An epoch may be written again where the delivery became at-least-once: once in this story, never from the beginning.
    assert!(values.iter().filter(|v| **v == 0).count() == 1, "{values:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_knows_nothing_of_the_checkpoints_stops_the_job() {
    let world = World::new();
    let topics = topics(&world);
    topics.append("p0", 0..2000);
    crash(graph(&world, &topics, &["out"], true), &world, "after-commit", 6).await;
    match run(graph(&world, &topics, &["elsewhere"], true), world.config(2, CrashPoints::default())).await {
        JobEvent::Failed(error) => assert_eq!(error.code(), Code::CheckpointMismatch, "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(world.logs.records("elsewhere").is_empty());
}

/// Keeps the largest batch that it sees.
#[derive(Clone, Debug, Default)]
struct Largest(Arc<std::sync::atomic::AtomicUsize>);

impl OperatorFactory for Largest {
    fn create(&self, _: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Operator for Largest {
    async fn on_changes(&mut self, _: usize, changes: Changes, _: &mut Output) -> Result<()> {
        self.0.fetch_max(changes.num_rows(), std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_in_bytes_as_well() {
    let world = World::new();
    world.fill("in", 2_000, 1); // about 14 bytes each
    let mut graph = Graph::default();
    let source = world.source(&mut graph, "in", 1, 100_000);
    if let NodeKind::Source(node) = &mut graph.nodes[source].kind {
        node.batch.bytes = 140;
    }
    let schema = graph.nodes[source].schema.clone();
    let largest = Largest::default();
    let operator = NodeKind::Operator(Arc::new(largest.clone()));
    add(&mut graph, "largest", operator, schema, &[(source, Exchange::Forward)]);
    check_finished(&run(graph, world.config(1, CrashPoints::default())).await);
    let rows = largest.0.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=20).contains(&rows), "{rows} rows in one batch");
}

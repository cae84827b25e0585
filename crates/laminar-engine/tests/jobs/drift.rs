//! Splits that run ahead in event time are paused: nobody waits for ever, and barriers pass.

use std::sync::Mutex;

use laminar_core::table::EventTime;

use super::*;

const DRIFT: Duration = Duration::from_secs(60);
const BATCH: usize = 8;

/// Notes the rows in the order in which tasks get them: in front of a sink they may wait for a commit.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<i64>>>);

impl OperatorFactory for Seen {
    fn create(&self, _: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(self.clone()))
    }
    fn fingerprint(&self) -> String {
        "seen".to_string()
    }
}

#[async_trait]
impl Operator for Seen {
    async fn on_changes(&mut self, _: usize, changes: Changes, out: &mut Output) -> Result<()> {
        self.0.lock().unwrap().extend(changes.rows().column(0).as_primitive::<Int64Type>().values());
        out.push(changes);
        Ok(())
    }
}

/// `k` is the event time in seconds, and even positions are partition 0, odd ones partition 1.
fn graph(world: &World, idle_timeout: Duration, seen: &Seen) -> Graph {
    let mut table = World::table("in", &["k", "v"]);
    table.columns[0].data_type = laminar_core::table::timestamp_type();
    table.event_time = Some(EventTime { column: "k".into(), delay: Duration::ZERO });
    let context = SourceContext { pipeline: Some(pipeline()), clock: world.clock.clone(), partitions: None };
    let options = Options::from_pairs([("format", "json"), ("partitions", "2"), ("timestamp_format", "unix_seconds")]);
    let source = world.connector.source(&options, &table, &context).unwrap();
    let mut graph = Graph::default();
    let source = world.read(&mut graph, "in", source, BATCH);
    let node = &mut graph.nodes[source];
    node.schema = table.projected_schema();
    if let NodeKind::Source(node) = &mut node.kind {
        (node.max_drift, node.idle_timeout) = (Some(DRIFT), idle_timeout);
    }
    let schema = World::table("out", &["v"]).schema();
    let exprs = vec![col("v", &graph.nodes[source].schema).unwrap()];
    let pick = ProjectFactory { predicate: None, exprs, timed: false, schema: schema.clone() };
    let pick =
        add(&mut graph, "project", NodeKind::Operator(Arc::new(pick)), schema.clone(), &[(source, Exchange::Forward)]);
    let seen = NodeKind::Operator(Arc::new(seen.clone()));
    let seen = add(&mut graph, "seen", seen, schema, &[(pick, Exchange::Forward)]);
    world.sink(&mut graph, "out", seen, true);
    graph
}

/// Rows in pairs: one of partition 0 at `slow(i)` seconds, one of partition 1 at `fast(i)`; `v` is the position.
fn append(world: &World, pairs: std::ops::Range<u64>, slow: impl Fn(u64) -> u64, fast: impl Fn(u64) -> u64) {
    let pair = |i: u64| format!("{{\"k\":{},\"v\":{}}}\n{{\"k\":{},\"v\":{}}}\n", slow(i), 2 * i, fast(i), 2 * i + 1);
    world.logs.append_json("in", &pairs.map(pair).collect::<String>()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_a_day_ahead_waits_until_the_other_has_ended() {
    for parallelism in [1, 2] {
        let world = World::new();
        append(&world, 0..400, |i| i, |i| 86_400 + i);
        world.logs.close("in");
        let started = std::time::Instant::now();
        let seen = Seen::default();
        check_finished(&run(graph(&world, DRIFT, &seen), world.config(parallelism, CrashPoints::default())).await);
        assert!(started.elapsed() < DRIFT, "it waited for a partition that had ended");
        assert_eq!(sorted(world.values("out", "v")), (0..800).collect::<Vec<_>>());
        let values = seen.0.lock().unwrap().clone();
        let last_slow = values.iter().rposition(|v| v % 2 == 0).unwrap();
        let fast_before = values[..last_slow].iter().filter(|v| *v % 2 == 1).count();
        assert!(fast_before <= 2 * BATCH, "parallelism {parallelism}: {fast_before} rows came too early");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_advance_together_are_all_read_to_the_end() {
    let world = World::new();
    append(&world, 0..1_000, |i| i * 10, |i| 30 + i * 11);
    world.logs.close("in");
    let crash = CrashPoints::fail_at("after-commit", 3).unwrap();
    let first = run(graph(&world, DRIFT, &Seen::default()), world.config(2, crash)).await;
    assert!(matches!(first, JobEvent::Failed(_) | JobEvent::Finished), "{first:?}");
    check_finished(&run(graph(&world, DRIFT, &Seen::default()), world.config(1, CrashPoints::default())).await);
    assert_eq!(sorted(world.values("out", "v")), (0..2_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_partition_holds_the_other_back_until_it_is_idle() {
    for parallelism in [1, 2] {
        let world = World::new();
        append(&world, 0..1, |_| 0, |_| 0);
        append(&world, 1..100, |_| 1, |i| 86_400 + i);
        let config = world.config(parallelism, CrashPoints::default());
        let job = Job::start(graph(&world, Duration::from_millis(300), &Seen::default()), config).await.unwrap();
        let all = tokio::time::timeout(Duration::from_secs(20), world.logs.wait_for("out", 200)).await;
        assert!(all.is_ok(), "{} rows came", world.logs.records("out").len());
        job.stop(StopMode::Immediate);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_paused_partition_stops_with_a_checkpoint_and_goes_on() {
    let world = World::new();
    append(&world, 0..100, |_| 1, |i| 86_400 + i);
    let mut job =
        Job::start(graph(&world, DRIFT, &Seen::default()), world.config(1, CrashPoints::default())).await.unwrap();
    let metrics = job.metrics();
    // All of partition 0, and the first rows of partition 1.
    world.logs.wait_for("out", 100 + 1).await;
    let paused = || metrics.snapshot().operators.iter().map(|o| o.paused_splits).sum::<u64>();
    while paused() == 0 {
        tokio::task::yield_now().await;
    }
    job.stop(StopMode::Checkpoint);
    let mut last = None;
    while let Some(event) = job.next_event().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(JobEvent::Stopped { epoch: Some(_) })), "{last:?}");
    assert!(world.logs.records("out").len() < 200, "partition 1 was read on");
    world.logs.close("in");
    check_finished(&run(graph(&world, DRIFT, &Seen::default()), world.config(2, CrashPoints::default())).await);
    assert_eq!(sorted(world.values("out", "v")), (0..200).collect::<Vec<_>>());
}

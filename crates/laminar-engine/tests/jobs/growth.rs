//! Splits that appear while a job runs: read by one task each, from their beginning, once.

use super::topics::Topics;
use super::*;

fn graph(world: &World, topics: &Topics, sinks: &[&str]) -> Graph {
    let mut graph = Graph::default();
    let source = world.read(&mut graph, "in", Arc::new(topics.clone()), 16);
    for sink in sinks {
        world.sink(&mut graph, sink, source, true);
    }
    graph
}

/// Runs until all sinks have `rows`, or the job fails.
async fn run_until(world: &World, graph: Graph, config: JobConfig, sinks: &[&str], rows: usize) -> JobEvent {
    let mut job = match Job::start(graph, config).await {
        Ok(job) => job,
        Err(error) => return JobEvent::Failed(error),
    };
    let all = async {
        for sink in sinks {
            world.logs.wait_for(sink, rows).await;
        }
    };
    tokio::pin!(all);
    let mut is_reached = false;
    loop {
        tokio::select! {
            () = &mut all, if !is_reached => {
                is_reached = true;
                job.stop(StopMode::Checkpoint);
            }
            event = job.next_event() => match event {
                Some(last @ (JobEvent::Failed(_) | JobEvent::Stopped { .. } | JobEvent::Finished)) => return last,
                Some(_) => {}
                None => panic!("no last event"),
            },
        }
    }
}

#[track_caller]
fn check_stopped(event: &JobEvent) {
    assert!(matches!(event, JobEvent::Stopped { epoch: Some(_) }), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_that_appear_are_read_once_through_a_crash_at_any_point() {
    for point in POINTS {
        for (nth, parallelism) in [(1, 1), (2, 3), (5, 3), (9, 1)] {
            let world = World::new();
            let topics = Topics::growing(world.log("in", 1));
            topics.append("t/0", 0..100);
            // The next one appears when all of the last is out.
            let (logs, others) = (world.logs.clone(), topics.clone());
            let feeder = tokio::spawn(async move {
                for split in 1..4_u64 {
                    logs.wait_for("out", split as usize * 100).await;
                    others.append(&format!("t/{split}"), split * 100..(split + 1) * 100);
                }
            });
            let at = format!("{point}, pass {nth}, parallelism {parallelism}");
            let crash = CrashPoints::fail_at(point, nth).unwrap();
            // Two, with a transaction each: a crash between their commits is a replay.
            let sinks = ["out", "copy"];
            let run = async |parallelism, crash, rows| {
                run_until(&world, graph(&world, &topics, &sinks), world.config(parallelism, crash), &sinks, rows).await
            };
            let first = run(parallelism, crash.clone(), 400).await;
            if matches!(first, JobEvent::Failed(_)) {
                check_stopped(&run(parallelism, crash, 400).await);
            }
            feeder.await.unwrap();
            // What is known now is not new at the next start, at any parallelism.
            (0..4).for_each(|split| topics.append(&format!("t/{split}"), 400 + split * 10..410 + split * 10));
            check_stopped(&run(2, CrashPoints::default(), 440).await);
            for log in sinks {
                assert_eq!(sorted(world.values(log, "v")), (0..440).collect::<Vec<_>>(), "{log}: {at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_had_no_split_get_the_new_ones() {
    let world = World::new();
    let topics = Topics::growing(world.log("in", 1));
    topics.append("t/0", 0..10);
    let job = Job::start(graph(&world, &topics, &["out"]), world.config(4, CrashPoints::default())).await.unwrap();
    world.logs.wait_for("out", 10).await;
    (1..4).for_each(|split| topics.append(&format!("t/{split}"), split * 10..(split + 1) * 10));
    world.logs.wait_for("out", 40).await;
    let metrics = job.metrics();
    let rows: Vec<u64> =
        metrics.tasks().iter().filter(|t| t.operator.as_str() == "source-0").map(|t| t.rows_out).collect();
    assert_eq!(rows, [10; 4]);
    job.stop(StopMode::Immediate);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_was_replaced_is_not_taken_for_the_old_one() {
    let world = World::new();
    let topics = Topics::growing(world.log("in", 1));
    topics.append("t/0", 0..100);
    let other = topics.clone();
    let logs = world.logs.clone();
    let replacer = tokio::spawn(async move {
        logs.wait_for("out", 100).await;
        // Longer than the old one: nothing but its generation tells that it is another.
        other.replace("t/0", 1_000..1_500);
    });
    let run = async |rows| {
        let config = world.config(1, CrashPoints::default());
        run_until(&world, graph(&world, &topics, &["out"]), config, &["out"], rows).await
    };
    let last = run(10_000).await;
    replacer.await.unwrap();
    let JobEvent::Failed(error) = last else { panic!("{last:?}") };
    assert_eq!(error.retry(), laminar_core::Retry::Backoff, "the source decides at a restart: {error:?}");
    assert!(error.to_string().contains("deleted and created again"), "{error:?}");
    // This one goes on with what is there.
    let before = world.values("out", "v").len();
    check_stopped(&run(before + 500).await);
    let values = world.values("out", "v");
    assert_eq!(values[before..].to_vec(), (1_000..1_500).collect::<Vec<_>>());
}

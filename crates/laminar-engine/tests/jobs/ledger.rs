//! No row is lost on the way, or the checkpoint is not committed.

use laminar_engine::LedgerEntry;
use laminar_engine::crash::LEAKS;

use super::*;

/// Filter, exchange, union and two sinks: `in` to `all`, and by key to `out`.
fn graph(world: &World) -> Graph {
    let mut graph = Graph::default();
    let source = world.source(&mut graph, "in", 4, 16);
    let project = project(&mut graph, source);
    let schema = graph.nodes[project].schema.clone();
    let exchange = Exchange::Hash(vec![col("k", &schema).unwrap()]);
    let tag = add(&mut graph, "tag", NodeKind::Operator(Arc::new(TagFactory)), schema, &[(project, exchange)]);
    world.sink(&mut graph, "out", tag, true);
    world.sink(&mut graph, "all", source, true);
    graph
}

/// Runs until the last event; returns it with the ledgers.
async fn ledgers(graph: Graph, config: JobConfig) -> (JobEvent, Vec<LedgerEntry>) {
    let mut job = Job::start(graph, config).await.unwrap();
    let metrics = job.metrics();
    let mut last = None;
    while let Some(event) = job.next_event().await {
        last = Some(event);
    }
    (last.unwrap(), metrics.ledgers())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_accounted_for() {
    for parallelism in [1, 3] {
        let world = World::new();
        world.fill("in", 3_000, 7);
        let (last, ledger) = ledgers(graph(&world), world.config(parallelism, CrashPoints::default())).await;
        check_finished(&last);
        let epochs: Vec<u64> = ledger.iter().map(|entry| entry.epoch.0).collect();
        assert!(epochs.is_sorted() && epochs.last() > epochs.first(), "{epochs:?}");
        let entry = |name: &str| ledger.iter().rev().find(|entry| entry.operator.as_str().starts_with(name)).unwrap();
        let source = entry("source");
        assert_eq!((source.table.as_deref(), source.counts.read, source.counts.rows_out), (Some("in"), 3_000, 3_000));
        let project = entry("project").counts;
        assert_eq!((project.rows_in, project.filtered, project.rows_out), (3_000, Some(1_000), 2_000));
        let tag = entry("tag");
        assert_eq!((tag.counts.rows_in, tag.difference), (2_000, Some(0)));
        for (sink, rows) in [("out", 2_000), ("all", 3_000)] {
            let entry = ledger.iter().rev().find(|entry| entry.table.as_deref() == Some(sink)).unwrap();
            assert_eq!((entry.counts.rows_in, entry.counts.rows_out, entry.difference), (rows, rows, Some(0)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_lost_is_missed_before_it_is_committed() {
    for leak in LEAKS {
        for nth in [1, 5] {
            for parallelism in [1, 3] {
                let world = World::new();
                world.fill("in", 3_000, 7);
                let leaky = CrashPoints::lose_row_at(leak, nth).unwrap();
                let at = format!("{leak}, batch {nth}, parallelism {parallelism}");
                match run(graph(&world), world.config(parallelism, leaky)).await {
                    JobEvent::Failed(error) => {
                        assert_eq!(error.code(), Code::Internal, "{at}");
                        assert!(error.message().contains("lost count of its rows"), "{at}: {error:?}");
                    }
                    other => panic!("{at}: {other:?}"),
                }
                // What was committed before is whole, and the next run makes the rest.
                check_finished(&run(graph(&world), world.config(parallelism, CrashPoints::default())).await);
                assert_eq!(sorted(world.values("all", "v")), (0..3_000).collect::<Vec<_>>(), "{at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_no_row_are_accounted_for_too() {
    let world = World::new();
    let lines = "{\"k\":1,\"v\":1}\n{\"k\":broken\n{\"k\":2,\"v\":0}\n";
    world.logs.append_json("in", &lines.repeat(100)).unwrap();
    world.logs.close("in");
    let mut graph = Graph::default();
    let source = world.source(&mut graph, "in", 2, 16);
    let NodeKind::Source(node) = &mut graph.nodes[source].kind else { panic!("not a source") };
    node.bad_data = BadDataPolicy::Skip { max_errors_per_batch: None };
    let schema = graph.nodes[source].schema.clone();
    let one = lit(ScalarValue::Int64(Some(1)));
    let quotient = binary(one, BinaryOperator::Divide, col("v", &schema).unwrap(), &schema).unwrap();
    let exprs = vec![col("k", &schema).unwrap(), quotient];
    let factory = ProjectFactory { predicate: None, exprs, timed: false, schema: schema.clone() };
    let divide = NodeKind::Operator(Arc::new(factory));
    let divide = add(&mut graph, "project", divide, schema, &[(source, Exchange::Forward)]);
    world.sink(&mut graph, "out", divide, true);
    let (last, ledger) = ledgers(graph, world.config(2, CrashPoints::default())).await;
    check_finished(&last);
    let counts =
        |name: &str| ledger.iter().rev().find(|entry| entry.operator.as_str().starts_with(name)).unwrap().counts;
    assert_eq!((counts("source").read, counts("source").bad, counts("source").rows_out), (300, 100, 200));
    assert_eq!((counts("project").rejected, counts("project").rows_out), (100, 100));
}

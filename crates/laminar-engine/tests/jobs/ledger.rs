//! No row is lost on the way, or the checkpoint is not committed.

use arrow::datatypes::Field;
use laminar_engine::crash::LEAKS;
use laminar_engine::operators::{JoinFactory, JoinKind, OuterRows};
use laminar_engine::{Counts, LedgerEntry};

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

/// `left` and `right`, joined by their keys for ever, to `out`.
fn join(world: &World) -> Graph {
    let mut graph = Graph::default();
    let inputs = ["left", "right"].map(|name| world.source(&mut graph, name, 2, 16));
    let input = graph.nodes[inputs[0]].schema.clone();
    let names = ["k", "v", "right_k", "right_v"];
    let schema: SchemaRef = Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int64, true)).to_vec()));
    let factory = JoinFactory {
        kind: JoinKind::Inner,
        left_keys: vec![col("k", &input).unwrap()],
        right_keys: vec![col("k", &input).unwrap()],
        null_equals_null: false,
        filter: None,
        left_schema: input.clone(),
        right_schema: input.clone(),
        schema: schema.clone(),
        bounds: None,
        ttl_micros: [None, None],
        emit: OuterRows::AtOnce,
    };
    let by_key = Exchange::Hash(vec![col("k", &input).unwrap()]);
    let joined = inputs.map(|from| (from, by_key.clone()));
    let at = add(&mut graph, "join", NodeKind::Operator(Arc::new(factory)), schema, &joined);
    world.sink(&mut graph, "out", at, true);
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
async fn rows_that_a_join_keeps_are_accounted_for_across_a_restart() {
    for parallelism in [1, 3] {
        let world = World::new();
        for log in ["left", "right"] {
            world.fill(log, 1_000, 1_000);
        }
        let dies = CrashPoints::fail_at("before-commit", 3).unwrap();
        let (last, _) = ledgers(join(&world), world.config(parallelism, dies)).await;
        assert!(matches!(last, JobEvent::Failed(_)), "{last:?}");
        let (last, ledger) = ledgers(join(&world), world.config(parallelism, CrashPoints::default())).await;
        check_finished(&last);
        let joins: Vec<&LedgerEntry> = ledger.iter().filter(|entry| entry.operator.as_str() == "join-2").collect();
        assert!(joins.iter().all(|entry| entry.difference == Some(0)), "{joins:?}");
        let Counts { found, rows_in, released, held, .. } = joins.last().unwrap().counts;
        assert!(found > 0, "the crash came before the first checkpoint");
        assert_eq!((found + rows_in, released, held), (2_000, Some(0), Some(2_000)));
        assert_eq!(sorted(world.values("out", "v")), (0..1_000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_join_loses_is_missed() {
    let world = World::new();
    for log in ["left", "right"] {
        world.fill(log, 1_000, 1_000);
    }
    // Nothing comes before the join but the sources, whose rows are not offered to an operator.
    let leaky = CrashPoints::lose_row_at("input", 3).unwrap();
    match run(join(&world), world.config(2, leaky)).await {
        JobEvent::Failed(error) => {
            let detail = error.detail().unwrap_or_default();
            assert!(error.message().contains("operator join-2 (join-2) lost count of its rows"), "{error:?}");
            assert!(detail.contains("are not kept any more") && detail.contains("1 are missing"), "{detail}");
        }
        other => panic!("{other:?}"),
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

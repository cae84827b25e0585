//! Records that cannot be used: each is in the dead letters once, whatever dies meanwhile, and no good row is lost.

use laminar_core::connector::DeadLettersOf;
use laminar_core::table::EventTime;
use laminar_engine::LateRows;

use super::*;

/// The letters of a log: value, stage, and where the record stood.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    value: String,
    stage: String,
    place: (u64, u64),
}

impl World {
    /// The source at `source` sends what it cannot use to the log `<name>-dlq`.
    fn keep_dead_letters(&self, graph: &mut Graph, source: usize, max_errors_per_batch: Option<usize>) {
        let context = SinkContext {
            instance: "test".into(),
            pipeline: pipeline(),
            delivery: None,
            checkpoint_interval: self.interval,
            clock: self.clock.clone(),
        };
        let NodeKind::Source(node) = &mut graph.nodes[source].kind else { panic!("not a source") };
        let (options, table) = (Self::options(1), Self::table(&node.table, &["k", "v"]));
        let of = DeadLettersOf { options: &options, table: &table, destination: None };
        node.dead_letters = Some(self.connector.dead_letters(&of, &context).unwrap());
        node.bad_data = BadDataPolicy::DeadLetter { max_errors_per_batch };
    }

    fn letters(&self, log: &str) -> Vec<Letter> {
        let letter = |line: String| {
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            let text = |name: &str| object[name].as_str().unwrap().to_string();
            assert_eq!((text("pipeline"), text("table"), text("topic")), ("pipe_1".into(), "in".into(), "in".into()));
            let place = (object["partition"].as_u64().unwrap(), object["offset"].as_u64().unwrap());
            Letter { value: text("value"), stage: text("stage"), place }
        };
        let mut letters: Vec<_> = self.logs.records(log).into_iter().map(letter).collect();
        letters.sort();
        letters
    }
}

/// Every seventh record is cut off.
fn is_bad(v: u64) -> bool {
    v % 7 == 3
}

fn fill(world: &World, rows: u64) {
    let line = |v: u64| match is_bad(v) {
        true => format!("{{\"v\":{v},\"k\":\n"),
        false => format!("{{\"v\":{v},\"k\":1}}\n"),
    };
    world.logs.append_json("in", &(0..rows).map(line).collect::<String>()).unwrap();
    world.logs.close("in");
}

/// As the log deals its records out: in turn, each at its place in the log.
fn bad_records(rows: u64, partitions: u64) -> Vec<Letter> {
    let letter = |v: u64| Letter {
        value: format!("{{\"v\":{v},\"k\":"),
        stage: "decode".to_string(),
        place: (v % partitions, v),
    };
    let mut letters: Vec<_> = (0..rows).filter(|v| is_bad(*v)).map(letter).collect();
    letters.sort();
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_written_once_through_a_crash_at_any_point() {
    for point in POINTS {
        for nth in [1, 3] {
            for parallelism in [1, 3] {
                let world = World::new();
                fill(&world, 2_000);
                let graph = || {
                    let mut graph = Graph::default();
                    let source = world.source(&mut graph, "in", 4, 16);
                    world.keep_dead_letters(&mut graph, source, None);
                    let project = project(&mut graph, source);
                    world.sink(&mut graph, "out", project, true);
                    graph
                };
                let crash = CrashPoints::fail_at(point, nth).unwrap();
                let mut crashes = 0;
                while !matches!(run(graph(), world.config(parallelism, crash.clone())).await, JobEvent::Finished) {
                    crashes += 1;
                    assert!(crashes <= 1, "{point} {nth}: it must fail once");
                }
                let at = format!("{point}, pass {nth}, parallelism {parallelism}");
                assert_eq!(world.letters("in-dlq"), bad_records(2_000, 4), "{at}");
                let good = (0..2_000).filter(|v| !is_bad(*v) && v % 3 != 1).map(|v| v * 2);
                assert_eq!(sorted(world.values("out", "v")), good.collect::<Vec<_>>(), "{at}");
            }
        }
    }
}

/// The rows go to a sink that has no transaction, the letters still have theirs.
#[tokio::test(flavor = "multi_thread")]
async fn they_are_written_once_beside_rows_that_may_repeat() {
    let world = World::new();
    fill(&world, 2_000);
    let graph = || {
        let mut graph = Graph::default();
        let source = world.source(&mut graph, "in", 4, 10);
        world.keep_dead_letters(&mut graph, source, None);
        world.sink(&mut graph, "out", source, false);
        graph
    };
    let crash = CrashPoints::fail_at("manifest-written", 4).unwrap();
    run(graph(), world.config(2, crash)).await;
    check_finished(&run(graph(), world.config(2, CrashPoints::default())).await);
    assert_eq!(world.letters("in-dlq"), bad_records(2_000, 4));
    let mut values = sorted(world.values("out", "v"));
    values.dedup();
    assert_eq!(values, (0..2_000).filter(|v| !is_bad(*v)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_bad_records() {
    let world = World::new();
    let lines: String = (0..500).map(|v| format!("{v}}}\n")).collect();
    world.logs.append_json("in", &lines).unwrap();
    world.logs.close("in");
    let mut graph = Graph::default();
    let source = world.source(&mut graph, "in", 2, 16);
    world.keep_dead_letters(&mut graph, source, None);
    world.sink(&mut graph, "out", source, true);
    check_finished(&run(graph, world.config(2, CrashPoints::default())).await);
    assert_eq!((world.letters("in-dlq").len(), world.values("out", "v").len()), (500, 0));
}

/// `SELECT k, 100 / (v % 5) AS v WHERE v % 3 <> 1`
fn divide(graph: &mut Graph, from: usize) -> usize {
    let schema = graph.nodes[from].schema.clone();
    let remainder = expr(&schema, "v", BinaryOperator::Modulo, 3);
    let predicate = binary(remainder, BinaryOperator::NotEq, lit(ScalarValue::Int64(Some(1))), &schema).unwrap();
    let divisor = expr(&schema, "v", BinaryOperator::Modulo, 5);
    let hundred = lit(ScalarValue::Int64(Some(100)));
    let quotient = binary(hundred, BinaryOperator::Divide, divisor, &schema).unwrap();
    let exprs = vec![col("k", &schema).unwrap(), quotient];
    let factory = ProjectFactory { predicate: Some(predicate), exprs, timed: false, schema: schema.clone() };
    add(graph, "project", NodeKind::Operator(Arc::new(factory)), schema, &[(from, Exchange::Forward)])
}

/// Rows for which an expression cannot be computed, some of them behind a filter: the others of their batch go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_computed_is_traced_to_its_record() {
    for parallelism in [1, 2] {
        let world = World::new();
        fill(&world, 1_000);
        let graph = || {
            let mut graph = Graph::default();
            let source = world.source(&mut graph, "in", 4, 64);
            world.keep_dead_letters(&mut graph, source, None);
            let project = project(&mut graph, source);
            let divide = divide(&mut graph, project);
            world.sink(&mut graph, "out", divide, true);
            world.sink(&mut graph, "all", source, true);
            graph
        };
        let crash = CrashPoints::fail_at("before-commit", 4).unwrap();
        run(graph(), world.config(parallelism, crash)).await;
        check_finished(&run(graph(), world.config(parallelism, CrashPoints::default())).await);
        // The second projection sees the doubled value.
        let reaches = |v: &u64| !is_bad(*v) && v % 3 != 1 && (v * 2) % 3 != 1;
        let expected = (0..1_000u64).filter(|v| reaches(v) && v % 5 == 0);
        let expected: Vec<_> = expected
            .map(|v| Letter {
                value: format!("{{\"v\":{v},\"k\":1}}"),
                stage: "expression".to_string(),
                place: (v % 4, v),
            })
            .collect();
        let mut letters = world.letters("in-dlq");
        letters.retain(|letter| letter.stage == "expression");
        assert_eq!(letters.len(), expected.len(), "parallelism {parallelism}");
        assert!(expected.iter().all(|letter| letters.contains(letter)), "parallelism {parallelism}");
        let computed = (0..1_000u64).filter(|v| reaches(v) && v % 5 != 0).count();
        assert_eq!(world.values("out", "v").len(), computed, "parallelism {parallelism}");
        assert_eq!(world.values("all", "v").len(), (0..1_000).filter(|v| !is_bad(*v)).count(), "another sink has them");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_computed_fails_the_job_and_is_named_or_is_left_out() {
    let world = World::new();
    world.fill("in", 12, 1);
    let graph = |bad_data| {
        let mut graph = Graph::default();
        let source = world.source(&mut graph, "in", 1, 64);
        let NodeKind::Source(node) = &mut graph.nodes[source].kind else { panic!("not a source") };
        node.bad_data = bad_data;
        let divide = divide(&mut graph, source);
        world.sink(&mut graph, "out", divide, true);
        graph
    };
    match run(graph(BadDataPolicy::Fail), world.config(1, CrashPoints::default())).await {
        JobEvent::Failed(error) => {
            assert_eq!(error.code(), Code::InvalidValue);
            assert_eq!(error.message(), "a row of table in at in/0 offset 0: division by zero");
        }
        other => panic!("{other:?}"),
    }
    let skip = BadDataPolicy::Skip { max_errors_per_batch: None };
    check_finished(&run(graph(skip), world.config(1, CrashPoints::default())).await);
    // 0, 5 cannot be divided by; 10 is filtered.
    assert_eq!(world.values("out", "v"), [50, 33, 100, 33, 25, 100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_in_one_batch_fail_the_job_and_leave_nothing() {
    let world = World::new();
    fill(&world, 100);
    let graph = |max| {
        let mut graph = Graph::default();
        let source = world.source(&mut graph, "in", 1, 1_000);
        world.keep_dead_letters(&mut graph, source, Some(max));
        world.sink(&mut graph, "out", source, true);
        graph
    };
    match run(graph(13), world.config(1, CrashPoints::default())).await {
        JobEvent::Failed(error) => {
            assert_eq!(error.code(), Code::BadData);
            assert!(error.hint().unwrap().contains("max_errors_per_batch = 13"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.letters("in-dlq").len(), 0, "what was not committed is not there");
    check_finished(&run(graph(14), world.config(1, CrashPoints::default())).await);
    assert_eq!(world.letters("in-dlq"), bad_records(100, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_are_written_where_they_would_be_left_out() {
    let world = World::new();
    // Seconds 0 … 39, and every fourth row is ten behind.
    let is_late = |v: &u64| v % 4 == 3;
    let time = |v: u64| if is_late(&v) { v.saturating_sub(10) } else { v };
    let lines: String = (0..40).map(|v| format!("{{\"k\":{},\"v\":{v}}}\n", time(v))).collect();
    world.logs.append_json("in", &lines).unwrap();
    world.logs.close("in");
    let graph = || {
        let mut table = World::table("in", &["k", "v"]);
        table.columns[0].data_type = laminar_core::table::timestamp_type();
        table.event_time = Some(EventTime { column: "k".into(), delay: Duration::ZERO });
        let options = Options::from_pairs([("format", "json"), ("timestamp_format", "unix_seconds")]);
        let context = SourceContext { pipeline: Some(pipeline()), clock: world.clock.clone(), partitions: None };
        let mut graph = Graph::default();
        let source = world.connector.source(&options, &table, &context).unwrap();
        let source = world.read(&mut graph, "in", source, 7);
        graph.nodes[source].schema = table.projected_schema();
        world.keep_dead_letters(&mut graph, source, None);
        let NodeKind::Source(node) = &mut graph.nodes[source].kind else { panic!("not a source") };
        node.late = LateRows::DeadLetter;
        let schema = World::table("out", &["v"]).schema();
        let exprs = vec![col("v", &graph.nodes[source].schema).unwrap()];
        let pick = ProjectFactory { predicate: None, exprs, timed: false, schema: schema.clone() };
        let pick = NodeKind::Operator(Arc::new(pick));
        let pick = add(&mut graph, "project", pick, schema, &[(source, Exchange::Forward)]);
        world.sink(&mut graph, "out", pick, true);
        graph
    };
    let crash = CrashPoints::fail_at("after-commit", 2).unwrap();
    run(graph(), world.config(1, crash)).await;
    check_finished(&run(graph(), world.config(1, CrashPoints::default())).await);
    let late =
        |v: u64| Letter { value: format!("{{\"k\":{},\"v\":{v}}}", time(v)), stage: "late".to_string(), place: (0, v) };
    let mut expected: Vec<_> = (0..40).filter(is_late).map(late).collect();
    expected.sort();
    assert_eq!(world.letters("in-dlq"), expected);
    assert_eq!(world.values("out", "v"), (0..40).filter(|v| !is_late(v)).collect::<Vec<_>>());
}

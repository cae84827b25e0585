//! Records that are no row, or two: positions and watermarks follow all the same.

use laminar_core::sink::ChangeSupport;

use super::*;

fn envelopes(connector: &MemoryConnector, clock: &SharedClock) -> Arc<dyn Source> {
    let options = Options::from_pairs([("format", "debezium_json"), ("partitions", "3")]);
    let context = SourceContext { pipeline: Some(pipeline()), clock: clock.clone(), partitions: None };
    connector.source(&options, &World::table("in", &["k", "v"]), &context).unwrap()
}

fn sink(world: &World, graph: &mut Graph, from: usize) {
    let context = SinkContext {
        instance: "test".into(),
        pipeline: pipeline(),
        delivery: None,
        checkpoint_interval: world.interval,
        clock: world.clock.clone(),
    };
    let options = Options::from_pairs([("format", "debezium_json")]);
    let sink = world.connector.sink(&options, &World::table("out", &["k", "v"]), &context).unwrap();
    assert_eq!(sink.changes(), ChangeSupport::Changes);
    let schema = graph.nodes[from].schema.clone();
    let node = NodeKind::Sink(SinkNode { table: "out".into(), sink });
    add(graph, "sink", node, schema, &[(from, Exchange::Forward)]);
}

/// Each kind of record, and how often it is written; null is a tombstone.
fn fill(world: &World, keys: u64) {
    let row = |k: u64, v: u64| format!("{{\"k\":{k},\"v\":{v}}}");
    let lines = (0..keys).map(|k| {
        let (old, new) = (row(k, 0), row(k, 1));
        let update = format!("{{\"before\":{old},\"after\":{new},\"op\":\"u\"}}");
        let delete = format!("{{\"before\":{new},\"after\":null,\"op\":\"d\"}}");
        format!("{{\"before\":null,\"after\":{old},\"op\":\"c\"}}\n{update}\nnull\n{delete}\nnull\n")
    });
    world.logs.append_json("in", &lines.collect::<String>()).unwrap();
    world.logs.close("in");
}

fn written_ops(world: &World) -> BTreeMap<String, usize> {
    let mut ops = BTreeMap::new();
    for line in world.logs.records("out") {
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        *ops.entry(record["op"].as_str().unwrap().to_string()).or_default() += 1;
    }
    ops
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_pass_through_whatever_rows_a_record_has() {
    for (parallelism, batch) in [(1, 1), (1, 64), (3, 7)] {
        let world = World::new();
        fill(&world, 500);
        let crashed = |crash| {
            let mut graph = Graph::default();
            let source = envelopes(&world.connector, &world.clock);
            assert!(source.yields_changes());
            let source = world.read(&mut graph, "in", source, batch);
            sink(&world, &mut graph, source);
            run(graph, world.config(parallelism, crash))
        };
        let event = crashed(CrashPoints::fail_at("task-frozen", 2).unwrap()).await;
        assert!(matches!(event, JobEvent::Failed(_) | JobEvent::Finished), "{event:?}");
        check_finished(&crashed(CrashPoints::default()).await);
        let expected = [("c", 500), ("d", 500), ("u", 500)].map(|(op, count)| (op.to_string(), count));
        assert_eq!(written_ops(&world), expected.into(), "at {parallelism}, {batch}");
    }
}

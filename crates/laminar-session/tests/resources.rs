//! What REST shows and does, over the same system as SQL; previews of streams; metrics.

mod world;

use laminar_core::Code;
use laminar_session::{FieldInfo, NewConnection, NewPipeline, NewTable, TableSchemaInfo};
use serde_json::json;
use world::{World, notices, text};

fn new_pipeline(name: &str, query: &str) -> NewPipeline {
    NewPipeline {
        name: name.into(),
        query: query.into(),
        parallelism: None,
        checkpoint_interval_micros: None,
        udfs: vec![],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_one_pipeline_with_tables_of_its_own() {
    let world = World::new().await;
    let script = "CREATE TABLE numbers (n INT) WITH (connector = 'memory');
        CREATE TABLE odd (n INT) WITH (connector = 'memory');
        CREATE TABLE even (n INT) WITH (connector = 'memory');
        CREATE VIEW doubled AS SELECT n * 2 AS n FROM numbers;
        INSERT INTO odd SELECT n FROM numbers WHERE n % 2 = 1;
        INSERT INTO even SELECT n FROM doubled;";
    let info = world.system.create_pipeline(new_pipeline("script", script)).await.unwrap();
    assert_eq!((info.sources, info.sinks), (vec!["numbers".to_string()], vec!["odd".to_string(), "even".to_string()]));
    world.logs.append_json("numbers", "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}").unwrap();
    assert_eq!(world.records("odd", 2).await, [r#"{"n":1}"#, r#"{"n":3}"#]);
    assert_eq!(world.records("even", 3).await.len(), 3);
    assert!(world.system.tables().await.unwrap().is_empty());
    let duplicate = world.system.create_pipeline(new_pipeline("script", script)).await.unwrap_err();
    assert_eq!(duplicate.code(), Code::DuplicateName);
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_answers_with_a_graph_or_with_places() {
    let mut world = World::new().await;
    world.run("CREATE TABLE orders (id INT, item TEXT) WITH (connector = 'memory')").await;
    let good = world.system.validate("SELECT id FROM orders WHERE item = 'pen'").await.unwrap();
    let graph = good.graph.unwrap();
    assert!(good.errors.is_empty());
    assert_eq!(graph.nodes.first().unwrap().kind, "source");
    assert_eq!(graph.edges.len() + 1, graph.nodes.len());
    let bad = world.system.validate("SELECT id,\n itme FROM orders").await.unwrap();
    assert!(bad.graph.is_none());
    let diagnostic = &bad.diagnostics[0];
    assert_eq!(diagnostic.code, "unknown_column");
    assert_eq!(diagnostic.position.map(|p| (p.line, p.column)), Some((2, 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_tables_are_the_same_objects_as_in_sql() {
    let mut world = World::new().await;
    let new = NewConnection {
        name: Some("mem".into()),
        connector: "memory".into(),
        description: Some("in memory".into()),
        config: json!({"format": "json"}).as_object().unwrap().clone(),
    };
    let created = world.system.create_connection(new.clone()).await.unwrap();
    assert_eq!((created.description.as_deref(), created.config["format"].as_str()), (Some("in memory"), Some("json")));
    assert!(world.system.test_connection("mem").await.unwrap().success);
    assert_eq!(world.system.create_connection(new).await.unwrap_err().code(), Code::DuplicateName);

    let field = |name: &str, data_type: &str| FieldInfo {
        name: name.into(),
        data_type: data_type.into(),
        nullable: true,
        description: None,
        metadata: None,
    };
    let table = NewTable {
        name: Some("orders".into()),
        connector: None,
        connection_profile_id: Some(created.id.clone()),
        table_type: Some("source".into()),
        schema: TableSchemaInfo { fields: vec![field("id", "BIGINT"), field("item", "TEXT")] },
        config: json!({"partitions": 2}).as_object().unwrap().clone(),
        event_time_field: None,
        watermark_delay: None,
    };
    assert!(world.system.test_new_table(table.clone()).await.unwrap().success);
    let info = world.system.create_table(table).await.unwrap();
    assert_eq!(
        (info.connection_profile_id.as_deref(), info.table_type.as_str()),
        (Some(created.id.as_str()), "source")
    );
    assert_eq!(world.rows("DESCRIBE orders").await, ["id BIGINT yes ", "item TEXT yes "]);
    let shown = world.rows("SHOW CREATE TABLE orders").await.join("\n");
    assert!(shown.contains("CREATE TABLE orders (\n  id BIGINT,\n  item TEXT\n) WITH ("), "{shown}");
    assert_eq!(world.system.delete_connection(&created.id).await.unwrap_err().code(), Code::InUse);
    world.system.delete_table(&info.id).await.unwrap();
    world.system.delete_connection("mem").await.unwrap();
    assert!(world.system.connections().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_of_a_stream_is_bounded_and_says_so() {
    let mut world = World::new().await;
    world.run("CREATE TABLE orders (id INT, item TEXT, twice INT GENERATED ALWAYS AS (id * 2)) WITH (connector = 'memory', type = 'source', partitions = 3, name = 'log')").await;
    world
        .logs
        .append_json("log", "{\"id\": 1, \"item\": \"a\"}\n{\"id\": 2, \"item\": \"b\"}\n{\"id\": 3}\n{\"id\": 4}")
        .unwrap();
    let outcome = world.run("SELECT twice, item FROM orders WHERE id <> 3 ORDER BY id").await.remove(0);
    assert_eq!(notices(&outcome), ["preview"]);
    assert_eq!(text(&outcome.collect().await.unwrap()), ["2 a", "4 b", "8 NULL"]);
    assert_eq!(world.rows("SELECT count(*) FROM (SELECT * FROM orders LIMIT 2)").await, ["2"]);
    assert_eq!(world.rows("SET preview_limit = 3; SELECT count(*) FROM orders").await, ["3"]);
    let rows = world.system.preview("SELECT id + 1 AS next FROM orders WHERE id = 4").await.unwrap();
    assert_eq!(text(&rows.collect().await.unwrap()), ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_end_stops_at_the_bound() {
    let mut world = World::new().await;
    world.run("CREATE TABLE ticks (counter BIGINT UNSIGNED NOT NULL) WITH (connector = 'impulse', event_rate = 1000000, type = 'source')").await;
    let outcome = world.run("SET preview_limit = 5000; SELECT count(*) FROM ticks").await.remove(1);
    let laminar_session::Outcome::Rows { late, .. } = &outcome else { panic!("no rows") };
    let late = late.clone();
    assert_eq!(text(&outcome.collect().await.unwrap()), ["5000"]);
    assert_eq!(late.take().iter().map(|n| n.code.as_str()).collect::<Vec<_>>(), ["preview_limit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_pipelines_own_tables_are_not_shown() {
    let mut world = World::new().await;
    let script = "CREATE TABLE numbers (n INT) WITH (connector = 'memory');
        CREATE TABLE copies (n INT) WITH (connector = 'kafka', bootstrap_servers = '127.0.0.1:1', topic = 'copies',
            type = 'sink', delivery = 'at_least_once', 'auth.type' = 'sasl', 'auth.username' = 'me',
            'auth.password' = 'hunter2');
        CREATE TABLE kept (n INT) WITH (connector = 'memory', name = 'hunter2');
        INSERT INTO kept SELECT n FROM numbers;";
    let info = world.system.create_pipeline(new_pipeline("own", script)).await.unwrap();
    assert!(info.query.contains("'auth.password' = '****'") && info.query.contains("name = 'hunter2'"), "{info:?}");
    world.logs.append_json("numbers", "{\"n\": 1}").unwrap();
    assert_eq!(world.records("hunter2", 1).await, [r#"{"n":1}"#]);
    for sql in ["SHOW CREATE PIPELINE own", "SELECT query FROM system.pipelines", "SELECT * FROM system.pipelines"] {
        let shown = world.rows(sql).await.join("\n");
        assert!(shown.contains("INSERT INTO kept") && !shown.contains("'auth.password' = 'hunter2'"), "{sql}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_replaced_only_by_one_that_its_tables_fit() {
    let mut world = World::new().await;
    world.run("CREATE CONNECTION c TO kafka (bootstrap_servers = '127.0.0.1:1')").await;
    world.run("CREATE CONNECTION m TO memory (format = 'json')").await;
    world.run("CREATE TABLE t (n INT) WITH (connector = 'm')").await;
    let (code, message) = world.fails("CREATE OR REPLACE CONNECTION m TO kafka (bootstrap_servers = 'b')").await;
    assert_eq!(code, Code::InUse, "{message}");
    let (code, message) = world.fails("CREATE OR REPLACE CONNECTION m TO memory (format = 'raw')").await;
    assert!(message.contains("table t"), "{code} {message}");
    world.run("CREATE OR REPLACE CONNECTION m TO memory (partitions = 2)").await;
    world.run("CREATE OR REPLACE CONNECTION c TO memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text() {
    let mut world = World::new().await;
    world.run("CREATE TABLE numbers (n INT) WITH (connector = 'memory'); CREATE TABLE copies (n INT) WITH (connector = 'memory')").await;
    world.run("INSERT INTO numbers VALUES (1), (2)").await;
    world.run("CREATE PIPELINE \"a \"\"quoted\"\" name\" AS INSERT INTO copies SELECT n FROM numbers").await;
    world.records("copies", 2).await;
    let text = world.system.metrics_text();
    for line in text.lines() {
        assert!(
            line.starts_with("# ") || line.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<f64>().is_ok()),
            "{line}"
        );
    }
    assert!(text.contains("# TYPE laminar_operator_rows_in_total counter"));
    assert!(text.contains("pipeline=\"a \\\"quoted\\\" name\""), "{text}");
    let read = text
        .lines()
        .find(|l| l.starts_with("laminar_operator_rows_out_total") && l.contains("kind=\"source\""))
        .unwrap();
    assert!(read.ends_with(" 2"), "{read}");
    let job = world.system.jobs(None, 1).await.unwrap().remove(0);
    let metrics = world.system.job_metrics(&job.id).await.unwrap();
    assert_eq!((metrics.totals.records_in, metrics.totals.records_out), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_secret_and_the_environment_closed() {
    let mut world = World::new().await;
    world.run("CREATE SECRET log_name AS 'hidden'").await;
    world.run("CREATE TABLE t (n INT) WITH (connector = 'memory', name = '${secret:log_name}')").await;
    world.run("INSERT INTO t VALUES (7)").await;
    assert_eq!(world.logs.records("hidden"), [r#"{"n":7}"#]);
    assert_eq!(world.fails("DROP SECRET log_name").await.0, Code::InUse);
    let shown = world.rows("SHOW CREATE TABLE t; SELECT options FROM system.tables").await.join("\n");
    assert!(!shown.contains("hidden"), "{shown}");
    let (code, _) = world.fails("CREATE TABLE u (n INT) WITH (connector = 'memory', name = '${env:HOME_TOWN}')").await;
    assert_eq!(code, Code::ForbiddenOption);
}

/// Waits, within limits, until the first row of the query is this one.
async fn until_row(world: &mut World, sql: &str, row: &str) {
    let reached = async {
        while world.rows(sql).await.first().map(String::as_str) != Some(row) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let reached = tokio::time::timeout(std::time::Duration::from_secs(20), reached).await;
    assert!(reached.is_ok(), "{:?}", world.rows(sql).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_fails_is_shown_and_the_job_goes_on() {
    let mut world = World::new().await;
    world.run("CREATE TABLE numbers (n INT) WITH (connector = 'memory')").await;
    world.run("CREATE TABLE copies (n INT) WITH (connector = 'memory')").await;
    world.logs.append_json("numbers", "{\"n\": 1}").unwrap();
    let create = "CREATE PIPELINE copy WITH (tolerable_failed_checkpoints = 1000, checkpoint_timeout = '1 minute') AS
        INSERT INTO copies SELECT n FROM numbers";
    world.run(create).await;
    world.records("copies", 1).await;
    // A file where the manifests' folder was.
    let id = world.system.pipeline("copy").await.unwrap().id;
    let manifests = world.folder.path().join("state").join(id).join("manifests");
    let aside = world.folder.path().join("aside");
    std::fs::rename(&manifests, &aside).unwrap();
    std::fs::write(&manifests, "").unwrap();
    world.logs.append_json("numbers", "{\"n\": 2}").unwrap();
    let failed = "SELECT state, json_get_str(json_get_json(detail, 'failure'), 'code'), finish_time IS NOT NULL
        FROM system.checkpoints WHERE state = 'failed' LIMIT 1";
    until_row(&mut world, failed, "failed store_unavailable true").await;
    assert!(
        world
            .system
            .metrics_text()
            .lines()
            .any(|line| { line.starts_with("laminar_checkpoints_failed_total{") && !line.ends_with(" 0") })
    );
    std::fs::remove_file(&manifests).unwrap();
    std::fs::rename(&aside, &manifests).unwrap();
    assert_eq!(world.records("copies", 2).await.len(), 2);
    let job = world.system.jobs(None, 10).await.unwrap().remove(0);
    assert_eq!((job.state.as_str(), job.restarts), ("Running", 0), "nothing was restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_watermarks_are_measured() {
    let mut world = World::new().await;
    let create =
        "CREATE TABLE numbers (n INT, at TIMESTAMP, WATERMARK FOR at) WITH (connector = 'memory', partitions = 2)";
    world.run(create).await;
    let lines: String = (0..40).map(|n| format!("{{\"n\": {n}, \"at\": \"2024-01-01T00:00:{:02}Z\"}}\n", n)).collect();
    world.logs.append_json("numbers", &lines).unwrap();
    world.run("CREATE PIPELINE counts WITH (parallelism = 2) AS SELECT n, count(*) AS c FROM numbers GROUP BY n").await;
    let state =
        "SELECT state_rows, state_bytes > 0, checkpoint_bytes IS NOT NULL, last_alignment_micros <= alignment_micros
        FROM system.metrics WHERE operator_id LIKE 'updating%'";
    until_row(&mut world, state, "40 true true true").await;
    let none =
        "SELECT count(*) FROM system.metrics WHERE kind = 'source' AND state_rows IS NULL AND watermark_lag_ms > 0";
    until_row(&mut world, none, "1").await;
    let tasks = "SELECT count(*), sum(records_in), min(watermark), max(watermark), min(watermark_lag_ms) > 0
        FROM system.tasks WHERE operator_id = 'source-0'";
    until_row(&mut world, tasks, "2 40 2024-01-01T00:00:38 2024-01-01T00:00:39 true").await;
    let text = world.system.metrics_text();
    let rows = |l: &&str| l.starts_with("laminar_operator_state_rows{") && l.contains("operator=\"updating");
    let rows = text.lines().find(rows).unwrap();
    assert!(rows.ends_with(" 40"), "{rows}");
    for family in ["watermark_lag_seconds", "state_bytes", "checkpoint_bytes", "last_alignment_seconds"] {
        assert!(text.contains(&format!("\nlaminar_operator_{family}{{")), "{family}");
    }
    // After a restart the sizes are those of the checkpoint that it began from.
    world.restart(laminar_engine::crash::CrashPoints::default()).await;
    world.until("counts", "running").await;
    until_row(&mut world, "SELECT state_rows FROM system.metrics WHERE operator_id LIKE 'updating%'", "40").await;
}

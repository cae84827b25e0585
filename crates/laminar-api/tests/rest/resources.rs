//! The REST API as a client sees it: a real server on a free port, SQLite in memory, generators as inputs.

use crate::support::Server;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn ping_and_description() {
    let server = Server::start().await;
    assert_eq!(server.get("/ping").await, (200, json!("Pong")));
    let (status, api) = server.get("/openapi.json").await;
    assert_eq!((status, &api["openapi"].as_str().unwrap()[..3]), (200, "3.1"));
    assert!(api["paths"]["/sql"]["post"]["responses"]["default"].is_object());
    let text = reqwest::get(format!("{}/metrics", server.root)).await.unwrap();
    assert_eq!(text.status(), 200);
    assert!(text.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
}

#[tokio::test]
async fn sql_in_one_object() {
    let server = Server::start().await;
    let (status, body) = server.sql("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, NULL ORDER BY 1").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["columns"], json!([{"name": "a", "type": "BIGINT"}, {"name": "b", "type": "TEXT"}]));
    assert_eq!(body["rows"], json!([[1, "x"], [2, null]]));
    assert_eq!((&body["tag"], &body["results"][0]["rows"]), (&json!("SELECT 2"), &body["rows"]));

    let (status, body) = server.sql("SET preview_limit = 7; SHOW preview_limit; SELECT 3").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["results"][0]["setting"], json!({"name": "preview_limit", "value": "7"}));
    assert_eq!(body["results"][1]["rows"], json!([["7"]]));
    assert_eq!(body["results"].as_array().unwrap().len(), 3);
    assert!(body.get("rows").is_none(), "only one statement's answer stands at the top");
}

#[tokio::test]
async fn settings_hold_for_their_request() {
    let server = Server::start().await;
    let query = json!({"query": "SHOW preview_limit", "settings": {"preview_limit": 5}});
    assert_eq!(server.post("/sql", &query).await.1["rows"], json!([["5"]]));
    assert_ne!(server.sql("SHOW preview_limit").await.1["rows"], json!([["5"]]));
    let (status, body) = server.post("/sql", &json!({"query": "SELECT 1", "settings": {"nope": 5}})).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("unknown_setting")));
}

#[tokio::test]
async fn sql_as_lines_events_and_arrow() {
    let server = Server::start().await;
    let query = json!({"query": "SELECT 1 AS a UNION ALL SELECT 2 ORDER BY 1"});
    let lines = server.accept("application/x-ndjson", &query).await;
    assert_eq!(lines.text().await.unwrap(), "{\"a\":1}\n{\"a\":2}\n");

    let events = server.accept("text/event-stream", &query).await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let events = events.text().await.unwrap();
    let names: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((names.first(), names.last()), (Some(&"columns"), Some(&"end")), "{events}");
    assert!(names.contains(&"rows") && events.contains("{\"tag\":\"SELECT 2\"}"), "{events}");

    let arrow = server.accept("application/vnd.apache.arrow.stream", &query).await.bytes().await.unwrap();
    let reader = arrow::ipc::reader::StreamReader::try_new(arrow.as_ref(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
}

#[tokio::test]
async fn an_error_in_events_is_the_last_one() {
    let server = Server::start().await;
    let events =
        server.accept("text/event-stream", &json!({"query": "SELECT 1; SELECT nope"})).await.text().await.unwrap();
    let last = events.lines().filter_map(|line| line.strip_prefix("event: ")).next_back();
    assert_eq!(last, Some("error"), "{events}");
    assert!(events.contains("\"code\":\"unknown_column\"") && events.contains("\"line\":1"), "{events}");
}

#[tokio::test]
async fn a_pipeline_from_creation_to_deletion() {
    let server = Server::start().await;
    server.done("CREATE TABLE ticks (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 1000)").await;
    server.done("CREATE TABLE nowhere (n BIGINT) WITH (connector = 'blackhole')").await;
    let new = json!({"name": "evens", "query": "INSERT INTO nowhere SELECT counter FROM ticks WHERE counter % 2 = 0",
                     "parallelism": 1, "checkpointIntervalMicros": 200_000});
    let (status, pipeline) = server.post("/pipelines", &new).await;
    assert_eq!(status, 201, "{pipeline}");
    assert_eq!((&pipeline["name"], &pipeline["checkpoint_interval_micros"]), (&json!("evens"), &json!(200_000)));
    assert!(!pipeline["graph"]["nodes"].as_array().unwrap().is_empty());

    let (status, list) = server.get("/pipelines?name=ev*&limit=1").await;
    assert_eq!((status, &list["data"][0]["id"], &list["has_more"]), (200, &pipeline["id"], &json!(false)));
    let id = pipeline["id"].as_str().unwrap();
    let by_id = server.get(&format!("/pipelines/{id}")).await.1;
    assert_eq!(by_id["name"], server.get("/pipelines/evens").await.1["name"]);

    let job =
        server.until("/pipelines/evens/jobs", |jobs| jobs["data"][0]["state"] == "Running").await["data"][0].clone();
    let job = job["id"].as_str().unwrap().to_string();
    let metrics = server.until(&format!("/jobs/{job}/metrics"), |m| m["records_in"].as_u64() > Some(100)).await;
    let operator = metrics["operators"][0]["operator_id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/jobs/{job}/operators/{operator}/metrics")).await.1["operator_id"], operator);
    let checkpoints =
        server.until(&format!("/jobs/{job}/checkpoints?completed=true"), |c| c["data"][0]["epoch"].is_u64()).await;
    let epoch = checkpoints["data"][0]["epoch"].as_u64().unwrap();
    assert_eq!(server.get(&format!("/jobs/{job}/checkpoints/{epoch}")).await.1["state"], "completed");
    assert_eq!(server.get(&format!("/jobs/{job}/errors")).await, (200, json!({"data": [], "has_more": false})));
    let text = reqwest::get(format!("{}/metrics", server.root)).await.unwrap().text().await.unwrap();
    assert!(text.contains("pipeline=\"evens\"") || text.contains(id), "{text}");

    let (status, stopped) = server.send(Method::PATCH, "/pipelines/evens", &json!({"stop": "checkpoint"})).await;
    assert_eq!((status, &stopped["state"]), (200, &json!("stopped")), "{stopped}");
    let (status, started) = server.send(Method::POST, "/pipelines/evens/start", &json!({})).await;
    assert_eq!(status, 200, "{started}");
    assert_ne!(started["job_id"], json!(job));
    let (status, restarted) = server.post("/pipelines/evens/restart", &json!({"force": true})).await;
    assert_eq!(status, 200, "{restarted}");
    let (status, patched) = server.send(Method::PATCH, "/pipelines/evens", &json!({"parallelism": 2})).await;
    assert_eq!((status, &patched["parallelism"]), (200, &json!(2)), "{patched}");

    let (status, error) = server.send(Method::DELETE, "/connection_tables/ticks", &json!({})).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("in_use")), "{error}");
    assert_eq!(server.send(Method::DELETE, "/pipelines/evens", &json!({})).await.0, 200);
    assert_eq!(server.get("/pipelines/evens").await.0, 404);
    assert_eq!(server.send(Method::DELETE, "/connection_tables/ticks", &json!({})).await.0, 200);
}

#[tokio::test]
async fn subscribe_streams_until_the_client_leaves() {
    let server = Server::start().await;
    server.done("CREATE TABLE ticks (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 200)").await;
    server.done("CREATE PIPELINE all_ticks AS SELECT counter FROM ticks").await;
    let mut events = server.accept("text/event-stream", &json!({"query": "SUBSCRIBE TO all_ticks"})).await;
    let mut seen = String::new();
    while seen.matches("event: rows").count() < 3 {
        seen.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    drop(events);
    assert!(seen.contains("\"endless\":true"), "{seen}");
    let (status, body) = server.sql("SUBSCRIBE TO all_ticks").await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("invalid_request")));
    server.done("DROP PIPELINE all_ticks").await;
}

#[tokio::test]
async fn connections_and_tables_as_resources() {
    let server = Server::start().await;
    let new = json!({"name": "broker", "connector": "kafka", "description": "ours",
                     "config": {"bootstrapServers": "127.0.0.1:1", "sasl.password": "hunter2"}});
    let (status, created) = server.post("/connection_profiles", &new).await;
    assert_eq!(status, 201, "{created}");
    assert_eq!(created["data"]["config"]["bootstrap_servers"], "127.0.0.1:1");
    assert!(!created.to_string().contains("hunter2"), "{created}");
    assert_eq!(server.post("/connection_profiles", &new).await.0, 409);
    assert_eq!(server.get("/connection_profiles").await.1["data"][0]["name"], "broker");

    let (status, tested) = server.post("/connection_profiles/test", &new).await;
    assert_eq!((status, &tested["data"]["success"]), (200, &json!(false)), "{tested}");
    assert_eq!(server.send(Method::DELETE, "/connection_profiles/broker", &json!({})).await.0, 200);
    assert_eq!(server.get("/connection_profiles/broker").await.0, 404);

    let new = json!({"name": "ticks", "connector": "impulse", "table_type": "source", "config": {"event_rate": 10},
                     "schema": {"fields": [{"name": "counter", "data_type": "BIGINT UNSIGNED"}]}});
    let (status, created) = server.post("/connection_tables", &new).await;
    assert_eq!(status, 201, "{created}");
    assert_eq!(created["data"]["schema"]["fields"][0]["data_type"], "BIGINT UNSIGNED");
    assert_eq!(server.get("/connection_tables?type=sink").await.1["data"], json!([]));
    let (_, preview) =
        server.post("/pipelines/preview", &json!({"query": "SELECT counter FROM ticks", "limit": 3})).await;
    assert_eq!(preview["rows"].as_array().map(Vec::len), Some(3), "{preview}");
    let (status, refused) =
        server.post("/pipelines/preview", &json!({"query": "SELECT counter FROM ticks LIMIT 3"})).await;
    assert_eq!(status, 422, "{refused}");
    assert!(refused["error"]["details"]["hint"].as_str().unwrap().contains("its field `limit`"), "{refused}");
}

#[tokio::test]
async fn queries_are_validated_without_side_effects() {
    let server = Server::start().await;
    server.done("CREATE TABLE ticks (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 10)").await;
    let (status, good) = server.post("/pipelines/validate_query", &json!({"query": "SELECT counter FROM ticks"})).await;
    assert_eq!((status, &good["errors"]), (200, &json!([])), "{good}");
    assert!(good["graph"]["nodes"].is_array());
    let (status, bad) = server.post("/pipelines/validate_query", &json!({"query": "SELECT conter FROM ticks"})).await;
    assert_eq!((status, &bad["diagnostics"][0]["code"]), (200, &json!("unknown_column")), "{bad}");
    assert_eq!(bad["diagnostics"][0]["position"], json!({"line": 1, "column": 8}));
    assert_eq!(server.get("/pipelines").await.1["data"], json!([]));
}

#[tokio::test]
async fn connectors_are_listed_with_their_options() {
    let server = Server::start().await;
    let (status, all) = server.get("/connectors").await;
    let names: Vec<&str> = all["data"].as_array().unwrap().iter().filter_map(|c| c["id"].as_str()).collect();
    assert_eq!(status, 200);
    for name in ["kafka", "impulse", "datagen", "nexmark", "single_file", "filesystem", "stdout", "blackhole", "memory"]
    {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let kafka = server.get("/connectors/kafka").await.1;
    assert!(kafka["data"]["configuration_schema"]["source"]["properties"]["topic"].is_object(), "{kafka}");
    let sinks = server.get("/connectors?type=sink").await.1;
    assert!(!sinks["data"].as_array().unwrap().iter().any(|c| c["id"] == "impulse"));
}

#[tokio::test]
async fn lists_come_in_parts() {
    let server = Server::start().await;
    for n in 0..5 {
        server.done(&format!("CREATE TABLE t{n} (n BIGINT) WITH (connector = 'blackhole')")).await;
    }
    let mut seen = Vec::new();
    let mut path = "/connection_tables?limit=2".to_string();
    loop {
        let (status, part) = server.get(&path).await;
        assert_eq!(status, 200, "{part}");
        let data = part["data"].as_array().unwrap().clone();
        seen.extend(data.iter().map(|t| t["name"].as_str().unwrap().to_string()));
        if part["has_more"] == Value::Bool(false) {
            break;
        }
        path = format!("/connection_tables?limit=2&starting_after={}", data.last().unwrap()["id"].as_str().unwrap());
    }
    assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4"]);
}

#[tokio::test]
async fn a_stopping_server_ends_its_streams() {
    let server = Server::start().await;
    server.done("CREATE TABLE ticks (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 1)").await;
    server.done("CREATE PIPELINE p AS SELECT counter FROM ticks").await;
    let events = server.accept("text/event-stream", &json!({"query": "SUBSCRIBE TO p"})).await;
    server.stop().await;
    assert!(events.text().await.unwrap().contains("the server is shutting down"));
}

#[tokio::test]
async fn parameters_are_values_and_never_sql() {
    let server = Server::start().await;
    let check = async |query: &str, params: Value, rows: Value| {
        let (status, body) = server.post("/sql", &json!({"query": query, "params": params})).await;
        let last = body["results"].as_array().and_then(|results| results.last());
        assert_eq!((status, last.map(|answer| &answer["rows"])), (200, Some(&rows)), "{query}: {body}");
    };
    check("SELECT $1, $2, $3, $4", json!(["it's; -- $2", 7, true, null]), json!([["it's; -- $2", 7, true, null]]))
        .await;
    check("SELECT -$1, 10 - $1, $2 + 1", json!([-5, 1.5]), json!([[5, 15, 2.5]])).await;
    check(
        "SELECT n FROM (SELECT unnest(range(0, 9)) AS n) WHERE n > $1 AND n IN (SELECT $2) LIMIT $3",
        json!([3, 5, 1]),
        json!([[5]]),
    )
    .await;
    check("SELECT $1; SELECT $2", json!([1, "b"]), json!([["b"]])).await;
    check(
        "SELECT $1::BIGINT, CAST($2 AS TIMESTAMP) > TIMESTAMP '2026-01-01'",
        json!(["12", "2026-02-01T00:00:00"]),
        json!([[12, true]]),
    )
    .await;
    let table = "CREATE TABLE t (n BIGINT, s TEXT) WITH (connector = 'memory')";
    server.done(table).await;
    let insert =
        json!({"query": "INSERT INTO t VALUES ($1, $2), (2, $3)", "params": [1, "x'); DROP TABLE t; --", null]});
    let (status, body) = server.post("/sql", &insert).await;
    assert_eq!((status, &body["tag"]), (200, &json!("INSERT 0 2")), "{body}");
    check("SELECT n, s FROM t WHERE n = $1", json!([1]), json!([[1, "x'); DROP TABLE t; --"]])).await;
    server.stop().await;
}

//! Bad requests: each gives its status, its code and, where there is one, the field or place; nothing is created, and the
//! server goes on.

use crate::support::Server;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

const JSON: &str = "application/json";

/// Method, path, content type, body → status, code, field.
type Case = (&'static str, &'static str, &'static str, &'static str, u16, &'static str, &'static str);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // HTTP itself
    ("GET", "/nope", "", "", 404, "not_found", ""),
    ("GET", "/../x", "", "", 404, "not_found", ""),
    ("DELETE", "/sql", "", "", 405, "invalid_request", ""),
    ("PUT", "/pipelines/p", JSON, "{}", 405, "invalid_request", ""),
    ("POST", "/sql", "", "{\"query\":\"SELECT 1\"}", 415, "invalid_request", ""),
    ("POST", "/sql", "text/plain", "SELECT 1", 415, "invalid_request", ""),
    ("POST", "/sql", "application/x-www-form-urlencoded", "query=SELECT", 415, "invalid_request", ""),
    ("GET", "/pipelines/%ff", "", "", 400, "invalid_request", ""),
    // bodies
    ("POST", "/sql", JSON, "", 400, "invalid_request", ""),
    ("POST", "/sql", JSON, "{", 400, "invalid_request", ""),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT 1\"} tail", 400, "invalid_request", ""),
    ("POST", "/sql", JSON, "[]", 400, "invalid_request", ""),
    ("POST", "/sql", JSON, "[\"SELECT 1\"]", 400, "invalid_request", ""),
    ("POST", "/sql", JSON, "null", 400, "invalid_request", ""),
    ("POST", "/sql", JSON, "{}", 400, "invalid_request", "query"),
    ("POST", "/sql", JSON, "{\"query\": 1}", 400, "invalid_request", "query"),
    ("POST", "/sql", JSON, "{\"query\": \"\\ud800\"}", 400, "invalid_request", ""),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT 1\",\"params\":[1]}", 400, "invalid_request", "params"),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT $1\"}", 400, "invalid_request", "params"),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT $0\",\"params\":[1]}", 400, "invalid_request", "params"),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT $1, $3\",\"params\":[1, 2]}", 400, "invalid_request", "params"),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT $2\",\"params\":[1, 2]}", 400, "invalid_request", "params"),
    ("POST", "/sql", JSON, "{\"query\":\"CREATE VIEW v AS SELECT $1 AS n\",\"params\":[1]}", 400, "invalid_request", "params"),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT $1\",\"params\":[[1]]}", 400, "invalid_request", "params[0]"),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT $1\",\"params\":1}", 400, "invalid_request", "params"),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT 1\",\"settings\":{\"a\":[]}}", 400, "invalid_request", "settings.a"),
    ("POST", "/pipelines", JSON, "{\"name\":\"p\"}", 400, "invalid_request", "query"),
    ("POST", "/pipelines", JSON, "{\"name\":\"p\",\"query\":\"SELECT 1\",\"parallelizm\":2}", 400, "invalid_request", "parallelizm"),
    ("POST", "/pipelines", JSON, "{\"name\":\"p\",\"query\":\"SELECT 1\",\"parallelism\":\"two\"}", 400, "invalid_request", "parallelism"),
    ("POST", "/pipelines", JSON, "{\"name\":\"p\",\"query\":\"SELECT 1\",\"parallelism\":-1}", 400, "invalid_request", "parallelism"),
    ("PATCH", "/pipelines/p", JSON, "{\"stop\":\"later\"}", 400, "invalid_request", "stop"),
    ("POST", "/connection_tables", JSON, "{\"name\":\"t\",\"connector\":\"impulse\",\"schema\":{\"fields\":[{\"name\":1}]}}",
        400, "invalid_request", "schema.fields[0].name"),
    // query strings
    ("GET", "/pipelines?limit=0", "", "", 400, "invalid_request", "limit"),
    ("GET", "/pipelines?limit=101", "", "", 400, "invalid_request", "limit"),
    ("GET", "/pipelines?limit=many", "", "", 400, "invalid_request", "limit"),
    ("GET", "/pipelines?nope=1", "", "", 400, "invalid_request", "nope"),
    ("GET", "/pipelines?starting_after=x&offset=1", "", "", 400, "conflicting_options", "offset"),
    ("GET", "/pipelines?starting_after=x", "", "", 404, "not_found", "starting_after"),
    ("GET", "/connectors?type=both", "", "", 400, "invalid_request", "type"),
    ("GET", "/jobs?sort=name", "", "", 400, "invalid_request", "sort"),
    // what is not there
    ("GET", "/pipelines/p", "", "", 404, "unknown_pipeline", ""),
    ("DELETE", "/pipelines/p", "", "", 404, "unknown_pipeline", ""),
    ("POST", "/pipelines/p/start", "", "", 404, "unknown_pipeline", ""),
    ("POST", "/pipelines/p/restart", JSON, "{}", 404, "unknown_pipeline", ""),
    ("GET", "/pipelines/p/jobs", "", "", 404, "unknown_pipeline", ""),
    ("GET", "/jobs/j", "", "", 404, "unknown_job", ""),
    ("GET", "/jobs/j/metrics", "", "", 404, "unknown_job", ""),
    ("GET", "/jobs/j/errors", "", "", 404, "unknown_job", ""),
    ("GET", "/jobs/j/checkpoints/1", "", "", 404, "unknown_job", ""),
    ("POST", "/jobs/j/stop", "", "", 404, "unknown_job", ""),
    ("GET", "/connection_profiles/c", "", "", 404, "unknown_connection", ""),
    ("DELETE", "/connection_tables/t", "", "", 404, "unknown_table", ""),
    ("GET", "/connectors/kafak", "", "", 404, "unknown_connector", "connector"),
    // requests that make no sense
    ("POST", "/pipelines", JSON, "{\"name\":\"p\",\"query\":\"SELECT 1\",\"udfs\":[{}]}", 422, "not_supported", "udfs"),
    ("POST", "/pipelines/preview", JSON, "{\"query\":\"SELECT 1\",\"enable_sinks\":true}", 422, "not_supported", "enable_sinks"),
    ("POST", "/pipelines/p/restart", JSON, "{\"ignoreState\":true,\"fromCheckpoint\":1}", 400, "conflicting_options", "ignore_state"),
    ("POST", "/connection_profiles", JSON, "{\"name\":\"c\",\"connector\":\"kafak\",\"config\":{}}", 404, "unknown_connector", "connector"),
    ("POST", "/connection_profiles", JSON, "{\"name\":\"c\",\"connector\":\"kafka\",\"config\":{\"topik\":\"x\"}}", 400, "unknown_option", "topik"),
    ("POST", "/connection_tables", JSON,
        "{\"name\":\"t\",\"connector\":\"impulse\",\"schema\":{\"fields\":[{\"name\":\"a\",\"data_type\":\"BIGIN\"}]},\"config\":{}}",
        422, "type_mismatch", "schema.fields.a"),
    // SQL
    ("POST", "/sql", JSON, "{\"query\":\"\"}", 400, "invalid_request", "query"),
    ("POST", "/sql", JSON, "{\"query\":\"SELEC 1\"}", 400, "syntax_error", ""),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT * FROM nope\"}", 404, "unknown_table", ""),
    ("POST", "/sql", JSON, "{\"query\":\"DROP PIPELINE nope\"}", 404, "unknown_pipeline", ""),
    ("POST", "/sql", JSON, "{\"query\":\"SELECT nope FROM system.pipelines\"}", 422, "unknown_column", ""),
    ("POST", "/sql", JSON, "{\"query\":\"CREATE TABLE t (a BIGINT) WITH (connector = 'impulse', rate = 1)\"}", 400, "unknown_option", "rate"),
];

#[tokio::test]
async fn each_has_its_status_and_code() {
    let server = Server::start().await;
    let mut wrong = Vec::new();
    for (method, path, content, body, status, code, field) in CASES {
        let mut request = server.request(Method::from_bytes(method.as_bytes()).unwrap(), path).body(*body);
        if !content.is_empty() {
            request = request.header(CONTENT_TYPE, *content);
        }
        let response = request.send().await.unwrap();
        let got_status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let error = &json["error"];
        let got = (got_status, error["code"].as_str().unwrap_or("?"), error["details"]["field"].as_str().unwrap_or(""));
        if got != (*status, *code, *field) {
            wrong
                .push(format!("{method} {path} {body}\n  wanted {:?}\n  got    {got:?} {text}", (status, code, field)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(server.get("/connection_tables").await.1["data"], json!([]), "nothing is created");
    assert_eq!(server.get("/connection_profiles").await.1["data"], json!([]));
    assert_eq!(server.get("/pipelines").await.1["data"], json!([]));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let query = format!("SELECT '{}'", "x".repeat(5 << 20));
    let (status, body) = server.sql(&query).await;
    assert_eq!((status, &body["error"]["code"]), (413, &json!("limit_exceeded")));
}

#[tokio::test]
async fn an_answer_that_is_too_large_says_what_to_do() {
    let server = Server::start().await;
    let (status, body) = server.sql("SELECT repeat('x', 1000) FROM (SELECT unnest(range(1, 50000)))").await;
    assert_eq!((status, &body["error"]["code"]), (429, &json!("limit_exceeded")), "{body}");
    assert!(body["error"]["details"]["hint"].as_str().unwrap().contains("LIMIT"));
}

#[tokio::test]
async fn places_are_in_the_script_that_was_sent() {
    let server = Server::start().await;
    let (_, body) = server.sql("SELECT 1;\n\nSELECT nope\nFROM system.tables").await;
    assert_eq!(body["error"]["details"]["position"], json!({"line": 3, "column": 8}), "{body}");
}

#[tokio::test]
async fn formats_that_cannot_be_produced_are_refused() {
    let server = Server::start().await;
    let ask = |accept: &'static str, query: &'static str| {
        server.request(Method::POST, "/sql").header("Accept", accept).json(&json!({"query": query})).send()
    };
    assert_eq!(ask("text/html", "SELECT 1").await.unwrap().status(), 406);
    assert_eq!(ask("application/vnd.apache.arrow.stream", "SELECT 1; SELECT 2").await.unwrap().status(), 406);
    // an early error decides the status of a stream, too
    assert_eq!(ask("application/x-ndjson", "SELECT nope").await.unwrap().status(), 422);
    assert_eq!(ask("application/vnd.apache.arrow.stream", "SELECT nope").await.unwrap().status(), 422);
}

/// Whatever gathers rows is counted; what only passes them on is not, however many they are.
#[tokio::test]
async fn a_query_that_needs_too_much_memory_fails_alone() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        let options = "connector = 'impulse', event_rate = 100000000, message_count = 3000";
        server.done(&format!("CREATE TABLE {name} (counter BIGINT UNSIGNED) WITH ({options})")).await;
    }
    server.limit_query_memory(16 << 20);
    let pairs = "FROM a CROSS JOIN b";
    let sums = format!("SELECT a.counter + b.counter AS n {pairs}");
    for (what, query) in [
        ("a sort", format!("SELECT a.counter {pairs} ORDER BY a.counter + b.counter")),
        ("groups", format!("SELECT a.counter * 3000 + b.counter AS k, count(*) {pairs} GROUP BY k")),
        ("DISTINCT", format!("SELECT DISTINCT a.counter * 3000 + b.counter {pairs}")),
        ("UNION", format!("SELECT a.counter * 3000 + b.counter {pairs} UNION SELECT 1")),
        ("a list", format!("SELECT cardinality(array_agg(a.counter)) {pairs}")),
        ("a text", format!("SELECT length(string_agg(CAST(a.counter AS TEXT), ',')) {pairs}")),
        ("a window", format!("SELECT sum(a.counter) OVER () {pairs}")),
        ("a sorted window", format!("SELECT rank() OVER (ORDER BY a.counter) {pairs}")),
        ("a hash join", format!("SELECT max(p.n) FROM ({sums}) p JOIN ({sums}) q ON p.n = q.n")),
        ("a nested loop", format!("SELECT max(p.n) FROM ({sums}) p JOIN ({sums}) q ON p.n < q.n")),
        ("a cross join", format!("SELECT max(p.n + q.n) FROM ({sums}) p CROSS JOIN ({sums}) q")),
    ] {
        let (status, body) = server.sql(&query).await;
        assert_eq!((status, &body["error"]["code"]), (429, &json!("limit_exceeded")), "{what}: {body}");
        let hint = body["error"]["details"]["hint"].as_str().unwrap_or_default();
        assert!(hint.contains("--query-memory"), "{what}: {body}");
    }
    let (status, body) = server.sql(&format!("SELECT count(*), max(a.counter) {pairs}")).await;
    assert_eq!((status, &body["rows"]), (200, &json!([[9_000_000, 2_999]])), "what failed has given its memory back");
    server.stop().await;
}

/// What a web page can make a browser send: the names of rebinding, and a form's POST that needs no body and no preflight.
#[tokio::test]
async fn a_page_of_another_site_cannot_use_the_server() {
    let server = Server::start().await;
    server.done("CREATE TABLE t (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 1000)").await;
    server.done("CREATE PIPELINE p AS SELECT counter FROM t").await;
    let running = server.until("/pipelines/p", |p| p["state"] == "running").await;
    let stop = format!("/jobs/{}/stop", running["job_id"].as_str().unwrap());
    for (header, value, field) in [
        ("Host", "evil.example:5115", "Host"),
        ("Origin", "http://evil.example", "Origin"),
        ("Origin", "null", "Origin"),
    ] {
        for (method, path) in [
            (Method::GET, "/tables"),
            (Method::GET, "/nope"),
            (Method::OPTIONS, "/sql"),
            (Method::POST, "/sql"),
            (Method::POST, "/pipelines/p/restart"),
            (Method::POST, stop.as_str()),
        ] {
            let request = server.request(method.clone(), path).header(header, value);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 403, "{method} {path} with {header}: {value}");
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["error"]["code"], "forbidden_origin");
            assert_eq!(body["error"]["details"]["field"], field);
        }
    }
    let metrics = reqwest::Client::new().get(format!("{}/metrics", server.root)).header("Host", "evil.example");
    assert_eq!(metrics.send().await.unwrap().status(), 403);
    let (_, after) = server.get("/pipelines/p").await;
    assert_eq!((&after["state"], &after["job_id"]), (&running["state"], &running["job_id"]));
    // a page of the server's own would be heard
    let own = server.request(Method::POST, stop.as_str()).header("Origin", &server.root).send().await.unwrap();
    assert_eq!(own.status(), 200);
    server.stop().await;
}

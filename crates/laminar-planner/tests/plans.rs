//! Pipelines and the graphs they become.
//!
//! `plans.sql` holds statements under what they show; the snapshot has what each gives.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use common::Fixture;

const CATALOGUE: &str = "
    CREATE CONNECTION kafka_read TO kafka (bootstrap_servers = 'localhost:9092', type = 'source', format = 'json');
    CREATE TABLE orders (id BIGINT, item TEXT, price DOUBLE, payload JSON, at TIMESTAMP) WITH (connector = 'memory', type = 'source');
    CREATE TABLE tagged (id BIGINT, tags TEXT[]) WITH (connector = 'memory', type = 'source');
    CREATE TABLE computed (
        id BIGINT NOT NULL,
        name TEXT DEFAULT 'nobody',
        unused TEXT,
        twice BIGINT GENERATED ALWAYS AS (id * 2)
    ) WITH (connector = 'memory', type = 'source');
    CREATE TABLE out (id BIGINT NOT NULL, item TEXT, price DOUBLE) WITH (connector = 'memory', type = 'sink');
    CREATE TABLE out_read (id BIGINT NOT NULL, item TEXT) WITH (connector = 'memory', type = 'source');
    CREATE TABLE computed_out (id BIGINT NOT NULL, name TEXT NOT NULL DEFAULT 'nobody') WITH (connector = 'memory', type = 'sink');
    CREATE TABLE texts (id TEXT, payload TEXT) WITH (connector = 'memory', type = 'sink');
    CREATE VIEW cheap AS SELECT id, item FROM orders WHERE price < 10;
";

#[test]
fn what_each_becomes() {
    let mut out = String::new();
    for case in include_str!("plans.sql").split("-- # ").skip(1) {
        let (title, sql) = case.split_once('\n').unwrap();
        let answer = Fixture::with(CATALOGUE).script(sql);
        out.push_str(&format!("# {title}\n{}\n\n", answer.trim_end()));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn the_same_statement_gives_the_same_graph() {
    let sql = "CREATE PIPELINE p AS INSERT INTO out SELECT id, item, price FROM orders WHERE price > 1";
    let plan = || {
        let fixture = Fixture::with(CATALOGUE);
        let parsed = laminar_planner::parse(sql).unwrap().remove(0);
        let laminar_planner::Statement::CreatePipeline(create) = parsed.statement else { panic!() };
        fixture.plan(&create.body, &Default::default()).unwrap().graph.fingerprint()
    };
    assert_eq!(plan(), plan());
}

#[test]
fn a_sink_without_columns_knows_which_of_the_query_are_json() {
    let fixture = Fixture::with("CREATE TABLE any WITH (connector = 'memory', type = 'sink')");
    let sql = r#"INSERT INTO any SELECT '{"a":[1]}' -> 'a' AS a, '{"a":[1]}' ->> 'a' AS t, json_get('{"a":1}', 'a') AS u, NULL AS n"#;
    let parsed = laminar_planner::parse(sql).unwrap().remove(0);
    let laminar_planner::Statement::InsertValues(insert) = parsed.statement else { panic!() };
    let schema = fixture.one_shot(&insert).unwrap().schema;
    let types: Vec<_> = schema.fields().iter().map(|f| laminar_planner::SqlType::from_arrow(f).to_string()).collect();
    assert_eq!(types, ["JSON", "TEXT", "JSON", "TEXT"]);
}

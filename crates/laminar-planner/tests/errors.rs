//! Wrong statements, and what a person reads about each: code, place, hint.
//!
//! `errors.sql` holds them under what is wrong; the snapshot has each with its answer. All share one small catalogue.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use common::Fixture;

const CATALOGUE: &str = "
    CREATE CONNECTION kafka_connection TO kafka (bootstrap_servers = 'localhost:9092', format = 'json');
    CREATE CONNECTION kafka_read TO kafka (bootstrap_servers = 'localhost:9092', topic = 't', type = 'source', format = 'json');
    CREATE TABLE orders (id BIGINT, item TEXT, price DOUBLE, payload JSON, at TIMESTAMP) WITH (connector = 'memory', type = 'source');
    CREATE TABLE out (id BIGINT NOT NULL, item TEXT, price DOUBLE) WITH (connector = 'memory', type = 'sink');
    CREATE VIEW cheap AS SELECT id, item FROM orders WHERE price < 10;
    CREATE VIEW cheaper AS SELECT id FROM cheap;
";

#[test]
fn what_is_said_about_each() {
    let mut out = String::new();
    let cases: Vec<&str> = include_str!("errors.sql").split("-- # ").skip(1).collect();
    assert!(cases.len() >= 80);
    for case in cases {
        let (title, sql) = case.split_once('\n').unwrap();
        let answer = Fixture::with(CATALOGUE).script(sql.trim_end());
        assert!(answer.contains("error["), "{title}: no error, but\n{answer}");
        assert!(!answer.to_lowercase().contains("datafusion"), "{title}: {answer}");
        out.push_str(&format!("# {title}\n{answer}\n"));
    }
    insta::assert_snapshot!(out);
}

//! Wrong statements, and what a person reads about each: code, place, hint.
//!
//! `errors.sql` and `refusals.sql` (queries that no pipeline runs) hold them under what is wrong; a snapshot has each with its
//! answer. All of a file share one small catalogue.

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

const STREAMS: &str = "
    CREATE TABLE orders (id BIGINT, item TEXT, price DOUBLE, payload JSON, paid_at TIMESTAMP, at TIMESTAMP,
        WATERMARK FOR at AS at - INTERVAL '5 seconds') WITH (connector = 'memory', type = 'source');
    CREATE TABLE items (id BIGINT, name TEXT, tags TEXT[], at TIMESTAMP, WATERMARK FOR at)
        WITH (connector = 'memory', type = 'source');
    CREATE TABLE out (id BIGINT, item TEXT, price DOUBLE) WITH (connector = 'memory', type = 'sink');
";

/// The cases of a file, with what is wrong in each.
fn cases(file: &'static str) -> Vec<(&'static str, &'static str)> {
    file.split("-- # ").skip(1).map(|case| case.split_once('\n').unwrap()).collect()
}

#[track_caller]
fn answer(catalogue: &str, title: &str, sql: &str) -> String {
    let answer = Fixture::with(catalogue).script(sql.trim_end());
    assert!(answer.contains("error["), "{title}: no error, but\n{answer}");
    assert!(!answer.to_lowercase().contains("datafusion"), "{title}: {answer}");
    format!("# {title}\n{answer}\n")
}

#[test]
fn what_is_said_about_each() {
    let cases = cases(include_str!("errors.sql"));
    assert!(cases.len() >= 80);
    let out: String = cases.into_iter().map(|(title, sql)| answer(CATALOGUE, title, sql)).collect();
    insta::assert_snapshot!(out);
}

#[test]
fn what_is_said_about_what_no_pipeline_runs() {
    let cases = cases(include_str!("refusals.sql"));
    assert!(cases.len() >= 60);
    let mut out = String::new();
    for (title, sql) in cases {
        let answer = answer(STREAMS, title, sql);
        assert!(answer.contains("-->"), "no place: {answer}");
        assert!(answer.contains("= hint: "), "no hint: {answer}");
        out.push_str(&answer);
    }
    insta::assert_snapshot!(out);
}

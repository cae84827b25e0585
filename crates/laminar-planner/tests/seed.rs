//! Every SQL statement of the Kafka source's specification, as written there.
//!
//! `seed.sql` holds them, each block under its page's heading. The snapshot says what each gives; those that this version
//! refuses say so with a code, a place and a hint.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use common::Fixture;
use laminar_planner::parse;

/// The blocks of `seed.sql`: heading and SQL.
fn blocks() -> Vec<(String, String)> {
    let blocks = include_str!("seed.sql").split("-- # ").skip(1);
    blocks.map(|b| b.split_once('\n').map(|(h, s)| (h.to_string(), s.to_string())).unwrap()).collect()
}

#[test]
fn every_statement_parses() {
    let mut count = 0;
    for (heading, sql) in blocks() {
        count += parse(&sql).unwrap_or_else(|e| panic!("{heading}: {e:?}")).len();
    }
    assert_eq!(count, 34);
}

#[test]
fn what_each_statement_gives() {
    let mut fixture = Fixture::new();
    let mut out = String::new();
    for (heading, sql) in blocks() {
        out.push_str(&format!("# {heading}\n"));
        // one by one: a block may hold a statement that this version refuses
        for parsed in parse(&sql).unwrap() {
            match fixture.run(&parsed) {
                Ok(text) => out.push_str(&format!("{text}\n")),
                Err(error) => out.push_str(&laminar_planner::diagnostic::render(&error, &sql)),
            }
        }
    }
    insta::assert_snapshot!(out);
}

//! Statements that are too long, too deep or too complex are refused, quickly and on a small stack; text never panics.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use std::time::{Duration, Instant};

use common::Fixture;
use laminar_core::{Code, Location};
use laminar_planner::parse;
use proptest::prelude::*;

/// What tokio gives a worker thread.
const STACK_BYTES: usize = 2 << 20;
/// Generous: a debug build on a busy machine.
const MAX_TIME: Duration = Duration::from_secs(20);

const CATALOGUE: &str = "CREATE TABLE t (a BIGINT, b TEXT) WITH (connector = 'memory', type = 'source');";

/// Runs the script on a small stack; returns its answer.
fn answer(script: String) -> String {
    let run = move || {
        let started = Instant::now();
        let answer = Fixture::with(CATALOGUE).script(&script);
        assert!(
            started.elapsed() < MAX_TIME,
            "took {:?}: {}…",
            started.elapsed(),
            script.chars().take(60).collect::<String>()
        );
        answer
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap().join().unwrap()
}

#[track_caller]
fn check_refused(script: String) {
    let error = parse(&script).map(|s| s.len()).unwrap_err();
    assert_eq!(error.code(), Code::StatementTooComplex, "{error:?}");
    assert!(answer(script).starts_with("error[statement_too_complex]"));
}

#[test]
fn too_much_is_refused() {
    check_refused(format!("SELECT 1{}", "+1".repeat(10_000)));
    check_refused(format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)));
    check_refused(format!("SELECT {}1", "- ".repeat(5_000)));
    check_refused(format!("SELECT {} true", "NOT ".repeat(5_000)));
    check_refused(format!("SELECT a{}", "[1]".repeat(5_000)));
    check_refused(format!("SELECT {}1{}", "abs(".repeat(5_000), ")".repeat(5_000)));
    check_refused(format!("SELECT {}1{}", "CASE WHEN a THEN ".repeat(5_000), " END".repeat(5_000)));
    check_refused(format!("SELECT a{}", " IS DISTINCT FROM a".repeat(5_000)));
    check_refused(format!("SELECT a{}", " + select".repeat(5_000)));
    check_refused(format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(5_000)));
    check_refused(format!("SELECT * FROM t {}", "JOIN t ON true ".repeat(5_000)));
    check_refused(format!("SELECT {}1", "INTERVAL ".repeat(5_000)));
    check_refused(format!("SELECT CAST(a AS {}INT{})", "ARRAY<".repeat(5_000), ">".repeat(5_000)));
    check_refused(format!("SELECT CAST(a AS {}INT{})", "STRUCT<x INT, y ".repeat(5_000), ">".repeat(5_000)));
    check_refused(format!("CREATE TABLE t (a INT{})", "[]".repeat(5_000)));
    check_refused(format!("SELECT {}", "x".repeat(2 << 20)));
    check_refused(format!("{}SELECT 1{}", "SELECT * FROM (".repeat(5_000), ")".repeat(5_000)));
}

/// Each is refused, or runs if it is only long: never a crash, and quickly.
#[test]
fn ten_thousand_terms_are_answered() {
    const MANY: usize = 10_000;
    let list = |item: &dyn Fn(usize) -> String, between: &str| (0..MANY).map(item).collect::<Vec<_>>().join(between);
    let refused = |query: String| {
        let answer = answer(format!("CREATE PIPELINE p AS {query}"));
        assert!(answer.starts_with("error[statement_too_complex]"), "{}", answer.chars().take(300).collect::<String>());
        assert!(
            answer.contains("-->") && answer.contains("= hint: "),
            "{}",
            answer.chars().take(300).collect::<String>()
        );
    };
    let number = |i: usize| i.to_string();
    refused(format!("SELECT a FROM t WHERE a{} > 0", "+1".repeat(MANY)));
    for operator in [" AND ", " OR "] {
        refused(format!("SELECT a FROM t WHERE {}", list(&|i| format!("a <> {i}"), operator)));
    }
    refused(format!("SELECT a FROM t WHERE {}a = 1{}", "(".repeat(MANY), ")".repeat(MANY)));
    refused(list(&|_| "SELECT a FROM t".to_string(), " UNION ALL "));
    refused(list(&|_| "SELECT a FROM t".to_string(), " EXCEPT "));
    refused(format!("SELECT a FROM t AS t0 {}", list(&|i| format!("JOIN t AS t{0} ON t0.a = t{0}.a", i + 1), " ")));
    refused(format!("SELECT t0.a FROM {}", list(&|i| format!("t AS t{i}"), ", ")));
    refused(format!("WITH {} SELECT a FROM c9999", list(&|i| format!("c{i} AS (SELECT a FROM t)"), ", ")));
    refused(format!("{}SELECT a FROM t{}", "SELECT a FROM (".repeat(MANY), ")".repeat(MANY)));
    refused(format!("SELECT a FROM t WHERE {}true{}", "EXISTS (SELECT a FROM t WHERE ".repeat(MANY), ")".repeat(MANY)));
    refused(format!("SELECT CASE {} END AS x FROM t", list(&|i| format!("WHEN a = {i} THEN {i}"), " ")));
    refused(format!("SELECT {} AS x FROM t", list(&|i| format!("sum(a) OVER (ORDER BY a ROWS {i} PRECEDING)"), " + ")));
    refused(format!("SELECT {} FROM t", list(&|i| format!("a AS a{i}"), ", ")));
    refused(format!("SELECT a FROM t GROUP BY {}", list(&number, ", ")));
    for long in [
        format!("SELECT a FROM t WHERE a IN ({})", list(&number, ", ")),
        format!("SELECT {} FROM t", (0..1_600).map(|i| format!("a AS a{i}")).collect::<Vec<_>>().join(", ")),
        format!("SELECT [{}] AS x FROM t", list(&number, ", ")),
        format!("SELECT coalesce({}) AS x FROM t", list(&|_| "a".to_string(), ", ")),
    ] {
        let answer = answer(format!("CREATE PIPELINE p AS {long}"));
        let fine = answer.starts_with("pipeline p\n") || answer.starts_with("error[statement_too_complex]");
        assert!(fine, "{}", answer.chars().take(300).collect::<String>());
    }
}

#[test]
fn the_place_of_what_is_too_long_is_where_the_limit_is() {
    let error = parse(&format!("SELECT 1;\nSELECT {}", "ä".repeat(1 << 20))).map(|s| s.len()).unwrap_err();
    // 10 bytes before the line, 7 before the first of two bytes each: the limit is inside one
    let column = 7 + ((1 << 20) - 10 - 7) / 2 + 1;
    assert_eq!(error.location(), Some(Location { line: 2, column }), "{error:?}");
    assert_eq!(error.hint(), Some("send it in several parts"));
}

#[track_caller]
fn check_planned(query: &str) {
    let answer = answer(format!("EXPLAIN {query}"));
    assert!(answer.starts_with("parallelism 1"), "{answer}");
}

#[test]
fn what_the_limits_allow_fits_a_small_stack() {
    let longest = format!("SELECT a{} AS x FROM t", " + a".repeat(198));
    assert_eq!(answer(longest.clone()), "query x\n");
    check_planned(&longest);
    let conditions =
        format!("SELECT a FROM t WHERE a = 0{}", (1..90).map(|i| format!(" OR a = {i}")).collect::<String>());
    check_planned(&conditions);
    let nested = format!("SELECT {}a{} AS x FROM t", "(a + ".repeat(38), ")".repeat(38));
    check_planned(&nested);
    let calls = format!("SELECT {}a{} AS x FROM t", "abs(".repeat(38), ")".repeat(38));
    check_planned(&calls);
    let subqueries = format!("SELECT a FROM {}t{}", "(SELECT a FROM ".repeat(20), ")".repeat(20));
    check_planned(&subqueries);
    let unions = format!("SELECT a FROM t {}", "UNION ALL SELECT a FROM t ".repeat(90));
    check_planned(&unions);
}

/// Nested constructs that end in an error: a parser that tries twice at each level would not return.
#[test]
fn mistakes_deep_inside_are_found_quickly() {
    for open in [
        "CAST(",
        "NOT (",
        "CASE WHEN ",
        "EXISTS (",
        "INTERVAL (",
        "f(",
        "(",
        "EXTRACT(",
        "TRIM(",
        "SUBSTRING(",
        "FLOOR(",
        "POSITION(",
        "OVERLAY(",
        "STRUCT(",
        "ARRAY[",
        "MAP(",
        "a IN (",
        "a IN ((",
        "a IN (SELECT ",
        "(SELECT ",
        "x.y(",
        "json(a => ",
    ] {
        for end in ["", " +", " ,", " FROM FROM", ")"] {
            let script = format!("SELECT {}{end}", open.repeat(39 / open.matches(['(', '[']).count().max(1)));
            assert!(answer(script).contains("error["));
        }
    }
    for open in ["SELECT * FROM (", "SELECT * FROM ((", "SELECT a FROM t WHERE a IN ((SELECT * FROM ("] {
        let script = open.repeat(39 / open.matches('(').count());
        assert!(answer(script).contains("error["));
    }
}

const PIECES: &[&str] = &[
    "CREATE",
    "TABLE",
    "CONNECTION",
    "VIEW",
    "PIPELINE",
    "SECRET",
    "OR REPLACE",
    "IF NOT EXISTS",
    "AS",
    "TO",
    "WITH",
    "(",
    ")",
    "[",
    "]",
    "<",
    ">",
    ",",
    ";",
    "=",
    "'a'",
    "\"b\"",
    "1",
    "2.5",
    "t",
    "a",
    "INSERT INTO",
    "SELECT",
    "FROM",
    "WHERE",
    "*",
    "+",
    "-",
    "->",
    "->>",
    "::",
    "INT",
    "STRUCT<",
    "ARRAY<",
    "MAP<",
    "INTERVAL",
    "'1 hour'",
    "HOUR",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "BEGIN",
    "VALUES",
    "UNION ALL",
    "GROUP BY",
    "WATERMARK FOR",
    "PRIMARY KEY",
    "DEFAULT",
    "GENERATED ALWAYS AS",
    "METADATA FROM",
    "NOT",
    "NULL",
    "AND",
    "IN",
    "DROP",
    "SHOW",
    "ALL",
    "EXPLAIN",
    "FORMAT JSON",
    "SET",
    "START",
    "STOP",
    "SUBSCRIBE TO",
    "--x\n",
    "/*",
    "*/",
    "$1",
    "${",
    "é",
    "'",
    ".",
    "==",
    "unnest(",
    "test_connection(",
    "RESTART PIPELINE",
    "FROM CHECKPOINT",
    "LATERAL",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn any_words_are_read_or_refused(words in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        let _ = parse(&words.join(" "));
    }

    #[test]
    fn any_damage_is_read_or_refused(at in 0usize..3_000, drop in 0usize..8, piece in prop::sample::select(PIECES)) {
        let script: Vec<char> = include_str!("seed.sql").chars().collect();
        let at = at * (script.len() / 3_000);
        let damaged: String = script[..at].iter().copied().chain(piece.chars()).chain(script[at..].iter().copied().skip(drop)).collect();
        if let Err(error) = parse(&damaged) {
            prop_assert!(error.location().is_some(), "{:?}", error);
        }
    }

    #[test]
    fn any_query_is_planned_or_refused(words in prop::collection::vec(prop::sample::select(PIECES), 0..12)) {
        let script = format!("EXPLAIN SELECT a {} FROM t", words.join(" "));
        let _ = Fixture::with(CATALOGUE).script(&script);
    }
}

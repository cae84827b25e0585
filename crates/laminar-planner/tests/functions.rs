//! Functions, operators and types of one-off queries: what DataFusion computes with our functions in it.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use arrow::array::Array;
use arrow::util::display::ArrayFormatter;
use common::Fixture;
use laminar_planner::translate::translate;
use laminar_planner::{Statement, parse};

/// The value of the expression, or its error.
async fn value(expr: &str) -> String {
    let fixture = Fixture::new();
    let sql = format!("SELECT {expr} AS v");
    let mut statements = parse(&sql).unwrap();
    let Statement::Query(query) = statements.remove(0).statement else { panic!("{sql}") };
    let frame = match fixture.planner.plan_query(&fixture.catalog, &query, &fixture) {
        Ok(frame) => frame,
        Err(error) => return format!("{error:?}"),
    };
    let batches = match frame.collect().await {
        Ok(batches) => batches,
        Err(error) => return format!("{:?}", translate(error)),
    };
    let column = batches.first().unwrap().column(0);
    if column.is_null(0) {
        return "NULL".to_string();
    }
    ArrayFormatter::try_new(column, &Default::default()).unwrap().value(0).to_string()
}

#[track_caller]
fn check(expr: &str, expected: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(value(expr)), expected, "{expr}");
}

#[test]
fn json() {
    let json = r#"'{"a":{"b":[1,"two",null,true]},"n":1.50}'"#;
    check(&format!("{json} -> 'a'"), r#"{"b":[1,"two",null,true]}"#);
    check(&format!("{json} -> 'a' -> 'b' ->> 1"), "two");
    check(&format!("{json} -> 'a' -> 'b' -> 1"), r#""two""#);
    check(&format!("{json} ->> 'a'"), r#"{"b":[1,"two",null,true]}"#);
    check(&format!("({json} -> 'a' -> 'b' ->> 0)::bigint + 1"), "2");
    check(&format!("{json} ->> 'n'"), "1.50");
    check(&format!("{json} -> 'missing' ->> 'b'"), "NULL");
    check(&format!("{json} -> 'a' -> 'b' ->> 2"), "NULL");
    check(&format!("json_get_int({json}, 'a', 'b', 0)"), "1");
    check(&format!("json_length({json} -> 'a' -> 'b')"), "4");
    check("'not json' ->> 'a'", "NULL");
}

#[test]
fn json_path() {
    let json = r#"'{"a":[{"b":"x"},{"b":2}]}'"#;
    check(&format!("get_first_json_object({json}, '$.a[*].b')"), r#""x""#);
    check(&format!("extract_json_string({json}, '$.a[0].b')"), "x");
    check(&format!("extract_json_string({json}, '$.a[1].b')"), "NULL");
    check(&format!("extract_json({json}, '$.a[*].b')"), r#"["x", 2]"#);
    check(&format!("extract_json({json}, '$.c')"), "[]");
    check("extract_json('nope', '$.c')", "NULL");
    check("extract_json('{}', NULL)", "NULL");
    check(
        "get_first_json_object('{}', 'a.b')",
        "invalid_value: 'a.b' is not a JSON path: it must begin with $ (at byte 0)",
    );
}

#[test]
fn hash_and_mod() {
    check("hash(1) = hash(1::smallint)", "true");
    check("hash('abc') >= 0 AND mod(hash('abc'), 2) IN (0, 1)", "true");
    check("hash(NULL::text)", "NULL");
    check("mod(7, 3)", "1");
    check("MOD(-7, 3)", "-1");
    check("mod(7.5, 2)", "1.5");
    check("mod(1, 0)", "invalid_value: division by zero (hint: x / NULLIF(y, 0) gives NULL where y is 0)");
}

#[test]
fn the_clock_is_the_given_one() {
    check("now()", "2024-01-02T03:04:05");
    check("CURRENT_TIMESTAMP", "2024-01-02T03:04:05");
    check("current_date", "2024-01-02");
    check("current_time", "03:04:05");
    check("now() - INTERVAL '1 hour'", "2024-01-02T02:04:05");
    check("now() - interval '2' second", "2024-01-02T03:04:03");
    check("extract(epoch FROM (now() - (now() - INTERVAL '90' SECOND)))", "90.0");
}

#[test]
fn types_and_casts() {
    check("arrow_typeof('2024-01-01T00:00:00Z'::timestamp)", "Timestamp(µs)");
    check("'2024-01-01T02:00:00+02:00'::timestamptz", "2024-01-01T00:00:00");
    check("arrow_typeof(1::int unsigned)", "UInt32");
    check("'7'::bigint + 1", "8");
    check(
        "'seven'::bigint",
        "invalid_value: cannot cast string 'seven' to BIGINT (hint: TRY_CAST(x AS type) gives NULL where a value is none of the type)",
    );
    check("1 == 1", "true");
    check("CAST(named_struct('a', 1, 'b', 'x') AS STRUCT<a INT, b TEXT>)", "{a: 1, b: x}");
    check("ARRAY[1, 2][2]", "2");
    check("'a' || 'b' || NULL", "NULL");
    check("date_trunc('minute', TIMESTAMP '2024-01-02T03:04:05.678')", "2024-01-02T03:04:00");
}

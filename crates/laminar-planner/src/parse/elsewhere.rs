//! What Flink, ksqlDB and other systems write, and what to write here instead.
//!
//! Only hints, and `not_supported` for statements that exist elsewhere; what is understood is never refused here.

use laminar_core::{Code, Error};

use super::Cursor;
use crate::script::Script;

/// Statements by their first words, and what to do here instead.
const STATEMENTS: &[(&str, &str)] = &[
    ("UPDATE", "streams are changed by writing new rows: INSERT INTO … SELECT …"),
    ("DELETE", "streams are changed by writing new rows: INSERT INTO … SELECT …"),
    ("MERGE", "streams are changed by writing new rows: INSERT INTO … SELECT …"),
    ("TRUNCATE", "DROP the table and create it again"),
    ("ALTER", "use CREATE OR REPLACE"),
    ("COPY", "create a table with connector = 'single_file' or 'filesystem'"),
    ("BEGIN", "statements outside pipelines run one by one"),
    ("COMMIT", "statements run one by one"),
    ("ROLLBACK", "statements run one by one"),
    ("PRINT", "create a table of the topic, and SELECT * FROM it … LIMIT 10: a query shows what is there"),
    ("LIST TOPICS", TOPICS),
    ("LIST", "write SHOW"),
    ("SHOW TOPICS", TOPICS),
    ("SHOW STREAMS", "a stream is a table here: SHOW TABLES"),
    ("SHOW QUERIES", "queries that go on are pipelines: SHOW PIPELINES"),
    ("SHOW DATABASES", NO_DATABASES),
    ("SHOW CATALOGS", NO_DATABASES),
    ("SHOW SCHEMAS", NO_DATABASES),
    ("SHOW PROPERTIES", "write SHOW ALL"),
    ("TERMINATE", "queries that go on are pipelines: STOP PIPELINE name, or DROP PIPELINE name"),
    ("PAUSE", "write STOP PIPELINE name WITH CHECKPOINT"),
    ("RESUME", "write START PIPELINE name"),
    ("USE", NO_DATABASES),
    ("EXECUTE", "write the statement itself; several INSERTs in one: CREATE PIPELINE name AS BEGIN INSERT …; END"),
];
const TOPICS: &str = "SELECT * FROM system.kafka_topics, or `laminar kafka list-topics` on the command line";
const NO_DATABASES: &str = "there is one catalogue: SHOW TABLES lists its tables";

/// The error for a statement of another system, if the next words begin one.
pub fn statement(cursor: &Cursor<'_>) -> Option<Error> {
    let is_next = |words: &str| words.split(' ').enumerate().all(|(i, word)| cursor.is_word_at(i, word));
    let (words, hint) = STATEMENTS.iter().find(|(words, _)| is_next(words))?;
    let error = Error::new(Code::NotSupported, format!("{words} is not supported"));
    Some(error.with_hint(*hint).at(cursor.here()))
}

/// Types that have another name here.
const TYPES: &[(&str, &str)] = &[
    ("TIMESTAMP_LTZ", "use TIMESTAMP: all times are UTC"),
    ("TIMESTAMP_NTZ", "use TIMESTAMP: all times are UTC"),
    ("ROW", "use STRUCT<a INT, b TEXT>"),
    ("MULTISET", "use a list: T[]"),
    ("RAW", "use BYTEA"),
];

/// The error with a hint, if it is about what another system writes at its place of `text`.
pub fn advised(error: Error, text: &str) -> Error {
    if error.code() == Code::TypeMismatch
        && let Some(name) = error.message().strip_prefix("there is no type ")
    {
        let name = name.split(['(', '<', ' ']).next().unwrap_or_default();
        let found = TYPES.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(name));
        return found.map_or(error.clone(), |(_, hint)| error.with_hint(*hint));
    }
    let Some(at) = error.location().filter(|_| error.code() == Code::SyntaxError) else { return error };
    let script = Script::new(text);
    let end = script.end();
    let rest = script.slice(at, end);
    let before = text.strip_suffix(rest).unwrap_or_default();
    match written(before, rest) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn written(before: &str, rest: &str) -> Option<&'static str> {
    if rest.starts_with('`') {
        return Some("names with capitals or blanks stand in double quotes: \"Id\"; others in none");
    }
    let is = |word: Option<&str>, one_of: &[&str]| {
        word.is_some_and(|word| one_of.iter().any(|one| one.eq_ignore_ascii_case(word)))
    };
    let mut next = rest.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let mut last = before.split_whitespace().rev();
    let (next, after) = (next.next(), next.next());
    let (last, before_last) = (last.next(), last.next());
    let is_emit = (is(last, &["EMIT"]) && is(next, &["CHANGES", "FINAL"]))
        || (is(next, &["EMIT"]) && is(after, &["CHANGES", "FINAL"]));
    if is_emit {
        return Some(
            "leave it out: a pipeline goes on with each change, windows come out when they end, and EMIT EVERY INTERVAL '…' shows them while they grow",
        );
    }
    let kinds = ["TUMBLING", "HOPPING", "SESSION"];
    if (is(last, &kinds) && is(before_last, &["WINDOW"])) || (is(next, &["WINDOW"]) && is(after, &kinds)) {
        return Some("windows stand in GROUP BY: GROUP BY tumble(INTERVAL '1 minute'), hop(…) or session(…)");
    }
    if rest.starts_with(['<', '(']) && is(last, &["ROW"]) {
        return Some("write STRUCT<a INT, b TEXT>");
    }
    None
}

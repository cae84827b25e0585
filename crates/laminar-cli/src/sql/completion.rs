//! Tab completion: the dialect's words, and the names that the server has now.

use std::sync::{Arc, Mutex, PoisonError};

use reedline::{Completer, CompletionResult, Span, Suggestion};
use serde::Deserialize;

use super::client::{Client, ClientError};

const WORDS: &[&str] = &[
    "ALTER",
    "AND",
    "AS",
    "BEGIN",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BYTEA",
    "CASE",
    "CAST",
    "CHECKPOINT",
    "CONNECTION",
    "CONNECTIONS",
    "CONNECTORS",
    "COUNT",
    "CREATE",
    "DATE",
    "DESCRIBE",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "ELSE",
    "END",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FROM",
    "FUNCTIONS",
    "GROUP BY",
    "HAVING",
    "IF",
    "IGNORING STATE",
    "IN",
    "INSERT INTO",
    "INT",
    "INTERVAL",
    "IS",
    "JOBS",
    "JOIN",
    "JSON",
    "LEFT",
    "LIKE",
    "LIMIT",
    "METADATA FROM",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER BY",
    "PIPELINE",
    "PIPELINES",
    "PRIMARY KEY",
    "REPLACE",
    "RESTART",
    "SECRET",
    "SECRETS",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "STOP",
    "SUBSCRIBE TO",
    "TABLE",
    "TABLES",
    "TEXT",
    "THEN",
    "TIMESTAMP",
    "TO",
    "TRUE",
    "UNION ALL",
    "VALUES",
    "VIEW",
    "VIEWS",
    "WATERMARK FOR",
    "WHEN",
    "WHERE",
    "WITH",
    "bad_data",
    "batch_size",
    "bootstrap_servers",
    "checkpoint_interval",
    "connector",
    "delivery",
    "dlq_topic",
    "event_time_field",
    "format",
    "group_id",
    "include_metadata",
    "key_field",
    "offset",
    "parallelism",
    "system.checkpoints",
    "system.connections",
    "system.jobs",
    "system.metrics",
    "system.tasks",
    "system.pipelines",
    "system.tables",
    "timestamp_format",
    "topic",
    "type",
];

/// Names on the server, shared by the shell, which refreshes them, and the completer.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<Vec<String>>>);

#[derive(Deserialize)]
struct Listed {
    data: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Names {
    /// Reads the names of the first hundred objects of each kind.
    pub async fn refresh(&self, client: &Client) -> Result<(), ClientError> {
        let mut names = Vec::new();
        for path in
            ["/connection_tables?limit=100", "/pipelines?limit=100", "/connection_profiles?limit=100", "/connectors"]
        {
            names.extend(client.get::<Listed>(path).await?.data.into_iter().map(|named| named.name));
        }
        names.sort();
        names.dedup();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(())
    }
}

impl Completer for Names {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        let before = line.get(..position).unwrap_or(line);
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').map_or(0, |at| at + 1);
        let typed = before.get(start..).unwrap_or_default();
        let suggest = |value: String| Suggestion {
            value,
            span: Span { start, end: position.max(start) },
            append_whitespace: true,
            ..Suggestion::default()
        };
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        CompletionResult::fresh(candidates(typed, &names).into_iter().map(suggest).collect::<Vec<_>>())
    }
}

/// Names first: they are fewer. Words in the case that was begun.
fn candidates(typed: &str, names: &[String]) -> Vec<String> {
    if typed.is_empty() {
        return Vec::new();
    }
    let fits = |word: &str| word.get(..typed.len()).is_some_and(|head| head.eq_ignore_ascii_case(typed));
    let small = typed.chars().all(|c| !c.is_uppercase());
    let cased = |word: &&str| if small { word.to_lowercase() } else { (*word).to_string() };
    let mut found: Vec<String> = names.iter().filter(|name| fits(name)).cloned().collect();
    found.extend(WORDS.iter().filter(|word| fits(word)).map(cased));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_words() {
        let names = ["orders".to_string(), "big".to_string()];
        assert_eq!(candidates("or", &names), ["orders", "or", "order by"]);
        assert_eq!(candidates("SEL", &names), ["SELECT"]);
        assert_eq!(candidates("system.p", &names), ["system.pipelines"]);
        assert!(candidates("", &names).is_empty());
        assert!(candidates("é", &names).is_empty());
    }

    #[test]
    fn the_last_word_is_replaced() {
        let result = Names::default().complete("SELECT * FRO", 12);
        let spans: Vec<_> = result.suggestions().iter().map(|s| (s.value.as_str(), s.span)).collect();
        assert_eq!(spans, [("FROM", Span { start: 9, end: 12 })]);
    }
}

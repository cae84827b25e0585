//! `system.dead_letters`: what stands in the topics of dead letters now.

use std::fmt::Write;

use laminar_core::Result;
use serde_json::{Map, Value};

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};
use crate::dead_letters::StoredLetter;

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "dead_letters",
    about: "Records that pipelines could not use, as they stand in the topics that `dlq_topic` names: the newest 10000 of each partition, at most 64 MiB of all tables together. They are read anew for each query. A key or value that is no text is shown as `\\x` and its bytes in hexadecimal.",
    columns: &[
        ("pipeline_name", Text, "Name of the pipeline that could not use it; its id, if that is gone."),
        ("table_name", Text, "The table that it was read through."),
        ("topic", Text, "The record's topic."),
        ("partition", BigInt, "Its partition."),
        ("offset", BigInt, "Its offset."),
        ("timestamp", Time, "The record's own timestamp."),
        ("stage", Text, "`decode`, `constraint`, `expression` or `late`."),
        ("code", Text, "Code of the error."),
        ("message", Text, "What is wrong with it."),
        ("key", Text, "The record's key; null without one."),
        ("value", Text, "Its value; null for a tombstone."),
        ("headers", Text, "JSON: its own headers."),
        ("dlq_topic", Text, "The topic in which the letter stands."),
        ("dlq_partition", BigInt, "The letter's partition."),
        ("dlq_offset", BigInt, "The letter's offset."),
        ("written_at", Time, "When the letter was written."),
        ("error", Text, "Why the letters of the table cannot be read; all but its name is null then."),
    ],
    rows: |source| Box::pin(rows(source)),
};

/// Columns between the table's name and the error.
const OF_LETTER: usize = 14;

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let catalog = source.system.catalog();
    let row = |letter: StoredLetter| {
        let about = |name: &str| letter.about.get(name).cloned();
        let number = |name: &str| about(name).and_then(|text| text.parse::<i64>().ok());
        let pipeline = about("pipeline");
        let name = pipeline.as_deref().and_then(|id| catalog.pipeline(id).ok()).map(|p| p.name.clone());
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            (name.clone(), value.as_deref().map_or(Value::Null, |value| Value::String(text(value))))
        };
        let headers: Map<String, Value> = letter.headers.iter().map(header).collect();
        vec![
            name.or(pipeline).into(),
            about("table").into(),
            about("topic").into(),
            number("partition").into(),
            number("offset").into(),
            Cell::time(number("timestamp")),
            about("stage").into(),
            about("code").into(),
            about("message").into(),
            letter.key.as_deref().map(text).into(),
            letter.value.as_deref().map(text).into(),
            Value::Object(headers).to_string().into(),
            letter.topic.as_str().into(),
            Some(i64::from(letter.partition)).into(),
            letter.offset.into(),
            Cell::time(Some(letter.written_micros / 1000)),
            Cell::Null,
        ]
    };
    let mut rows = Vec::new();
    for kept in source.system.dead_letters().await {
        match kept.letters {
            Ok(letters) => rows.extend(letters.into_iter().map(row)),
            Err(error) => {
                let (table, why) = (kept.table.name.into(), Cell::Text(format!("{}: {error}", error.code())));
                rows.push([vec![Cell::Null, table], vec![Cell::Null; OF_LETTER], vec![why]].concat());
            }
        }
    }
    Ok(rows)
}

/// As text, or as PostgreSQL writes bytes.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => {
            let mut hexadecimal = String::with_capacity(2 + 2 * bytes.len());
            hexadecimal.push_str("\\x");
            for byte in bytes {
                let _ = write!(hexadecimal, "{byte:02x}");
            }
            hexadecimal
        }
    }
}

//! `system.tables`: one row per table, oldest first; secrets masked.

use laminar_core::Result;
use serde_json::Value;

use super::ColumnType::{BigInt, Text};
use super::{Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "tables",
    about: "One row per table, oldest first.",
    columns: &[
        ("id", Text, "The table's id."),
        ("name", Text, "Its name."),
        ("connector", Text, "Its connector."),
        ("connection", Text, "Name of its connection; null without one."),
        ("type", Text, "`source`, `sink`, or `source_sink` if it can be both."),
        ("columns", BigInt, "How many columns it has."),
        ("event_time", Text, "The column of event times; null for the record's own time."),
        ("watermark_delay", Text, "How far the watermark stays behind."),
        ("options", Text, "JSON: its options as written, secrets masked."),
        ("used_by", Text, "Pipelines and views that use it."),
        ("created_at", Text, "RFC 3339."),
        ("updated_at", Text, "RFC 3339."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let row = |t: crate::TableInfo| {
        vec![
            t.id.into(),
            t.name.into(),
            t.connector.into(),
            t.connection.into(),
            t.table_type.into(),
            t.schema.fields.len().into(),
            t.event_time_field.into(),
            t.watermark_delay.into(),
            Value::Object(t.config).to_string().into(),
            t.used_by.join(", ").into(),
            t.created_at.into(),
            t.updated_at.into(),
        ]
    };
    Ok(source.system.tables().await?.into_iter().map(row).collect())
}

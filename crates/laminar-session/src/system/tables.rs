//! `system.tables`: one row per table, oldest first; secrets masked.

use laminar_core::Result;
use serde_json::Value;

use super::ColumnType::{BigInt, Text};
use super::{Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "tables",
    columns: &[
        ("id", Text),
        ("name", Text),
        ("connector", Text),
        ("connection", Text),
        ("type", Text),
        ("columns", BigInt),
        ("event_time", Text),
        ("watermark_delay", Text),
        ("options", Text),
        ("used_by", Text),
        ("created_at", Text),
        ("updated_at", Text),
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

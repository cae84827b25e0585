//! `system.connections`: one row per connection, oldest first; secrets masked.

use laminar_core::Result;
use serde_json::Value;

use super::ColumnType::Text;
use super::{Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "connections",
    about: "One row per connection, oldest first.",
    columns: &[
        ("id", Text, "The connection's id."),
        ("name", Text, "Its name."),
        ("connector", Text, "Its connector."),
        ("options", Text, "JSON: its options as written, secrets masked."),
        ("used_by", Text, "Tables that use it."),
        ("created_at", Text, "RFC 3339."),
        ("updated_at", Text, "RFC 3339."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let row = |c: crate::ConnectionInfo| {
        vec![
            c.id.into(),
            c.name.into(),
            c.connector.into(),
            Value::Object(c.config).to_string().into(),
            c.tables.join(", ").into(),
            c.created_at.into(),
            c.updated_at.into(),
        ]
    };
    Ok(source.system.connections().await?.into_iter().map(row).collect())
}

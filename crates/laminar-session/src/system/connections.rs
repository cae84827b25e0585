//! `system.connections`: one row per connection, oldest first; secrets masked, and how it is doing.

use laminar_core::Result;
use serde_json::Value;

use super::ColumnType::{BigInt, Text};
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
        (
            "status",
            Text,
            "The worst of the pipelines that use it: `failed`, `unreachable` (it waits for the outside system), `recovering` (it starts again after a failure), `running`, `stopped`; `unused` without one.",
        ),
        ("last_error", Text, "Why it is not `running`; null if nothing is wrong."),
        ("messages_in", BigInt, "Records that running pipelines read through it, since they started."),
        ("messages_out", BigInt, "Rows that they wrote through it."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let mut states = source.system.connection_states();
    let row = |c: crate::ConnectionInfo| {
        let state = states.remove(&c.name).unwrap_or_default();
        vec![
            c.id.into(),
            c.name.into(),
            c.connector.into(),
            Value::Object(c.config).to_string().into(),
            c.tables.join(", ").into(),
            c.created_at.into(),
            c.updated_at.into(),
            state.status.as_str().into(),
            state.last_error.into(),
            state.messages_in.into(),
            state.messages_out.into(),
        ]
    };
    Ok(source.system.connections().await?.into_iter().map(row).collect())
}

//! `system.connectors`: what can be connected.

use laminar_core::Result;

use super::ColumnType::Text;
use super::{Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "connectors",
    about: "One row per connector: what can be connected.",
    columns: &[
        ("name", Text, "As written in `connector = '…'`."),
        ("type", Text, "`source`, `sink`, or both."),
        ("formats", Text, "Values that its option `format` can have."),
        ("description", Text, "What it is."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let row = |c: crate::ConnectorInfo| {
        vec![c.name.into(), c.roles.join(", ").into(), c.supported_formats.join(", ").into(), c.description.into()]
    };
    Ok(source.system.connectors().into_iter().map(row).collect())
}

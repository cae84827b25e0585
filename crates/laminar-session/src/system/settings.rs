//! `system.settings`: the session's settings.

use laminar_core::Result;

use super::ColumnType::Text;
use super::{Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "settings",
    columns: &[("name", Text), ("value", Text), ("description", Text)],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let row = |(name, value, description): (&str, String, &str)| vec![name.into(), value.into(), description.into()];
    Ok(source.settings.list().into_iter().map(row).collect())
}

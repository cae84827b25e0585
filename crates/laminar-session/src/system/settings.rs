//! `system.settings`: the session's settings.

use laminar_core::Result;

use super::ColumnType::Text;
use super::{Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "settings",
    about: "The settings of this session, which `SET` changes.",
    columns: &[
        ("name", Text, "As in `SET name = value`."),
        ("value", Text, "Its value now."),
        ("description", Text, "What it means."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let row =
        |(name, value, description): (String, String, String)| vec![name.into(), value.into(), description.into()];
    Ok(source.settings.list().into_iter().map(row).collect())
}

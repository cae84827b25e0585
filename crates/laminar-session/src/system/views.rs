//! `system.views`: one row per view, in the order of their names.

use laminar_core::Result;
use laminar_planner::catalog::ObjectRef;
use laminar_planner::statement::ObjectKind;

use super::ColumnType::{Text, Time};
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "views",
    columns: &[
        ("id", Text),
        ("name", Text),
        ("query", Text),
        ("used_by", Text),
        ("created_at", Time),
        ("updated_at", Time),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let catalog = source.system.catalog();
    let mut rows = Vec::new();
    for view in catalog.snapshot.views.values() {
        let object = ObjectRef::new(ObjectKind::View, &view.name);
        let Some(entry) = catalog.objects.get(&object) else { continue };
        let users: Vec<_> = catalog.users(&object).into_iter().map(|u| u.name).collect();
        rows.push(vec![
            entry.id.clone().into(),
            view.name.clone().into(),
            view.query.clone().into(),
            users.join(", ").into(),
            Cell::Time(entry.created_at),
            Cell::Time(entry.updated_at),
        ]);
    }
    Ok(rows)
}

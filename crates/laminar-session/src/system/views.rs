//! `system.views`: one row per view, in the order of their names.

use laminar_core::Result;
use laminar_planner::catalog::ObjectRef;
use laminar_planner::statement::ObjectKind;

use super::ColumnType::{Text, Time};
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "views",
    about: "One row per view, in the order of their names.",
    columns: &[
        ("id", Text, "The view's id."),
        ("name", Text, "Its name."),
        ("query", Text, "Its query, as written."),
        ("used_by", Text, "Pipelines and views that use it."),
        ("created_at", Time, "When it was created."),
        ("updated_at", Time, "When it was last changed."),
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

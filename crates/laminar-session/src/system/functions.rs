//! `system.functions`: what can be called in a query. Aggregates and window functions work in ad-hoc queries.

use laminar_core::{Error, Result};
use laminar_planner::Statement;

use super::ColumnType::Text;
use super::{Row, Source, SystemTable};
use crate::query::{QueryCatalog, plan};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "functions",
    about: "What can be called in a query. Aggregates and window functions work in ad-hoc queries.",
    columns: &[("name", Text, "The function's name."), ("kind", Text, "`scalar`, `aggregate` or `window`.")],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    // The state that runs queries is the only one that knows all of them.
    let parsed = laminar_planner::parse("SELECT 1")?;
    let Some(Statement::Query(query)) = parsed.into_iter().next().map(|p| p.statement) else {
        return Err(Error::internal("SELECT 1 is not a query"));
    };
    let catalog = QueryCatalog::current(&source.system);
    let (frame, _) = plan(&source.system, &catalog, &source.settings, &query, &Default::default())?;
    let (state, _) = frame.into_parts();
    let scalar = state.scalar_functions().keys().map(|name| (name.clone(), "scalar"));
    let aggregate = state.aggregate_functions().keys().map(|name| (name.clone(), "aggregate"));
    let window = state.window_functions().keys().map(|name| (name.clone(), "window"));
    let mut all: Vec<_> = scalar.chain(aggregate).chain(window).collect();
    all.sort();
    Ok(all.into_iter().map(|(name, kind)| vec![name.into(), kind.into()]).collect())
}

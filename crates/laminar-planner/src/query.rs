//! One-off queries: planned against the providers that the session gives, run by DataFusion.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::dataframe::DataFrame;
use laminar_core::Result;

use crate::catalog::{CatalogSnapshot, Relation};
use crate::functions::watermark;
use crate::planner::{Planner, RelationProviders};
use crate::statement::{Name, SqlQuery};
use crate::tables::{CatalogTables, Reads};
use crate::translate::translate;

/// The query as a frame that is ready to be collected; its types and columns are checked.
pub(crate) fn plan(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    query: &SqlQuery,
    providers: &dyn RelationProviders,
) -> Result<DataFrame> {
    crate::emit::refuse_at_once(query)?;
    let sql = planner.one_off()?;
    let tables = CatalogTables::new(&sql, catalog, Reads::Query(providers));
    let plan = sql.plan(query, &tables)?;
    // checked here for the place of an error; the frame analyzes it again when it runs
    sql.analyze(plan.clone(), query, &tables)?;
    drop(tables);
    if watermark::is_in_plan(&plan).map_err(translate)? {
        return Err(watermark::outside_of_pipelines().at(query.start));
    }
    Ok(DataFrame::new(sql.into_state(), plan))
}

pub(crate) fn relation_schema(planner: &Planner, catalog: &CatalogSnapshot, name: &Name) -> Result<SchemaRef> {
    match catalog.relation(name)? {
        Relation::Table(table) => Ok(table.schema()),
        Relation::Result(schema) => Ok(Arc::clone(schema)),
        Relation::View(view) => {
            let tables = CatalogTables::new(&planner.sql, catalog, Reads::View);
            let query = crate::parse::parse_query(&view.query)?;
            let plan = planner.sql.plan(&query, &tables)?;
            let plan = planner.sql.analyze(plan, &query, &tables)?;
            let named = plan.schema().fields().iter().enumerate().map(|(i, field)| match view.columns.get(i) {
                Some(name) => field.as_ref().clone().with_name(name),
                None => field.as_ref().clone(),
            });
            Ok(Arc::new(Schema::new(named.collect::<Vec<_>>())))
        }
    }
}

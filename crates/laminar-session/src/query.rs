//! Ad-hoc SELECT: an ordinary DataFusion batch over system tables, pipeline results and bounded previews of streams.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use futures::StreamExt;
use laminar_core::{Error, Result};
use laminar_planner::RelationProviders;
use laminar_planner::catalog::{CatalogSnapshot, TableDef};
use laminar_planner::statement::{Name, SqlQuery};
pub(crate) use laminar_planner::translate::translate as error;

use crate::catalog::Catalog;
use crate::outcome::{LateNotices, Notice, Outcome};
use crate::preview::Preview;
use crate::settings::Settings;
use crate::{System, system};

impl System {
    /// Memory that one-off queries take together, at most, from now on; before it is
    /// [`laminar_planner::DEFAULT_QUERY_MEMORY`]. A query that needs more fails with `limit_exceeded`.
    pub fn limit_query_memory(&self, bytes: usize) -> Result<()> {
        self.planner.limit_query_memory(bytes)
    }
}

/// The catalogue that a query sees: with a script's own tables and views, where it has some.
pub(crate) struct QueryCatalog {
    pub catalog: Arc<Catalog>,
    pub snapshot: CatalogSnapshot,
}

impl QueryCatalog {
    pub fn current(system: &System) -> Self {
        let catalog = system.catalog();
        Self { snapshot: catalog.snapshot.clone(), catalog }
    }
}

/// Runs the query; rows come as they are computed.
pub(crate) async fn select(
    system: &Arc<System>,
    catalog: &QueryCatalog,
    settings: &Settings,
    query: &SqlQuery,
) -> Result<Outcome> {
    let late = LateNotices::default();
    let (frame, previewed) = plan(system, catalog, settings, query, &late)?;
    let stream = frame.execute_stream().await.map_err(error)?;
    Ok(Outcome::Rows {
        schema: stream.schema(),
        rows: stream.map(|batch| batch.map_err(error)).boxed(),
        notices: previewed.iter().map(|name| preview_notice(name, settings)).collect(),
        late,
        tag: "SELECT".to_string(),
    })
}

/// The query's plan, and the names of the streams that it would read.
pub(crate) fn plan(
    system: &Arc<System>,
    catalog: &QueryCatalog,
    settings: &Settings,
    query: &SqlQuery,
    late: &LateNotices,
) -> Result<(DataFrame, Vec<String>)> {
    let providers = Providers { system, catalog, settings, late: late.clone(), previewed: Mutex::default() };
    let frame = system.planner.plan_query(&catalog.snapshot, query, &providers)?;
    Ok((frame, providers.previewed.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// What a query's names stand for.
struct Providers<'a> {
    system: &'a Arc<System>,
    catalog: &'a QueryCatalog,
    settings: &'a Settings,
    late: LateNotices,
    /// Names of the streams that the query reads.
    previewed: Mutex<Vec<String>>,
}

impl RelationProviders for Providers<'_> {
    fn system(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let source =
            system::Source { system: Arc::clone(self.system), settings: self.settings.clone(), connection: None };
        Some(Arc::new(system::Provider::new(system::table(name)?, source)))
    }

    fn system_names(&self) -> Vec<String> {
        system::TABLES.iter().map(|t| t.name.to_string()).collect()
    }

    fn result(&self, pipeline: &str) -> Result<Arc<dyn TableProvider>> {
        let entry = self.catalog.snapshot.relation(&Name::new(pipeline))?;
        let schema = match entry {
            laminar_planner::catalog::Relation::Result(schema) => Arc::clone(schema),
            _ => return Err(Error::internal(format!("{pipeline} keeps no result"))),
        };
        let id = &self.catalog.catalog.pipeline(pipeline)?.id;
        let relation = self.system.results().get(id).cloned();
        // A pipeline that has not run since the server started has no rows yet.
        let (schema, batches) = match relation {
            Some(relation) => (Arc::clone(relation.schema()), relation.snapshot()?),
            None => (schema, Vec::new()),
        };
        Ok(Arc::new(MemTable::try_new(schema, vec![batches]).map_err(error)?))
    }

    fn stream(&self, table: &TableDef) -> Result<Arc<dyn TableProvider>> {
        let mut previewed = self.previewed.lock().unwrap_or_else(PoisonError::into_inner);
        if !previewed.contains(&table.name) {
            previewed.push(table.name.clone());
        }
        let (system, snapshot) = (Arc::clone(self.system), self.catalog.snapshot.clone());
        Ok(Arc::new(Preview::new(system, snapshot, table.clone(), self.settings.clone(), self.late.clone())))
    }
}

fn preview_notice(table: &str, settings: &Settings) -> Notice {
    let (limit, timeout) = (settings.preview_limit, settings.preview_timeout);
    Notice::new(
        "preview",
        format!("{table} is a stream: read up to where it ends now, at most {limit} rows and {timeout:?}"),
    )
}

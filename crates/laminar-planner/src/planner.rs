//! The planner: what sessions call. Each method is one question about a statement; the work is in `check`, `plan`, `query`.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use laminar_connectors::Registry;
use laminar_core::cluster::SharedClusterAdmin;
use laminar_core::connector::{Role, SinkContext, SourceContext, TestStage};
use laminar_core::sink::Sink;
use laminar_core::source::Source;
use laminar_core::time::SharedClock;
use laminar_core::{PipelineId, Result};
use laminar_engine::operator::OperatorFactory;

use crate::catalog::{CatalogSnapshot, ConnectionDef, TableDef, ViewDef};
use crate::check;
use crate::memory::QueryRuntime;
use crate::plan::{self, OpenedTable, PlannedPipeline};
use crate::query;
use crate::resolver::Resolver;
use crate::settings::PipelineOptions;
use crate::sql::SqlContext;
use crate::stack::grown;
use crate::statement::{CreateConnection, CreateTable, CreateView, Name, PipelineBody, SqlQuery};

/// Shared by all sessions; holds no catalogue.
pub struct Planner {
    pub(crate) registry: Arc<Registry>,
    pub(crate) sql: SqlContext,
    query_runtime: QueryRuntime,
}

/// Makes the operator that keeps a result with these columns.
pub type Retain<'a> = dyn Fn(SchemaRef, Changing) -> Result<Arc<dyn OperatorFactory>> + Sync + 'a;

/// What becomes of rows that were emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changing {
    /// They stay.
    Never,
    /// They may be updated and deleted.
    Updating,
}

/// What a plan needs to know of the pipeline that it is for.
pub struct PipelineContext<'a> {
    pub pipeline: PipelineId,
    /// Names this installation, so that two on one cluster do not fence each other.
    pub instance: String,
    pub options: &'a PipelineOptions,
    /// In force: the options' or the server's.
    pub parallelism: usize,
    pub checkpoint_interval: Duration,
    pub clock: SharedClock,
    pub resolver: &'a dyn Resolver,
    /// Makes the operator that keeps the result of a pipeline without a sink.
    pub retain: &'a Retain<'a>,
}

/// Relations that are read by a one-off query.
pub trait RelationProviders: Send + Sync {
    /// `system.<name>`; `None` if there is no such table.
    fn system(&self, name: &str) -> Option<Arc<dyn TableProvider>>;
    /// Names of the system tables, without `system.`.
    fn system_names(&self) -> Vec<String>;
    /// The kept result of a pipeline.
    fn result(&self, pipeline: &str) -> Result<Arc<dyn TableProvider>>;
    /// A bounded preview of a source table: its schema is [`TableDef::schema`].
    fn stream(&self, table: &TableDef) -> Result<Arc<dyn TableProvider>>;
}

impl Planner {
    /// `clock` is what `now()` reads.
    pub fn new(registry: Arc<Registry>, clock: SharedClock) -> Result<Self> {
        Ok(Self { registry, sql: SqlContext::new(clock)?, query_runtime: QueryRuntime::new()? })
    }

    /// Memory that one-off queries take together, at most, from now on; before it is [`crate::DEFAULT_QUERY_MEMORY`].
    pub fn limit_query_memory(&self, bytes: usize) -> Result<()> {
        self.query_runtime.limit(bytes)
    }

    pub(crate) fn one_off(&self) -> Result<SqlContext> {
        self.sql.one_off(self.query_runtime.current())
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Checks a CREATE CONNECTION without I/O.
    pub fn check_connection(&self, statement: &CreateConnection, resolver: &dyn Resolver) -> Result<ConnectionDef> {
        check::connection(self, statement, resolver)
    }

    /// Checks a CREATE TABLE without I/O. The name is not looked up: whether it is free is the session's to say.
    pub fn check_table(
        &self,
        catalog: &CatalogSnapshot,
        statement: &CreateTable,
        resolver: &dyn Resolver,
    ) -> Result<TableDef> {
        grown(|| check::table(self, catalog, statement, resolver))
    }

    /// Checks again, without I/O, a table whose connection may have been replaced in `catalog`.
    pub fn recheck_table(&self, catalog: &CatalogSnapshot, table: &TableDef, resolver: &dyn Resolver) -> Result<()> {
        check::fits(self, catalog, table, resolver)
    }

    /// Asks the outside system whether it can be reached and has what the table names.
    pub async fn check_outside(
        &self,
        catalog: &CatalogSnapshot,
        table: &TableDef,
        resolver: &dyn Resolver,
    ) -> Result<()> {
        check::outside(self, catalog, table, resolver).await
    }

    /// The statement with the columns that the outside system says the table has, if it lists none and is a source.
    pub async fn with_outside_columns(
        &self,
        catalog: &CatalogSnapshot,
        statement: &CreateTable,
        resolver: &dyn Resolver,
    ) -> Result<CreateTable> {
        let columns = check::outside_columns(self, catalog, statement, resolver).await?;
        let columns = if columns.is_empty() { statement.columns.clone() } else { columns };
        Ok(CreateTable { columns, ..statement.clone() })
    }

    /// Tests a connection step by step.
    pub async fn test_connection(&self, connection: &ConnectionDef, resolver: &dyn Resolver) -> Result<Vec<TestStage>> {
        check::test_connection(self, connection, resolver).await
    }

    /// The cluster behind a connection; `None` if it leads to no message broker. No I/O.
    pub fn cluster(&self, connection: &ConnectionDef, resolver: &dyn Resolver) -> Result<Option<SharedClusterAdmin>> {
        check::cluster(self, connection, resolver)
    }

    /// Checks a CREATE VIEW: its query plans, and it does not depend on itself.
    pub fn check_view(&self, catalog: &CatalogSnapshot, statement: &CreateView) -> Result<ViewDef> {
        grown(|| check::view(self, catalog, statement))
    }

    /// The engine graph of a pipeline. Deterministic: the same SQL and catalogue give the same operators and ids.
    pub fn plan_pipeline(
        &self,
        catalog: &CatalogSnapshot,
        body: &PipelineBody,
        ctx: &PipelineContext<'_>,
    ) -> Result<PlannedPipeline> {
        grown(|| plan::pipeline(self, catalog, body, ctx))
    }

    /// A query to be run once by DataFusion; everything that it supports is allowed.
    pub fn plan_query(
        &self,
        catalog: &CatalogSnapshot,
        query: &SqlQuery,
        providers: &dyn RelationProviders,
    ) -> Result<DataFrame> {
        grown(|| query::plan(self, catalog, query, providers))
    }

    /// The rows of `INSERT INTO table VALUES …` in the sink's columns, and the sink's node to write them to.
    pub fn plan_insert(
        &self,
        catalog: &CatalogSnapshot,
        insert: &crate::statement::Insert,
        ctx: &PipelineContext<'_>,
    ) -> Result<plan::OneShot> {
        grown(|| plan::one_shot(self, catalog, insert, ctx))
    }

    /// A source that yields the given columns of a table (indices into its columns), for previews.
    pub fn open_source(
        &self,
        catalog: &CatalogSnapshot,
        table: &TableDef,
        columns: &[usize],
        ctx: &SourceContext,
        resolver: &dyn Resolver,
    ) -> Result<OpenedTable> {
        grown(|| plan::open_source(self, catalog, table, columns, ctx, resolver))
    }

    /// A source of the dead letters of a table, which `SELECT` shows; `None` if it keeps none, or they cannot be looked at.
    pub fn dead_letter_source(
        &self,
        catalog: &CatalogSnapshot,
        table: &TableDef,
        ctx: &SourceContext,
        resolver: &dyn Resolver,
    ) -> Result<Option<Arc<dyn Source>>> {
        plan::dead_letter_source(self, catalog, table, (ctx, resolver))
    }

    /// A sink that puts dead letters of a table back.
    pub fn replay_sink(
        &self,
        catalog: &CatalogSnapshot,
        table: &TableDef,
        ctx: &SinkContext,
        resolver: &dyn Resolver,
    ) -> Result<Arc<dyn Sink>> {
        plan::replay_sink(self, catalog, table, (ctx, resolver))
    }

    /// Columns of a table, view or pipeline result, as DESCRIBE shows them.
    pub fn relation_schema(&self, catalog: &CatalogSnapshot, name: &Name) -> Result<SchemaRef> {
        grown(|| query::relation_schema(self, catalog, name))
    }

    /// What a connector can do: used by messages and `SHOW`.
    pub(crate) fn roles(connector: &dyn laminar_core::connector::Connector) -> Vec<Role> {
        let source = connector.source_schema().map(|_| Role::Source);
        source.into_iter().chain(connector.sink_schema().map(|_| Role::Sink)).collect()
    }
}

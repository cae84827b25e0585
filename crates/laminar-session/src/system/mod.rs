//! `SELECT … FROM system.<table>`: what runs, as rows. One file a table; the rows are made when a query scans them.
//!
//! To add one: a file here with a `TABLE`, and its line in [`TABLES`].

mod checkpoints;
mod connections;
mod connectors;
mod dead_letters;
mod functions;
mod jobs;
mod kafka_brokers;
mod kafka_consumer_groups;
mod kafka_partitions;
mod kafka_topics;
mod ledger;
mod metrics;
mod pipelines;
mod rows;
mod settings;
mod tables;
mod tasks;
mod views;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as QueryState, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use laminar_core::Result;

pub(crate) use rows::{Cell, ColumnType, Row, batch, schema};

use crate::System;
use crate::settings::Settings;

/// One table of the schema `system`.
pub(crate) struct SystemTable {
    pub name: &'static str,
    /// What its rows are, for the reference page.
    pub about: &'static str,
    /// Name, type and meaning of each column.
    pub columns: &'static [(&'static str, ColumnType, &'static str)],
    pub rows: for<'a> fn(&'a Source) -> BoxFuture<'a, Result<Vec<Row>>>,
}

impl SystemTable {
    /// Name and type of each column.
    pub fn shape(&self) -> Vec<(&'static str, ColumnType)> {
        self.columns.iter().map(|(name, column_type, _)| (*name, *column_type)).collect()
    }
}

/// Where the rows come from.
#[derive(Clone)]
pub(crate) struct Source {
    pub system: Arc<System>,
    pub settings: Settings,
    /// The only connection that the query wants rows of, if it says so: the others are then not asked.
    pub connection: Option<String>,
}

pub(crate) const TABLES: &[&SystemTable] = &[
    &pipelines::TABLE,
    &jobs::TABLE,
    &checkpoints::TABLE,
    &metrics::TABLE,
    &tasks::TABLE,
    &ledger::TABLE,
    &dead_letters::TABLE,
    &connections::TABLE,
    &kafka_brokers::TABLE,
    &kafka_topics::TABLE,
    &kafka_partitions::TABLE,
    &kafka_consumer_groups::TABLE,
    &tables::TABLE,
    &views::TABLE,
    &connectors::TABLE,
    &functions::TABLE,
    &settings::TABLE,
];

pub(crate) fn table(name: &str) -> Option<&'static SystemTable> {
    TABLES.iter().copied().find(|t| t.name == name)
}

/// Shows a system table to DataFusion.
pub(crate) struct Provider {
    table: &'static SystemTable,
    source: Source,
    schema: SchemaRef,
}

impl Provider {
    pub fn new(table: &'static SystemTable, source: Source) -> Self {
        Self { table, source, schema: schema(&table.shape()) }
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "system.{}", self.table.name)
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn table_type(&self) -> TableType {
        TableType::View
    }
    /// DataFusion still filters: a table may look at `connection` only.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
    async fn scan(
        &self,
        state: &dyn QueryState,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let external = |e: laminar_core::Error| DataFusionError::External(Box::new(e));
        let source = Source { connection: filters.iter().find_map(wanted_connection), ..self.source.clone() };
        let rows = (self.table.rows)(&source).await.map_err(external)?;
        let batch = batch(&self.table.shape(), rows).map_err(external)?;
        MemTable::try_new(self.schema(), vec![vec![batch]])?.scan(state, projection, filters, limit).await
    }
}

/// The name in `connection = 'name'`.
fn wanted_connection(filter: &Expr) -> Option<String> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column))
            if column.name == "connection" =>
        {
            value.try_as_str().flatten().map(str::to_string)
        }
        _ => None,
    }
}

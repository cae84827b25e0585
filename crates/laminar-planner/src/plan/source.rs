//! A table to a source that yields some of its columns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ident};
use laminar_connectors::batch::BatchOptions;
use laminar_core::connector::{Role, SourceContext};
use laminar_core::table::TableSpec;
use laminar_core::{Code, Error, Result};
use laminar_engine::graph::{BadDataPolicy, LateRows, RowTime, SourceNode};
use laminar_engine::operators::{ProjectFactory, UpsertFactory};

use super::lower;
use crate::catalog::{CatalogSnapshot, TableDef};
use crate::check;
use crate::planner::Planner;
use crate::resolver::Resolver;
use crate::settings::BadData;
use crate::tables::stream_source;
use crate::translate::translate;

/// A table opened for reading.
pub struct OpenedTable {
    pub node: SourceNode,
    /// Turns the source's rows into changes. `None`: they are.
    pub upsert: Option<UpsertFactory>,
    /// Turns the source's rows into `schema`: drops, defaults and generated columns. `None`: they are it.
    pub project: Option<ProjectFactory>,
    pub schema: SchemaRef,
}

/// A source that yields some stored columns of its table.
pub(crate) struct ReadSource {
    pub node: SourceNode,
    /// Of its rows, once they are changes.
    pub schema: SchemaRef,
    pub event_time: Option<String>,
    /// What makes changes of its rows, which keeps them for ever; `None`: they are.
    pub upsert: Option<UpsertFactory>,
}

/// The source node that yields the given stored columns; and those of the primary key if they take each other's place by it.
pub(crate) fn source_node(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    columns: &BTreeSet<usize>,
    ctx: &SourceContext,
    resolver: &dyn Resolver,
) -> Result<ReadSource> {
    let bound = check::bind(planner, catalog, table, resolver)?;
    let mut spec = check::spec(table, &bound.settings, Role::Source);
    spec.projection = columns.iter().copied().collect();
    let delay = match (&spec.event_time, &bound.settings.watermark_delay) {
        _ if table.is_by_arrival() => Duration::ZERO,
        (Some(event_time), _) => event_time.delay,
        (None, _) => bound.settings.watermark_delay(),
    };
    let batch = BatchOptions::of(&bound.options)?;
    let mut source = bound.connector.source(&bound.options, &spec, ctx)?;
    if source.upserts() {
        spec.projection = columns.union(&stored_key(&spec)?).copied().collect();
        source = bound.connector.source(&bound.options, &spec, ctx)?;
    }
    let schema = spec.projected_schema();
    let upsert = source.upserts().then(|| upsert_by_key(&spec, &schema));
    let max_drift = bound.settings.max_watermark_drift.map(|d| d.0);
    if max_drift.is_some() && !source.can_pause() {
        let message = format!("connector {} of table {} cannot pause partitions", table.connector, table.name);
        return Err(Error::new(Code::ConflictingOptions, message)
            .with_hint("leave max_watermark_drift out")
            .with_field("max_watermark_drift"));
    }
    let max_errors_per_batch = bound.settings.max_errors_per_batch.map(|n| n as usize);
    let node = SourceNode {
        table: table.name.clone(),
        source,
        batch: batch.limit(),
        batch_timeout: batch.timeout(),
        watermark_delay: delay + bound.settings.allowed_lateness.map_or(Duration::ZERO, |d| d.0),
        time: if table.is_by_arrival() { RowTime::Arrival(Arc::clone(&ctx.clock)) } else { RowTime::Record },
        late: LateRows::Keep,
        max_drift,
        watermark_column: false,
        idle_timeout: bound.settings.idle_timeout(),
        bad_data: match bound.settings.bad_data {
            BadData::Fail => BadDataPolicy::Fail,
            BadData::Skip => BadDataPolicy::Skip { max_errors_per_batch },
            BadData::Dlq => BadDataPolicy::DeadLetter { max_errors_per_batch },
        },
        dead_letters: None,
    };
    Ok(ReadSource { node, schema, upsert, event_time: spec.event_time.map(|e| e.column) })
}

/// Where the columns of the primary key stand. Errors: `not_supported` if one of them is computed.
fn stored_key(spec: &TableSpec) -> Result<BTreeSet<usize>> {
    let place = |name: &String| {
        spec.columns.iter().position(|column| column.name == *name).ok_or_else(|| {
            Error::new(Code::NotSupported, format!("column {name} of the primary key of {} is computed", spec.name))
                .with_hint("rows that take each other's place have a key that is stored in them")
        })
    };
    spec.primary_key.iter().map(place).collect()
}

fn upsert_by_key(spec: &TableSpec, schema: &SchemaRef) -> UpsertFactory {
    UpsertFactory {
        keys: spec.primary_key.iter().filter_map(|name| schema.index_of(name).ok()).collect(),
        schema: Arc::clone(schema),
        deletes_are_timeless: spec.keys_are_timeless(),
        ttl_micros: None,
    }
}

/// A source that yields the given columns of the table, computed ones too.
pub(crate) fn open_source(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    columns: &[usize],
    ctx: &SourceContext,
    resolver: &dyn Resolver,
) -> Result<OpenedTable> {
    let names: Vec<&str> = columns.iter().filter_map(|i| table.columns.get(*i)).map(|c| c.name.as_str()).collect();
    let scan = LogicalPlanBuilder::scan(table.name.as_str(), stream_source(&planner.sql, table)?, None);
    let exprs: Vec<Expr> = names.iter().map(|name| ident(*name)).collect();
    let plan = scan.and_then(|scan| scan.project(exprs)).and_then(|p| p.build()).map_err(translate)?;
    let plan = planner.sql.optimize(plan, None)?;
    let used = lower::columns_of(&plan)?.remove(&table.name).unwrap_or_default();
    let ReadSource { node, schema: source_schema, upsert, .. } =
        source_node(planner, catalog, table, &used, ctx, resolver)?;
    let fields = columns.iter().filter_map(|i| table.columns.get(*i)).map(|c| c.sql_type.field(&c.name, c.nullable));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let project = lower::single_projection(planner, &plan, &source_schema, &schema)?;
    Ok(OpenedTable { node, upsert, project, schema })
}

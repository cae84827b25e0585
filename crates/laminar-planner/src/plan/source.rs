//! A table to a source that yields some of its columns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ident};
use laminar_connectors::batch::BatchOptions;
use laminar_core::connector::{Role, SourceContext};
use laminar_core::{Code, Error, Result};
use laminar_engine::graph::{BadDataPolicy, LateRows, RowTime, SourceNode};
use laminar_engine::operators::ProjectFactory;

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
    /// Turns the source's rows into `schema`: drops, defaults and generated columns. `None`: they are it.
    pub project: Option<ProjectFactory>,
    pub schema: SchemaRef,
}

/// The source node that yields the given stored columns, their schema, and the column that is the event time.
pub(crate) fn source_node(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    columns: &BTreeSet<usize>,
    ctx: &SourceContext,
    resolver: &dyn Resolver,
) -> Result<(SourceNode, SchemaRef, Option<String>)> {
    let bound = check::bind(planner, catalog, table, resolver)?;
    let mut spec = check::spec(table, &bound.settings, Role::Source);
    spec.projection = columns.iter().copied().collect();
    let schema = spec.projected_schema();
    let delay = match (&spec.event_time, &bound.settings.watermark_delay) {
        _ if table.is_by_arrival() => Duration::ZERO,
        (Some(event_time), _) => event_time.delay,
        (None, _) => bound.settings.watermark_delay(),
    };
    let batch = BatchOptions::of(&bound.options)?;
    let source = bound.connector.source(&bound.options, &spec, ctx)?;
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
    Ok((node, schema, spec.event_time.map(|e| e.column)))
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
    let (node, source_schema, _) = source_node(planner, catalog, table, &used, ctx, resolver)?;
    let fields = columns.iter().filter_map(|i| table.columns.get(*i)).map(|c| c.sql_type.field(&c.name, c.nullable));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let project = lower::single_projection(planner, &plan, &source_schema, &schema)?;
    Ok(OpenedTable { node, project, schema })
}

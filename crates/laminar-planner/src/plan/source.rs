//! A table to a source that yields some of its columns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ident};
use laminar_core::connector::{Connector, Role, SourceContext};
use laminar_core::options::OptionEntry;
use laminar_core::source::BatchLimit;
use laminar_core::{Code, Error, Options, Result};
use laminar_engine::graph::{BadDataPolicy, SourceNode};
use laminar_engine::operators::ProjectFactory;

use super::lower;
use crate::catalog::{CatalogSnapshot, TableDef};
use crate::check;
use crate::planner::Planner;
use crate::resolver::Resolver;
use crate::settings::BadData;
use crate::tables::stream_source;
use crate::translate::translate;

/// Where neither the table nor its connector says.
const DEFAULT_BATCH_ROWS: usize = 8_192;
const DEFAULT_BATCH_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of raw records in one batch: bounds memory when records are large.
const BATCH_BYTES: usize = 16 << 20;

/// A table opened for reading.
pub struct OpenedTable {
    pub node: SourceNode,
    /// Turns the source's rows into `schema`: drops, defaults and generated columns. `None`: they are it.
    pub project: Option<ProjectFactory>,
    pub schema: SchemaRef,
}

/// The source node that yields the given stored columns, and their schema.
pub(crate) fn source_node(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    table: &TableDef,
    columns: &BTreeSet<usize>,
    ctx: &SourceContext,
    resolver: &dyn Resolver,
) -> Result<(SourceNode, SchemaRef)> {
    let bound = check::bind(planner, catalog, table, resolver)?;
    let mut spec = check::spec(table, &bound.settings, Role::Source);
    spec.projection = columns.iter().copied().collect();
    let schema = spec.projected_schema();
    let delay = match (&spec.event_time, &bound.settings.watermark_delay) {
        (Some(event_time), _) => event_time.delay,
        (None, _) => bound.settings.watermark_delay(),
    };
    let batch = batch(bound.connector.as_ref(), &bound.options)?;
    let node = SourceNode {
        table: table.name.clone(),
        source: bound.connector.source(&bound.options, &spec, ctx)?,
        batch: BatchLimit { rows: batch.0, bytes: BATCH_BYTES },
        batch_timeout: batch.1,
        watermark_delay: delay,
        idle_timeout: bound.settings.idle_timeout(),
        bad_data: match bound.settings.bad_data {
            BadData::Fail => BadDataPolicy::Fail,
            BadData::Skip => {
                BadDataPolicy::Skip { max_errors_per_batch: bound.settings.max_errors_per_batch.map(|n| n as usize) }
            }
        },
    };
    Ok((node, schema))
}

/// `batch_size` and `batch_timeout_ms`: of the table, else the connector's defaults, else ours.
fn batch(connector: &dyn Connector, options: &Options) -> Result<(usize, Duration)> {
    let schema = connector.source_schema().unwrap_or_default();
    let number = |key: &str| -> Result<Option<u64>> {
        match options.entry(key) {
            Some(entry) => parse_number(entry, &format!("connector {}", connector.name())).map(Some),
            None => Ok(schema.pointer(&format!("/properties/{key}/default")).and_then(serde_json::Value::as_u64)),
        }
    };
    let rows = number("batch_size")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(DEFAULT_BATCH_ROWS);
    let timeout = number("batch_timeout_ms")?.map_or(DEFAULT_BATCH_TIMEOUT, Duration::from_millis);
    Ok((rows.max(1), timeout))
}

fn parse_number(entry: &OptionEntry, subject: &str) -> Result<u64> {
    entry.value.trim().replace('_', "").parse().map_err(|_| {
        Error::new(Code::InvalidOption, format!("option {} of {subject} cannot be '{}'", entry.key, entry.value))
            .with_detail("expected an integer of at least 0")
            .with_field(&entry.key)
            .at(entry.location)
    })
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
    let (node, source_schema) = source_node(planner, catalog, table, &used, ctx, resolver)?;
    let fields = columns.iter().filter_map(|i| table.columns.get(*i)).map(|c| c.sql_type.field(&c.name, c.nullable));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let project = lower::single_projection(planner, &plan, &source_schema, &schema)?;
    Ok(OpenedTable { node, project, schema })
}

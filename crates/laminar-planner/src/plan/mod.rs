//! Pipelines to graphs.
//!
//! ```text
//! step:  INSERT INTO sink SELECT … FROM orders       refuse ─► logical plan ─► + projection to the sink's columns ─► optimise
//! all:   which columns of each table all steps read  ─► one source node per table
//! step:  lower: scan, filter, project, aggregate, … ─► nodes; then the sink's node, or the one that keeps the result
//! ```
//!
//! Node ids are their kind and index (`source-0`, `project-1`, `sink-2`): the same SQL gives the same ids.

mod aggregate;
mod dead_letters;
mod distinct;
mod explain;
mod facts;
mod insert;
mod join;
mod lower;
mod partitions;
mod recompute;
mod repeatable;
mod source;
mod subqueries;
mod version_join;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::LogicalPlan;
use laminar_core::connector::{Role, SinkContext, SourceContext};
use laminar_core::sink::{ChangeSupport, Delivery};
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Code, Error, OperatorId, Result};
use laminar_engine::graph::{Graph, NodeKind, RowTime, SinkNode};

pub(crate) use self::dead_letters::{replay as replay_sink, source as dead_letter_source};
pub use self::source::OpenedTable;
pub(crate) use self::source::open_source;
use crate::catalog::{CatalogSnapshot, ObjectRef, TableDef};
use crate::check;
use crate::functions::watermark;
use crate::places::Places;
use crate::planner::{Changing, PipelineContext, Planner};
use crate::sql::NoTables;
use crate::statement::{Insert, Name, ObjectKind, PipelineBody, PipelineStep, SqlQuery};
use crate::tables::{CatalogTables, Reads};
use crate::translate::translate;

/// A pipeline, ready to run.
#[derive(Debug)]
pub struct PlannedPipeline {
    pub graph: Graph,
    /// The graph as a tree, for people.
    pub explain: String,
    /// The same for programs.
    pub explain_json: serde_json::Value,
    /// The optimised logical plans, one per step.
    pub logical: Vec<String>,
    /// Tables read, in the order of their source nodes.
    pub sources: Vec<String>,
    /// Tables written, one per INSERT.
    pub sinks: Vec<String>,
    /// Columns of the kept result of a pipeline without a sink.
    pub result: Option<SchemaRef>,
    pub notices: Vec<String>,
    pub depends_on: BTreeSet<ObjectRef>,
}

/// A one-shot INSERT: rows to be computed once, and where they go.
pub struct OneShot {
    /// Its columns are the sink's.
    pub rows: DataFrame,
    pub sink: SinkNode,
    pub schema: SchemaRef,
}

/// One step after optimisation.
pub(crate) struct Step<'a> {
    pub plan: LogicalPlan,
    /// `None`: the result is kept.
    pub target: Option<Target<'a>>,
}

/// The sink of a step.
pub(crate) struct Target<'a> {
    pub table: &'a TableDef,
    /// Declared, or those of the query.
    pub columns: Vec<Column>,
}

pub(crate) fn pipeline(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    body: &PipelineBody,
    ctx: &PipelineContext<'_>,
) -> Result<PlannedPipeline> {
    let tables = CatalogTables::new(&planner.sql, catalog, Reads::Stream);
    let steps = body.steps.iter().map(|s| step(planner, catalog, s, &tables)).collect::<Result<Vec<_>>>()?;
    let mut lowering = lower::Lowering::new(planner, catalog, ctx, lower::used_columns(&steps)?);
    lowering.partitions = partitions::wanted(planner, catalog, &steps)?;
    for step in &steps {
        // Before the first source is made: steps share them.
        lowering.watermarks |= watermark::is_in_plan(&step.plan).map_err(translate)?;
    }
    let (mut sinks, mut result, mut notices) = (Vec::new(), None, Vec::new());
    for (step, syntax) in steps.iter().zip(&body.steps) {
        let place = syntax.query().start;
        let (output, changing) = lowering.plan(&step.plan, syntax.query()).map_err(|e| e.at(place))?;
        match &step.target {
            Some(target) => {
                let sink = open_sink(planner, catalog, target, ctx).map_err(|e| e.at(place))?;
                if changing == Changing::Updating && sink.sink.changes() == ChangeSupport::InsertOnly {
                    return Err(updates_into(&sink.table).at(place));
                }
                if ctx.options.delivery.is_none() && sink.sink.delivery() == Delivery::AtLeastOnce {
                    notices.push(format!(
                        "table {} is written at least once: rows may repeat after a failure",
                        sink.table
                    ));
                }
                sinks.push(sink.table.clone());
                lowering.sink(output, sink, target.table, changing)?;
            }
            None => result = Some(lowering.result(output, changing).map_err(|e| e.at(place))?),
        }
    }
    let mut graph = lowering.finished();
    notices.extend(dead_letters::open(planner, catalog, &mut graph, (ctx, &sink_context(ctx)))?);
    graph.check()?;
    refuse_several_transactions(&graph, body)?;
    let mut depends_on = tables.used();
    depends_on.extend(sinks.iter().map(|name| ObjectRef::new(ObjectKind::Table, name)));
    let sources = graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Source(source) => Some(source.table.clone()),
        _ => None,
    });
    Ok(PlannedPipeline {
        explain: explain::text(&graph, ctx.parallelism),
        explain_json: explain::json(&graph, ctx.parallelism),
        logical: steps.iter().map(|s| s.plan.display_indent().to_string()).collect(),
        sources: sources.collect(),
        sinks,
        result,
        notices,
        depends_on,
        graph,
    })
}

/// When one sink has committed an epoch and another has not, the epoch is made again for the other: of rows that are timed by
/// their arrival it would be another one.
fn refuse_several_transactions(graph: &Graph, body: &PipelineBody) -> Result<()> {
    let by_arrival = graph.nodes.iter().rev().find_map(|node| match &node.kind {
        NodeKind::Source(source) if matches!(source.time, RowTime::Arrival(_)) => Some(&source.table),
        _ => None,
    });
    let exactly_once = graph.written().filter(|sink| sink.delivery() == Delivery::ExactlyOnce);
    let committers = exactly_once.filter_map(|sink| sink.committer());
    let transactions: BTreeSet<String> = committers.map(|committer| committer.id().to_string()).collect();
    let Some(table) = by_arrival.filter(|_| transactions.len() > 1) else { return Ok(()) };
    let message =
        format!("table {table} is read by processing time, and the pipeline writes to several places exactly once");
    Err(Error::new(Code::NotSupported, message)
        .with_hint("make a pipeline for each sink, or write delivery = 'at_least_once'")
        .at(body.steps.last().map(|step| step.query().start)))
}

fn step<'a>(
    planner: &Planner,
    catalog: &'a CatalogSnapshot,
    step: &PipelineStep,
    tables: &CatalogTables<'_>,
) -> Result<Step<'a>> {
    let table = match step {
        PipelineStep::Insert(insert) => Some((insert, sink_table(catalog, &insert.table)?)),
        PipelineStep::Select(_) => None,
    };
    let query = step.query();
    crate::refuse::query(&planner.sql, query)?;
    let plan = planner.sql.plan(query, tables)?;
    subqueries::check(&plan, &Places::of(query))?;
    let (plan, target) = match table {
        Some((insert, table)) => {
            let (plan, columns) = insert::to_sink(planner, plan, table, insert)?;
            (plan, Some(Target { table, columns }))
        }
        None => (insert::to_result(plan, query)?, None),
    };
    let optimized = planner.sql.optimize(plan.clone(), Some((query, tables)))?;
    if watermark::is_in_plan(&optimized).map_err(translate)? {
        // As written: a condition that was moved to one side of a join would seem to be about that table.
        watermark::check(&planner.sql.analyze(plan, query, tables)?).map_err(|e| e.at(query.start))?;
    }
    Ok(Step { plan: optimized, target })
}

fn updates_into(table: &str) -> Error {
    Error::new(Code::NotSupported, format!("this query updates its rows, and table {table} can only be added to"))
        .with_hint(
            "write format debezium_json, or declare a PRIMARY KEY where the connector can replace rows by it; \
             or GROUP BY a window, whose rows are final",
        )
}

/// The table that an INSERT names. Errors: `unknown_table`, `wrong_object_kind`.
fn sink_table<'a>(catalog: &'a CatalogSnapshot, name: &Name) -> Result<&'a TableDef> {
    let key = &name.value;
    if let Some(table) = catalog.tables.get(key) {
        if table.can_be(Role::Sink) {
            return Ok(table);
        }
        return Err(Error::new(Code::WrongObjectKind, format!("table {key} is a source: it is read, not written"))
            .with_hint("to write to the same place, create a table of type 'sink'")
            .at(name.location));
    }
    let kind = if catalog.views.contains_key(key) {
        "view"
    } else if catalog.pipelines.contains_key(key) {
        "pipeline"
    } else {
        return Err(catalog.unknown_relation(name));
    };
    Err(Error::new(Code::WrongObjectKind, format!("{key} is a {kind}: only a table can be written")).at(name.location))
}

fn open_sink(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    target: &Target<'_>,
    ctx: &PipelineContext<'_>,
) -> Result<SinkNode> {
    let table = target.table;
    let bound = check::bind(planner, catalog, table, ctx.resolver)?;
    let spec = TableSpec {
        name: table.name.clone(),
        columns: target.columns.clone(),
        projection: (0..target.columns.len()).collect(),
        event_time: None,
        primary_key: table.primary_key.clone(),
    };
    bound.connector.check_table(Role::Sink, &bound.options, &spec)?;
    let sink = bound.connector.sink(&bound.options, &spec, &sink_context(ctx))?;
    if ctx.options.delivery == Some(Delivery::ExactlyOnce) && sink.delivery() != Delivery::ExactlyOnce {
        return Err(Error::new(
            Code::ConflictingOptions,
            format!("table {} cannot be written exactly once by connector {}", table.name, table.connector),
        )
        .with_hint("leave option delivery out, or write delivery = 'at_least_once'")
        .with_field("delivery"));
    }
    Ok(SinkNode { table: table.name.clone(), sink })
}

/// Rows computed once, in the sink's columns.
pub(crate) fn one_shot(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    insert: &Insert,
    ctx: &PipelineContext<'_>,
) -> Result<OneShot> {
    let table = sink_table(catalog, &insert.table)?;
    crate::emit::refuse_at_once(&insert.query)?;
    let sql = planner.one_off()?;
    let plan = sql.plan(&insert.query, &NoTables)?;
    let (plan, columns) = insert::to_sink(planner, plan, table, insert)?;
    sql.analyze(plan.clone(), &insert.query, &NoTables)?;
    let schema = Arc::new(arrow::datatypes::Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()));
    let sink = open_sink(planner, catalog, &Target { table, columns }, ctx).map_err(|e| e.at(insert.table.location))?;
    Ok(OneShot { rows: DataFrame::new(sql.into_state(), plan), sink, schema })
}

impl PipelineStep {
    pub fn query(&self) -> &SqlQuery {
        match self {
            Self::Insert(insert) => &insert.query,
            Self::Select(query) => query,
        }
    }
}

pub(crate) fn operator_id(kind: &str, index: usize) -> OperatorId {
    OperatorId::new(format!("{kind}-{index}"))
}

/// What a sink must know of the pipeline.
fn sink_context(ctx: &PipelineContext<'_>) -> SinkContext {
    SinkContext {
        instance: ctx.instance.clone(),
        pipeline: ctx.pipeline.clone(),
        delivery: ctx.options.delivery,
        checkpoint_interval: ctx.checkpoint_interval,
        clock: Arc::clone(&ctx.clock),
    }
}

/// What a source must know of the pipeline.
pub(crate) fn source_context(ctx: &PipelineContext<'_>) -> SourceContext {
    SourceContext { pipeline: Some(ctx.pipeline.clone()), clock: Arc::clone(&ctx.clock), partitions: None }
}

/// Columns that are read, by table; indices into the columns that its records hold.
pub(crate) type UsedColumns = BTreeMap<String, BTreeSet<usize>>;

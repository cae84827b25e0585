//! An optimised logical plan to nodes of the engine's graph.
//!
//! Filter and projection over one input are fused into one node: a [`Stage`] collects them and becomes a node when
//! something else needs its rows. A stage that changes nothing becomes no node.
//!
//! ```text
//! Projection(Filter(TableScan))  ─►  source-0, project-1 (filter and projection)
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::unnest::ListUnnest;
use laminar_core::connector::{PartitionSet, SourceContext};
use laminar_core::table::timestamp_type;
use laminar_core::{Code, Error, Result};
use laminar_engine::graph::{
    Edge, Exchange, Graph, LateRows, Node, NodeKind, SinkNode, WATERMARK_COLUMN, with_watermark_column,
};
use laminar_engine::operators::{ProjectFactory, UnionFactory, UnnestFactory, UpsertFactory};

use super::aggregate::{window_of_changes, window_within};
use super::facts::{Facts, TimeFact};
use super::source::ReadSource;
use super::{Step, UsedColumns, explain, operator_id, repeatable, source, source_context};
use crate::catalog::{CatalogSnapshot, TableDef};
use crate::functions::clock::is_processing_time;
use crate::functions::watermark;
use crate::functions::windows::{WindowCall, WindowKind};
use crate::places::Places;
use crate::planner::{Changing, PipelineContext, Planner};
use crate::statement::SqlQuery;
use crate::tables::StreamSource;
use crate::temporal::VersionJoin;
use crate::translate::translate;

/// Columns that all steps read of each table.
pub(crate) fn used_columns(steps: &[Step<'_>]) -> Result<UsedColumns> {
    let mut used = UsedColumns::new();
    for step in steps {
        for (table, columns) in columns_of(&step.plan)? {
            used.entry(table).or_default().extend(columns);
        }
    }
    Ok(used)
}

/// Columns that the plan reads of each table.
pub(crate) fn columns_of(plan: &LogicalPlan) -> Result<UsedColumns> {
    let mut used = UsedColumns::new();
    let visited = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(stream) = scan.source.downcast_ref::<StreamSource>()
        {
            let all = 0..scan.source.schema().fields().len();
            let columns: BTreeSet<usize> =
                scan.projection.clone().map_or_else(|| all.collect(), |p| p.into_iter().collect());
            used.entry(stream.table.clone()).or_default().extend(columns);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(translate)?;
    Ok(used)
}

pub(crate) struct Lowering<'a> {
    pub(super) planner: &'a Planner,
    catalog: &'a CatalogSnapshot,
    ctx: &'a PipelineContext<'a>,
    used: UsedColumns,
    sources: BTreeMap<String, ReadTable>,
    /// Nodes that wait for the watermark: rows behind it come too late for them.
    pub(super) waiting: BTreeSet<usize>,
    /// Some expression asks for the watermark: every source gives it with each row.
    pub(super) watermarks: bool,
    graph: Graph,
    /// Those that are wanted of each table; absent: all.
    pub(super) partitions: BTreeMap<String, PartitionSet>,
    /// Of the step being lowered.
    pub(super) places: Places,
}

/// A table that the pipeline reads.
#[derive(Clone)]
struct ReadTable {
    node: usize,
    /// The column that is the event time.
    event_time: Option<String>,
    changing: Changing,
    by_arrival: bool,
}

/// Rows of a node, and what is still to be done with them.
pub(crate) struct Stage {
    pub(super) node: usize,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Over the node's columns.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Of the stage's output, as the plan's expressions refer to it.
    pub(super) schema: DFSchemaRef,
    /// Do all `exprs` only pick columns? Then expressions over the stage can be put over the node.
    picks: bool,
    /// `exprs` and the predicate may name one column more than the node has: the event time.
    timed: bool,
    pub(super) facts: Facts,
    /// For EXPLAIN.
    shown: Shown,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub predicate: Option<String>,
    pub exprs: Vec<String>,
}

impl<'a> Lowering<'a> {
    pub fn new(
        planner: &'a Planner,
        catalog: &'a CatalogSnapshot,
        ctx: &'a PipelineContext<'a>,
        used: UsedColumns,
    ) -> Self {
        Self {
            planner,
            catalog,
            ctx,
            used,
            sources: BTreeMap::new(),
            waiting: BTreeSet::new(),
            watermarks: false,
            partitions: BTreeMap::new(),
            graph: Graph::default(),
            places: Places::default(),
        }
    }

    /// The graph of all plans and their ends.
    pub fn finished(mut self) -> Graph {
        // Edges go from lower to higher indices.
        let mut fed = self.waiting;
        let mut edges: Vec<_> = self.graph.edges.iter().collect();
        edges.sort_by_key(|edge| Reverse(edge.from));
        for edge in edges {
            if fed.contains(&edge.to) {
                fed.insert(edge.from);
            }
        }
        for (index, node) in self.graph.nodes.iter_mut().enumerate() {
            if let NodeKind::Source(source) = &mut node.kind {
                // A change that is left out would leave its other half for ever.
                let drops = fed.contains(&index) && !source.source.yields_changes();
                source.late = if drops { LateRows::Drop } else { LateRows::Keep };
            }
        }
        self.graph
    }

    /// µs of event time that what may still change is kept.
    fn ttl_micros(&self) -> Option<i64> {
        i64::try_from(self.ctx.options.updating_ttl().as_micros()).ok()
    }

    /// The same for what is computed of rows with these facts.
    pub(super) fn ttl_micros_of(&self, facts: &Facts) -> Option<i64> {
        if facts.lasting { self.chosen_ttl_micros() } else { self.ttl_micros() }
    }

    /// The same, if the pipeline says so: for what is kept until something else takes its place.
    pub(super) fn chosen_ttl_micros(&self) -> Option<i64> {
        self.ctx.options.updating_ttl.and_then(|_| self.ttl_micros())
    }

    /// Is the event time of the table, which was read, a column of its records' values?
    pub(super) fn is_timed_by_value(&self, table: &str) -> bool {
        let Some(column) = self.sources.get(table).and_then(|read| read.event_time.as_ref()) else { return false };
        let columns = self.catalog.tables.get(table).map(|def| def.columns.as_slice()).unwrap_or_default();
        columns.iter().any(|c| c.name == *column && c.metadata.is_none())
    }

    /// The nodes of the query's plan; returns the index of the one that emits its rows, and what becomes of them.
    pub fn plan(&mut self, plan: &LogicalPlan, query: &SqlQuery) -> Result<(usize, Changing)> {
        self.places = Places::of(query);
        // What has no place in the query comes from a view's.
        let stage = self.stage(plan).map_err(|error| error.at(self.places.of_table(self.catalog.views.keys())))?;
        let changing = if stage.facts.updating { Changing::Updating } else { Changing::Never };
        Ok((self.finish(stage)?, changing))
    }

    pub fn sink(&mut self, input: usize, sink: SinkNode, table: &TableDef, changing: Changing) -> Result<()> {
        let schema = self.schema_of(input);
        let name = explain::sink_line(&table.connector, &sink);
        // Changes of one row must meet, so that the last one is written last.
        let place = |key: &String| table.columns.iter().filter(|c| c.generated.is_none()).position(|c| c.name == *key);
        let keys: Vec<usize> = match changing {
            Changing::Updating => table.primary_key.iter().filter_map(place).collect(),
            Changing::Never => Vec::new(),
        };
        let node = self.add("sink", name, NodeKind::Sink(sink), Arc::clone(&schema));
        if keys.is_empty() {
            self.connect(input, node, 0);
            return Ok(());
        }
        let pick = |i: usize| -> Arc<dyn PhysicalExpr> {
            Arc::new(Column::new(schema.fields().get(i).map_or("", |f| f.name()), i))
        };
        self.connect_by(input, node, 0, Exchange::Hash(keys.into_iter().map(pick).collect()));
        Ok(())
    }

    /// Ends in the operator that keeps the rows; returns its columns.
    pub fn result(&mut self, input: usize, changing: Changing) -> Result<SchemaRef> {
        let schema = self.schema_of(input);
        let keep = (self.ctx.retain)(Arc::clone(&schema), changing)?;
        let node = self.add("result", "keep the result".to_string(), NodeKind::Operator(keep), Arc::clone(&schema));
        self.connect(input, node, 0);
        Ok(schema)
    }

    /// Errors: at the construct that the plan's node, or one below it, comes from.
    pub(super) fn stage(&mut self, plan: &LogicalPlan) -> Result<Stage> {
        self.stage_of(plan).map_err(|error| {
            let call = self.places.of_call_in(&error);
            error.at(call).at(self.places.of_node(plan))
        })
    }

    fn stage_of(&mut self, plan: &LogicalPlan) -> Result<Stage> {
        refuse_windows(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => {
                let Some(stream) = scan.source.downcast_ref::<StreamSource>() else {
                    return Err(Error::internal(format!("{} is not a stream", scan.table_name)));
                };
                self.scan(&stream.table.clone(), &scan.projected_schema)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let stage = self.stage(&alias.input)?;
                Ok(Stage { schema: Arc::clone(&alias.schema), ..stage })
            }
            LogicalPlan::Filter(filter) => {
                if let LogicalPlan::Window(window) = filter.input.as_ref() {
                    return self.over(window, Some(&filter.predicate));
                }
                let input = self.stage(&filter.input)?;
                self.filter(input, &filter.predicate)
            }
            LogicalPlan::Projection(projection) => {
                let input = self.stage(&projection.input)?;
                self.project(input, &projection.expr, &projection.schema)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Window(window) => self.over(window, None),
            LogicalPlan::Limit(limit) => self.top(limit),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => self.union(&union.inputs, &union.schema),
            LogicalPlan::Extension(extension)
                if let Some(join) = extension.node.as_any().downcast_ref::<VersionJoin>() =>
            {
                self.version_join(join)
            }
            LogicalPlan::Unnest(unnest) => {
                let input = self.stage(&unnest.input)?;
                let facts = input.facts.unnest(unnest);
                let input = self.finish(input)?;
                let schema = Arc::new(unnest.schema.as_arrow().clone());
                let list = |(index, list): &(usize, datafusion::logical_expr::ColumnUnnestList)| ListUnnest {
                    index_in_input_schema: *index,
                    depth: list.depth,
                };
                let factory = UnnestFactory {
                    lists: unnest.list_type_columns.iter().map(list).collect(),
                    structs: unnest.struct_type_columns.clone(),
                    options: unnest.options.clone(),
                    schema: Arc::clone(&schema),
                };
                let columns: Vec<_> =
                    unnest.exec_columns.iter().map(|c| explain::expression(&Expr::Column(c.clone()))).collect();
                let name = columns.join(", ");
                let node = self.add("unnest", name, NodeKind::Operator(Arc::new(factory)), schema);
                self.connect(input, node, 0);
                Ok(self.all_of(node, Arc::clone(&unnest.schema), facts))
            }
            other => Err(unsupported(other)),
        }
    }

    /// The table's source node, made on first use with all columns that any step reads; of them, this scan's.
    fn scan(&mut self, table: &str, schema: &DFSchemaRef) -> Result<Stage> {
        let ReadTable { node, event_time, changing, by_arrival } = match self.sources.get(table) {
            Some(found) => found.clone(),
            None => self.source(table)?,
        };
        let emitted = self.schema_of(node);
        let pick = |name: &String| -> Result<Arc<dyn PhysicalExpr>> {
            let index = emitted.index_of(name).map_err(Error::from)?;
            Ok(Arc::new(Column::new(name, index)))
        };
        let exprs = schema.fields().iter().map(|f| pick(f.name())).collect::<Result<Vec<_>>>()?;
        let shown = Shown { predicate: None, exprs: schema.fields().iter().map(|f| f.name().clone()).collect() };
        let mut facts = Facts::inserts(schema.fields().len());
        facts.updating = changing == Changing::Updating;
        facts.lasting = facts.updating;
        facts.by_arrival = by_arrival;
        for (fact, field) in facts.columns.iter_mut().zip(schema.fields()) {
            if Some(field.name()) == event_time.as_ref() {
                *fact = TimeFact::Event;
            }
        }
        Ok(Stage { node, predicate: None, exprs, schema: Arc::clone(schema), picks: true, timed: false, facts, shown })
    }

    fn source(&mut self, table: &str) -> Result<ReadTable> {
        let name = crate::statement::Name::new(table);
        let Some(def) = self.catalog.tables.get(table) else { return Err(self.catalog.unknown_relation(&name)) };
        let used = self.used.get(table).cloned().unwrap_or_default();
        let can_select = self.planner.registry.get(&def.connector).is_ok_and(|c| c.can_select_partitions());
        let partitions = self.partitions.get(table).filter(|_| can_select).cloned();
        let ctx = SourceContext { partitions, ..source_context(self.ctx) };
        let ReadSource { mut node, mut schema, event_time, upsert } =
            source::source_node(self.planner, self.catalog, def, &used, &ctx, self.ctx.resolver)?;
        let line = explain::source_line(def, &schema, ctx.partitions.as_ref());
        // Of rows that change it cannot be asked.
        if self.watermarks && !node.source.yields_changes() {
            node.watermark_column = true;
            schema = with_watermark_column(&schema);
        }
        let changing = if node.source.yields_changes() { Changing::Updating } else { Changing::Never };
        let by_arrival = def.is_by_arrival();
        if by_arrival && changing == Changing::Updating {
            return Err(changes_by_arrival(table));
        }
        let index = match upsert {
            None => self.add("source", line, NodeKind::Source(node), schema),
            Some(upsert) => {
                let upsert = UpsertFactory { schema, ttl_micros: self.chosen_ttl_micros(), ..upsert };
                let index = self.add("source", line, NodeKind::Source(node), upsert.input_schema());
                self.upsert(index, upsert)
            }
        };
        let read = ReadTable { node: index, event_time, changing, by_arrival };
        self.sources.insert(table.to_string(), read.clone());
        Ok(read)
    }

    /// Rows of one key meet, so that each takes the place of the one before.
    fn upsert(&mut self, source: usize, factory: UpsertFactory) -> usize {
        let schema = Arc::clone(&factory.schema);
        let key = |i: &usize| -> (String, Arc<dyn PhysicalExpr>) {
            let name = schema.fields().get(*i).map_or("", |field| field.name()).to_string();
            (name.clone(), Arc::new(Column::new(&name, *i)))
        };
        let (names, keys): (Vec<_>, Vec<_>) = factory.keys.iter().map(key).unzip();
        let shown = format!("upsert by {}", names.join(", "));
        let node = self.add("upsert", shown, NodeKind::Operator(Arc::new(factory)), Arc::clone(&schema));
        self.connect_by(source, node, 0, Exchange::Hash(keys));
        node
    }

    fn filter(&mut self, input: Stage, predicate: &Expr) -> Result<Stage> {
        let input = if input.picks && input.predicate.is_none() { input } else { self.sealed(input)? };
        let (compiled, timed) = self.over_node(predicate, &input)?;
        let input = Stage { timed: input.timed || timed, ..input };
        let shown = Shown { predicate: Some(explain::expression(predicate)), ..input.shown };
        Ok(Stage { predicate: Some(compiled), shown, ..input })
    }

    pub(super) fn project(&mut self, input: Stage, exprs: &[Expr], schema: &DFSchemaRef) -> Result<Stage> {
        let input = if input.picks { input } else { self.sealed(input)? };
        let facts = input.facts.project(exprs, &input.schema)?;
        let compiled = exprs.iter().map(|e| self.over_node(e, &input)).collect::<Result<Vec<_>>>()?;
        let timed = input.timed || compiled.iter().any(|(_, timed)| *timed);
        let compiled: Vec<_> = compiled.into_iter().map(|(expr, _)| expr).collect();
        let picks = compiled.iter().all(|e| e.is::<Column>());
        let shown = Shown { exprs: exprs.iter().map(explain::expression).collect(), ..input.shown };
        Ok(Stage { exprs: compiled, schema: Arc::clone(schema), picks, timed, facts, shown, ..input })
    }

    fn union(&mut self, inputs: &[Arc<LogicalPlan>], schema: &DFSchemaRef) -> Result<Stage> {
        let mut facts: Option<Facts> = None;
        let mut nodes = Vec::with_capacity(inputs.len());
        for input in inputs {
            let stage = self.stage(input)?;
            facts = Some(match facts {
                None => stage.facts.clone(),
                Some(facts) => facts.union(&stage.facts),
            });
            nodes.push(self.finish(stage)?);
        }
        let facts = facts.unwrap_or_else(|| Facts::inserts(schema.fields().len()));
        let arrow = Arc::new(schema.as_arrow().clone());
        let factory = UnionFactory { schema: Arc::clone(&arrow) };
        let node = self.add("union", "union all".to_string(), NodeKind::Operator(Arc::new(factory)), arrow);
        for (i, input) in nodes.into_iter().enumerate() {
            self.connect(input, node, i);
        }
        Ok(self.all_of(node, Arc::clone(schema), facts))
    }

    /// The stage as a node of its own, and a stage over that.
    pub(super) fn sealed(&mut self, stage: Stage) -> Result<Stage> {
        let (schema, facts) = (Arc::clone(&stage.schema), stage.facts.clone());
        let node = self.finish(stage)?;
        Ok(self.all_of(node, schema, facts))
    }

    /// A stage that passes all columns of a node on.
    pub(super) fn all_of(&self, node: usize, schema: DFSchemaRef, facts: Facts) -> Stage {
        let column = |(i, f): (usize, &Arc<arrow::datatypes::Field>)| -> Arc<dyn PhysicalExpr> {
            Arc::new(Column::new(f.name(), i))
        };
        let exprs = schema.fields().iter().enumerate().map(column).collect();
        let shown = Shown { predicate: None, exprs: schema.fields().iter().map(|f| f.name().clone()).collect() };
        Stage { node, predicate: None, exprs, schema, picks: true, timed: false, facts, shown }
    }

    /// The node that emits the stage's rows: its own if there is nothing to do.
    fn finish(&mut self, stage: Stage) -> Result<usize> {
        let schema: SchemaRef = Arc::new(stage.schema.as_arrow().clone());
        if stage.predicate.is_none() && passes_all(&stage.exprs, &self.schema_of(stage.node), &schema) {
            return Ok(stage.node);
        }
        let name = explain::project_line(&stage.shown, &schema);
        let factory = ProjectFactory {
            predicate: stage.predicate,
            exprs: stage.exprs,
            timed: stage.timed,
            schema: Arc::clone(&schema),
        };
        let node = self.add("project", name, NodeKind::Operator(Arc::new(factory)), schema);
        self.connect(stage.node, node, 0);
        Ok(node)
    }

    pub(super) fn add(&mut self, kind: &str, name: String, node: NodeKind, schema: SchemaRef) -> usize {
        let index = self.graph.nodes.len();
        self.graph.nodes.push(Node { id: operator_id(kind, index), name, kind: node, schema });
        index
    }

    pub(super) fn connect(&mut self, from: usize, to: usize, input: usize) {
        self.graph.edges.push(Edge { from, to, input, exchange: Exchange::Forward });
    }

    pub(super) fn connect_by(&mut self, from: usize, to: usize, input: usize, exchange: Exchange) {
        self.graph.edges.push(Edge { from, to, input, exchange });
    }

    /// The expression over the stage as one over its node's columns; does it name the event time, behind them?
    fn over_node(&self, expr: &Expr, stage: &Stage) -> Result<(Arc<dyn PhysicalExpr>, bool)> {
        if stage.facts.updating {
            repeatable::check(expr)?;
        }
        let (expr, timed) = with_event_time(expr, &stage.facts)?;
        let asked = watermark::as_column(expr, WATERMARK_COLUMN).map_err(translate)?;
        let (mut schema, mut picks) = (stage.schema.as_ref().clone(), stage.exprs.clone());
        if timed {
            if stage.facts.updating {
                return Err(window_of_changes(WindowKind::Tumble));
            }
            schema = with_time_column(&schema, EVENT_TIME)?;
            picks.push(Arc::new(Column::new(EVENT_TIME, self.schema_of(stage.node).fields().len())));
        }
        if asked.transformed {
            let at = self.watermark_of(stage.node).filter(|_| !stage.facts.updating);
            schema = with_time_column(&schema, WATERMARK_COLUMN)?;
            picks.push(Arc::new(Column::new(WATERMARK_COLUMN, at.ok_or_else(watermark::not_over_a_table)?)));
        }
        let compiled = compile(self.planner, &asked.data, &schema)?;
        Ok((put_over(compiled, &picks)?, timed))
    }

    /// Which of the node's columns is the watermark: the last of a source that gives it.
    fn watermark_of(&self, node: usize) -> Option<usize> {
        match self.graph.nodes.get(node).map(|n| &n.kind) {
            Some(NodeKind::Source(source)) if source.watermark_column => {
                self.schema_of(node).fields().len().checked_sub(1)
            }
            _ => None,
        }
    }

    pub(super) fn schema_of(&self, node: usize) -> SchemaRef {
        self.graph.nodes.get(node).map_or_else(|| Arc::new(Schema::empty()), |n| Arc::clone(&n.schema))
    }
}

/// Are these all columns of `from`, in order, under the names of `to`?
fn passes_all(exprs: &[Arc<dyn PhysicalExpr>], from: &Schema, to: &Schema) -> bool {
    let is_column =
        |(i, e): (usize, &Arc<dyn PhysicalExpr>)| e.downcast_ref::<Column>().is_some_and(|c| c.index() == i);
    let same = |(a, b): (&Arc<arrow::datatypes::Field>, &Arc<arrow::datatypes::Field>)| {
        a.name() == b.name() && a.data_type() == b.data_type() && a.is_nullable() == b.is_nullable()
    };
    exprs.len() == from.fields().len()
        && exprs.iter().enumerate().all(is_column)
        && from.fields().iter().zip(to.fields()).all(same)
}

pub(super) fn compile(planner: &Planner, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let props = planner.sql.state().execution_props();
    create_physical_expr(expr, schema, props, &PhysicalPlanningContext::default()).map_err(translate)
}

/// Refuses windows where only a projection or GROUP BY knows what they are of.
pub(super) fn refuse_windows(plan: &LogicalPlan) -> Result<()> {
    let exprs = match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.clone(),
        LogicalPlan::Filter(filter) if matches!(filter.input.as_ref(), LogicalPlan::Window(_)) => {
            vec![filter.predicate.clone()]
        }
        LogicalPlan::Window(_) | LogicalPlan::Join(_) | LogicalPlan::Sort(_) => plan.expressions(),
        _ => return Ok(()),
    };
    match exprs.iter().find_map(window_within) {
        None => Ok(()),
        Some(WindowKind::Tumble) => {
            Err(Error::new(Code::NotSupported, "tumble(size) outside of SELECT, WHERE and GROUP BY is not supported")
                .with_hint(
                    "give it the time: tumble(time, size); or name it in a subquery: SELECT *, tumble(size) AS window",
                ))
        }
        Some(kind) => Err(outside_of_group_by(kind)),
    }
}

fn outside_of_group_by(kind: WindowKind) -> Error {
    let name = kind.name();
    Error::new(Code::NotSupported, format!("{name}(…) outside of GROUP BY is not supported"))
        .with_hint(format!("aggregate first: SELECT {name}(…) AS window, … GROUP BY window"))
}

/// Behind the columns of a batch whose expressions name it. No SQL name is like it.
const EVENT_TIME: &str = "__event_time";

/// A row that is taken back must be as it was, also in what is computed from its time.
fn changes_by_arrival(table: &str) -> Error {
    let message = format!("table {table} has rows that change later, and its event time is their arrival");
    Error::new(Code::NotSupported, message).with_hint("declare WATERMARK FOR a column of the record, or leave it out")
}

/// `tumble(size)` as `tumble(event time, size)`, and `proctime()` as the event time if it is; is there one?
fn with_event_time(expr: &Expr, facts: &Facts) -> Result<(Expr, bool)> {
    let mut refused = None;
    let event_time = || Expr::Column(datafusion::common::Column::new_unqualified(EVENT_TIME));
    let replaced = expr.clone().transform(|part| match WindowCall::of(&part) {
        _ if facts.by_arrival && is_processing_time(&part) => Ok(Transformed::yes(event_time())),
        Ok(Some(WindowCall { kind: WindowKind::Tumble, time: None, .. })) => match part {
            Expr::ScalarFunction(mut call) => {
                call.args.insert(0, event_time());
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        },
        Ok(Some(call)) if call.kind != WindowKind::Tumble && matches!(part, Expr::ScalarFunction(_)) => {
            refused = Some(call.kind);
            Ok(Transformed::no(part))
        }
        _ => Ok(Transformed::no(part)),
    });
    let replaced = replaced.map_err(translate)?;
    match refused {
        Some(kind) => Err(outside_of_group_by(kind)),
        None => Ok((replaced.data, replaced.transformed)),
    }
}

fn with_time_column(schema: &DFSchema, name: &str) -> Result<DFSchema> {
    let field = Field::new(name, timestamp_type(), name == WATERMARK_COLUMN);
    let time = DFSchema::from_unqualified_fields(vec![field].into(), Default::default()).map_err(translate)?;
    schema.join(&time).map_err(translate)
}

/// The expression over the stage's columns as one over the node's: each column replaced by the column it picks.
fn put_over(expr: Arc<dyn PhysicalExpr>, picks: &[Arc<dyn PhysicalExpr>]) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = expr.transform(|e| match e.downcast_ref::<Column>() {
        Some(column) => match picks.get(column.index()) {
            Some(pick) => Ok(Transformed::yes(Arc::clone(pick))),
            None => Ok(Transformed::no(e)),
        },
        None => Ok(Transformed::no(e)),
    });
    Ok(replaced.map_err(translate)?.data)
}

/// The projection of a plan that is nothing but projections over one scan, as over `source`; `None` if it passes all on.
pub(crate) fn single_projection(
    planner: &Planner,
    plan: &LogicalPlan,
    source: &SchemaRef,
    output: &SchemaRef,
) -> Result<Option<ProjectFactory>> {
    let exprs = projected(planner, plan, source)?;
    if passes_all(&exprs, source, output) {
        return Ok(None);
    }
    Ok(Some(ProjectFactory { predicate: None, exprs, timed: false, schema: Arc::clone(output) }))
}

fn projected(planner: &Planner, plan: &LogicalPlan, source: &SchemaRef) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    match plan {
        LogicalPlan::TableScan(scan) => scan
            .projected_schema
            .fields()
            .iter()
            .map(|f| Ok(Arc::new(Column::new(f.name(), source.index_of(f.name())?)) as Arc<dyn PhysicalExpr>))
            .collect(),
        LogicalPlan::SubqueryAlias(alias) => projected(planner, &alias.input, source),
        LogicalPlan::Projection(projection) => {
            let below = projected(planner, &projection.input, source)?;
            let schema = projection.input.schema();
            projection.expr.iter().map(|e| compile(planner, e, schema).and_then(|e| put_over(e, &below))).collect()
        }
        other => Err(unsupported(other)),
    }
}

fn unsupported(plan: &LogicalPlan) -> Error {
    let what = match plan {
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => "a query that reads no table",
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => "an aggregate",
        LogicalPlan::Join(_) | LogicalPlan::Subquery(_) => "a join or subquery",
        LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => "ORDER BY or LIMIT",
        LogicalPlan::Window(_) => "OVER",
        _ => "this kind of query",
    };
    Error::new(Code::NotSupported, format!("{what} in a pipeline is not supported in this version"))
}

//! An optimised logical plan to nodes of the engine's graph.
//!
//! Filter and projection over one input are fused into one node: a [`Stage`] collects them and becomes a node when
//! something else needs its rows. A stage that changes nothing becomes no node.
//!
//! ```text
//! Projection(Filter(TableScan))  ─►  source-0, project-1 (filter and projection)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::unnest::ListUnnest;
use laminar_core::{Code, Error, Result};
use laminar_engine::graph::{Edge, Exchange, Graph, Node, NodeKind, SinkNode};
use laminar_engine::operators::{ProjectFactory, UnionFactory, UnnestFactory};

use super::{Step, UsedColumns, explain, operator_id, source, source_context};
use crate::catalog::CatalogSnapshot;
use crate::planner::{PipelineContext, Planner};
use crate::tables::StreamSource;
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
    planner: &'a Planner,
    catalog: &'a CatalogSnapshot,
    ctx: &'a PipelineContext<'a>,
    used: UsedColumns,
    /// Source nodes by table.
    sources: BTreeMap<String, usize>,
    pub graph: Graph,
}

/// Rows of a node, and what is still to be done with them.
pub(crate) struct Stage {
    node: usize,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Over the node's columns.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Of the stage's output, as the plan's expressions refer to it.
    schema: DFSchemaRef,
    /// Do all `exprs` only pick columns? Then expressions over the stage can be put over the node.
    picks: bool,
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
        Self { planner, catalog, ctx, used, sources: BTreeMap::new(), graph: Graph::default() }
    }

    /// The plan's nodes; returns the index of the one that emits its rows.
    pub fn plan(&mut self, plan: &LogicalPlan) -> Result<usize> {
        let stage = self.stage(plan)?;
        self.finish(stage)
    }

    pub fn sink(&mut self, input: usize, sink: SinkNode, connector: &str) {
        let schema = self.schema_of(input);
        let name = explain::sink_line(connector, &sink);
        let node = self.add("sink", name, NodeKind::Sink(sink), schema);
        self.connect(input, node, 0);
    }

    /// Ends in the operator that keeps the rows; returns its columns.
    pub fn result(&mut self, input: usize) -> SchemaRef {
        let schema = self.schema_of(input);
        let keep = (self.ctx.retain)(Arc::clone(&schema));
        let node = self.add("result", "keep the result".to_string(), NodeKind::Operator(keep), Arc::clone(&schema));
        self.connect(input, node, 0);
        schema
    }

    fn stage(&mut self, plan: &LogicalPlan) -> Result<Stage> {
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
                let input = self.stage(&filter.input)?;
                self.filter(input, &filter.predicate)
            }
            LogicalPlan::Projection(projection) => {
                let input = self.stage(&projection.input)?;
                self.project(input, &projection.expr, &projection.schema)
            }
            LogicalPlan::Union(union) => self.union(&union.inputs, &union.schema),
            LogicalPlan::Unnest(unnest) => {
                let input = self.plan(&unnest.input)?;
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
                Ok(self.all_of(node, Arc::clone(&unnest.schema)))
            }
            other => Err(unsupported(other)),
        }
    }

    /// The table's source node, made on first use with all columns that any step reads; of them, this scan's.
    fn scan(&mut self, table: &str, schema: &DFSchemaRef) -> Result<Stage> {
        let node = match self.sources.get(table) {
            Some(node) => *node,
            None => self.source(table)?,
        };
        let emitted = self.schema_of(node);
        let pick = |name: &String| -> Result<Arc<dyn PhysicalExpr>> {
            let index = emitted.index_of(name).map_err(Error::from)?;
            Ok(Arc::new(Column::new(name, index)))
        };
        let exprs = schema.fields().iter().map(|f| pick(f.name())).collect::<Result<Vec<_>>>()?;
        let shown = Shown { predicate: None, exprs: schema.fields().iter().map(|f| f.name().clone()).collect() };
        Ok(Stage { node, predicate: None, exprs, schema: Arc::clone(schema), picks: true, shown })
    }

    fn source(&mut self, table: &str) -> Result<usize> {
        let name = crate::statement::Name::new(table);
        let Some(def) = self.catalog.tables.get(table) else { return Err(self.catalog.unknown_relation(&name)) };
        let used = self.used.get(table).cloned().unwrap_or_default();
        let ctx = source_context(self.ctx);
        let (node, schema) = source::source_node(self.planner, self.catalog, def, &used, &ctx, self.ctx.resolver)?;
        let line = explain::source_line(def, &schema);
        let index = self.add("source", line, NodeKind::Source(node), schema);
        self.sources.insert(table.to_string(), index);
        Ok(index)
    }

    fn filter(&mut self, input: Stage, predicate: &Expr) -> Result<Stage> {
        let input = if input.picks && input.predicate.is_none() { input } else { self.sealed(input)? };
        let compiled = compile(self.planner, predicate, &input.schema)?;
        let compiled = over_node(compiled, &input.exprs)?;
        let shown = Shown { predicate: Some(explain::expression(predicate)), ..input.shown };
        Ok(Stage { predicate: Some(compiled), shown, ..input })
    }

    fn project(&mut self, input: Stage, exprs: &[Expr], schema: &DFSchemaRef) -> Result<Stage> {
        let input = if input.picks { input } else { self.sealed(input)? };
        let compile = |e: &Expr| compile(self.planner, e, &input.schema).and_then(|e| over_node(e, &input.exprs));
        let compiled = exprs.iter().map(compile).collect::<Result<Vec<_>>>()?;
        let picks = compiled.iter().all(|e| e.is::<Column>());
        let shown = Shown { exprs: exprs.iter().map(explain::expression).collect(), ..input.shown };
        Ok(Stage { exprs: compiled, schema: Arc::clone(schema), picks, shown, ..input })
    }

    fn union(&mut self, inputs: &[Arc<LogicalPlan>], schema: &DFSchemaRef) -> Result<Stage> {
        let inputs = inputs.iter().map(|input| self.plan(input)).collect::<Result<Vec<_>>>()?;
        let arrow = Arc::new(schema.as_arrow().clone());
        let factory = UnionFactory { schema: Arc::clone(&arrow) };
        let node = self.add("union", "union all".to_string(), NodeKind::Operator(Arc::new(factory)), arrow);
        for (i, input) in inputs.into_iter().enumerate() {
            self.connect(input, node, i);
        }
        Ok(self.all_of(node, Arc::clone(schema)))
    }

    /// The stage as a node of its own, and a stage over that.
    fn sealed(&mut self, stage: Stage) -> Result<Stage> {
        let schema = Arc::clone(&stage.schema);
        let node = self.finish(stage)?;
        Ok(self.all_of(node, schema))
    }

    /// A stage that passes all columns of a node on.
    fn all_of(&self, node: usize, schema: DFSchemaRef) -> Stage {
        let column = |(i, f): (usize, &Arc<arrow::datatypes::Field>)| -> Arc<dyn PhysicalExpr> {
            Arc::new(Column::new(f.name(), i))
        };
        let exprs = schema.fields().iter().enumerate().map(column).collect();
        let shown = Shown { predicate: None, exprs: schema.fields().iter().map(|f| f.name().clone()).collect() };
        Stage { node, predicate: None, exprs, schema, picks: true, shown }
    }

    /// The node that emits the stage's rows: its own if there is nothing to do.
    fn finish(&mut self, stage: Stage) -> Result<usize> {
        let schema: SchemaRef = Arc::new(stage.schema.as_arrow().clone());
        if stage.predicate.is_none() && passes_all(&stage.exprs, &self.schema_of(stage.node), &schema) {
            return Ok(stage.node);
        }
        let name = explain::project_line(&stage.shown, &schema);
        let factory = ProjectFactory { predicate: stage.predicate, exprs: stage.exprs, schema: Arc::clone(&schema) };
        let node = self.add("project", name, NodeKind::Operator(Arc::new(factory)), schema);
        self.connect(stage.node, node, 0);
        Ok(node)
    }

    fn add(&mut self, kind: &str, name: String, node: NodeKind, schema: SchemaRef) -> usize {
        let index = self.graph.nodes.len();
        self.graph.nodes.push(Node { id: operator_id(kind, index), name, kind: node, schema });
        index
    }

    fn connect(&mut self, from: usize, to: usize, input: usize) {
        self.graph.edges.push(Edge { from, to, input, exchange: Exchange::Forward });
    }

    fn schema_of(&self, node: usize) -> SchemaRef {
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

fn compile(planner: &Planner, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let props = planner.sql.state().execution_props();
    create_physical_expr(expr, schema, props, &PhysicalPlanningContext::default()).map_err(translate)
}

/// The expression over the stage's columns as one over the node's: each column replaced by the column it picks.
fn over_node(expr: Arc<dyn PhysicalExpr>, picks: &[Arc<dyn PhysicalExpr>]) -> Result<Arc<dyn PhysicalExpr>> {
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
    Ok(Some(ProjectFactory { predicate: None, exprs, schema: Arc::clone(output) }))
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
            projection.expr.iter().map(|e| compile(planner, e, schema).and_then(|e| over_node(e, &below))).collect()
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

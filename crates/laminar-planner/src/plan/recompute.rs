//! OVER, top-N and aggregates of changing rows: batch queries over the rows of a key.
//!
//! The engine runs the node of the logical plan itself, over the rows of the keys that changed. For that the node is put over
//! a scan of plain columns `c0`, `c1`, …, one per column of its input, and its orderings are made total: rows that compare
//! equal would be numbered by chance otherwise, and another time differently.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, Window,
    WindowFrameUnits, WindowFunctionDefinition,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions as physical;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::scalar::ScalarValue;
use laminar_core::{Code, Error, Result};
use laminar_engine::graph::{Exchange, NodeKind};
use laminar_engine::operators::{Emit, RecomputeFactory};

use super::explain;
use super::facts::{Facts, TimeFact};
use super::lower::{Lowering, Stage, compile, refuse_windows};
use super::repeatable;
use crate::translate::translate;

/// What becomes of a node that is run as a batch query.
struct Query {
    kind: &'static str,
    shown: String,
    plan: LogicalPlan,
    /// Over the input's columns.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Over the output's.
    output_keys: Vec<Arc<dyn PhysicalExpr>>,
    emit: Emit,
    prune: bool,
    schema: DFSchemaRef,
}

impl Lowering<'_> {
    /// `filter`: a condition on the result, as in `… WHERE row_number <= 3`.
    pub(super) fn over(&mut self, window: &Window, filter: Option<&Expr>) -> Result<Stage> {
        let input = self.stage(&window.input)?;
        let input = self.sealed(input)?;
        let calls = window.window_expr.iter().map(call).collect::<Result<Vec<_>>>()?;
        let Some(first) = calls.first() else { return Err(Error::internal("OVER without a function")) };
        let partition = &first.params.partition_by;
        if calls.iter().any(|c| c.params.partition_by != *partition) {
            return Err(Error::new(
                Code::NotSupported,
                "functions with several PARTITION BY in one SELECT are not supported",
            )
            .with_hint("compute them one after the other, each in a subquery"));
        }
        let emit = self.emits(partition, &input)?;
        let keys = self.keys(partition, &input)?;
        let exprs = window.window_expr.iter().map(|e| total(e, &input.schema)).collect::<Result<Vec<_>>>()?;
        let exprs = exprs.iter().map(|e| plain(e, &input.schema)).collect::<Result<Vec<_>>>()?;
        let mut plan = windows(rows(&input.schema)?, exprs)?;
        if let Some(filter) = filter {
            let filter = plain_after(filter, &window.schema, plan.schema())?;
            plan = plan.filter(filter).map_err(translate)?;
        }
        let prune = !input.facts.updating && filter.is_some_and(|f| keeps_the_first(f, window, &calls));
        let mut shown = window.window_expr.iter().map(explain::expression).collect::<Vec<_>>().join(", ");
        if let Some(filter) = filter {
            shown = format!("{shown} where {}", explain::expression(filter));
        }
        let mut facts = input.facts.clone();
        facts.updating = emit == Emit::Updates;
        if let Emit::OnClose { window } = emit {
            // Rows come out when it closes: any other window may have closed before.
            let closes =
                partition.get(window).and_then(|e| e.try_as_col()).and_then(|c| input.schema.maybe_index_of_column(c));
            let others = facts.columns.iter_mut().enumerate().filter(|(i, _)| Some(*i) != closes);
            others.for_each(|(_, fact)| *fact = TimeFact::Nothing);
        }
        facts.columns.resize(window.schema.fields().len(), TimeFact::Nothing);
        let query = Query {
            kind: "over",
            shown,
            plan: plan.build().map_err(translate)?,
            output_keys: keys.clone(),
            keys,
            emit,
            prune,
            schema: Arc::clone(&window.schema),
        };
        self.recompute(query, &input, facts)
    }

    /// ORDER BY … LIMIT: the first rows of all.
    pub(super) fn top(&mut self, limit: &Limit) -> Result<Stage> {
        let refused = |what: &str| {
            Err(Error::new(Code::NotSupported, format!("LIMIT {what} in a pipeline is not supported"))
                .with_hint("a stream has no first rows: say which by ORDER BY … LIMIT n"))
        };
        let (mut sort, mut projections) = (limit.input.as_ref(), Vec::new());
        while let LogicalPlan::Projection(projection) = sort {
            projections.push(projection);
            sort = projection.input.as_ref();
        }
        let sort_plan = sort;
        let LogicalPlan::Sort(sort) = sort_plan else { return refused("without ORDER BY") };
        refuse_windows(sort_plan)?;
        let (Ok(SkipType::Literal(skip)), Ok(FetchType::Literal(Some(fetch)))) =
            (limit.get_skip_type(), limit.get_fetch_type())
        else {
            return refused("that is not a number");
        };
        let input = self.stage(&sort.input)?;
        let input = self.sealed(input)?;
        let order = with_all_columns(&sort.expr, &input.schema);
        let order = order.into_iter().map(|s| Ok(Sort { expr: plain(&s.expr, &input.schema)?, ..s }));
        let plan = rows(&input.schema)?.sort(order.collect::<Result<Vec<_>>>()?).map_err(translate)?;
        let plan = plan.limit(skip, Some(fetch)).and_then(|p| p.build()).map_err(translate)?;
        let keys = self.keys(&[], &input)?;
        let order: Vec<_> = sort
            .expr
            .iter()
            .map(|s| format!("{}{}", explain::expression(&s.expr), if s.asc { "" } else { " DESC" }))
            .collect();
        let mut facts = input.facts.clone();
        facts.updating = true;
        let query = Query {
            kind: "top",
            shown: format!("first {fetch} after {skip} by {}", order.join(", ")),
            plan,
            output_keys: keys.clone(),
            keys,
            emit: Emit::Updates,
            prune: !input.facts.updating && skip == 0,
            schema: Arc::clone(&input.schema),
        };
        let mut stage = self.recompute(query, &input, facts)?;
        for projection in projections.into_iter().rev() {
            stage = self.project(stage, &projection.expr, &projection.schema)?;
        }
        Ok(stage)
    }

    /// GROUP BY over rows that may be updated and deleted.
    pub(super) fn aggregate_of_changes(
        &mut self,
        aggregate: &Aggregate,
        input: &Stage,
        shown: String,
    ) -> Result<Stage> {
        let keys = self.keys(&aggregate.group_expr, input)?;
        let plain_all = |exprs: &[Expr]| exprs.iter().map(|e| plain(e, &input.schema)).collect::<Result<Vec<_>>>();
        let plan = rows(&input.schema)?
            .aggregate(plain_all(&aggregate.group_expr)?, plain_all(&aggregate.aggr_expr)?)
            .and_then(|p| p.build())
            .map_err(translate)?;
        let column = |i: usize| -> Arc<dyn PhysicalExpr> { Arc::new(physical::Column::new(&format!("c{i}"), i)) };
        let output_keys = match aggregate.group_expr.len() {
            0 => keys.clone(),
            n => (0..n).map(column).collect(),
        };
        let mut facts = Facts::inserts(aggregate.schema.fields().len());
        facts.updating = true;
        let query = Query {
            kind: "updating",
            shown,
            plan,
            keys,
            output_keys,
            emit: Emit::Updates,
            prune: false,
            schema: Arc::clone(&aggregate.schema),
        };
        self.recompute(query, input, facts)
    }

    fn recompute(&mut self, query: Query, input: &Stage, facts: Facts) -> Result<Stage> {
        repeatable::check_plan(&query.plan)?;
        let schema: SchemaRef = Arc::new(query.schema.as_arrow().clone());
        let keys: Vec<_> = query.keys.iter().map(ToString::to_string).collect();
        let fingerprint = format!("{} by {}: {}", query.kind, keys.join(", "), query.plan.display_indent());
        let factory = RecomputeFactory {
            query: query.plan,
            state: Arc::new(self.planner.sql.state().clone()),
            keys: query.keys.clone(),
            output_keys: query.output_keys,
            input: self.schema_of(input.node),
            schema: Arc::clone(&schema),
            emit: query.emit,
            prune: query.prune,
            ttl_micros: self.ttl_micros_of(&input.facts).filter(|_| query.emit == Emit::Updates),
            fingerprint,
        };
        let node = self.add(query.kind, query.shown, NodeKind::Operator(Arc::new(factory)), schema);
        if query.emit != Emit::Updates {
            self.waiting.insert(node);
        }
        self.connect_by(input.node, node, 0, Exchange::Hash(query.keys));
        Ok(self.all_of(node, query.schema, Facts { lasting: input.facts.lasting, ..facts }))
    }

    /// Rows without keys are all of one.
    fn keys(&self, exprs: &[Expr], input: &Stage) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        if exprs.is_empty() {
            return Ok(vec![Arc::new(physical::Literal::new(ScalarValue::Int8(Some(0))))]);
        }
        exprs.iter().map(|e| compile(self.planner, e, &input.schema)).collect()
    }

    /// A partition that holds its window is final when that closes.
    fn emits(&self, partition: &[Expr], input: &Stage) -> Result<Emit> {
        if !input.facts.updating {
            for (window, expr) in partition.iter().enumerate() {
                if matches!(input.facts.of(expr, &input.schema)?, TimeFact::Window { .. } | TimeFact::WindowEnd { .. })
                {
                    return Ok(Emit::OnClose { window });
                }
            }
        }
        Ok(Emit::Updates)
    }
}

/// A scan of columns `c0`, `c1`, … of these types.
fn rows(input: &DFSchema) -> Result<LogicalPlanBuilder> {
    let field = |(i, f): (usize, &Arc<Field>)| f.as_ref().clone().with_name(format!("c{i}"));
    let schema = Arc::new(Schema::new(input.fields().iter().enumerate().map(field).collect::<Vec<_>>()));
    let table = StreamingTable::try_new(Arc::clone(&schema), vec![Arc::new(Placeholder(schema))]).map_err(translate)?;
    LogicalPlanBuilder::scan("input", provider_as_source(Arc::new(table)), None).map_err(translate)
}

/// The input's columns, then those of the functions. A node of a plan has functions with one ordering: those whose ordering
/// was made total are apart from the others.
fn windows(input: LogicalPlanBuilder, exprs: Vec<Expr>) -> Result<LogicalPlanBuilder> {
    struct Node {
        order: Vec<Sort>,
        /// With their places among all.
        functions: Vec<(usize, Expr)>,
    }
    let mut nodes: Vec<Node> = Vec::new();
    for (place, expr) in exprs.into_iter().enumerate() {
        let order = call(&expr)?.params.order_by.clone();
        match nodes.iter_mut().find(|node| node.order == order) {
            Some(node) => node.functions.push((place, expr)),
            None => nodes.push(Node { order, functions: vec![(place, expr)] }),
        }
    }
    let width = input.schema().fields().len();
    let (mut plan, mut places) = (input, Vec::new());
    for Node { functions, .. } in nodes {
        let (numbers, functions): (Vec<usize>, Vec<Expr>) = functions.into_iter().unzip();
        places.extend(numbers);
        plan = plan.window(functions).map_err(translate)?;
    }
    if places.is_sorted() {
        return Ok(plan);
    }
    let columns = plan.schema().columns();
    let (input, functions) = columns.split_at(width.min(columns.len()));
    let mut functions: Vec<_> = places.into_iter().zip(functions).collect();
    functions.sort_by_key(|(place, _)| *place);
    let all = input.iter().chain(functions.into_iter().map(|(_, column)| column)).cloned().map(Expr::Column);
    plan.project(all.collect::<Vec<_>>()).map_err(translate)
}

/// Stands for rows of which nothing is known: of an empty table in memory the optimiser would know that there are none,
/// and answer `count(*)` by itself.
#[derive(Debug)]
struct Placeholder(SchemaRef);

impl PartitionStream for Placeholder {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }
    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        Box::pin(EmptyRecordBatchStream::new(Arc::clone(&self.0)))
    }
}

/// The expression over the columns of [`rows`].
fn plain(expr: &Expr, input: &DFSchema) -> Result<Expr> {
    let replaced = expr.clone().transform(|part| match &part {
        Expr::Column(column) => {
            let index = input.index_of_column(column)?;
            Ok(Transformed::yes(Expr::Column(Column::new(Some("input"), format!("c{index}")))))
        }
        _ => Ok(Transformed::no(part)),
    });
    Ok(replaced.map_err(translate)?.data)
}

/// The expression over columns of `before` as one over those at the same places of `after`.
fn plain_after(expr: &Expr, before: &DFSchema, after: &DFSchema) -> Result<Expr> {
    let columns = after.columns();
    let replaced = expr.clone().transform(|part| match &part {
        Expr::Column(column) => match columns.get(before.index_of_column(column)?) {
            Some(column) => Ok(Transformed::yes(Expr::Column(column.clone()))),
            None => Ok(Transformed::no(part)),
        },
        _ => Ok(Transformed::no(part)),
    });
    Ok(replaced.map_err(translate)?.data)
}

fn call(expr: &Expr) -> Result<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => call(&alias.expr),
        Expr::WindowFunction(function) => Ok(function),
        other => Err(Error::internal(format!("{other} is no function with OVER"))),
    }
}

/// The function with an ordering in which no two rows are equal, if its result depends on the order of such rows.
fn total(expr: &Expr, input: &DFSchema) -> Result<Expr> {
    let replaced = expr.clone().transform(|part| match part {
        Expr::WindowFunction(mut function) if depends_on_ties(&function) => {
            function.params.order_by = with_all_columns(&function.params.order_by, input);
            Ok(Transformed::yes(Expr::WindowFunction(function)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(replaced.map_err(translate)?.data)
}

fn depends_on_ties(function: &WindowFunction) -> bool {
    let numbering = match &function.fun {
        WindowFunctionDefinition::WindowUDF(udf) => {
            matches!(udf.name(), "row_number" | "ntile" | "lag" | "lead")
        }
        WindowFunctionDefinition::AggregateUDF(_) => false,
    };
    numbering || (function.params.window_frame.units == WindowFrameUnits::Rows && !function.params.order_by.is_empty())
}

/// The ordering, then all columns.
fn with_all_columns(order: &[Sort], input: &DFSchema) -> Vec<Sort> {
    let mut total = order.to_vec();
    for column in input.columns() {
        let column = Expr::Column(column);
        if !total.iter().any(|s| s.expr == column) {
            total.push(Sort::new(column, true, true));
        }
    }
    total
}

/// Does the condition keep the first rows of each partition by a number that a later row can only raise?
fn keeps_the_first(filter: &Expr, window: &Window, calls: &[&WindowFunction]) -> bool {
    let [call] = calls else { return false };
    let ranks = match &call.fun {
        WindowFunctionDefinition::WindowUDF(udf) => matches!(udf.name(), "row_number" | "rank"),
        WindowFunctionDefinition::AggregateUDF(_) => false,
    };
    let rank = window.schema.columns().last().cloned();
    let is_rank = |e: &Expr| matches!((e, &rank), (Expr::Column(column), Some(rank)) if column == rank);
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return false };
    let one = |e: &Expr| matches!(e, Expr::Literal(v, _) if *v == ScalarValue::UInt64(Some(1)) || *v == ScalarValue::Int64(Some(1)));
    let constant = |e: &Expr| matches!(e, Expr::Literal(..));
    ranks
        && match op {
            Operator::LtEq | Operator::Lt => is_rank(left) && constant(right),
            Operator::GtEq | Operator::Gt => is_rank(right) && constant(left),
            Operator::Eq => (is_rank(left) && one(right)) || (is_rank(right) && one(left)),
            _ => false,
        }
}

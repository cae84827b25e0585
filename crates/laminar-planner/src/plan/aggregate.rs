//! GROUP BY to operators.
//!
//! ```text
//!  GROUP BY k, tumble(…)      partial ─ by hash of k ─► window      one row a group, when its window closes
//!  GROUP BY k, w              the same, where w is a window that a step below made
//!  GROUP BY k                 partial ─ by hash of k ─► updating    a group's row changes with each of its rows
//!                             (of DISTINCT values: twice, as `distinct` says)
//! ```

use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::Column;
use laminar_core::{Code, Error, Result};
use laminar_engine::graph::{Exchange, NodeKind};
use laminar_engine::operator::OperatorFactory;
use laminar_engine::operators::aggregate::{
    AggregateCall, EarlyResultFactory, GroupBy, PartialAggregateFactory, SessionAggregateFactory, Span,
    UpdatingAggregateFactory, WindowAggregateFactory, WindowTime,
};

use super::distinct::in_two_steps;
use super::explain;
use super::facts::{Facts, TimeFact};
use super::lower::{Lowering, Stage, compile};
use crate::functions::clock::is_processing_time;
use crate::functions::windows::{WindowCall, WindowKind};
use crate::translate::translate;

/// The window among the expressions of a GROUP BY.
struct GroupWindow {
    span: Span,
    time: WindowTime,
    /// Its place among the expressions, if it is computed here; a given one is a key like others.
    computed_at: Option<usize>,
    /// Its place, computed or given.
    at: Option<usize>,
}

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Stage> {
        let aggregate = &without_repeats(aggregate);
        let input = self.stage(&aggregate.input)?;
        let input = self.sealed(input)?;
        if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Err(Error::new(
                Code::NotSupported,
                "GROUPING SETS, ROLLUP and CUBE in a pipeline are not supported",
            )
            .with_hint("write one INSERT for each set of keys"));
        }
        if input.facts.updating {
            if let Some(kind) = aggregate.group_expr.iter().find_map(window_within) {
                return Err(window_of_changes(kind));
            }
            return self.aggregate_of_changes(aggregate, &input, shown(aggregate));
        }
        self.aggregate_of_inserts(aggregate, &input, self.ttl_micros_of(&input.facts))
    }

    /// `ttl_micros`: how long a group without a window is kept; `None`: for ever.
    fn aggregate_of_inserts(&mut self, aggregate: &Aggregate, input: &Stage, ttl_micros: Option<i64>) -> Result<Stage> {
        let window = self.window_of(aggregate, input)?;
        if window.span == Span::Unbounded
            && let Some((values, aggregate)) = in_two_steps(aggregate)?
            && values.group_expr.iter().all(|e| input.facts.of(e, &input.schema).is_ok_and(|f| f == TimeFact::Nothing))
        {
            // Each comes once; so a group may be without new ones for long, and is kept.
            let values = self.aggregate_of_inserts(&values, input, ttl_micros)?;
            return self.aggregate_of_inserts(&aggregate, &values, None);
        }
        let others = aggregate.group_expr.iter().enumerate().filter(|(at, _)| Some(*at) != window.computed_at);
        if let Some(kind) = others.map(|(_, expr)| expr).find_map(window_within) {
            let message = format!("{}(…) within an expression of GROUP BY is not supported", kind.name());
            return Err(Error::new(Code::NotSupported, message)
                .with_hint("GROUP BY the window itself, and compute with its start and end in an outer SELECT"));
        }
        let keys: Vec<(usize, &Expr)> =
            aggregate.group_expr.iter().enumerate().filter(|(i, _)| Some(*i) != window.computed_at).collect();
        let schema: SchemaRef = Arc::new(aggregate.schema.as_arrow().clone());
        let group_by = self.group_by(aggregate, &keys, input)?;
        let shown = shown(aggregate);

        let state_schema = match window.span {
            Span::Session { .. } => PartialAggregateFactory::session_schema_of(&group_by)?,
            _ => PartialAggregateFactory::schema_of(&group_by)?,
        };
        let partial = PartialAggregateFactory {
            span: window.span,
            time: window.time,
            group_by: group_by.clone(),
            schema: Arc::clone(&state_schema),
        };
        let partial =
            self.add("partial", shown.clone(), NodeKind::Operator(Arc::new(partial)), Arc::clone(&state_schema));
        self.connect(input.node, partial, 0);

        let routed = match window.span {
            Span::Session { .. } => (2..2 + keys.len()).collect(),
            span => WindowAggregateFactory::routed_by(span, keys.len()),
        };
        let (kind, factory): (_, Arc<dyn OperatorFactory>) = match window.span {
            Span::Unbounded => {
                let (state_schema, schema) = (Arc::clone(&state_schema), Arc::clone(&schema));
                ("updating", Arc::new(UpdatingAggregateFactory { group_by, state_schema, schema, ttl_micros }))
            }
            Span::Session { gap } => {
                let (state_schema, schema) = (Arc::clone(&state_schema), Arc::clone(&schema));
                let window_at = window.computed_at.unwrap_or_default();
                ("session", Arc::new(SessionAggregateFactory { gap, group_by, window_at, state_schema, schema }))
            }
            span => {
                let (state_schema, schema) = (Arc::clone(&state_schema), Arc::clone(&schema));
                let window_at = window.computed_at;
                ("window", Arc::new(WindowAggregateFactory { span, group_by, window_at, state_schema, schema }))
            }
        };
        let node = self.add(kind, shown, NodeKind::Operator(factory), Arc::clone(&schema));
        let pick = |i: usize| -> Arc<dyn PhysicalExpr> {
            Arc::new(Column::new(state_schema.fields().get(i).map_or("", |f| f.name()), i))
        };
        self.connect_by(partial, node, 0, Exchange::Hash(routed.into_iter().map(pick).collect()));

        let node = self.early(node, (window.span, window.computed_at), keys.len(), &schema);
        if window.span != Span::Unbounded {
            self.waiting.insert(node);
        }
        let mut facts = Facts::inserts(aggregate.schema.fields().len());
        facts.updating = matches!(window.span, Span::Unbounded | Span::Growing { .. });
        // The event time of a row is now that of this window: any other may have closed before.
        if let Some(at) = window.at
            && let (Some(fact), Some(expr)) = (facts.columns.get_mut(at), aggregate.group_expr.get(at))
        {
            *fact = input.facts.of(expr, &input.schema)?;
        }
        Ok(self.all_of(node, Arc::clone(&aggregate.schema), facts))
    }

    /// Behind windows that are looked at while they grow, what makes updates of the looks.
    fn early(&mut self, node: usize, window: (Span, Option<usize>), keys: usize, schema: &SchemaRef) -> usize {
        let (span @ Span::Growing { every, .. }, Some(window_at)) = window else { return node };
        let schema = Arc::clone(schema);
        let factory = EarlyResultFactory { span, window_at, keys, schema: Arc::clone(&schema) };
        let shown = format!("what has changed, every {}", explain::duration(every));
        let early = self.add("early", shown, NodeKind::Operator(Arc::new(factory)), schema);
        self.connect(node, early, 0);
        early
    }

    fn window_of(&self, aggregate: &Aggregate, input: &Stage) -> Result<GroupWindow> {
        let mut computed = None;
        for (at, expr) in aggregate.group_expr.iter().enumerate() {
            let Some(call) = WindowCall::of(expr)? else { continue };
            if computed.is_some() {
                return Err(Error::new(Code::NotSupported, "a GROUP BY has one window")
                    .with_hint("aggregate by the smaller window first, then its result by the larger one"));
            }
            computed = Some((at, call));
        }
        if let Some((at, call)) = computed {
            let time = self.time_of(&call, input)?;
            let span = call.span().ok_or_else(|| Error::internal("a window without its sizes"))?;
            return Ok(GroupWindow { span, time, computed_at: Some(at), at: Some(at) });
        }
        // One of the columns that say when the window ends is enough.
        let mut given = None;
        for (at, expr) in aggregate.group_expr.iter().enumerate() {
            let fact = input.facts.of(expr, &input.schema)?;
            if matches!(fact, TimeFact::Window { .. } | TimeFact::WindowEnd { .. }) {
                given = Some((at, expr));
                break;
            }
        }
        let Some((at, expr)) = given else {
            return Ok(GroupWindow { span: Span::Unbounded, time: WindowTime::Event, computed_at: None, at: None });
        };
        let time = WindowTime::Column(compile(self.planner, expr, &input.schema)?);
        Ok(GroupWindow { span: Span::Given, time, computed_at: None, at: Some(at) })
    }

    /// What the window is of: the event time only, as only that tells when a window is complete.
    fn time_of(&self, call: &WindowCall, input: &Stage) -> Result<WindowTime> {
        let Some(time) = &call.time else { return Ok(WindowTime::Event) };
        if input.facts.of(time, &input.schema)? == TimeFact::Event {
            return Ok(WindowTime::Event);
        }
        if is_processing_time(time) {
            let message = format!("{} of PROCTIME(), which is not the event time of the rows", call.kind.name());
            return Err(Error::new(Code::NotSupported, message).with_hint(
                "in CREATE TABLE, declare a column arrived TIMESTAMP GENERATED ALWAYS AS (PROCTIME()) and WATERMARK FOR arrived",
            ));
        }
        let (name, time) = (call.kind.name(), explain::expression(time));
        let error =
            Error::new(Code::NotSupported, format!("{name} of {time}, which is not the event time of the rows"));
        Err(error.with_hint(match call.kind {
            WindowKind::Tumble | WindowKind::Session => {
                format!("declare WATERMARK FOR {time} in CREATE TABLE, or write {name}(size)")
            }
            _ => format!("declare WATERMARK FOR the column in CREATE TABLE, or leave the time out of {name}"),
        }))
    }

    fn group_by(&self, aggregate: &Aggregate, keys: &[(usize, &Expr)], input: &Stage) -> Result<GroupBy> {
        let field = |at: usize| -> Result<FieldRef> {
            let field = aggregate.schema.as_arrow().fields().get(at).cloned();
            field.ok_or_else(|| Error::internal("an aggregate with more keys than columns"))
        };
        let props = self.planner.sql.state().execution_props();
        let context = PhysicalPlanningContext::default();
        let call = |expr: &Expr| {
            let lowered =
                LoweredAggregateBuilder::new(expr, &input.schema, input.schema.as_arrow(), props, &context).build();
            lowered.map(|l| AggregateCall { function: l.aggregate, filter: l.filter }).map_err(translate)
        };
        Ok(GroupBy {
            keys: keys.iter().map(|(_, e)| compile(self.planner, e, &input.schema)).collect::<Result<_>>()?,
            key_fields: keys.iter().map(|(at, _)| field(*at)).collect::<Result<_>>()?,
            calls: aggregate.aggr_expr.iter().map(call).collect::<Result<_>>()?,
        })
    }
}

/// The window function in the expression, if it is one that only GROUP BY understands and no plain function of a column.
pub(super) fn window_within(expr: &Expr) -> Option<WindowKind> {
    let mut found = None;
    let visited = expr.apply(|part| {
        if let (Ok(Some(call)), Expr::ScalarFunction(_)) = (WindowCall::of(part), part)
            && (call.time.is_none() || call.kind != WindowKind::Tumble)
        {
            found = Some(call.kind);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.ok().and(found)
}

/// A window of rows that change: when they came says nothing of when they will no longer change.
pub(super) fn window_of_changes(kind: WindowKind) -> Error {
    let message = format!("{}(…) of rows that may change later is not supported", kind.name());
    Error::new(Code::NotSupported, message).with_hint("put rows into windows first, then join or aggregate them")
}

/// With each key once, as in its schema.
fn without_repeats(aggregate: &Aggregate) -> Aggregate {
    let mut once: Vec<Expr> = Vec::new();
    for key in &aggregate.group_expr {
        if !once.contains(key) {
            once.push(key.clone());
        }
    }
    let mut aggregate = aggregate.clone();
    aggregate.group_expr = once;
    aggregate
}

/// `count(*), sum(price) by item, tumble(INTERVAL '1 hour')`
fn shown(aggregate: &Aggregate) -> String {
    let list = |exprs: &[Expr]| exprs.iter().map(explain::expression).collect::<Vec<_>>().join(", ");
    match aggregate.group_expr.as_slice() {
        [] => list(&aggregate.aggr_expr),
        keys => format!("{} by {}", list(&aggregate.aggr_expr), list(keys)),
    }
}

//! Distinct values first: without a window, `count(DISTINCT v) … GROUP BY k` counts the groups of `k, v`.
//!
//! ```text
//!  rows ─► each k, v once ─► by hash of k ─► count(v) by k
//! ```
//!
//! The state of an aggregate of distinct values is all of them, and would be written anew with each change of its group.
//! As groups of their own, values cost what a value costs.

use std::sync::Arc;

use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use laminar_core::Result;

use crate::translate::translate;

/// The aggregate in two steps: what gives each value of a group once, and what aggregates them. `None` unless all of its
/// functions are of the distinct values of one expression.
pub(super) fn in_two_steps(aggregate: &Aggregate) -> Result<Option<(Aggregate, Aggregate)>> {
    let calls: Option<Vec<&AggregateFunction>> = aggregate.aggr_expr.iter().map(of_distinct_values).collect();
    let Some((calls, value)) = calls.and_then(|calls| Some((calls.clone(), calls.first()?.params.args.first()?)))
    else {
        return Ok(None);
    };
    if calls.iter().any(|call| call.params.args.as_slice() != [value.clone()]) || aggregate.group_expr.contains(value) {
        return Ok(None);
    }
    let keys = aggregate.group_expr.iter().chain([value]).cloned().collect();
    let values = Aggregate::try_new(Arc::clone(&aggregate.input), keys, Vec::new()).map_err(translate)?;
    let mut columns: Vec<Expr> = values.schema.columns().into_iter().map(Expr::Column).collect();
    let Some(value) = columns.pop() else { return Ok(None) };
    let over_values = |call: &AggregateFunction| {
        let mut call = call.clone();
        call.params.args = vec![value.clone()];
        call.params.distinct = false;
        Expr::AggregateFunction(call)
    };
    let calls = calls.into_iter().map(over_values).collect();
    let input = Arc::new(LogicalPlan::Aggregate(values.clone()));
    let outer = Aggregate::try_new_with_schema(input, columns, calls, Arc::clone(&aggregate.schema));
    Ok(Some((values, outer.map_err(translate)?)))
}

fn of_distinct_values(expr: &Expr) -> Option<&AggregateFunction> {
    let Expr::AggregateFunction(call) = expr else { return None };
    let params = &call.params;
    (params.distinct && params.filter.is_none() && params.order_by.is_empty()).then_some(call)
}

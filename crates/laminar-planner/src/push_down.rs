//! DataFusion's rule that moves filters down, except past a GROUP BY of a window if they are about that window.
//!
//! A window in GROUP BY is no function of one row: `hop` puts it into several groups, and the event time that `tumble(size)`
//! is of is another one below. So a condition on the window stays above; others move on.
//!
//! ```text
//!  WHERE w['start'] > … AND k = 'a'     Filter: w['start'] > …
//!  GROUP BY k, hop(…) AS w          ─►    Aggregate: k, hop(…)
//!                                           Filter: k = 'a'
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::functions::windows::WindowCall;

#[derive(Debug, Default)]
pub(crate) struct PushDownFilters(PushDownFilter);

impl OptimizerRule for PushDownFilters {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let (conditions, input) = filters(&plan);
        let LogicalPlan::Aggregate(aggregate) = input else { return self.0.rewrite(plan, config) };
        let windows = windows_of(aggregate);
        let (stay, moves): (Vec<Expr>, Vec<Expr>) = conditions
            .into_iter()
            .partition(|condition| condition.column_refs().iter().any(|column| windows.contains(&column.name)));
        if stay.is_empty() {
            return self.0.rewrite(plan, config);
        }
        if moves.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let moved = self.0.rewrite(filter(moves, input.clone())?, config)?;
        moved.map_data(|plan| match plan {
            LogicalPlan::Filter(kept) => {
                filter(stay.into_iter().chain([kept.predicate]).collect(), Arc::unwrap_or_clone(kept.input))
            }
            plan => filter(stay, plan),
        })
    }
}

/// The conditions of the filters that the plan begins with, and what is below them.
fn filters(mut plan: &LogicalPlan) -> (Vec<Expr>, &LogicalPlan) {
    let mut conditions = Vec::new();
    while let LogicalPlan::Filter(filter) = plan {
        conditions.extend(split_conjunction(&filter.predicate).into_iter().cloned());
        plan = &filter.input;
    }
    (conditions, plan)
}

fn filter(conditions: Vec<Expr>, input: LogicalPlan) -> Result<LogicalPlan> {
    Ok(match conjunction(conditions) {
        Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?),
        None => input,
    })
}

/// Names of the columns that are windows made by this GROUP BY.
fn windows_of(aggregate: &Aggregate) -> HashSet<String> {
    let is_window = |expr: &&Expr| matches!(WindowCall::of(expr), Ok(Some(_)));
    aggregate.group_expr.iter().filter(is_window).map(|expr| expr.schema_name().to_string()).collect()
}

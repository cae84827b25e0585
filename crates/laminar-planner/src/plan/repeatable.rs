//! What is computed of rows that may change later has to come out the same when a row goes as when it came: else the row
//! that was emitted would never be taken back.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use laminar_core::{Code, Error, Result};

use crate::functions::windows::WindowKind;
use crate::translate::translate;

/// Errors: `not_supported` for `now()`, `random()` and their like.
pub(super) fn check(expr: &Expr) -> Result<()> {
    let mut found = None;
    let visited = expr.apply(|part| {
        if let Expr::ScalarFunction(call) = part
            && call.func.signature().volatility == Volatility::Volatile
            && !is_ours(call.name())
        {
            found = Some(call.name().to_string());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(translate)?;
    let Some(name) = found else { return Ok(()) };
    let message = format!("{name}() of rows that may change later is not supported");
    Err(Error::new(Code::NotSupported, message).with_hint(format!(
        "take it as the rows come, before what makes them change: max({name}()) in the aggregate, or {name}() in a subquery over the table"
    )))
}

/// The same for all expressions of a plan.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut refused = Ok(());
    let visited = plan.apply(|node| {
        refused = node.expressions().iter().try_for_each(check);
        Ok(if refused.is_err() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visited.map_err(translate)?;
    refused
}

/// Volatile only so that DataFusion leaves them where they stand.
fn is_ours(name: &str) -> bool {
    name == "not_null" || name == crate::functions::watermark::NAME || WindowKind::named(name).is_some()
}

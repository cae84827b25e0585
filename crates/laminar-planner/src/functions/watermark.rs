//! `current_watermark()`: how far event time had come in a row's own partition when the row was read, as the rows before it
//! left it; null before the first.
//!
//! The watermark of an operator moves with the batches that it happens to get, so a restart would give other rows. That of
//! the row's partition is a function of the partition alone: whoever reads it again gets the same, and a replay repeats and
//! drops exactly what was there before. The source computes it, beside the rows; lowering puts its column in place of the
//! call, which is possible directly over a table.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use laminar_core::table::timestamp_type;
use laminar_core::{Code, Error};

pub(crate) const NAME: &str = "current_watermark";

/// Volatile: it is another value in each row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentWatermark {
    signature: Signature,
}

pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(CurrentWatermark { signature: Signature::nullary(Volatility::Volatile) })
}

impl ScalarUDFImpl for CurrentWatermark {
    fn name(&self) -> &str {
        NAME
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }
    /// Only where no plan was looked through before.
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::External(Box::new(outside_of_pipelines())))
    }
}

fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<CurrentWatermark>().is_some())
}

/// Is there a call in the expression?
pub(crate) fn is_within(expr: &Expr) -> Result<bool> {
    expr.exists(|part| Ok(is_call(part)))
}

/// Is there a call anywhere in the plan?
pub(crate) fn is_in_plan(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= is_within(expr)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// Errors: `not_supported` for a call in anything but a projection or filter directly over a table.
pub(crate) fn check(plan: &LogicalPlan) -> laminar_core::Result<()> {
    let mut fits = true;
    let visited = plan.apply_with_subqueries(|node| {
        let mut called = false;
        node.apply_expressions(|expr| {
            called |= is_within(expr)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        let looks = matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Filter(_));
        fits &= !called || (looks && is_over_a_table(node));
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(crate::translate::translate)?;
    if fits { Ok(()) } else { Err(not_over_a_table()) }
}

fn is_over_a_table(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::Projection(projection) => is_over_a_table(&projection.input),
        LogicalPlan::Filter(filter) => is_over_a_table(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => is_over_a_table(&alias.input),
        _ => false,
    }
}

/// The expression with the column in place of each call; was there one?
pub(crate) fn as_column(expr: Expr, column: &str) -> Result<Transformed<Expr>> {
    expr.transform(|part| match is_call(&part) {
        true => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column)))),
        false => Ok(Transformed::no(part)),
    })
}

/// The error for a call in a query that is run once.
pub(crate) fn outside_of_pipelines() -> Error {
    Error::new(Code::NotSupported, "current_watermark() outside of a pipeline is not supported").with_hint(
        "a query that is run once reads rows that are all there: CREATE PIPELINE … AS SELECT …, current_watermark()",
    )
}

/// The error for a call that is not directly over a table.
pub(crate) fn not_over_a_table() -> Error {
    Error::new(Code::NotSupported, "current_watermark() is only known in SELECT and WHERE directly over a table")
        .with_detail("of rows that are not changed later")
        .with_hint("take it there: FROM (SELECT *, current_watermark() AS watermark FROM table)")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn calls_become_a_column_wherever_they_stand() {
        let call = Arc::new(function()).call(vec![]);
        let sum = call.clone().is_null().or(datafusion::logical_expr::col("a").gt(call));
        assert!(is_within(&sum).unwrap());
        let replaced = as_column(sum, "w").unwrap();
        assert!(replaced.transformed && !is_within(&replaced.data).unwrap());
        assert_eq!(replaced.data.to_string(), "w IS NULL OR a > w");
    }
}

//! Subqueries used as a value: each has one row at most.
//!
//! A batch finds out when it runs, and fails. In a stream the subquery is a join, which would give a row for each of its rows.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};
use laminar_core::{Code, Error, Result};

use crate::places::Places;
use crate::translate::translate;

/// Errors: `invalid_request`, at the first subquery that may have more rows; `not_supported` for a LIMIT of each outer row.
pub(super) fn check(plan: &LogicalPlan, places: &Places) -> Result<()> {
    let mut refused = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarSubquery(subquery) = part
                    && let Some(error) = refusal(subquery)
                {
                    refused = Some(error.at(places.of_subquery(&subquery.subquery.display_indent().to_string())));
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(translate)?;
    refused.map_or(Ok(()), Err)
}

fn refusal(subquery: &Subquery) -> Option<Error> {
    let query = subquery.subquery.as_ref();
    if subquery.outer_ref_columns.is_empty() {
        // DataFusion checks those that depend on the outer row
        return query.max_rows().is_none_or(|rows| rows > 1).then(several_rows);
    }
    let limited = query.exists(|node| Ok(matches!(node, LogicalPlan::Limit(_)))).unwrap_or(true);
    limited.then(|| {
        let message = "LIMIT in a subquery that depends on the outer row, in a pipeline, is not supported in this version";
        Error::new(Code::NotSupported, message).with_hint(
            "take one value: (SELECT first_value(x ORDER BY y) FROM … WHERE …); or join the rows and number them with row_number()",
        )
    })
}

/// A subquery that is compared or selected may have more than one row.
pub(crate) fn several_rows() -> Error {
    Error::new(Code::InvalidRequest, "a subquery used as a value may have several rows")
        .with_hint("take one of them: SELECT max(x) …, or for the rows themselves write a JOIN")
}

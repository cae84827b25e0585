//! `->` and `->>` on JSON, as PostgreSQL has them: `->` gives JSON, `->>` its text.
//!
//! `a -> 'b' ->> 'c'` becomes one call with the path `'b', 'c'`: the JSON is walked once.

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion_functions_json::udfs::{json_as_text_udf, json_get_json_udf};

#[derive(Debug)]
pub(crate) struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let func = match expr.op {
            BinaryOperator::Arrow => json_get_json_udf(),
            BinaryOperator::LongArrow => json_as_text_udf(),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let mut args = path_of(expr.left);
        args.push(expr.right);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction { func, args })))
    }
}

/// The JSON and the keys that lead to `expr`, if it is a `->`; else `expr` alone.
fn path_of(expr: Expr) -> Vec<Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == json_get_json_udf().name() => call.args,
        other => vec![other],
    }
}

//! `mod(a, b)`: what `a % b` gives.

use arrow::compute::kernels::numeric::rem;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Modulo {
    signature: Signature,
}

impl Default for Modulo {
    fn default() -> Self {
        Self { signature: Signature::numeric(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Modulo {
    fn name(&self) -> &str {
        "mod"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(first) => Ok(first.clone()),
            None => datafusion::common::plan_err!("mod takes two numbers as arguments"),
        }
    }
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match <[Expr; 2]>::try_from(args) {
            Ok([left, right]) => {
                let expr = BinaryExpr::new(Box::new(left), Operator::Modulo, Box::new(right));
                Ok(ExprSimplifyResult::Simplified(Expr::BinaryExpr(expr)))
            }
            Err(args) => Ok(ExprSimplifyResult::Original(args)),
        }
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        match arrays.as_slice() {
            [left, right] => Ok(ColumnarValue::Array(rem(left, right)?)),
            _ => datafusion::common::exec_err!("mod takes two numbers as arguments"),
        }
    }
}

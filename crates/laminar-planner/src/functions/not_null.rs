//! A column that must not be null: the first null is an error that names the column, not a broken batch.

use arrow::array::Array;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use laminar_core::{Code, Error};

use crate::parse::quote_name;

#[derive(Debug, PartialEq, Eq, Hash)]
struct NotNull {
    table: String,
    column: String,
    signature: Signature,
}

/// `expr` with the promise that it is never null.
pub(crate) fn not_null(expr: Expr, table: &str, column: &str) -> Expr {
    // volatile: it must be evaluated where it stands, for the rows that get there
    let signature = Signature::any(1, Volatility::Volatile);
    ScalarUDF::from(NotNull { table: table.to_string(), column: column.to_string(), signature }).call(vec![expr])
}

impl ScalarUDFImpl for NotNull {
    fn name(&self) -> &str {
        "not_null"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().map_or_else(|| plan_err!("not_null takes one argument"), Ok)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields.first() {
            Some(field) => Ok(field.as_ref().clone().with_nullable(false).into()),
            None => plan_err!("not_null takes one argument"),
        }
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some(value) = args.args.into_iter().next() else { return exec_err!("not_null takes one argument") };
        let array = value.into_array(rows)?;
        if array.is_nullable() {
            let Self { table, column, .. } = self;
            let written = quote_name(column);
            let error = Error::new(
                Code::InvalidValue,
                format!("column {column} of table {table} is NOT NULL, and a row has no value for it"),
            )
            .with_hint(format!(
                "leave such rows out: WHERE {written} IS NOT NULL, or give them a value: coalesce({written}, …)"
            ));
            return Err(DataFusionError::External(Box::new(error)));
        }
        Ok(ColumnarValue::Array(array))
    }
}

//! Small steps on batches that several operators take.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{interleave, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use laminar_core::{Error, Result};

use super::evaluation_error;

/// A batch that knows its number of rows even without columns.
pub(crate) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The expression's value for each row.
pub(crate) fn evaluate(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    expr.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(evaluation_error)
}

/// One array per expression.
pub(crate) fn evaluate_all(exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|expr| evaluate(expr, rows)).collect()
}

/// Booleans as a mask without nulls: NULL is not true.
pub(crate) fn as_mask(array: ArrayRef) -> Result<BooleanArray> {
    let mask = array.as_any().downcast_ref::<BooleanArray>();
    let mask = mask.ok_or_else(|| Error::internal(format!("a filter is of type {}", array.data_type())))?;
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}

/// The rows at these places, as (batch, row), in their order; of their columns those from `skipped` on, which have this schema.
pub(crate) fn gather(
    batches: &[&RecordBatch],
    skipped: usize,
    places: &[(usize, usize)],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    if places.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    }
    let column = |i: usize| {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(skipped + i).as_ref()).collect();
        interleave(&arrays, places)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
    batch(schema, columns, places.len())
}

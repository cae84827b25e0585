//! Filter and projection, fused: keeps the rows that satisfy the predicate and computes the output columns from them.
//!
//! Accepts and emits any kinds of change; times and kinds stay beside their rows. Holds no state.
//!
//! Columns that the output does not need are dropped before the filter copies rows, when every output column is a plain
//! column of the input.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use laminar_core::{Changes, Error, Result, TaskId};

use super::evaluation_error;
use crate::operator::{Operator, OperatorFactory, Output};

/// `predicate`: a boolean expression over the input, null counts as false. `exprs`: one per column of `schema`, in order.
#[derive(Clone, Debug)]
pub struct ProjectFactory {
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    pub exprs: Vec<Arc<dyn PhysicalExpr>>,
    pub schema: SchemaRef,
}

impl OperatorFactory for ProjectFactory {
    fn create(&self, _task: &TaskId) -> Result<Box<dyn Operator>> {
        let plain = |e: &Arc<dyn PhysicalExpr>| e.downcast_ref::<Column>().map(Column::index);
        Ok(Box::new(Project { plan: self.clone(), columns: self.exprs.iter().map(plain).collect() }))
    }

    fn fingerprint(&self) -> String {
        let exprs: Vec<_> = self.exprs.iter().map(ToString::to_string).collect();
        let predicate = self.predicate.as_ref().map(|p| format!(" where {p}")).unwrap_or_default();
        format!("project {}{predicate}", exprs.join(", "))
    }
}

struct Project {
    plan: ProjectFactory,
    /// Input columns, if the projection only picks columns.
    columns: Option<Vec<usize>>,
}

#[async_trait]
impl Operator for Project {
    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let mask = match &self.plan.predicate {
            None => None,
            Some(predicate) => {
                let mask = as_mask(evaluate(predicate, changes.rows())?)?;
                match mask.true_count() {
                    0 => return Ok(()),
                    n if n == changes.num_rows() => None,
                    _ => Some(mask),
                }
            }
        };
        let projected = match (&self.columns, mask) {
            (Some(columns), mask) => {
                let arrays =
                    columns.iter().map(|i| changes.rows().columns().get(*i).cloned().ok_or_else(missing_column));
                let arrays = arrays.collect::<Result<Vec<_>>>()?;
                let picked = self.batch(arrays, changes.num_rows())?;
                let picked = changes.with_rows(picked)?;
                match mask {
                    Some(mask) => picked.filter(&mask)?,
                    None => picked,
                }
            }
            (None, mask) => {
                let kept = match mask {
                    Some(mask) => changes.filter(&mask)?,
                    None => changes,
                };
                let arrays = self.plan.exprs.iter().map(|e| evaluate(e, kept.rows())).collect::<Result<Vec<_>>>()?;
                let rows = self.batch(arrays, kept.num_rows())?;
                kept.with_rows(rows)?
            }
        };
        out.push(projected);
        Ok(())
    }
}

impl Project {
    fn batch(&self, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.plan.schema), arrays, &options)?)
    }
}

pub(super) fn evaluate(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    expr.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(evaluation_error)
}

pub(super) fn as_mask(array: ArrayRef) -> Result<BooleanArray> {
    let mask = array.as_any().downcast_ref::<BooleanArray>();
    let mask = mask.ok_or_else(|| Error::internal(format!("a filter is of type {}", array.data_type())))?;
    Ok(if mask.null_count() > 0 { arrow::compute::prep_null_mask_filter(mask) } else { mask.clone() })
}

fn missing_column() -> Error {
    Error::internal("a projection names a column that its input does not have")
}

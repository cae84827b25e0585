//! Filter and projection, fused: keeps the rows that satisfy the predicate and computes the output columns from them.
//!
//! Accepts and emits any kinds of change; times and kinds stay beside their rows. Holds no state.
//!
//! Columns that the output does not need are dropped before the filter copies rows, when every output column is a plain
//! column of the input.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use laminar_core::{Changes, Error, Result, TaskId};

use super::rows::{as_mask, batch, evaluate, evaluate_all};
use crate::operator::{Operator, OperatorFactory, Output};

/// `predicate`: a boolean expression over the input, null counts as false. `exprs`: one per column of `schema`, in order.
#[derive(Clone, Debug)]
pub struct ProjectFactory {
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    pub exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// The event time is one more column of the input, behind the others.
    pub timed: bool,
    pub schema: SchemaRef,
}

impl OperatorFactory for ProjectFactory {
    fn create(&self, _task: &TaskId) -> Result<Box<dyn Operator>> {
        let plain = |e: &Arc<dyn PhysicalExpr>| e.downcast_ref::<Column>().map(Column::index);
        let columns = self.exprs.iter().map(plain).collect();
        Ok(Box::new(Project { plan: self.clone(), columns, filtered: 0 }))
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
    /// Rows that did not satisfy the predicate.
    filtered: u64,
}

impl Project {
    /// The rows, if any is left, and how many the predicate leaves out.
    fn project(&self, changes: Changes) -> Result<(Option<Changes>, usize)> {
        let changes = if self.plan.timed { with_time(changes)? } else { changes };
        let mut left_out = 0;
        let mask = match &self.plan.predicate {
            None => None,
            Some(predicate) => {
                let mask = as_mask(evaluate(predicate, changes.rows())?)?;
                left_out = changes.num_rows() - mask.true_count();
                match mask.true_count() {
                    0 => return Ok((None, left_out)),
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
                let picked = batch(&self.plan.schema, arrays, changes.num_rows())?;
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
                let arrays = evaluate_all(&self.plan.exprs, kept.rows())?;
                let rows = batch(&self.plan.schema, arrays, kept.num_rows())?;
                kept.with_rows(rows)?
            }
        };
        Ok((Some(projected), left_out))
    }
}

#[async_trait]
impl Operator for Project {
    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let (projected, left_out) = self.project(changes)?;
        self.filtered += left_out as u64;
        if let Some(projected) = projected {
            out.push(projected);
        }
        Ok(())
    }

    fn filtered(&self) -> Option<u64> {
        Some(self.filtered)
    }

    fn may_reject(&self) -> bool {
        self.plan.predicate.is_some() || self.columns.is_none()
    }

    fn check(&self, changes: &Changes) -> Result<()> {
        self.project(changes.clone()).map(drop)
    }
}

fn with_time(changes: Changes) -> Result<Changes> {
    let mut fields = changes.rows().schema().fields().to_vec();
    fields.push(Arc::new(Field::new("__event_time", changes.times().data_type().clone(), false)));
    let mut columns = changes.rows().columns().to_vec();
    columns.push(Arc::new(changes.times().clone()));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
    changes.with_rows(rows)
}

fn missing_column() -> Error {
    Error::internal("a projection names a column that its input does not have")
}

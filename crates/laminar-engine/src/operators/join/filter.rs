//! The part of a join's condition that is not an equality, over pairs of rows.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use laminar_core::{Error, Result};

use super::super::rows::{as_mask, batch, evaluate};
use super::output::{Place, Sources};
use super::sides::Sides;

/// Evaluates the condition on the columns that it names, and copies no others.
pub(super) struct PairFilter {
    expr: Arc<dyn PhysicalExpr>,
    columns: Sides<Vec<usize>>,
    schema: SchemaRef,
}

impl PairFilter {
    /// `expr` is over the left columns and then the right ones.
    pub(super) fn new(expr: &Arc<dyn PhysicalExpr>, left: &Schema, right: &Schema) -> Result<Self> {
        let mut named: Vec<usize> = collect_columns(expr).iter().map(Column::index).collect();
        named.sort_unstable();
        let all: Vec<_> = left.fields().iter().chain(right.fields()).cloned().collect();
        let fields = named.iter().map(|i| all.get(*i).cloned().ok_or_else(|| wrong(expr)));
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let renumbered = Arc::clone(expr).transform(|node| {
            let Some(column) = node.downcast_ref::<Column>() else { return Ok(Transformed::no(node)) };
            let index = named.partition_point(|i| *i < column.index());
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>))
        });
        let split = left.fields().len();
        let at = named.partition_point(|i| *i < split);
        let right = named.split_off(at).into_iter().map(|i| i - split).collect();
        let expr = renumbered.map_err(|_| wrong(expr))?.data;
        Ok(Self { expr, columns: Sides { left: named, right }, schema })
    }

    /// Which of the pairs satisfy the condition; NULL does not. `places` has as many of each side.
    pub(super) fn mask(&self, sources: &Sides<Sources>, places: Sides<&[Place]>) -> Result<BooleanArray> {
        let rows = places.left.len();
        let mut columns = sources.left.gather(self.columns.left.iter().copied(), places.left)?;
        columns.extend(sources.right.gather(self.columns.right.iter().copied(), places.right)?);
        as_mask(evaluate(&self.expr, &batch(&self.schema, columns, rows)?)?)
    }
}

fn wrong(expr: &Arc<dyn PhysicalExpr>) -> Error {
    Error::internal(format!("the condition {expr} is not over the columns of the join"))
}

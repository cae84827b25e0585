//! Numbers for distinct values: equal rows of the key columns have one number, different ones two.
//!
//! DataFusion's grouping tables do the work, a batch at a time. They only grow, so [`Groups::keep`] makes a new table from
//! the numbers still in use; the caller decides when that is worth its cost. NULL is a value here, equal to itself.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use laminar_core::{Error, Result};

use super::evaluation_error;

/// Given for a number that [`Groups::keep`] dropped, and to rows that have none.
pub(super) const NO_GROUP: u32 = u32::MAX;

/// A table is not worth rebuilding for fewer unused numbers than this.
const FEW: usize = if cfg!(test) { 4 } else { 4096 };

pub(super) struct Groups {
    schema: SchemaRef,
    /// `None`: no columns, so all rows are of group 0.
    values: Option<Box<dyn GroupValues>>,
}

impl Groups {
    pub(super) fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        let fields = types.into_iter().enumerate().map(|(i, of)| Field::new(format!("k{i}"), of, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Self { values: table(&schema)?, schema })
    }

    /// Sets `groups` to the number of each of the `rows` rows; new values get the next numbers.
    pub(super) fn intern(&mut self, columns: &[ArrayRef], rows: usize, groups: &mut Vec<usize>) -> Result<()> {
        match &mut self.values {
            Some(values) => values.intern(columns, groups).map_err(evaluation_error),
            None => {
                groups.clear();
                groups.resize(rows, 0);
                Ok(())
            }
        }
    }

    /// One more than the highest number.
    pub(super) fn len(&self) -> usize {
        self.values.as_ref().map_or(1, |values| values.len())
    }

    /// The values in the order of their numbers; none is left.
    pub(super) fn take(&mut self) -> Result<Vec<ArrayRef>> {
        self.values.as_mut().map_or(Ok(Vec::new()), |values| values.emit(EmitTo::All).map_err(evaluation_error))
    }

    /// Are so many numbers unused that a new table pays? `used` of them are not, and `rows` have one to be replaced.
    pub(super) fn is_sparse(&self, used: usize, rows: usize) -> bool {
        let unused = self.len().saturating_sub(used);
        self.values.is_some() && unused > used + FEW && unused > rows / 4
    }

    /// Forgets the values whose number is not `alive`. Returns the new number of each old one, [`NO_GROUP`] if forgotten.
    pub(super) fn keep(&mut self, alive: &BooleanArray) -> Result<Vec<u32>> {
        if self.values.is_none() {
            return Ok(vec![0]);
        }
        let columns = self.take()?;
        let kept = columns.iter().map(|column| arrow::compute::filter(column, alive));
        let kept = kept.collect::<Result<Vec<_>, _>>()?;
        self.values = table(&self.schema)?;
        let mut groups = Vec::new();
        self.intern(&kept, alive.true_count(), &mut groups)?;
        let mut groups = groups.into_iter();
        let renumbered = alive.values().iter().map(|alive| if alive { groups.next() } else { None });
        Ok(renumbered.map(|group| group.map_or(NO_GROUP, |group| group as u32)).collect())
    }
}

fn table(schema: &SchemaRef) -> Result<Option<Box<dyn GroupValues>>> {
    if schema.fields().is_empty() {
        return Ok(None);
    }
    let table = new_group_values(Arc::clone(schema), &GroupOrdering::None);
    table.map(Some).map_err(|error| Error::internal(format!("rows cannot be compared: {error}")))
}

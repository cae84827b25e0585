//! Groups and their accumulators.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use laminar_core::Result;

use super::accumulators::{Accumulators, Evaluated};
use crate::operators::evaluation_error;
use crate::operators::groups::Groups;
use crate::operators::rows::evaluate_all;

/// One aggregate of a query: `sum(price) FILTER (WHERE price > 0)`.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    pub function: Arc<AggregateFunctionExpr>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

impl AggregateCall {
    /// Columns of its partial state.
    pub(super) fn state_width(&self) -> Result<usize> {
        Ok(self.function.state_fields().map_err(evaluation_error)?.len())
    }

    /// Is its result the one column of its state?
    pub(super) fn state_is_result(&self) -> Result<bool> {
        let plain = ["count", "sum", "min", "max"].contains(&self.function.fun().name());
        let states = self.function.state_fields().map_err(evaluation_error)?;
        let [state] = states.as_slice() else { return Ok(false) };
        Ok(plain && !self.function.is_distinct() && state.data_type() == self.function.field().data_type())
    }
}

/// What rows are grouped by, and what is computed of each group.
#[derive(Clone, Debug)]
pub struct GroupBy {
    /// Over the input's columns.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// One per key: its name and type.
    pub key_fields: Vec<FieldRef>,
    pub calls: Vec<AggregateCall>,
}

impl GroupBy {
    /// Columns of partial states: `leading`, the keys, then each aggregate's state. All may be null.
    pub fn state_schema(&self, leading: &[FieldRef]) -> Result<SchemaRef> {
        let mut fields: Vec<FieldRef> = leading.to_vec();
        fields.extend(self.key_fields.iter().enumerate().map(|(i, f)| nullable(f, format!("key{i}"))));
        for (i, call) in self.calls.iter().enumerate() {
            let states = call.function.state_fields().map_err(evaluation_error)?;
            fields.extend(states.iter().enumerate().map(|(j, f)| nullable(f, format!("state{i}_{j}"))));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Text that is equal for two that have interchangeable states.
    pub fn fingerprint(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        let call = |c: &AggregateCall| match &c.filter {
            None => c.function.name().to_string(),
            Some(filter) => format!("{} filter {filter}", c.function.name()),
        };
        let calls: Vec<_> = self.calls.iter().map(call).collect();
        format!("{} by {}", calls.join(", "), keys.join(", "))
    }

    pub(super) fn evaluate_keys(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        evaluate_all(&self.keys, rows)
    }
}

fn nullable(field: &FieldRef, name: String) -> FieldRef {
    Arc::new(Field::new(name, field.data_type().clone(), true).with_metadata(field.metadata().clone()))
}

/// Groups by key, each with one accumulator per aggregate.
pub(super) struct GroupTable {
    groups: Groups,
    accumulators: Accumulators,
    /// Group of each row of the batch at hand.
    indices: Vec<usize>,
    len: usize,
}

impl GroupTable {
    /// Without keys there is one group, of all rows.
    pub fn new(keys: &[FieldRef], calls: &[AggregateCall]) -> Result<Self> {
        let groups = Groups::new(keys.iter().map(|field| field.data_type().clone()))?;
        Ok(Self { groups, accumulators: Accumulators::new(calls)?, indices: Vec::new(), len: 0 })
    }

    /// Groups.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Do the aggregates compute anything of a row?
    pub fn compute(&self) -> bool {
        self.accumulators.compute()
    }

    /// What the aggregates take of the rows. Errors: `invalid_value` where it cannot be computed.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<Evaluated> {
        self.accumulators.evaluate(rows)
    }

    /// Adds so many rows; `keys` has one array per key, with an entry per row.
    pub fn update(&mut self, keys: &[ArrayRef], evaluated: &Evaluated, rows: usize) -> Result<()> {
        self.intern(keys, rows)?;
        self.accumulators.update(evaluated, &self.indices, self.len)
    }

    /// Adds partial states: `keys` as in [`GroupTable::update`], `states` the state columns of all aggregates.
    pub fn merge(&mut self, keys: &[ArrayRef], states: &[ArrayRef], rows: usize) -> Result<()> {
        self.intern(keys, rows)?;
        self.accumulators.merge(states, &self.indices, self.len)
    }

    /// Keys and states of all groups; the table is empty then.
    pub fn take_states(&mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = self.take_keys()?;
        columns.extend(self.accumulators.take_states()?);
        Ok(columns)
    }

    /// Keys and results of all groups; the table is empty then.
    pub fn take_results(&mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = self.take_keys()?;
        columns.extend(self.accumulators.take_results()?);
        Ok(columns)
    }

    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        self.len = 0;
        self.groups.take()
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        if rows > 0 {
            self.groups.intern(keys, rows, &mut self.indices)?;
            self.len = self.groups.len();
        }
        Ok(())
    }
}

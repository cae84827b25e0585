//! Groups and their accumulators.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use laminar_core::Result;

use crate::operators::evaluation_error;

/// One aggregate of a query: `sum(price) FILTER (WHERE price > 0)`.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    pub function: Arc<AggregateFunctionExpr>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
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

fn evaluate_all(exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let evaluate = |e: &Arc<dyn PhysicalExpr>| e.evaluate(rows)?.into_array(rows.num_rows());
    exprs.iter().map(evaluate).collect::<Result<_, DataFusionError>>().map_err(evaluation_error)
}

/// Groups by key, each with one accumulator per aggregate.
pub(super) struct GroupTable {
    calls: Vec<AggregateCall>,
    /// Arguments of each aggregate, then what it orders its rows by.
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    /// State columns of each aggregate.
    state_widths: Vec<usize>,
    /// `None`: there is one group, of all rows.
    groups: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// Group of each row of the batch at hand.
    indices: Vec<usize>,
    len: usize,
}

impl GroupTable {
    pub fn new(keys: &[FieldRef], calls: &[AggregateCall]) -> Result<Self> {
        let groups = match keys {
            [] => None,
            keys => {
                let schema = Arc::new(Schema::new(keys.to_vec()));
                Some(new_group_values(schema, &GroupOrdering::None).map_err(evaluation_error)?)
            }
        };
        let arguments = |call: &AggregateCall| {
            let mut arguments = call.function.expressions();
            arguments.extend(call.function.order_bys().iter().map(|order| Arc::clone(&order.expr)));
            arguments
        };
        let widths = calls.iter().map(|call| Ok(call.function.state_fields()?.len()));
        Ok(Self {
            calls: calls.to_vec(),
            arguments: calls.iter().map(arguments).collect(),
            state_widths: widths.collect::<Result<_, DataFusionError>>().map_err(evaluation_error)?,
            groups,
            accumulators: calls.iter().map(accumulator).collect::<Result<_>>()?,
            indices: Vec::new(),
            len: 0,
        })
    }

    /// Groups.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds rows; `keys` has one array per key, with an entry per row.
    pub fn update(&mut self, keys: &[ArrayRef], rows: &RecordBatch) -> Result<()> {
        self.intern(keys, rows.num_rows())?;
        let aggregates = self.accumulators.iter_mut().zip(&self.calls).zip(&self.arguments);
        for ((accumulator, call), arguments) in aggregates {
            let arguments = evaluate_all(arguments, rows)?;
            let filter = match &call.filter {
                Some(filter) => Some(mask(evaluate_all(std::slice::from_ref(filter), rows)?)),
                None => None,
            };
            accumulator.update_batch(&arguments, &self.indices, filter.as_ref(), self.len).map_err(evaluation_error)?;
        }
        Ok(())
    }

    /// Adds partial states: `keys` as in [`GroupTable::update`], `states` the state columns of all aggregates.
    pub fn merge(&mut self, keys: &[ArrayRef], states: &[ArrayRef], rows: usize) -> Result<()> {
        self.intern(keys, rows)?;
        let mut states = states;
        for (accumulator, width) in self.accumulators.iter_mut().zip(&self.state_widths) {
            let Some((own, rest)) = states.split_at_checked(*width) else { break };
            states = rest;
            accumulator.merge_batch(own, &self.indices, self.len).map_err(evaluation_error)?;
        }
        Ok(())
    }

    /// Keys and states of all groups; the table is empty then.
    pub fn take_states(&mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = self.take_keys()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All).map_err(evaluation_error)?);
        }
        Ok(columns)
    }

    /// Keys and results of all groups; the table is empty then.
    pub fn take_results(&mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = self.take_keys()?;
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(EmitTo::All).map_err(evaluation_error)?);
        }
        Ok(columns)
    }

    fn take_keys(&mut self) -> Result<Vec<ArrayRef>> {
        self.len = 0;
        match &mut self.groups {
            Some(groups) => groups.emit(EmitTo::All).map_err(evaluation_error),
            None => Ok(Vec::new()),
        }
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        match &mut self.groups {
            Some(groups) => {
                groups.intern(keys, &mut self.indices).map_err(evaluation_error)?;
                self.len = groups.len();
            }
            None => {
                self.indices.clear();
                self.indices.resize(rows, 0);
                self.len = self.len.max(rows.min(1));
            }
        }
        Ok(())
    }
}

fn accumulator(call: &AggregateCall) -> Result<Box<dyn GroupsAccumulator>> {
    if call.function.groups_accumulator_supported() {
        return call.function.create_groups_accumulator().map_err(evaluation_error);
    }
    let function = Arc::clone(&call.function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

/// NULL is not true.
fn mask(mut evaluated: Vec<ArrayRef>) -> BooleanArray {
    let array =
        evaluated.pop().and_then(|a| a.as_boolean_opt().cloned()).unwrap_or_else(|| BooleanArray::from(vec![false; 0]));
    match array.null_count() {
        0 => array,
        _ => array.iter().map(|value| Some(value == Some(true))).collect(),
    }
}

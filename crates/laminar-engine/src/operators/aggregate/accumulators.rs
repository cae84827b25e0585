//! The accumulators of a query's aggregates, over groups that the caller numbers from 0.
//!
//! DataFusion's rule: a group is new with a row of its own. So of `count` groups each has a row in this call or had one
//! before; an accumulator may take the others for groups of values that are not NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use laminar_core::Result;

use super::table::AggregateCall;
use crate::operators::evaluation_error;
use crate::operators::rows::{as_mask, evaluate, evaluate_all};

pub(super) struct Accumulators {
    calls: Vec<AggregateCall>,
    /// Arguments of each aggregate, then what it orders its rows by.
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    /// State columns of each aggregate.
    widths: Vec<usize>,
    all: Vec<Box<dyn GroupsAccumulator>>,
}

/// Of each aggregate its arguments, with an entry per row, and the rows that it takes.
pub(super) struct Evaluated(Vec<(Vec<ArrayRef>, Option<BooleanArray>)>);

impl Accumulators {
    /// Is anything computed of a row, and not only taken from it?
    pub fn compute(&self) -> bool {
        self.calls.iter().any(|call| call.filter.is_some())
            || self.arguments.iter().flatten().any(|argument| !is_given(argument))
    }

    pub fn new(calls: &[AggregateCall]) -> Result<Self> {
        let arguments = |call: &AggregateCall| {
            let mut arguments = call.function.expressions();
            arguments.extend(call.function.order_bys().iter().map(|order| Arc::clone(&order.expr)));
            arguments
        };
        Ok(Self {
            calls: calls.to_vec(),
            arguments: calls.iter().map(arguments).collect(),
            widths: calls.iter().map(AggregateCall::state_width).collect::<Result<_>>()?,
            all: calls.iter().map(accumulator).collect::<Result<_>>()?,
        })
    }

    /// What the aggregates take of the rows. Errors: `invalid_value` where it cannot be computed.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<Evaluated> {
        let evaluated = self.calls.iter().zip(&self.arguments).map(|(call, arguments)| {
            let filter = call.filter.as_ref().map(|filter| as_mask(evaluate(filter, rows)?)).transpose()?;
            let evaluated = match (evaluate_all(arguments, rows), &filter) {
                // FILTER may leave out just the rows of which they cannot be computed.
                (Err(_), Some(filter)) => evaluate_where(arguments, rows, filter)?,
                (evaluated, _) => evaluated?,
            };
            Ok((evaluated, filter))
        });
        evaluated.collect::<Result<_>>().map(Evaluated)
    }

    /// Adds the rows, each to the group of its number; there are `count` groups.
    pub fn update(&mut self, rows: &Evaluated, groups: &[usize], count: usize) -> Result<()> {
        for (accumulator, (arguments, filter)) in self.all.iter_mut().zip(&rows.0) {
            accumulator.update_batch(arguments, groups, filter.as_ref(), count).map_err(evaluation_error)?;
        }
        Ok(())
    }

    /// Adds partial states: the state columns of all aggregates, an entry a number.
    pub fn merge(&mut self, mut states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        for (accumulator, width) in self.all.iter_mut().zip(&self.widths) {
            let Some((own, rest)) = states.split_at_checked(*width) else { break };
            states = rest;
            accumulator.merge_batch(own, groups, count).map_err(evaluation_error)?;
        }
        Ok(())
    }

    /// The state columns of all aggregates, a row a group; there are no groups then.
    pub fn take_states(&mut self) -> Result<Vec<ArrayRef>> {
        let states = self.all.iter_mut().map(|accumulator| accumulator.state(EmitTo::All));
        Ok(states.collect::<Result<Vec<_>, DataFusionError>>().map_err(evaluation_error)?.concat())
    }

    /// A column for each aggregate, a row a group; there are no groups then.
    pub fn take_results(&mut self) -> Result<Vec<ArrayRef>> {
        let results = self.all.iter_mut().map(|accumulator| accumulator.evaluate(EmitTo::All));
        results.collect::<Result<_, DataFusionError>>().map_err(evaluation_error)
    }
}

/// A column, or the same for all rows.
pub(super) fn is_given(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>().is_some() || expr.downcast_ref::<Literal>().is_some()
}

/// The expressions over the rows for which `mask` is true, NULL for the others.
fn evaluate_where(exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch, mask: &BooleanArray) -> Result<Vec<ArrayRef>> {
    let kept = evaluate_all(exprs, &compute::filter_record_batch(rows, mask)?)?;
    let mut next = 0..;
    let places = mask.values().iter().map(|is_kept| if is_kept { next.next() } else { None });
    let places = UInt32Array::from_iter(places);
    Ok(kept.iter().map(|array| compute::take(array, &places, None)).collect::<Result<_, _>>()?)
}

fn accumulator(call: &AggregateCall) -> Result<Box<dyn GroupsAccumulator>> {
    if call.function.groups_accumulator_supported() {
        return call.function.create_groups_accumulator().map_err(evaluation_error);
    }
    let function = Arc::clone(&call.function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

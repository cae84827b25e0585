//! Combines the rows of one batch for session windows: a run of rows of one key that follow each other within the gap
//! becomes one row of states, with its first and last time.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit};
use laminar_core::Result;

use super::accumulators::Accumulators;
use super::table::GroupBy;
use crate::operators::groups::Groups;
use crate::operators::rows::batch;

/// Columns of the states that a task combines its rows to: first time, last time, the keys, the states.
pub(super) fn state_schema(group_by: &GroupBy) -> Result<SchemaRef> {
    let time =
        |name: &str| -> FieldRef { Arc::new(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true)) };
    group_by.state_schema(&[time("first"), time("last")])
}

struct Run {
    /// One of its rows.
    row: u32,
    first: i64,
    last: i64,
}

/// `keys` and `times` have an entry for each of the `rows`; `schema` is the [`state_schema`].
pub(super) fn combine(
    group_by: &GroupBy,
    keys: &[ArrayRef],
    times: &TimestampMicrosecondArray,
    rows: &RecordBatch,
    gap: i64,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let mut groups = Vec::new();
    Groups::new(group_by.key_fields.iter().map(|f| f.data_type().clone()))?.intern(
        keys,
        rows.num_rows(),
        &mut groups,
    )?;
    let mut order: Vec<(usize, i64, u32)> =
        groups.into_iter().zip(times.values()).zip(0..).map(|((group, time), row)| (group, *time, row)).collect();
    order.sort_unstable();

    let mut run_of = vec![0; rows.num_rows()];
    let mut runs: Vec<Run> = Vec::new();
    let mut previous = None;
    for (group, time, row) in order {
        match runs.last_mut().filter(|run| previous == Some(group) && time.saturating_sub(run.last) < gap) {
            Some(run) => run.last = time,
            None => runs.push(Run { row, first: time, last: time }),
        }
        if let Some(run) = run_of.get_mut(row as usize) {
            *run = runs.len() - 1;
        }
        previous = Some(group);
    }
    let mut accumulators = Accumulators::new(&group_by.calls)?;
    let evaluated = accumulators.evaluate(rows)?;
    accumulators.update(&evaluated, &run_of, runs.len())?;
    let samples = UInt32Array::from_iter_values(runs.iter().map(|run| run.row));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(runs.iter().map(|run| run.first))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(runs.iter().map(|run| run.last))),
    ];
    for key in keys {
        columns.push(take(key, &samples, None)?);
    }
    columns.extend(accumulators.take_states()?);
    batch(schema, columns, runs.len())
}

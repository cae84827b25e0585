//! Rows by key as rows of a checkpoint's log: the versions of a temporal join and what waits for them, and the last rows of an
//! upsert, which has no left side.
//!
//! ```text
//!  op          time    left      right
//!  0 left      12:00   {1, 'a'}  NULL      a left row came
//!  1 version   12:01   NULL      {'a', 2}  the key of this right row has it from then on
//!  2 end       12:02   NULL      {'a', 2}  the key of this right row has none from then on
//! ```
//!
//! Of two of one key and time the later one counts.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int8Array, RecordBatch, RecordBatchOptions, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Int8Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use laminar_core::{Changes, Error, Result};

// Stored on disk, do not change.
const LEFT: i8 = 0;
const VERSION: i8 = 1;
const END: i8 = 2;

/// Writes and reads the log of one join.
pub(super) struct Log {
    left: SchemaRef,
    right: SchemaRef,
    schema: SchemaRef,
}

/// What a part of a log says, in its order.
pub(super) struct Entry {
    pub left: Changes,
    pub right: Changes,
    /// Of each right row: is it a version, or the end of one?
    pub is_there: Vec<bool>,
}

impl Log {
    pub(super) fn new(left: &SchemaRef, right: &SchemaRef) -> Self {
        let row = |name, schema| Field::new(name, DataType::Struct(nullable(schema)), true);
        let schema = Schema::new(vec![
            Field::new("op", DataType::Int8, false),
            Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            row("left", left),
            row("right", right),
        ]);
        Self { left: Arc::clone(left), right: Arc::clone(right), schema: Arc::new(schema) }
    }

    /// These rows came from the left.
    pub(super) fn left(&self, rows: &RecordBatch, times: &[i64]) -> Result<RecordBatch> {
        let none = new_null_array(&DataType::Struct(nullable(&self.right)), rows.num_rows());
        self.encode(vec![LEFT; rows.num_rows()], times, [structs(rows)?, none])
    }

    /// These rows came from the right: versions, or the ends of some.
    pub(super) fn right(
        &self,
        rows: &RecordBatch,
        times: &[i64],
        is_there: impl Fn(usize) -> bool,
    ) -> Result<RecordBatch> {
        let none = new_null_array(&DataType::Struct(nullable(&self.left)), rows.num_rows());
        let ops = (0..rows.num_rows()).map(|row| if is_there(row) { VERSION } else { END }).collect();
        self.encode(ops, times, [none, structs(rows)?])
    }

    fn encode(&self, ops: Vec<i8>, times: &[i64], [left, right]: [ArrayRef; 2]) -> Result<RecordBatch> {
        let times = TimestampMicrosecondArray::from_iter_values(times.iter().copied());
        let columns: Vec<ArrayRef> = vec![Arc::new(Int8Array::from(ops)), Arc::new(times), left, right];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    pub(super) fn read(&self, log: &RecordBatch) -> Result<Entry> {
        let ops = log.column_by_name("op").and_then(|c| c.as_primitive_opt::<Int8Type>()).ok_or_else(unreadable)?;
        let is_left: BooleanArray = ops.values().iter().map(|op| Some(*op == LEFT)).collect();
        let is_right: BooleanArray = ops.values().iter().map(|op| Some(*op != LEFT)).collect();
        Ok(Entry {
            left: rows_of(log, "left", &self.left, &is_left)?,
            right: rows_of(log, "right", &self.right, &is_right)?,
            is_there: ops.values().iter().filter(|op| **op != LEFT).map(|op| *op == VERSION).collect(),
        })
    }
}

fn rows_of(log: &RecordBatch, side: &str, schema: &SchemaRef, chosen: &BooleanArray) -> Result<Changes> {
    let column = |name: &str| log.column_by_name(name).ok_or_else(unreadable);
    let times = filter(column("time")?, chosen)?;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>().cloned().ok_or_else(unreadable)?;
    let rows = column(side)?.as_struct_opt().ok_or_else(unreadable)?;
    let options = RecordBatchOptions::new().with_row_count(Some(log.num_rows()));
    let every = Arc::new(Schema::new(nullable(schema)));
    let rows = RecordBatch::try_new_with_options(every, rows.columns().to_vec(), &options)?;
    let rows = filter_record_batch(&rows, chosen)?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), rows.columns().to_vec(), &options)?;
    Changes::inserts(rows, times)
}

fn structs(rows: &RecordBatch) -> Result<ArrayRef> {
    if rows.num_columns() == 0 {
        return Ok(Arc::new(StructArray::new_empty_fields(rows.num_rows(), None)));
    }
    let fields = nullable(&rows.schema());
    Ok(Arc::new(StructArray::try_new(fields, rows.columns().to_vec(), None)?))
}

fn nullable(schema: &SchemaRef) -> Fields {
    schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect()
}

fn unreadable() -> Error {
    Error::internal("the state of a join with versions is not as such a join writes it")
}

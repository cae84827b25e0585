//! A join's state as rows of a checkpoint's log.
//!
//! ```text
//!  side  op          id   time   matches   left      right
//!  0     0 row       17   12:00  1         {1, 'a'}  NULL      a row that was stored
//!  0     1 matches   17   -      2         NULL      NULL      its number of matches changed
//!  0     2 removed   17   -      -         NULL      NULL      it was deleted, or is not to come back
//! ```
//!
//! That a row expired is not written otherwise: the watermark expires it again after a restore. An id is given once, so the
//! order of the log's rows does not matter, but for that of the matches of one row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int8Array, RecordBatch, StructArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Fields, Int8Type, Schema, SchemaRef, TimeUnit, UInt32Type, UInt64Type};
use laminar_core::{Changes, Error, Result};

use super::super::rows::batch;
use super::sides::{Side, Sides};
use super::store::Store;

// Stored on disk, do not change.
const ROW: i8 = 0;
const MATCHES: i8 = 1;
const REMOVED: i8 = 2;

/// Writes and reads the log of one join.
pub(super) struct JoinLog {
    inputs: Sides<SchemaRef>,
    schema: SchemaRef,
}

/// What one side's part of a log comes to.
pub(super) struct Restored {
    pub rows: Vec<OldRows>,
    /// The highest id that it speaks of, of a row or of one that is gone.
    pub last_id: Option<u64>,
}

/// Stored rows, their ids and matches.
pub(super) struct OldRows {
    pub changes: Changes,
    pub ids: Vec<u64>,
    pub matches: Vec<u32>,
}

#[derive(Default)]
struct Later {
    removed: HashSet<u64>,
    matches: HashMap<u64, u32>,
}

impl JoinLog {
    pub(super) fn new(inputs: Sides<SchemaRef>) -> Self {
        let row = |name, schema: &SchemaRef| Field::new(name, DataType::Struct(nullable(schema)), true);
        let schema = Schema::new(vec![
            Field::new("side", DataType::Int8, false),
            Field::new("op", DataType::Int8, false),
            Field::new("id", DataType::UInt64, false),
            Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("matches", DataType::UInt32, true),
            row("left", &inputs.left),
            row("right", &inputs.right),
        ]);
        Self { inputs, schema: Arc::new(schema) }
    }

    /// All rows of the side.
    pub(super) fn whole(&self, side: Side, store: &Store) -> Result<Vec<RecordBatch>> {
        self.rows(side, store, |_| true)
    }

    /// What changed since [`Store::mark_logged`].
    pub(super) fn delta(&self, side: Side, store: &Store) -> Result<Vec<RecordBatch>> {
        let mut batches = self.rows(side, store, |logged| !logged)?;
        batches.push(self.ids(side, REMOVED, store.removed.clone(), None)?);
        let (mut ids, mut matches) = (Vec::new(), Vec::new());
        for (_, chunk) in store.chunks.iter() {
            let slots = chunk.noted.iter().filter_map(|row| chunk.slots.get(*row as usize));
            for slot in slots.filter(|slot| slot.is_live()) {
                ids.push(slot.id);
                matches.push(slot.matches.count());
            }
        }
        batches.push(self.ids(side, MATCHES, ids, Some(matches))?);
        Ok(batches)
    }

    /// The side's rows as they were at the end of the log.
    pub(super) fn read(&self, side: Side, log: &[RecordBatch]) -> Result<Restored> {
        let mut later = Later::default();
        let mut last_id = None;
        for batch in log {
            let (ops, ids, matches) = (self.ops(side, batch)?, ids(batch)?, matches(batch)?);
            for ((op, id), matches) in ops.into_iter().zip(ids.values()).zip(matches.values()) {
                last_id = last_id.max(op.map(|_| *id));
                match op {
                    Some(MATCHES) => _ = later.matches.insert(*id, *matches),
                    Some(REMOVED) => _ = later.removed.insert(*id),
                    _ => {}
                }
            }
        }
        let rows = log.iter().map(|batch| self.read_rows(side, batch, &later)).collect::<Result<_>>()?;
        Ok(Restored { rows, last_id })
    }

    fn read_rows(&self, side: Side, log: &RecordBatch, later: &Later) -> Result<OldRows> {
        let live = self.ops(side, log)?.into_iter().zip(ids(log)?.values());
        let live = live.map(|(op, id)| Some(op == Some(ROW) && !later.removed.contains(id))).collect::<BooleanArray>();
        let log = compute::filter_record_batch(log, &live)?;
        let name = if side == Side::Left { "left" } else { "right" };
        let rows = log.column_by_name(name).and_then(|column| column.as_struct_opt()).ok_or_else(unreadable)?;
        let rows = batch(self.inputs.of(side), rows.columns().to_vec(), log.num_rows())?;
        let times = log.column_by_name("time").and_then(|times| times.as_primitive_opt()).ok_or_else(unreadable)?;
        let ids = ids(&log)?.values().to_vec();
        let matches = ids.iter().zip(matches(&log)?.values());
        let matches = matches.map(|(id, then)| *later.matches.get(id).unwrap_or(then)).collect();
        Ok(OldRows { changes: Changes::inserts(rows, times.clone())?, ids, matches })
    }

    /// The operation of each of the side's rows.
    fn ops(&self, side: Side, log: &RecordBatch) -> Result<Vec<Option<i8>>> {
        let column = |name| log.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int8Type>());
        let (sides, ops) = (column("side").ok_or_else(unreadable)?, column("op").ok_or_else(unreadable)?);
        let ops = sides.values().iter().zip(ops.values());
        Ok(ops.map(|(of, op)| Some(*op).filter(|_| *of == number(side))).collect())
    }

    fn rows(&self, side: Side, store: &Store, wanted: impl Fn(bool) -> bool) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for (_, chunk) in store.chunks.iter().filter(|(_, chunk)| wanted(!chunk.fresh) || chunk.fresh) {
            let rows = chunk.rows_where(|slot| slot.is_live() && wanted(store.is_logged(slot)));
            let mut slots = rows.iter().filter_map(|row| chunk.slots.get(*row as usize));
            for (part, times) in chunk.select(&rows)? {
                let slots = slots.by_ref().take(part.num_rows());
                let (ids, matches): (Vec<_>, Vec<_>) = slots.map(|slot| (slot.id, slot.matches.count())).unzip();
                batches.push(self.encode(side, ROW, ids, Some(matches), Some((part, times)))?);
            }
        }
        Ok(batches)
    }

    fn ids(&self, side: Side, op: i8, ids: Vec<u64>, matches: Option<Vec<u32>>) -> Result<RecordBatch> {
        self.encode(side, op, ids, matches, None)
    }

    fn encode(
        &self,
        side: Side,
        op: i8,
        ids: Vec<u64>,
        matches: Option<Vec<u32>>,
        stored: Option<(RecordBatch, TimestampMicrosecondArray)>,
    ) -> Result<RecordBatch> {
        let count = ids.len();
        let (rows, times): (_, ArrayRef) = match stored {
            Some((rows, times)) => (Some(rows), Arc::new(times)),
            None => (None, new_null_array(&DataType::Timestamp(TimeUnit::Microsecond, None), count)),
        };
        let struct_of = |of: Side| -> Result<ArrayRef> {
            let fields = nullable(self.inputs.of(of));
            match &rows {
                Some(rows) if of == side && fields.is_empty() => {
                    Ok(Arc::new(StructArray::new_empty_fields(rows.num_rows(), None)))
                }
                Some(rows) if of == side => Ok(Arc::new(StructArray::try_new(fields, rows.columns().to_vec(), None)?)),
                _ => Ok(new_null_array(&DataType::Struct(fields), count)),
            }
        };
        let matches: ArrayRef = match matches {
            Some(matches) => Arc::new(UInt32Array::from(matches)),
            None => new_null_array(&DataType::UInt32, count),
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int8Array::from_value(number(side), count)),
            Arc::new(Int8Array::from_value(op, count)),
            Arc::new(UInt64Array::from(ids)),
            times,
            matches,
            struct_of(Side::Left)?,
            struct_of(Side::Right)?,
        ];
        batch(&self.schema, columns, count)
    }
}

/// Stored on disk, do not change.
fn number(side: Side) -> i8 {
    match side {
        Side::Left => 0,
        Side::Right => 1,
    }
}

fn nullable(schema: &SchemaRef) -> Fields {
    schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect()
}

fn ids(log: &RecordBatch) -> Result<&UInt64Array> {
    log.column_by_name("id").and_then(|c| c.as_primitive_opt::<UInt64Type>()).ok_or_else(unreadable)
}

fn matches(log: &RecordBatch) -> Result<&UInt32Array> {
    log.column_by_name("matches").and_then(|c| c.as_primitive_opt::<UInt32Type>()).ok_or_else(unreadable)
}

fn unreadable() -> Error {
    Error::internal("the state of a join is not as a join writes it")
}

//! Joins with versions: each left row with the right row of its key as that was at the left row's time.
//!
//! Accepts, as input 0, inserts, which wait until the watermark has passed their time: then all versions up to it are here. As
//! input 1, any changes: an insert or update is a new version of its key, a delete the end of the last one. Emits inserts, one
//! a left row at most, with its event time.
//!
//! ```text
//!  right   EUR 1.1          EUR 1.2
//!  time    ──┼──────┼─────────┼───────┼──►
//!  left           order 1          order 2        out: (1, 1.1)  (2, 1.2)
//! ```
//!
//! Of each key the version at the watermark is kept and all later ones. Both sides are in the log as they came; what the
//! watermark has made of them follows from it again when the log is read.

#[cfg(test)]
mod tests;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::OwnedRow;
use async_trait::async_trait;
use datafusion::physical_expr::PhysicalExpr;
use laminar_core::{ChangeKind, Changes, Epoch, Error, Result, TaskId, Watermark};

use self::versions::Versions;
use super::encoding::Encoding;
use super::evaluation_error;
use super::keyed_log::{Entry, Log};
use super::rows::{as_mask, batch, evaluate, evaluate_all};
use crate::operator::{Held, Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::state_log::StateLog;

/// Rows that are emitted in one batch.
const MAX_ROWS: usize = 8192;

/// Two inputs, 0 = left and 1 = right, whose rows with equal keys come to the same instance.
#[derive(Clone, Debug)]
pub struct TemporalJoinFactory {
    pub unmatched: Unmatched,
    /// Over the left input's columns, one for each of the right keys, of its type. A row with a NULL key matches nothing.
    pub left_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Over the right input's columns: which rows are versions of one.
    pub right_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// What a left row and its version must be besides, over the left columns and then the right ones; NULL counts as false.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    pub left_schema: SchemaRef,
    pub right_schema: SchemaRef,
    /// The left columns and then the right ones.
    pub schema: SchemaRef,
    /// A key is forgotten when the watermark is past its last version by more than this.
    pub ttl_micros: Option<i64>,
}

/// What becomes of a left row without a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// It is left out: an inner join.
    Drop,
    /// It is emitted with NULLs: a left join.
    Emit,
}

impl OperatorFactory for TemporalJoinFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        let of_schema =
            |schema: &SchemaRef| Encoding::new(schema.fields().iter().map(|f| f.data_type().clone()).collect());
        let types = self.right_keys.iter().map(|key| key.data_type(&self.right_schema)).collect::<Result<_, _>>();
        Ok(Box::new(TemporalJoin {
            keys: Encoding::new(types.map_err(evaluation_error)?)?,
            left_rows: of_schema(&self.left_schema)?,
            right_rows: of_schema(&self.right_schema)?,
            both: both(&self.left_schema, &self.right_schema),
            waiting: BTreeMap::new(),
            waiting_rows: 0,
            versions: Versions::new(self.ttl_micros),
            released: 0,
            passed: i64::MIN,
            entries: Log::new(&self.left_schema, &self.right_schema),
            log: StateLog::empty(task.index, 1),
            plan: self.clone(),
        }))
    }

    fn fingerprint(&self) -> String {
        let keys = self.left_keys.iter().zip(&self.right_keys).map(|(left, right)| format!("{left} = {right}"));
        let filter = self.filter.as_ref().map(|filter| format!(" and {filter}")).unwrap_or_default();
        let ttl = self.ttl_micros.map(|ttl| format!(" ttl {ttl}us")).unwrap_or_default();
        format!("temporal join {:?} on {}{filter}{ttl}", self.unmatched, keys.collect::<Vec<_>>().join(", "))
    }
}

struct TemporalJoin {
    plan: TemporalJoinFactory,
    keys: Encoding,
    left_rows: Encoding,
    right_rows: Encoding,
    /// Of a left row and its version, for the filter.
    both: SchemaRef,
    /// Left rows by their time; those of one time in the order in which they came.
    waiting: BTreeMap<i64, Vec<LeftRow>>,
    waiting_rows: usize,
    versions: Versions,
    /// Rows that came and are not kept, or not any more; those of `versions` count themselves.
    released: u64,
    /// The watermark: rows from before it were emitted.
    passed: i64,
    entries: Log,
    /// Of the entries that came, and now and then of the whole state.
    log: StateLog,
}

struct LeftRow {
    /// `None`: a part of it is NULL.
    key: Option<OwnedRow>,
    row: OwnedRow,
}

fn both(left: &SchemaRef, right: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(left.fields().iter().chain(right.fields()).cloned().collect::<Vec<_>>()))
}

impl TemporalJoin {
    /// The key of each row; `None` where a part of it is NULL.
    fn keys_of(&self, exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch) -> Result<Vec<Option<OwnedRow>>> {
        let columns = evaluate_all(exprs, rows)?;
        let encoded = self.keys.encode(&columns, rows.num_rows())?;
        let is_null = |row: usize| columns.iter().any(|column| column.is_null(row));
        Ok(encoded.iter().enumerate().map(|(i, key)| (!is_null(i)).then(|| key.owned())).collect())
    }

    fn add_left(&mut self, rows: &RecordBatch, times: &[i64]) -> Result<()> {
        let keys = self.keys_of(&self.plan.left_keys, rows)?;
        let encoded = self.left_rows.encode(rows.columns(), rows.num_rows())?;
        for ((key, row), time) in keys.into_iter().zip(encoded.iter()).zip(times) {
            self.waiting.entry(*time).or_default().push(LeftRow { key, row: row.owned() });
            self.waiting_rows += 1;
        }
        Ok(())
    }

    fn add_right(&mut self, rows: &RecordBatch, times: &[i64], is_there: impl Fn(usize) -> bool) -> Result<()> {
        let keys = self.keys_of(&self.plan.right_keys, rows)?;
        let encoded = self.right_rows.encode(rows.columns(), rows.num_rows())?;
        for (i, ((key, row), time)) in keys.into_iter().zip(encoded.iter()).zip(times).enumerate() {
            match key {
                Some(key) => self.versions.add(key, *time, row.owned(), is_there(i)),
                None => self.released += 1,
            }
        }
        Ok(())
    }

    /// Emits the left rows from before `until`, with their versions.
    fn emit_until(&mut self, until: i64, out: &mut Output) -> Result<()> {
        let later = self.waiting.split_off(&until);
        let ready = std::mem::replace(&mut self.waiting, later);
        let ready: Vec<(i64, LeftRow)> =
            ready.into_iter().flat_map(|(time, rows)| rows.into_iter().map(move |row| (time, row))).collect();
        self.waiting_rows = self.waiting_rows.saturating_sub(ready.len());
        self.released += ready.len() as u64;
        ready.chunks(MAX_ROWS).try_for_each(|rows| self.emit(rows, out))
    }

    fn emit(&self, rows: &[(i64, LeftRow)], out: &mut Output) -> Result<()> {
        let left = self.left_rows.decode(rows.iter().map(|(_, left)| left.row.row()))?;
        let mut found: Vec<&OwnedRow> = Vec::new();
        let matches: UInt32Array = rows
            .iter()
            .map(|(time, left)| {
                found.push(self.versions.at(left.key.as_ref()?, *time)?);
                Some(found.len() as u32 - 1)
            })
            .collect();
        let right = self.right_rows.decode(found.into_iter().map(OwnedRow::row))?;
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(time, _)| *time)));
        let mut columns = left.clone();
        let matches = self.filtered(&left, &right, matches)?;
        columns.extend(right.iter().map(|column| take(column, &matches, None)).collect::<Result<Vec<_>, _>>()?);
        columns.push(times);
        if self.plan.unmatched == Unmatched::Drop && matches.null_count() > 0 {
            let matched = arrow::compute::is_not_null(&matches)?;
            columns = columns.iter().map(|column| filter(column, &matched)).collect::<Result<_, _>>()?;
        }
        let times = columns.pop().and_then(|t| t.as_any().downcast_ref::<TimestampMicrosecondArray>().cloned());
        let times = times.ok_or_else(|| Error::internal("rows without their times"))?;
        let rows = batch(&self.plan.schema, columns, times.len())?;
        out.push(Changes::inserts(rows, times)?);
        Ok(())
    }

    /// Which of `right` each row of `left` is joined with, after the rest of the condition.
    fn filtered(&self, left: &[ArrayRef], right: &[ArrayRef], matches: UInt32Array) -> Result<UInt32Array> {
        let Some(condition) = &self.plan.filter else { return Ok(matches) };
        let pairs: UInt32Array =
            (0..matches.len()).filter(|row| matches.is_valid(*row)).map(|row| row as u32).collect::<Vec<_>>().into();
        let mut columns = left.iter().map(|column| take(column, &pairs, None)).collect::<Result<Vec<ArrayRef>, _>>()?;
        // One version was looked up for each pair, in order.
        columns.extend_from_slice(right);
        let holds = as_mask(evaluate(condition, &batch(&self.both, columns, pairs.len())?)?)?;
        let mut holds = holds.iter();
        Ok(matches.iter().map(|found| found.filter(|_| holds.next().flatten() == Some(true))).collect())
    }

    fn note(&mut self, entry: RecordBatch) {
        self.log.note(entry, self.live());
    }

    /// Rows of the state.
    fn live(&self) -> usize {
        self.waiting_rows + self.versions.len()
    }

    fn pass(&mut self, watermark: i64) {
        self.passed = self.passed.max(watermark);
        self.versions.pass(watermark);
    }

    fn whole(&self) -> Result<Vec<RecordBatch>> {
        let waiting = self.waiting.iter().flat_map(|(time, rows)| rows.iter().map(|left| (*time, &left.row)));
        let (times, rows): (Vec<i64>, Vec<&OwnedRow>) = waiting.unzip();
        let rows =
            batch(&self.plan.left_schema, self.left_rows.decode(rows.iter().map(|row| row.row()))?, times.len())?;
        let mut batches = vec![self.entries.left(&rows, &times)?];
        let times: Vec<i64> = self.versions.all().map(|(time, ..)| time).collect();
        let rows = self.right_rows.decode(self.versions.all().map(|(_, row, _)| row.row()))?;
        let rows = batch(&self.plan.right_schema, rows, times.len())?;
        let is_there: Vec<bool> = self.versions.all().map(|(.., is_there)| is_there).collect();
        batches.push(self.entries.right(&rows, &times, |row| is_there.get(row) == Some(&true))?);
        Ok(batches)
    }

    fn restore(&mut self, entry: Entry) -> Result<()> {
        let Entry { left, right, is_there } = entry;
        let owned = |exprs: &[Arc<dyn PhysicalExpr>], rows: &RecordBatch, log: &StateLog| -> Result<Vec<bool>> {
            if !log.is_inherited() {
                return Ok(vec![true; rows.num_rows()]);
            }
            let keys = evaluate_all(exprs, rows)?;
            Ok(log.is_mine(&keys, rows.num_rows())?.iter().map(|mine| mine == Some(true)).collect())
        };
        let mine = owned(&self.plan.left_keys, left.rows(), &self.log)?;
        let times = left.times().values().iter();
        // Earlier ones were emitted.
        let kept = mine.into_iter().zip(times).map(|(mine, time)| Some(mine && *time >= self.passed)).collect();
        let left = left.filter(&kept)?;
        self.add_left(left.rows(), left.times().values())?;
        let mine: Vec<bool> = owned(&self.plan.right_keys, right.rows(), &self.log)?;
        let kept = mine.iter().map(|mine| Some(*mine)).collect();
        let right = right.filter(&kept)?;
        let is_there: Vec<bool> =
            is_there.into_iter().zip(mine).filter(|(_, mine)| *mine).map(|(there, _)| there).collect();
        self.add_right(right.rows(), right.times().values(), |row| is_there.get(row) == Some(&true))
    }
}

#[async_trait]
impl Operator for TemporalJoin {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        self.passed = ctx.watermark.unwrap_or(i64::MIN);
        for batch in batches {
            let entry = self.entries.read(&batch)?;
            self.restore(entry)?;
        }
        self.pass(self.passed);
        (self.released, self.versions.released) = (0, 0);
        Ok(())
    }

    async fn on_changes(&mut self, input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let (rows, times) = (changes.rows(), changes.times().values());
        if input == 0 {
            self.add_left(rows, times)?;
            self.note(self.entries.left(rows, times)?);
            // A row that was held back before it came here has nothing to wait for.
            return if times.iter().any(|time| *time < self.passed) {
                self.emit_until(self.passed, out)
            } else {
                Ok(())
            };
        }
        // Before an update too: its key may be another one afterwards.
        let is_there = |row: usize| {
            let kind = changes.kinds().map_or(ChangeKind::Insert, |kinds| kinds.get(row));
            matches!(kind, ChangeKind::Insert | ChangeKind::UpdateAfter)
        };
        self.add_right(rows, times, is_there)?;
        self.note(self.entries.right(rows, times, is_there)?);
        Ok(())
    }

    async fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        let Watermark::At(time) = watermark else { return Ok(()) };
        self.emit_until(time, out)?;
        self.pass(time);
        Ok(())
    }

    async fn on_end(&mut self, out: &mut Output) -> Result<()> {
        let last = self.waiting.keys().next_back().map_or(i64::MIN, |time| time.saturating_add(1));
        self.emit_until(last, out)?;
        // The log must not bring back what is emitted here.
        self.log.next_is_whole();
        Ok(())
    }

    fn held(&self) -> Option<Held> {
        Some(Held::rows(self.live(), self.released + self.versions.released))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        if let Some(delta) = self.log.noted(epoch, self.live()) {
            return Ok(delta);
        }
        let whole = self.whole()?;
        Ok(self.log.whole(epoch, whole))
    }
}

//! Aggregation without a window: a group's row is emitted when the group appears and whenever it changes.
//!
//! Accepts the partial states of [`super::partial`] over insert-only rows, routed by key. Emits, for each batch that it takes,
//! an insert for a new group, and for one whose result changed the row before and the row after.
//!
//! ```text
//!  groups   key ─► slot ─► (chunk, row)        chunks   states and results of groups, as they were written
//! ```
//!
//! A group's state is a row in an immutable chunk; a change writes a new row. When most rows are outdated, the chunks are
//! written anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{filter_record_batch, interleave};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use laminar_core::changes::{ChangeKind, Kinds};
use laminar_core::{Changes, Epoch, Error, Result, TaskId, Watermark};

use super::table::{GroupBy, GroupTable};
use crate::operator::{Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::operators::evaluation_error;
use crate::state_log::StateLog;

/// Chunks with fewer outdated rows than this are not written anew.
const MIN_OUTDATED: usize = 65_536;

#[derive(Clone, Debug)]
pub struct UpdatingAggregateFactory {
    /// Its expressions are not used: keys come as columns.
    pub group_by: GroupBy,
    /// Columns of the partial states: the pane, which has no meaning here, the keys, the states.
    pub state_schema: SchemaRef,
    /// The keys, then the results.
    pub schema: SchemaRef,
    /// A group that no row came for in so much event time is forgotten; its row stays where it was emitted to.
    pub ttl_micros: Option<i64>,
}

impl OperatorFactory for UpdatingAggregateFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(UpdatingAggregate {
            groups: Groups::new(self)?,
            plan: self.clone(),
            log: StateLog::empty(task.index, 1),
            fresh: BTreeSet::new(),
            whole_is_due: false,
            next_sweep: i64::MIN,
        }))
    }

    fn fingerprint(&self) -> String {
        format!("updating {}", self.group_by.fingerprint())
    }
}

struct UpdatingAggregate {
    plan: UpdatingAggregateFactory,
    groups: Groups,
    log: StateLog,
    /// Slots that changed since the last snapshot.
    fresh: BTreeSet<usize>,
    /// Slots have other numbers than in the log.
    whole_is_due: bool,
    /// When the watermark is here, old groups are looked for.
    next_sweep: i64,
}

/// The current state and result of each group.
struct Groups {
    /// Key to slot; `None`: there is one group, of all rows.
    slots: Option<Box<dyn GroupValues>>,
    /// Keys, states and results, in columns.
    chunks: Vec<RecordBatch>,
    /// Of each slot.
    places: Vec<Place>,
    rows: usize,
    schema: SchemaRef,
}

#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
    row: usize,
    /// Largest event time of its rows, µs.
    time: i64,
}

impl Groups {
    fn new(plan: &UpdatingAggregateFactory) -> Result<Self> {
        let fields = &plan.group_by.key_fields;
        let slots = match fields.as_slice() {
            [] => None,
            fields => Some(
                new_group_values(Arc::new(Schema::new(fields.to_vec())), &GroupOrdering::None)
                    .map_err(evaluation_error)?,
            ),
        };
        let states = plan.state_schema.fields().iter().skip(1).cloned();
        let results = plan.schema.fields().iter().skip(fields.len());
        let results =
            results.enumerate().map(|(i, f)| Arc::new(Field::new(format!("result{i}"), f.data_type().clone(), true)));
        let schema = Arc::new(Schema::new(states.chain(results).collect::<Vec<_>>()));
        Ok(Self { slots, chunks: Vec::new(), places: Vec::new(), rows: 0, schema })
    }

    /// The slot of each row; a new key gets the next one.
    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Vec<usize>> {
        let mut found = Vec::with_capacity(rows);
        match &mut self.slots {
            Some(slots) => slots.intern(keys, &mut found).map_err(evaluation_error)?,
            None => found.resize(rows, 0),
        }
        Ok(found)
    }

    /// Rows of the slots, in their order.
    fn gather(&self, slots: &[usize]) -> Result<RecordBatch> {
        let places: Vec<(usize, usize)> =
            slots.iter().filter_map(|s| self.places.get(*s)).map(|p| (p.chunk, p.row)).collect();
        gather(&self.chunks, &places, &self.schema)
    }

    /// Writes the slots' new rows; `slots` has one entry per row of `chunk`.
    fn write(&mut self, slots: &[usize], chunk: RecordBatch, time: i64) -> Result<()> {
        let index = self.chunks.len();
        self.rows += chunk.num_rows();
        self.chunks.push(chunk);
        for (row, slot) in slots.iter().enumerate() {
            let place = Place { chunk: index, row, time };
            match self.places.get_mut(*slot) {
                Some(old) => *old = Place { time: old.time.max(time), ..place },
                None => self.places.push(place),
            }
        }
        if self.rows > 2 * self.places.len() + MIN_OUTDATED { self.rewrite() } else { Ok(()) }
    }

    /// Drops outdated rows.
    fn rewrite(&mut self) -> Result<()> {
        let all: Vec<usize> = (0..self.places.len()).collect();
        let rows = self.gather(&all)?;
        self.rows = rows.num_rows();
        self.chunks = vec![rows];
        for (row, place) in self.places.iter_mut().enumerate() {
            *place = Place { chunk: 0, row, ..*place };
        }
        Ok(())
    }
}

fn gather(chunks: &[RecordBatch], places: &[(usize, usize)], schema: &SchemaRef) -> Result<RecordBatch> {
    if places.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    }
    let column = |i: usize| {
        let arrays: Vec<&dyn Array> = chunks.iter().map(|c| c.column(i).as_ref()).collect();
        interleave(&arrays, places)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

impl UpdatingAggregate {
    fn keys(&self) -> usize {
        self.plan.group_by.key_fields.len()
    }

    fn states(&self) -> usize {
        self.plan.state_schema.fields().len().saturating_sub(1 + self.keys())
    }

    fn table(&self) -> Result<GroupTable> {
        GroupTable::new(&self.plan.group_by.key_fields, &self.plan.group_by.calls)
    }

    /// Columns of `rows` from `from` on, `count` of them.
    fn columns(rows: &RecordBatch, from: usize, count: usize) -> &[ArrayRef] {
        rows.columns().get(from..from + count).unwrap_or_default()
    }

    /// Keys, states and results of the groups in `states`, which holds keys and states.
    fn with_results(&self, mut states: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let mut table = self.table()?;
        let (keys, rest) =
            states.split_at_checked(self.keys()).ok_or_else(|| Error::internal("states without keys"))?;
        table.merge(keys, rest, rows)?;
        let results = table.take_results()?;
        states.extend(results.into_iter().skip(self.keys()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.groups.schema), states, &options)?)
    }

    /// Keys and results of rows of the chunks' schema, in the output's.
    fn output(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = Self::columns(rows, 0, self.keys()).to_vec();
        columns.extend_from_slice(rows.columns().get(self.keys() + self.states()..).unwrap_or_default());
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.plan.schema), columns, &options)?)
    }

    /// Rows where a result differs.
    fn differing(&self, before: &RecordBatch, after: &RecordBatch) -> Result<BooleanArray> {
        let mut differs: Option<BooleanArray> = None;
        for i in self.keys() + self.states()..before.num_columns() {
            let (old, new) = (before.column(i), after.column(i));
            let own = match old.data_type().is_nested() {
                false => distinct(old, new)?,
                true => {
                    (0..old.len()).map(|row| Some(old.slice(row, 1).to_data() != new.slice(row, 1).to_data())).collect()
                }
            };
            differs = Some(match differs {
                None => own,
                Some(so_far) => arrow::compute::or(&so_far, &own)?,
            });
        }
        // Without results, as in SELECT DISTINCT, nothing ever changes.
        Ok(differs.unwrap_or_else(|| BooleanArray::from(vec![false; before.num_rows()])))
    }

    /// Forgets groups that have been quiet since before `horizon`.
    fn forget(&mut self, horizon: i64) -> Result<()> {
        let live: Vec<usize> =
            self.groups.places.iter().enumerate().filter(|(_, p)| p.time >= horizon).map(|(slot, _)| slot).collect();
        if live.len() == self.groups.places.len() {
            return Ok(());
        }
        let rows = self.groups.gather(&live)?;
        let times: Vec<i64> = live.iter().filter_map(|s| self.groups.places.get(*s)).map(|p| p.time).collect();
        let mut groups = Groups::new(&self.plan)?;
        let slots = groups.intern(Self::columns(&rows, 0, self.keys()), rows.num_rows())?;
        groups.write(&slots, rows, i64::MIN)?;
        for (place, time) in groups.places.iter_mut().zip(times) {
            place.time = time;
        }
        self.groups = groups;
        // Slots have other numbers now: the next snapshot is whole.
        self.fresh.clear();
        self.whole_is_due = true;
        Ok(())
    }
}

#[async_trait]
impl Operator for UpdatingAggregate {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        let time = ctx.watermark.unwrap_or(i64::MIN);
        for batch in batches {
            let mine = match self.log.is_inherited() {
                false => batch,
                true => {
                    let keys = Self::columns(&batch, 0, self.keys());
                    filter_record_batch(&batch, &self.log.is_mine(keys, batch.num_rows())?)?
                }
            };
            if mine.num_rows() == 0 {
                continue;
            }
            let rows = self.with_results(mine.columns().to_vec(), mine.num_rows())?;
            let slots = self.groups.intern(Self::columns(&rows, 0, self.keys()), rows.num_rows())?;
            self.groups.write(&slots, rows, time)?;
        }
        Ok(())
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let (rows, n) = (changes.rows(), changes.num_rows());
        let time = changes.times().values().iter().copied().max().unwrap_or(i64::MIN);
        let keys = Self::columns(rows, 1, self.keys());
        let known = self.groups.places.len();
        let slots = self.groups.intern(keys, n)?;
        // The groups in the order in which the table below numbers them: known ones first.
        let mut seen = vec![false; slots.iter().max().map_or(0, |max| max + 1)];
        let mut first_seen = |slot: &usize| seen.get_mut(*slot).is_some_and(|seen| !std::mem::replace(seen, true));
        let (old, new): (Vec<usize>, Vec<usize>) =
            slots.iter().copied().filter(|s| first_seen(s)).partition(|s| *s < known);

        let before = self.groups.gather(&old)?;
        let mut table = self.table()?;
        if !old.is_empty() {
            let states = Self::columns(&before, self.keys(), self.states());
            table.merge(Self::columns(&before, 0, self.keys()), states, old.len())?;
        }
        table.merge(keys, Self::columns(rows, 1 + self.keys(), self.states()), n)?;
        let groups = table.len();
        let after = self.with_results(table.take_states()?, groups)?;

        self.emit(&before, &after, time, out)?;
        let written: Vec<usize> = old.into_iter().chain(new).collect();
        if !self.whole_is_due {
            self.fresh.extend(written.iter().copied());
        }
        self.groups.write(&written, after, time)
    }

    async fn on_watermark(&mut self, watermark: Watermark, _out: &mut Output) -> Result<()> {
        let (Watermark::At(now), Some(ttl)) = (watermark, self.plan.ttl_micros) else { return Ok(()) };
        if self.next_sweep == i64::MIN {
            // Restored from a checkpoint that had no watermark yet: they count from now.
            let unknown = self.groups.places.iter_mut().filter(|place| place.time == i64::MIN);
            unknown.for_each(|place| place.time = now);
        }
        if now >= self.next_sweep {
            self.next_sweep = now.saturating_add(ttl / 4 + 1);
            self.forget(now.saturating_sub(ttl))?;
        }
        Ok(())
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        let fresh: Vec<usize> = std::mem::take(&mut self.fresh).into_iter().collect();
        let live = self.groups.places.len();
        let due = std::mem::take(&mut self.whole_is_due);
        let whole = due || self.log.wants_whole(live, fresh.len());
        let slots = if whole { (0..live).collect() } else { fresh };
        let rows = self.groups.gather(&slots)?;
        let states = rows.project(&(0..self.keys() + self.states()).collect::<Vec<_>>())?;
        Ok(if whole { self.log.whole(epoch, vec![states]) } else { self.log.delta(epoch, vec![states]) })
    }
}

impl UpdatingAggregate {
    /// `before` has the old rows of the first groups of `after`.
    fn emit(&self, before: &RecordBatch, after: &RecordBatch, time: i64, out: &mut Output) -> Result<()> {
        let known = before.num_rows();
        let differs = self.differing(before, &after.slice(0, known))?;
        let mut order = Vec::new();
        let mut kinds = Vec::new();
        for row in (0..known).filter(|row| differs.value(*row)) {
            order.extend([(0, row), (1, row)]);
            kinds.extend([ChangeKind::UpdateBefore, ChangeKind::UpdateAfter]);
        }
        let changed = !order.is_empty();
        order.extend((known..after.num_rows()).map(|row| (1, row)));
        kinds.resize(order.len(), ChangeKind::Insert);
        if order.is_empty() {
            return Ok(());
        }
        let rows = gather(&[self.output(before)?, self.output(after)?], &order, &self.plan.schema)?;
        let times = TimestampMicrosecondArray::from_value(time, rows.num_rows());
        out.push(Changes::new(rows, times, changed.then(|| kinds.into_iter().collect::<Kinds>()))?);
        Ok(())
    }
}

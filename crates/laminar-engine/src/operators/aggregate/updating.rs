//! Aggregation without a window: a group's row is emitted when the group appears and whenever it changes.
//!
//! Accepts the partial states of [`super::partial`] over insert-only rows, routed by key. Emits, for each batch that it takes,
//! an insert for a new group, and for one whose result changed the row before and the row after.
//!
//! ```text
//!  key ─► group ─► row of states and results        a batch: the groups that it touches are numbered 0, 1 …, old ones first,
//!                                                   their states merged with those that came, and written back
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use async_trait::async_trait;
use laminar_core::changes::{ChangeKind, Kinds};
use laminar_core::{Changes, Epoch, Error, Result, TaskId, Watermark};

use super::accumulators::Accumulators;
use super::slots::{PIECE_ROWS, Slots};
use super::table::{AggregateCall, GroupBy};
use crate::operator::{Held, Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::operators::groups::Groups;
use crate::operators::rows::{batch, gather};
use crate::state_log::StateLog;

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
        let layout = Layout::new(self)?;
        Ok(Box::new(UpdatingAggregate {
            plan: self.clone(),
            groups: self.groups()?,
            rows: Slots::new(Arc::clone(&layout.schema)),
            notes: Vec::new(),
            layout,
            log: StateLog::empty(task.index, 1),
            fresh: Vec::new(),
            next_sweep: i64::MIN,
        }))
    }

    fn fingerprint(&self) -> String {
        format!("updating {}", self.group_by.fingerprint())
    }
}

impl UpdatingAggregateFactory {
    fn groups(&self) -> Result<Groups> {
        Groups::new(self.group_by.key_fields.iter().map(|field| field.data_type().clone()))
    }
}

/// The columns of a group's row: keys, states, and the results that are not a state themselves.
struct Layout {
    keys: usize,
    states: usize,
    schema: SchemaRef,
    /// Of each aggregate, the column with its result.
    results: Vec<usize>,
    /// Aggregates whose results are columns of their own, and the states of each.
    computed: Vec<(AggregateCall, std::ops::Range<usize>)>,
}

impl Layout {
    fn new(plan: &UpdatingAggregateFactory) -> Result<Self> {
        let keys = plan.group_by.key_fields.len();
        let mut fields: Vec<_> = plan.state_schema.fields().iter().skip(1).cloned().collect();
        let states = fields.len() - keys;
        let (mut results, mut computed) = (Vec::new(), Vec::new());
        let mut at = keys;
        for call in &plan.group_by.calls {
            let own = at..at + call.state_width()?;
            if call.state_is_result()? {
                results.push(at);
            } else {
                results.push(fields.len());
                let result = call.function.field().data_type().clone();
                fields.push(Arc::new(Field::new(format!("result{at}"), result, true)));
                computed.push((call.clone(), own.clone()));
            }
            at = own.end;
        }
        Ok(Self { keys, states, schema: Arc::new(Schema::new(fields)), results, computed })
    }
}

struct UpdatingAggregate {
    plan: UpdatingAggregateFactory,
    layout: Layout,
    /// Key to group.
    groups: Groups,
    /// Of each group.
    rows: Slots,
    notes: Vec<Note>,
    log: StateLog,
    /// Groups that changed since the last snapshot.
    fresh: Vec<usize>,
    /// When the watermark is here, old groups are looked for.
    next_sweep: i64,
}

/// What is remembered of a group.
#[derive(Clone, Copy)]
struct Note {
    /// Largest event time of its rows, µs.
    time: i64,
    is_fresh: bool,
    /// Its number in the batch at hand.
    number: usize,
}

const NEW: Note = Note { time: i64::MIN, is_fresh: false, number: NO_NUMBER };
const NO_NUMBER: usize = usize::MAX;

/// The groups that a batch touches.
struct Touched {
    /// Those that were there before, then the others; their numbers are their places here.
    groups: Vec<usize>,
    /// How many were there before.
    old: usize,
    /// A row of the batch for each.
    samples: UInt32Array,
    /// The number of each row's group.
    numbers: Vec<usize>,
}

impl UpdatingAggregate {
    fn columns(rows: &RecordBatch, from: usize, count: usize) -> &[ArrayRef] {
        rows.columns().get(from..from + count).unwrap_or_default()
    }

    fn touch(&mut self, keys: &[ArrayRef], rows: usize) -> Result<Touched> {
        let mut of_rows = Vec::with_capacity(rows);
        self.groups.intern(keys, rows, &mut of_rows)?;
        let known = self.notes.len();
        let end = of_rows.iter().max().map_or(0, |max| max + 1);
        self.notes.resize(known.max(end), NEW);

        let (mut groups, mut samples) = (Vec::new(), Vec::new());
        let mut old = 0;
        for is_old in [true, false] {
            for (row, group) in of_rows.iter().enumerate().filter(|(_, group)| (**group < known) == is_old) {
                let Some(note) = self.notes.get_mut(*group).filter(|note| note.number == NO_NUMBER) else { continue };
                note.number = groups.len();
                groups.push(*group);
                samples.push(row as u32);
            }
            old = if is_old { groups.len() } else { old };
        }
        let number = |group: &usize| self.notes.get(*group).map_or(0, |note| note.number);
        let numbers = of_rows.iter().map(number).collect();
        for group in &groups {
            if let Some(note) = self.notes.get_mut(*group) {
                note.number = NO_NUMBER;
            }
        }
        Ok(Touched { groups, old, samples: samples.into(), numbers })
    }

    /// Rows of the groups in `columns`, which are keys and states: the results are added.
    fn with_results(&self, mut columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let numbers: Vec<usize> = (0..rows).collect();
        for (call, states) in &self.layout.computed {
            let mut accumulator = Accumulators::new(std::slice::from_ref(call))?;
            accumulator.merge(columns.get(states.clone()).unwrap_or_default(), &numbers, rows)?;
            columns.extend(accumulator.take_results()?);
        }
        batch(&self.layout.schema, columns, rows)
    }

    /// The output for groups: their keys, and their results among `values`, which are the columns behind the keys.
    fn output(&self, keys: &[ArrayRef], values: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let results = self.layout.results.iter().filter_map(|at| values.get(at - self.layout.keys));
        batch(&self.plan.schema, keys.iter().chain(results).cloned().collect(), rows)
    }

    /// Emits what the groups are now; `before` has the values of the first of them, as they were.
    fn emit(&self, before: &RecordBatch, after: &RecordBatch, time: i64, out: &mut Output) -> Result<()> {
        let known = before.num_rows();
        let keys = Self::columns(after, 0, self.layout.keys);
        let known_keys: Vec<ArrayRef> = keys.iter().map(|key| key.slice(0, known)).collect();
        let before = self.output(&known_keys, before.columns(), known)?;
        let values = after.columns().get(self.layout.keys..).unwrap_or_default();
        let after = self.output(keys, values, after.num_rows())?;

        let differs = differing(&before, &after.slice(0, known), self.layout.keys)?;
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
        let rows = match changed {
            true => gather(&[&before, &after], 0, &order, &self.plan.schema)?,
            false => after.slice(known, after.num_rows() - known),
        };
        let times = TimestampMicrosecondArray::from_value(time, rows.num_rows());
        out.push(Changes::new(rows, times, changed.then(|| kinds.into_iter().collect::<Kinds>()))?);
        Ok(())
    }

    /// Writes the groups' rows.
    fn write(&mut self, groups: Vec<usize>, rows: RecordBatch, time: i64) -> Result<()> {
        for group in &groups {
            let Some(note) = self.notes.get_mut(*group) else { continue };
            note.time = note.time.max(time);
            if !std::mem::replace(&mut note.is_fresh, true) {
                self.fresh.push(*group);
            }
        }
        self.rows.put(groups, rows)
    }

    /// Keys, states and times of the groups, in pieces, as they are logged.
    fn logged(&self, groups: &[usize]) -> Result<Vec<RecordBatch>> {
        let width = self.layout.keys + self.layout.states;
        let mut fields = self.layout.schema.fields().get(..width).unwrap_or_default().to_vec();
        fields.push(Arc::new(Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), false)));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let piece = |groups: &[usize]| {
            let mut columns = Self::columns(&self.rows.get(groups)?, 0, width).to_vec();
            let times = groups.iter().filter_map(|group| self.notes.get(*group)).map(|note| note.time);
            columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(times)));
            batch(&schema, columns, groups.len())
        };
        groups.chunks(PIECE_ROWS).map(piece).collect()
    }

    /// Takes rows of the log, which has each group once an epoch.
    fn restore(&mut self, logged: &RecordBatch) -> Result<()> {
        let Some((times, columns)) = logged.columns().split_last() else { return Ok(()) };
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| Error::internal("groups in a log without their times"))?;
        let rows = self.with_results(columns.to_vec(), logged.num_rows())?;
        let touched = self.touch(Self::columns(&rows, 0, self.layout.keys), rows.num_rows())?;
        for (group, sample) in touched.groups.iter().zip(touched.samples.values()) {
            let time = times.values().get(*sample as usize);
            if let (Some(note), Some(time)) = (self.notes.get_mut(*group), time) {
                note.time = note.time.max(*time);
            }
        }
        let rows = take_record_batch(&rows, &touched.samples)?;
        self.write(touched.groups, rows, i64::MIN)
    }

    /// Forgets groups that have been quiet since before `horizon`.
    fn forget(&mut self, horizon: i64) -> Result<()> {
        let live: Vec<usize> =
            (0..self.notes.len()).filter(|g| self.notes.get(*g).is_some_and(|n| n.time >= horizon)).collect();
        if live.len() == self.notes.len() {
            return Ok(());
        }
        let rows = self.rows.get(&live)?;
        self.groups = self.plan.groups()?;
        let mut groups = Vec::new();
        self.groups.intern(Self::columns(&rows, 0, self.layout.keys), rows.num_rows(), &mut groups)?;
        self.notes =
            live.iter().filter_map(|group| self.notes.get(*group)).map(|n| Note { time: n.time, ..NEW }).collect();
        self.rows = Slots::new(Arc::clone(&self.layout.schema));
        self.rows.put(groups, rows)?;
        // Groups have other numbers now.
        self.fresh.clear();
        self.log.next_is_whole();
        Ok(())
    }
}

/// Rows where a column from `first` on differs.
fn differing(before: &RecordBatch, after: &RecordBatch, first: usize) -> Result<BooleanArray> {
    let mut differs: Option<BooleanArray> = None;
    for (old, new) in before.columns().iter().zip(after.columns()).skip(first) {
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

#[async_trait]
impl Operator for UpdatingAggregate {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        for batch in batches {
            let keys = Self::columns(&batch, 0, self.layout.keys).to_vec();
            let mine = self.log.own(batch, &keys)?;
            if mine.num_rows() == 0 {
                continue;
            }
            self.restore(&mine)?;
        }
        self.notes.iter_mut().for_each(|note| note.is_fresh = false);
        self.fresh.clear();
        Ok(())
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let (rows, n) = (changes.rows(), changes.num_rows());
        let time = changes.times().values().iter().copied().max().unwrap_or(i64::MIN);
        let (keys, states) = (self.layout.keys, self.layout.states);
        let touched = self.touch(Self::columns(rows, 1, keys), n)?;
        let count = touched.groups.len();
        let (old, _) = touched.groups.split_at_checked(touched.old).unwrap_or_default();

        let before = self.rows.get_from(keys, old)?;
        let mut accumulators = Accumulators::new(&self.plan.group_by.calls)?;
        accumulators.merge(Self::columns(&before, 0, states), &(0..old.len()).collect::<Vec<_>>(), old.len())?;
        accumulators.merge(Self::columns(rows, 1 + keys, states), &touched.numbers, count)?;
        let mut columns = Vec::new();
        for key in Self::columns(rows, 1, keys) {
            columns.push(take(key, &touched.samples, None)?);
        }
        columns.extend(accumulators.take_states()?);
        let after = self.with_results(columns, count)?;

        self.emit(&before, &after, time, out)?;
        self.write(touched.groups, after, time)
    }

    async fn on_watermark(&mut self, watermark: Watermark, _out: &mut Output) -> Result<()> {
        let (Watermark::At(now), Some(ttl)) = (watermark, self.plan.ttl_micros) else { return Ok(()) };
        if now >= self.next_sweep {
            self.next_sweep = now.saturating_add(ttl / 4 + 1);
            self.forget(now.saturating_sub(ttl))?;
        }
        Ok(())
    }

    fn held(&self) -> Option<Held> {
        Some(Held::groups(self.rows.len()))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        let fresh = std::mem::take(&mut self.fresh);
        for group in &fresh {
            if let Some(note) = self.notes.get_mut(*group) {
                note.is_fresh = false;
            }
        }
        if self.log.wants_whole(self.rows.len(), fresh.len()) {
            let all = self.logged(&self.rows.in_use())?;
            return Ok(self.log.whole(epoch, all));
        }
        let changed = self.logged(&fresh)?;
        Ok(self.log.delta(epoch, changed))
    }
}

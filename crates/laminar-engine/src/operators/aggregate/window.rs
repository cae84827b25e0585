//! Windowed aggregation: one row a group and window, once the watermark has passed the window's end.
//!
//! Accepts the partial states of [`super::partial`], routed by key. Emits insert-only rows; their event time is the last
//! moment of their window, so windows nest.
//!
//! Windows that overlap share panes. A closed pane becomes one immutable batch of states, the leaf of a tree whose inner
//! nodes are merged once, when a window first needs them: a window of n panes is merged from at most 2 log n batches.
//!
//! ```text
//!  level 2   [     0..4      ]                 window 1..7 = pane 1, node 2..4, node 4..6, pane 6
//!  level 1   [ 0..2 ][ 2..4 ][ 4..6 ]
//!  panes     [0][1]  [2][3]  [4][5]  [6]
//! ```
//!
//! A state that arrives for a pane that has closed is late, and dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use laminar_core::{Changes, Epoch, Error, Result, TaskId, Watermark};

use super::span::{Span, floor, window_column};
use super::table::{GroupBy, GroupTable};
use crate::operator::{Held, Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::operators::rows::batch;
use crate::state_log::StateLog;

#[derive(Clone, Debug)]
pub struct WindowAggregateFactory {
    pub span: Span,
    /// Its expressions are not used: keys come as columns.
    pub group_by: GroupBy,
    /// Where the window stands among the output's columns; `None`: it is not one of them, or it is a key (given windows).
    pub window_at: Option<usize>,
    /// Columns of the partial states: the pane, the keys, the states.
    pub state_schema: SchemaRef,
    /// Keys, with the window among them, then the results.
    pub schema: SchemaRef,
}

impl WindowAggregateFactory {
    /// Columns of the partial states by which they are routed: all states of one window's group meet.
    pub fn routed_by(span: Span, keys: usize) -> Vec<usize> {
        match (keys, span) {
            (0, Span::Tumble { .. } | Span::Given) => vec![0],
            (keys, _) => (1..=keys).collect(),
        }
    }
}

impl OperatorFactory for WindowAggregateFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(WindowAggregate {
            plan: self.clone(),
            panes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            closed: i64::MIN,
            log: StateLog::empty(task.index, 1),
        }))
    }

    fn fingerprint(&self) -> String {
        format!("window {:?} {}", self.span, self.group_by.fingerprint())
    }
}

struct WindowAggregate {
    plan: WindowAggregateFactory,
    /// By start; for given windows by the window's end.
    panes: BTreeMap<i64, Pane>,
    /// Merged states of 2^level panes from index × 2^level on, by (level, index); level is at least 1.
    nodes: BTreeMap<(u32, i64), Option<States>>,
    /// The watermark: panes that end here or before are closed.
    closed: i64,
    /// Of the states that came, and now and then of all panes.
    log: StateLog,
}

enum Pane {
    Open(GroupTable),
    Closed(States),
}

/// Keys, then states, one row a group.
#[derive(Clone)]
struct States {
    columns: Vec<ArrayRef>,
    rows: usize,
}

impl Pane {
    fn rows(&self) -> usize {
        match self {
            Self::Open(table) => table.len(),
            Self::Closed(states) => states.rows,
        }
    }
}

impl WindowAggregate {
    fn table(&self) -> Result<GroupTable> {
        GroupTable::new(&self.plan.group_by.key_fields, &self.plan.group_by.calls)
    }

    fn end_of(&self, pane: i64) -> i64 {
        match self.plan.span {
            Span::Given => pane,
            span => pane.saturating_add(span.pane()),
        }
    }

    /// Adds partial states to their panes.
    fn merge(&mut self, states: &RecordBatch) -> Result<()> {
        let panes = pane_column(states)?;
        let (Some(first), Some(last)) = (panes.first(), panes.last()) else { return Ok(()) };
        if panes.iter().all(|pane| pane == first) {
            return self.merge_pane(*first, states);
        }
        let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::from([(*last, Vec::new())]);
        for (row, pane) in panes.iter().enumerate() {
            rows.entry(*pane).or_default().push(row as u32);
        }
        for (pane, rows) in rows {
            self.merge_pane(pane, &take_record_batch(states, &UInt32Array::from(rows))?)?;
        }
        Ok(())
    }

    fn merge_pane(&mut self, pane: i64, states: &RecordBatch) -> Result<()> {
        let fresh = self.table()?;
        let keys = self.plan.group_by.key_fields.len();
        let entry = self.panes.entry(pane).or_insert(Pane::Open(fresh));
        let Pane::Open(table) = entry else { return Err(Error::internal("a closed pane got rows")) };
        let (keys, states_of) = split(states, keys)?;
        table.merge(keys, states_of, states.num_rows())
    }

    /// Emits what closes with the watermark.
    fn close(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        match self.plan.span {
            Span::Tumble { .. } | Span::Given => self.close_panes(watermark, out)?,
            Span::Session { .. } | Span::Unbounded => {}
            Span::Hop { .. } | Span::Cumulate { .. } | Span::Growing { .. } => self.close_windows(watermark, out)?,
        }
        self.closed = self.closed.max(watermark);
        Ok(())
    }

    /// Each pane is a window.
    fn close_panes(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        while let Some(first) = self.panes.first_entry() {
            let pane = *first.key();
            let end = match self.plan.span {
                Span::Given => pane,
                span => pane.saturating_add(span.pane()),
            };
            if end > watermark {
                break;
            }
            if let Pane::Open(table) = first.remove() {
                self.emit((pane, end), table, out)?;
            }
        }
        Ok(())
    }

    fn close_windows(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let (span, pane) = (self.plan.span, self.plan.span.pane());
        let Some(first) = self.panes.keys().next() else { return Ok(()) };
        let mut end = floor(self.closed.max(*first), pane).saturating_add(pane);
        while end <= watermark {
            let Some(first) = self.panes.keys().next().copied() else { break };
            if first >= end {
                // Nothing happened for a while.
                end = first.saturating_add(pane);
                continue;
            }
            self.seal(end.saturating_sub(pane))?;
            for (start, end) in span.ending_at(end) {
                if self.is_as_before(end, start) {
                    continue;
                }
                let table = self.window(start.div_euclid(pane), end.div_euclid(pane))?;
                self.emit((start, end), table, out)?;
            }
            self.forget(end);
            end = end.saturating_add(pane);
        }
        Ok(())
    }

    /// Did no row come since the window was last looked at? At its end it is looked at in any case.
    fn is_as_before(&self, end: i64, start: i64) -> bool {
        let span = self.plan.span;
        let Some(before) = span.look_before(end).filter(|_| span.ends_of_look(start, end).all(|e| e != end)) else {
            return false;
        };
        self.panes.range(before.max(start)..end).next().is_none()
    }

    /// Turns the pane, if there is one, into a batch of states.
    fn seal(&mut self, pane: i64) -> Result<()> {
        if let Some(entry) = self.panes.get_mut(&pane)
            && let Pane::Open(table) = entry
        {
            let rows = table.len();
            *entry = Pane::Closed(States { columns: table.take_states()?, rows });
        }
        Ok(())
    }

    /// The groups of the closed panes with these indices.
    fn window(&mut self, from: i64, to: i64) -> Result<GroupTable> {
        let mut table = self.table()?;
        let mut at = from;
        while at < to {
            let largest = (to - at).ilog2();
            let level = largest.min(at.trailing_zeros());
            if let Some(states) = self.node(level, at >> level)? {
                merge_states(&mut table, &states, self.plan.group_by.key_fields.len())?;
            }
            at += 1 << level;
        }
        Ok(table)
    }

    fn node(&mut self, level: u32, index: i64) -> Result<Option<States>> {
        if level == 0 {
            return Ok(match self.panes.get(&index.saturating_mul(self.plan.span.pane())) {
                Some(Pane::Closed(states)) => Some(states.clone()),
                _ => None,
            });
        }
        if let Some(node) = self.nodes.get(&(level, index)) {
            return Ok(node.clone());
        }
        let children = [self.node(level - 1, index * 2)?, self.node(level - 1, index * 2 + 1)?];
        let node = match children {
            [Some(left), Some(right)] => {
                let mut table = self.table()?;
                for states in [left, right] {
                    merge_states(&mut table, &states, self.plan.group_by.key_fields.len())?;
                }
                let rows = table.len();
                Some(States { columns: table.take_states()?, rows })
            }
            [one, other] => one.or(other),
        };
        self.nodes.insert((level, index), node.clone());
        Ok(node)
    }

    /// Drops what no window that ends after `end` needs.
    fn forget(&mut self, end: i64) {
        let (span, pane) = (self.plan.span, self.plan.span.pane());
        while let Some(first) = self.panes.first_entry() {
            if span.last_end(*first.key()) > end {
                break;
            }
            first.remove();
        }
        self.nodes.retain(|(level, index), _| {
            let last_pane = ((index + 1) << level).saturating_sub(1).saturating_mul(pane);
            span.last_end(last_pane) > end
        });
    }

    fn emit(&self, (start, end): (i64, i64), mut table: GroupTable, out: &mut Output) -> Result<()> {
        let rows = table.len();
        if rows == 0 {
            return Ok(());
        }
        let mut columns = table.take_results()?;
        if let Some(at) = self.plan.window_at {
            columns.insert(at.min(columns.len()), window_column(start, end, rows));
        }
        let batch = batch(&self.plan.schema, columns, rows)?;
        let times = TimestampMicrosecondArray::from_value(end.saturating_sub(1), rows);
        out.push(Changes::inserts(batch, times)?);
        Ok(())
    }

    /// The states of the panes that have not closed.
    fn not_late(&self, states: &RecordBatch) -> Result<Option<RecordBatch>> {
        let panes = pane_column(states)?;
        if panes.iter().all(|pane| self.end_of(*pane) > self.closed) {
            return Ok(None);
        }
        let kept: BooleanArray = panes.iter().map(|pane| Some(self.end_of(*pane) > self.closed)).collect();
        Ok(Some(filter_record_batch(states, &kept)?))
    }

    fn live_rows(&self) -> usize {
        self.panes.values().map(Pane::rows).sum()
    }

    /// All panes as one row a group. Open tables are emptied by it, so they are filled again.
    fn whole(&mut self) -> Result<Vec<RecordBatch>> {
        let keys = self.plan.group_by.key_fields.len();
        let mut batches = Vec::new();
        let starts: Vec<i64> = self.panes.keys().copied().collect();
        for start in starts {
            let states = match self.panes.get_mut(&start) {
                Some(Pane::Open(table)) => {
                    let rows = table.len();
                    States { columns: table.take_states()?, rows }
                }
                Some(Pane::Closed(states)) => states.clone(),
                None => continue,
            };
            if matches!(self.panes.get(&start), Some(Pane::Open(_))) {
                let mut table = self.table()?;
                merge_states(&mut table, &states, keys)?;
                self.panes.insert(start, Pane::Open(table));
            }
            let mut columns: Vec<ArrayRef> = vec![Arc::new(TimestampMicrosecondArray::from_value(start, states.rows))];
            columns.extend(states.columns);
            batches.push(RecordBatch::try_new(Arc::clone(&self.plan.state_schema), columns)?);
        }
        Ok(batches)
    }
}

#[async_trait]
impl Operator for WindowAggregate {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        self.closed = ctx.watermark.unwrap_or(i64::MIN);
        for batch in batches {
            let routed = WindowAggregateFactory::routed_by(self.plan.span, self.plan.group_by.key_fields.len());
            let keys: Vec<ArrayRef> = routed.iter().map(|i| Arc::clone(batch.column(*i))).collect();
            let mine = self.log.own(batch, &keys)?;
            self.restore(&mine)?;
        }
        let closed: Vec<i64> = self.panes.keys().copied().filter(|pane| self.end_of(*pane) <= self.closed).collect();
        closed.into_iter().try_for_each(|pane| self.seal(pane))
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, _out: &mut Output) -> Result<()> {
        let states = match self.not_late(changes.rows())? {
            Some(kept) => kept,
            None => changes.rows().clone(),
        };
        self.merge(&states)?;
        self.log.note(states, self.live_rows());
        Ok(())
    }

    async fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        match watermark {
            Watermark::At(time) if time > self.closed => self.close(time, out),
            _ => Ok(()),
        }
    }

    async fn on_end(&mut self, out: &mut Output) -> Result<()> {
        // The log must not bring back what is emitted here.
        self.log.next_is_whole();
        self.close(i64::MAX, out)
    }

    fn held(&self) -> Option<Held> {
        Some(Held::groups(self.live_rows()))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        if let Some(delta) = self.log.noted(epoch, self.live_rows()) {
            return Ok(delta);
        }
        let whole = self.whole()?;
        Ok(self.log.whole(epoch, whole))
    }
}

impl WindowAggregate {
    /// States of a log, in which panes may stand whose last window was emitted since.
    fn restore(&mut self, states: &RecordBatch) -> Result<()> {
        let span = self.plan.span;
        let needed: BooleanArray =
            pane_column(states)?.iter().map(|pane| Some(span.last_end(*pane) > self.closed)).collect();
        self.merge(&filter_record_batch(states, &needed)?)
    }
}

fn merge_states(table: &mut GroupTable, states: &States, keys: usize) -> Result<()> {
    let (keys, rest) = states.columns.split_at_checked(keys).ok_or_else(|| Error::internal("states without keys"))?;
    table.merge(keys, rest, states.rows)
}

/// Keys and states of a batch of partial states.
fn split(states: &RecordBatch, keys: usize) -> Result<(&[ArrayRef], &[ArrayRef])> {
    let without_pane = states.columns().get(1..).unwrap_or_default();
    without_pane.split_at_checked(keys).ok_or_else(|| Error::internal("states without keys"))
}

fn pane_column(states: &RecordBatch) -> Result<&[i64]> {
    let column = states.columns().first().and_then(|c| c.as_any().downcast_ref::<TimestampMicrosecondArray>());
    Ok(column.ok_or_else(|| Error::internal("states without a pane"))?.values())
}

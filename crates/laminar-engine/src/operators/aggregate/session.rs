//! Session windows: rows of a key that follow each other within the gap.
//!
//! ```text
//!  rows of a key   x x  x        x x          gap = 4
//!  windows         [start, last + gap)  …     a row at last + gap begins a new one
//! ```
//!
//! Accepts the partial states of [`super::partial`]: one row for each run of rows in a batch that are of one key and one
//! session ([`super::runs`]), with its first and last time. Each open session has one row of merged states; a row that comes
//! may begin one, lengthen one, or join two. When the watermark passes a session's end it is emitted, once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StructArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use laminar_core::{Changes, Epoch, Error, Result, TaskId, Watermark};

use super::accumulators::Accumulators;
use super::slots::Slots;
use super::span::window_fields;
use super::table::GroupBy;
use crate::operator::{Held, Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::operators::groups::{Groups, NO_GROUP};
use crate::operators::rows::batch;
use crate::state_log::StateLog;

/// Sessions in one batch of the output.
const OUTPUT_ROWS: usize = 8192;
/// First and last time, before the keys and the states.
const LEADING: usize = 2;

#[derive(Clone, Debug)]
pub struct SessionAggregateFactory {
    /// µs.
    pub gap: i64,
    /// Its expressions are not used: keys come as columns.
    pub group_by: GroupBy,
    /// Where the window stands among the output's columns.
    pub window_at: usize,
    /// Columns of the partial states: first time, last time, the keys, the states.
    pub state_schema: SchemaRef,
    /// Keys, with the window among them, then the results.
    pub schema: SchemaRef,
}

impl OperatorFactory for SessionAggregateFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(SessionAggregate {
            keys: Groups::new(self.group_by.key_fields.iter().map(|field| field.data_type().clone()))?,
            heads: Vec::new(),
            sessions: Vec::new(),
            free: Vec::new(),
            rows: Slots::new(Arc::clone(&self.state_schema)),
            ends: BinaryHeap::new(),
            closed: i64::MIN,
            log: StateLog::empty(task.index, 1),
            plan: self.clone(),
        }))
    }

    fn fingerprint(&self) -> String {
        format!("session {} us {}", self.gap, self.group_by.fingerprint())
    }
}

struct SessionAggregate {
    plan: SessionAggregateFactory,
    /// Numbers of the keys.
    keys: Groups,
    /// Of each key, a session, the others follow by [`Session::next`].
    heads: Vec<u32>,
    sessions: Vec<Session>,
    /// Places in `sessions` without one.
    free: Vec<u32>,
    /// First, last, keys and states of each session.
    rows: Slots,
    /// When a session ends, or ended before it was lengthened, and its number.
    ends: BinaryHeap<Reverse<(i64, u32)>>,
    closed: i64,
    /// Of the states that came, and now and then of all sessions.
    log: StateLog,
}

#[derive(Clone, Copy)]
struct Session {
    first: i64,
    last: i64,
    key: u32,
    /// The next session of the key, or [`NONE`]; of one that was joined to another, that one.
    next: u32,
    state: State,
    /// The end under which it stands in `ends`.
    due: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Open, and touched by the batch at hand, first by the row `sample`.
    Touched {
        sample: u32,
        /// Among those that are; [`NONE`] before they are numbered.
        number: u32,
    },
    Joined,
    Free,
}

const NONE: u32 = u32::MAX;

/// What a batch does to sessions.
#[derive(Default)]
struct Touched {
    sessions: Vec<u32>,
    /// Those that were joined to another.
    joined: Vec<u32>,
    /// Those, touched or joined, that have a row of states from before.
    old: Vec<u32>,
}

impl SessionAggregate {
    fn width(&self) -> usize {
        self.plan.group_by.key_fields.len()
    }

    /// Adds rows of states; those of sessions that have ended are late, and dropped.
    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let (firsts, lasts) = (times(rows, 0)?, times(rows, 1)?);
        let mut keys = Vec::new();
        self.keys.intern(key_columns(rows, self.width()), rows.num_rows(), &mut keys)?;
        self.heads.resize(self.keys.len().max(self.heads.len()), NONE);

        let mut touched = Touched::default();
        let spans = firsts.values().iter().zip(lasts.values());
        let of_rows: Vec<u32> = keys
            .into_iter()
            .zip(spans)
            .enumerate()
            .map(|(row, (key, (first, last)))| self.place(key as u32, *first, *last, row as u32, &mut touched))
            .collect();
        self.merge(rows, &of_rows, &touched)
    }

    /// The session that takes a row of this key and these times; [`NONE`] if it is late.
    fn place(&mut self, key: u32, first: i64, last: i64, row: u32, touched: &mut Touched) -> u32 {
        let gap = self.plan.gap;
        let touches = |s: &Session| first < s.last.saturating_add(gap) && s.first < last.saturating_add(gap);
        let Some(mut at) = self.heads.get(key as usize).copied() else { return NONE };
        let (mut found, mut before) = (NONE, NONE);
        while let Some(session) = self.sessions.get(at as usize).copied() {
            if !touches(&session) {
                (before, at) = (at, session.next);
            } else if found == NONE {
                found = at;
                (before, at) = (at, session.next);
            } else {
                self.join(at, found, before, touched);
                at = session.next;
            }
        }
        if found == NONE {
            if last.saturating_add(gap) <= self.closed {
                return NONE;
            }
            found = self.begin(key, first, last);
        }
        self.touch(found, row, touched);
        if let Some(session) = self.sessions.get_mut(found as usize) {
            session.first = session.first.min(first);
            session.last = session.last.max(last);
        }
        found
    }

    fn begin(&mut self, key: u32, first: i64, last: i64) -> u32 {
        let head = self.heads.get(key as usize).copied().unwrap_or(NONE);
        let due = last.saturating_add(self.plan.gap);
        let session = Session { first, last, key, next: head, state: State::Open, due };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.sessions.push(session);
                self.sessions.len() as u32 - 1
            }
        };
        if let Some(place) = self.sessions.get_mut(at as usize) {
            *place = session;
        }
        if let Some(head) = self.heads.get_mut(key as usize) {
            *head = at;
        }
        self.ends.push(Reverse((due, at)));
        at
    }

    fn touch(&mut self, at: u32, row: u32, touched: &mut Touched) {
        let Some(session) = self.sessions.get_mut(at as usize).filter(|s| s.state == State::Open) else { return };
        session.state = State::Touched { sample: row, number: NONE };
        touched.sessions.push(at);
        if self.rows.has(at as usize) {
            touched.old.push(at);
        }
    }

    /// Joins a session to another of its key; `before` is the one before it.
    fn join(&mut self, at: u32, to: u32, before: u32, touched: &mut Touched) {
        let Some(session) = self.sessions.get(at as usize).copied() else { return };
        self.unlink(session, before);
        if session.state == State::Open && self.rows.has(at as usize) {
            touched.old.push(at);
        }
        touched.joined.push(at);
        if let Some(joined) = self.sessions.get_mut(at as usize) {
            (joined.state, joined.next) = (State::Joined, to);
        }
        if let Some(target) = self.sessions.get_mut(to as usize) {
            target.first = target.first.min(session.first);
            target.last = target.last.max(session.last);
        }
    }

    /// Takes a session out of its key's list; `before` is the one before it.
    fn unlink(&mut self, session: Session, before: u32) {
        match self.sessions.get_mut(before as usize) {
            Some(before) => before.next = session.next,
            None => {
                if let Some(head) = self.heads.get_mut(session.key as usize) {
                    *head = session.next;
                }
            }
        }
    }

    /// The session that this one was joined to, in the end.
    fn survivor(&self, mut at: u32) -> u32 {
        while let Some(session) = self.sessions.get(at as usize).filter(|session| session.state == State::Joined) {
            at = session.next;
        }
        at
    }

    /// The number of the session, or of the one that it was joined to.
    fn number(&self, at: u32) -> Option<usize> {
        match self.sessions.get(self.survivor(at) as usize)?.state {
            State::Touched { number, .. } => Some(number as usize),
            _ => None,
        }
    }

    /// Numbers the touched sessions that are left, those with states from before first. Returns them and how many have.
    fn numbered(&mut self, touched: &Touched) -> (Vec<u32>, usize) {
        let mut numbered = Vec::with_capacity(touched.sessions.len());
        for at in &touched.old {
            self.give_number(self.survivor(*at), &mut numbered);
        }
        let old = numbered.len();
        for at in &touched.sessions {
            self.give_number(*at, &mut numbered);
        }
        (numbered, old)
    }

    fn give_number(&mut self, at: u32, numbered: &mut Vec<u32>) {
        if let Some(session) = self.sessions.get_mut(at as usize)
            && let State::Touched { number, .. } = &mut session.state
            && *number == NONE
        {
            *number = numbered.len() as u32;
            numbered.push(at);
        }
    }

    /// Merges the states of rows into those of their sessions.
    fn merge(&mut self, rows: &RecordBatch, of_rows: &[u32], touched: &Touched) -> Result<()> {
        let (sessions, old) = self.numbered(touched);
        let count = sessions.len();
        let mut accumulators = Accumulators::new(&self.plan.group_by.calls)?;
        let skipped = LEADING + self.width();
        let before = self.rows.get_from(skipped, &touched.old.iter().map(|at| *at as usize).collect::<Vec<_>>())?;
        let numbers: Vec<usize> = touched.old.iter().filter_map(|at| self.number(*at)).collect();
        accumulators.merge(before.columns(), &numbers, old)?;

        let numbers: Vec<Option<usize>> = of_rows.iter().map(|at| self.number(*at)).collect();
        let kept = match numbers.contains(&None) {
            false => rows.clone(),
            true => filter_record_batch(rows, &numbers.iter().map(|number| Some(number.is_some())).collect())?,
        };
        let numbers: Vec<usize> = numbers.into_iter().flatten().collect();
        accumulators.merge(kept.columns().get(skipped..).unwrap_or_default(), &numbers, count)?;
        let states = accumulators.take_states()?;

        let written = self.rows_of(&sessions, rows, states)?;
        self.rows.put(sessions.iter().map(|at| *at as usize).collect(), written)?;
        for at in &touched.joined {
            self.release(*at);
        }
        for at in sessions {
            self.sessions.get_mut(at as usize).into_iter().for_each(|session| session.state = State::Open);
        }
        Ok(())
    }

    /// First, last, keys and states of touched sessions; `batch_rows` is the batch that touched them.
    fn rows_of(&self, sessions: &[u32], batch_rows: &RecordBatch, states: Vec<ArrayRef>) -> Result<RecordBatch> {
        let touched: Vec<Session> = sessions.iter().filter_map(|at| self.sessions.get(*at as usize)).copied().collect();
        let samples = touched.iter().map(|session| match session.state {
            State::Touched { sample, .. } => Some(sample),
            _ => None,
        });
        let samples: UInt32Array = samples.collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(touched.iter().map(|session| session.first))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(touched.iter().map(|session| session.last))),
        ];
        for key in key_columns(batch_rows, self.width()) {
            columns.push(take(key, &samples, None)?);
        }
        columns.extend(states);
        batch(&self.plan.state_schema, columns, sessions.len())
    }

    fn release(&mut self, at: u32) {
        self.rows.remove(at as usize);
        if let Some(session) = self.sessions.get_mut(at as usize) {
            session.state = State::Free;
            self.free.push(at);
        }
    }

    /// Emits the sessions that end at `watermark` or before.
    fn close(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let mut ended: Vec<u32> = Vec::new();
        while let Some(Reverse((due, at))) = self.ends.peek().copied().filter(|Reverse((due, _))| *due <= watermark) {
            self.ends.pop();
            let Some(session) = self.sessions.get_mut(at as usize).filter(|s| s.due == due && s.state == State::Open)
            else {
                // It was joined to another.
                continue;
            };
            session.due = session.last.saturating_add(self.plan.gap);
            if session.due > watermark {
                self.ends.push(Reverse((session.due, at)));
            } else {
                // An older entry of the place may say the same end.
                session.due = i64::MIN;
                ended.push(at);
            }
        }
        self.closed = self.closed.max(watermark);
        ended.sort_by_key(|at| self.sessions.get(*at as usize).map(|session| session.last));
        for some in ended.chunks(OUTPUT_ROWS) {
            self.emit(some, out)?;
        }
        for at in ended {
            self.end(at);
        }
        self.forget_keys()
    }

    fn end(&mut self, at: u32) {
        let Some(session) = self.sessions.get(at as usize).copied() else { return };
        let mut before = NONE;
        let mut next = self.heads.get(session.key as usize).copied().unwrap_or(NONE);
        while next != at
            && let Some(other) = self.sessions.get(next as usize)
        {
            (before, next) = (next, other.next);
        }
        self.unlink(session, before);
        self.release(at);
    }

    fn emit(&self, sessions: &[u32], out: &mut Output) -> Result<()> {
        let count = sessions.len();
        let rows = self.rows.get(&sessions.iter().map(|at| *at as usize).collect::<Vec<_>>())?;
        let mut accumulators = Accumulators::new(&self.plan.group_by.calls)?;
        let states = rows.columns().get(LEADING + self.width()..).unwrap_or_default();
        accumulators.merge(states, &(0..count).collect::<Vec<_>>(), count)?;
        let mut columns = key_columns(&rows, self.width()).to_vec();
        let ends: TimestampMicrosecondArray = times(&rows, 1)?.unary(|last| last.saturating_add(self.plan.gap));
        let times_out = ends.unary(|end| end.saturating_sub(1));
        let windows = StructArray::new(window_fields(), vec![Arc::new(times(&rows, 0)?), Arc::new(ends)], None);
        columns.insert(self.plan.window_at.min(columns.len()), Arc::new(windows));
        columns.extend(accumulators.take_results()?);
        out.push(Changes::inserts(batch(&self.plan.schema, columns, count)?, times_out)?);
        Ok(())
    }

    /// Forgets keys without a session, when most have none.
    fn forget_keys(&mut self) -> Result<()> {
        let live = self.rows.len();
        if !self.keys.is_sparse(live, live) {
            return Ok(());
        }
        let alive = self.heads.iter().map(|head| Some(*head != NONE)).collect();
        let numbers = self.keys.keep(&alive)?;
        let mut heads = vec![NONE; self.keys.len()];
        for (head, number) in self.heads.iter().zip(&numbers).filter(|(_, number)| **number != NO_GROUP) {
            heads.get_mut(*number as usize).into_iter().for_each(|place| *place = *head);
        }
        self.heads = heads;
        for session in self.sessions.iter_mut().filter(|session| session.state != State::Free) {
            session.key = numbers.get(session.key as usize).copied().unwrap_or(NO_GROUP);
        }
        Ok(())
    }
}

fn key_columns(rows: &RecordBatch, width: usize) -> &[ArrayRef] {
    rows.columns().get(LEADING..LEADING + width).unwrap_or_default()
}

fn times(rows: &RecordBatch, column: usize) -> Result<TimestampMicrosecondArray> {
    let found = rows.columns().get(column).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()).cloned();
    found.ok_or_else(|| Error::internal("session states without times"))
}

#[async_trait]
impl Operator for SessionAggregate {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        for rows in batches {
            let keys = key_columns(&rows, self.width()).to_vec();
            let mine = self.log.own(rows, &keys)?;
            self.add(&mine)?;
        }
        // What ended before the checkpoint was emitted.
        self.close(ctx.watermark.unwrap_or(i64::MIN), &mut Output::default())
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, _out: &mut Output) -> Result<()> {
        self.add(changes.rows())?;
        self.log.note(changes.rows().clone(), self.rows.len());
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
        Some(Held::groups(self.rows.len()))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        if let Some(delta) = self.log.noted(epoch, self.rows.len()) {
            return Ok(delta);
        }
        let all = self.rows.all()?;
        Ok(self.log.whole(epoch, all))
    }
}

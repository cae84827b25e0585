//! Session windows: rows of a key that follow each other within the gap.
//!
//! ```text
//!  rows of a key   x x  x        x x          gap = 4
//!  windows         [start, last + gap)  …     a row at last + gap begins a new one
//! ```
//!
//! Accepts the partial states of [`super::partial`]: one row for each run of rows in a batch that are of one key and one
//! session, with its first and last time. A session is a list of such rows; a row may join two sessions. When the watermark
//! passes a session's end its rows are merged, and it is emitted once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StructArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::compute::{filter_record_batch, interleave, take};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::{OwnedRow, RowConverter, SortField};
use async_trait::async_trait;
use laminar_core::{Changes, Epoch, Error, Result, TaskId, Watermark};

use super::span::window_fields;
use super::table::{GroupBy, GroupTable};
use crate::operator::{Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::state_log::StateLog;

/// A session of more rows than this is merged into one.
const MAX_PARTS: usize = 64;
/// Chunks with fewer dead rows than this are not written anew.
const MIN_DEAD: usize = 65_536;

/// First and last time of a run of rows, before the keys and the states.
pub(super) fn leading_fields() -> [FieldRef; 2] {
    let time = |name: &str| Arc::new(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true));
    [time("first"), time("last")]
}

/// Columns of the states that a task combines its rows to.
pub(super) fn state_schema(group_by: &GroupBy) -> Result<SchemaRef> {
    group_by.state_schema(&leading_fields())
}

/// Combines the rows of one batch: a run of rows of one key that follow each other within the gap becomes one row.
pub(super) fn combine(
    group_by: &GroupBy,
    keys: &[ArrayRef],
    times: &TimestampMicrosecondArray,
    rows: &RecordBatch,
    gap: i64,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let encoded = key_converter(group_by)?.convert_columns(keys)?;
    let time = |row: u32| times.values().get(row as usize).copied().unwrap_or_default();
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    let key = |row: u32| (!keys.is_empty()).then(|| encoded.row(row as usize));
    order.sort_by(|a, b| key(*a).cmp(&key(*b)).then_with(|| time(*a).cmp(&time(*b))));

    // The run of each row, and of each run a row of it, its first and its last time.
    let mut run_of = vec![0i64; rows.num_rows()];
    let mut runs: Vec<(u32, i64, i64)> = Vec::new();
    let mut previous: Option<u32> = None;
    for row in order {
        let at = time(row);
        let goes_on = previous.is_some_and(|p| key(p) == key(row) && at.saturating_sub(time(p)) < gap);
        match runs.last_mut().filter(|_| goes_on) {
            Some(run) => run.2 = at,
            None => runs.push((row, at, at)),
        }
        if let Some(run) = run_of.get_mut(row as usize) {
            *run = runs.len() as i64 - 1;
        }
        previous = Some(row);
    }
    let mut table = by_number(group_by)?;
    let numbers: ArrayRef = Arc::new(Int64Array::from(run_of));
    table.update(&[numbers], rows)?;
    let mut states = table.take_states()?.into_iter();
    let numbers = states.next().ok_or_else(|| Error::internal("states without a number"))?;
    let run = |n: &i64| runs.get(*n as usize).copied().unwrap_or_default();
    let of_rows: Vec<_> = numbers.as_primitive::<arrow::datatypes::Int64Type>().values().iter().map(run).collect();
    let sample = UInt32Array::from_iter_values(of_rows.iter().map(|(row, ..)| *row));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(of_rows.iter().map(|(_, first, _)| *first))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(of_rows.iter().map(|(.., last)| *last))),
    ];
    for key in keys {
        columns.push(take(key, &sample, None)?);
    }
    columns.extend(states);
    batch(schema, columns, of_rows.len())
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn key_converter(group_by: &GroupBy) -> Result<RowConverter> {
    let fields = group_by.key_fields.iter().map(|f| SortField::new(f.data_type().clone()));
    Ok(RowConverter::new(fields.collect())?)
}

/// A table whose groups are numbered by the caller.
fn by_number(group_by: &GroupBy) -> Result<GroupTable> {
    GroupTable::new(&[Arc::new(Field::new("number", DataType::Int64, false))], &group_by.calls)
}

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
            converter: key_converter(&self.group_by)?,
            plan: self.clone(),
            chunks: HashMap::new(),
            next_chunk: 0,
            keys: HashMap::new(),
            ends: BTreeMap::new(),
            live: 0,
            stored: 0,
            closed: i64::MIN,
            log: StateLog::empty(task.index, 1),
            fresh: Vec::new(),
            fresh_rows: 0,
            log_is_short: true,
        }))
    }

    fn fingerprint(&self) -> String {
        format!("session {} us {}", self.gap, self.group_by.fingerprint())
    }
}

struct SessionAggregate {
    plan: SessionAggregateFactory,
    converter: RowConverter,
    chunks: HashMap<usize, Chunk>,
    next_chunk: usize,
    keys: HashMap<Key, Vec<Session>>,
    /// Keys that may have a session which ends then.
    ends: BTreeMap<i64, Vec<Key>>,
    /// Rows of sessions, and rows in chunks.
    live: usize,
    stored: usize,
    closed: i64,
    log: StateLog,
    /// States that came since the last snapshot.
    fresh: Vec<RecordBatch>,
    fresh_rows: usize,
    /// False when so many came that the next snapshot writes the whole state instead.
    log_is_short: bool,
}

/// `None`: without keys there is one.
type Key = Option<OwnedRow>;

struct Chunk {
    rows: RecordBatch,
    live: usize,
}

#[derive(Clone)]
struct Session {
    first: i64,
    last: i64,
    /// Rows of chunks.
    parts: Vec<(usize, usize)>,
}

impl SessionAggregate {
    fn width(&self) -> usize {
        self.plan.group_by.key_fields.len()
    }

    /// Adds rows of states; those of sessions that have ended are late, and dropped.
    fn add(&mut self, rows: RecordBatch) -> Result<()> {
        let (firsts, lasts) = (times(&rows, 0)?, times(&rows, 1)?);
        let keys = self.encode(&rows)?;
        let chunk = self.next_chunk;
        self.next_chunk += 1;
        let mut kept = 0;
        for (row, key) in keys.into_iter().enumerate() {
            let (Some(first), Some(last)) = (firsts.values().get(row), lasts.values().get(row)) else { continue };
            kept += usize::from(self.add_part(key, *first, *last, (chunk, row)));
        }
        if kept > 0 {
            self.live += kept;
            self.stored += rows.num_rows();
            self.chunks.insert(chunk, Chunk { rows, live: kept });
        }
        Ok(())
    }

    fn encode(&self, rows: &RecordBatch) -> Result<Vec<Key>> {
        if self.width() == 0 {
            return Ok(vec![None; rows.num_rows()]);
        }
        let keys = rows.columns().get(2..2 + self.width()).unwrap_or_default();
        Ok(self.converter.convert_columns(keys)?.iter().map(|row| Some(row.owned())).collect())
    }

    fn add_part(&mut self, key: Key, first: i64, last: i64, part: (usize, usize)) -> bool {
        let gap = self.plan.gap;
        let sessions = self.keys.entry(key.clone()).or_default();
        let touches = |s: &Session| first < s.last.saturating_add(gap) && s.first < last.saturating_add(gap);
        let late = last.saturating_add(gap) <= self.closed;
        if late && !sessions.iter().any(touches) {
            if sessions.is_empty() {
                self.keys.remove(&key);
            }
            return false;
        }
        let mut joined = Session { first, last, parts: vec![part] };
        sessions.retain_mut(|session| {
            if touches(session) {
                joined.first = joined.first.min(session.first);
                joined.last = joined.last.max(session.last);
                joined.parts.append(&mut session.parts);
                return false;
            }
            true
        });
        let end = joined.last.saturating_add(gap);
        sessions.push(joined);
        self.ends.entry(end).or_default().push(key);
        true
    }

    /// Emits the sessions that end at `watermark` or before.
    fn close(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        let mut ended: Vec<(Key, Session)> = Vec::new();
        while let Some(first) = self.ends.first_entry() {
            if *first.key() > watermark {
                break;
            }
            for key in first.remove() {
                // It may have ended already, or have grown since: then it stands there again.
                let Some(sessions) = self.keys.get_mut(&key) else { continue };
                let gap = self.plan.gap;
                let over = sessions.extract_if(.., |s| s.last.saturating_add(gap) <= watermark);
                ended.extend(over.map(|session| (key.clone(), session)));
                if sessions.is_empty() {
                    self.keys.remove(&key);
                }
            }
        }
        self.closed = self.closed.max(watermark);
        ended.sort_by_key(|(_, session)| session.last);
        for some in ended.chunks(8192) {
            self.emit(some, out)?;
            some.iter().for_each(|(_, session)| self.release(&session.parts));
        }
        Ok(())
    }

    fn emit(&self, sessions: &[(Key, Session)], out: &mut Output) -> Result<()> {
        let mut table = self.merged(sessions.iter().map(|(_, s)| s))?;
        // Groups are numbered in the order in which they came: that of the sessions.
        let results = table.take_results()?;
        let n = sessions.len();
        let mut columns = match self.width() {
            0 => Vec::new(),
            _ => self.converter.convert_rows(sessions.iter().filter_map(|(key, _)| key.as_ref().map(OwnedRow::row)))?,
        };
        let end = |s: &Session| s.last.saturating_add(self.plan.gap);
        let starts = TimestampMicrosecondArray::from_iter_values(sessions.iter().map(|(_, s)| s.first));
        let ends = TimestampMicrosecondArray::from_iter_values(sessions.iter().map(|(_, s)| end(s)));
        let windows = StructArray::new(window_fields(), vec![Arc::new(starts), Arc::new(ends)], None);
        columns.insert(self.plan.window_at.min(columns.len()), Arc::new(windows));
        columns.extend(results.into_iter().skip(1));
        let rows = batch(&self.plan.schema, columns, n)?;
        let times = TimestampMicrosecondArray::from_iter_values(sessions.iter().map(|(_, s)| end(s).saturating_sub(1)));
        out.push(Changes::inserts(rows, times)?);
        Ok(())
    }

    /// A table with a group for each of the sessions, numbered from 0.
    fn merged<'a>(&self, sessions: impl Iterator<Item = &'a Session>) -> Result<GroupTable> {
        let (mut numbers, mut parts) = (Vec::new(), Vec::new());
        for (number, session) in sessions.enumerate() {
            numbers.extend(std::iter::repeat_n(number as i64, session.parts.len()));
            parts.extend(session.parts.iter().copied());
        }
        let states = self.gather(&parts)?;
        let mut table = by_number(&self.plan.group_by)?;
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        table.merge(&[numbers], states.columns().get(2 + self.width()..).unwrap_or_default(), parts.len())?;
        Ok(table)
    }

    fn gather(&self, parts: &[(usize, usize)]) -> Result<RecordBatch> {
        let mut places = HashMap::new();
        let mut sources = Vec::new();
        let mut indices = Vec::with_capacity(parts.len());
        for (chunk, row) in parts {
            let Some(source) = self.chunks.get(chunk) else { continue };
            let place = *places.entry(*chunk).or_insert_with(|| {
                sources.push(&source.rows);
                sources.len() - 1
            });
            indices.push((place, *row));
        }
        if indices.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.plan.state_schema)));
        }
        let column = |i: usize| {
            let arrays: Vec<&dyn Array> = sources.iter().map(|s| s.column(i).as_ref()).collect();
            interleave(&arrays, &indices)
        };
        let columns = (0..self.plan.state_schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
        batch(&self.plan.state_schema, columns, indices.len())
    }

    fn release(&mut self, parts: &[(usize, usize)]) {
        for (chunk, _) in parts {
            self.live = self.live.saturating_sub(1);
            let Some(found) = self.chunks.get_mut(chunk) else { continue };
            found.live = found.live.saturating_sub(1);
            if found.live == 0 {
                self.stored = self.stored.saturating_sub(found.rows.num_rows());
                self.chunks.remove(chunk);
            }
        }
    }

    /// Merges sessions of many rows, and drops dead rows when most are.
    fn tidy(&mut self) -> Result<()> {
        let long = |s: &Session| s.parts.len() > MAX_PARTS;
        if self.live > MAX_PARTS && self.keys.values().flatten().any(long) {
            let keys: Vec<Key> =
                self.keys.iter().filter(|(_, s)| s.iter().any(long)).map(|(key, _)| key.clone()).collect();
            for key in keys {
                self.merge_sessions(&key)?;
            }
        }
        if self.stored > 2 * self.live + MIN_DEAD {
            let rows = self.all()?;
            self.chunks.clear();
            self.keys.clear();
            self.ends.clear();
            (self.live, self.stored) = (0, 0);
            self.add(rows)?;
        }
        Ok(())
    }

    /// Makes one row of each of the key's sessions.
    fn merge_sessions(&mut self, key: &Key) -> Result<()> {
        let Some(mut sessions) = self.keys.remove(key) else { return Ok(()) };
        let n = sessions.len();
        let first: Vec<(usize, usize)> = sessions.iter().filter_map(|s| s.parts.first().copied()).collect();
        let states = self.merged(sessions.iter())?.take_states()?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(sessions.iter().map(|s| s.first))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(sessions.iter().map(|s| s.last))),
        ];
        let keys = self.gather(&first)?;
        columns.extend_from_slice(keys.columns().get(2..2 + self.width()).unwrap_or_default());
        columns.extend(states.into_iter().skip(1));
        let rows = batch(&self.plan.state_schema, columns, n)?;
        let chunk = self.next_chunk;
        self.next_chunk += 1;
        self.chunks.insert(chunk, Chunk { rows, live: n });
        self.live += n;
        self.stored += n;
        for (row, session) in sessions.iter_mut().enumerate() {
            let parts = std::mem::replace(&mut session.parts, vec![(chunk, row)]);
            self.release(&parts);
        }
        self.keys.insert(key.clone(), sessions);
        Ok(())
    }

    fn all(&self) -> Result<RecordBatch> {
        let parts: Vec<_> = self.keys.values().flatten().flat_map(|s| s.parts.iter().copied()).collect();
        self.gather(&parts)
    }
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
            let mine = match self.log.is_inherited() {
                false => rows,
                true => {
                    let keys = rows.columns().get(2..2 + self.width()).unwrap_or_default();
                    filter_record_batch(&rows, &self.log.is_mine(keys, rows.num_rows())?)?
                }
            };
            self.add(mine)?;
        }
        // What ended before the checkpoint was emitted.
        self.close(ctx.watermark.unwrap_or(i64::MIN), &mut Output::default())
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, _out: &mut Output) -> Result<()> {
        let rows = changes.rows().clone();
        if self.log_is_short {
            self.fresh_rows += rows.num_rows();
            self.fresh.push(rows.clone());
            if self.log.wants_whole(self.live, self.fresh_rows) {
                self.log_is_short = false;
                self.fresh.clear();
            }
        }
        self.add(rows)?;
        self.tidy()
    }

    async fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        match watermark {
            Watermark::At(time) if time > self.closed => self.close(time, out),
            _ => Ok(()),
        }
    }

    async fn on_end(&mut self, out: &mut Output) -> Result<()> {
        // The log must not bring back what is emitted here.
        self.log_is_short = false;
        self.fresh.clear();
        self.close(i64::MAX, out)
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        let fresh = std::mem::take(&mut self.fresh);
        let rows = std::mem::take(&mut self.fresh_rows);
        let short = std::mem::replace(&mut self.log_is_short, true);
        if short && !self.log.wants_whole(self.live, rows) {
            return Ok(self.log.delta(epoch, fresh));
        }
        let whole = self.all()?;
        Ok(self.log.whole(epoch, vec![whole]))
    }
}

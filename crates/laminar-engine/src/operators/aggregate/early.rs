//! Early results: windows as far as they have grown become one row a group that is updated until its window ends.
//!
//! Accepts, insert-only and in the order of their ends, the looks at windows that [`super::window`] makes of
//! [`Span::Growing`]. Emits the same columns with the whole window in the place of the look: an insert for the first look
//! at a group, then an update for each that differs from the one before.
//!
//! ```text
//!  look   [0, 2) a 1    [0, 4) a 1    [0, 6) a 5       every 2, size 6
//!  out    [0, 6) a 1                  [0, 6) a 1 → 5   and [0, 6) is forgotten
//! ```
//!
//! What was emitted is part of each checkpoint: after a restart the next update takes back the row that the outside has.
//! Rows whose window ended before the checkpoint's watermark are final, and only dropped when the log is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::row::OwnedRow;
use async_trait::async_trait;
use laminar_core::changes::{ChangeKind, Kinds};
use laminar_core::{Changes, Epoch, Error, Result, TaskId};

use super::span::{Span, window_fields};
use crate::operator::{Held, Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::operators::encoding::Encoding;
use crate::state_log::StateLog;

#[derive(Clone, Debug)]
pub struct EarlyResultFactory {
    /// [`Span::Growing`].
    pub span: Span,
    /// Where the window stands among the columns.
    pub window_at: usize,
    /// How many of the other columns, from the first on, are the group's keys.
    pub keys: usize,
    /// Of the input and the output.
    pub schema: SchemaRef,
}

impl OperatorFactory for EarlyResultFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        let types = self.schema.fields().iter().map(|f| f.data_type().clone());
        let mut types: Vec<_> = types.enumerate().filter(|(i, _)| *i != self.window_at).map(|(_, t)| t).collect();
        let row_encoding = Encoding::new(types.clone())?;
        types.truncate(self.keys);
        Ok(Box::new(EarlyResult {
            plan: self.clone(),
            key_encoding: Encoding::new(types)?,
            row_encoding,
            windows: BTreeMap::new(),
            live: 0,
            log: StateLog::empty(task.index, 1),
        }))
    }
}

struct EarlyResult {
    plan: EarlyResultFactory,
    key_encoding: Encoding,
    /// Of all columns but the window.
    row_encoding: Encoding,
    /// The row that was emitted last of each group, by the window's end and start.
    windows: BTreeMap<(i64, i64), HashMap<OwnedRow, OwnedRow>>,
    /// Rows in `windows`.
    live: usize,
    /// Of the rows that were emitted, but final ones.
    log: StateLog,
}

/// A row that goes out, without its window.
struct Emitted {
    kind: ChangeKind,
    window: (i64, i64),
    row: OwnedRow,
    time: i64,
}

impl EarlyResult {
    /// The columns but the window, and the windows' starts and ends.
    fn parts(&self, rows: &RecordBatch) -> Result<(Vec<ArrayRef>, [TimestampMicrosecondArray; 2])> {
        let mut columns = rows.columns().to_vec();
        if self.plan.window_at >= columns.len() {
            return Err(Error::internal("looks at windows without their window"));
        }
        let windows = columns.remove(self.plan.window_at);
        let times = |name: &str| {
            let field = windows.as_struct_opt().and_then(|w| w.column_by_name(name));
            let times = field.and_then(|f| f.as_primitive_opt::<TimestampMicrosecondType>()).cloned();
            times.ok_or_else(|| Error::internal(format!("a window of {}", windows.data_type())))
        };
        Ok((columns, [times("start")?, times("end")?]))
    }

    /// What the looks change of what was emitted.
    fn look(&mut self, changes: &Changes) -> Result<Vec<Emitted>> {
        let (columns, [starts, ends]) = self.parts(changes.rows())?;
        let count = changes.num_rows();
        let rows = self.row_encoding.encode(&columns, count)?;
        let keys = self.key_encoding.encode(columns.get(..self.plan.keys).unwrap_or_default(), count)?;
        let mut emitted = Vec::new();
        let times = starts.values().iter().zip(ends.values()).zip(changes.times().values());
        for ((key, row), ((start, end), time)) in keys.iter().zip(rows.iter()).zip(times) {
            for window_end in self.plan.span.ends_of_look(*start, *end) {
                let window = (*start, window_end);
                let (key, row) = (key.owned(), row.owned());
                let before = self.keep(window, key, row.clone(), window_end > *end);
                if before.as_ref() == Some(&row) {
                    continue;
                }
                let after = if before.is_some() { ChangeKind::UpdateAfter } else { ChangeKind::Insert };
                emitted.extend(before.map(|row| Emitted { kind: ChangeKind::UpdateBefore, window, row, time: *time }));
                emitted.push(Emitted { kind: after, window, row, time: *time });
            }
        }
        Ok(emitted)
    }

    /// Notes the row as the group's last, or if it is final forgets the group; returns the row before.
    fn keep(&mut self, (start, end): (i64, i64), key: OwnedRow, row: OwnedRow, may_change: bool) -> Option<OwnedRow> {
        if may_change {
            let before = self.windows.entry((end, start)).or_default().insert(key, row);
            self.live += usize::from(before.is_none());
            return before;
        }
        let groups = self.windows.get_mut(&(end, start))?;
        let before = groups.remove(&key);
        if groups.is_empty() {
            self.windows.remove(&(end, start));
        }
        self.live = self.live.saturating_sub(usize::from(before.is_some()));
        before
    }

    fn batch<'a>(&self, rows: impl Iterator<Item = ((i64, i64), &'a OwnedRow)>) -> Result<RecordBatch> {
        let (windows, rows): (Vec<(i64, i64)>, Vec<&OwnedRow>) = rows.unzip();
        let mut columns = self.row_encoding.decode(rows.iter().map(|row| row.row()))?;
        let starts = TimestampMicrosecondArray::from_iter_values(windows.iter().map(|(start, _)| *start));
        let ends = TimestampMicrosecondArray::from_iter_values(windows.iter().map(|(_, end)| *end));
        let windows = StructArray::new(window_fields(), vec![Arc::new(starts), Arc::new(ends)], None);
        columns.insert(self.plan.window_at.min(columns.len()), Arc::new(windows));
        Ok(RecordBatch::try_new(Arc::clone(&self.plan.schema), columns)?)
    }

    fn note(&mut self, emitted: &[Emitted], looked_until: i64) -> Result<()> {
        let kept = emitted.iter().filter(|e| e.kind != ChangeKind::UpdateBefore && e.window.1 > looked_until);
        let rows = self.batch(kept.map(|e| (e.window, &e.row)))?;
        self.log.note(rows, self.live);
        Ok(())
    }

    /// Rows of a log, the later ones over the earlier.
    fn restore(&mut self, rows: &RecordBatch, watermark: i64) -> Result<()> {
        let (columns, [starts, ends]) = self.parts(rows)?;
        let encoded = self.row_encoding.encode(&columns, rows.num_rows())?;
        let keys = self.key_encoding.encode(columns.get(..self.plan.keys).unwrap_or_default(), rows.num_rows())?;
        let windows = starts.values().iter().zip(ends.values());
        for ((key, row), (start, end)) in keys.iter().zip(encoded.iter()).zip(windows) {
            if *end > watermark {
                self.keep((*start, *end), key.owned(), row.owned(), true);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Operator for EarlyResult {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        let watermark = ctx.watermark.unwrap_or(i64::MIN);
        for rows in batches {
            let (mut keys, _) = self.parts(&rows)?;
            keys.truncate(self.plan.keys);
            let mine = self.log.own(rows, &keys)?;
            self.restore(&mine, watermark)?;
        }
        Ok(())
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let emitted = self.look(&changes)?;
        if emitted.is_empty() {
            return Ok(());
        }
        // All of a batch are of looks that end at one time, which is a microsecond after their own.
        let looked_until = changes.times().values().iter().copied().max().unwrap_or(i64::MIN).saturating_add(1);
        self.note(&emitted, looked_until)?;
        let rows = self.batch(emitted.iter().map(|e| (e.window, &e.row)))?;
        let times = TimestampMicrosecondArray::from_iter_values(emitted.iter().map(|e| e.time));
        let kinds: Kinds = emitted.iter().map(|e| e.kind).collect();
        out.push(Changes::new(rows, times, Some(kinds))?);
        Ok(())
    }

    async fn on_end(&mut self, _out: &mut Output) -> Result<()> {
        // Every window has ended though the watermark does not say so: the log must not bring one back.
        self.log.next_is_whole();
        Ok(())
    }

    fn held(&self) -> Option<Held> {
        Some(Held::groups(self.live))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        if let Some(delta) = self.log.noted(epoch, self.live) {
            return Ok(delta);
        }
        let all =
            self.windows.iter().flat_map(|((end, start), groups)| groups.values().map(|row| ((*start, *end), row)));
        let whole = self.batch(all)?;
        Ok(self.log.whole(epoch, vec![whole]))
    }
}

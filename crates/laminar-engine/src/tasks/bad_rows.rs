//! What becomes of records and rows that a source task cannot use: the job fails, they are left out, or their records are written to
//! the table's dead letters.
//!
//! ```text
//!  fetched ─► decoder ─► late? ─► chain of expressions ─► …
//!     │ decode, constraint │ late      │ expression
//!     └────────────────────┴───────────┴──► letters ─► writer, flushed at the barrier like a sink's
//! ```
//!
//! The records of a batch are kept until its rows are through the chain, so that each row is traced to its record. A letter is a
//! copy: while a commit is under way it waits in front of the writer, as every row does.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, TimestampMicrosecondArray};
use laminar_core::dead_letter::{LetterBuilder, Reason, Stage};
use laminar_core::format::{DecodeError, FaultKind};
use laminar_core::source::{RawRecord, RawRecords};
use laminar_core::{Changes, Code, Epoch, Error, PipelineId, Result};
use tokio::sync::mpsc;

use super::TaskEvent;
use super::chain::Chain;
use super::sink::SinkEnd;
use crate::graph::{BadDataPolicy, LateRows, SourceNode};
use crate::job::BadRow;
use crate::metrics::{JobMetrics, OperatorMetrics, add};

/// Bytes of letters that wait for the end of their batch; more are handed to the writer at once.
const MAX_BYTES: usize = 4 << 20;

pub(crate) struct BadRows {
    table: String,
    bad_data: BadDataPolicy,
    late: LateRows,
    /// What changes earlier rows is never left out: the other half of a change would stay for ever.
    yields_changes: bool,
    /// Rows may be asked for their records.
    traces: bool,
    /// Of the rows that are decoded and not yet through the chain, in their order.
    records: Vec<Records>,
    /// Of these, the part and index of each that was rejected: it may fail on several ways, and is one bad record.
    rejected: HashSet<(usize, usize)>,
    /// Bad ones since the last batch.
    in_batch: usize,
    letters: LetterBuilder,
    written: u64,
    /// Absent if the table keeps no dead letters.
    writer: Option<SinkEnd>,
    events: mpsc::Sender<TaskEvent>,
    metrics: Arc<OperatorMetrics>,
    job: Arc<JobMetrics>,
}

/// Records of one fetch, and how many rows each has become.
struct Records {
    records: Box<dyn RawRecords>,
    rows: usize,
    uneven: Vec<Uneven>,
}

/// A record that is not one row.
struct Uneven {
    index: usize,
    /// Rows of the records before it.
    rows_before: usize,
    rows: usize,
}

impl Records {
    /// `uneven`: in order, the index of each record that is not one row, and how many it is.
    fn new(records: Box<dyn RawRecords>, rows: usize, uneven: Vec<(usize, usize)>) -> Self {
        // Each uneven record so far makes the rows fewer or more than the records.
        let (mut records_before, mut rows_before) = (0, 0);
        let counted = uneven.into_iter().map(|(index, rows)| {
            rows_before += index - records_before;
            let one = Uneven { index, rows_before, rows };
            (records_before, rows_before) = (index + 1, rows_before + rows);
            one
        });
        Self { records, rows, uneven: counted.collect() }
    }

    /// The index of the record that row `row` of these comes from.
    fn of_row(&self, row: usize) -> usize {
        let behind = self.uneven.partition_point(|uneven| uneven.rows_before <= row);
        match behind.checked_sub(1).and_then(|last| self.uneven.get(last)) {
            None => row,
            Some(last) => match (row - last.rows_before).checked_sub(last.rows) {
                None => last.index,
                Some(more) => last.index + 1 + more,
            },
        }
    }
}

impl BadRows {
    /// Of a source's task whose rows go through `chain`.
    pub(crate) fn new(
        pipeline: &PipelineId,
        (node, chain): (&SourceNode, &Chain),
        writer: Option<SinkEnd>,
        events: mpsc::Sender<TaskEvent>,
        (metrics, job): (Arc<OperatorMetrics>, Arc<JobMetrics>),
    ) -> Self {
        Self {
            table: node.table.clone(),
            bad_data: node.bad_data,
            late: node.late,
            yields_changes: node.source.yields_changes(),
            traces: node.late == LateRows::DeadLetter || chain.may_reject(),
            records: Vec::new(),
            rejected: HashSet::new(),
            in_batch: 0,
            letters: LetterBuilder::new(pipeline.as_str(), &node.table),
            written: 0,
            writer,
            events,
            metrics,
            job,
        }
    }

    /// The record has no row. Errors: `bad_data`, if that ends the job.
    pub(crate) fn record(&mut self, record: &RawRecord<'_>, fault: &DecodeError) -> Result<()> {
        let stage = match fault.kind {
            FaultKind::Constraint => Stage::Constraint,
            FaultKind::Malformed | FaultKind::Outage(_) => Stage::Decode,
        };
        let what = format!("a record of table {} at {} cannot be decoded", self.table, place(record));
        let why = fault.to_string();
        self.reject(Some(record), stage, Error::new(Code::BadData, what).with_detail(&why), why)
    }

    /// Keeps the records that have just been decoded into `rows` rows.
    pub(crate) fn keep(&mut self, records: Box<dyn RawRecords>, rows: usize, uneven: Vec<(usize, usize)>) {
        if rows > 0 && self.traces {
            self.records.push(Records::new(records, rows, uneven));
        }
    }

    /// The batch's rows, traceable to their records if it has some.
    pub(crate) fn traced(&self, changes: Changes) -> Changes {
        if self.records.is_empty() { changes } else { changes.numbered() }
    }

    /// These rows of the batch are left out: each is behind the watermark that stands beside its place, or has no time.
    pub(crate) fn late(&mut self, rows: &[(usize, Option<i64>)], times: &TimestampMicrosecondArray) {
        add(&self.metrics.late_rows, rows.len());
        if self.late != LateRows::DeadLetter {
            return;
        }
        let records = std::mem::take(&mut self.records);
        for (row, watermark) in rows {
            let message = match watermark.filter(|_| times.is_valid(*row)) {
                Some(watermark) => {
                    let behind = watermark.saturating_sub(times.value(*row));
                    format!("the row is {behind} µs behind the watermark of its partition")
                }
                None => "the row has no event time".to_string(),
            };
            if let Some((_, record)) = record_of(&records, *row) {
                self.write_letter(&record, Reason { stage: Stage::Late, code: Code::LateRow, message: &message });
            }
        }
        self.records = records;
    }

    /// May one of these be left out, if something cannot be computed for it? Not if it has a record that cannot be found.
    fn may_leave_out(&self, rows: &Changes) -> bool {
        let is_found = self.records.is_empty() || rows.origins().is_some();
        is_found && !self.yields_changes && rows.kinds().is_none()
    }

    /// `rows` is the one row for which something cannot be computed. Errors: if that ends the job.
    pub(crate) fn row(&mut self, rows: &Changes, error: Error) -> Result<()> {
        let records = std::mem::take(&mut self.records);
        let origin = rows.origins().and_then(|origins| origins.values().first().copied());
        let found = origin.and_then(|origin| record_of(&records, origin as usize));
        let outcome = match found {
            Some((place, _)) if !self.rejected.insert(place) => Ok(()),
            _ => {
                let record = found.map(|(_, record)| record);
                let why = error.to_string();
                self.reject(record.as_ref(), Stage::Expression, self.told(error, record.as_ref()), why)
            }
        };
        self.records = records;
        outcome
    }

    fn told(&self, error: Error, record: Option<&RawRecord<'_>>) -> Error {
        let at = record.map(|record| format!(" at {}", place(record))).unwrap_or_default();
        let told = Error::new(error.code(), format!("a row of table {}{at}: {}", self.table, error.message()));
        let told = error.detail().map_or(told.clone(), |detail| told.with_detail(detail));
        error.hint().map_or(told.clone(), |hint| told.with_hint(hint))
    }

    /// `error` is what the job fails with, if it does; `message` says only what is wrong.
    fn reject(&mut self, record: Option<&RawRecord<'_>>, stage: Stage, error: Error, message: String) -> Result<()> {
        add(&self.metrics.bad_records, 1);
        add(&self.job.bad_records, 1);
        self.in_batch += 1;
        let max = match self.bad_data {
            BadDataPolicy::Fail => {
                let hint =
                    "bad_data = 'skip' leaves such records out and counts them, 'dlq' keeps them as dead letters";
                return Err(match error.hint() {
                    Some(own) => {
                        let both = format!("{own}; {hint}");
                        error.with_hint(both)
                    }
                    None => error.with_hint(hint),
                });
            }
            BadDataPolicy::Skip { max_errors_per_batch } | BadDataPolicy::DeadLetter { max_errors_per_batch } => {
                max_errors_per_batch
            }
        };
        if let Some(max) = max.filter(|max| self.in_batch > *max) {
            let code = Error::new(Code::BadData, error.message().to_string());
            let code = error.detail().map_or(code.clone(), |detail| code.with_detail(detail));
            return Err(code.with_hint(format!("more than max_errors_per_batch = {max} records of one batch are bad")));
        }
        let bad = BadRow {
            table: self.table.clone(),
            topic: record.map(|r| r.topic.to_string()),
            partition: record.map(|r| r.partition),
            position: record.map(|r| r.position),
            stage,
            code: error.code(),
            message: message.clone(),
        };
        // The report is a sample: when the coordinator is busy the count still tells all.
        let _ = self.events.try_send(TaskEvent::BadRow(bad));
        if let (BadDataPolicy::DeadLetter { .. }, Some(record)) = (self.bad_data, record) {
            self.write_letter(record, Reason { stage, code: error.code(), message: &message });
        }
        Ok(())
    }

    fn write_letter(&mut self, record: &RawRecord<'_>, reason: Reason<'_>) {
        add(&self.metrics.dead_letters, 1);
        self.letters.push(record, reason);
        self.written += 1;
    }

    /// Letters since the job started.
    pub(crate) fn letters(&self) -> u64 {
        self.written
    }

    /// Hands the letters to the writer if they are many.
    pub(crate) async fn relieve(&mut self) -> Result<()> {
        if self.letters.num_bytes() >= MAX_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<()> {
        let Some(letters) = self.letters.finish()? else { return Ok(()) };
        match &mut self.writer {
            Some(writer) => writer.write(letters).await,
            None => Err(Error::internal("there are dead letters and nobody to write them")),
        }
    }

    /// The batch is through: its letters are written, its records forgotten.
    pub(crate) async fn end_batch(&mut self) -> Result<()> {
        self.in_batch = 0;
        self.records.clear();
        self.rejected.clear();
        self.write().await
    }

    /// Ends the epoch: its letters are acknowledged when this returns.
    pub(crate) async fn flush(&mut self, epoch: Epoch) -> Result<()> {
        self.write().await?;
        match &mut self.writer {
            Some(writer) => writer.flush(epoch).await,
            None => Ok(()),
        }
    }

    pub(crate) fn holds_letters(&self) -> bool {
        self.writer.as_ref().is_some_and(SinkEnd::holds_rows)
    }

    /// Waits for the commit under way, then writes what was held.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        match &mut self.writer {
            Some(writer) => writer.settle().await,
            None => Ok(()),
        }
    }
}

/// `topic/partition offset n`; of a file the offset is that of its line, in bytes.
fn place(record: &RawRecord<'_>) -> String {
    format!("{}/{} offset {}", record.topic, record.partition, record.position)
}

/// The record that row `row` of the batch comes from, and its part and index.
fn record_of(records: &[Records], mut row: usize) -> Option<((usize, usize), RawRecord<'_>)> {
    for (number, part) in records.iter().enumerate() {
        if row < part.rows {
            let index = part.of_row(row);
            return Some(((number, index), part.records.get(index)));
        }
        row -= part.rows;
    }
    None
}

/// Parts of a batch for which something may not be computable, the earlier ones first: one that fails is halved, until a single
/// row is left, which is bad.
pub(crate) struct Parts {
    batch: Changes,
    waiting: Vec<Range<usize>>,
    bad: Vec<usize>,
}

impl Parts {
    pub(crate) fn of(batch: Changes) -> Self {
        let whole = 0..batch.num_rows();
        Self { batch, waiting: vec![whole], bad: Vec::new() }
    }

    /// The next part, and its rows.
    pub(crate) fn next(&mut self) -> Option<(Range<usize>, Changes)> {
        let part = self.waiting.pop()?;
        let rows = self.batch.slice(part.start, part.len());
        Some((part, rows))
    }

    /// Rows that were bad.
    pub(crate) fn rejected(&self) -> u64 {
        self.bad.len() as u64
    }

    /// The others.
    pub(crate) fn good(&self) -> Result<Changes> {
        let mut mask = vec![true; self.batch.num_rows()];
        for row in &self.bad {
            if let Some(good) = mask.get_mut(*row) {
                *good = false;
            }
        }
        self.batch.filter(&BooleanArray::from(mask))
    }

    /// Errors: `error`, if it is not about the values of a row that may be left out; what [`BadRows::row`] says.
    pub(crate) fn failed(&mut self, part: Range<usize>, error: Error, bad: &mut BadRows) -> Result<()> {
        if error.code() != Code::InvalidValue || !bad.may_leave_out(&self.batch) {
            return Err(error);
        }
        match part.len() {
            0 => Err(error),
            1 => {
                self.bad.push(part.start);
                bad.row(&self.batch.slice(part.start, 1), error)
            }
            rows => {
                let middle = part.start + rows / 2;
                self.waiting.push(middle..part.end);
                self.waiting.push(part.start..middle);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use laminar_core::source::OwnedRecords;

    use super::*;

    #[test]
    fn a_row_is_traced_to_its_record_past_those_that_are_none_or_two() {
        // Records 0 … 6: one row each, but 1 and 2 are none and 4 is two.
        let uneven = vec![(1, 0), (2, 0), (4, 2)];
        let records = Records::new(Box::new(OwnedRecords::default()), 6, uneven);
        let of_rows: Vec<_> = (0..6).map(|row| records.of_row(row)).collect();
        assert_eq!(of_rows, [0, 3, 4, 4, 5, 6]);
    }
}

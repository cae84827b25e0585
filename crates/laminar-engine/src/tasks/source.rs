//! A task whose chain starts with a source: reads, decodes, injects barriers, keeps positions and watermarks.
//!
//! A batch goes down the chain when it is full, when the reader has nothing more at hand, or when its oldest row has waited
//! `batch_timeout`, whichever is first: large batches under load, low latency when idle.
//!
//! Positions move with the rows that went down the chain or were found bad, so at a barrier they say exactly what every
//! earlier epoch contains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch, TimestampMicrosecondArray, TimestampMicrosecondBuilder};
use laminar_core::format::{DecodeError, Decoder, FaultKind};
use laminar_core::source::{Fetched, FetchedRecords, FetchedRows, Run, SourceReader, SplitStart, StartAt};
use laminar_core::{Barrier, Changes, Code, Epoch, Error, OperatorId, Position, Result, SplitId, TaskId, Watermark};
use laminar_state::SourcePositions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::warn;

use super::bad_rows::BadRows;
use super::chain::Chain;
use super::discovery::KnownSplits;
use super::drift::Pace;
use super::watermark::{SplitWatermarks, UNKNOWN};
use super::{Command, Frozen, TaskEvent, coordinator_gone};
use crate::crash::CrashPoints;
use crate::graph::{LateRows, RowTime, SourceNode, with_watermark_column};
use crate::ledger::{Counts, TaskCounts};
use crate::metrics::{OperatorMetrics, add};

/// How often watermarks are looked at when no rows come.
const WATERMARK_PERIOD: Duration = Duration::from_millis(200);

pub(crate) struct SourceTask {
    pub id: TaskId,
    pub operator: OperatorId,
    pub node: SourceNode,
    /// Absent if the task has no splits: it only passes barriers.
    pub reader: Option<Box<dyn SourceReader>>,
    pub decoder: Option<Box<dyn Decoder>>,
    pub chain: Chain,
    pub commands: mpsc::Receiver<Command>,
    pub events: mpsc::Sender<TaskEvent>,
    pub released: watch::Receiver<Epoch>,
    pub positions: BTreeMap<SplitId, Position>,
    /// What tells the splits from earlier ones of the same name.
    pub generations: BTreeMap<SplitId, String>,
    /// Where splits that appear while the job runs come from; `None`: none do.
    pub growth: Option<KnownSplits>,
    /// Given to this task, and not read yet.
    pub offered: Vec<SplitStart>,
    /// Why some of them could not be read, and when.
    pub unread: Option<(String, Instant)>,
    pub watermarks: SplitWatermarks,
    /// Pauses splits that run ahead.
    pub pace: Option<Pace>,
    /// Read exactly up to here, then wait for the barrier.
    pub replay: Option<BTreeMap<SplitId, Position>>,
    /// The first barrier of a pipeline comes before its first read: it pins where the splits start.
    pub wait_for_barrier: bool,
    pub metrics: Arc<OperatorMetrics>,
    pub bad: BadRows,
    /// Records and rows up to the head of the chain.
    pub read: Counts,
    pub crash: CrashPoints,
}

/// What lies between two flushes of the decoder.
#[derive(Default)]
struct Batch {
    /// Decoded rows by split, in order.
    runs: Vec<(SplitId, usize)>,
    /// Of the decoded records' values.
    bytes: usize,
    since: Option<Instant>,
    last_watermark: Option<i64>,
    caught_up: bool,
    ended: bool,
}

impl SourceTask {
    /// Runs until a barrier stops the job.
    pub(crate) async fn run(mut self) -> Result<()> {
        self.watch();
        let mut batch = Batch::default();
        let mut tick = interval(WATERMARK_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.replay.is_some() {
            self.check_replayed().await?;
        }
        if self.reader.is_none() && self.growth.is_none() {
            // No rows will ever come from here, and what waits for all inputs must not wait for this one.
            self.chain.end().await?;
        }
        loop {
            let may_read = !batch.ended && !self.wait_for_barrier;
            let flush_at = batch.since.map(|since| since + self.node.batch_timeout);
            let holds_rows = self.chain.holds_rows() || self.bad.holds_letters();
            let mut limit = self.node.batch;
            limit.rows = limit.rows.saturating_sub(self.decoder.as_ref().map_or(0, |d| d.len())).max(1);
            limit.bytes = limit.bytes.saturating_sub(batch.bytes).max(1);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None => return Ok(()),
                    Some(Command::Committed(positions)) => {
                        if let Some(reader) = &mut self.reader {
                            reader.checkpointed(&positions).await;
                        }
                    }
                    Some(Command::Barrier(barrier)) => {
                        self.flush(&mut batch).await?;
                        self.freeze(barrier, batch.last_watermark).await?;
                        if barrier.stop {
                            return self.settle().await;
                        }
                        self.wait_for_barrier = false;
                        if self.replay.take().is_some() {
                            self.reopen().await?;
                        }
                        self.take_offered().await?;
                    }
                    Some(Command::Add { splits, generations }) => {
                        self.offered.extend(splits);
                        self.generations.extend(generations);
                        self.take_offered().await?;
                    }
                },
                Ok(()) = self.released.changed(), if holds_rows => self.settle().await?,
                fetched = next(&mut self.reader, limit), if may_read => {
                    self.take(fetched?, &mut batch).await?;
                    // Under load nothing here ever waits, and as many busy sources as there are worker threads would keep
                    // the coordinator from running at all.
                    tokio::task::yield_now().await;
                }
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => self.flush(&mut batch).await?,
                () = moved(&mut self.pace) => self.keep_pace(&batch)?,
                _ = tick.tick() => {
                    // The reader was asked first, and had nothing: a split that is paused must not hide that.
                    batch.caught_up |= may_read && self.pace.as_ref().is_some_and(|pace| !pace.paused().is_empty());
                    self.advance_watermark(&mut batch).await?;
                    self.tell_unread();
                }
            }
        }
    }

    /// Reads the splits that were given to this task. Not before the first barrier, and not in a replay: the epoch that is made
    /// again has no rows of them.
    async fn take_offered(&mut self) -> Result<()> {
        let Some(known) = &self.growth else { return Ok(()) };
        if self.offered.is_empty() || self.wait_for_barrier || self.replay.is_some() {
            return Ok(());
        }
        let known = known.clone();
        let mut waiting = vec![std::mem::take(&mut self.offered)];
        let mut splits = Vec::new();
        while let Some(offered) = waiting.pop() {
            match self.read_too(&offered).await {
                Ok(()) => splits.extend(offered),
                Err(error) if matches!(error.code(), Code::Fenced | Code::Internal) => return Err(error),
                // One that cannot be read must not keep the others from it, nor the pipeline from what it reads. But without an answer
                // each would only wait for itself.
                Err(error) if offered.len() > 1 && !matches!(error.code(), Code::Unreachable | Code::Timeout) => {
                    waiting.extend(offered.into_iter().map(|start| vec![start]));
                }
                Err(error) => {
                    // They are found again.
                    warn!(task = %self.id.operator, %error, splits = ?offered, "new splits cannot be read yet");
                    known.give_back(&offered);
                    self.unread = Some((error.to_string(), Instant::now()));
                }
            }
        }
        let at = self.reader.as_ref().map(|reader| reader.positions()).unwrap_or_default();
        for (split, position) in at {
            self.positions.entry(split).or_insert(position);
        }
        if let Some(pace) = &self.pace {
            pace.expect(splits.iter().map(|start| start.split.clone()));
        }
        let now = Instant::now();
        splits.into_iter().for_each(|start| self.watermarks.add(start.split, now));
        Ok(())
    }

    fn watch(&self) {
        self.metrics.watch(self.reader.as_ref().and_then(|reader| reader.health()));
    }

    /// Why a split that was offered is not read, until the next look finds it again or not.
    fn tell_unread(&mut self) {
        let period = self.node.source.discovery_interval().unwrap_or_default();
        self.unread.take_if(|(_, since)| since.elapsed() > period * 2);
        let unread = self.unread.as_ref().map(|(why, _)| format!("a new part of it cannot be read: {why}"));
        self.metrics.set_unread(unread);
    }

    /// Reads all of these besides what is read, or, on an error, none of them.
    async fn read_too(&mut self, splits: &[SplitStart]) -> Result<()> {
        match &mut self.reader {
            Some(reader) => reader.add(splits.to_vec()).await,
            None => {
                let reader = self.node.source.open(splits.to_vec()).await?;
                (self.reader, self.decoder) = (Some(reader), self.node.source.decoder()?);
                self.watch();
                Ok(())
            }
        }
    }

    async fn take(&mut self, fetched: Fetched, batch: &mut Batch) -> Result<()> {
        match fetched {
            Fetched::Records(records) => {
                let drained = records.drained;
                self.metrics.lost_records.fetch_add(records.lost, Ordering::Relaxed);
                self.decode(records, batch)?;
                self.bad.relieve().await?;
                batch.caught_up = drained;
                let rows = self.decoder.as_ref().map_or(0, |d| d.len());
                let full = rows >= self.node.batch.rows || batch.bytes >= self.node.batch.bytes;
                // While records are always at hand, nobody else looks at the time.
                let old = batch.since.is_some_and(|since| since.elapsed() >= self.node.batch_timeout);
                if drained || full || old {
                    self.flush(batch).await?;
                }
                self.check_replayed().await
            }
            Fetched::Rows(rows) => {
                batch.caught_up = false;
                self.push_rows(rows, batch).await?;
                self.bad.end_batch().await?;
                self.check_replayed().await
            }
            Fetched::End => {
                self.flush(batch).await?;
                batch.ended = true;
                self.keep_pace(batch)?;
                self.chain.end().await?;
                self.events.send(TaskEvent::Exhausted(self.id.clone())).await.map_err(|_| coordinator_gone())
            }
        }
    }

    fn decode(&mut self, fetched: FetchedRecords, batch: &mut Batch) -> Result<()> {
        let Some(decoder) = &mut self.decoder else {
            return Err(Error::internal("a source yields bytes but has no decoder"));
        };
        let (mut index, mut bytes, mut rows, mut read) = (0, 0, 0, 0);
        let mut uneven = Vec::new();
        for run in &fetched.runs {
            let bound = self.replay.as_ref().and_then(|r| r.get(&run.split)).copied();
            let before = decoder.len();
            // A run may move the position beyond its records, past offsets that have none: not beyond the bound.
            let next = bound.map_or(run.next, |bound| run.next.min(bound));
            for at in index..index + run.count {
                let record = fetched.records.get(at);
                if bound.is_some_and(|bound| record.position >= bound) {
                    uneven.extend((at..index + run.count).map(|at| (at, 0)));
                    break;
                }
                read += 1;
                bytes += record.value.map_or(0, <[u8]>::len);
                let rows_before = decoder.len();
                let fault = decoder.push(&record);
                // A record may have been no row, or two.
                let decoded = decoder.len() - rows_before;
                if decoded != 1 {
                    uneven.push((at, decoded));
                    self.read.extra += decoded.saturating_sub(1) as u64;
                }
                match fault {
                    Err(DecodeError { kind: FaultKind::Outage(error), .. }) => return Err(error),
                    Err(fault) => {
                        self.read.bad += 1;
                        self.bad.record(&record, &fault)?;
                    }
                    Ok(()) if decoded == 0 => self.read.none += 1,
                    Ok(()) => {}
                }
            }
            let decoded = decoder.len() - before;
            rows += decoded;
            index += run.count;
            if decoded > 0 {
                batch.runs.push((run.split.clone(), decoded));
            }
            self.positions.insert(run.split.clone(), next);
        }
        let waits = !decoder.is_empty();
        self.count_read(read);
        self.bad.keep(fetched.records, rows, uneven);
        add(&self.metrics.bytes_in, bytes);
        batch.bytes += bytes;
        if waits && batch.since.is_none() {
            batch.since = Some(Instant::now());
        }
        Ok(())
    }

    /// Sends what is decoded down the chain, then the watermark that follows from it.
    async fn flush(&mut self, batch: &mut Batch) -> Result<()> {
        batch.since = None;
        batch.bytes = 0;
        let runs = std::mem::take(&mut batch.runs);
        let changes = match &mut self.decoder {
            Some(decoder) => decoder.flush()?,
            None => None,
        };
        if let Some(changes) = changes {
            self.push(changes, &runs, batch).await?;
        }
        self.bad.end_batch().await
    }

    fn count_read(&mut self, records: usize) {
        self.read.read += records as u64;
        add(&self.metrics.rows_in, records);
    }

    async fn push_rows(&mut self, fetched: FetchedRows, batch: &mut Batch) -> Result<()> {
        let changes = Changes::inserts(fetched.rows, fetched.times)?;
        match &self.replay {
            None => {
                self.count_read(changes.num_rows());
                let runs: Vec<_> = fetched.runs.iter().map(|r| (r.split.clone(), r.count)).collect();
                self.positions.extend(fetched.runs.into_iter().map(|run| (run.split, run.next)));
                self.push(changes, &runs, batch).await
            }
            Some(bounds) => {
                let mut at = 0;
                let mut parts = Vec::new();
                for run in fetched.runs {
                    let (kept, next) = within(&run, bounds.get(&run.split).copied());
                    parts.push((run.split.clone(), at, kept));
                    at += run.count;
                    self.positions.insert(run.split, next);
                }
                for (split, offset, kept) in parts {
                    self.count_read(kept);
                    self.push(changes.slice(offset, kept), &[(split, kept)], batch).await?;
                }
                Ok(())
            }
        }
    }

    async fn push(&mut self, changes: Changes, runs: &[(SplitId, usize)], batch: &mut Batch) -> Result<()> {
        if changes.num_rows() == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let changes = match &self.node.time {
            RowTime::Record => changes,
            RowTime::Arrival(clock) => at_time(&changes, self.watermarks.arrive(clock.now_micros(), now))?,
        };
        let (mut at, mut late) = (0, Vec::new());
        let mut watermarks = TimestampMicrosecondBuilder::new();
        for (split, count) in runs {
            let times = changes.times().slice(at, *count);
            self.watermarks.observe(split, &times, now, |row, is_late, watermark| {
                if is_late {
                    late.push((at + row, watermark));
                }
                if self.node.watermark_column {
                    watermarks.append_option(watermark);
                }
            });
            at += count;
        }
        let times = changes.times().clone();
        let changes = match self.node.watermark_column {
            true => with_watermarks(changes.timed(), watermarks.finish())?,
            false => changes.timed(),
        };
        add(&self.metrics.batches_in, 1);
        let changes = self.bad.traced(changes);
        let changes = match self.node.late {
            LateRows::Drop | LateRows::DeadLetter if !late.is_empty() => {
                self.read.late += late.len() as u64;
                self.bad.late(&late, &times);
                without(&changes, late.iter().map(|(place, _)| *place))?
            }
            _ => changes,
        };
        let changes = self.crash.leak("source", changes);
        self.chain.push(0, changes, Some(&mut self.bad)).await?;
        self.advance_watermark(batch).await
    }

    async fn advance_watermark(&mut self, batch: &mut Batch) -> Result<()> {
        if let RowTime::Arrival(clock) = &self.node.time
            && !batch.ended
        {
            self.watermarks.arrive(clock.now_micros(), Instant::now());
        }
        self.keep_pace(batch)?;
        if let Some(reader) = self.reader.as_ref().filter(|_| batch.caught_up) {
            self.watermarks.touch(&reader.behind(), Instant::now());
        }
        if let Some(watermark) = self.watermarks.advance(batch.caught_up, Instant::now()) {
            if let Watermark::At(time) = watermark
                && time != UNKNOWN
            {
                batch.last_watermark = Some(time);
            }
            self.chain.watermark(watermark).await?;
        }
        Ok(())
    }

    /// Pauses the splits that are too far ahead of the slowest, and lets others go on. Not in a replay: each split is to be
    /// read to its bound, and there it waits for nobody.
    fn keep_pace(&mut self, batch: &Batch) -> Result<()> {
        let (Some(pace), Some(reader), None) = (&mut self.pace, &mut self.reader, &self.replay) else { return Ok(()) };
        let now = Instant::now();
        self.watermarks.touch(pace.paused(), now);
        let ended = if batch.ended { self.positions.keys().cloned().collect() } else { reader.ended() };
        if pace.update(&self.watermarks.progress(&ended, batch.caught_up, now)) {
            reader.pause(pace.paused())?;
            self.metrics.paused_splits.store(pace.paused().len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits for the commit under way, then writes what was held.
    async fn settle(&mut self) -> Result<()> {
        self.chain.settle().await?;
        self.bad.settle().await
    }

    /// Those of the chain, its head's with what happened before its rows.
    fn counts(&self) -> TaskCounts {
        let mut counts = self.chain.counts();
        if let Some((_, head)) = counts.operators.first_mut() {
            *head = Counts { rows_out: head.rows_out, dead: self.bad.letters(), ..self.read };
        }
        counts
    }

    async fn freeze(&mut self, barrier: Barrier, watermark: Option<i64>) -> Result<()> {
        let snapshots = self.chain.barrier(barrier).await?;
        self.bad.flush(barrier.epoch).await?;
        self.crash.hit("task-frozen")?;
        let positions = SourcePositions {
            splits: self.positions.clone(),
            watermarks: self.watermarks.by_split(),
            // One that was offered and given back is another task's now.
            generations: self
                .generations
                .iter()
                .filter(|(split, _)| self.positions.contains_key(*split))
                .map(|(s, g)| (s.clone(), g.clone()))
                .collect(),
        };
        let source = Some((self.operator.clone(), positions));
        let frozen = Frozen {
            task: self.id.clone(),
            epoch: barrier.epoch,
            source,
            snapshots,
            operators: self.chain.operators(),
            counts: self.counts(),
            watermark,
        };
        self.events.send(TaskEvent::Frozen(frozen)).await.map_err(|_| coordinator_gone())
    }

    /// Tells the coordinator once every split stands at its bound; reading stops until the barrier.
    async fn check_replayed(&mut self) -> Result<()> {
        let Some(bounds) = &self.replay else { return Ok(()) };
        let reached = |(split, at): (&SplitId, &Position)| bounds.get(split).is_none_or(|bound| at >= bound);
        if self.wait_for_barrier || !self.positions.iter().all(reached) {
            return Ok(());
        }
        self.wait_for_barrier = true;
        // What was decoded but not yet pushed is flushed by the barrier.
        self.events.send(TaskEvent::Replayed(self.id.clone())).await.map_err(|_| coordinator_gone())
    }

    /// The reader may have fetched past the bounds; start again exactly there.
    async fn reopen(&mut self) -> Result<()> {
        if self.reader.is_some() {
            let start = |(split, at): (&SplitId, &Position)| SplitStart { split: split.clone(), at: StartAt::At(*at) };
            self.reader = None;
            self.reader = Some(self.node.source.open(self.positions.iter().map(start).collect()).await?);
            self.watch();
        }
        Ok(())
    }
}

/// The rows with their watermarks as one more column.
fn with_watermarks(changes: Changes, watermarks: TimestampMicrosecondArray) -> Result<Changes> {
    let mut columns = changes.rows().columns().to_vec();
    columns.push(Arc::new(watermarks));
    let rows = RecordBatch::try_new(with_watermark_column(&changes.rows().schema()), columns)?;
    changes.with_rows(rows)
}

/// Without splits there is nothing to wait for.
async fn next(reader: &mut Option<Box<dyn SourceReader>>, limit: laminar_core::source::BatchLimit) -> Result<Fetched> {
    match reader {
        Some(reader) => reader.next(limit).await,
        None => std::future::pending().await,
    }
}

/// Without a bound there is nothing to wait for.
async fn moved(pace: &mut Option<Pace>) {
    match pace {
        Some(pace) => pace.moved().await,
        None => std::future::pending().await,
    }
}

/// How much of a run of rows lies before the bound, and where the split stands then.
fn within(run: &Run, bound: Option<Position>) -> (usize, Position) {
    match bound {
        Some(bound) if run.next > bound => {
            let over = usize::try_from(run.next.0 - bound.0).unwrap_or(usize::MAX);
            (run.count.saturating_sub(over), bound)
        }
        _ => (run.count, run.next),
    }
}

/// The same changes, all of which happen at this time.
fn at_time(changes: &Changes, micros: i64) -> Result<Changes> {
    let times = TimestampMicrosecondArray::from_value(micros, changes.num_rows());
    Changes::new(changes.rows().clone(), times, changes.kinds().cloned())
}

/// The rows but those at these places, which are in order.
fn without(changes: &Changes, places: impl Iterator<Item = usize>) -> Result<Changes> {
    let mut kept = vec![true; changes.num_rows()];
    for place in places {
        if let Some(kept) = kept.get_mut(place) {
            *kept = false;
        }
    }
    changes.filter(&BooleanArray::from(kept))
}

//! Reading a log: partition k of n has the records whose position divided by n leaves k.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use laminar_core::format::Decoder;
use laminar_core::source::{BatchLimit, Fetched, FetchedRecords, OwnedRecords, Run, Source, SourceReader, SplitStart};
use laminar_core::table::TableSpec;
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, Position, Result, SplitId};
use laminar_formats::{FormatContext, FormatOptions};
use tokio::sync::watch;

use super::log::Log;

pub struct LogSource {
    pub log: Arc<Log>,
    pub partitions: u32,
    pub format: FormatOptions,
    /// Rows take each other's place by the primary key.
    pub upsert: bool,
    pub table: TableSpec,
    pub clock: SharedClock,
}

pub fn decoder(format: &FormatOptions, table: &TableSpec, upsert: bool) -> Result<Box<dyn Decoder>> {
    match upsert {
        true => laminar_formats::upsert_decoder_with(format, table, None, &FormatContext::default()),
        false => laminar_formats::decoder(format, table),
    }
}

impl LogSource {
    fn partition(&self, split: &SplitId) -> Result<u32> {
        let number = split.as_str().strip_prefix(self.log.name()).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
        number.filter(|partition| *partition < self.partitions).ok_or_else(|| {
            let message = format!("the checkpoint has {split}, the table reads {}", self.log.name());
            Error::new(Code::CheckpointMismatch, message).with_detail(format!("in {} partitions", self.partitions))
        })
    }
}

#[async_trait]
impl Source for LogSource {
    async fn discover(&self) -> Result<Vec<SplitId>> {
        Ok((0..self.partitions).map(|k| SplitId::new(format!("{}/{k}", self.log.name()))).collect())
    }

    async fn open(&self, splits: Vec<SplitStart>) -> Result<Box<dyn SourceReader>> {
        let step = u64::from(self.partitions);
        let open = |start: SplitStart| {
            let partition = self.partition(&start.split)?;
            let next = start.at.or_zero().0;
            // The first record of this partition that is not before `next`.
            let behind = (next % step).abs_diff(u64::from(partition));
            let to_go = if next % step <= u64::from(partition) { behind } else { step - behind };
            Ok(Split { split: start.split, partition, next: next + to_go })
        };
        let splits = splits.into_iter().map(open).collect::<Result<_>>()?;
        let changes = self.log.changes();
        let (log, clock) = (self.log.clone(), self.clock.clone());
        Ok(Box::new(Reader { log, splits, paused: BTreeSet::new(), step, changes, clock }))
    }

    fn can_pause(&self) -> bool {
        true
    }

    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>> {
        decoder(&self.format, &self.table, self.upsert).map(Some)
    }

    fn yields_changes(&self) -> bool {
        self.upsert || self.format.yields_changes()
    }

    fn upserts(&self) -> bool {
        self.upsert
    }

    async fn ends(&self, splits: &[SplitId]) -> Result<Vec<Option<Position>>> {
        let length = self.log.state().records.len() as u64;
        let step = u64::from(self.partitions);
        let end = |split| {
            let partition = u64::from(self.partition(split)?);
            let records = length.saturating_sub(partition).div_ceil(step);
            Ok(Some(Position(partition + records * step)))
        };
        splits.iter().map(end).collect()
    }
}

struct Split {
    split: SplitId,
    partition: u32,
    next: u64,
}

struct Reader {
    log: Arc<Log>,
    splits: Vec<Split>,
    paused: BTreeSet<SplitId>,
    step: u64,
    changes: watch::Receiver<u64>,
    clock: SharedClock,
}

impl Reader {
    /// What is at hand; `None` if nothing is and nothing will be, `Some(None)` if something may come.
    fn take(&mut self, limit: BatchLimit) -> Option<Option<FetchedRecords>> {
        let state = self.log.state();
        // The split that is furthest behind, so that they advance together.
        let length = state.records.len() as u64;
        let ended = (state.closed || self.splits.is_empty()) && self.splits.iter().all(|s| s.next >= length);
        let open = self.splits.iter_mut().filter(|s| s.next < length && !self.paused.contains(&s.split));
        let Some(split) = open.min_by_key(|s| s.next) else { return if ended { None } else { Some(None) } };
        let mut records = OwnedRecords {
            topic: self.log.name().into(),
            partition: i32::try_from(split.partition).unwrap_or(i32::MAX),
            timestamp_micros: self.clock.now_micros(),
            records: Vec::new(),
        };
        let mut bytes = 0;
        while let Some(record) = usize::try_from(split.next).ok().and_then(|at| state.records.get(at)) {
            if !records.records.is_empty() && (records.records.len() >= limit.rows || bytes >= limit.bytes) {
                break;
            }
            bytes += record.len();
            records.records.push((Position(split.next), record.to_vec()));
            split.next += self.step;
        }
        let runs = vec![Run { split: split.split.clone(), count: records.records.len(), next: Position(split.next) }];
        let drained = self.splits.iter().all(|s| s.next >= length);
        Some(Some(FetchedRecords { records: Box::new(records), runs, drained, lost: 0 }))
    }
}

#[async_trait]
impl SourceReader for Reader {
    async fn next(&mut self, limit: BatchLimit) -> Result<Fetched> {
        loop {
            self.changes.mark_unchanged();
            match self.take(limit) {
                None => return Ok(Fetched::End),
                Some(Some(records)) => return Ok(Fetched::Records(records)),
                Some(None) => {
                    let gone = |_| Error::internal("a memory log vanished");
                    self.changes.changed().await.map_err(gone)?;
                }
            }
        }
    }

    fn pause(&mut self, splits: &BTreeSet<SplitId>) -> Result<()> {
        self.paused.clone_from(splits);
        Ok(())
    }

    fn ended(&self) -> Vec<SplitId> {
        let state = self.log.state();
        let length = state.records.len() as u64;
        let ended = self.splits.iter().filter(|s| state.closed && s.next >= length);
        ended.map(|s| s.split.clone()).collect()
    }

    fn positions(&self) -> Vec<(SplitId, Position)> {
        self.splits.iter().map(|s| (s.split.clone(), Position(s.next))).collect()
    }
}

//! A source like Kafka's: splits may appear, positions may be taken by what is never delivered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::format::Decoder;
use laminar_core::source::{BatchLimit, Fetched, FetchedRecords, OwnedRecords, Run, Source, SourceReader, SplitStart};
use laminar_core::{Position, Result, SplitId};

/// How long a fetch takes, so that checkpoints come in between.
const FETCH: Duration = Duration::from_millis(1);
const DISCOVERY: Duration = Duration::from_millis(3);

/// Records by split; `None` is a transaction's marker: it has a position and no record.
#[derive(Clone, Default)]
pub struct Topics {
    splits: Arc<Mutex<BTreeMap<SplitId, Vec<Option<u64>>>>>,
    /// How often each split was replaced.
    generations: Arc<Mutex<BTreeMap<SplitId, u32>>>,
    decoder: Option<Arc<dyn Source>>,
    /// New splits are looked for while a job reads, and nothing ends.
    grows: bool,
}

impl Topics {
    /// `decoder` is any source of the same table.
    pub fn new(decoder: Arc<dyn Source>) -> Self {
        Self { decoder: Some(decoder), ..Self::default() }
    }

    pub fn growing(decoder: Arc<dyn Source>) -> Self {
        Self { grows: true, ..Self::new(decoder) }
    }

    /// Deletes the split and makes another of the same name.
    pub fn replace(&self, split: &str, values: std::ops::Range<u64>) {
        self.splits.lock().unwrap().remove(&split.into());
        *self.generations.lock().unwrap().entry(split.into()).or_default() += 1;
        self.append(split, values);
    }

    /// Appends one transaction: its values, then its marker.
    pub fn append(&self, split: &str, values: std::ops::Range<u64>) {
        let mut splits = self.splits.lock().unwrap();
        let records = splits.entry(split.into()).or_default();
        records.extend(values.map(Some));
        records.push(None);
    }
}

#[async_trait]
impl Source for Topics {
    async fn discover(&self) -> Result<Vec<SplitId>> {
        Ok(self.splits.lock().unwrap().keys().cloned().collect())
    }

    async fn open(&self, splits: Vec<SplitStart>) -> Result<Box<dyn SourceReader>> {
        let standings = splits.into_iter().map(|start| (start.split, start.at.or_zero())).collect();
        Ok(Box::new(Reader { topics: self.clone(), standings }))
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.grows.then_some(DISCOVERY)
    }

    async fn generations(&self, splits: &[SplitId]) -> Result<BTreeMap<SplitId, String>> {
        let generations = self.generations.lock().unwrap();
        let of = |split: &SplitId| (split.clone(), generations.get(split).copied().unwrap_or_default().to_string());
        Ok(splits.iter().map(of).collect())
    }

    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>> {
        self.decoder.as_ref().map_or(Ok(None), |source| source.decoder())
    }

    async fn ends(&self, splits: &[SplitId]) -> Result<Vec<Option<Position>>> {
        Ok(vec![None; splits.len()])
    }
}

struct Reader {
    topics: Topics,
    standings: Vec<(SplitId, Position)>,
}

#[async_trait]
impl SourceReader for Reader {
    async fn next(&mut self, limit: BatchLimit) -> Result<Fetched> {
        loop {
            tokio::time::sleep(FETCH).await;
            match self.take(limit) {
                Fetched::End if self.topics.grows => {}
                fetched => return Ok(fetched),
            }
        }
    }

    async fn add(&mut self, splits: Vec<SplitStart>) -> Result<()> {
        self.standings.extend(splits.into_iter().map(|start| (start.split, start.at.or_zero())));
        Ok(())
    }

    fn positions(&self) -> Vec<(SplitId, Position)> {
        self.standings.clone()
    }
}

impl Reader {
    fn take(&mut self, limit: BatchLimit) -> Fetched {
        let splits = self.topics.splits.lock().unwrap();
        let mut records = OwnedRecords { topic: "t".into(), ..OwnedRecords::default() };
        let mut runs = Vec::new();
        let mut drained = true;
        for (split, at) in &mut self.standings {
            let all = splits.get(split).map_or(&[][..], Vec::as_slice);
            let before = records.records.len();
            while let Some(value) = all.get(at.0 as usize) {
                if records.records.len() >= limit.rows {
                    break;
                }
                if let Some(v) = value {
                    records.records.push((*at, format!("{{\"k\":0,\"v\":{v}}}").into_bytes()));
                    let count = records.records.len() - before;
                    let run = Run { split: split.clone(), count, next: Position(at.0 + 1) };
                    match runs.last_mut() {
                        Some(last) if count > 1 => *last = run,
                        _ => runs.push(run),
                    }
                }
                at.0 += 1;
            }
            let end = all.len() as u64;
            drained &= at.0 == end;
            // As when the end of a partition is reached: everything before it was delivered.
            if at.0 == end {
                runs.push(Run { split: split.clone(), count: 0, next: Position(end) });
            }
        }
        let nothing = records.records.is_empty() && drained;
        match nothing {
            true => Fetched::End,
            false => Fetched::Records(FetchedRecords { records: Box::new(records), runs, drained, lost: 0 }),
        }
    }
}

//! Named logs of records in this process's memory, and the handle that tests hold.
//!
//! A log is one partition: records in order, positions from 0. Each writing pipeline has an open epoch beside it; its
//! records join the log, all at once, when the epoch commits. A recovery starts a new generation of its pipeline: what an
//! older one still writes is fenced.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use laminar_core::sink::Marker;
use laminar_core::{Code, Error, PipelineId, Result};
use tokio::sync::watch;

/// A log that is fuller refuses records: it is in memory, and nothing is ever deleted from it.
const MAX_BYTES: usize = 1 << 30;

/// The logs of one registry. Clones are the same logs.
#[derive(Clone, Debug, Default)]
pub struct MemoryLogs(Arc<Mutex<HashMap<String, Arc<Log>>>>);

impl MemoryLogs {
    /// The log of this name, empty if it is new.
    pub(crate) fn log(&self, name: &str) -> Arc<Log> {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.entry(name.to_string()).or_insert_with(|| Arc::new(Log::new(name))).clone()
    }

    /// Appends one record per line that is not blank. Errors: `limit_exceeded`; `wrong_state` if the log is closed.
    pub fn append_json(&self, name: &str, lines: &str) -> Result<()> {
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        self.log(name).append(lines.map(|line| Bytes::copy_from_slice(line.as_bytes())))
    }

    /// Says that nothing follows: sources end when they have read what is there.
    pub fn close(&self, name: &str) {
        self.log(name).change(|state| state.closed = true);
    }

    /// The committed records as text, in order.
    pub fn records(&self, name: &str) -> Vec<String> {
        self.log(name).state().records.iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect()
    }

    /// Waits until the log has at least `count` committed records.
    pub async fn wait_for(&self, name: &str, count: usize) {
        let log = self.log(name);
        let mut changes = log.changes();
        // The sender lives in `log`, so waiting cannot fail.
        let _ = changes.wait_for(|_| log.state().records.len() >= count).await;
    }

    /// Forgets the log: its records and every pipeline's marker.
    pub fn remove(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[derive(Debug)]
pub(crate) struct Log {
    name: String,
    state: Mutex<State>,
    /// Counts changes, so that readers can wait for one.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub records: Vec<Bytes>,
    pub closed: bool,
    bytes: usize,
    writers: HashMap<PipelineId, Writer>,
}

/// One pipeline's open epoch.
#[derive(Debug, Default)]
struct Writer {
    generation: u64,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    marker: Option<Marker>,
}

impl Log {
    fn new(name: &str) -> Self {
        Self { name: name.to_string(), state: Mutex::default(), changed: watch::Sender::new(0) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    fn append(&self, records: impl Iterator<Item = Bytes>) -> Result<()> {
        self.change(|state| {
            if state.closed {
                return Err(Error::new(Code::WrongState, format!("memory log {} is closed", self.name)));
            }
            for record in records {
                state.bytes += record.len();
                self.check_size(state.bytes)?;
                state.records.push(record);
            }
            Ok(())
        })
    }

    fn check_size(&self, bytes: usize) -> Result<()> {
        if bytes <= MAX_BYTES {
            return Ok(());
        }
        Err(Error::new(Code::LimitExceeded, format!("memory log {} is full", self.name))
            .with_detail(format!("it holds at most {MAX_BYTES} bytes")))
    }

    /// Fences earlier writers of the pipeline, drops its open epoch and starts the next generation.
    pub fn begin(&self, pipeline: &PipelineId) -> (u64, Option<Marker>) {
        let mut state = self.state();
        let writer = state.writers.entry(pipeline.clone()).or_default();
        writer.generation += 1;
        writer.pending.clear();
        writer.pending_bytes = 0;
        (writer.generation, writer.marker.clone())
    }

    /// The generation that is open. The first writer of a pipeline without a committer opens one.
    pub fn current(&self, pipeline: &PipelineId) -> u64 {
        let mut state = self.state();
        let writer = state.writers.entry(pipeline.clone()).or_default();
        writer.generation = writer.generation.max(1);
        writer.generation
    }

    /// Adds records to the pipeline's open epoch. Errors: `fenced`, `limit_exceeded`.
    pub fn write(&self, pipeline: &PipelineId, generation: u64, records: Vec<Bytes>) -> Result<()> {
        let mut state = self.state();
        let committed = state.bytes;
        let writer = self.mine(&mut state, pipeline, generation)?;
        writer.pending_bytes += records.iter().map(Bytes::len).sum::<usize>();
        self.check_size(committed + writer.pending_bytes)?;
        writer.pending.extend(records);
        Ok(())
    }

    /// Makes the open epoch visible together with the marker; without one, the marker stays what it was.
    pub fn publish(&self, pipeline: &PipelineId, generation: u64, marker: Option<&Marker>) -> Result<()> {
        self.change(|state| {
            let writer = self.mine(state, pipeline, generation)?;
            let pending = std::mem::take(&mut writer.pending);
            let bytes = std::mem::take(&mut writer.pending_bytes);
            if let Some(marker) = marker {
                writer.marker = Some(marker.clone());
            }
            state.bytes += bytes;
            state.records.extend(pending);
            Ok(())
        })
    }

    fn mine<'a>(&self, state: &'a mut State, pipeline: &PipelineId, generation: u64) -> Result<&'a mut Writer> {
        state.writers.get_mut(pipeline).filter(|w| w.generation == generation).ok_or_else(|| {
            Error::new(Code::Fenced, format!("a newer job of pipeline {pipeline} writes to memory log {}", self.name))
        })
    }
}

//! Counters of one job, written by tasks per batch and read at any time.
//!
//! Every number only grows within a job, except watermarks, lags and the retained epoch, which are gauges.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use laminar_core::{Health, OperatorId};
use laminar_state::{Manifest, OperatorState};

use serde::Serialize;

use crate::ledger::LedgerEntry;

/// One operator instance's counters.
#[derive(Debug, Default)]
pub struct OperatorMetrics {
    /// Of a source: records read.
    pub rows_in: AtomicU64,
    /// Of a sink: rows handed to its writer.
    pub rows_out: AtomicU64,
    pub batches_in: AtomicU64,
    pub bytes_in: AtomicU64,
    /// Records that could not be decoded, and rows for which an expression could not be computed.
    pub bad_records: AtomicU64,
    /// Rows behind the watermark that were left out.
    pub late_rows: AtomicU64,
    /// Records that were written to the dead letters.
    pub dead_letters: AtomicU64,
    /// Records that were gone before they were read, and that the options allow to miss.
    pub lost_records: AtomicU64,
    /// Splits of a source that wait for slower ones.
    pub paused_splits: AtomicU64,
    /// Largest watermark, µs since 1970 UTC; `i64::MIN` before the first.
    pub watermark_micros: AtomicI64,
    /// Time rows waited in front of the writer for a commit, µs.
    pub commit_wait_micros: AtomicU64,
    /// Time the task waited for the other inputs' barriers, µs.
    pub alignment_micros: AtomicU64,
    /// The same at the last barrier alone.
    pub last_alignment_micros: AtomicU64,
    /// How the outside system of a source or a sink does.
    health: Mutex<Option<Arc<dyn Health>>>,
    /// Why a part of a source is not read.
    unread: Mutex<Option<String>>,
}

impl OperatorMetrics {
    /// Whom to ask from now on what keeps rows from being read or written.
    pub(crate) fn watch(&self, health: Option<Arc<dyn Health>>) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
    pub(crate) fn set_unread(&self, unread: Option<String>) {
        *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = unread;
    }
    fn trouble(&self) -> Option<String> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = health.and_then(|health| health.trouble());
        trouble.or_else(|| self.unread.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
    fn watermark(&self) -> Option<i64> {
        Some(self.watermark_micros.load(Ordering::Relaxed)).filter(|w| *w != i64::MIN)
    }
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

/// Checkpoints whose ledgers are kept.
const LEDGERS: usize = 20;

/// Counters of a whole job.
#[derive(Debug, Default)]
pub struct JobMetrics {
    operators: Mutex<BTreeMap<(OperatorId, u32), Labelled>>,
    states: Mutex<BTreeMap<OperatorId, StateSize>>,
    ledgers: Mutex<VecDeque<Vec<LedgerEntry>>>,
    pub checkpoints_committed: AtomicU64,
    pub checkpoints_failed: AtomicU64,
    pub last_epoch: AtomicU64,
    pub last_checkpoint_bytes: AtomicU64,
    pub last_checkpoint_micros: AtomicU64,
    pub bad_records: AtomicU64,
}

/// How large an operator's state is in the last checkpoint, all instances together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StateSize {
    /// Of its files: what is in force and, until the next whole one, what later ones replaced.
    pub rows: u64,
    pub bytes: u64,
    /// Bytes that this checkpoint wrote.
    pub written: u64,
}

/// An instance's counters, and what they are called.
type Labelled = (Arc<OperatorMetrics>, OperatorLabels);

#[derive(Clone, Debug)]
struct OperatorLabels {
    name: String,
    kind: OperatorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorKind {
    Source,
    Transform,
    Sink,
}

/// One operator's numbers, summed over its instances (watermark: the smallest).
#[derive(Clone, Debug, Serialize)]
pub struct OperatorSnapshot {
    pub operator: OperatorId,
    pub name: String,
    pub kind: OperatorKind,
    pub parallelism: u32,
    pub rows_in: u64,
    pub rows_out: u64,
    pub batches_in: u64,
    pub bytes_in: u64,
    pub bad_records: u64,
    pub late_rows: u64,
    pub dead_letters: u64,
    pub lost_records: u64,
    pub paused_splits: u64,
    pub watermark_micros: Option<i64>,
    pub commit_wait_micros: u64,
    pub alignment_micros: u64,
    /// Of the instance that waited longest.
    pub last_alignment_micros: u64,
    /// `None`: it keeps none.
    pub state: Option<StateSize>,
    /// What keeps it from reading or writing now; of several instances' the first.
    pub trouble: Option<String>,
}

/// One instance's numbers.
#[derive(Clone, Debug)]
pub struct TaskSnapshot {
    pub operator: OperatorId,
    /// Which instance, from 0.
    pub index: u32,
    pub rows_in: u64,
    pub rows_out: u64,
    pub paused_splits: u64,
    pub watermark_micros: Option<i64>,
    pub alignment_micros: u64,
    pub last_alignment_micros: u64,
    pub commit_wait_micros: u64,
}

/// All of a job's numbers at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct JobSnapshot {
    pub operators: Vec<OperatorSnapshot>,
    pub checkpoints_committed: u64,
    pub checkpoints_failed: u64,
    /// 0 before the first checkpoint.
    pub last_epoch: u64,
    pub last_checkpoint_bytes: u64,
    pub last_checkpoint_micros: u64,
    pub bad_records: u64,
}

impl JobMetrics {
    pub(crate) fn operator(&self, id: &OperatorId, index: u32, name: &str, kind: OperatorKind) -> Arc<OperatorMetrics> {
        let metrics =
            Arc::new(OperatorMetrics { watermark_micros: AtomicI64::new(i64::MIN), ..OperatorMetrics::default() });
        let labels = OperatorLabels { name: name.to_string(), kind };
        let mut operators = self.operators.lock().unwrap_or_else(PoisonError::into_inner);
        operators.insert((id.clone(), index), (Arc::clone(&metrics), labels));
        metrics
    }

    /// Takes over the sizes of a checkpoint's state.
    pub(crate) fn set_state(&self, manifest: &Manifest) {
        let size = |state: &OperatorState| {
            let mut size = StateSize::default();
            for file in state.files.values() {
                size.rows += file.rows;
                size.bytes += file.bytes;
                size.written += if file.epoch == manifest.epoch { file.bytes } else { 0 };
            }
            size
        };
        let sizes = manifest.state.iter().map(|(id, state)| (id.clone(), size(state))).collect();
        *self.states.lock().unwrap_or_else(PoisonError::into_inner) = sizes;
    }

    /// Takes over the ledger of a committed checkpoint.
    pub(crate) fn set_ledger(&self, ledger: Vec<LedgerEntry>) {
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        if ledgers.len() >= LEDGERS {
            ledgers.pop_front();
        }
        ledgers.push_back(ledger);
    }

    /// The ledgers of the latest checkpoints, the oldest first.
    pub fn ledgers(&self) -> Vec<LedgerEntry> {
        let ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        ledgers.iter().flatten().cloned().collect()
    }

    /// By operator and index.
    pub fn tasks(&self) -> Vec<TaskSnapshot> {
        let operators = self.operators.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let task = |((id, index), (metrics, _)): (&(OperatorId, u32), &Labelled)| TaskSnapshot {
            operator: id.clone(),
            index: *index,
            rows_in: of(&metrics.rows_in),
            rows_out: of(&metrics.rows_out),
            paused_splits: of(&metrics.paused_splits),
            watermark_micros: metrics.watermark(),
            alignment_micros: of(&metrics.alignment_micros),
            last_alignment_micros: of(&metrics.last_alignment_micros),
            commit_wait_micros: of(&metrics.commit_wait_micros),
        };
        operators.iter().map(task).collect()
    }

    pub fn snapshot(&self) -> JobSnapshot {
        let operators = self.operators.lock().unwrap_or_else(PoisonError::into_inner);
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summed: Vec<OperatorSnapshot> = Vec::new();
        for ((id, _), (metrics, labels)) in operators.iter() {
            let watermark = metrics.watermark();
            match summed.last_mut().filter(|s| s.operator == *id) {
                Some(sum) => sum.add(metrics, watermark),
                None => {
                    let mut sum = OperatorSnapshot::empty(id, labels);
                    sum.add(metrics, watermark);
                    sum.watermark_micros = watermark;
                    sum.state = states.get(id).copied();
                    summed.push(sum);
                }
            }
        }
        JobSnapshot {
            operators: summed,
            checkpoints_committed: self.checkpoints_committed.load(Ordering::Relaxed),
            checkpoints_failed: self.checkpoints_failed.load(Ordering::Relaxed),
            last_epoch: self.last_epoch.load(Ordering::Relaxed),
            last_checkpoint_bytes: self.last_checkpoint_bytes.load(Ordering::Relaxed),
            last_checkpoint_micros: self.last_checkpoint_micros.load(Ordering::Relaxed),
            bad_records: self.bad_records.load(Ordering::Relaxed),
        }
    }
}

impl JobSnapshot {
    /// Rows that all sources read.
    pub fn rows_read(&self) -> u64 {
        self.sum(OperatorKind::Source, |o| o.rows_out)
    }
    /// Rows that all sinks took.
    pub fn rows_written(&self) -> u64 {
        self.sum(OperatorKind::Sink, |o| o.rows_out)
    }
    pub fn bytes_read(&self) -> u64 {
        self.sum(OperatorKind::Source, |o| o.bytes_in)
    }
    fn sum(&self, kind: OperatorKind, of: impl Fn(&OperatorSnapshot) -> u64) -> u64 {
        self.operators.iter().filter(|o| o.kind == kind).map(of).sum()
    }
}

impl OperatorSnapshot {
    fn empty(id: &OperatorId, labels: &OperatorLabels) -> Self {
        Self {
            operator: id.clone(),
            name: labels.name.clone(),
            kind: labels.kind,
            parallelism: 0,
            rows_in: 0,
            rows_out: 0,
            batches_in: 0,
            bytes_in: 0,
            bad_records: 0,
            late_rows: 0,
            dead_letters: 0,
            lost_records: 0,
            paused_splits: 0,
            watermark_micros: None,
            commit_wait_micros: 0,
            alignment_micros: 0,
            last_alignment_micros: 0,
            state: None,
            trouble: None,
        }
    }

    fn add(&mut self, metrics: &OperatorMetrics, watermark: Option<i64>) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.parallelism += 1;
        self.rows_in += of(&metrics.rows_in);
        self.rows_out += of(&metrics.rows_out);
        self.batches_in += of(&metrics.batches_in);
        self.bytes_in += of(&metrics.bytes_in);
        self.bad_records += of(&metrics.bad_records);
        self.late_rows += of(&metrics.late_rows);
        self.dead_letters += of(&metrics.dead_letters);
        self.trouble = self.trouble.take().or_else(|| metrics.trouble());
        self.lost_records += of(&metrics.lost_records);
        self.paused_splits += of(&metrics.paused_splits);
        self.commit_wait_micros += of(&metrics.commit_wait_micros);
        self.alignment_micros += of(&metrics.alignment_micros);
        self.last_alignment_micros = self.last_alignment_micros.max(of(&metrics.last_alignment_micros));
        self.watermark_micros = self.watermark_micros.zip(watermark).map(|(a, b)| a.min(b));
    }
}

//! The result of a pipeline without a sink, readable by `SELECT` and followed by `SUBSCRIBE`: the last rows of one that only
//! adds rows, the current rows of one that updates them ([`current`]).
//!
//! The rows are the state of the graph's last operator, so they are part of every checkpoint: each one writes the rows
//! that came since the one before, and drops the files whose rows have all left.
//!
//! ```text
//!  retained   [ file 0-1: 400 rows ][ file 0-2: 350 rows ][ not yet in a checkpoint: 120 rows ]
//!              ▲ leaves first
//! ```
//!
//! All instances of the operator append to one [`RelationHandle`].

mod current;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use laminar_core::{Changes, Epoch, Result, TaskId};
use tokio::sync::broadcast;

use current::{Current, KeepCurrent};

use crate::operator::{Operator, OperatorContext, OperatorFactory, Output, Snapshot, StateFile};
use crate::state_log::StateLog;

/// Batches that a slow subscriber may lag behind before it misses some.
const SUBSCRIBER_BATCHES: usize = 256;

/// Shared by the pipeline's operator instances and those who read the result.
#[derive(Clone, Debug)]
pub struct RelationHandle {
    schema: SchemaRef,
    kept: Kept,
    changes: broadcast::Sender<Changes>,
    /// Runs of the pipeline so far, the one that fills the relation among them.
    runs: Arc<AtomicU64>,
}

/// Which rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The last so many (to the batch: a batch leaves when all of it is older). For rows that are never taken back.
    Last(usize),
    /// All that are there now.
    Current,
}

#[derive(Clone, Debug)]
enum Kept {
    Last(Arc<Mutex<Retained>>),
    Current(Arc<Mutex<Current>>),
}

#[derive(Debug, Default)]
struct Retained {
    limit: usize,
    /// Which run fills it.
    run: u64,
    batches: VecDeque<Batch>,
    rows: usize,
    /// Files of batches that have left, to be dropped by the next snapshot.
    left: Vec<String>,
}

#[derive(Debug)]
struct Batch {
    rows: RecordBatch,
    /// The operator instance that appended it.
    task: u32,
    /// The checkpoint file that holds it, once there is one.
    file: Option<String>,
}

impl RelationHandle {
    /// Errors: `not_supported` if current rows are of a type that has no order.
    pub fn new(schema: SchemaRef, keep: Keep) -> Result<Self> {
        let (changes, _) = broadcast::channel(SUBSCRIBER_BATCHES);
        let kept = match keep {
            Keep::Last(limit) => Kept::Last(Arc::new(Mutex::new(Retained { limit, ..Retained::default() }))),
            Keep::Current => Kept::Current(Arc::new(Mutex::new(Current::new(&schema)?))),
        };
        Ok(Self { schema, kept, changes, runs: Arc::default() })
    }

    /// Is it kept like this?
    pub fn keeps(&self, keep: Keep) -> bool {
        match (&self.kept, keep) {
            (Kept::Last(retained), Keep::Last(limit)) => lock(retained).limit == limit,
            (Kept::Current(_), Keep::Current) => true,
            _ => false,
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The last rows, oldest first, at most as many as are kept; or the current ones.
    pub fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        let retained = match &self.kept {
            Kept::Last(retained) => lock(retained),
            Kept::Current(current) => return Ok(vec![lock(current).rows()?]),
        };
        let mut surplus = retained.rows.saturating_sub(retained.limit);
        let mut rows = Vec::with_capacity(retained.batches.len());
        for batch in &retained.batches {
            let skip = surplus.min(batch.rows.num_rows());
            surplus -= skip;
            rows.push(batch.rows.slice(skip, batch.rows.num_rows() - skip));
        }
        Ok(rows)
    }

    /// Rows from now on. A receiver that falls behind gets `Lagged` and loses the oldest batches.
    pub fn subscribe(&self) -> broadcast::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// The operator that ends the graph of one run. From when it is opened, what is left of earlier runs changes nothing: a
    /// task of a job that failed may still have a batch in hand.
    pub fn operator(&self) -> Arc<dyn OperatorFactory> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(RetainFactory { relation: self.clone(), run })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Retained {
    fn append(&mut self, batch: Batch) {
        self.rows += batch.rows.num_rows();
        self.batches.push_back(batch);
        while let Some(oldest) = self.batches.front() {
            let without = self.rows - oldest.rows.num_rows();
            if without < self.limit {
                break;
            }
            self.rows = without;
            let left = self.batches.pop_front().and_then(|b| b.file);
            let Some(file) = left else { continue };
            if !self.batches.iter().any(|b| b.file.as_ref() == Some(&file)) {
                self.left.push(file);
            }
        }
    }
}

#[derive(Debug)]
struct RetainFactory {
    relation: RelationHandle,
    run: u64,
}

impl OperatorFactory for RetainFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        let (task, followers, run) = (task.index, self.relation.changes.clone(), self.run);
        Ok(match &self.relation.kept {
            Kept::Last(retained) => Box::new(KeepLast { retained: Arc::clone(retained), followers, task, run }),
            Kept::Current(current) => Box::new(KeepCurrent {
                current: Arc::clone(current),
                followers,
                task,
                run,
                log: StateLog::empty(task, 1),
                fresh: Default::default(),
            }),
        })
    }
    fn fingerprint(&self) -> String {
        match &self.relation.kept {
            Kept::Last(_) => "retain".to_string(),
            Kept::Current(_) => "keep current".to_string(),
        }
    }
}

struct KeepLast {
    retained: Arc<Mutex<Retained>>,
    followers: broadcast::Sender<Changes>,
    task: u32,
    run: u64,
}

#[async_trait]
impl Operator for KeepLast {
    /// The first instance takes over all rows, whatever the parallelism was; a restart begins from the checkpoint's rows.
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        if self.task != 0 {
            return Ok(());
        }
        let mut retained = lock(&self.retained);
        *retained = Retained { limit: retained.limit, run: self.run, ..Retained::default() };
        for file in ctx.restored.drain(..) {
            for rows in file.rows {
                retained.append(Batch { rows, task: 0, file: Some(file.name.clone()) });
            }
        }
        Ok(())
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, _out: &mut Output) -> Result<()> {
        let mut retained = lock(&self.retained);
        if retained.run != self.run {
            return Ok(());
        }
        retained.append(Batch { rows: changes.rows().clone(), task: self.task, file: None });
        drop(retained);
        // Nobody listening is the usual case, and not an error.
        let _ = self.followers.send(changes);
        Ok(())
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        let name = format!("{}-{epoch}", self.task);
        let mut retained = lock(&self.retained);
        let fresh = retained.batches.iter_mut().filter(|b| b.file.is_none() && b.task == self.task);
        let rows: Vec<_> = fresh
            .map(|batch| {
                batch.file = Some(name.clone());
                batch.rows.clone()
            })
            .collect();
        let add = if rows.is_empty() { vec![] } else { vec![StateFile { name, rows }] };
        Ok(Snapshot { add, remove: std::mem::take(&mut retained.left) })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};

    use super::*;

    fn changes(values: std::ops::Range<i64>) -> Changes {
        let times = TimestampMicrosecondArray::from_iter_values(values.clone());
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        Changes::inserts(RecordBatch::try_from_iter([("v", column)]).unwrap(), times).unwrap()
    }

    fn context(restored: Vec<StateFile>) -> OperatorContext {
        OperatorContext { task: task(), parallelism: 1, restored, watermark: None }
    }

    fn task() -> TaskId {
        TaskId { operator: "retain-1".into(), index: 0 }
    }

    fn values(handle: &RelationHandle) -> Vec<i64> {
        let column = |b: &RecordBatch| b.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
        handle.snapshot().unwrap().iter().flat_map(column).collect()
    }

    #[tokio::test]
    async fn files_leave_with_their_last_row_and_restore_what_is_left() {
        let schema = changes(0..1).rows().schema();
        let handle = RelationHandle::new(schema.clone(), Keep::Last(3)).unwrap();
        let mut retain = handle.operator().create(&task()).unwrap();
        retain.open(&mut context(vec![])).await.unwrap();
        let mut files: Vec<StateFile> = vec![];
        for epoch in 1..=3 {
            let from = (epoch as i64 - 1) * 2;
            retain.on_changes(0, changes(from..from + 2), &mut Output::default()).await.unwrap();
            let snapshot = retain.snapshot(Epoch(epoch)).unwrap();
            files.retain(|f| !snapshot.remove.contains(&f.name));
            files.extend(snapshot.add);
        }
        assert_eq!(values(&handle), [3, 4, 5]);
        assert_eq!(files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["0-2", "0-3"]);

        let restored = RelationHandle::new(schema, Keep::Last(3)).unwrap();
        restored.operator().create(&task()).unwrap().open(&mut context(files)).await.unwrap();
        assert_eq!(values(&restored), [3, 4, 5]);
    }

    #[tokio::test]
    async fn what_is_left_of_an_earlier_run_changes_nothing() {
        for keep in [Keep::Last(10), Keep::Current] {
            let handle = RelationHandle::new(changes(0..1).rows().schema(), keep).unwrap();
            let mut earlier = handle.operator().create(&task()).unwrap();
            earlier.open(&mut context(vec![])).await.unwrap();
            earlier.on_changes(0, changes(0..2), &mut Output::default()).await.unwrap();
            let mut later = handle.operator().create(&task()).unwrap();
            later.open(&mut context(vec![])).await.unwrap();
            earlier.on_changes(0, changes(2..4), &mut Output::default()).await.unwrap();
            later.on_changes(0, changes(7..8), &mut Output::default()).await.unwrap();
            assert_eq!(values(&handle), [7]);
        }
    }
}

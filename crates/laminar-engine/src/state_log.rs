//! An operator's state as a log: each checkpoint adds what changed, and now and then the whole state replaces the log.
//!
//! ```text
//!  epoch    1        2        3        4                5
//!  file     +whole   +delta   +delta   +delta           +whole, the four before are removed
//! ```
//!
//! So a checkpoint costs what changed, the log is never much longer than the state, and a restore reads at most twice the
//! state. What a row of the log means is the operator's own business; it reads them back in the order they were written.
//!
//! Rows belong to the instance that their keys hash to ([`owners`]). After a restart at another parallelism each instance
//! is given the files of all old ones, keeps its own rows, and its first snapshot is whole.

use std::sync::LazyLock;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use laminar_core::{Epoch, Result};

use crate::operator::{OperatorContext, Snapshot, StateFile};
use crate::operators::evaluation_error;

/// Fixed: rows of one key must go to the same instance in every task and after every restart.
static HASH_STATE: LazyLock<RandomState> = LazyLock::new(|| RandomState::with_seed(0x6c61_6d69));

/// A log shorter than this is not worth replacing.
const SMALL_LOG_ROWS: usize = 1024;

/// The parallel instance that each of `rows` rows belongs to. Without columns all belong to the first.
pub fn owners(columns: &[ArrayRef], rows: usize, parallelism: usize) -> Result<Vec<u32>> {
    let mut hashes = vec![0; rows];
    create_hashes(columns, &*HASH_STATE, &mut hashes).map_err(evaluation_error)?;
    // The high half: grouping tables use the low one, and would see only a part of it otherwise.
    Ok(hashes.iter().map(|hash| ((hash >> 32) as usize % parallelism.max(1)) as u32).collect())
}

/// The files that are one operator instance's state.
#[derive(Debug)]
pub struct StateLog {
    index: u32,
    parallelism: usize,
    /// Names of the files in force, oldest first.
    files: Vec<String>,
    rows: usize,
    /// The files were written at another parallelism.
    inherited: bool,
    /// What the next delta is made of.
    noted: Vec<RecordBatch>,
    noted_rows: usize,
    /// The next snapshot is to be whole.
    whole_is_due: bool,
}

impl StateLog {
    /// Takes the restored files; returns their batches, oldest first. If [`StateLog::is_inherited`], rows of other instances
    /// are among them.
    pub fn open(ctx: &mut OperatorContext) -> (Self, Vec<RecordBatch>) {
        let (index, parallelism) = (ctx.task.index, ctx.parallelism);
        let mut found: Vec<_> = std::mem::take(&mut ctx.restored).into_iter().map(|f| (parse(&f.name), f)).collect();
        let inherited = found.iter().any(|(name, _)| name.is_none_or(|(_, of, _)| of != parallelism));
        if !inherited {
            found.retain(|(name, _)| name.is_some_and(|(i, ..)| i == index));
        }
        found.sort_by_key(|(name, _)| name.map(|(i, _, epoch)| (epoch, i)));
        let mut log = Self { inherited, ..Self::empty(index, parallelism) };
        let mut batches = Vec::new();
        for (_, file) in found {
            log.files.push(file.name);
            log.rows += file.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
            batches.extend(file.rows);
        }
        (log, batches)
    }

    /// The log of an operator that was never opened.
    pub fn empty(index: u32, parallelism: usize) -> Self {
        Self {
            index,
            parallelism,
            files: Vec::new(),
            rows: 0,
            inherited: false,
            noted: Vec::new(),
            noted_rows: 0,
            whole_is_due: false,
        }
    }

    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// The rows of a restored batch that are this instance's, by their keys.
    pub fn own(&self, rows: RecordBatch, keys: &[ArrayRef]) -> Result<RecordBatch> {
        match self.inherited {
            false => Ok(rows),
            true => Ok(filter_record_batch(&rows, &self.is_mine(keys, rows.num_rows())?)?),
        }
    }

    /// Which of the rows with these keys are this instance's, when the log is inherited.
    pub fn is_mine(&self, keys: &[ArrayRef], rows: usize) -> Result<arrow::array::BooleanArray> {
        Ok(owners(keys, rows, self.parallelism)?.into_iter().map(|owner| Some(owner == self.index)).collect())
    }

    /// Should the next snapshot be [`StateLog::whole`]? `live` rows are the whole state, `changed` the next delta.
    pub fn wants_whole(&self, live: usize, changed: usize) -> bool {
        self.inherited || self.whole_is_due || (self.rows + changed > 2 * live.max(SMALL_LOG_ROWS))
    }

    /// Keeps rows for the next delta. They are not kept when the whole state, `live` rows, would be shorter.
    pub fn note(&mut self, rows: RecordBatch, live: usize) {
        self.noted_rows += rows.num_rows();
        if self.wants_whole(live, self.noted_rows) {
            self.next_is_whole();
        }
        if !self.whole_is_due {
            self.noted.push(rows);
        }
    }

    /// What was noted is not what changed: no delta can say it.
    pub fn next_is_whole(&mut self) {
        self.whole_is_due = true;
        self.noted.clear();
    }

    /// The snapshot of what was noted since the last one; `None`: it must be [`StateLog::whole`]. `live` rows are the state.
    pub fn noted(&mut self, epoch: Epoch, live: usize) -> Option<Snapshot> {
        if self.wants_whole(live, self.noted_rows) {
            return None;
        }
        self.noted_rows = 0;
        let noted = std::mem::take(&mut self.noted);
        Some(self.delta(epoch, noted))
    }

    /// A snapshot of what changed. Without rows it is empty.
    pub fn delta(&mut self, epoch: Epoch, rows: Vec<RecordBatch>) -> Snapshot {
        Snapshot { add: self.write(epoch, rows), remove: Vec::new() }
    }

    /// A snapshot of the whole state, in place of all that was written before.
    pub fn whole(&mut self, epoch: Epoch, rows: Vec<RecordBatch>) -> Snapshot {
        let remove = std::mem::take(&mut self.files);
        (self.rows, self.noted_rows) = (0, 0);
        (self.inherited, self.whole_is_due) = (false, false);
        self.noted.clear();
        Snapshot { add: self.write(epoch, rows), remove }
    }

    fn write(&mut self, epoch: Epoch, mut rows: Vec<RecordBatch>) -> Vec<StateFile> {
        rows.retain(|batch| batch.num_rows() > 0);
        if rows.is_empty() {
            return Vec::new();
        }
        let name = format!("{}of{}-{}", self.index, self.parallelism, epoch.0);
        self.files.push(name.clone());
        self.rows += rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        vec![StateFile { name, rows }]
    }
}

/// `1of4-17` is instance 1 of 4, epoch 17.
fn parse(name: &str) -> Option<(u32, usize, u64)> {
    let (instance, epoch) = name.split_once('-')?;
    let (index, parallelism) = instance.split_once("of")?;
    Some((index.parse().ok()?, parallelism.parse().ok()?, epoch.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use laminar_core::TaskId;

    use super::*;

    fn rows(n: i64) -> Vec<RecordBatch> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..n));
        vec![RecordBatch::try_from_iter([("v", column)]).unwrap()]
    }

    fn context(index: u32, parallelism: usize, restored: &[StateFile]) -> OperatorContext {
        OperatorContext {
            task: TaskId { operator: "a-1".into(), index },
            parallelism,
            restored: restored.to_vec(),
            watermark: None,
        }
    }

    fn names(files: &[StateFile]) -> Vec<&str> {
        files.iter().map(|f| f.name.as_str()).collect()
    }

    #[test]
    fn the_whole_state_replaces_a_log_that_is_twice_as_long() {
        let mut log = StateLog::empty(0, 1);
        assert_eq!(names(&log.delta(Epoch(1), rows(1500)).add), ["0of1-1"]);
        assert!(!log.wants_whole(1500, 1500));
        log.delta(Epoch(2), rows(1500));
        assert!(log.wants_whole(1500, 1));
        let whole = log.whole(Epoch(3), rows(1500));
        assert_eq!((names(&whole.add), whole.remove), (vec!["0of1-3"], vec!["0of1-1".to_string(), "0of1-2".into()]));
        assert!(log.delta(Epoch(4), vec![]).add.is_empty());
    }

    #[test]
    fn noted_rows_are_the_delta_unless_the_whole_is_shorter() {
        let mut log = StateLog::empty(0, 1);
        let note = |log: &mut StateLog, n| rows(n).into_iter().for_each(|batch| log.note(batch, 1500));
        note(&mut log, 1000);
        note(&mut log, 500);
        let delta = log.noted(Epoch(1), 1500).unwrap();
        assert_eq!(delta.add.iter().flat_map(|f| &f.rows).map(RecordBatch::num_rows).sum::<usize>(), 1500);
        note(&mut log, 1501);
        note(&mut log, 1);
        assert!(log.noted(Epoch(2), 1500).is_none());
        log.whole(Epoch(2), rows(1500));
        note(&mut log, 1);
        assert_eq!(names(&log.noted(Epoch(3), 1500).unwrap().add), ["0of1-3"]);
        log.next_is_whole();
        note(&mut log, 1);
        assert!(log.noted(Epoch(4), 1500).is_none());
    }

    #[test]
    fn another_parallelism_reads_all_files_and_writes_anew() {
        let mut files = StateLog::empty(0, 2).delta(Epoch(9), rows(1)).add;
        files.extend(StateLog::empty(1, 2).delta(Epoch(10), rows(2)).add);
        let (same, batches) = StateLog::open(&mut context(1, 2, &files));
        assert_eq!((batches.len(), same.wants_whole(2, 0)), (1, false));
        let (mut other, batches) = StateLog::open(&mut context(0, 3, &files));
        assert_eq!((batches.len(), other.is_inherited(), other.wants_whole(2, 0)), (2, true, true));
        assert_eq!(other.whole(Epoch(11), vec![]).remove, ["0of2-9", "1of2-10"]);
    }

    #[test]
    fn without_keys_all_rows_are_the_first_instances() {
        assert_eq!(owners(&[], 3, 4).unwrap(), [0, 0, 0]);
    }
}

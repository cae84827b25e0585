//! The rows that an updating pipeline's result has now, as a multiset.
//!
//! Rows are kept in Arrow's row encoding, so equal rows are equal bytes. Each operator instance keeps the balance of its own
//! changes, which is also what its checkpoints hold; the relation is the sum over all instances. (A row that one instance
//! brought may be taken back by another after a restart at another parallelism.)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use async_trait::async_trait;
use laminar_core::changes::ChangeKind;
use laminar_core::{Changes, Epoch, Error, Result};
use tokio::sync::broadcast;

use crate::operator::{Operator, OperatorContext, Output, Snapshot};
use crate::operators::rows::batch;
use crate::state_log::StateLog;

/// How many more times a row was inserted than deleted; never 0.
type Balance = BTreeMap<OwnedRow, i64>;

#[derive(Debug)]
pub(super) struct Current {
    converter: RowConverter,
    schema: SchemaRef,
    /// Which run fills it.
    run: u64,
    /// By operator instance.
    balances: BTreeMap<u32, Balance>,
}

impl Current {
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone()));
        Ok(Self {
            converter: RowConverter::new(fields.collect())?,
            schema: Arc::clone(schema),
            run: 0,
            balances: BTreeMap::new(),
        })
    }

    /// The rows, each as often as it is there, in the order of their encoding.
    pub fn rows(&self) -> Result<RecordBatch> {
        let mut sum: BTreeMap<&OwnedRow, i64> = BTreeMap::new();
        for (row, count) in self.balances.values().flatten() {
            *sum.entry(row).or_default() += count;
        }
        let times = |count: i64| usize::try_from(count).unwrap_or(0);
        let rows = sum.iter().flat_map(|(row, count)| std::iter::repeat_n(row.row(), times(*count)));
        batch(&self.schema, self.converter.convert_rows(rows)?, sum.values().map(|c| times(*c)).sum())
    }

    fn add(&mut self, task: u32, rows: &[ArrayRef], counts: impl Iterator<Item = i64>) -> Result<Vec<(OwnedRow, i64)>> {
        let encoded = self.converter.convert_columns(rows)?;
        let balance = self.balances.entry(task).or_default();
        let mut added = Vec::with_capacity(encoded.num_rows());
        for (row, count) in encoded.iter().zip(counts) {
            let row = row.owned();
            let sum = balance.entry(row.clone()).or_default();
            *sum += count;
            if *sum == 0 {
                balance.remove(&row);
            }
            added.push((row, count));
        }
        Ok(added)
    }

    /// Rows and how often each was inserted less deleted, for a checkpoint.
    fn log(&self, rows: &BTreeMap<OwnedRow, i64>) -> Result<RecordBatch> {
        let mut columns = self.converter.convert_rows(rows.keys().map(OwnedRow::row))?;
        columns.push(Arc::new(Int64Array::from_iter_values(rows.values().copied())));
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("balance", DataType::Int64, false)));
        batch(&Arc::new(Schema::new(fields)), columns, rows.len())
    }
}

/// One instance of the operator that keeps them.
pub(super) struct KeepCurrent {
    pub current: Arc<Mutex<Current>>,
    pub followers: broadcast::Sender<Changes>,
    pub task: u32,
    pub run: u64,
    pub log: StateLog,
    /// Since the last snapshot.
    pub fresh: Balance,
}

impl KeepCurrent {
    fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
        current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Operator for KeepCurrent {
    /// The first instance takes over the rows of a checkpoint that was made at another parallelism.
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        let takes = !log.is_inherited() || self.task == 0;
        self.log = log;
        let mut current = Self::lock(&self.current);
        if self.task == 0 {
            // A restart begins from the checkpoint's rows.
            current.balances.clear();
            current.run = self.run;
        }
        for rows in batches.iter().filter(|_| takes) {
            let Some((counts, columns)) = rows.columns().split_last() else { continue };
            let counts =
                counts.as_primitive_opt::<Int64Type>().ok_or_else(|| Error::internal("a balance is no number"))?;
            current.add(self.task, columns, counts.values().iter().copied())?;
        }
        Ok(())
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, _out: &mut Output) -> Result<()> {
        let mut current = Self::lock(&self.current);
        if current.run != self.run {
            return Ok(());
        }
        let columns = changes.rows().columns();
        let added = match changes.kinds() {
            None => current.add(self.task, columns, std::iter::repeat(1))?,
            Some(kinds) => current.add(self.task, columns, kinds.iter().map(ChangeKind::weight))?,
        };
        drop(current);
        for (row, count) in added {
            *self.fresh.entry(row).or_default() += count;
        }
        // Nobody listening is the usual case, and not an error.
        let _ = self.followers.send(changes);
        Ok(())
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.retain(|_, count| *count != 0);
        let current = Self::lock(&self.current);
        let empty = Balance::new();
        let own = current.balances.get(&self.task).unwrap_or(&empty);
        if self.log.wants_whole(own.len(), fresh.len()) {
            let rows = current.log(own)?;
            return Ok(self.log.whole(epoch, vec![rows]));
        }
        let rows = current.log(&fresh)?;
        Ok(self.log.delta(epoch, vec![rows]))
    }
}

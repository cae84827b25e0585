//! Rows that take the place of those of their keys, to changes.
//!
//! Accepts inserts, each the whole row of its key from then on, and deletes, of which only the key counts. Emits changes that carry
//! the whole rows, as every operator behind it expects them.
//!
//! ```text
//!  in    (a, 1)        (a, 2)                   (a, 2)     - (a, NULL)      - (b, NULL)
//!  out   insert        update before, after     nothing    delete (a, 2)    nothing
//! ```
//!
//! The state is the row of each key. A key whose row is older than the time to live is forgotten.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Fields, Schema, SchemaRef};
use arrow::row::{OwnedRow, Rows};
use async_trait::async_trait;
use laminar_core::{ChangeKind, Changes, Epoch, Result, TaskId, Watermark};

use super::encoding::Encoding;
use super::keyed_log::{Entry as LogEntry, Log};
use super::rows::batch;
use crate::operator::{Held, Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::state_log::StateLog;

/// Rows of the whole state that are written as one batch.
const PART: usize = 8192;

/// One input, whose rows with equal keys come to the same instance in their order.
#[derive(Clone, Debug)]
pub struct UpsertFactory {
    /// Columns of the key.
    pub keys: Vec<usize>,
    /// Of the rows that come out. Those that come in are of [`UpsertFactory::input_schema`]: a delete has NULLs outside of its key.
    pub schema: SchemaRef,
    /// A delete has no event time of its own: it is as old as the row that it takes away.
    pub deletes_are_timeless: bool,
    /// µs of event time.
    pub ttl_micros: Option<i64>,
}

impl OperatorFactory for UpsertFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Upsert::new(self, task)?))
    }

    fn fingerprint(&self) -> String {
        let name = |i: &usize| self.schema.fields().get(*i).map_or("", |field| field.name()).to_string();
        let ttl = self.ttl_micros.map(|ttl| format!(" ttl {ttl}us")).unwrap_or_default();
        format!("upsert by {}{ttl}", self.keys.iter().map(name).collect::<Vec<_>>().join(", "))
    }
}

impl UpsertFactory {
    /// Of the rows that come in.
    pub fn input_schema(&self) -> SchemaRef {
        let nullable = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        Arc::new(Schema::new(nullable.collect::<Fields>()))
    }
}

struct Upsert {
    plan: UpsertFactory,
    keys: Encoding,
    rows: Encoding,
    current: HashMap<OwnedRow, Current>,
    /// Keys by the times of their rows, if there is a time to live.
    by_time: BTreeSet<(i64, OwnedRow)>,
    /// Rows that came and are not kept, or not any more.
    released: u64,
    entries: Log,
    log: StateLog,
}

/// The row of a key.
struct Current {
    row: OwnedRow,
    /// µs since 1970 UTC.
    time: i64,
}

/// A row that is emitted: one that was kept, or one of the batch.
enum Image {
    Kept(OwnedRow),
    Came(usize),
}

impl Upsert {
    fn new(plan: &UpsertFactory, task: &TaskId) -> Result<Self> {
        let type_of = |i: &usize| plan.schema.fields().get(*i).map(|field| field.data_type().clone());
        Ok(Self {
            keys: Encoding::new(plan.keys.iter().filter_map(type_of).collect())?,
            rows: Encoding::new(plan.schema.fields().iter().map(|field| field.data_type().clone()).collect())?,
            current: HashMap::new(),
            by_time: BTreeSet::new(),
            released: 0,
            entries: Log::new(&Arc::new(Schema::empty()), &plan.input_schema()),
            log: StateLog::empty(task.index, 1),
            plan: plan.clone(),
        })
    }

    fn key_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.plan.keys.iter().filter_map(|i| rows.columns().get(*i)).cloned().collect()
    }

    fn keep(&mut self, key: OwnedRow, row: OwnedRow, time: i64) -> Option<Current> {
        if self.plan.ttl_micros.is_some() {
            self.by_time.insert((time, key.clone()));
        }
        let before = match self.current.entry(key) {
            Entry::Vacant(free) => {
                free.insert(Current { row, time });
                return None;
            }
            Entry::Occupied(mut taken) => {
                let before = taken.insert(Current { row, time });
                if self.plan.ttl_micros.is_some() && before.time != time {
                    self.by_time.remove(&(before.time, taken.key().clone()));
                }
                before
            }
        };
        Some(before)
    }

    fn take_away(&mut self, key: OwnedRow) -> Option<Current> {
        let gone = self.current.remove(&key)?;
        if self.plan.ttl_micros.is_some() {
            self.by_time.remove(&(gone.time, key));
        }
        Some(gone)
    }

    /// Takes rows, or what takes rows away; tells `emit` what follows.
    fn apply(
        &mut self,
        (keys, rows): (&Rows, &Rows),
        times: &[i64],
        is_there: impl Fn(usize) -> bool,
        mut emit: impl FnMut(ChangeKind, Image, i64),
    ) {
        for (i, ((key, row), time)) in keys.iter().zip(rows.iter()).zip(times).enumerate() {
            if !is_there(i) {
                self.released += 1;
                if let Some(gone) = self.take_away(key.owned()) {
                    self.released += 1;
                    let time = if self.plan.deletes_are_timeless { gone.time } else { *time };
                    emit(ChangeKind::Delete, Image::Kept(gone.row), time);
                }
                continue;
            }
            let before = self.keep(key.owned(), row.owned(), *time);
            self.released += u64::from(before.is_some());
            match before {
                None => emit(ChangeKind::Insert, Image::Came(i), *time),
                Some(before) if before.row.row() == row => {}
                Some(before) => {
                    emit(ChangeKind::UpdateBefore, Image::Kept(before.row), *time);
                    emit(ChangeKind::UpdateAfter, Image::Came(i), *time);
                }
            }
        }
    }

    fn encode(&self, rows: &RecordBatch) -> Result<(Rows, Rows)> {
        let keys = self.keys.encode(&self.key_columns(rows), rows.num_rows())?;
        Ok((keys, self.rows.encode(rows.columns(), rows.num_rows())?))
    }

    /// Forgets keys whose rows are too old for `watermark`.
    fn pass(&mut self, watermark: i64) {
        let Some(horizon) = self.plan.ttl_micros.map(|ttl| watermark.saturating_sub(ttl)) else { return };
        while self.by_time.first().is_some_and(|(time, _)| *time < horizon) {
            if let Some((_, key)) = self.by_time.pop_first() {
                self.released += u64::from(self.current.remove(&key).is_some());
            }
        }
    }

    /// In parts: one array holds no more than 2 GiB of text.
    fn whole(&self) -> Result<Vec<RecordBatch>> {
        let all: Vec<&Current> = self.current.values().collect();
        let part = |part: &[&Current]| {
            let rows = self.rows.decode(part.iter().map(|current| current.row.row()))?;
            let times: Vec<i64> = part.iter().map(|current| current.time).collect();
            self.entries.right(&batch(&self.plan.input_schema(), rows, times.len())?, &times, |_| true)
        };
        all.chunks(PART).map(part).collect()
    }
}

#[async_trait]
impl Operator for Upsert {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        for entries in batches {
            let LogEntry { right, is_there, .. } = self.entries.read(&entries)?;
            let is_mine = match self.log.is_inherited() {
                true => self.log.is_mine(&self.key_columns(right.rows()), right.num_rows())?,
                false => vec![true; right.num_rows()].into(),
            };
            let is_there: Vec<bool> = is_there
                .into_iter()
                .zip(&is_mine)
                .filter(|(_, mine)| *mine == Some(true))
                .map(|(there, _)| there)
                .collect();
            let own = right.filter(&is_mine)?;
            let (keys, rows) = self.encode(own.rows())?;
            self.apply((&keys, &rows), own.times().values(), |row| is_there.get(row) == Some(&true), |_, _, _| {});
        }
        if let Some(watermark) = ctx.watermark {
            self.pass(watermark);
        }
        self.released = 0;
        Ok(())
    }

    async fn on_changes(&mut self, _: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let (rows, times) = (changes.rows(), changes.times().values());
        let is_there = |row: usize| {
            changes.kinds().is_none_or(|kinds| matches!(kinds.get(row), ChangeKind::Insert | ChangeKind::UpdateAfter))
        };
        let encoded = self.encode(rows)?;
        let (mut kinds, mut images, mut emitted) = (Vec::new(), Vec::new(), Vec::new());
        self.apply((&encoded.0, &encoded.1), times, is_there, |kind, image, time| {
            kinds.push(kind);
            images.push(image);
            emitted.push(time);
        });
        self.log.note(self.entries.right(rows, times, is_there)?, self.current.len());
        let images = images.iter().map(|image| match image {
            Image::Kept(row) => row.row(),
            Image::Came(row) => encoded.1.row(*row),
        });
        let rows = batch(&self.plan.schema, self.rows.decode(images)?, kinds.len())?;
        out.push(Changes::new(rows, emitted.into(), Some(kinds.into_iter().collect()))?);
        Ok(())
    }

    async fn on_watermark(&mut self, watermark: Watermark, _: &mut Output) -> Result<()> {
        if let Watermark::At(time) = watermark {
            self.pass(time);
        }
        Ok(())
    }

    fn held(&self) -> Option<Held> {
        Some(Held::rows(self.current.len(), self.released))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        if let Some(delta) = self.log.noted(epoch, self.current.len()) {
            return Ok(delta);
        }
        let whole = self.whole()?;
        Ok(self.log.whole(epoch, whole))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use laminar_core::Kinds;

    use super::*;
    use crate::operator::StateFile;

    const MINUTE: i64 = 60_000_000;

    fn factory(ttl_micros: Option<i64>) -> UpsertFactory {
        let fields = [Field::new("id", DataType::Int64, false), Field::new("v", DataType::Utf8, false)];
        let schema = Arc::new(Schema::new(fields.to_vec()));
        UpsertFactory { keys: vec![0], schema, deletes_are_timeless: true, ttl_micros }
    }

    /// `(id, v, time)`; without a `v` it is a delete.
    fn changes(factory: &UpsertFactory, rows: &[(i64, Option<&str>, i64)]) -> Changes {
        let ids = Int64Array::from_iter_values(rows.iter().map(|(id, ..)| *id));
        let values: StringArray = rows.iter().map(|(_, v, _)| *v).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(values)];
        let kind = |v: &Option<&str>| if v.is_some() { ChangeKind::Insert } else { ChangeKind::Delete };
        let kinds: Kinds = rows.iter().map(|(_, v, _)| kind(v)).collect();
        let times: Vec<i64> = rows.iter().map(|(.., time)| *time).collect();
        Changes::new(batch(&factory.input_schema(), columns, rows.len()).unwrap(), times.into(), Some(kinds)).unwrap()
    }

    async fn open(
        factory: &UpsertFactory,
        parallelism: usize,
        index: u32,
        restored: &[StateFile],
    ) -> Box<dyn Operator> {
        let task = TaskId { operator: "upsert-1".into(), index };
        let mut operator = factory.create(&task).unwrap();
        let mut ctx = OperatorContext { task, parallelism, restored: restored.to_vec(), watermark: None };
        operator.open(&mut ctx).await.unwrap();
        operator
    }

    async fn run(operator: &mut Box<dyn Operator>, input: Changes) -> Vec<String> {
        let mut out = Output::default();
        let accounted = |operator: &dyn Operator| {
            let held = operator.held().unwrap();
            held.now + held.released.unwrap()
        };
        let taken = accounted(operator.as_ref()) + input.num_rows() as u64;
        operator.on_changes(0, input, &mut out).await.unwrap();
        assert_eq!(accounted(operator.as_ref()), taken);
        let mut shown = Vec::new();
        for changes in out.take() {
            let ids = changes.rows().column(0).as_primitive::<Int64Type>();
            let values = changes.rows().column(1).as_string::<i32>();
            for (row, kind) in changes.kinds().unwrap().iter().enumerate() {
                let time = changes.times().value(row) / MINUTE;
                shown.push(format!("{kind:?} {} {} @{time}", ids.value(row), values.value(row)));
            }
        }
        shown
    }

    #[tokio::test]
    async fn each_row_takes_the_place_of_the_one_before() {
        let factory = factory(None);
        let mut operator = open(&factory, 1, 0, &[]).await;
        let first = [
            (1, Some("a"), 0),
            (2, Some("b"), MINUTE),
            (1, Some("c"), 2 * MINUTE),
            (1, Some("c"), 3 * MINUTE),
            (3, None, 0),
        ];
        let first = run(&mut operator, changes(&factory, &first)).await;
        assert_eq!(first, ["Insert 1 a @0", "Insert 2 b @1", "UpdateBefore 1 a @2", "UpdateAfter 1 c @2"]);
        let second = run(
            &mut operator,
            changes(&factory, &[(1, None, 9 * MINUTE), (2, Some("d"), 4 * MINUTE), (1, Some("e"), 5 * MINUTE)]),
        )
        .await;
        assert_eq!(second, ["Delete 1 c @3", "UpdateBefore 2 b @4", "UpdateAfter 2 d @4", "Insert 1 e @5"]);
    }

    #[tokio::test]
    async fn a_restart_knows_every_row_also_at_another_parallelism() {
        let factory = factory(None);
        let mut operator = open(&factory, 1, 0, &[]).await;
        let rows: Vec<_> = (0..100).map(|id| (id, Some("old"), 0)).collect();
        run(&mut operator, changes(&factory, &rows)).await;
        let mut files = operator.snapshot(Epoch(1)).unwrap().add;
        run(&mut operator, changes(&factory, &[(7, None, 0), (8, Some("newer"), 0)])).await;
        files.extend(operator.snapshot(Epoch(2)).unwrap().add);
        for parallelism in [1, 3] {
            let mut seen = Vec::new();
            for index in 0..parallelism {
                let mut operator = open(&factory, parallelism, index as u32, &files).await;
                let all: Vec<_> = (0..100).map(|id| (id, None, 0)).collect();
                seen.extend(run(&mut operator, changes(&factory, &all)).await);
                operator.snapshot(Epoch(3)).unwrap();
            }
            seen.sort();
            let mut expected: Vec<_> = (0..100)
                .filter(|id| *id != 7)
                .map(|id| format!("Delete {id} {} @0", if id == 8 { "newer" } else { "old" }))
                .collect();
            expected.sort();
            assert_eq!(seen, expected, "parallelism {parallelism}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_for_forgetting_does_not_grow_with_the_records() {
        let plan = factory(Some(10 * MINUTE));
        let mut operator = Upsert::new(&plan, &TaskId { operator: "upsert-1".into(), index: 0 }).unwrap();
        for round in 0..100 {
            let rows = [(1, Some("a"), round), (2, Some("b"), round), (2, None, 0)];
            operator.on_changes(0, changes(&plan, &rows), &mut Output::default()).await.unwrap();
        }
        assert_eq!((operator.current.len(), operator.by_time.len()), (1, 1));
    }

    #[tokio::test]
    async fn a_row_is_forgotten_after_its_time_to_live() {
        let factory = factory(Some(10 * MINUTE));
        let mut operator = open(&factory, 1, 0, &[]).await;
        run(&mut operator, changes(&factory, &[(1, Some("a"), 0), (2, Some("b"), 0), (2, Some("c"), 5 * MINUTE)]))
            .await;
        operator.on_watermark(Watermark::At(12 * MINUTE), &mut Output::default()).await.unwrap();
        assert_eq!(operator.held(), Some(Held::rows(1, 2)));
        let after =
            run(&mut operator, changes(&factory, &[(1, Some("d"), 12 * MINUTE), (2, Some("e"), 12 * MINUTE)])).await;
        assert_eq!(after, ["Insert 1 d @12", "UpdateBefore 2 c @12", "UpdateAfter 2 e @12"]);
    }
}

//! The join against a model: of all versions that ever came, the latest that is not later than the row.
//!
//! Rows are `(k, v)` with small values and times, so that they often meet. The join runs as one to three instances, which are
//! now and then checkpointed and restored, as one or more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::logical_expr::Operator as Compare;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use futures::executor::block_on;
use laminar_core::{ChangeKind, Changes, Epoch, TaskId, Watermark};
use proptest::prelude::*;

use super::{TemporalJoinFactory, Unmatched};
use crate::operator::{Operator, OperatorContext, OperatorFactory, Output, StateFile};
use crate::state_log::owners;

type Key = Option<i64>;
/// Key, value and time of a left row, and the value of its version.
type Joined = (Key, i64, i64, Option<i64>);

#[derive(Clone, Debug)]
enum Step {
    /// Key, value, time after the watermark.
    Left(Key, i64, i64),
    Right(ChangeKind, Key, i64, i64),
    /// So much further.
    Watermark(i64),
    Checkpoint,
    /// As so many instances.
    Restore(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop_oneof![1 => Just(None), 12 => (0..3_i64).prop_map(Some)];
    let kind = prop_oneof![
        5 => Just(ChangeKind::Insert),
        1 => Just(ChangeKind::UpdateBefore),
        3 => Just(ChangeKind::UpdateAfter),
        2 => Just(ChangeKind::Delete),
    ];
    prop_oneof![
        6 => (key(), 0..5_i64, 0..12_i64).prop_map(|(k, v, t)| Step::Left(k, v, t)),
        6 => (kind, key(), 0..5_i64, 0..12_i64).prop_map(|(kind, k, v, t)| Step::Right(kind, k, v, t)),
        3 => (0..6_i64).prop_map(Step::Watermark),
        1 => Just(Step::Checkpoint),
        1 => (1..4_usize).prop_map(Step::Restore),
    ]
}

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn factory(unmatched: Unmatched, filtered: bool) -> TemporalJoinFactory {
    // The left value is not above the version's.
    let filter: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(column("v", 1), Compare::LtEq, column("w", 3)));
    TemporalJoinFactory {
        unmatched,
        left_keys: vec![column("k", 0)],
        right_keys: vec![column("k", 0)],
        filter: filtered.then_some(filter),
        left_schema: schema(&["k", "v"]),
        right_schema: schema(&["k", "w"]),
        schema: schema(&["k", "v", "k", "w"]),
        ttl_micros: None,
    }
}

fn row(side: &SchemaRef, kind: ChangeKind, (key, value, time): (Key, i64, i64)) -> Changes {
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![key])), Arc::new(Int64Array::from(vec![value]))];
    let rows = RecordBatch::try_new(Arc::clone(side), columns).unwrap();
    Changes::new(rows, vec![time].into(), Some([kind].into_iter().collect())).unwrap()
}

/// The instances, and the files of their last checkpoint.
struct Running {
    factory: TemporalJoinFactory,
    instances: Vec<Box<dyn Operator>>,
    files: BTreeMap<String, StateFile>,
    epoch: u64,
    watermark: i64,
    /// Rows that the instances had when they were opened, and that came since.
    taken: u64,
    emitted: Vec<Joined>,
}

impl Running {
    fn new(factory: TemporalJoinFactory) -> Self {
        let (instances, files) = Default::default();
        let mut running = Self { factory, instances, files, epoch: 0, watermark: 0, taken: 0, emitted: Vec::new() };
        running.open(1);
        running
    }

    fn open(&mut self, parallelism: usize) {
        let instance = |index: u32| {
            let task = TaskId { operator: "versions-1".into(), index };
            let mut instance = self.factory.create(&task).unwrap();
            let restored = self.files.values().cloned().collect();
            let mut ctx = OperatorContext { task, parallelism, restored, watermark: Some(self.watermark) };
            block_on(instance.open(&mut ctx)).unwrap();
            instance
        };
        self.instances = (0..parallelism as u32).map(instance).collect();
        self.taken = self.held().0;
    }

    /// Rows that are kept, and that are not.
    fn held(&self) -> (u64, u64) {
        let held = self.instances.iter().filter_map(|instance| instance.held());
        held.fold((0, 0), |(now, released), held| (now + held.now, released + held.released.unwrap()))
    }

    fn check_books(&self) {
        let (now, released) = self.held();
        assert_eq!(self.taken, released + now, "{released} released, {now} held");
    }

    fn push(&mut self, input: usize, changes: Changes) {
        let keys = [Arc::clone(changes.rows().column(0))];
        self.taken += changes.num_rows() as u64;
        let owner = owners(&keys, 1, self.instances.len()).unwrap()[0] as usize;
        let mut out = Output::default();
        block_on(self.instances[owner].on_changes(input, changes, &mut out)).unwrap();
        assert!(out.take().is_empty(), "a row waits for the watermark");
        self.check_books();
    }

    fn all(&mut self, mut call: impl FnMut(&mut Box<dyn Operator>, &mut Output)) {
        for instance in &mut self.instances {
            let mut out = Output::default();
            call(instance, &mut out);
            for changes in out.take() {
                assert!(changes.kinds().is_none());
                let value = |column: usize, row: usize| {
                    let column = changes.rows().column(column).as_primitive::<Int64Type>();
                    column.is_valid(row).then(|| column.value(row))
                };
                let times: &TimestampMicrosecondArray = changes.times();
                let joined = |i: usize| (value(0, i), value(1, i).unwrap(), times.value(i), value(3, i));
                self.emitted.extend((0..changes.num_rows()).map(joined));
            }
        }
        self.check_books();
    }

    fn checkpoint(&mut self) {
        self.epoch += 1;
        for instance in &mut self.instances {
            let snapshot = instance.snapshot(Epoch(self.epoch)).unwrap();
            snapshot.remove.iter().for_each(|name| _ = self.files.remove(name));
            self.files.extend(snapshot.add.into_iter().map(|file| (file.name.clone(), file)));
        }
    }
}

#[derive(Default)]
struct Model {
    left: Vec<(Key, i64, i64)>,
    versions: HashMap<i64, BTreeMap<i64, Option<i64>>>,
}

impl Model {
    /// The left rows from before `until`, joined.
    fn joined(&self, until: i64, factory: &TemporalJoinFactory) -> Vec<Joined> {
        let ready = self.left.iter().filter(|(.., time)| *time < until);
        let all = ready.map(|(key, value, time)| {
            let versions = key.and_then(|key| self.versions.get(&key));
            let version = versions.and_then(|v| v.range(..=*time).next_back()).and_then(|(_, version)| *version);
            (*key, *value, *time, version.filter(|w| factory.filter.is_none() || value <= w))
        });
        all.filter(|(.., version)| version.is_some() || factory.unmatched == Unmatched::Emit).collect()
    }
}

fn check(steps: Vec<Step>, factory: TemporalJoinFactory) {
    let (mut running, mut model) = (Running::new(factory.clone()), Model::default());
    let compare = |running: &Running, model: &Model, until: i64| {
        let (mut actual, mut expected) = (running.emitted.clone(), model.joined(until, &factory));
        actual.sort_unstable();
        expected.sort_unstable();
        assert_eq!(actual, expected, "until {until}");
    };
    for step in steps {
        match step {
            Step::Left(key, value, after) => {
                let left = (key, value, running.watermark + after);
                model.left.push(left);
                running.push(0, row(&factory.left_schema, ChangeKind::Insert, left));
            }
            Step::Right(kind, key, value, after) => {
                let right = (key, value, running.watermark + after);
                let version = (kind.weight() > 0).then_some(value);
                key.map(|key| model.versions.entry(key).or_default().insert(right.2, version));
                running.push(1, row(&factory.right_schema, kind, right));
            }
            Step::Watermark(by) => {
                running.watermark += by;
                let watermark = Watermark::At(running.watermark);
                running.all(|instance, out| block_on(instance.on_watermark(watermark, out)).unwrap());
                compare(&running, &model, running.watermark);
            }
            Step::Checkpoint => running.checkpoint(),
            Step::Restore(parallelism) => {
                running.checkpoint();
                running.open(parallelism);
            }
        }
    }
    running.all(|instance, out| block_on(instance.on_end(out)).unwrap());
    compare(&running, &model, i64::MAX);
    // What is at an end does not come again.
    running.checkpoint();
    running.open(2);
    running.all(|instance, out| block_on(instance.on_end(out)).unwrap());
    compare(&running, &model, i64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn each_row_finds_the_version_of_its_time(
        steps in proptest::collection::vec(step(), 1..80),
        unmatched in prop_oneof![Just(Unmatched::Drop), Just(Unmatched::Emit)],
        filtered in any::<bool>(),
    ) {
        check(steps, factory(unmatched, filtered));
    }
}

/// Rows of the whole state after the steps.
fn state_rows(factory: &TemporalJoinFactory, steps: &[(ChangeKind, i64, i64)], watermark: i64) -> usize {
    let mut running = Running::new(factory.clone());
    for (kind, key, time) in steps {
        running.push(1, row(&factory.right_schema, *kind, (Some(*key), 7, *time)));
    }
    running.all(|instance, out| block_on(instance.on_watermark(Watermark::At(watermark), out)).unwrap());
    running.checkpoint();
    running.watermark = watermark;
    // At another parallelism the next checkpoint is whole.
    running.open(2);
    running.checkpoint();
    running.files.values().flat_map(|file| &file.rows).map(RecordBatch::num_rows).sum()
}

#[test]
fn versions_that_no_row_can_ask_for_are_dropped() {
    use ChangeKind::{Delete, Insert};
    let plan = factory(Unmatched::Drop, false);
    let versions: Vec<_> = (0..100).map(|time| (Insert, time % 2, time)).collect();
    assert_eq!(state_rows(&plan, &versions, 1000), 2, "the last of each key");
    assert_eq!(state_rows(&plan, &versions, 50), 2 + 49, "the one at the watermark or before, and later ones");
    let reversed: Vec<_> = versions.iter().rev().copied().collect();
    assert_eq!(state_rows(&plan, &reversed, 50), 2 + 49, "in whatever order they came");
    assert_eq!(state_rows(&plan, &[(Insert, 1, 10), (Delete, 1, 20), (Insert, 2, 10)], 30), 1, "a deleted key is gone");
    let short = TemporalJoinFactory { ttl_micros: Some(100), ..plan };
    assert_eq!(state_rows(&short, &[(Insert, 1, 10), (Insert, 2, 50), (Insert, 1, 200)], 160), 2, "2 is too old");
}

//! A join against a model: nested loops over what both inputs are.
//!
//! Rows are `(k, v, t)`: a key, a value for the rest of the condition, and the event time in tenths of a second, all small
//! so that they are often equal. The join runs as one or two instances that are now and then restored from a checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::logical_expr::Operator as Compare;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};
use futures::executor::block_on;
use laminar_core::{ChangeKind, Changes, Epoch, TaskId, Watermark};
use proptest::prelude::*;

use super::{Join, JoinFactory, JoinKind, OuterRows, TimeBounds};
use crate::operator::{Operator, OperatorContext, OperatorFactory, Output, StateFile};
use crate::state_log::owners;

const KINDS: [JoinKind; 8] = [
    JoinKind::Inner,
    JoinKind::Left,
    JoinKind::Right,
    JoinKind::Full,
    JoinKind::LeftSemi,
    JoinKind::LeftAnti,
    JoinKind::RightSemi,
    JoinKind::RightAnti,
];
const TENTH_MICROS: i64 = 100_000;

type Row = [Option<i64>; 3];
/// `true`: an insert.
type Change = (bool, Row);

fn input_schema() -> SchemaRef {
    let fields = ["k", "v", "t"].map(|name| Field::new(name, DataType::Int64, true));
    Arc::new(Schema::new(fields.to_vec()))
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn binary(left: Arc<dyn PhysicalExpr>, op: Compare, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, op, right))
}

/// A join on `k`.
fn join(kind: JoinKind) -> JoinFactory {
    let sides = match kind {
        JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full => 2,
        _ => 1,
    };
    let fields = (0..sides).flat_map(|_| input_schema().fields().to_vec()).collect::<Vec<_>>();
    JoinFactory {
        kind,
        left_keys: vec![column("k", 0)],
        right_keys: vec![column("k", 0)],
        null_equals_null: false,
        filter: None,
        left_schema: input_schema(),
        right_schema: input_schema(),
        schema: Arc::new(Schema::new(fields)),
        bounds: None,
        ttl_micros: [None; 2],
        emit: OuterRows::AtOnce,
    }
}

/// `left.v <= right.v`
fn with_filter(plan: JoinFactory) -> JoinFactory {
    JoinFactory { filter: Some(binary(column("v", 1), Compare::LtEq, column("v", 4))), ..plan }
}

/// `left.t - right.t BETWEEN lower AND upper`
fn with_bounds(plan: JoinFactory, lower: i64, upper: i64, emit: OuterRows) -> JoinFactory {
    let apart = || binary(column("t", 2), Compare::Minus, column("t", 5));
    let at_least = binary(apart(), Compare::GtEq, lit(lower));
    let filter = binary(at_least, Compare::And, binary(apart(), Compare::LtEq, lit(upper)));
    let bounds = Some(TimeBounds { lower: lower * TENTH_MICROS, upper: upper * TENTH_MICROS });
    JoinFactory { filter: Some(filter), bounds, emit, ..plan }
}

fn changes(changes: &[Change]) -> Changes {
    let column = |i: usize| Arc::new(Int64Array::from_iter(changes.iter().map(|(_, row)| row[i]))) as ArrayRef;
    let rows = RecordBatch::try_new(input_schema(), (0..3).map(column).collect()).unwrap();
    let times = changes.iter().map(|(_, row)| row[2].unwrap_or(0) * TENTH_MICROS);
    let kinds = changes.iter().enumerate().map(|(i, (insert, _))| match (insert, i % 2) {
        (true, 0) => ChangeKind::Insert,
        (true, _) => ChangeKind::UpdateAfter,
        (false, 0) => ChangeKind::Delete,
        (false, _) => ChangeKind::UpdateBefore,
    });
    let kinds = changes.iter().any(|(insert, _)| !insert).then(|| kinds.collect());
    Changes::new(rows, TimestampMicrosecondArray::from_iter_values(times), kinds).unwrap()
}

/// The two input relations, and the join of them.
#[derive(Default)]
struct Model {
    inputs: [Vec<Row>; 2],
}

impl Model {
    fn apply(&mut self, input: usize, changes: &[Change]) {
        let rows = &mut self.inputs[input];
        for (insert, row) in changes {
            match rows.iter().position(|r| r == row) {
                _ if *insert => rows.push(*row),
                Some(at) => _ = rows.swap_remove(at),
                None => {}
            }
        }
    }

    fn join(&self, plan: &JoinFactory) -> BTreeMap<Vec<Option<i64>>, i64> {
        use JoinKind::*;
        let [left, right] = &self.inputs;
        let keyless = plan.left_keys.is_empty();
        let fits = |l: &Row, r: &Row| {
            let equal = keyless || (l[0] == r[0] && (plan.null_equals_null || l[0].is_some()));
            let apart = || (l[2].unwrap_or(0) - r[2].unwrap_or(0)) * TENTH_MICROS;
            equal
                && match plan.bounds {
                    Some(bounds) => (bounds.lower..=bounds.upper).contains(&apart()),
                    None => plan.filter.is_none() || matches!((l[1], r[1]), (Some(l), Some(r)) if l <= r),
                }
        };
        let mut joined = BTreeMap::new();
        let mut add =
            |parts: &[&Row]| *joined.entry(parts.iter().copied().flatten().copied().collect()).or_insert(0) += 1;
        let none: Row = [None; 3];
        for l in left {
            let matches: Vec<_> = right.iter().filter(|r| fits(l, r)).collect();
            match (plan.kind, matches.is_empty()) {
                (Inner | Left | Right | Full, false) => matches.iter().for_each(|r| add(&[l, r])),
                (Left | Full, true) => add(&[l, &none]),
                (LeftSemi, false) | (LeftAnti, true) => add(&[l]),
                _ => {}
            }
        }
        for r in right {
            match (plan.kind, left.iter().any(|l| fits(l, r))) {
                (Right | Full, false) => add(&[&none, r]),
                (RightSemi, true) | (RightAnti, false) => add(&[r]),
                _ => {}
            }
        }
        joined
    }
}

/// The instances of a join, the files of their last checkpoint, and the relation they have emitted.
struct Running {
    plan: JoinFactory,
    instances: Vec<Join>,
    files: Vec<StateFile>,
    epoch: u64,
    watermark: i64,
    emitted: BTreeMap<Vec<Option<i64>>, i64>,
    only_inserts: bool,
    /// Rows that the instances had when they were opened, and that came since.
    taken: u64,
}

impl Running {
    fn new(plan: JoinFactory) -> Self {
        let (files, emitted) = Default::default();
        let mut running = Self {
            plan,
            instances: vec![],
            files,
            epoch: 0,
            watermark: i64::MIN,
            emitted,
            only_inserts: true,
            taken: 0,
        };
        running.restart(1);
        running
    }

    fn restart(&mut self, parallelism: usize) {
        let start = |index| {
            let task = TaskId { operator: "join-1".into(), index };
            let mut join = Join::new(&self.plan, &task).unwrap();
            let mut ctx = OperatorContext { task, parallelism, restored: self.files.clone(), watermark: None };
            block_on(join.open(&mut ctx)).unwrap();
            join
        };
        self.instances = (0..parallelism as u32).map(start).collect();
        self.taken = self.held().0;
        // Nothing was forwarded by this run of the job yet.
        self.watermark = i64::MIN;
    }

    /// Rows that are kept, and that are not.
    fn held(&self) -> (u64, u64) {
        let held = self.instances.iter().filter_map(Operator::held);
        held.fold((0, 0), |(now, released), held| (now + held.now, released + held.released.unwrap()))
    }

    fn checkpoint(&mut self) {
        self.epoch += 1;
        let snapshots: Vec<_> = self.instances.iter_mut().map(|i| i.snapshot(Epoch(self.epoch)).unwrap()).collect();
        for snapshot in &snapshots {
            self.files.retain(|file| !snapshot.remove.contains(&file.name));
        }
        let files = snapshots.into_iter().flat_map(|snapshot| snapshot.add);
        self.files.extend(files.map(|file| StateFile { rows: written_and_read(&file.rows), ..file }));
    }

    fn feed(&mut self, input: usize, batch: &[Change]) {
        let batch = changes(batch);
        self.taken += batch.num_rows() as u64;
        let keys = if self.plan.left_keys.is_empty() { vec![] } else { vec![batch.rows().column(0).clone()] };
        let owners = owners(&keys, batch.num_rows(), self.instances.len()).unwrap();
        let mut out = Output::default();
        for (index, instance) in self.instances.iter_mut().enumerate() {
            let mine = owners.iter().map(|owner| Some(*owner as usize == index)).collect();
            block_on(instance.on_changes(input, batch.filter(&mine).unwrap(), &mut out)).unwrap();
        }
        self.take(out);
    }

    fn advance(&mut self, watermark: i64) {
        let mut out = Output::default();
        for instance in &mut self.instances {
            block_on(instance.on_watermark(Watermark::At(watermark), &mut out)).unwrap();
        }
        self.take(out);
        self.watermark = watermark;
    }

    fn end(&mut self) {
        let mut out = Output::default();
        self.instances.iter_mut().for_each(|instance| block_on(instance.on_end(&mut out)).unwrap());
        self.take(out);
    }

    fn take(&mut self, mut out: Output) {
        let (now, released) = self.held();
        assert_eq!(self.taken, released + now, "{released} released, {now} held");
        for batch in out.take() {
            assert!(batch.times().values().iter().all(|time| *time >= self.watermark), "a row behind the watermark");
            self.only_inserts &= batch.kinds().is_none();
            let columns: Vec<_> = batch.rows().columns().iter().map(|c| c.as_primitive::<Int64Type>()).collect();
            for i in 0..batch.num_rows() {
                let row: Vec<_> = columns.iter().map(|c| c.is_valid(i).then(|| c.value(i))).collect();
                let count = self.emitted.entry(row.clone()).or_insert(0);
                *count += match batch.kinds().map_or(ChangeKind::Insert, |kinds| kinds.get(i)) {
                    ChangeKind::Delete => -1,
                    ChangeKind::Insert => 1,
                    other => panic!("a join emits inserts and deletes, not {other:?}"),
                };
                assert!(*count >= 0, "{row:?} is deleted before it is inserted");
                if *count == 0 {
                    self.emitted.remove(&row);
                }
            }
        }
    }
}

/// As a state file is on disk: one stream, so one schema.
fn written_and_read(rows: &[RecordBatch]) -> Vec<RecordBatch> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows[0].schema()).unwrap();
    rows.iter().for_each(|batch| writer.write(batch).unwrap());
    let read = StreamReader::try_new(Cursor::new(writer.into_inner().unwrap()), None).unwrap();
    read.collect::<Result<_, _>>().unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Feed(usize, Vec<Change>),
    Checkpoint,
    /// A checkpoint, and a restart from it with so many instances.
    Restart(usize),
}

fn row() -> impl Strategy<Value = Row> {
    let value = || prop_oneof![1 => Just(None), 4 => (0..3_i64).prop_map(Some)];
    (value(), value()).prop_map(|(k, v)| [k, v, Some(0)])
}

fn step() -> impl Strategy<Value = Step> {
    let batch = prop::collection::vec((prop::bool::weighted(0.6), row()), 1..14);
    let inserts = prop::collection::vec(row().prop_map(|row| (true, row)), 1..10);
    prop_oneof![
        6 => (0..2_usize, batch).prop_map(|(input, batch)| Step::Feed(input, batch)),
        2 => (0..2_usize, inserts).prop_map(|(input, batch)| Step::Feed(input, batch)),
        1 => Just(Step::Checkpoint),
        1 => (1..3_usize).prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_join_of_changes_is_the_join_of_the_relations(
        steps in prop::collection::vec(step(), 1..16),
        filtered: bool,
        null_equals_null: bool,
        keyless in prop::bool::weighted(0.2),
    ) {
        for kind in KINDS {
            let mut plan = JoinFactory { null_equals_null, ..join(kind) };
            if keyless {
                (plan.left_keys, plan.right_keys) = (vec![], vec![]);
            }
            if filtered {
                plan = with_filter(plan);
            }
            let mut model = Model::default();
            let mut running = Running::new(plan);
            for step in &steps {
                match step {
                    Step::Feed(input, batch) => {
                        model.apply(*input, batch);
                        running.feed(*input, batch);
                    }
                    Step::Checkpoint => running.checkpoint(),
                    Step::Restart(parallelism) => {
                        running.checkpoint();
                        running.restart(*parallelism);
                    }
                }
                prop_assert_eq!(&running.emitted, &model.join(&running.plan), "{:?} after {:?}", kind, step);
            }
        }
    }

    #[test]
    fn an_interval_join_is_the_join_of_all_rows(
        mut rows in prop::collection::vec((0..2_usize, prop::option::weighted(0.9, 0..3_i64), 0..60_i64), 1..80),
        disorder in 0..8_usize,
        batch_rows in 1..12_usize,
        lower in -12..6_i64,
        span in 0..12_i64,
        restart_each in 2..9_usize,
    ) {
        // In the order of time, but for neighbours.
        rows.sort_by_key(|(_, _, t)| *t);
        for i in 0..rows.len() {
            let with = (i + (i * 7919) % (disorder + 1)).min(rows.len() - 1);
            rows.swap(i, with);
        }
        for (kind, emit) in KINDS.into_iter().flat_map(|k| [(k, OuterRows::AtOnce), (k, OuterRows::WhenExpired)]) {
            let mut model = Model::default();
            let mut running = Running::new(with_bounds(join(kind), lower, lower + span, emit));
            for (round, batch) in rows.chunks(batch_rows).enumerate() {
                for input in 0..2 {
                    let batch = batch.iter().filter(|(of, ..)| *of == input);
                    let batch: Vec<Change> = batch.map(|(_, k, t)| (true, [*k, Some(round as i64), Some(*t)])).collect();
                    model.apply(input, &batch);
                    running.feed(input, &batch);
                }
                if let Some(oldest) = rows.iter().skip((round + 1) * batch_rows).map(|(_, _, t)| *t).min() {
                    running.advance(oldest * TENTH_MICROS);
                }
                if round % 2 == 0 {
                    running.checkpoint();
                }
                if round % restart_each == 1 {
                    running.checkpoint();
                    running.restart(1 + round % 2);
                }
            }
            running.end();
            prop_assert_eq!(&running.emitted, &model.join(&running.plan), "{:?} {:?}", kind, emit);
            prop_assert!(running.only_inserts || emit == OuterRows::AtOnce);
        }
    }
}

/// Rows in the stores, removed or not, keys, and equal rows that are told apart.
fn held(join: &Join) -> [usize; 3] {
    let stores = [&join.stores.left, &join.stores.right];
    let rows = stores.iter().flat_map(|store| store.chunks.iter()).map(|(_, chunk)| chunk.slots.len()).sum();
    [rows, join.keys.len(), stores.iter().map(|store| store.distinct_rows()).sum()]
}

#[test]
fn memory_is_bounded_by_the_interval_when_keys_are_ever_new() {
    for emit in [OuterRows::AtOnce, OuterRows::WhenExpired] {
        let mut running = Running::new(with_bounds(join(JoinKind::Full), -20, 20, emit));
        let mut most = [0; 3];
        for round in 0..1000_i64 {
            let batch: Vec<_> = (0..5).map(|i| (true, [Some(round * 10 + i), Some(i), Some(round)])).collect();
            running.feed(0, &batch);
            running.feed(1, &batch[2..]);
            running.advance((round - 3) * TENTH_MICROS);
            most = std::array::from_fn(|i| most[i].max(held(&running.instances[0])[i]));
            if round % 7 == 0 {
                running.checkpoint();
            }
        }
        // Rows of about 25 rounds are live, 8 a round; at most half of the keys are out of use.
        assert!(most[0] < 300 && most[1] < 500, "{most:?}");
        running.end();
        assert_eq!(running.emitted.values().sum::<i64>(), 5000);
        assert!(running.files.iter().flat_map(|f| &f.rows).map(RecordBatch::num_rows).sum::<usize>() < 10_000);
    }
}

#[test]
fn memory_is_bounded_by_the_relation_when_rows_are_ever_replaced() {
    let mut running = Running::new(join(JoinKind::Left));
    let mut most = [0; 3];
    let row = |round: i64, i: i64| [Some(round * 10 + i), Some(i), Some(round)];
    // One row in ten stays until the hundredth round after.
    for round in 0..1000_i64 {
        for input in 0..2 {
            let mut batch: Vec<Change> = (0..10).map(|i| (true, row(round, i))).collect();
            batch.extend((1..10).map(|i| (false, row(round, i))));
            batch.extend((round >= 100).then(|| (false, row(round - 100, 0))));
            running.feed(input, &batch);
        }
        most = std::array::from_fn(|i| most[i].max(held(&running.instances[0])[i]));
    }
    assert_eq!(running.emitted.len(), 100);
    assert!(most[0] < 1000 && most[1] < 1000 && most[2] < 1000, "{most:?}");
}

#[test]
fn rows_older_than_the_ttl_are_dropped_and_what_was_emitted_stays() {
    let plan = JoinFactory { ttl_micros: [Some(10 * TENTH_MICROS); 2], ..join(JoinKind::Left) };
    let mut running = Running::new(plan);
    let row = |k: i64, t: i64| (true, [Some(k), None, Some(t)]);
    running.feed(0, &[row(1, 0), row(2, 0)]);
    running.feed(1, &[row(1, 0)]);
    running.advance(10 * TENTH_MICROS);
    assert_eq!(running.instances[0].stores.left.live(), 2);
    running.advance(10 * TENTH_MICROS + 1);
    assert_eq!(held(&running.instances[0])[0], 0);
    let before = running.emitted.clone();
    running.feed(1, &[row(2, 11)]);
    assert_eq!(running.emitted, before);
}

#[test]
fn a_row_whose_match_expired_is_not_unmatched() {
    let plan = JoinFactory { ttl_micros: [Some(10 * TENTH_MICROS); 2], ..join(JoinKind::Left) };
    let mut running = Running::new(plan);
    let row = |t: i64| [Some(1), None, Some(t)];
    running.feed(0, &[(true, row(5))]);
    running.checkpoint();
    running.feed(1, &[(true, row(0))]);
    running.checkpoint();
    running.restart(1);
    running.advance(12 * TENTH_MICROS);
    assert_eq!((running.instances[0].stores.left.live(), running.instances[0].stores.right.live()), (1, 0));
    let before = running.emitted.clone();
    running.feed(0, &[(false, row(5))]);
    assert_eq!((running.emitted, held(&running.instances[0])[0]), (before, 0));
}

#[test]
fn a_row_in_the_far_future_does_not_keep_the_others() {
    let mut running = Running::new(with_bounds(join(JoinKind::Inner), -5, 5, OuterRows::AtOnce));
    for round in 0..200_i64 {
        let row = |k: i64, t: i64| (true, [Some(k), None, Some(t)]);
        running.feed(0, &[row(round, round), row(round + 1, round + 1), row(-1, 1_000_000)]);
        running.advance((round - 1) * TENTH_MICROS);
    }
    assert!(running.instances[0].stores.left.live() < 230, "{}", running.instances[0].stores.left.live());
}

#[test]
fn a_frequent_key_comes_in_slices() {
    let mut running = Running::new(join(JoinKind::Inner));
    let batch: Vec<Change> = (0..30).map(|v| (true, [Some(1), Some(v), Some(0)])).collect();
    running.feed(0, &batch);
    let mut out = Output::default();
    block_on(running.instances[0].on_changes(1, changes(&batch), &mut out)).unwrap();
    let sizes: Vec<_> = out.take().iter().map(Changes::num_rows).collect();
    assert_eq!((sizes.iter().sum::<usize>(), sizes.iter().max()), (900, Some(&8)));
}

#[test]
fn columns_may_be_none_and_strings() {
    let empty = Arc::new(Schema::empty());
    let fields = vec![Field::new("s", DataType::Utf8View, false)];
    let strings = Arc::new(Schema::new(fields));
    let plan = JoinFactory {
        left_keys: vec![],
        right_keys: vec![],
        left_schema: empty.clone(),
        right_schema: strings.clone(),
        schema: Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8View, true)])),
        ..join(JoinKind::Full)
    };
    let mut running = Running::new(plan);
    let times = |n: usize| TimestampMicrosecondArray::from(vec![0; n]);
    let counted = super::super::rows::batch(&(empty as SchemaRef), vec![], 2).unwrap();
    let column: ArrayRef = Arc::new(arrow::array::StringViewArray::from(vec!["a", "b", "c"]));
    let named = RecordBatch::try_new(strings, vec![column]).unwrap();
    let mut seen = HashMap::new();
    for (input, changes) in
        [(0, Changes::inserts(counted, times(2)).unwrap()), (1, Changes::inserts(named, times(3)).unwrap())]
    {
        let mut out = Output::default();
        block_on(running.instances[0].on_changes(input, changes, &mut out)).unwrap();
        for batch in out.take() {
            for (i, s) in batch.rows().column(0).as_string_view().iter().enumerate() {
                let sign = batch.kinds().map_or(1, |k| if k.get(i) == ChangeKind::Delete { -1 } else { 1 });
                *seen.entry(s.map(str::to_string)).or_insert(0) += sign;
            }
        }
        running.checkpoint();
        running.restart(1);
    }
    seen.retain(|_, count| *count != 0);
    assert_eq!(seen, ["a", "b", "c"].map(|s| (Some(s.to_string()), 2)).into());
}

#[test]
fn the_fingerprint_says_what_is_joined() {
    let plan = with_bounds(join(JoinKind::Left), -5, 0, OuterRows::WhenExpired);
    assert_eq!(
        plan.fingerprint(),
        "join Left WhenExpired on k@0 = k@0 and t@2 - t@5 >= -5 AND t@2 - t@5 <= 0 within -500000us..0us"
    );
    assert_eq!(
        JoinFactory { ttl_micros: [Some(7); 2], ..join(JoinKind::Inner) }.fingerprint(),
        "join Inner AtOnce on k@0 = k@0 ttl 7us"
    );
}

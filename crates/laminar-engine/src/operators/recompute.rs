//! Any batch query over the rows of a key, kept up to date: OVER, top-N, aggregates of rows that change.
//!
//! The operator keeps its input, by key. A batch makes some keys dirty; their rows go through an ordinary DataFusion plan,
//! once for all of them, and what differs from their last result is emitted. So whatever DataFusion can answer for the rows
//! of one key is answered, for rows that come, change and go in any order, at the price of computing a key's result anew.
//!
//! ```text
//!  changes ─► rows of each key ─► dirty keys' rows ─► plan ─► result  ─ less ─  last result  ─► changes
//! ```
//!
//! The plan must give the same for the same rows, in whatever order they come: the planner makes orderings total. It then
//! gives after a restart what it gave before, so results are not part of a checkpoint.
//!
//! With [`Emit::OnClose`] a key has an end in time (it holds a window): its rows are kept until the watermark passes that,
//! go through the plan once, and the result is emitted as inserts. A closed window is a batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::OwnedRow;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, collect};
use laminar_core::changes::{ChangeKind, Kinds};
use laminar_core::{Changes, Epoch, Error, Result, TaskId, Watermark};

use super::aggregate::window_ends;
use super::encoding::Encoding;
use super::evaluation_error;
use super::rows::{batch, evaluate_all};
use crate::operator::{Held, Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::state_log::StateLog;

#[derive(Clone)]
pub struct RecomputeFactory {
    /// Its only leaf is a scan of the input's columns under the names `c0`, `c1`, …: the rows at hand take its place.
    pub query: LogicalPlan,
    pub state: Arc<SessionState>,
    /// Over the input's columns, at least one. Rows are routed by them.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The same keys over the output's columns.
    pub output_keys: Vec<Arc<dyn PhysicalExpr>>,
    pub input: SchemaRef,
    pub schema: SchemaRef,
    pub emit: Emit,
    /// Rows that are not in the result never come into it later: only those of the result are kept. For that the result's
    /// first columns are the input's.
    pub prune: bool,
    /// A key that no row came for in so much event time is forgotten; its result stays where it was emitted to.
    pub ttl_micros: Option<i64>,
    /// Equal text means that the state fits.
    pub fingerprint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Whenever the result changes.
    Updates,
    /// Once, when the watermark passes the end of the window that is the key with this index.
    OnClose { window: usize },
}

impl std::fmt::Debug for RecomputeFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.fingerprint)
    }
}

impl OperatorFactory for RecomputeFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        let of_schema =
            |schema: &SchemaRef| Encoding::new(schema.fields().iter().map(|f| f.data_type().clone()).collect());
        let key_types = self.keys.iter().map(|k| k.data_type(&self.input)).collect::<Result<_, _>>();
        Ok(Box::new(Recompute {
            key_rows: Encoding::new(key_types.map_err(evaluation_error)?)?,
            input_rows: of_schema(&self.input)?,
            output_rows: of_schema(&self.schema)?,
            plan: self.clone(),
            physical: None,
            groups: HashMap::new(),
            ends: BTreeMap::new(),
            log: StateLog::empty(task.index, 1),
            fresh: BTreeMap::new(),
            live: 0,
            next_sweep: i64::MIN,
            closed: i64::MIN,
        }))
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

/// Rows and how often each is there.
type Multiset = BTreeMap<OwnedRow, i64>;

/// What differs between results.
#[derive(Default)]
struct Difference {
    gone: Vec<OwnedRow>,
    /// Before and after.
    changed: Vec<(OwnedRow, OwnedRow)>,
    come: Vec<OwnedRow>,
}

impl Difference {
    /// Adds that of one key: one row for another is an update, as of a group, which has one row.
    fn add(&mut self, before: &Multiset, after: &Multiset) {
        let mut gone = without(before, after);
        let mut come = without(after, before);
        if let (Some(before), None, Some(after), None) = (gone.next(), gone.next(), come.next(), come.next()) {
            self.changed.push((before, after));
            return;
        }
        self.gone.extend(without(before, after));
        self.come.extend(without(after, before));
    }
}

fn without<'a>(rows: &'a Multiset, others: &'a Multiset) -> impl Iterator<Item = OwnedRow> + 'a {
    rows.iter().flat_map(|(row, count)| {
        let left = count - others.get(row).copied().unwrap_or(0);
        std::iter::repeat_n(row, copies(left)).cloned()
    })
}

#[derive(Default)]
struct Group {
    rows: Multiset,
    /// What was emitted and not taken back.
    result: Multiset,
    /// Largest event time of its rows, µs.
    time: i64,
}

struct Recompute {
    plan: RecomputeFactory,
    /// Made when the operator is opened.
    physical: Option<Arc<dyn ExecutionPlan>>,
    key_rows: Encoding,
    input_rows: Encoding,
    output_rows: Encoding,
    groups: HashMap<OwnedRow, Group>,
    /// Keys by the end of their window.
    ends: BTreeMap<i64, BTreeSet<OwnedRow>>,
    log: StateLog,
    /// Rows that came less rows that went, since the last snapshot, each with its time.
    fresh: BTreeMap<OwnedRow, (i64, i64)>,
    /// Rows of all groups.
    live: usize,
    next_sweep: i64,
    /// The watermark: windows that end here or before were emitted.
    closed: i64,
}

fn add(rows: &mut Multiset, row: OwnedRow, count: i64) {
    match rows.entry(row) {
        std::collections::btree_map::Entry::Occupied(mut entry) => {
            *entry.get_mut() += count;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(count);
        }
    }
}

fn copies(count: i64) -> usize {
    usize::try_from(count).unwrap_or(0)
}

impl Recompute {
    /// Puts rows into their groups; returns the keys that were touched.
    fn take(&mut self, rows: &RecordBatch, times: &[i64], counts: impl Fn(usize) -> i64) -> Result<BTreeSet<OwnedRow>> {
        let keys = evaluate_all(&self.plan.keys, rows)?;
        let ends = match self.plan.emit {
            Emit::OnClose { window } => keys.get(window).map(window_ends).transpose()?,
            Emit::Updates => None,
        };
        let encoded_keys = self.encode_keys(&keys, rows.num_rows())?;
        let encoded = self.input_rows.encode(rows.columns(), rows.num_rows())?;
        let mut touched = BTreeSet::new();
        for (i, (key, row)) in encoded_keys.into_iter().zip(encoded.iter()).enumerate() {
            let (count, time) = (counts(i), times.get(i).copied().unwrap_or(i64::MIN));
            if let Some(ends) = &ends {
                let end = ends.values().get(i).filter(|end| ends.is_valid(i) && **end > self.closed);
                let Some(end) = end else {
                    // It is in no window, or late: its window was emitted.
                    continue;
                };
                self.ends.entry(*end).or_default().insert(key.clone());
            }
            let group = self.groups.entry(key.clone()).or_insert_with(|| Group { time: i64::MIN, ..Group::default() });
            group.time = group.time.max(time);
            self.live = self.live.saturating_sub(group.rows.len());
            let row = row.owned();
            add(&mut group.rows, row.clone(), count);
            self.live += group.rows.len();
            touched.insert(key);
            let fresh = self.fresh.entry(row).or_insert((0, time));
            *fresh = (fresh.0 + count, fresh.1.max(time));
        }
        Ok(touched)
    }

    fn encode_keys(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<OwnedRow>> {
        Ok(self.key_rows.encode(keys, rows)?.iter().map(|row| row.owned()).collect())
    }

    /// The plan's answer for the rows of these keys, by key.
    async fn compute(&self, keys: &BTreeSet<OwnedRow>) -> Result<HashMap<OwnedRow, Multiset>> {
        let groups = || keys.iter().filter_map(|k| self.groups.get(k));
        let count = groups().flat_map(|g| g.rows.values()).map(|c| copies(*c)).sum::<usize>();
        let mut results: HashMap<OwnedRow, Multiset> = HashMap::new();
        if count == 0 {
            return Ok(results);
        }
        let rows = groups().flat_map(|g| &g.rows).flat_map(|(row, c)| std::iter::repeat_n(row.row(), copies(*c)));
        let rows = batch(&self.plan.input, self.input_rows.decode(rows)?, count)?;
        let answer = self.run(rows).await?;
        let keys = self.encode_keys(&evaluate_all(&self.plan.output_keys, &answer)?, answer.num_rows())?;
        let encoded = self.output_rows.encode(answer.columns(), answer.num_rows())?;
        for (key, row) in keys.into_iter().zip(encoded.iter()) {
            add(results.entry(key).or_default(), row.owned(), 1);
        }
        Ok(results)
    }

    async fn run(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let plan = self.physical.as_ref().ok_or_else(|| Error::internal("the operator was not opened"))?;
        let plan = with_rows(plan, &rows).map_err(evaluation_error)?;
        let answer = collect(plan, self.plan.state.task_ctx()).await.map_err(evaluation_error)?;
        let schema = answer.first().map_or_else(|| Arc::clone(&self.plan.schema), RecordBatch::schema);
        let answer = concat_batches(&schema, &answer)?;
        // DataFusion's rewrites may widen a decimal: sum(d) beside count(DISTINCT …) becomes a sum of sums.
        let fields = self.plan.schema.fields().iter();
        let columns = answer.columns().iter().zip(fields).map(|(column, field)| cast(column, field.data_type()));
        batch(&self.plan.schema, columns.collect::<Result<_, _>>()?, answer.num_rows())
    }

    /// Brings the results of the keys up to date and emits the difference.
    async fn refresh(&mut self, keys: BTreeSet<OwnedRow>, out: &mut Output) -> Result<()> {
        let mut results = self.compute(&keys).await?;
        let mut difference = Difference::default();
        let mut time = i64::MIN;
        for key in keys {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            let result = results.remove(&key).unwrap_or_default();
            time = time.max(group.time);
            difference.add(&group.result, &result);
            if self.plan.prune {
                let width = self.plan.input.fields().len();
                let kept = pruned(&result, &self.output_rows, &self.input_rows, width)?;
                for (row, count) in &group.rows {
                    let dropped = count - kept.get(row).copied().unwrap_or(0);
                    if dropped != 0 {
                        self.fresh.entry(row.clone()).or_insert((0, group.time)).0 -= dropped;
                    }
                }
                self.live = self.live.saturating_sub(group.rows.len()) + kept.len();
                group.rows = kept;
            }
            group.result = result;
            if group.rows.is_empty() && group.result.is_empty() {
                self.groups.remove(&key);
            }
        }
        self.emit(difference, time, out)
    }

    fn emit(&self, difference: Difference, time: i64, out: &mut Output) -> Result<()> {
        let Difference { gone, changed, come } = difference;
        let all_inserts = gone.is_empty() && changed.is_empty();
        let gone = gone.into_iter().map(|row| (ChangeKind::Delete, row));
        let changed = changed
            .into_iter()
            .flat_map(|(before, after)| [(ChangeKind::UpdateBefore, before), (ChangeKind::UpdateAfter, after)]);
        let come = come.into_iter().map(|row| (ChangeKind::Insert, row));
        let (kinds, rows): (Vec<_>, Vec<_>) = gone.chain(changed).chain(come).unzip();
        let count = rows.len();
        if count == 0 {
            return Ok(());
        }
        let rows = self.output_rows.decode(rows.iter().map(OwnedRow::row))?;
        let rows = batch(&self.plan.schema, rows, count)?;
        let kinds = (!all_inserts).then(|| kinds.into_iter().collect::<Kinds>());
        out.push(Changes::new(rows, TimestampMicrosecondArray::from_value(time, count), kinds)?);
        Ok(())
    }

    /// Emits the results of the windows that end at `watermark` or before, and forgets them.
    async fn close(&mut self, watermark: i64, out: &mut Output) -> Result<()> {
        while let Some(first) = self.ends.first_entry() {
            let end = *first.key();
            if end > watermark {
                break;
            }
            let keys = first.remove();
            let results = self.compute(&keys).await?;
            let come = results.into_values().flatten();
            let come = come.flat_map(|(row, count)| std::iter::repeat_n(row, copies(count))).collect();
            for key in keys {
                if let Some(group) = self.groups.remove(&key) {
                    self.live = self.live.saturating_sub(group.rows.len());
                }
            }
            self.emit(Difference { come, ..Difference::default() }, end.saturating_sub(1), out)?;
        }
        self.closed = self.closed.max(watermark);
        Ok(())
    }

    /// Forgets keys that have been quiet since before `horizon`.
    fn forget(&mut self, horizon: i64) {
        let before = self.groups.len();
        self.groups.retain(|_, group| group.time >= horizon);
        if self.groups.len() != before {
            self.live = self.groups.values().map(|g| g.rows.len()).sum();
            self.log.next_is_whole();
        }
    }

    fn log_schema(&self) -> SchemaRef {
        let mut fields = self.plan.input.fields().to_vec();
        fields.push(Arc::new(Field::new("__count", DataType::Int64, false)));
        fields.push(Arc::new(Field::new("__time", DataType::Timestamp(TimeUnit::Microsecond, None), false)));
        Arc::new(Schema::new(fields))
    }

    fn log_rows<'a>(&self, rows: impl Iterator<Item = (&'a OwnedRow, i64, i64)>) -> Result<RecordBatch> {
        let rows: Vec<_> = rows.collect();
        let mut columns = self.input_rows.decode(rows.iter().map(|(row, ..)| row.row()))?;
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, count, _)| *count))));
        columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(.., time)| *time))));
        batch(&self.log_schema(), columns, rows.len())
    }
}

/// The plan with these rows in the place of its leaf, which reads some of the columns `c0`, `c1`, ….
fn with_rows(plan: &Arc<dyn ExecutionPlan>, rows: &RecordBatch) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let replaced = Arc::clone(plan).transform_up(|node| {
        if !node.children().is_empty() {
            // A node may remember its last run: a sort with a limit the bound that it found.
            return Ok(Transformed::yes(node.reset_state()?));
        }
        let schema = node.schema();
        let columns = schema.fields().iter().filter_map(|field| {
            let index = field.name().strip_prefix('c').and_then(|i| i.parse::<usize>().ok())?;
            rows.columns().get(index).cloned()
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let read = RecordBatch::try_new_with_options(Arc::clone(&schema), columns.collect(), &options)?;
        let leaf: Arc<dyn ExecutionPlan> = MemorySourceConfig::try_new_exec(&[vec![read]], schema, None)?;
        Ok(Transformed::yes(leaf))
    })?;
    Ok(replaced.data)
}

/// The input rows that are in the result.
fn pruned(result: &Multiset, output: &Encoding, input: &Encoding, columns: usize) -> Result<Multiset> {
    let decoded = output.decode(result.keys().map(OwnedRow::row))?;
    let encoded = input.encode(decoded.get(..columns).unwrap_or_default(), result.len())?;
    let mut rows = Multiset::new();
    for (row, count) in encoded.iter().zip(result.values()) {
        add(&mut rows, row.owned(), *count);
    }
    Ok(rows)
}

#[async_trait]
impl Operator for Recompute {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let physical = self.plan.state.create_physical_plan(&self.plan.query).await;
        self.physical = Some(physical.map_err(evaluation_error)?);
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        for logged in batches {
            let width = self.plan.input.fields().len();
            let columns = logged.columns().get(..width).unwrap_or_default().to_vec();
            let mut rows = batch(&self.plan.input, columns, logged.num_rows())?;
            let mut extra = logged.columns().get(width..).unwrap_or_default().to_vec();
            if self.log.is_inherited() {
                let mine = self.log.is_mine(&evaluate_all(&self.plan.keys, &rows)?, rows.num_rows())?;
                rows = arrow::compute::filter_record_batch(&rows, &mine)?;
                extra = extra.iter().map(|c| arrow::compute::filter(c, &mine)).collect::<Result<_, _>>()?;
            }
            let (Some(counts), Some(times)) = (
                extra.first().and_then(|c| c.as_primitive_opt::<Int64Type>()),
                extra.get(1).and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()),
            ) else {
                return Err(Error::internal("a log without counts and times"));
            };
            self.take(&rows, times.values(), |i| counts.values().get(i).copied().unwrap_or(0))?;
        }
        self.fresh.clear();
        match (self.plan.emit, ctx.watermark) {
            (Emit::OnClose { .. }, Some(closed)) => {
                // Emitted before the checkpoint.
                self.close(closed, &mut Output::default()).await?;
            }
            (Emit::OnClose { .. }, None) => {}
            (Emit::Updates, _) => {
                let keys = self.groups.keys().cloned().collect();
                self.refresh(keys, &mut Output::default()).await?;
            }
        }
        Ok(())
    }

    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let kinds = changes.kinds().cloned();
        let count = |i| kinds.as_ref().map_or(1, |kinds| kinds.get(i).weight());
        let touched = self.take(changes.rows(), changes.times().values(), count)?;
        match self.plan.emit {
            Emit::Updates => self.refresh(touched, out).await,
            Emit::OnClose { .. } => Ok(()),
        }
    }

    async fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        let Watermark::At(now) = watermark else { return Ok(()) };
        self.close(now, out).await?;
        if let Some(ttl) = self.plan.ttl_micros
            && now >= self.next_sweep
        {
            self.next_sweep = now.saturating_add(ttl / 4 + 1);
            self.forget(now.saturating_sub(ttl));
        }
        Ok(())
    }

    async fn on_end(&mut self, out: &mut Output) -> Result<()> {
        if let Emit::OnClose { .. } = self.plan.emit {
            self.close(i64::MAX, out).await?;
            // The log must not bring back what is emitted here.
            self.log.next_is_whole();
        }
        Ok(())
    }

    fn held(&self) -> Option<Held> {
        Some(Held::groups(self.live))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        let fresh = std::mem::take(&mut self.fresh);
        if self.log.wants_whole(self.live, fresh.len()) {
            let groups = self.groups.values();
            let rows = groups.flat_map(|g| g.rows.iter().map(|(row, count)| (row, *count, g.time)));
            let rows = self.log_rows(rows)?;
            return Ok(self.log.whole(epoch, vec![rows]));
        }
        let changed = fresh.iter().filter(|(_, (count, _))| *count != 0);
        let rows = self.log_rows(changed.map(|(row, (count, time))| (row, *count, *time)))?;
        Ok(self.log.delta(epoch, vec![rows]))
    }
}

//! Joins of two streams: each batch is matched with the stored rows of the other side, and stored for those to come.
//!
//! Accepts any kinds of change; a delete removes one row that is equal in all columns. After each batch, the rows emitted so
//! far are the join of the rows accepted so far. Emits inserts alone if the inputs are inserts and nothing that was shown as
//! unmatched has to be retracted.
//!
//! ```text
//!  left batch ──► keys ──► store.left    (chunks, chains of equal keys)
//!                  │                       ▲ matches
//!                  └─────► probe ──► store.right ──► filter ──► rows
//! ```
//!
//! Rows are dropped when none that the other side can still send matches them: see [`TimeBounds`]. Nothing else is bounded:
//! without bounds and without `ttl_micros`, the state is all rows of both sides.
//!
//! Reading order: `shape` (what each kind emits), `store`, `chunk` and `chains` (the rows of a side), `probe` (the join itself),
//! `filter`, `output`, `groups` (keys), `log` (checkpoints).

mod chains;
mod chunk;
mod filter;
mod log;
mod output;
mod probe;
mod shape;
mod sides;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::physical_expr::PhysicalExpr;
use laminar_core::{ChangeKind, Changes, Epoch, Error, Result, TaskId, Watermark};

use self::chunk::RowId;
use self::filter::PairFilter;
use self::log::JoinLog;
use self::output::{Pending, Sources};
use self::probe::Probe;
pub use self::shape::{JoinKind, OuterRows};
use self::shape::{Shape, Shows};
use self::sides::{Side, Sides};
use self::store::{Effect, Retention, Store};
use super::groups::{Groups, NO_GROUP};
use super::rows::evaluate_all;
use crate::operator::{Held, Operator, OperatorContext, OperatorFactory, Output, Snapshot};
use crate::state_log::StateLog;

/// Expired rows are pushed when they are so many.
const EXPIRED_ROWS: usize = if cfg!(test) { 8 } else { 8192 };

/// Two inputs, 0 = left and 1 = right, whose rows with equal keys come to the same instance.
#[derive(Clone, Debug)]
pub struct JoinFactory {
    pub kind: JoinKind,
    /// Over the left input's columns. Without keys every row is matched with every other.
    pub left_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Over the right input's columns; as many as `left_keys`, of the same types.
    pub right_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// SQL's `=`: false, a NULL key matches nothing. `INTERSECT` and `EXCEPT`: true.
    pub null_equals_null: bool,
    /// The rest of the condition, over the left columns and then the right ones; NULL counts as false.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    pub left_schema: SchemaRef,
    pub right_schema: SchemaRef,
    /// Of the output: the left columns and then the right ones; of one side alone for semi and anti joins.
    pub schema: SchemaRef,
    pub bounds: Option<TimeBounds>,
    /// Without bounds, of the left side and of the right one: a row is dropped when the watermark is past its time by more than this. What
    /// was emitted for it stays.
    pub ttl_micros: [Option<i64>; 2],
    /// [`OuterRows::WhenExpired`] needs `bounds`.
    pub emit: OuterRows,
}

/// Rows match only if `lower <= left.time - right.time <= upper` (µs). Follows from the condition, and serves only to drop
/// rows; `i64::MIN` and `i64::MAX` stand for no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeBounds {
    pub lower: i64,
    pub upper: i64,
}

impl OperatorFactory for JoinFactory {
    fn create(&self, task: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Join::new(self, task)?))
    }

    fn fingerprint(&self) -> String {
        let keys: Vec<_> = self.left_keys.iter().zip(&self.right_keys).map(|(l, r)| format!("{l} = {r}")).collect();
        let filter = self.filter.as_ref().map(|filter| format!(" and {filter}")).unwrap_or_default();
        let nulls = if self.null_equals_null { " null = null" } else { "" };
        let keeps = match (self.bounds, self.ttl_micros) {
            (Some(TimeBounds { lower, upper }), _) => format!(" within {lower}us..{upper}us"),
            (None, [None, None]) => String::new(),
            (None, [Some(left), Some(right)]) if left == right => format!(" ttl {left}us"),
            (None, [left, right]) => {
                let side = |ttl: Option<i64>| ttl.map_or("for ever".to_string(), |ttl| format!("{ttl}us"));
                format!(" ttl {} and {}", side(left), side(right))
            }
        };
        format!("join {:?} {:?} on {}{filter}{nulls}{keeps}", self.kind, self.emit, keys.join(", "))
    }
}

impl JoinFactory {
    /// How long the side's rows are kept.
    fn retention(&self, side: Side) -> Option<Retention> {
        let [left_ttl, right_ttl] = self.ttl_micros;
        let ttl = if side == Side::Left { left_ttl } else { right_ttl };
        let (after_micros, span) = match (self.bounds, ttl) {
            (Some(TimeBounds { lower, upper }), _) => {
                let after = if side == Side::Left { lower.saturating_neg() } else { upper };
                (after, upper.saturating_sub(lower))
            }
            (None, Some(ttl)) => (ttl, ttl),
            (None, None) => return None,
        };
        // Rows outstay their time by up to an eighth of it; below 100 ms and above an hour that saves nothing.
        let width_micros = (span / 8).clamp(100_000, 3_600_000_000);
        Some(Retention { after_micros, width_micros }).filter(|_| after_micros < i64::MAX)
    }
}

struct Join {
    plan: JoinFactory,
    shape: Shape,
    filter: Option<PairFilter>,
    /// Of both sides' keys.
    keys: Groups,
    stores: Sides<Store>,
    pending: Pending,
    /// Rows that came and are not kept, or not any more.
    released: u64,
    join_log: JoinLog,
    log: StateLog,
}

#[async_trait]
impl Operator for Join {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let (log, batches) = StateLog::open(ctx);
        self.log = log;
        for side in Side::BOTH {
            self.restore(side, &batches)?;
        }
        Ok(())
    }

    async fn on_changes(&mut self, input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let side = match input {
            0 => Side::Left,
            1 => Side::Right,
            other => return Err(Error::internal(format!("a join has no input {other}"))),
        };
        let came = changes.num_rows();
        let (changes, groups) = self.with_keys(side, changes, out)?;
        self.released += (came - changes.num_rows()) as u64;
        if changes.num_rows() == 0 {
            return Ok(());
        }
        let (own, other) = self.stores.split(side);
        let effects = own.apply(&changes, &groups, self.keys.len())?;
        if changes.kinds().is_some() {
            self.released += effects.iter().map(Effect::released).sum::<u64>();
        }
        let mut probe = Probe {
            shape: self.shape,
            filter: self.filter.as_ref(),
            side,
            changes: &changes,
            groups: &groups,
            effects: &effects,
            own,
            other,
            pending: &mut self.pending,
        };
        probe.run(out)?;
        self.tidy()
    }

    async fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        let Watermark::At(watermark) = watermark else { return Ok(()) };
        for side in Side::BOTH {
            while let Some(chunks) = self.stores.of_mut(side).next_expired(watermark) {
                self.expire(side, chunks, out)?;
            }
        }
        self.pending.watermark = self.pending.watermark.max(watermark);
        self.tidy()
    }

    async fn on_end(&mut self, out: &mut Output) -> Result<()> {
        let shape = self.shape;
        for side in Side::BOTH.into_iter().filter(|side| shape.emits_expired(*side)) {
            while let Some(chunks) = self.stores.of_mut(side).next_bucket() {
                self.expire(side, chunks, out)?;
            }
        }
        self.tidy()
    }

    fn held(&self) -> Option<Held> {
        Some(Held::rows(self.stores.left.live() + self.stores.right.live(), self.released))
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        let live = self.stores.left.live() + self.stores.right.live();
        let changed = self.stores.left.changed() + self.stores.right.changed();
        let whole = self.log.wants_whole(live, changed);
        let mut batches = Vec::new();
        for side in Side::BOTH {
            let store = self.stores.of_mut(side);
            batches.extend(if whole { self.join_log.whole(side, store)? } else { self.join_log.delta(side, store)? });
            store.mark_logged();
        }
        Ok(if whole { self.log.whole(epoch, batches) } else { self.log.delta(epoch, batches) })
    }
}

impl Join {
    fn new(plan: &JoinFactory, task: &TaskId) -> Result<Self> {
        let types = |keys: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef| {
            let types = keys.iter().map(|key| key.data_type(schema)).collect::<Result<Vec<_>, _>>();
            types.map_err(|error| Error::internal(format!("a join's key has no type: {error}")))
        };
        let key_types = types(&plan.left_keys, &plan.left_schema)?;
        if key_types != types(&plan.right_keys, &plan.right_schema)? {
            return Err(Error::internal("the two sides of a join have keys of different types"));
        }
        if plan.emit == OuterRows::WhenExpired && plan.bounds.is_none() {
            return Err(Error::internal("a join without time bounds knows no row to be unmatched"));
        }
        let shape = Shape::new(plan.kind, plan.emit);
        let filter = plan.filter.as_ref();
        let filter = filter.map(|filter| PairFilter::new(filter, &plan.left_schema, &plan.right_schema));
        let store = |side, schema: &SchemaRef| Store::new(Arc::clone(schema), plan.retention(side), task.index);
        let sources = |side, schema: &SchemaRef| Sources::new(Arc::clone(schema), shape.pads(side));
        let shown = Sides { left: shape.has_columns_of(Side::Left), right: shape.has_columns_of(Side::Right) };
        let sources =
            Sides { left: sources(Side::Left, &plan.left_schema)?, right: sources(Side::Right, &plan.right_schema)? };
        Ok(Self {
            shape,
            filter: filter.transpose()?,
            keys: Groups::new(key_types)?,
            stores: Sides { left: store(Side::Left, &plan.left_schema), right: store(Side::Right, &plan.right_schema) },
            pending: Pending::new(Arc::clone(&plan.schema), shown, sources),
            released: 0,
            join_log: JoinLog::new(Sides { left: plan.left_schema.clone(), right: plan.right_schema.clone() }),
            log: StateLog::empty(task.index, 1),
            plan: plan.clone(),
        })
    }

    fn key_columns(&self, side: Side, changes: &Changes) -> Result<Vec<ArrayRef>> {
        let keys = match side {
            Side::Left => &self.plan.left_keys,
            Side::Right => &self.plan.right_keys,
        };
        evaluate_all(keys, changes.rows())
    }

    /// The changes, without those of rows that match nothing and need not be stored, and the number of each row's key.
    fn with_keys(&mut self, side: Side, changes: Changes, out: &mut Output) -> Result<(Changes, Vec<usize>)> {
        let columns = self.key_columns(side, &changes)?;
        let mut groups = Vec::new();
        let nulls = if self.plan.null_equals_null { None } else { nulls_of(&columns) };
        let Some(nulls) = nulls else {
            self.keys.intern(&columns, changes.num_rows(), &mut groups)?;
            return Ok((changes, groups));
        };
        match self.shape.shows.of(side) {
            // A delete of such a row needs to know whether there is one.
            Shows::Unmatched if !self.shape.when_expired => {
                self.keys.intern(&columns, changes.num_rows(), &mut groups)?;
                for (group, valid) in groups.iter_mut().zip(nulls.iter()) {
                    if !valid {
                        *group = NO_GROUP as usize;
                    }
                }
                Ok((changes, groups))
            }
            shows => {
                if *shows == Shows::Unmatched {
                    let source = self.pending.sources.of_mut(side).add(changes.rows().clone(), changes.times().clone());
                    let unmatched = nulls.iter().enumerate().filter(|(_, valid)| !valid);
                    unmatched.for_each(|(row, _)| self.pending.alone(side, (source, row), ChangeKind::Insert));
                    self.pending.flush(out)?;
                }
                let kept = BooleanArray::new(nulls.into_inner(), None);
                let columns = columns.iter().map(|column| compute::filter(column, &kept));
                let columns = columns.collect::<Result<Vec<_>, _>>()?;
                self.keys.intern(&columns, kept.true_count(), &mut groups)?;
                Ok((changes.filter(&kept)?, groups))
            }
        }
    }

    /// Drops the chunks of a bucket; emits the rows of them that were waiting for a match.
    fn expire(&mut self, side: Side, chunks: Vec<u32>, out: &mut Output) -> Result<()> {
        let emits = self.shape.emits_expired(side);
        let store = self.stores.of_mut(side);
        for number in chunks.iter().copied().filter(|_| emits) {
            let Some(chunk) = store.chunks.get(number) else { continue };
            for row in chunk.rows_where(|slot| slot.is_live() && slot.matches.count() == 0) {
                let place = self.pending.sources.of_mut(side).locate(store, RowId { chunk: number, row });
                self.pending.alone(side, place, ChangeKind::Insert);
            }
            if self.pending.len() >= EXPIRED_ROWS {
                self.pending.flush(out)?;
            }
        }
        self.pending.flush(out)?;
        self.released += chunks.into_iter().map(|number| store.drop_chunk(number, emits)).sum::<u64>();
        Ok(())
    }

    /// Gives back memory that no live row needs.
    fn tidy(&mut self) -> Result<()> {
        let Sides { left, right } = &mut self.stores;
        left.tidy()?;
        right.tidy()?;
        let used = left.occupied() + right.occupied();
        if self.keys.is_sparse(used, left.live() + right.live()) {
            let mut used = vec![false; self.keys.len()];
            left.mark_used(&mut used);
            right.mark_used(&mut used);
            let numbers = self.keys.keep(&BooleanArray::from(used))?;
            left.renumber_keys(&numbers, self.keys.len());
            right.renumber_keys(&numbers, self.keys.len());
        }
        Ok(())
    }

    fn restore(&mut self, side: Side, log: &[arrow::array::RecordBatch]) -> Result<()> {
        let inherited = self.log.is_inherited();
        let restored = self.join_log.read(side, log)?;
        if let Some(last_id) = restored.last_id.filter(|_| !inherited) {
            self.stores.of_mut(side).skip_ids(last_id);
        }
        for old in restored.rows {
            let (mut changes, mut ids, mut matches) = (old.changes, old.ids, old.matches);
            if inherited {
                let mine = self.log.is_mine(&self.key_columns(side, &changes)?, changes.num_rows())?;
                changes = changes.filter(&mine)?;
                let mut is_mine = mine.values().iter();
                matches.retain(|_| is_mine.next().unwrap_or(false));
                ids.clear();
            }
            // Rows that match nothing were stored only if they need to be, so none is dropped here.
            let (changes, groups) = self.with_keys(side, changes, &mut Output::default())?;
            // Ids of other instances could be given again by this one.
            let ids = ids.into_iter().map(Some).chain(std::iter::repeat(None));
            let store = self.stores.of_mut(side);
            store.restore(&changes, &groups, self.keys.len(), ids.zip(matches))?;
        }
        if !inherited {
            self.stores.of_mut(side).mark_logged();
        }
        Ok(())
    }
}

/// Rows with a NULL in any column, if there are such.
fn nulls_of(columns: &[ArrayRef]) -> Option<NullBuffer> {
    let nulls = columns.iter().map(|column| column.logical_nulls());
    nulls.fold(None, |all, nulls| NullBuffer::union(all.as_ref(), nulls.as_ref())).filter(|all| all.null_count() > 0)
}

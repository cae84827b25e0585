//! The rows of one input that may still match: columnar chunks, and chains through them.
//!
//! ```text
//!  buckets (by time)   chunks (slab)                      heads (by key)
//!  12:00  ──► 0, 2     0: rows, times, slots ◄─────────── key 7
//!  12:05  ──► 1        1: rows, times, slots ◄──┐ next
//!                      2: rows, times, slots ───┘
//! ```
//!
//! A row's place is its [`RowId`]: chunk and row within. Its slot holds the links of its key's chain, so a probe walks slots
//! and touches columns only for what it emits. Once a delete was seen, a second chain joins equal rows ("twins"): a delete
//! takes the first of its row's, whatever the length of the key's chain.
//!
//! Invariants: a row is in its key's chain exactly while it is live; a row's bucket ends no earlier than its time; a
//! [`RowId`] is valid until the next [`Store::tidy`] or dropped chunk. A row's `id`, unlike its place, never changes: the
//! checkpoint's log speaks of it. See `log.rs`.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use laminar_core::changes::take_rows;
use laminar_core::{ChangeKind, Changes, Error, Result};

use super::super::groups::Groups;
use super::chains::Chains;
use super::chunk::{Chunk, Chunks, Link, RowId, Slot, detached};

/// Rows of a chunk that is filled from small batches; a bigger batch is a chunk of its own. Few in tests, as all such
/// constants of the join, so that these meet the borders.
const CHUNK_ROWS: usize = if cfg!(test) { 8 } else { 8192 };

/// The rows of an id's own instance: below these bits is its index. 2^48 rows are nine years at a million a second.
const ID_BITS: u32 = 48;

/// How long rows are kept. A row is dropped when the watermark is past `time + after_micros`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    pub after_micros: i64,
    /// Rows whose times differ by less may be dropped together, with the last of them.
    pub width_micros: i64,
}

/// What became of one row of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    Added(RowId),
    /// An equal row was removed, which had so many matches.
    Removed {
        matches: u32,
    },
    /// A delete of a row that is not there.
    Ignored,
}

impl Effect {
    /// How many rows, with the one that came, are not in the store after it.
    pub(super) fn released(&self) -> u64 {
        match self {
            Self::Added(_) => 0,
            Self::Removed { .. } => 2,
            Self::Ignored => 1,
        }
    }
}

pub(super) struct Store {
    schema: SchemaRef,
    retention: Option<Retention>,
    watermark: i64,
    pub(super) chunks: Chunks,
    buckets: BTreeMap<i64, Bucket>,
    keys: Chains,
    /// Groups of equal rows, made when the first delete comes.
    twins: Option<(Groups, Chains)>,
    live: usize,
    /// Chunks that may have become mostly dead; [`Store::tidy`] looks at them.
    sparse: Vec<u32>,
    next_id: u64,
    /// Rows with an id from here on are not in the log yet.
    logged_below: u64,
    /// Ids of rows that are in the log and were removed since.
    pub(super) removed: Vec<u64>,
}

#[derive(Default)]
struct Bucket {
    max_time: i64,
    /// The last one takes more rows, if they fit.
    chunks: Vec<u32>,
}

impl Store {
    /// `instance`: the task's index, for ids that no other instance gives.
    pub(super) fn new(schema: SchemaRef, retention: Option<Retention>, instance: u32) -> Self {
        let first_id = u64::from(instance) << ID_BITS;
        Self {
            schema,
            retention,
            watermark: i64::MIN,
            chunks: Chunks::default(),
            buckets: BTreeMap::new(),
            keys: Chains::default(),
            twins: None,
            live: 0,
            sparse: Vec::new(),
            next_id: first_id,
            logged_below: first_id,
            removed: Vec::new(),
        }
    }

    /// Rows that can match.
    pub(super) fn live(&self) -> usize {
        self.live
    }
    /// Values in the table of equal rows.
    #[cfg(test)]
    pub(super) fn distinct_rows(&self) -> usize {
        self.twins.as_ref().map_or(0, |(table, _)| table.len())
    }
    /// Groups of the key table that have a row here.
    pub(super) fn occupied(&self) -> usize {
        self.keys.occupied
    }
    /// The first row of the key's chain.
    pub(super) fn first(&self, group: usize) -> RowId {
        self.keys.heads.get(group).copied().unwrap_or(RowId::NONE)
    }

    /// Adds and removes rows as `changes` says; says what became of each. `groups`: of the key, `NO_GROUP` for a row that
    /// cannot match; `group_count`: the key table's length.
    pub(super) fn apply(&mut self, changes: &Changes, groups: &[usize], group_count: usize) -> Result<Vec<Effect>> {
        self.keys.heads.resize(group_count.max(self.keys.heads.len()), RowId::NONE);
        let deletes = changes.kinds().map(|kinds| {
            BooleanArray::from_iter(
                kinds.iter().map(|k| Some(matches!(k, ChangeKind::Delete | ChangeKind::UpdateBefore))),
            )
        });
        let Some(deletes) = deletes.filter(|deletes| deletes.true_count() > 0) else {
            return self.add(changes.rows(), changes.times(), groups);
        };
        let inserts = compute::not(&deletes)?;
        let added = changes.filter(&inserts)?;
        let mut twins = Vec::new();
        self.twins()?.0.intern(changes.rows().columns(), changes.num_rows(), &mut twins)?;
        let mut places = self.append(added.rows(), added.times())?.into_iter();
        let mut effects = Vec::with_capacity(groups.len());
        for ((delete, group), twin) in deletes.values().iter().zip(groups).zip(twins) {
            effects.push(if delete {
                self.remove_one(twin)
            } else {
                let at = places.next().ok_or_else(lost)?;
                self.link(at, *group);
                self.link_twin(at, twin);
                Effect::Added(at)
            });
        }
        Ok(effects)
    }

    fn add(&mut self, rows: &RecordBatch, times: &TimestampMicrosecondArray, groups: &[usize]) -> Result<Vec<Effect>> {
        let places = self.append(rows, times)?;
        for (at, group) in places.iter().zip(groups) {
            self.link(*at, *group);
        }
        if let Some((table, _)) = &mut self.twins {
            let mut twins = Vec::new();
            table.intern(rows.columns(), rows.num_rows(), &mut twins)?;
            for (at, twin) in places.iter().zip(twins) {
                self.link_twin(*at, twin);
            }
        }
        Ok(places.into_iter().map(Effect::Added).collect())
    }

    /// Ids up to this one are in the log: none of them is given again.
    pub(super) fn skip_ids(&mut self, to: u64) {
        self.next_id = self.next_id.max(to + 1);
    }
    /// Adds rows as they were: with their ids, or new ones, and their matches.
    pub(super) fn restore(
        &mut self,
        changes: &Changes,
        groups: &[usize],
        group_count: usize,
        old: impl Iterator<Item = (Option<u64>, u32)>,
    ) -> Result<()> {
        for (effect, (id, matches)) in self.apply(changes, groups, group_count)?.into_iter().zip(old) {
            let Effect::Added(at) = effect else { continue };
            let Some(slot) = self.chunks.slot_mut(at) else { continue };
            slot.matches.set(matches);
            slot.id = id.unwrap_or(slot.id);
        }
        Ok(())
    }

    /// From here on, all rows count as logged.
    pub(super) fn mark_logged(&mut self) {
        self.logged_below = self.next_id;
        self.removed.clear();
        for (_, chunk) in self.chunks.iter_mut() {
            chunk.fresh = false;
            for row in std::mem::take(&mut chunk.noted) {
                if let Some(slot) = chunk.slots.get_mut(row as usize) {
                    slot.matches.unnote();
                }
            }
        }
    }
    pub(super) fn is_logged(&self, slot: &Slot) -> bool {
        slot.id < self.logged_below
    }
    /// At least as many as the rows that the next delta has.
    pub(super) fn changed(&self) -> usize {
        let noted: usize = self.chunks.iter().map(|(_, chunk)| chunk.noted.len()).sum();
        (self.next_id - self.logged_below) as usize + self.removed.len() + noted
    }

    /// Sets the matches of a row that this batch added.
    pub(super) fn set_matches(&mut self, at: RowId, matches: u32) {
        if let Some(slot) = self.chunks.slot_mut(at) {
            slot.matches.set(matches);
        }
    }
    /// Counts one match more for the row; true if it is its first. `once`: only whether there is one is of interest.
    pub(super) fn raise_matches(&mut self, at: RowId, once: bool) -> bool {
        if once && self.chunks.slot(at).is_some_and(|slot| slot.matches.count() > 0) {
            return false;
        }
        self.change_matches(at, |matches| matches.saturating_add(1)) == Some((0, 1))
    }
    /// Counts one match less for the row; true if it was its last.
    pub(super) fn lower_matches(&mut self, at: RowId) -> bool {
        self.change_matches(at, |matches| matches.saturating_sub(1)) == Some((1, 0))
    }
    fn change_matches(&mut self, at: RowId, to: impl Fn(u32) -> u32) -> Option<(u32, u32)> {
        let logged_below = self.logged_below;
        let chunk = self.chunks.get_mut(at.chunk)?;
        let slot = chunk.slots.get_mut(at.row as usize)?;
        let before = slot.matches.count();
        let after = to(before);
        if slot.id < logged_below && !slot.matches.is_noted() {
            slot.matches.note();
            chunk.noted.push(at.row);
        }
        slot.matches.set(after);
        Some((before, after))
    }

    /// Takes the chunks of the next bucket that the watermark has passed; `None` if there is none. They must be dropped.
    pub(super) fn next_expired(&mut self, watermark: i64) -> Option<Vec<u32>> {
        let retention = self.retention?;
        self.watermark = self.watermark.max(watermark);
        let first = self.buckets.first_entry()?;
        if first.get().max_time.saturating_add(retention.after_micros) >= watermark {
            return None;
        }
        Some(first.remove().chunks)
    }
    /// As [`Store::next_expired`], for whatever is left.
    pub(super) fn next_bucket(&mut self) -> Option<Vec<u32>> {
        Some(self.buckets.pop_first()?.1.chunks)
    }
    /// Drops the chunk of a bucket that was taken; returns how many rows it had. `shown`: those without matches were emitted.
    ///
    /// A restore brings the rows back until the watermark drops them again. That does no harm but to rows that would be
    /// emitted once more, and to those whose matches are not as the log says: their end is logged.
    pub(super) fn drop_chunk(&mut self, number: u32, shown: bool) -> u64 {
        let rows = self.chunks.get(number).map_or(0, |chunk| chunk.slots.len());
        let mut dropped = 0;
        for row in 0..rows as u32 {
            let at = RowId { chunk: number, row };
            let Some(slot) = self.chunks.slot(at).filter(|slot| slot.is_live()) else { continue };
            dropped += 1;
            if self.is_logged(slot) && (slot.matches.is_noted() || (shown && slot.matches.count() == 0)) {
                self.removed.push(slot.id);
            }
            self.unlink(at);
        }
        self.chunks.free(number);
        dropped
    }

    /// Gives the memory of removed rows back: moves what is left in mostly dead chunks, forgets rows that no row equals.
    pub(super) fn tidy(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.sparse) {
            let Some(chunk) = self.chunks.get(number) else { continue };
            if !chunk.is_sparse() {
                continue;
            }
            let bucket = chunk.bucket;
            let is_open = self.buckets.get(&bucket).is_some_and(|b| b.chunks.last() == Some(&number));
            if chunk.live == 0 || !is_open || chunk.slots.len() >= CHUNK_ROWS {
                self.move_rows(number, bucket)?;
            }
        }
        let rows = self.chunks.iter().map(|(_, chunk)| chunk.slots.len()).sum();
        if let Some((table, chains)) = &mut self.twins
            && table.is_sparse(chains.occupied, rows)
        {
            let numbers = table.keep(&chains.heads.iter().map(|head| Some(*head != RowId::NONE)).collect())?;
            chains.renumber(&numbers, table.len());
            let links = self.chunks.iter_mut().flat_map(|(_, chunk)| chunk.twins.iter_mut());
            links.for_each(|link| link.renumber(&numbers));
        }
        Ok(())
    }

    /// Marks the keys that have a row here.
    pub(super) fn mark_used(&self, used: &mut [bool]) {
        for (used, head) in used.iter_mut().zip(&self.keys.heads) {
            *used |= *head != RowId::NONE;
        }
    }
    /// Follows the key table to its new numbers.
    pub(super) fn renumber_keys(&mut self, numbers: &[u32], group_count: usize) {
        self.keys.renumber(numbers, group_count);
        let links = self.chunks.iter_mut().flat_map(|(_, chunk)| chunk.slots.iter_mut());
        links.for_each(|slot| slot.key.renumber(numbers));
    }

    fn link(&mut self, at: RowId, group: usize) {
        self.live += 1;
        if let Some(chunk) = self.chunks.get_mut(at.chunk) {
            chunk.live += 1;
        }
        self.keys.push(&mut self.chunks, Chunk::key, at, group);
    }
    fn link_twin(&mut self, at: RowId, group: usize) {
        if let Some((table, chains)) = &mut self.twins {
            chains.heads.resize(table.len().max(chains.heads.len()), RowId::NONE);
            chains.push(&mut self.chunks, Chunk::twin, at, group);
        }
    }
    fn unlink(&mut self, at: RowId) {
        self.live -= 1;
        self.keys.remove(&mut self.chunks, Chunk::key, at);
        if let Some((_, chains)) = &mut self.twins {
            chains.remove(&mut self.chunks, Chunk::twin, at);
        }
    }

    fn remove_one(&mut self, twin: usize) -> Effect {
        let at = self.twins.as_ref().and_then(|(_, chains)| chains.heads.get(twin)).copied().unwrap_or(RowId::NONE);
        let Some(slot) = self.chunks.slot(at).copied() else { return Effect::Ignored };
        self.unlink(at);
        if self.is_logged(&slot) {
            self.removed.push(slot.id);
        }
        if let Some(chunk) = self.chunks.get_mut(at.chunk) {
            chunk.live -= 1;
            if chunk.is_sparse() && self.sparse.last() != Some(&at.chunk) {
                self.sparse.push(at.chunk);
            }
        }
        Effect::Removed { matches: slot.matches.count() }
    }

    /// The groups of equal rows; from the first call on, they are kept.
    fn twins(&mut self) -> Result<&mut (Groups, Chains)> {
        if self.twins.is_none() {
            let mut table = Groups::new(self.schema.fields().iter().map(|f| f.data_type().clone()))?;
            let mut chains = Chains::default();
            let mut groups = Vec::new();
            for number in 0..self.chunks.len() as u32 {
                let Some(chunk) = self.chunks.get_mut(number) else { continue };
                chunk.twins = vec![Link::default(); chunk.slots.len()];
                let pieces: Vec<_> = chunk.pieces().iter().map(|piece| (piece.start, piece.rows.clone())).collect();
                for (start, rows) in pieces {
                    table.intern(rows.columns(), rows.num_rows(), &mut groups)?;
                    chains.heads.resize(table.len(), RowId::NONE);
                    for (row, group) in groups.iter().enumerate() {
                        let at = RowId { chunk: number, row: (start + row) as u32 };
                        if self.chunks.slot(at).is_some_and(Slot::is_live) {
                            chains.push(&mut self.chunks, Chunk::twin, at, *group);
                        }
                    }
                }
            }
            self.twins = Some((table, chains));
        }
        self.twins.as_mut().ok_or_else(lost)
    }

    /// Puts rows into chunks, not yet into chains; returns their places.
    fn append(&mut self, rows: &RecordBatch, times: &TimestampMicrosecondArray) -> Result<Vec<RowId>> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let (Some(retention), Some(min), Some(max)) = (self.retention, compute::min(times), compute::max(times)) else {
            return Ok(self.append_to(0, i64::MAX, rows.clone(), times.clone())?.collect());
        };
        let width = retention.width_micros.max(1);
        let base = min.max(self.watermark);
        if max.saturating_sub(base) < width {
            return Ok(self.append_to(max.div_euclid(width), max, rows.clone(), times.clone())?.collect());
        }
        // Times are far apart. Rows go together that are about as far ahead, so that the few with times in a distant future
        // do not keep the others: classes are 0, 1, 2-3, 4-7, ... widths from the base.
        let mut classes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (row, time) in times.values().iter().enumerate() {
            let widths = (time.saturating_sub(base) / width).max(0) as u64;
            classes.entry(u64::BITS - widths.leading_zeros()).or_default().push(row as u32);
        }
        let mut places = vec![RowId::NONE; rows.num_rows()];
        for indices in classes.into_values() {
            let indices = UInt32Array::from(indices);
            let part = detached(take_rows(rows, &indices)?)?;
            let part_times = compute::take(times, &indices, None)?.as_primitive().clone();
            let max = compute::max(&part_times).unwrap_or(max);
            let part_places = self.append_to(max.div_euclid(width), max, part, part_times)?;
            for (row, at) in indices.values().iter().zip(part_places) {
                if let Some(place) = places.get_mut(*row as usize) {
                    *place = at;
                }
            }
        }
        Ok(places)
    }

    fn append_to(
        &mut self,
        key: i64,
        max_time: i64,
        rows: RecordBatch,
        times: TimestampMicrosecondArray,
    ) -> Result<impl Iterator<Item = RowId> + use<>> {
        let added = rows.num_rows();
        let bucket = self.buckets.entry(key).or_insert_with(|| Bucket { max_time: i64::MIN, chunks: Vec::new() });
        bucket.max_time = bucket.max_time.max(max_time);
        let last = bucket.chunks.last().copied();
        let fits = |chunk: &Chunk| chunk.slots.len() + added <= CHUNK_ROWS;
        let number = match last.filter(|last| self.chunks.get(*last).is_some_and(fits)) {
            Some(number) => number,
            None => {
                if let Some((number, chunk)) = last.and_then(|last| Some((last, self.chunks.get_mut(last)?))) {
                    chunk.seal()?;
                    self.sparse.push(number);
                }
                let number = self.chunks.insert(Chunk::new(key));
                bucket.chunks.push(number);
                number
            }
        };
        let chunk = self.chunks.get_mut(number).ok_or_else(lost)?;
        let start = chunk.append(rows, times, self.next_id)?;
        if self.twins.is_some() {
            chunk.twins.resize(chunk.slots.len(), Link::default());
        }
        self.next_id += added as u64;
        Ok((start..start + added).map(move |row| RowId { chunk: number, row: row as u32 }))
    }

    /// Moves the chunk's live rows to the end of its bucket, and drops it.
    fn move_rows(&mut self, number: u32, bucket: i64) -> Result<()> {
        let chunk = self.chunks.get(number).ok_or_else(lost)?;
        let next_id = self.next_id;
        let live = chunk.rows_where(Slot::is_live);
        let parts = chunk.select(&live)?;
        let mut live = live.into_iter();
        for (rows, times) in parts {
            let max_time = self.buckets.get(&bucket).map_or(i64::MIN, |bucket| bucket.max_time);
            for (to, row) in self.append_to(bucket, max_time, detached(rows)?, times)?.zip(live.by_ref()) {
                self.move_row(RowId { chunk: number, row }, to);
            }
        }
        // The rows keep their ids, so those given to their new places never were.
        self.next_id = next_id;
        if let Some(bucket) = self.buckets.get_mut(&bucket) {
            bucket.chunks.retain(|chunk| *chunk != number);
        }
        if self.buckets.get(&bucket).is_some_and(|bucket| bucket.chunks.is_empty()) {
            self.buckets.remove(&bucket);
        }
        self.chunks.free(number);
        Ok(())
    }

    fn move_row(&mut self, from: RowId, to: RowId) {
        let Some(slot) = self.chunks.slot(from).copied() else { return };
        if let Some(chunk) = self.chunks.get_mut(to.chunk) {
            chunk.live += 1;
            if slot.matches.is_noted() {
                chunk.noted.push(to.row);
            }
            if let Some(place) = chunk.slots.get_mut(to.row as usize) {
                *place = slot;
            }
        }
        self.keys.relocate(&mut self.chunks, Chunk::key, from, to);
        if let Some((_, chains)) = &mut self.twins {
            chains.relocate(&mut self.chunks, Chunk::twin, from, to);
        }
    }
}

fn lost() -> Error {
    Error::internal("a join lost track of a row")
}

//! One batch of one side against the stored rows of the other: what the join emits for it.
//!
//! Candidates, pairs with equal keys, are taken in slices, so that a frequent key costs time and not memory. For each row in
//! order: its pairs and what they change for the rows they are with, then what is emitted for the row itself, when its last
//! candidate has been looked at.

use arrow::array::BooleanArray;
use laminar_core::{ChangeKind, Changes, Result};

use super::chunk::RowId;
use super::filter::PairFilter;
use super::output::{Pending, Place};
use super::shape::{Shape, Shows};
use super::sides::{Side, Sides};
use super::store::{Effect, Store};
use crate::operator::Output;

/// Candidates of a slice. Few in tests, so that these meet the border between two.
const SLICE_PAIRS: usize = if cfg!(test) { 8 } else { 8192 };

pub(super) struct Probe<'a> {
    pub shape: Shape,
    pub filter: Option<&'a PairFilter>,
    pub side: Side,
    pub changes: &'a Changes,
    /// The key of each row.
    pub groups: &'a [usize],
    pub effects: &'a [Effect],
    pub own: &'a mut Store,
    pub other: &'a mut Store,
    pub pending: &'a mut Pending,
}

/// Pairs with equal keys.
#[derive(Default)]
struct Candidates {
    /// Numbers of the batch's rows; ascending.
    rows: Vec<usize>,
    others: Vec<RowId>,
    own_places: Vec<Place>,
    other_places: Vec<Place>,
}

/// The next candidate to look at.
#[derive(Default)]
struct Cursor {
    row: usize,
    at: Option<RowId>,
}

impl Probe<'_> {
    pub(super) fn run(&mut self, out: &mut Output) -> Result<()> {
        let mut cursor = Cursor::default();
        let mut candidates = Candidates::default();
        // How many matches each row has; not counted if nothing depends on it.
        let counted = *self.shape.shows.of(self.side) != Shows::Never;
        let mut counts = vec![0_u32; if counted { self.groups.len() } else { 0 }];
        while cursor.row < self.groups.len() {
            let first = cursor.row;
            let own = self.pending.sources.of_mut(self.side);
            let own = own.add(self.changes.rows().clone(), self.changes.times().clone());
            self.collect(own, &mut cursor, &mut candidates);
            let mask = self.matching(&candidates)?;
            if self.shape.counts() {
                self.emit_counted(own, first..cursor.row, &candidates, mask.as_ref(), &mut counts);
            } else {
                self.emit_pairs(&candidates, mask.as_ref());
            }
            self.pending.flush(out)?;
        }
        Ok(())
    }

    /// Fills `candidates` with the next slice.
    fn collect(&mut self, own: usize, cursor: &mut Cursor, candidates: &mut Candidates) {
        candidates.clear();
        let first_only = self.shape.first_match_only(self.side.other());
        let rest = self.groups.iter().zip(self.effects).skip(cursor.row);
        for (group, effect) in rest {
            let start = match effect {
                Effect::Ignored => RowId::NONE,
                _ => self.other.first(*group),
            };
            let mut at = cursor.at.take().unwrap_or(start);
            while let Some(slot) = self.other.chunks.slot(at) {
                if candidates.rows.len() == SLICE_PAIRS {
                    cursor.at = Some(at);
                    return;
                }
                if !first_only || slot.matches.count() == 0 {
                    candidates.rows.push(cursor.row);
                    candidates.others.push(at);
                    candidates.own_places.push((own, cursor.row));
                    candidates.other_places.push(self.pending.sources.of_mut(self.side.other()).locate(self.other, at));
                }
                at = slot.key.next;
            }
            cursor.row += 1;
        }
    }

    /// Which candidates match; `None`: all.
    fn matching(&self, candidates: &Candidates) -> Result<Option<BooleanArray>> {
        let Some(filter) = self.filter.filter(|_| !candidates.rows.is_empty()) else { return Ok(None) };
        let (own, other) = (candidates.own_places.as_slice(), candidates.other_places.as_slice());
        let places = match self.side {
            Side::Left => Sides { left: own, right: other },
            Side::Right => Sides { left: other, right: own },
        };
        let mask = filter.mask(&self.pending.sources, places)?;
        Ok(Some(mask).filter(|mask| mask.true_count() < mask.len()))
    }

    /// An inner join's rows.
    fn emit_pairs(&mut self, candidates: &Candidates, mask: Option<&BooleanArray>) {
        for k in 0..candidates.rows.len() {
            if mask.is_none_or(|mask| mask.value(k)) {
                self.emit_pair(candidates, k);
            }
        }
    }

    fn emit_pair(&mut self, candidates: &Candidates, k: usize) {
        let places = (candidates.rows.get(k), candidates.own_places.get(k), candidates.other_places.get(k));
        let (Some(row), Some(own), Some(other)) = places else { return };
        let kind = match self.effects.get(*row) {
            Some(Effect::Added(_)) => ChangeKind::Insert,
            _ => ChangeKind::Delete,
        };
        let sources = &self.pending.sources;
        let time = sources.of(self.side).time(*own).max(sources.of(self.side.other()).time(*other));
        self.pending.pair(self.side, *own, *other, time, kind);
    }

    /// Rows of a join where it matters whether a row has a match.
    fn emit_counted(
        &mut self,
        own: usize,
        rows: std::ops::Range<usize>,
        candidates: &Candidates,
        mask: Option<&BooleanArray>,
        counts: &mut [u32],
    ) {
        let mut k = 0;
        // The row behind the range has candidates in this slice, but not its last one.
        for row in rows.start..=rows.end {
            while candidates.rows.get(k) == Some(&row) {
                if mask.is_none_or(|mask| mask.value(k)) {
                    if let Some(count) = counts.get_mut(row) {
                        *count += 1;
                    }
                    self.emit_match(candidates, k);
                }
                k += 1;
            }
            if row < rows.end
                && let Some(count) = counts.get(row)
            {
                self.emit_own((own, row), *count);
            }
        }
    }

    /// A pair that matches, and what that is for its other row.
    fn emit_match(&mut self, candidates: &Candidates, k: usize) {
        let (Some(row), Some(at), Some(place)) =
            (candidates.rows.get(k), candidates.others.get(k), candidates.other_places.get(k))
        else {
            return;
        };
        let other = self.side.other();
        let shows = *self.shape.shows.of(other);
        let at_once = !self.shape.when_expired;
        let added = matches!(self.effects.get(*row), Some(Effect::Added(_)));
        if !added && self.shape.pairs {
            self.emit_pair(candidates, k);
        }
        let turned = match (shows, added) {
            (Shows::Never, _) => false,
            (_, true) => self.other.raise_matches(*at, self.shape.when_expired),
            (_, false) => self.other.lower_matches(*at),
        };
        match (shows, added) {
            (Shows::Unmatched, true) if turned && at_once => self.pending.alone(other, *place, ChangeKind::Delete),
            (Shows::Unmatched, false) if turned && at_once => self.pending.alone(other, *place, ChangeKind::Insert),
            (Shows::Matched, true) if turned => self.pending.alone(other, *place, ChangeKind::Insert),
            (Shows::Matched, false) if turned => self.pending.alone(other, *place, ChangeKind::Delete),
            _ => {}
        }
        if added && self.shape.pairs {
            self.emit_pair(candidates, k);
        }
    }

    /// What is emitted for a row of the batch, when its matches are known.
    fn emit_own(&mut self, place: Place, count: u32) {
        let (kind, matches) = match self.effects.get(place.1) {
            Some(Effect::Added(at)) => {
                self.own.set_matches(*at, count);
                (ChangeKind::Insert, count)
            }
            // A row had its matches counted when it came; some may have expired. One of this very batch had none counted.
            Some(Effect::Removed { matches }) => (ChangeKind::Delete, count.max(*matches)),
            Some(Effect::Ignored) | None => return,
        };
        let shown = match self.shape.shows.of(self.side) {
            Shows::Never => false,
            Shows::Unmatched => matches == 0 && !self.shape.when_expired,
            Shows::Matched => matches > 0,
        };
        if shown {
            self.pending.alone(self.side, place, kind);
        }
    }
}

impl Candidates {
    fn clear(&mut self) {
        self.rows.clear();
        self.others.clear();
        self.own_places.clear();
        self.other_places.clear();
    }
}

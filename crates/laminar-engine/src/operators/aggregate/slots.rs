//! The current row of each slot, in immutable chunks.
//!
//! ```text
//!  slot ─► place (chunk, row)        chunks   rows as they were written, and the slot of each
//! ```
//!
//! A write adds a chunk and outdates the rows that its slots had before. Small chunks are merged with the one before them,
//! so a row is copied as often as the logarithm of its chunk says; when most rows are outdated, all is written anew.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use laminar_core::Result;

use crate::operators::rows::gather;

/// Outdated rows that may stay whatever the number of slots.
const MIN_OUTDATED: usize = if cfg!(test) { 16 } else { 65_536 };
/// Chunks of this size are not merged.
const CHUNK_ROWS: usize = 4096;
/// Of all rows, so many are gathered at a time.
pub(super) const PIECE_ROWS: usize = 65_536;

pub(super) struct Slots {
    schema: SchemaRef,
    chunks: Vec<Chunk>,
    /// Of each slot, as (chunk, row).
    places: Vec<Option<(u32, u32)>>,
    live: usize,
    stored: usize,
}

struct Chunk {
    rows: RecordBatch,
    slots: Vec<usize>,
}

impl Slots {
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, chunks: Vec::new(), places: Vec::new(), live: 0, stored: 0 }
    }

    /// Slots that have a row.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn has(&self, slot: usize) -> bool {
        self.place(slot).is_some()
    }

    /// They have a row, in the order of their numbers.
    pub fn in_use(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|slot| self.place(*slot).is_some()).collect()
    }

    /// The rows of these slots, which must have one, in their order.
    pub fn get(&self, slots: &[usize]) -> Result<RecordBatch> {
        self.rows_of(slots, &self.schema, 0)
    }

    /// The rows of all slots that have one, in pieces: one batch of them all could be more than Arrow's offsets can say.
    pub fn all(&self) -> Result<Vec<RecordBatch>> {
        self.in_use().chunks(PIECE_ROWS).map(|slots| self.get(slots)).collect()
    }

    /// As [`Slots::get`], without the first `skipped` columns.
    pub fn get_from(&self, skipped: usize, slots: &[usize]) -> Result<RecordBatch> {
        let fields = self.schema.fields().get(skipped..).unwrap_or_default().to_vec();
        self.rows_of(slots, &SchemaRef::new(arrow::datatypes::Schema::new(fields)), skipped)
    }

    fn rows_of(&self, slots: &[usize], schema: &SchemaRef, skipped: usize) -> Result<RecordBatch> {
        let places: Vec<(usize, usize)> =
            slots.iter().filter_map(|slot| self.place(*slot)).map(|(c, r)| (c as usize, r as usize)).collect();
        gather(&self.chunks.iter().map(|chunk| &chunk.rows).collect::<Vec<_>>(), skipped, &places, schema)
    }

    /// Gives each of the slots the row that stands at its place in `rows`; none is there twice.
    pub fn put(&mut self, slots: Vec<usize>, rows: RecordBatch) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let end = slots.iter().max().map_or(0, |max| max + 1);
        self.places.resize(self.places.len().max(end), None);
        self.live += slots.iter().filter(|slot| self.place(**slot).is_none()).count();
        self.push(slots, rows);
        while let [.., before, last] = self.chunks.as_slice()
            && before.slots.len() < (2 * last.slots.len()).min(CHUNK_ROWS)
        {
            self.merge_last()?;
        }
        if self.stored > 2 * self.live + MIN_OUTDATED { self.rewrite() } else { Ok(()) }
    }

    /// The slot has no row then.
    pub fn remove(&mut self, slot: usize) {
        if let Some(place) = self.places.get_mut(slot)
            && place.take().is_some()
        {
            self.live -= 1;
        }
    }

    fn place(&self, slot: usize) -> Option<(u32, u32)> {
        self.places.get(slot).copied().flatten()
    }

    fn push(&mut self, slots: Vec<usize>, rows: RecordBatch) {
        let chunk = self.chunks.len() as u32;
        for (row, slot) in slots.iter().enumerate() {
            if let Some(place) = self.places.get_mut(*slot) {
                *place = Some((chunk, row as u32));
            }
        }
        self.stored += slots.len();
        self.chunks.push(Chunk { rows, slots });
    }

    fn merge_last(&mut self) -> Result<()> {
        let first = self.chunks.len().saturating_sub(2);
        let mut live = Vec::new();
        for (at, chunk) in self.chunks.iter().enumerate().skip(first) {
            let current = |(row, slot): &(usize, &usize)| self.place(**slot) == Some((at as u32, *row as u32));
            live.extend(chunk.slots.iter().enumerate().filter(current).map(|(_, slot)| *slot));
        }
        let rows = self.get(&live)?;
        for chunk in self.chunks.drain(first..) {
            self.stored -= chunk.slots.len();
        }
        if !live.is_empty() {
            self.push(live, rows);
        }
        Ok(())
    }

    fn rewrite(&mut self) -> Result<()> {
        let (live, rows) = (self.in_use(), self.all()?);
        self.chunks.clear();
        self.stored = 0;
        for (slots, rows) in live.chunks(PIECE_ROWS).zip(rows) {
            self.push(slots.to_vec(), rows);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::*;

    fn rows(values: &[i64]) -> RecordBatch {
        RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(values.to_vec()))]).unwrap()
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]))
    }

    proptest! {
        #[test]
        fn a_slot_has_the_row_that_was_written_last(
            steps in prop::collection::vec((prop::collection::btree_set(0usize..40, 0..20), any::<bool>()), 0..80),
        ) {
            let mut slots = Slots::new(schema());
            let mut expected = BTreeMap::new();
            let mut next = 0;
            for (written, removes) in steps {
                let written: Vec<usize> = written.into_iter().collect();
                if removes {
                    for slot in written {
                        slots.remove(slot);
                        expected.remove(&slot);
                    }
                } else {
                    let values: Vec<i64> = (next..).take(written.len()).collect();
                    next += values.len() as i64;
                    expected.extend(written.iter().copied().zip(values.iter().copied()));
                    let any = !written.is_empty();
                    slots.put(written, rows(&values)).unwrap();
                    prop_assert!(!any || slots.stored <= 2 * slots.live + MIN_OUTDATED);
                }
                let in_use: Vec<usize> = expected.keys().copied().collect();
                prop_assert_eq!(slots.in_use(), in_use.clone());
                prop_assert_eq!(slots.len(), in_use.len());
                let found = slots.get(&in_use).unwrap();
                let values: Vec<i64> = expected.values().copied().collect();
                prop_assert_eq!(found.column(0).as_primitive::<Int64Type>().values().to_vec(), values);
            }
        }
    }
}

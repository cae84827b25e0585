//! MAPs whose keys came more than once: of equal keys the last wins, in the place of the first.
//!
//! When a key shows a second time, the columns of its entries are filled already. Reading the row again without it would double the
//! work on each level of MAPs within MAPs; so every entry stays until the batch is done, and those that another has replaced are taken
//! out of the arrays then.
//!
//! ```text
//!  entry   0  1  2  3          0  1  2
//!  key     a  b  a  c    ─►    a  b  c         repeats: 2 replaces 0
//!  value   1  2  3  4          3  2  4
//! ```

use std::collections::HashMap;
use std::hash::Hash;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use laminar_core::Result;

use crate::internal;

/// The entries of one column's batch that replace others.
#[derive(Default)]
pub(crate) struct Repeats {
    /// An entry, and the row's first of the same key; ascending by the entry.
    all: Vec<(usize, usize)>,
}

impl Repeats {
    /// Notes the equal ones among the keys of a row, whose first is entry `first` of the column.
    pub fn note<K: Hash + Eq>(&mut self, first: usize, keys: impl Iterator<Item = K>) {
        let mut seen = HashMap::with_capacity(keys.size_hint().0);
        for (entry, key) in (first..).zip(keys) {
            let earlier = *seen.entry(key).or_insert(entry);
            if earlier != entry {
                self.all.push((entry, earlier));
            }
        }
    }

    /// Cuts back to `entries` entries.
    pub fn truncate(&mut self, entries: usize) {
        while self.all.pop_if(|(entry, _)| *entry >= entries).is_some() {}
    }

    /// The MAPs without the entries that others replace, and an empty start.
    pub fn take_out(
        &mut self,
        offsets: OffsetBuffer<i32>,
        keys: ArrayRef,
        values: ArrayRef,
    ) -> Result<(OffsetBuffer<i32>, ArrayRef, ArrayRef)> {
        if self.all.is_empty() {
            return Ok((offsets, keys, values));
        }
        let all = std::mem::take(&mut self.all);
        // Where the value of each entry is.
        let mut places: Vec<u32> = (0..u32::try_from(keys.len()).map_err(internal)?).collect();
        for (entry, earlier) in &all {
            if let Some(place) = places.get_mut(*earlier) {
                *place = u32::try_from(*entry).map_err(internal)?;
            }
        }
        let replacing = || all.iter().map(|(entry, _)| *entry).peekable();
        let mut next = replacing();
        let (kept, places): (Vec<u32>, Vec<u32>) = (0u32..)
            .zip(places)
            .filter(|(entry, _)| next.next_if(|replacing| *replacing == *entry as usize).is_none())
            .unzip();
        let (mut next, mut gone) = (replacing(), 0);
        let ends = offsets.iter().map(|end| {
            while next.next_if(|entry| usize::try_from(*end).is_ok_and(|end| *entry < end)).is_some() {
                gone += 1;
            }
            end - gone
        });
        let offsets = OffsetBuffer::new(ends.collect::<Vec<i32>>().into());
        let taken = |array: &ArrayRef, places: Vec<u32>| take(array, &UInt32Array::from(places), None);
        Ok((offsets, taken(&keys, kept)?, taken(&values, places)?))
    }
}

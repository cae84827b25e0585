//! A few thousand rows of a join's store, and the slab of all chunks.
//!
//! Rows never change place within a chunk. Small batches come as pieces, which are concatenated as they add up, so that a
//! chunk is a few record batches however small the batches are:
//!
//! ```text
//!  slots   0 1 2 3 4 5 6 7 8
//!  pieces  [0 1 2 3 4 5][6 7][8]     each at most half as long as the one before
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::DataType;
use laminar_core::Result;
use laminar_core::changes::take_rows;

use super::super::groups::NO_GROUP;
use super::chains::LinkOf;

/// The group of a row that was removed.
pub(super) const REMOVED: u32 = NO_GROUP - 1;

/// Where a row is: the chunk's number and the row in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowId {
    pub chunk: u32,
    pub row: u32,
}

impl RowId {
    pub(super) const NONE: RowId = RowId { chunk: u32::MAX, row: u32::MAX };
}

/// A row's neighbours in the chain of its group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub prev: RowId,
    pub next: RowId,
    /// [`NO_GROUP`]: in no chain.
    pub group: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { prev: RowId::NONE, next: RowId::NONE, group: REMOVED }
    }
}

impl Link {
    pub(super) fn renumber(&mut self, numbers: &[u32]) {
        if let Some(number) = numbers.get(self.group as usize) {
            self.group = *number;
        }
    }
}

/// What is known of a row besides its columns and time. 32 bytes: a probe reads one of these a candidate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub key: Link,
    pub matches: Matches,
    pub id: u64,
}

impl Slot {
    pub(super) fn is_live(&self) -> bool {
        self.key.group != REMOVED
    }
}

/// A row's number of matches, and whether the row is among those whose number the next delta has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Matches(u32);

impl Matches {
    const NOTED: u32 = 1 << 31;

    pub(super) fn count(self) -> u32 {
        self.0 & !Self::NOTED
    }
    pub(super) fn set(&mut self, count: u32) {
        self.0 = (self.0 & Self::NOTED) | count.min(!Self::NOTED);
    }
    pub(super) fn is_noted(self) -> bool {
        self.0 & Self::NOTED != 0
    }
    pub(super) fn note(&mut self) {
        self.0 |= Self::NOTED;
    }
    pub(super) fn unnote(&mut self) {
        self.0 &= !Self::NOTED;
    }
}

/// Consecutive rows of a chunk.
pub(super) struct Piece {
    /// The first row's number in the chunk.
    pub start: usize,
    pub rows: RecordBatch,
    pub times: TimestampMicrosecondArray,
}

pub(super) struct Chunk {
    pub bucket: i64,
    pieces: Vec<Piece>,
    pub slots: Vec<Slot>,
    /// Links of equal rows; empty as long as the store keeps none.
    pub twins: Vec<Link>,
    pub live: usize,
    /// Has rows that are not in the log.
    pub fresh: bool,
    /// Logged rows whose number of matches changed since.
    pub noted: Vec<u32>,
}

impl Chunk {
    pub(super) fn new(bucket: i64) -> Self {
        let (pieces, slots, twins, noted) = Default::default();
        Self { bucket, pieces, slots, twins, live: 0, fresh: false, noted }
    }

    pub(super) fn key(&mut self, row: usize) -> Option<&mut Link> {
        self.slots.get_mut(row).map(|slot| &mut slot.key)
    }
    pub(super) fn twin(&mut self, row: usize) -> Option<&mut Link> {
        self.twins.get_mut(row)
    }
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
    /// More than half of its rows were removed.
    pub(super) fn is_sparse(&self) -> bool {
        self.live * 2 < self.slots.len()
    }

    /// The number of the row's piece.
    pub(super) fn piece_of(&self, row: usize) -> usize {
        match self.pieces.len() {
            1 => 0,
            _ => self.pieces.partition_point(|piece| piece.start <= row).saturating_sub(1),
        }
    }

    /// Adds rows in no chain; returns the first one's number.
    pub(super) fn append(
        &mut self,
        rows: RecordBatch,
        times: TimestampMicrosecondArray,
        first_id: u64,
    ) -> Result<usize> {
        let start = self.slots.len();
        let ids = first_id..first_id + rows.num_rows() as u64;
        self.slots.extend(ids.map(|id| Slot { key: Link::default(), matches: Matches::default(), id }));
        self.fresh = true;
        self.pieces.push(Piece { start, rows, times });
        let mut merged = self.pieces.len() - 1;
        let mut length = self.slots.len() - start;
        for piece in self.pieces.iter().rev().skip(1) {
            if length * 2 <= piece.rows.num_rows() {
                break;
            }
            length += piece.rows.num_rows();
            merged -= 1;
        }
        self.concat_from(merged)?;
        Ok(start)
    }

    /// No more rows come: makes one piece of all.
    pub(super) fn seal(&mut self) -> Result<()> {
        self.concat_from(0)
    }

    fn concat_from(&mut self, first: usize) -> Result<()> {
        let Some(pieces) = self.pieces.get(first..).filter(|pieces| pieces.len() > 1) else { return Ok(()) };
        let (Some(start), Some(schema)) =
            (pieces.first().map(|piece| piece.start), pieces.first().map(|piece| piece.rows.schema()))
        else {
            return Ok(());
        };
        let count = pieces.iter().map(|piece| piece.rows.num_rows()).sum();
        let rows = match schema.fields().is_empty() {
            false => compute::concat_batches(&schema, pieces.iter().map(|piece| &piece.rows))?,
            true => {
                let options = RecordBatchOptions::new().with_row_count(Some(count));
                RecordBatch::try_new_with_options(schema, Vec::new(), &options)?
            }
        };
        let times: Vec<&dyn arrow::array::Array> = pieces.iter().map(|piece| &piece.times as _).collect();
        let times = compute::concat(&times)?.as_primitive().clone();
        self.pieces.truncate(first);
        self.pieces.push(Piece { start, rows, times });
        Ok(())
    }

    /// Numbers of the rows whose slot fits, in order.
    pub(super) fn rows_where(&self, fits: impl Fn(&Slot) -> bool) -> Vec<u32> {
        let rows = self.slots.iter().enumerate().filter(|(_, slot)| fits(slot));
        rows.map(|(row, _)| row as u32).collect()
    }

    /// The rows with these numbers, which ascend, by piece; whole pieces are not copied.
    pub(super) fn select(&self, rows: &[u32]) -> Result<Vec<(RecordBatch, TimestampMicrosecondArray)>> {
        let mut parts = Vec::new();
        let mut rest = rows;
        for piece in &self.pieces {
            let end = piece.start + piece.rows.num_rows();
            let (these, after) = rest.split_at(rest.partition_point(|row| (*row as usize) < end));
            rest = after;
            if these.len() == piece.rows.num_rows() {
                parts.push((piece.rows.clone(), piece.times.clone()));
            } else if !these.is_empty() {
                let indices = UInt32Array::from_iter_values(these.iter().map(|row| row - piece.start as u32));
                let times = compute::take(&piece.times, &indices, None)?.as_primitive().clone();
                parts.push((take_rows(&piece.rows, &indices)?, times));
            }
        }
        Ok(parts)
    }
}

/// All chunks of a store, by number; numbers are reused.
#[derive(Default)]
pub(super) struct Chunks {
    chunks: Vec<Option<Chunk>>,
    free: Vec<u32>,
}

impl Chunks {
    /// One more than the highest number.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }
    pub(super) fn get(&self, number: u32) -> Option<&Chunk> {
        self.chunks.get(number as usize)?.as_ref()
    }
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Chunk> {
        self.chunks.get_mut(number as usize)?.as_mut()
    }
    pub(super) fn slot(&self, at: RowId) -> Option<&Slot> {
        self.get(at.chunk)?.slots.get(at.row as usize)
    }
    pub(super) fn slot_mut(&mut self, at: RowId) -> Option<&mut Slot> {
        self.get_mut(at.chunk)?.slots.get_mut(at.row as usize)
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Chunk)> {
        self.chunks.iter().zip(0..).filter_map(|(chunk, number)| Some((number, chunk.as_ref()?)))
    }
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Chunk)> {
        self.chunks.iter_mut().zip(0..).filter_map(|(chunk, number)| Some((number, chunk.as_mut()?)))
    }

    /// Changes one link of the row, if there is such a row.
    pub(super) fn link(&mut self, link: LinkOf, at: RowId, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.get_mut(at.chunk).and_then(|chunk| link(chunk, at.row as usize)) {
            change(link);
        }
    }

    pub(super) fn insert(&mut self, chunk: Chunk) -> u32 {
        match self.free.pop() {
            Some(number) => {
                if let Some(place) = self.chunks.get_mut(number as usize) {
                    *place = Some(chunk);
                }
                number
            }
            None => {
                self.chunks.push(Some(chunk));
                (self.chunks.len() - 1) as u32
            }
        }
    }
    pub(super) fn free(&mut self, number: u32) {
        if let Some(place) = self.chunks.get_mut(number as usize).filter(|place| place.is_some()) {
            *place = None;
            self.free.push(number);
        }
    }
}

/// The rows without the string buffers of the batch they were taken from.
pub(super) fn detached(rows: RecordBatch) -> Result<RecordBatch> {
    let is_view = |column: &ArrayRef| matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !rows.columns().iter().any(is_view) {
        return Ok(rows);
    }
    let columns = rows.columns().iter().map(|column| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => column.clone(),
        }
    });
    Ok(RecordBatch::try_new(rows.schema(), columns.collect())?)
}

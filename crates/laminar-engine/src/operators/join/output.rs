//! The rows that a join emits, gathered column by column from wherever they are.
//!
//! An output row is at first two places, one a side; `(source, row)`. [`Pending::flush`] copies the columns.
//! Invariant: no output row is older than the last forwarded watermark, so an older one is emitted at the watermark.

use std::sync::Arc;

use arrow::array::new_null_array;
use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use laminar_core::{ChangeKind, Changes, Error, Kinds, Result};

use super::super::rows::batch;
use super::chunk::RowId;
use super::sides::{Side, Sides};
use super::store::Store;
use crate::operator::Output;

/// A source's number, and a row of it.
pub(super) type Place = (usize, usize);

/// The place of a row of NULLs, in sources that have one.
const NULLS: Place = (0, 0);

/// What one side's rows are copied from.
pub(super) struct Sources {
    schema: SchemaRef,
    /// The first source is a row of NULLs.
    padded: bool,
    rows: Vec<RecordBatch>,
    times: Vec<TimestampMicrosecondArray>,
    /// The number of the chunk's first piece, by chunk.
    of_chunk: Vec<Option<usize>>,
}

impl Sources {
    pub(super) fn new(schema: SchemaRef, padded: bool) -> Result<Self> {
        let mut sources = Self { schema, padded, rows: Vec::new(), times: Vec::new(), of_chunk: Vec::new() };
        if padded {
            let nulls = sources.schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
            // Not the schema of the side: its columns may be declared NOT NULL.
            let fields = sources.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
            sources.add(batch(&schema, nulls, 1)?, TimestampMicrosecondArray::from(vec![i64::MIN]));
        }
        Ok(sources)
    }

    pub(super) fn add(&mut self, rows: RecordBatch, times: TimestampMicrosecondArray) -> usize {
        self.rows.push(rows);
        self.times.push(times);
        self.rows.len() - 1
    }

    /// The place of a stored row; valid until the next [`Pending::flush`].
    pub(super) fn locate(&mut self, store: &Store, at: RowId) -> Place {
        let Some(chunk) = store.chunks.get(at.chunk) else { return NULLS };
        let number = at.chunk as usize;
        let known = self.of_chunk.get(number).copied().flatten();
        let first = known.unwrap_or_else(|| {
            let first = self.rows.len();
            for piece in chunk.pieces() {
                self.add(piece.rows.clone(), piece.times.clone());
            }
            self.of_chunk.resize(self.of_chunk.len().max(number + 1), None);
            if let Some(place) = self.of_chunk.get_mut(number) {
                *place = Some(first);
            }
            first
        });
        let piece = chunk.piece_of(at.row as usize);
        let start = chunk.pieces().get(piece).map_or(0, |piece| piece.start);
        (first + piece, (at.row as usize).saturating_sub(start))
    }

    pub(super) fn time(&self, place: Place) -> i64 {
        let time = self.times.get(place.0).and_then(|times| times.values().get(place.1));
        time.copied().unwrap_or(i64::MIN)
    }

    /// The columns with these numbers, at these places.
    pub(super) fn gather(&self, columns: impl Iterator<Item = usize>, places: &[Place]) -> Result<Vec<ArrayRef>> {
        if let [rows] = self.rows.as_slice() {
            let indices = UInt32Array::from_iter_values(places.iter().map(|(_, row)| *row as u32));
            let column = |i: usize| rows.columns().get(i).ok_or_else(missing);
            return columns.map(|i| Ok(compute::take(column(i)?, &indices, None)?)).collect();
        }
        let gathered = columns.map(|i| {
            let arrays = self.rows.iter().map(|rows| rows.columns().get(i).map(|column| column.as_ref()));
            let arrays: Vec<&dyn Array> = arrays.collect::<Option<_>>().ok_or_else(missing)?;
            Ok(compute::interleave(&arrays, places)?)
        });
        gathered.collect()
    }

    fn forget(&mut self) {
        let kept = usize::from(self.padded);
        self.rows.truncate(kept);
        self.times.truncate(kept);
        self.of_chunk.clear();
    }
}

/// Output rows that are not copied yet.
pub(super) struct Pending {
    schema: SchemaRef,
    /// Sides whose columns the output has.
    shown: Sides<bool>,
    pub(super) sources: Sides<Sources>,
    places: Sides<Vec<Place>>,
    times: Vec<i64>,
    kinds: Vec<ChangeKind>,
    /// Not all are inserts.
    retracts: bool,
    /// The last forwarded watermark.
    pub(super) watermark: i64,
}

impl Pending {
    pub(super) fn new(schema: SchemaRef, shown: Sides<bool>, sources: Sides<Sources>) -> Self {
        let (places, times, kinds) = Default::default();
        Self { schema, shown, sources, places, times, kinds, retracts: false, watermark: i64::MIN }
    }

    /// Two rows that match.
    pub(super) fn pair(&mut self, side: Side, own: Place, other: Place, time: i64, kind: ChangeKind) {
        self.places.of_mut(side).push(own);
        self.places.of_mut(side.other()).push(other);
        self.note(time, kind);
    }

    /// A row of one side alone; NULLs for the other one, if the output has its columns.
    pub(super) fn alone(&mut self, side: Side, own: Place, kind: ChangeKind) {
        let time = self.sources.of(side).time(own);
        self.places.of_mut(side).push(own);
        if *self.shown.of(side.other()) {
            self.places.of_mut(side.other()).push(NULLS);
        }
        self.note(time, kind);
    }

    fn note(&mut self, time: i64, kind: ChangeKind) {
        self.times.push(time.max(self.watermark));
        self.kinds.push(kind);
        self.retracts |= kind == ChangeKind::Delete;
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Pushes the rows, and forgets the sources.
    pub(super) fn flush(&mut self, out: &mut Output) -> Result<()> {
        let rows = self.times.len();
        if rows > 0 {
            let mut columns = Vec::with_capacity(self.schema.fields().len());
            for side in Side::BOTH {
                if *self.shown.of(side) {
                    let sources = self.sources.of(side);
                    let all = 0..sources.schema.fields().len();
                    columns.extend(sources.gather(all, self.places.of(side))?);
                }
            }
            let columns = batch(&self.schema, columns, rows)?;
            let kinds = std::mem::take(&mut self.kinds);
            let kinds = self.retracts.then(|| Kinds::from_iter(kinds));
            let times = TimestampMicrosecondArray::from(std::mem::take(&mut self.times));
            out.push(Changes::new(columns, times, kinds)?);
        }
        self.retracts = false;
        for side in Side::BOTH {
            self.places.of_mut(side).clear();
            self.sources.of_mut(side).forget();
        }
        Ok(())
    }
}

fn missing() -> Error {
    Error::internal("a join names a column that its input does not have")
}

//! Rows, their event times, and the change each makes.
//!
//! `kinds` is absent when every row is an insert: the common case, and it costs nothing. The event time travels beside
//! the row, not as a column of it, so a projection can drop the time column and a later window still knows when the row
//! happened.
//!
//! `origins` says of each row which one of its source's batch it comes from, as long as it is in the task that read it: so
//! a row that cannot be used is traced to its record.
//!
//! Invariant: `rows`, `times` and (where present) `kinds` and `origins` have the same length.

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int8Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute;

use crate::{Code, Error, Result};

/// What a row does to the relation that the stream describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ChangeKind {
    Insert = 0,
    /// The row as it was before an update; its `UpdateAfter` follows.
    UpdateBefore = 1,
    UpdateAfter = 2,
    Delete = 3,
}

impl ChangeKind {
    /// How many more times the row is there afterwards: 1 or -1.
    pub fn weight(self) -> i64 {
        match self {
            Self::Insert | Self::UpdateAfter => 1,
            Self::UpdateBefore | Self::Delete => -1,
        }
    }

    /// The kind with this number; an unknown one counts as an insert.
    pub fn from_code(code: i8) -> Self {
        match code {
            1 => Self::UpdateBefore,
            2 => Self::UpdateAfter,
            3 => Self::Delete,
            _ => Self::Insert,
        }
    }
}

/// One [`ChangeKind`] a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Kinds(Int8Array);

impl Kinds {
    pub fn get(&self, row: usize) -> ChangeKind {
        ChangeKind::from_code(self.0.value(row))
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = ChangeKind> + '_ {
        self.0.values().iter().map(|code| ChangeKind::from_code(*code))
    }
}

impl FromIterator<ChangeKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = ChangeKind>>(kinds: I) -> Self {
        Self(Int8Array::from_iter_values(kinds.into_iter().map(|k| k as i8)))
    }
}

/// A batch of changes, in order.
#[derive(Clone, Debug)]
pub struct Changes {
    rows: RecordBatch,
    times: TimestampMicrosecondArray,
    kinds: Option<Kinds>,
    origins: Option<UInt32Array>,
}

impl Changes {
    /// Rows that are all inserts. `times` has one event time (µs since 1970 UTC) per row, null only in what a decoder gives.
    pub fn inserts(rows: RecordBatch, times: TimestampMicrosecondArray) -> Result<Self> {
        Self::new(rows, times, None)
    }

    pub fn new(rows: RecordBatch, times: TimestampMicrosecondArray, kinds: Option<Kinds>) -> Result<Self> {
        let n = rows.num_rows();
        if times.len() != n || kinds.as_ref().is_some_and(|k| k.len() != n) {
            return Err(Error::new(
                Code::Internal,
                format!("{n} rows came with {} event times and {:?} kinds", times.len(), kinds.map(|k| k.len())),
            ));
        }
        Ok(Self { rows, times, kinds, origins: None })
    }

    /// Numbers the rows, each as its own origin.
    #[must_use]
    pub fn numbered(mut self) -> Self {
        let count = u32::try_from(self.num_rows()).unwrap_or(u32::MAX);
        self.origins = Some(UInt32Array::from_iter_values(0..count));
        self
    }

    /// The same changes, each from the row of the source's batch that is said here. One origin a row.
    pub fn with_origins(mut self, origins: Option<UInt32Array>) -> Result<Self> {
        if origins.as_ref().is_some_and(|o| o.len() != self.num_rows()) {
            return Err(Error::internal(format!("{} rows came with another number of origins", self.num_rows())));
        }
        self.origins = origins;
        Ok(self)
    }

    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }
    pub fn times(&self) -> &TimestampMicrosecondArray {
        &self.times
    }
    /// The same rows, all of which have an event time: where there was none, what lies below the null.
    pub fn timed(self) -> Self {
        let (_, times, _) = self.times.into_parts();
        Self { times: TimestampMicrosecondArray::new(times, None), ..self }
    }
    /// `None`: every row is an insert.
    pub fn kinds(&self) -> Option<&Kinds> {
        self.kinds.as_ref()
    }
    /// Which row of the source's batch each one comes from. `None`: from no single one, or they have left the task that read it.
    pub fn origins(&self) -> Option<&UInt32Array> {
        self.origins.as_ref()
    }
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }
    /// Bytes the columns hold; shared buffers count in full.
    pub fn num_bytes(&self) -> usize {
        self.rows.get_array_memory_size() + self.times.get_array_memory_size()
    }

    /// The same changes with other columns, as a projection makes them. `rows` must have as many rows as before.
    pub fn with_rows(self, rows: RecordBatch) -> Result<Self> {
        Self::new(rows, self.times, self.kinds)?.with_origins(self.origins)
    }

    /// The rows where `mask` is true.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        let times = compute::filter(&self.times, mask)?;
        let kinds = match &self.kinds {
            Some(kinds) => Some(Kinds(downcast(compute::filter(&kinds.0, mask)?)?)),
            None => None,
        };
        let origins = match &self.origins {
            Some(origins) => Some(downcast(compute::filter(origins, mask)?)?),
            None => None,
        };
        Self::new(compute::filter_record_batch(&self.rows, mask)?, downcast(times)?, kinds)?.with_origins(origins)
    }

    /// The rows at `indices`, in that order; an index may repeat. They have no origins: this is how rows leave their task.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self> {
        let times = compute::take(&self.times, indices, None)?;
        let kinds = match &self.kinds {
            Some(kinds) => Some(Kinds(downcast(compute::take(&kinds.0, indices, None)?)?)),
            None => None,
        };
        Self::new(take_rows(&self.rows, indices)?, downcast(times)?, kinds)
    }

    /// `length` rows from `offset` on; no copy.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            rows: self.rows.slice(offset, length),
            times: self.times.slice(offset, length),
            kinds: self.kinds.as_ref().map(|k| Kinds(k.0.slice(offset, length))),
            origins: self.origins.as_ref().map(|o| o.slice(offset, length)),
        }
    }
}

/// The rows at `indices`, in that order, also of rows without columns.
pub fn take_rows(rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch> {
    let columns = compute::take_arrays(rows.columns(), indices, None)?;
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

fn downcast<A: Array + Clone + 'static>(array: ArrayRef) -> Result<A> {
    let typed = array.as_any().downcast_ref::<A>().cloned();
    typed
        .ok_or_else(|| Error::new(Code::Internal, format!("a kernel changed an array's type to {}", array.data_type())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;

    fn changes(values: &[i64], kinds: Option<&[ChangeKind]>) -> Changes {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let rows = RecordBatch::try_from_iter([("v", column)]).unwrap();
        let times = TimestampMicrosecondArray::from_iter_values(values.iter().map(|v| v * 10));
        Changes::new(rows, times, kinds.map(|k| k.iter().copied().collect())).unwrap()
    }

    #[test]
    fn filter_keeps_times_and_kinds_beside_their_rows() {
        use ChangeKind::*;
        let all = changes(&[1, 2, 3], Some(&[Insert, UpdateBefore, UpdateAfter]));
        let kept = all.filter(&BooleanArray::from(vec![true, false, true])).unwrap();
        assert_eq!(kept.times().values().as_ref(), [10, 30]);
        assert_eq!(kept.kinds().unwrap().iter().collect::<Vec<_>>(), [Insert, UpdateAfter]);
    }

    #[test]
    fn a_row_is_traced_to_where_it_comes_from() {
        let numbered = changes(&[1, 2, 3, 4], None).numbered();
        let kept = numbered.filter(&BooleanArray::from(vec![false, true, true, true])).unwrap().slice(1, 2);
        let other = changes(&[7, 8], None).rows().clone();
        assert_eq!(kept.with_rows(other).unwrap().origins().unwrap().values().as_ref(), [2, 3]);
        assert!(numbered.with_origins(Some(UInt32Array::from(vec![1]))).is_err());
    }

    #[test]
    fn lengths_that_differ_are_refused() {
        let rows = changes(&[1, 2], None).rows().clone();
        let error = Changes::inserts(rows, TimestampMicrosecondArray::from(vec![1])).unwrap_err();
        assert_eq!(error.code(), Code::Internal);
    }
}

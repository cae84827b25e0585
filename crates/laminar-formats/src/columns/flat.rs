//! Columns without others in them, by how their values are laid out.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, PrimitiveArray,
    StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;
use laminar_core::Result;

use crate::fault::{Fault, fault};

/// Values of one width, and which are null.
pub(crate) struct Values<T> {
    values: Vec<T>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowNativeType> Values<T> {
    pub fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }
    #[inline(always)]
    pub fn push(&mut self, value: T) {
        self.values.push(value);
        self.nulls.append_non_null();
    }
    pub fn push_null(&mut self) {
        self.values.push(T::default());
        self.nulls.append_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(rows);
    }
    pub fn take<A: ArrowPrimitiveType<Native = T>>(&mut self) -> Result<PrimitiveArray<A>> {
        let room = Vec::with_capacity(self.values.len());
        let values = ScalarBuffer::from(std::mem::replace(&mut self.values, room));
        Ok(PrimitiveArray::try_new(values, self.nulls.finish())?)
    }
}

/// `true` and `false`, a bit each.
pub(crate) struct Booleans {
    values: BooleanBufferBuilder,
    nulls: NullBufferBuilder,
}

impl Booleans {
    pub fn new() -> Self {
        Self { values: BooleanBufferBuilder::new(0), nulls: NullBufferBuilder::new(0) }
    }
    pub fn push(&mut self, value: bool) {
        self.values.append(value);
        self.nulls.append_non_null();
    }
    pub fn push_null(&mut self) {
        self.values.append(false);
        self.nulls.append_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(BooleanArray::new(self.values.finish(), self.nulls.finish())))
    }
}

/// Bytes of any length laid end to end.
pub(crate) struct Bytes {
    pub bytes: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Bytes {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }
    /// Ends the entry whose bytes were just appended; `at` is where it stands in the message.
    #[inline(always)]
    pub fn end_entry(&mut self, at: usize) -> Result<(), Fault> {
        match i32::try_from(self.bytes.len()) {
            Ok(end) => self.offsets.push(end),
            Err(_) => return Err(fault(at, "the batch has more than 2 GiB in this column")),
        }
        self.nulls.append_non_null();
        Ok(())
    }
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }
    pub fn push_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.nulls.append_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0);
        self.bytes.truncate(end);
        self.nulls.truncate(rows);
    }
    /// The entries from `row` on.
    pub fn entries_from(&self, row: usize) -> impl Iterator<Item = &[u8]> {
        let ends = self.offsets.get(row..).unwrap_or_default();
        ends.windows(2).map(|pair| match pair {
            [start, end] => self.bytes.get(*start as usize..*end as usize).unwrap_or_default(),
            _ => &[],
        })
    }
    fn take(&mut self) -> (OffsetBuffer<i32>, Vec<u8>, Option<NullBuffer>) {
        let mut room = Vec::with_capacity(self.offsets.len());
        room.push(0);
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, room).into());
        // A little more than last time, so that a usual batch does not grow.
        let room = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 16);
        (offsets, std::mem::replace(&mut self.bytes, room), self.nulls.finish())
    }
    pub fn finish_text(&mut self) -> Result<ArrayRef> {
        let (offsets, bytes, nulls) = self.take();
        Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?))
    }
    pub fn finish_binary(&mut self) -> Result<ArrayRef> {
        let (offsets, bytes, nulls) = self.take();
        Ok(Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?))
    }
}

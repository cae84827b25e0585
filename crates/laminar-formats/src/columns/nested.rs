//! Columns within columns: arrays, STRUCTs and MAPs.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, MapArray, NullBufferBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use laminar_core::Result;

use super::Repeats;
use crate::fault::{Fault, fault};
use crate::internal;

/// Where the entries of each row end in a child column.
pub(crate) struct Ends {
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Default for Ends {
    fn default() -> Self {
        Self::new()
    }
}

impl Ends {
    pub fn new() -> Self {
        Self { offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }
    /// Entries of all rows so far.
    pub fn total(&self) -> usize {
        self.offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0)
    }
    pub fn push(&mut self, total: usize, at: usize) -> Result<(), Fault> {
        let total =
            i32::try_from(total).map_err(|_| fault(at, "the batch has more than 2^31 entries in this column"))?;
        self.offsets.push(total);
        self.nulls.append_non_null();
        Ok(())
    }
    pub fn push_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.nulls.append_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.nulls.truncate(rows);
    }
    /// The array of the rows whose items are in `items`.
    pub fn finish_list(&mut self, field: &FieldRef, items: ArrayRef) -> Result<ArrayRef> {
        let (offsets, nulls) = self.take();
        Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, items, nulls)?))
    }
    /// The MAPs of the rows whose keys and values are in `keys` and `values`.
    pub fn finish_map(
        &mut self,
        entries: &FieldRef,
        keys: ArrayRef,
        values: ArrayRef,
        repeats: &mut Repeats,
    ) -> Result<ArrayRef> {
        let (offsets, nulls) = self.take();
        let (offsets, keys, values) = repeats.take_out(offsets, keys, values)?;
        let DataType::Struct(fields) = entries.data_type() else { return Err(internal("a MAP without entries")) };
        let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false)?))
    }
    fn take(&mut self) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        (OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into()), self.nulls.finish())
    }
}

/// STRUCTs of `rows` rows, which may have no fields.
pub(crate) fn struct_array(
    fields: &Fields,
    columns: Vec<ArrayRef>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    if columns.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(rows, nulls)));
    }
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
}

/// The fields of a MAP's keys and values.
pub(crate) fn map_fields(entries: &FieldRef) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.iter().as_slice() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}

/// The values' field of a MAP whose keys are text.
pub(crate) fn text_map_value(entries: &FieldRef) -> Option<&FieldRef> {
    map_fields(entries).filter(|(key, _)| *key.data_type() == DataType::Utf8).map(|(_, value)| value)
}

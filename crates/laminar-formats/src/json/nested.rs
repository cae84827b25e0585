//! Columns within columns: lists, structs and maps.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, MapArray, NullBufferBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields};
use laminar_core::{Code, Error, Result};

use crate::fault::{Fault, fault, in_column};
use crate::internal;
use crate::json::column::Slot;
use crate::json::object::ObjectReader;
use crate::json::scan::{skip_space, unexpected};
use crate::json::skip::{MAX_DEPTH, too_deep};
use crate::json::string;
use crate::json::text::Bytes;
use crate::json::value::mismatch;
use crate::options::TimestampFormat;
use crate::repeats::Repeats;

/// Where the entries of each row end in a child column.
pub(crate) struct Ends {
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
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
    pub fn take(&mut self) -> (OffsetBuffer<i32>, Option<arrow::buffer::NullBuffer>) {
        (OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into()), self.nulls.finish())
    }
}

/// An array of values of one type.
pub(crate) struct Lists {
    field: FieldRef,
    item: Slot,
    ends: Ends,
}

impl Lists {
    pub fn new(field: &FieldRef, format: TimestampFormat) -> Result<Self> {
        Ok(Self { field: Arc::clone(field), item: Slot::new(field, format)?, ends: Ends::new() })
    }

    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if bytes.get(at) != Some(&b'[') {
            return Err(mismatch(bytes, at, depth, &DataType::List(Arc::clone(&self.field))));
        }
        if depth >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        let mut total = self.ends.total();
        let mut next = skip_space(bytes, at + 1);
        if bytes.get(next) == Some(&b']') {
            self.ends.push(total, at)?;
            return Ok(next + 1);
        }
        loop {
            next = self.item.read(bytes, next, depth + 1)?;
            total += 1;
            next = skip_space(bytes, next);
            match bytes.get(next) {
                Some(b',') => next = skip_space(bytes, next + 1),
                Some(b']') => break,
                _ => return Err(unexpected(bytes, next, ", or ]")),
            }
        }
        self.ends.push(total, at)?;
        Ok(next + 1)
    }
    pub fn push_null(&mut self) {
        self.ends.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.item.column.truncate(self.ends.total());
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let (offsets, nulls) = self.ends.take();
        let items = self.item.column.finish()?;
        Ok(Arc::new(ListArray::try_new(Arc::clone(&self.field), offsets, items, nulls)?))
    }
}

/// An object with known fields.
pub(crate) struct Structs {
    fields: Fields,
    reader: ObjectReader,
    nulls: NullBufferBuilder,
}

impl Structs {
    pub fn new(fields: &Fields, format: TimestampFormat) -> Result<Self> {
        let slots = fields.iter().map(|field| Slot::new(field, format)).collect::<Result<Vec<_>>>()?;
        let names = fields.iter().enumerate().map(|(slot, field)| (field.name().as_str(), Some(slot)));
        let reader = ObjectReader::new(names, slots);
        Ok(Self { fields: fields.clone(), reader, nulls: NullBufferBuilder::new(0) })
    }
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if bytes.get(at) != Some(&b'{') {
            return Err(mismatch(bytes, at, depth, &DataType::Struct(self.fields.clone())));
        }
        let end = self.reader.read(bytes, at, depth)?;
        self.nulls.append_non_null();
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.reader.push_null();
        self.nulls.append_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.reader.truncate(rows);
        self.nulls.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let rows = self.reader.rows();
        let columns = self.reader.finish()?;
        let nulls = self.nulls.finish();
        if columns.is_empty() {
            return Ok(Arc::new(StructArray::new_empty_fields(rows, nulls)));
        }
        Ok(Arc::new(StructArray::try_new(self.fields.clone(), columns, nulls)?))
    }
}

/// An object with any fields, all of one type. Of equal keys the last wins, in the place of the first.
pub(crate) struct Maps {
    entries: FieldRef,
    keys: Bytes,
    value: Slot,
    ends: Ends,
    repeats: Repeats,
}

impl Maps {
    pub fn new(entries: &FieldRef, format: TimestampFormat) -> Result<Self> {
        let value = match entries.data_type() {
            DataType::Struct(fields) => fields.get(1),
            _ => None,
        };
        let value = value.ok_or_else(|| Error::new(Code::NotSupported, "a MAP without values"))?;
        Ok(Self {
            entries: Arc::clone(entries),
            keys: Bytes::new(),
            value: Slot::new(value, format)?,
            ends: Ends::new(),
            repeats: Repeats::default(),
        })
    }

    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if bytes.get(at) != Some(&b'{') {
            return Err(mismatch(bytes, at, depth, &DataType::Map(Arc::clone(&self.entries), false)));
        }
        if depth >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        let first = self.ends.total();
        let mut next = skip_space(bytes, at + 1);
        if bytes.get(next) == Some(&b'}') {
            self.ends.push(first, at)?;
            return Ok(next + 1);
        }
        loop {
            if bytes.get(next) != Some(&b'"') {
                return Err(unexpected(bytes, next, "a field name in quotes"));
            }
            let after = skip_space(bytes, string::read(bytes, next + 1, &mut self.keys.bytes)?);
            self.keys.end_entry(next)?;
            if bytes.get(after) != Some(&b':') {
                return Err(unexpected(bytes, after, ":"));
            }
            let read = self.value.read(bytes, skip_space(bytes, after + 1), depth + 1);
            next = skip_space(bytes, read.map_err(|fault| in_column(fault, &self.last_key()))?);
            match bytes.get(next) {
                Some(b',') => next = skip_space(bytes, next + 1),
                Some(b'}') => break,
                _ => return Err(unexpected(bytes, next, ", or }")),
            }
        }
        if self.keys.len() > first + 1 {
            self.repeats.note(first, self.keys.entries_from(first));
        }
        self.ends.push(self.keys.len(), at)?;
        Ok(next + 1)
    }

    #[cold]
    fn last_key(&self) -> String {
        let last = self.keys.len().saturating_sub(1);
        String::from_utf8_lossy(self.keys.entries_from(last).next().unwrap_or_default()).into_owned()
    }

    pub fn push_null(&mut self) {
        self.ends.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        let total = self.ends.total();
        self.keys.truncate(total);
        self.value.column.truncate(total);
        self.repeats.truncate(total);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let (offsets, nulls) = self.ends.take();
        let keys = self.keys.finish_text()?;
        let (offsets, keys, values) = self.repeats.take_out(offsets, keys, self.value.column.finish()?)?;
        let DataType::Struct(fields) = self.entries.data_type() else { return Err(internal("a MAP without entries")) };
        let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        Ok(Arc::new(MapArray::try_new(Arc::clone(&self.entries), offsets, entries, nulls, false)?))
    }
}

//! Columns within columns: lists, structs and maps.

use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder};
use arrow::datatypes::{DataType, FieldRef, Fields};
use laminar_core::{Code, Error, Result};

use crate::columns::{Bytes, Ends, Repeats, map_fields, struct_array};
use crate::fault::{Fault, in_column};
use crate::json::column::Slot;
use crate::json::object::ObjectReader;
use crate::json::scan::{skip_space, unexpected};
use crate::json::skip::{MAX_DEPTH, too_deep};
use crate::json::string;
use crate::json::value::mismatch;
use crate::options::TimestampFormat;

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
        let items = self.item.column.finish()?;
        self.ends.finish_list(&self.field, items)
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
        struct_array(&self.fields, columns, rows, self.nulls.finish())
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
        let (_, value) = map_fields(entries).ok_or_else(|| Error::new(Code::NotSupported, "a MAP without values"))?;
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
        let (keys, values) = (self.keys.finish_text()?, self.value.column.finish()?);
        self.ends.finish_map(&self.entries, keys, values, &mut self.repeats)
    }
}

//! Columns within columns: arrays, STRUCTs and MAPs.

use arrow::array::{ArrayRef, NullBufferBuilder};
use arrow::datatypes::{FieldRef, Fields};
use laminar_core::Result;

use super::column::Column;
use super::known::Key;
use super::message::MessageReader;
use super::source::Source;
use super::wire::{Wire, WireType, expect_wire};
use crate::columns::{Ends, Repeats, struct_array};
use crate::fault::Fault;

/// A `repeated` field. Its values may stand anywhere in the message; the row ends with the message.
pub(super) struct Lists {
    pub field: FieldRef,
    pub item: Column,
    /// Whether many values may stand together, and how one of them is laid out.
    pub packable: bool,
    pub wire: WireType,
    /// Items so far, those of the row at hand included.
    pub items: usize,
    pub ends: Ends,
}

impl Lists {
    #[inline(always)]
    pub fn read(&mut self, wire: &mut Wire<'_>, number: u32, kind: WireType) -> Result<(), Fault> {
        if kind == WireType::Bytes && self.packable {
            let (start, end) = wire.bytes()?;
            let mut inner = wire.within(start, end);
            while !inner.is_at_end() {
                self.item.read(&mut inner)?;
                self.items += 1;
            }
            return Ok(());
        }
        expect_wire(wire.at(), number, kind, self.wire)?;
        self.item.read(wire)?;
        self.items += 1;
        Ok(())
    }
    pub fn end_row(&mut self, at: usize) -> Result<(), Fault> {
        self.ends.push(self.items, at)
    }
    pub fn push_null(&mut self) {
        self.ends.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.items = self.ends.total();
        self.item.truncate(self.items);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.items = 0;
        self.ends.finish_list(&self.field, self.item.finish()?)
    }
}

/// A message within the message.
pub(super) struct Structs {
    pub fields: Fields,
    pub reader: MessageReader,
    pub nulls: NullBufferBuilder,
}

impl Structs {
    pub fn read(&mut self, wire: &mut Wire<'_>) -> Result<(), Fault> {
        let (start, end) = wire.bytes()?;
        self.reader.read(wire.within(start, end))?;
        self.nulls.append_non_null();
        Ok(())
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

/// A `map` field: on the wire a repeated message of a key and a value. Of equal keys the last wins, in the place of the first.
pub(super) struct Maps {
    pub entries: FieldRef,
    pub key: Column,
    pub key_source: Source,
    pub value: Column,
    pub value_wire: WireType,
    /// What stands for a key or a value that is not there, each without its tag.
    pub absent: [Box<[u8]>; 2],
    /// Where the key of each entry of the row at hand stands.
    pub row: Vec<Option<usize>>,
    pub ends: Ends,
    pub repeats: Repeats,
}

impl Maps {
    pub fn read(&mut self, wire: &mut Wire<'_>) -> Result<(), Fault> {
        let (start, end) = wire.bytes()?;
        let mut inner = wire.within(start, end);
        let mut places = [None, None];
        while !inner.is_at_end() {
            let (number, kind) = inner.tag()?;
            let [key, value] = &mut places;
            let (place, expected) = match number {
                1 => (key, self.key_source.wire_type()),
                2 => (value, self.value_wire),
                _ => {
                    inner.skip(number, kind)?;
                    continue;
                }
            };
            expect_wire(inner.at(), number, kind, expected)?;
            *place = Some(inner.at());
            inner.skip(number, kind)?;
        }
        let ([key, value], [no_key, no_value]) = (places, &self.absent);
        self.key.read(&mut place(wire, key, no_key))?;
        self.value.read(&mut place(wire, value, no_value))?;
        self.row.push(key);
        Ok(())
    }

    /// `wire` is of the message that the entries were read from.
    pub fn end_row(&mut self, wire: &Wire<'_>) -> Result<(), Fault> {
        let (first, entries) = (self.ends.total(), self.row.len());
        if entries > 1 {
            let [no_key, _] = &self.absent;
            let key = |at: &Option<usize>| Key::read(&self.key_source, &mut place(wire, *at, no_key));
            let keys = self.row.iter().map(key).collect::<Result<Vec<_>, _>>()?;
            self.repeats.note(first, keys.into_iter());
        }
        self.row.clear();
        self.ends.push(first + entries, wire.at())
    }

    pub fn push_null(&mut self) {
        self.ends.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.row.clear();
        self.ends.truncate(rows);
        let total = self.ends.total();
        self.key.truncate(total);
        self.value.truncate(total);
        self.repeats.truncate(total);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let (keys, values) = (self.key.finish()?, self.value.finish()?);
        self.ends.finish_map(&self.entries, keys, values, &mut self.repeats)
    }
}

/// Where a value stands, or what stands for it.
fn place<'a>(wire: &Wire<'a>, at: Option<usize>, absent: &'a [u8]) -> Wire<'a> {
    match at {
        Some(at) => wire.moved_to(at),
        None => Wire::new(absent),
    }
}

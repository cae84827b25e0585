//! A message's fields into columns, found by their numbers in a table made once.
//!
//! ```text
//!  number ─► Place ─► Slot: how the value is laid out, the column it fills, what stands for it when it is not there
//! ```
//!
//! Of a field that comes twice the last counts; of messages, what both say together; of a oneof the last of its fields. Fields
//! may come in any order, those that nobody reads are stepped over. A message within the message is read when the row ends, once: were
//! it read where it stands and again with what follows of it, each level of messages would double the work.
//!
//! The rule: after [`MessageReader::read`] every column has one row more. After an error they may differ in length until
//! `truncate`.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use laminar_core::Result;

use super::column::Column;
use super::source::put_bytes;
use super::wire::{Wire, WireType, expect_wire};
use crate::fault::{Fault, fault, in_column, of_constraint};

/// What the table says about a field number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody reads it.
    Skip,
    Slot(u32),
    /// Nobody reads it, but it takes the place of another field of this oneof.
    Member(u32),
}

/// What a column gets when its field is not there.
pub(super) enum Absent {
    Null,
    /// This value, without its tag.
    Value(Box<[u8]>),
    /// The record is bad: a `required` field.
    Required,
}

/// No oneof.
pub(super) const NONE: u32 = u32::MAX;

pub(super) struct Slot {
    pub name: Box<str>,
    pub nullable: bool,
    pub column: Column,
    pub wire: WireType,
    /// Values that come twice are put together.
    pub merges: bool,
    pub absent: Absent,
    pub oneof: u32,
    /// The stamp of the row that last filled it.
    pub filled: u64,
    /// Where the row's first value stands, from its length on, if it merges.
    pub first: usize,
}

impl Slot {
    /// Fills the column with all that the row has of the message: what `merged` has for the slot `index`, or else its first.
    fn read_message(&mut self, index: usize, merged: &[(usize, Vec<u8>)], wire: &Wire<'_>) -> Result<(), Fault> {
        let Some((_, bytes)) = merged.iter().find(|(slot, _)| *slot == index) else {
            return self.column.read(&mut wire.moved_to(self.first));
        };
        let mut message = Vec::with_capacity(bytes.len() + 10);
        put_bytes(&mut message, bytes);
        self.column.read(&mut Wire::new(&message)).map_err(|mut fault| {
            // Of these bytes, which stand in the record in several places.
            fault.offset = None;
            fault
        })
    }
}

/// Numbers below this are looked up in a table, others in a map.
const DENSE: usize = 256;

/// Reads messages of one type into slots.
pub(super) struct MessageReader {
    dense: Vec<Place>,
    sparse: HashMap<u32, Place>,
    slots: Vec<Slot>,
    /// Per oneof: the stamp of the row that last had one of its fields, and that field's number.
    oneofs: Vec<(u64, u32)>,
    /// Slots that have several messages in the row at hand: all their bytes.
    merged: Vec<(usize, Vec<u8>)>,
    /// Grows with every row, also with one that fails.
    stamp: u64,
    rows: usize,
}

impl MessageReader {
    /// `places` are the fields that matter.
    pub fn new(places: impl Iterator<Item = (u32, Place)>, slots: Vec<Slot>, oneofs: usize) -> Self {
        let (mut dense, mut sparse) = (Vec::new(), HashMap::new());
        for (number, place) in places {
            let at = number as usize;
            if at >= DENSE {
                sparse.insert(number, place);
                continue;
            }
            if at >= dense.len() {
                dense.resize(at + 1, Place::Skip);
            }
            if let Some(entry) = dense.get_mut(at) {
                *entry = place;
            }
        }
        Self { dense, sparse, slots, oneofs: vec![(0, 0); oneofs], merged: Vec::new(), stamp: 0, rows: 0 }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn place(&self, number: u32) -> Place {
        match self.dense.get(number as usize) {
            Some(place) => *place,
            None if self.sparse.is_empty() => Place::Skip,
            None => self.sparse.get(&number).copied().unwrap_or(Place::Skip),
        }
    }

    /// Appends a row from the message that begins at `wire` and ends where it ends.
    pub fn read(&mut self, mut wire: Wire<'_>) -> Result<(), Fault> {
        self.stamp += 1;
        // Slots that are done; those that merge are not before the row ends.
        let mut filled = 0;
        while !wire.is_at_end() {
            let (number, kind) = wire.tag()?;
            let index = match self.place(number) {
                Place::Slot(index) => index as usize,
                Place::Skip => {
                    wire.skip(number, kind)?;
                    continue;
                }
                Place::Member(oneof) => {
                    filled -= self.take_place(oneof, number, &wire)?;
                    wire.skip(number, kind)?;
                    continue;
                }
            };
            let oneof = self.slots.get(index).map_or(NONE, |slot| slot.oneof);
            if oneof != NONE {
                filled -= self.take_place(oneof, number, &wire)?;
            }
            let Some(slot) = self.slots.get_mut(index) else { continue };
            let read = match &mut slot.column {
                Column::Scalar(column) if !slot.merges => {
                    expect_wire(wire.at(), number, kind, slot.wire).map_err(|fault| in_column(fault, &slot.name))?;
                    if slot.filled == self.stamp {
                        column.truncate(self.rows);
                    } else {
                        slot.filled = self.stamp;
                        filled += 1;
                    }
                    column.read(&mut wire)
                }
                Column::List(column) => column.read(&mut wire, number, kind),
                Column::Map(column) => {
                    expect_wire(wire.at(), number, kind, WireType::Bytes).and_then(|()| column.read(&mut wire))
                }
                Column::Scalar(_) | Column::Struct(_) => expect_wire(wire.at(), number, kind, WireType::Bytes)
                    .and_then(|()| match slot.filled == self.stamp {
                        true => merge(&mut self.merged, slot, index, &mut wire),
                        false => {
                            let start = wire.at();
                            wire.bytes()?;
                            (slot.filled, slot.first) = (self.stamp, start);
                            Ok(())
                        }
                    }),
            };
            if let Err(fault) = read {
                return Err(in_column(fault, &slot.name));
            }
        }
        if filled < self.slots.len() {
            self.end_row(&wire)?;
        }
        self.rows += 1;
        Ok(())
    }

    /// The oneof has the field `number` now; another that it had before is taken away. Returns how many slots that were done are not
    /// any more.
    #[inline(never)]
    fn take_place(&mut self, oneof: u32, number: u32, wire: &Wire<'_>) -> Result<usize, Fault> {
        let stamp = self.stamp;
        let Some(entry) = self.oneofs.get_mut(oneof as usize) else { return Ok(0) };
        let (last, before) = *entry;
        *entry = (stamp, number);
        if last != stamp || before == number {
            return Ok(0);
        }
        let Place::Slot(index) = self.place(before) else { return Ok(0) };
        let index = index as usize;
        match self.slots.get_mut(index) {
            Some(slot) if slot.filled == stamp => {
                if slot.merges {
                    // What is taken away must have been a message all the same.
                    slot.read_message(index, &self.merged, wire).map_err(|fault| in_column(fault, &slot.name))?;
                    self.merged.retain(|(slot, _)| *slot != index);
                }
                slot.filled = 0;
                slot.column.truncate(self.rows);
                Ok(usize::from(!slot.merges))
            }
            _ => Ok(0),
        }
    }

    /// The messages that are there, what the fields that are not there mean, and where arrays and MAPs end.
    fn end_row(&mut self, wire: &Wire<'_>) -> Result<(), Fault> {
        let merged = std::mem::take(&mut self.merged);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            match &mut slot.column {
                Column::List(column) => column.end_row(wire.at()),
                Column::Map(column) => column.end_row(wire),
                _ if slot.filled == self.stamp && slot.merges => slot.read_message(index, &merged, wire),
                _ if slot.filled == self.stamp => continue,
                column => match &slot.absent {
                    Absent::Value(bytes) => column.read(&mut Wire::new(bytes)),
                    Absent::Required => Err(fault(wire.at(), "a required field is missing")),
                    Absent::Null if slot.nullable => {
                        column.push_null();
                        Ok(())
                    }
                    Absent::Null => Err(of_constraint(fault(wire.at(), "no value for a NOT NULL column"))),
                },
            }
            .map_err(|fault| in_column(fault, &slot.name))?;
        }
        Ok(())
    }

    /// Appends a row of nulls, as below a STRUCT that is null.
    pub fn push_null(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.column.push_null());
        self.rows += 1;
    }

    /// Cuts back to `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.slots.iter_mut().for_each(|slot| slot.column.truncate(rows));
        self.merged.clear();
        self.rows = rows;
    }

    /// The columns in slot order.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.slots.iter_mut().map(|slot| slot.column.finish()).collect()
    }
}

/// Adds the message at `wire` to what the row has of it: one message after the other means both together.
#[inline(never)]
fn merge(merged: &mut Vec<(usize, Vec<u8>)>, slot: &Slot, index: usize, wire: &mut Wire<'_>) -> Result<(), Fault> {
    let (start, end) = wire.bytes()?;
    // Two halves of a field would be one behind each other.
    check_whole(wire.within(start, end))?;
    if !merged.iter().any(|(slot, _)| *slot == index) {
        let mut first = wire.moved_to(slot.first);
        let (from, to) = first.bytes()?;
        check_whole(wire.within(from, to))?;
        merged.push((index, wire.slice(from, to).to_vec()));
    }
    for (_, bytes) in merged.iter_mut().filter(|(slot, _)| *slot == index) {
        bytes.extend_from_slice(wire.slice(start, end));
    }
    Ok(())
}

/// Does the message end where a field ends?
fn check_whole(mut wire: Wire<'_>) -> Result<(), Fault> {
    while !wire.is_at_end() {
        let (number, kind) = wire.tag()?;
        wire.skip(number, kind)?;
    }
    Ok(())
}

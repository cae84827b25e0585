//! An object's fields into columns, guessing which field comes next.
//!
//! Producers write the same fields in the same order with the same spacing, so what stands between two values is nearly
//! always what stood there before. Each such piece is a *link*: `{"auction":`, then `,"bidder":`, …, at last `}`. A link
//! knows its field's column, and which links followed it. Reading compares the bytes at hand with the expected link, one
//! compare of 16 bytes, and goes straight to the value; a piece that is equal byte for byte needs no parsing, no key lookup
//! and no check. On a surprise, that one piece is read by the grammar and remembered, and guessing goes on behind it.
//!
//! ```text
//!  START ──► {"auction": ──► ,"bidder": ──► ,"price": ──► }
//!                                 └───────► ,"note":  ──► ,"price":      (a field that is sometimes there)
//! ```
//!
//! A field fills the column of exactly its name, else the first whose name differs only in case. Of fields for one column
//! the last wins, but never over one that has the exact name; each of them must fit the column.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use laminar_core::Result;

use crate::fault::{Fault, in_column};
use crate::json::column::Slot;
use crate::json::scan::{skip_space, unexpected};
use crate::json::skip::{MAX_DEPTH, skip_value, too_deep};
use crate::json::string;

/// Links remembered before all are forgotten: bounds memory when keys are data (`{"user-1": …, "user-2": …}`).
const MAX_LINKS: usize = 1024;
/// A longer piece is not remembered.
const MAX_LINK_BYTES: usize = 256;
/// Bytes of a link that are compared at once.
const HEAD: usize = 16;

/// The state before an object's first byte.
const START: u32 = 0;
/// No link: nothing is expected.
const NONE: u32 = u32::MAX;

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The object's end.
    End,
    /// A value that nobody reads.
    Skip,
    /// A value for the slot.
    Fill { slot: u32, exact: bool },
}

struct Link {
    /// The first bytes, and which of them count.
    head: u128,
    mask: u128,
    bytes: Box<[u8]>,
    target: Target,
    /// Links that followed: the latest two that differ, the newer first.
    next: [u32; 2],
}

impl Link {
    fn new(bytes: &[u8], target: Target) -> Self {
        let head = bytes.iter().take(HEAD).rev().fold(0u128, |head, byte| head << 8 | u128::from(*byte));
        let mask = if bytes.len() >= HEAD { u128::MAX } else { (1 << (8 * bytes.len())) - 1 };
        Self { head, mask, bytes: bytes.into(), target, next: [NONE, NONE] }
    }

    /// The index after this link's bytes, if they stand at `at`.
    #[inline(always)]
    fn matches(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let rest = bytes.get(at..)?;
        if let Some(chunk) = rest.first_chunk::<HEAD>() {
            if (u128::from_le_bytes(*chunk) ^ self.head) & self.mask != 0 {
                return None;
            }
            if self.bytes.len() <= HEAD {
                return Some(at + self.bytes.len());
            }
        }
        rest.starts_with(&self.bytes).then(|| at + self.bytes.len())
    }
}

/// Reads objects of one shape into slots.
pub(crate) struct ObjectReader {
    names: Names,
    links: Vec<Link>,
    by_bytes: HashMap<Box<[u8]>, u32>,
    slots: Vec<Slot>,
    /// Per slot: `2 * (row + 1)`, plus 1 if by its exact name, of the row that last filled it.
    marks: Vec<usize>,
    rows: usize,
}

impl ObjectReader {
    /// `names` are the fields that have a column, in table order, each with its slot if it is read.
    pub fn new<'a>(names: impl Iterator<Item = (&'a str, Option<usize>)>, slots: Vec<Slot>) -> Self {
        let names = Names::new(names);
        let marks = vec![0; slots.len()];
        let mut reader = Self { names, links: Vec::new(), by_bytes: HashMap::new(), slots, marks, rows: 0 };
        reader.forget();
        reader
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends a row from the object at `at`, which stands inside `depth` containers. After an error the slots may differ
    /// in length until `truncate`.
    #[inline]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if depth >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        let mark = 2 * (self.rows + 1);
        let mut filled = 0;
        let mut link = START;
        let mut at = at;
        loop {
            let target;
            (link, target, at) = self.step(link, bytes, at)?;
            if target != Target::End {
                // A link that was learnt without space behind its colon matches one with.
                at = skip_space(bytes, at);
            }
            match target {
                Target::Fill { slot: index, exact } => {
                    let (Some(slot), Some(last)) =
                        (self.slots.get_mut(index as usize), self.marks.get_mut(index as usize))
                    else {
                        continue;
                    };
                    if *last >= mark {
                        if *last > mark && !exact {
                            at = skip_value(bytes, at, depth + 1)?;
                            continue;
                        }
                        slot.column.truncate(self.rows);
                    } else {
                        filled += 1;
                    }
                    *last = mark + usize::from(exact);
                    match slot.read(bytes, at, depth + 1) {
                        Ok(end) => at = end,
                        Err(fault) => return Err(in_column(fault, &slot.name)),
                    }
                }
                Target::Skip => at = skip_value(bytes, at, depth + 1)?,
                Target::End => break,
            }
        }
        if filled < self.slots.len() {
            self.fill_absent(mark, at)?;
        }
        self.rows += 1;
        Ok(at)
    }

    /// Steps over the link at `at`, which follows `from`: the link, what it leads to, and the index behind it.
    #[inline(always)]
    fn step(&mut self, from: u32, bytes: &[u8], at: usize) -> Result<(u32, Target, usize), Fault> {
        if let Some(last) = self.links.get(from as usize) {
            let [first, _] = last.next;
            if let Some(link) = self.links.get(first as usize)
                && let Some(end) = link.matches(bytes, at)
            {
                return Ok((first, link.target, end));
            }
        }
        self.surprise(from, bytes, at)
    }

    /// Not the link that came last time: the one before it, or one to be read by the grammar.
    #[inline(never)]
    fn surprise(&mut self, from: u32, bytes: &[u8], at: usize) -> Result<(u32, Target, usize), Fault> {
        if let Some(last) = self.links.get(from as usize) {
            let [_, second] = last.next;
            if let Some(link) = self.links.get(second as usize)
                && let Some(end) = link.matches(bytes, at)
            {
                return Ok((second, link.target, end));
            }
        }
        let (target, end) = self.parse(from == START, bytes, at)?;
        let piece = bytes.get(at..end).unwrap_or_default();
        if piece.len() > MAX_LINK_BYTES {
            return Ok((NONE, target, end));
        }
        let link = match self.by_bytes.get(piece) {
            Some(link) => *link,
            None => self.learn(piece, target),
        };
        if let Some(last) = self.links.get_mut(from as usize) {
            let [first, _] = last.next;
            last.next = [link, first];
        }
        Ok((link, target, end))
    }

    fn learn(&mut self, piece: &[u8], target: Target) -> u32 {
        if self.links.len() >= MAX_LINKS {
            self.forget();
        }
        let link = u32::try_from(self.links.len()).unwrap_or(NONE);
        self.links.push(Link::new(piece, target));
        self.by_bytes.insert(piece.into(), link);
        link
    }

    fn forget(&mut self) {
        self.links.clear();
        self.by_bytes.clear();
        self.links.push(Link::new(&[], Target::Skip));
    }

    /// Reads `{ "key" :`, `, "key" :` or the end of the object by the grammar.
    fn parse(&self, first: bool, bytes: &[u8], at: usize) -> Result<(Target, usize), Fault> {
        let at = skip_space(bytes, at);
        let (opens, expected) = if first { (b'{', "an object") } else { (b',', ", or }") };
        let at = match bytes.get(at) {
            Some(byte) if *byte == opens => skip_space(bytes, at + 1),
            Some(b'}') if !first => return Ok((Target::End, at + 1)),
            _ => return Err(unexpected(bytes, at, expected)),
        };
        match bytes.get(at) {
            Some(b'"') => {}
            Some(b'}') if first => return Ok((Target::End, at + 1)),
            _ => return Err(unexpected(bytes, at, "a field name in quotes")),
        }
        let mut key = Vec::new();
        let after = skip_space(bytes, string::read(bytes, at + 1, &mut key)?);
        if bytes.get(after) != Some(&b':') {
            return Err(unexpected(bytes, after, ":"));
        }
        Ok((self.names.target(&key), skip_space(bytes, after + 1)))
    }

    #[cold]
    fn fill_absent(&mut self, mark: usize, at: usize) -> Result<(), Fault> {
        for (slot, last) in self.slots.iter_mut().zip(&self.marks) {
            if *last < mark {
                slot.read_absent(at)?;
            }
        }
        Ok(())
    }

    /// Appends a row of nulls, as below a struct that is null.
    pub fn push_null(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.column.push_null());
        self.rows += 1;
    }

    /// Cuts back to `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.slots.iter_mut().for_each(|slot| slot.column.truncate(rows));
        self.marks.fill(0);
        self.rows = rows;
    }

    /// The columns in slot order.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.marks.fill(0);
        self.rows = 0;
        self.slots.iter_mut().map(|slot| slot.column.finish()).collect()
    }
}

/// Which column a key means.
struct Names {
    exact: HashMap<Box<[u8]>, Option<usize>>,
    /// By the name in lower case; the first column wins.
    folded: HashMap<String, Option<usize>>,
}

impl Names {
    fn new<'a>(names: impl Iterator<Item = (&'a str, Option<usize>)>) -> Self {
        let (mut exact, mut folded) = (HashMap::new(), HashMap::new());
        for (name, slot) in names {
            exact.entry(name.as_bytes().into()).or_insert(slot);
            folded.entry(name.to_lowercase()).or_insert(slot);
        }
        Self { exact, folded }
    }

    fn target(&self, key: &[u8]) -> Target {
        let fill = |slot: &Option<usize>, exact: bool| match slot.map(u32::try_from) {
            Some(Ok(slot)) => Target::Fill { slot, exact },
            _ => Target::Skip,
        };
        if let Some(slot) = self.exact.get(key) {
            return fill(slot, true);
        }
        let folded = std::str::from_utf8(key).unwrap_or_default().to_lowercase();
        self.folded.get(&folded).map_or(Target::Skip, |slot| fill(slot, false))
    }
}

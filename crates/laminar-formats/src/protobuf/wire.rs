//! The bytes of a message: tags, varints, lengths, and how to step over what nobody reads.
//!
//! ```text
//!  08 96 01      field 1, varint    150          tag = number << 3 | wire type
//!  12 03 61 62 63  field 2, bytes   "abc"
//! ```
//!
//! The rule: every length is checked against the bytes that are there before anything is done with it, so a record can make us
//! work or allocate no more than its own size asks for.

use crate::fault::{Fault, fault};

/// How a value is laid out; the low three bits of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    StartGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

impl WireType {
    fn of(tag: u64) -> Option<Self> {
        Some(match tag & 7 {
            0 => Self::Varint,
            1 => Self::Fixed64,
            2 => Self::Bytes,
            3 => Self::StartGroup,
            4 => Self::EndGroup,
            5 => Self::Fixed32,
            _ => return None,
        })
    }
    pub fn name(self) -> &'static str {
        match self {
            Self::Varint => "a varint",
            Self::Fixed64 => "8 bytes",
            Self::Bytes => "bytes with a length",
            Self::StartGroup => "a group",
            Self::EndGroup => "the end of a group",
            Self::Fixed32 => "4 bytes",
        }
    }
}

/// Groups within groups that are stepped over; one more is an error. The same as Protobuf's own limit of nesting.
pub(super) const MAX_DEPTH: usize = 100;

/// A place in a record. `bytes` end where the message that is read ends; offsets are those of the whole record.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Wire<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The message that stands from `start` to `end` of the same record.
    pub fn within(&self, start: usize, end: usize) -> Self {
        Self { bytes: self.bytes.get(..end).unwrap_or(self.bytes), at: start }
    }

    /// Another place in the same message.
    pub fn moved_to(&self, at: usize) -> Self {
        Self { bytes: self.bytes, at }
    }

    #[inline(always)]
    pub fn at(&self) -> usize {
        self.at
    }

    #[inline(always)]
    pub fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The bytes from `start` to `end`.
    #[inline(always)]
    pub fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// A field's number and how its value is laid out.
    #[inline(always)]
    pub fn tag(&mut self) -> Result<(u32, WireType), Fault> {
        let start = self.at;
        let tag = self.varint()?;
        match (u32::try_from(tag >> 3), WireType::of(tag)) {
            (Ok(number @ 1..=0x1fff_ffff), Some(wire)) => Ok((number, wire)),
            _ => Err(bad_tag(start, tag)),
        }
    }

    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, Fault> {
        if let Some(byte) = self.bytes.get(self.at)
            && *byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(*byte));
        }
        if let Some(chunk) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            let stops = !word & 0x8080_8080_8080_8080;
            if stops != 0 {
                let bits = stops.trailing_zeros() + 1;
                self.at += bits as usize / 8;
                return Ok(groups_of_seven(word & (u64::MAX >> (64 - bits))));
            }
        }
        self.long_varint()
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for place in 0..10 {
            let Some(byte) = self.bytes.get(self.at + place) else {
                return Err(fault(self.at, "the value ends within a varint"));
            };
            // The tenth byte has one bit left.
            if place == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                self.at += place + 1;
                return Ok(value);
            }
        }
        Err(fault(self.at, "a varint is longer than 64 bits"))
    }

    #[inline(always)]
    pub fn fixed64(&mut self) -> Result<u64, Fault> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(chunk) => {
                self.at += 8;
                Ok(u64::from_le_bytes(*chunk))
            }
            None => Err(fault(self.at, "the value ends within a number of 8 bytes")),
        }
    }

    #[inline(always)]
    pub fn fixed32(&mut self) -> Result<u64, Fault> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>()) {
            Some(chunk) => {
                self.at += 4;
                Ok(u64::from(u32::from_le_bytes(*chunk)))
            }
            None => Err(fault(self.at, "the value ends within a number of 4 bytes")),
        }
    }

    /// Steps over a length and as many bytes: where they start and end.
    #[inline(always)]
    pub fn bytes(&mut self) -> Result<(usize, usize), Fault> {
        let from = self.at;
        let length = self.varint()?;
        let left = self.bytes.len() - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                let start = self.at;
                self.at += length;
                Ok((start, self.at))
            }
            _ => Err(too_long(from, length, left)),
        }
    }

    /// Steps over the value of field `number`.
    #[inline(always)]
    pub fn skip(&mut self, number: u32, wire: WireType) -> Result<(), Fault> {
        match wire {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.fixed64().map(drop),
            WireType::Bytes => self.bytes().map(drop),
            WireType::Fixed32 => self.fixed32().map(drop),
            WireType::StartGroup => self.skip_group(number),
            WireType::EndGroup => Err(fault(self.at, format!("group {number} ends and never began"))),
        }
    }

    #[inline(never)]
    fn skip_group(&mut self, number: u32) -> Result<(), Fault> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            if self.is_at_end() {
                return Err(fault(self.at, format!("the value ends within group {innermost}")));
            }
            let start = self.at;
            match self.tag()? {
                (number, WireType::StartGroup) if open.len() < MAX_DEPTH => open.push(number),
                (_, WireType::StartGroup) => return Err(too_deep(start)),
                (number, WireType::EndGroup) if number == innermost => drop(open.pop()),
                (number, WireType::EndGroup) => {
                    return Err(fault(start, format!("group {number} ends within group {innermost}")));
                }
                (number, wire) => self.skip(number, wire)?,
            }
        }
        Ok(())
    }
}

/// Takes the eighth bit out of every byte.
#[inline(always)]
fn groups_of_seven(word: u64) -> u64 {
    let w = word & 0x7f7f_7f7f_7f7f_7f7f;
    let w = (w & 0x007f_007f_007f_007f) | (w & 0x7f00_7f00_7f00_7f00) >> 1;
    let w = (w & 0x0000_3fff_0000_3fff) | (w & 0x3fff_0000_3fff_0000) >> 2;
    (w & 0x0fff_ffff) | (w & 0x0fff_ffff_0000_0000) >> 4
}

/// The fault for a message that would be one too deep.
#[cold]
pub(super) fn too_deep(at: usize) -> Fault {
    fault(at, format!("the value is nested deeper than {MAX_DEPTH} levels"))
}

/// Refuses a value that is laid out in another way than the schema says.
#[inline(always)]
pub(super) fn expect_wire(at: usize, number: u32, found: WireType, expected: WireType) -> Result<(), Fault> {
    if found == expected { Ok(()) } else { Err(other_layout(at, number, found, expected)) }
}

#[cold]
fn other_layout(at: usize, number: u32, found: WireType, expected: WireType) -> Fault {
    let (found, expected) = (found.name(), expected.name());
    fault(at, format!("field {number} is {found}, the schema says {expected}: was it written with another schema?"))
}

#[cold]
fn bad_tag(at: usize, tag: u64) -> Fault {
    let number = tag >> 3;
    fault(at, format!("not a field: number {number} with wire type {}; is this Protobuf?", tag & 7))
}

#[cold]
fn too_long(at: usize, length: u64, left: usize) -> Fault {
    fault(at, format!("a length of {length} bytes, and the message has {left} left"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::varint::write_varint;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_varint(value, &mut out);
        out
    }

    #[track_caller]
    fn check_fault(bytes: &[u8], read: impl FnOnce(&mut Wire<'_>) -> Result<(), Fault>, expected: &str) {
        assert_eq!(read(&mut Wire::new(bytes)).unwrap_err().message, expected);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        let varint = |wire: &mut Wire<'_>| wire.varint().map(drop);
        check_fault(&[], varint, "the value ends within a varint");
        check_fault(&[0x80], varint, "the value ends within a varint");
        check_fault(&[0xff; 9], varint, "the value ends within a varint");
        check_fault(&[0xff; 20], varint, "a varint is longer than 64 bits");
        check_fault(
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2],
            varint,
            "a varint is longer than 64 bits",
        );
        check_fault(&[5, 1], |w| w.bytes().map(drop), "a length of 5 bytes, and the message has 1 left");
        let huge = encoded(u64::MAX);
        check_fault(
            &huge,
            |w| w.bytes().map(drop),
            "a length of 18446744073709551615 bytes, and the message has 0 left",
        );
        check_fault(&[0], |w| w.tag().map(drop), "not a field: number 0 with wire type 0; is this Protobuf?");
        check_fault(&[0x0e], |w| w.tag().map(drop), "not a field: number 1 with wire type 6; is this Protobuf?");
        check_fault(&[1, 2, 3], |w| w.fixed32().map(drop), "the value ends within a number of 4 bytes");
    }

    #[test]
    fn groups_are_stepped_over_and_bounded() {
        let group = |wire: &mut Wire<'_>| {
            let (number, kind) = wire.tag()?;
            wire.skip(number, kind)
        };
        let mut wire = Wire::new(&[0x0b, 0x13, 0x08, 0x05, 0x14, 0x12, 0x01, b'x', 0x0c, 0x08]);
        group(&mut wire).unwrap();
        assert_eq!(wire.at(), 9);
        check_fault(&[0x0b, 0x08], group, "the value ends within a varint");
        check_fault(&[0x0b], group, "the value ends within group 1");
        check_fault(&[0x0b, 0x14], group, "group 2 ends within group 1");
        check_fault(&[0x0c], group, "group 1 ends and never began");
        check_fault(&[0x0b; 10_000], group, "the value is nested deeper than 100 levels");
    }

    proptest! {
        #[test]
        fn varints_of_any_size_are_read(value: u64, shift in 0u32..64, tail in prop::collection::vec(any::<u8>(), 0..10)) {
            let value = value >> shift;
            let mut bytes = encoded(value);
            let length = bytes.len();
            bytes.extend(tail);
            let mut wire = Wire::new(&bytes);
            prop_assert_eq!((wire.varint().unwrap(), wire.at()), (value, length));
        }
    }
}

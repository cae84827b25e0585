//! Avro's binary encoding, value by value: a function gets the index of a value's first byte and returns what it says with
//! the index after it. Nothing here trusts a length.

use crate::fault::{Fault, fault};

/// A zigzag varint: `int` and `long`, lengths, counts, indices.
#[inline(always)]
pub(super) fn long(bytes: &[u8], at: usize) -> Result<(i64, usize), Fault> {
    match bytes.get(at) {
        Some(byte) if *byte < 0x80 => Ok((unzigzag(u64::from(*byte)), at + 1)),
        _ => long_slowly(bytes, at),
    }
}

#[inline]
fn long_slowly(bytes: &[u8], at: usize) -> Result<(i64, usize), Fault> {
    let mut value = 0u64;
    for (count, byte) in bytes.get(at..).unwrap_or_default().iter().take(10).enumerate() {
        let part = u64::from(byte & 0x7f);
        if count == 9 && part > 1 {
            return Err(too_long(at));
        }
        value |= part << (7 * count);
        if byte & 0x80 == 0 {
            return Ok((unzigzag(value), at + count + 1));
        }
    }
    match bytes.len().saturating_sub(at) >= 10 {
        true => Err(too_long(at)),
        false => Err(ends(bytes)),
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// An `int`: one that does not fit 32 bits is damage.
#[inline(always)]
pub(super) fn int(bytes: &[u8], at: usize) -> Result<(i32, usize), Fault> {
    let (value, end) = long(bytes, at)?;
    match i32::try_from(value) {
        Ok(value) => Ok((value, end)),
        Err(_) => Err(fault(at, format!("{value} is out of range for an Avro int"))),
    }
}

pub(super) fn boolean(bytes: &[u8], at: usize) -> Result<(bool, usize), Fault> {
    match bytes.get(at) {
        Some(0) => Ok((false, at + 1)),
        Some(1) => Ok((true, at + 1)),
        Some(other) => Err(fault(at, format!("expected a boolean, 0 or 1, found byte {other:#04x}"))),
        None => Err(ends(bytes)),
    }
}

pub(super) fn float(bytes: &[u8], at: usize) -> Result<(f32, usize), Fault> {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => Ok((f32::from_le_bytes(*chunk), at + 4)),
        None => Err(ends(bytes)),
    }
}

pub(super) fn double(bytes: &[u8], at: usize) -> Result<(f64, usize), Fault> {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => Ok((f64::from_le_bytes(*chunk), at + 8)),
        None => Err(ends(bytes)),
    }
}

/// The content of `bytes` and `string`.
#[inline(always)]
pub(super) fn slice(bytes: &[u8], at: usize) -> Result<(&[u8], usize), Fault> {
    let (length, start) = long(bytes, at)?;
    let length = usize::try_from(length).map_err(|_| negative(at))?;
    fixed(bytes, start, length)
}

/// `length` bytes as they are.
#[inline(always)]
pub(super) fn fixed(bytes: &[u8], at: usize, length: usize) -> Result<(&[u8], usize), Fault> {
    let end = at.saturating_add(length);
    match bytes.get(at..end) {
        Some(slice) => Ok((slice, end)),
        None => Err(ends(bytes)),
    }
}

/// The head of a block of an array or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Entries; 0 ends the array or map.
    pub count: usize,
    /// Index after the block, where the writer said it.
    pub end: Option<usize>,
}

/// The head of the block at `at`, whose entries take `least` bytes each at least.
pub(super) fn block(bytes: &[u8], at: usize, least: usize) -> Result<(Block, usize), Fault> {
    let (count, mut start) = long(bytes, at)?;
    let mut end = None;
    if count < 0 {
        let (length, after) = long(bytes, start)?;
        let length = usize::try_from(length).map_err(|_| negative(start))?;
        (_, end) = fixed(bytes, after, length).map(|(slice, end)| (slice, Some(end)))?;
        start = after;
    }
    let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let left = bytes.len().saturating_sub(start);
    if count.saturating_mul(least) > left {
        return Err(fault(at, format!("a block of {count} entries does not fit the {left} bytes that are left")));
    }
    Ok((Block { count, end }, start))
}

#[cold]
fn negative(at: usize) -> Fault {
    fault(at, "a length is negative")
}
#[cold]
fn too_long(at: usize) -> Fault {
    fault(at, "an integer is longer than 64 bits")
}
#[cold]
pub(super) fn ends(bytes: &[u8]) -> Fault {
    fault(bytes.len(), "the value ends too early for its schema")
}

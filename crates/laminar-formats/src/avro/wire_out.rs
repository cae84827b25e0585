//! Avro's binary encoding, written.

use crate::varint::{write_varint, zigzag};

/// A zigzag varint.
#[inline(always)]
pub(super) fn write_long(value: i64, out: &mut Vec<u8>) {
    write_varint(zigzag(value), out);
}

/// `bytes` and `string`.
#[inline(always)]
pub(super) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

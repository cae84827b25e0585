//! Integers of as many bytes as they need, seven bits each and the lowest first: what Protobuf, Avro and message indices write.
//!
//! ```text
//!  150   1001 0110   ─►   96 01        the top bit of a byte: more follow
//! ```

/// Appends the integer.
#[inline(always)]
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// As a varint has it if negative ones are to be short too: 0, -1, 1, -2 are 0, 1, 2, 3.
#[inline(always)]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

//! Bytes being written, with room behind them.
//!
//! Small pieces are written as whole blocks and only as much of each block counts as the piece is long: a store of fixed
//! size costs one instruction, a copy of any length a call. The rest of the block is overwritten by the next piece.
//!
//! ```text
//!  bytes    {"auction":1007,"bidder":00000|0000…      `at` is behind the last byte that counts
//! ```

use crate::json::simd::{BLOCK, masks};

/// Room that is made at once.
const GROWTH: usize = 16 * 1024;

/// Appends to a buffer; until it is dropped the buffer is longer than what was written.
pub(crate) struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    at: usize,
}

impl<'a> Out<'a> {
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        let at = bytes.len();
        Self { bytes, at }
    }

    /// Bytes in the buffer that count.
    pub fn len(&self) -> usize {
        self.at
    }

    /// Appends the first `n` bytes of `block`.
    #[inline(always)]
    pub fn block<const N: usize>(&mut self, block: &[u8; N], n: usize) {
        if self.bytes.len() < self.at + N {
            self.grow(N);
        }
        if let Some(place) = self.bytes.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
            *place = *block;
            self.at += n.min(N);
        }
    }

    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.block(&[byte], 1);
    }

    pub fn slice(&mut self, slice: &[u8]) {
        if self.bytes.len() < self.at + slice.len() {
            self.grow(slice.len());
        }
        if let Some(place) = self.bytes.get_mut(self.at..self.at + slice.len()) {
            place.copy_from_slice(slice);
            self.at += slice.len();
        }
    }

    /// Replaces the byte at `at`.
    pub fn set(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.bytes.get_mut(at) {
            *place = byte;
        }
    }

    #[inline(never)]
    fn grow(&mut self, more: usize) {
        self.bytes.resize(self.at + more.max(GROWTH), 0);
    }

    #[inline(always)]
    pub fn integer(&mut self, value: i64) {
        if value < 0 {
            self.push(b'-');
        }
        self.unsigned(value.unsigned_abs());
    }

    #[inline(always)]
    pub fn unsigned(&mut self, value: u64) {
        if value >= PART {
            return self.long(value);
        }
        let (digits, n) = leading(value);
        self.block(&digits, n);
    }

    /// A number of more than eight digits, in two or three parts.
    fn long(&mut self, value: u64) {
        let high = value / PART;
        if high < PART {
            self.unsigned(high);
        } else {
            self.unsigned(high / PART);
            self.block(&all_digits(high % PART), 8);
        }
        self.block(&all_digits(value % PART), 8);
    }

    /// Appends the text `data[start..end]` as a JSON string, quotes included.
    #[inline]
    pub fn string(&mut self, data: &[u8], start: usize, end: usize) {
        self.push(b'"');
        let mut at = start;
        while at < end {
            let Some(block) = data.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) else {
                self.string_in_tail(data.get(at..end).unwrap_or_default());
                break;
            };
            // The end of the text stops too.
            let left = end - at;
            let stops = masks(block).stops | if left < BLOCK { 1 << left } else { 0 };
            if stops == 0 {
                self.block(block, BLOCK);
                at += BLOCK;
                continue;
            }
            let n = stops.trailing_zeros() as usize;
            self.block(block, n);
            at += n;
            if at < end {
                self.escape(data.get(at).copied().unwrap_or_default());
                at += 1;
            }
        }
        self.push(b'"');
    }

    fn string_in_tail(&mut self, tail: &[u8]) {
        for byte in tail {
            match byte {
                b'"' | b'\\' | 0..0x20 => self.escape(*byte),
                _ => self.push(*byte),
            }
        }
    }

    #[cold]
    fn escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                return self.slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        };
        self.slice(&[b'\\', short]);
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.bytes.truncate(self.at);
    }
}

/// `text` as a JSON string at the end of `out`.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    Out::new(out).string(text.as_bytes(), 0, text.len());
}

/// Eight digits are written at once.
const PART: u64 = 100_000_000;
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below 10^8, the highest in the lowest byte, by halving: 8 digits are 2 × 4 are 4 × 2.
#[inline(always)]
fn eight_digits(value: u64) -> u64 {
    let fours = (value / 10_000) | (value % 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (twos - 10 * tens) << 8
}

/// The digits of a number below 10^8, leading zeros included.
#[inline(always)]
fn all_digits(value: u64) -> [u8; 8] {
    (eight_digits(value) | ZEROS).to_le_bytes()
}

/// The digits of a number below 10^8 without leading zeros, and how many there are.
#[inline(always)]
fn leading(value: u64) -> ([u8; 8], usize) {
    let digits = eight_digits(value);
    // The last digit counts even if it is zero.
    let zeros = (digits | 1 << 56).trailing_zeros() / 8;
    (((digits | ZEROS) >> (8 * zeros)).to_le_bytes(), 8 - zeros as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Out<'_>)) -> String {
        let mut bytes = b"before ".to_vec();
        write(&mut Out::new(&mut bytes));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn integers_at_the_limits() {
        for value in
            [0, 1, 9, 10, 99_999_999, 100_000_000, 9_999_999_999_999_999, 10_000_000_000_000_000, i64::MIN, i64::MAX]
        {
            assert_eq!(written(|out| out.integer(value)), format!("before {value}"));
        }
        assert_eq!(written(|out| out.unsigned(u64::MAX)), "before 18446744073709551615");
    }

    proptest! {
        #[test]
        fn integers_are_written_as_display_does(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(written(|out| out.integer(value)), format!("before {value}"));
        }

        #[test]
        fn strings_are_written_as_serde_json_does(text in "(.|[\"\\\\\u{0}-\u{1f}]){0,60}", around in "[a-z]{0,20}") {
            let data = format!("{around}{text}{around}");
            let (start, end) = (around.len(), around.len() + text.len());
            let expected = format!("before {}", serde_json::to_string(&text).unwrap());
            prop_assert_eq!(written(|out| out.string(data.as_bytes(), start, end)), expected);
        }
    }
}

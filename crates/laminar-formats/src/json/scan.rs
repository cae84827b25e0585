//! Finding the end of a string, sixteen bytes at a time, and the other smallest steps over bytes.
//!
//! A string ends at the first `"`; a `\` or a control character before it needs a second look. One block answers both
//! questions with a bit a byte, and whether any byte is not ASCII, so that a string is looked at once:
//!
//! ```text
//!  bytes    n e w " , " i d " : 7 …
//!  stops    0 0 0 1 0 1 0 0 1 0 0     lowest bit set = the string's length
//! ```

use crate::fault::{Fault, fault};
use crate::json::simd::{BLOCK, Masks, masks};
use crate::json::value::excerpt;

/// Where a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Index of the first `"`, `\` or control character, or the length if there is none.
    pub at: usize,
    /// Every byte before it is ASCII.
    pub ascii: bool,
}

/// Scans a string's content from `from` on.
#[inline(always)]
pub(crate) fn find_stop(bytes: &[u8], from: usize) -> Stop {
    let mut at = from;
    let mut seen_high = 0;
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let Masks { stops, high } = masks(block);
        if stops != 0 {
            let below = stops & stops.wrapping_neg();
            seen_high |= high & (below - 1);
            return Stop { at: at + stops.trailing_zeros() as usize, ascii: seen_high == 0 };
        }
        seen_high |= high;
        at += BLOCK;
    }
    find_stop_in_tail(bytes, at, seen_high == 0)
}

/// The last bytes, fewer than a block: looked at through a block that ends where they end, or one by one.
#[inline]
fn find_stop_in_tail(bytes: &[u8], from: usize, ascii: bool) -> Stop {
    let Some(block) = bytes.last_chunk::<BLOCK>() else { return find_stop_bytewise(bytes, from, ascii) };
    // 1..=16 bytes of the block lie before `from`.
    let before = from + BLOCK - bytes.len();
    let Masks { stops, high } = masks(block);
    let (stops, high) = (stops >> before, high >> before);
    if stops == 0 {
        return Stop { at: bytes.len(), ascii: ascii && high == 0 };
    }
    let below = (stops & stops.wrapping_neg()) - 1;
    Stop { at: from + stops.trailing_zeros() as usize, ascii: ascii && high & below == 0 }
}

fn find_stop_bytewise(bytes: &[u8], from: usize, mut ascii: bool) -> Stop {
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        if *byte < 0x20 || *byte == b'"' || *byte == b'\\' {
            break;
        }
        ascii &= byte.is_ascii();
        at += 1;
    }
    Stop { at: at.max(from).min(bytes.len()), ascii }
}

/// The first byte from `at` on that is not white space.
#[inline(always)]
pub(crate) fn skip_space(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b' ' | b'\n' | b'\r' | b'\t') => skip_more_space(bytes, at + 1),
        _ => at,
    }
}

#[cold]
fn skip_more_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Steps over `literal`, such as `true`.
#[inline]
pub(crate) fn literal(bytes: &[u8], at: usize, literal: &'static str) -> Result<usize, Fault> {
    match bytes.get(at..).is_some_and(|rest| rest.starts_with(literal.as_bytes())) {
        true => Ok(at + literal.len()),
        false => Err(no_value(bytes, at)),
    }
}

/// The fault for what stands at `at` and begins no value, such as a word without quotes, which is told up to its end.
#[cold]
pub(crate) fn no_value(bytes: &[u8], at: usize) -> Fault {
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_' && *byte < 0x80);
    match length.unwrap_or(rest.len()) {
        0 => unexpected(bytes, at, "a value"),
        length => fault(at, format!("expected a value, found {}", excerpt(bytes, at, at + length))),
    }
}

/// The fault for a byte that cannot stand at `at`, or for the end of the value.
#[cold]
pub(crate) fn unexpected(bytes: &[u8], at: usize, expected: &str) -> Fault {
    match bytes.get(at) {
        None => fault(bytes.len(), format!("the value ends where {expected} is expected")),
        Some(byte) if byte.is_ascii_graphic() => fault(at, format!("expected {expected}, found {}", char::from(*byte))),
        Some(byte) => fault(at, format!("expected {expected}, found byte 0x{byte:02x}")),
    }
}

/// Errors unless only white space follows.
#[inline(always)]
pub(crate) fn expect_end(bytes: &[u8], at: usize) -> Result<(), Fault> {
    if at == bytes.len() || skip_space(bytes, at) == bytes.len() { Ok(()) } else { Err(trailing(bytes, at)) }
}

#[cold]
fn trailing(bytes: &[u8], at: usize) -> Fault {
    let at = skip_space(bytes, at);
    match bytes.get(at) {
        Some(b'{') => fault(at, "the value holds more than one JSON object; a record is one object"),
        _ => unexpected(bytes, at, "the end of the value"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_stop_where_bytes_do(
            bytes in prop::collection::vec(prop_oneof![8 => 0x20u8..0x7f, 1 => any::<u8>(), 1 => Just(b'"')], 0..80),
            from in 0usize..80,
        ) {
            let from = from.min(bytes.len());
            prop_assert_eq!(find_stop(&bytes, from), find_stop_bytewise(&bytes, from, true));
        }
    }
}

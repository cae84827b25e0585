//! Which of sixteen bytes can end a run of plain string content: the only `unsafe` of this crate.
//!
//! SSE2 is part of x86-64, so no detection is needed; elsewhere the same masks come from eight bytes in a word. A test
//! compares the two on any bytes.
#![allow(unsafe_code)]

/// Bytes looked at together.
pub(crate) const BLOCK: usize = 16;

/// One bit a byte: stops (`"`, `\`, below 0x20), and bytes that are not ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Masks {
    pub stops: u32,
    pub high: u32,
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn masks(block: &[u8; BLOCK]) -> Masks {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: every x86-64 processor has SSE2, and the load reads the sixteen bytes of `block`, at any alignment.
    unsafe {
        let v = _mm_loadu_si128(block.as_ptr().cast::<__m128i>());
        let quote = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'"'.cast_signed()));
        let backslash = _mm_cmpeq_epi8(v, _mm_set1_epi8(b'\\'.cast_signed()));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
        let stops = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control));
        Masks { stops: stops.cast_unsigned(), high: _mm_movemask_epi8(v).cast_unsigned() }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn masks(block: &[u8; BLOCK]) -> Masks {
    portable_masks(block)
}

/// The same without vector instructions.
#[cfg_attr(target_arch = "x86_64", allow(dead_code))]
fn portable_masks(block: &[u8; BLOCK]) -> Masks {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    // Exact per byte: the top bit of each byte of the result says whether the byte of `v` is zero.
    let zero = |v: u64| !(((v & !TOPS).wrapping_add(!TOPS) | v) | !TOPS);
    // The top bits, gathered into eight bits.
    let gather = |tops: u64| ((tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32;
    let word = |v: u64| {
        let quote = zero(v ^ (ONES * u64::from(b'"')));
        let backslash = zero(v ^ (ONES * u64::from(b'\\')));
        let control = zero(v & (ONES * 0xe0));
        (gather(quote | backslash | control), gather(v & TOPS))
    };
    let both = u128::from_le_bytes(*block);
    let (low, high) = (word(both as u64), word((both >> 64) as u64));
    Masks { stops: low.0 | (high.0 << 8), high: low.1 | (high.1 << 8) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn vector_and_portable_masks_agree(block: [u8; 16]) {
            prop_assert_eq!(masks(&block), portable_masks(&block));
        }

        #[test]
        fn each_bit_speaks_of_its_byte(block: [u8; 16]) {
            let masks = portable_masks(&block);
            for (at, byte) in block.iter().enumerate() {
                let stops = *byte < 0x20 || matches!(byte, b'"' | b'\\');
                prop_assert_eq!((masks.stops >> at & 1 == 1, masks.high >> at & 1 == 1), (stops, *byte >= 0x80));
            }
        }
    }
}

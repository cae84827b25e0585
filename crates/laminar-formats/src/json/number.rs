//! Numbers: small integers eight digits at a time, everything else exactly from its text.
//!
//! ```text
//!  bytes   1 7 3 0 4 1 9 2 | 0 0 1 2 3 , " b      two words: 8 digits, then 5
//! ```
//!
//! The quick paths answer `None` for whatever is unusual (a sign of trouble, an exponent, the last bytes of a value); the
//! slow path then reads the same bytes by the grammar and says what is wrong.

use crate::fault::{Fault, fault};
use crate::json::scan::{no_value, unexpected};

const POWERS: [u64; 17] = {
    let mut powers = [1; 17];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Powers of ten that a double holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Value and count of the decimal digits at `at`, at most 16 of them; the count is 16 too if there are more.
#[inline(always)]
fn digits(bytes: &[u8], at: usize) -> (u64, usize) {
    let (high, n) = digits_of_word(word(bytes, at));
    if n < 8 {
        return (high, n);
    }
    let (low, more) = digits_of_word(word(bytes, at + 8));
    (high * POWERS.get(more).copied().unwrap_or(1) + low, 8 + more)
}

/// Eight bytes from `at` on; zeros behind the last.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => word_in_tail(bytes, at),
    }
}

#[inline(never)]
fn word_in_tail(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Value and count of the digits that a little-endian word starts with.
#[inline(always)]
fn digits_of_word(word: u64) -> (u64, usize) {
    let offsets = word ^ 0x3030_3030_3030_3030;
    // The lowest byte that is not 0..=9 has its top bit set; bytes above it may be wrong, which does not matter.
    let others = (offsets.wrapping_add(0x7676_7676_7676_7676) | offsets) & 0x8080_8080_8080_8080;
    let n = (others.trailing_zeros() / 8) as usize;
    if n == 0 {
        return (0, 0);
    }
    let v = offsets << (64 - 8 * n);
    let v = (v.wrapping_mul(10).wrapping_add(v >> 8)) & 0x00ff_00ff_00ff_00ff;
    let v = (v.wrapping_mul(100).wrapping_add(v >> 16)) & 0x0000_ffff_0000_ffff;
    let v = (v.wrapping_mul(10_000).wrapping_add(v >> 32)) & 0xffff_ffff;
    (v, n)
}

/// The integer at `at` and the index after it, if it is plain and has at most 16 digits.
#[inline(always)]
pub(crate) fn quick_integer(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (value, n) = digits(bytes, start);
    let end = start + n;
    if n == 0 || (n > 1 && bytes.get(start) == Some(&b'0')) {
        return None;
    }
    if matches!(bytes.get(end), Some(b'.' | b'e' | b'E' | b'0'..=b'9')) {
        return None;
    }
    let value = value.cast_signed();
    Some((if negative { -value } else { value }, end))
}

/// The number at `at` as a mantissa below 2^53 and the count of its digits behind the point, if it has no exponent.
#[inline(always)]
fn quick_decimal(bytes: &[u8], at: usize) -> Option<(bool, u64, usize, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (whole, n) = digits(bytes, start);
    if n == 0 || n >= 16 || (n > 1 && bytes.get(start) == Some(&b'0')) {
        return None;
    }
    let mut end = start + n;
    let (mut mantissa, mut scale) = (whole, 0);
    if bytes.get(end) == Some(&b'.') {
        let (fraction, m) = digits(bytes, end + 1);
        if m == 0 || n + m > 19 {
            return None;
        }
        mantissa = whole * POWERS.get(m)? + fraction;
        scale = m;
        end += 1 + m;
    }
    if mantissa >= 1 << 53 || matches!(bytes.get(end), Some(b'e' | b'E' | b'0'..=b'9')) {
        return None;
    }
    Some((negative, mantissa, scale, end))
}

/// The double nearest to the number at `at`, and the index after it; `None` where the quick way is not exact.
#[inline(always)]
pub(crate) fn quick_f64(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let (negative, mantissa, scale, end) = quick_decimal(bytes, at)?;
    // Both operands are exact, so the division rounds once (Clinger 1990).
    let value = mantissa as f64 / EXACT.get(scale)?;
    Some((if negative { -value } else { value }, end))
}

/// A number's text in its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number<'a> {
    pub negative: bool,
    /// Digits before the point, at least one.
    whole: &'a [u8],
    /// Digits after the point.
    fraction: &'a [u8],
    exponent: i64,
    /// All of it, as written.
    pub text: &'a str,
    /// Index after it.
    pub end: usize,
}

/// What is done with digits behind the last that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// They must be zero.
    Exact,
    /// Half away from zero, as SQL rounds.
    HalfAway,
    /// Towards minus infinity.
    Floor,
}

/// Why a number is not an integer of the wanted scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInteger {
    OutOfRange,
    Fraction,
}

/// Reads the number at `at` by the grammar.
pub(crate) fn number(bytes: &[u8], at: usize) -> Result<Number<'_>, Fault> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let mut end = end_of_digits(bytes, start);
    let whole = bytes.get(start..end).unwrap_or_default();
    match whole {
        [] if negative => return Err(unexpected(bytes, start, "a digit")),
        [] => return Err(no_value(bytes, start)),
        [b'0', _, ..] => return Err(fault(start, "a number has a leading zero")),
        _ => {}
    }
    let mut fraction: &[u8] = &[];
    if bytes.get(end) == Some(&b'.') {
        let from = end + 1;
        end = end_of_digits(bytes, from);
        fraction = bytes.get(from..end).unwrap_or_default();
        if fraction.is_empty() {
            return Err(unexpected(bytes, end, "a digit"));
        }
    }
    let mut exponent: i64 = 0;
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = bytes.get(end + 1);
        let from = end + 1 + usize::from(matches!(sign, Some(b'+' | b'-')));
        end = end_of_digits(bytes, from);
        let digits = bytes.get(from..end).unwrap_or_default();
        if digits.is_empty() {
            return Err(unexpected(bytes, end, "a digit"));
        }
        for digit in digits {
            exponent = exponent.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
        }
        if sign == Some(&b'-') {
            exponent = -exponent;
        }
    }
    let text = bytes.get(at..end).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    Ok(Number { negative, whole, fraction, exponent, text, end })
}

/// Steps over the number at `at`.
#[inline(always)]
pub(crate) fn skip_number(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match quick_integer(bytes, at) {
        Some((_, end)) => Ok(end),
        None => number(bytes, at).map(|number| number.end),
    }
}

fn end_of_digits(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

impl Number<'_> {
    /// The number times 10^`scale` as an integer.
    pub fn scaled(&self, scale: i32, rounding: Rounding) -> Result<i128, NotInteger> {
        let digits = || self.whole.iter().chain(self.fraction).map(|digit| digit - b'0');
        let significant = digits().any(|digit| digit != 0);
        if !significant {
            return Ok(0);
        }
        let count = i64::try_from(self.whole.len() + self.fraction.len()).unwrap_or(i64::MAX);
        let whole = i64::try_from(self.whole.len()).unwrap_or(i64::MAX);
        // How many of the digits stand before the point once it has moved.
        let kept = self.exponent.saturating_add(i64::from(scale)).saturating_add(whole);
        let mut value: i128 = 0;
        for digit in digits().take(usize::try_from(kept.clamp(0, count)).unwrap_or(0)) {
            value =
                value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit))).ok_or(NotInteger::OutOfRange)?;
        }
        for _ in count..kept {
            value = value.checked_mul(10).ok_or(NotInteger::OutOfRange)?;
        }
        let dropped = usize::try_from(kept.clamp(0, count)).unwrap_or(0);
        let rest = digits().skip(dropped).any(|digit| digit != 0);
        if rest {
            // The first dropped digit counts tenths only if no zeros stand between it and the point.
            let first = if kept < 0 { 0 } else { digits().nth(dropped).unwrap_or(0) };
            let up = match rounding {
                Rounding::Exact => return Err(NotInteger::Fraction),
                Rounding::HalfAway => first >= 5,
                Rounding::Floor => self.negative,
            };
            value = value.checked_add(i128::from(up)).ok_or(NotInteger::OutOfRange)?;
        }
        Ok(if self.negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn scaled(text: &str, scale: i32, rounding: Rounding) -> Result<i128, NotInteger> {
        number(text.as_bytes(), 0).unwrap().scaled(scale, rounding)
    }

    #[test]
    fn scaling_moves_the_point() {
        use Rounding::*;
        assert_eq!(scaled("1.0", 0, Exact), Ok(1));
        assert_eq!(scaled("1e3", 0, Exact), Ok(1000));
        assert_eq!(scaled("1500e-2", 0, Exact), Ok(15));
        assert_eq!(scaled("-0", 0, Exact), Ok(0));
        assert_eq!(scaled("0e999999999999999999999", 0, Exact), Ok(0));
        assert_eq!(scaled("1.5", 0, Exact), Err(NotInteger::Fraction));
        assert_eq!(scaled("1e-999999999999999999999", 0, Exact), Err(NotInteger::Fraction));
        assert_eq!(scaled("1e999999999999999999999", 0, Exact), Err(NotInteger::OutOfRange));
        assert_eq!(scaled("1.005", 2, HalfAway), Ok(101));
        assert_eq!(scaled("-1.005", 2, HalfAway), Ok(-101));
        assert_eq!(scaled("0.0049", 2, HalfAway), Ok(0));
        assert_eq!(scaled("0.05", 0, HalfAway), Ok(0));
        assert_eq!(scaled("0.5e-1", 0, HalfAway), Ok(0));
        assert_eq!(scaled("9e-3", 0, HalfAway), Ok(0));
        assert_eq!(scaled("-0.001", 0, Floor), Ok(-1));
        assert_eq!(scaled("1.9", 0, Floor), Ok(1));
        assert_eq!(scaled("170141183460469231731687303715884105727", 0, Exact), Ok(i128::MAX));
        assert_eq!(scaled("170141183460469231731687303715884105728", 0, Exact), Err(NotInteger::OutOfRange));
    }

    #[test]
    fn the_grammar_is_strict() {
        for bad in ["", "-", "01", "-01", "1.", ".5", "1e", "1e+", "+1", "0x1", "--1"] {
            let whole = number(bad.as_bytes(), 0).is_ok_and(|n| n.end == bad.len());
            assert!(!whole, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn quick_integers_are_exact(value: i64, tail in "[,} ]{0,12}") {
            let text = format!("{value}{tail}");
            let end = value.to_string().len();
            let slow = number(text.as_bytes(), 0).unwrap();
            prop_assert_eq!((slow.scaled(0, Rounding::Exact), slow.end), (Ok(i128::from(value)), end));
            if let Some(quick) = quick_integer(text.as_bytes(), 0) {
                prop_assert_eq!(quick, (value, end));
            } else {
                prop_assert!(value.unsigned_abs() >= 10_000_000_000_000_000);
            }
        }

        #[test]
        fn quick_integers_of_any_length_are_exact(value in 0u64..100_000_000_000_000_000, drop in 0u32..17) {
            let value = (value / 10u64.pow(drop)).cast_signed();
            let text = format!("{value},");
            if let Some(quick) = quick_integer(text.as_bytes(), 0) {
                prop_assert_eq!(quick, (value, text.len() - 1));
            }
        }

        #[test]
        fn quick_doubles_are_the_nearest(text in "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,18})?") {
            if let Some((value, end)) = quick_f64(format!("{text},").as_bytes(), 0) {
                prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
                prop_assert_eq!(end, text.len());
            }
        }
    }
}

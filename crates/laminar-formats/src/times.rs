//! Dates and times as text: RFC 3339 in, RFC 3339 out, by hand, since this is done for every row.
//!
//! Read: `2024-01-31`, `2024-01-31T23:59`, `2024-01-31 23:59:59.123456789+02:00`, a time without a zone being UTC; years
//! beyond 9999 with a sign (ISO 8601). Written: always `Z`, the fraction with 0, 3, 6 or 9 digits, the fewest that lose
//! nothing.

/// A point in time: seconds since 1970-01-01 UTC, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant {
    pub seconds: i64,
    pub nanos: u32,
}

const SECONDS_A_DAY: i64 = 86_400;
const POWERS: [u32; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

fn power(digits: u32) -> u32 {
    POWERS.get(digits as usize).copied().unwrap_or(1)
}

impl Instant {
    /// The instant `value` units after 1970, a unit being 10^-`digits` seconds; `digits` is at most 9.
    #[inline(always)]
    pub fn from_units(value: i64, digits: u32) -> Self {
        if digits == 6 {
            // The usual case, with a divisor that the compiler knows.
            let nanos = u32::try_from(value.rem_euclid(1_000_000)).unwrap_or(0) * 1_000;
            return Self { seconds: value.div_euclid(1_000_000), nanos };
        }
        let unit = i64::from(power(digits));
        let rest = u32::try_from(value.rem_euclid(unit)).unwrap_or(0);
        Self { seconds: value.div_euclid(unit), nanos: rest * power(9 - digits) }
    }

    /// Units of 10^-`digits` seconds since 1970, rounded down; `None` if they do not fit.
    pub fn units(self, digits: u32) -> Option<i64> {
        let whole = i128::from(self.seconds) * i128::from(power(digits));
        i64::try_from(whole + i128::from(self.nanos / power(9 - digits))).ok()
    }
}

/// One unit of time to another; what is finer is cut off towards the past.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scale {
    Times(i64),
    Over(i64),
}

impl Scale {
    /// From a count that has `from` decimal digits behind the second to one that has `to`.
    pub fn digits(from: u32, to: u32) -> Self {
        match to.checked_sub(from) {
            Some(more) => Self::Times(10i64.pow(more)),
            None => Self::Over(10i64.pow(from - to)),
        }
    }
    /// `None` if it does not fit.
    #[inline(always)]
    pub fn of(self, value: i64) -> Option<i64> {
        match self {
            Self::Times(factor) => value.checked_mul(factor),
            Self::Over(divisor) => Some(value.div_euclid(divisor)),
        }
    }
    /// The same without a limit.
    pub fn wide(self, value: i64) -> i128 {
        match self {
            Self::Times(factor) => i128::from(value) * i128::from(factor),
            Self::Over(divisor) => i128::from(value.div_euclid(divisor)),
        }
    }
}

/// Reads a date with or without a time. `None` if the text is neither or names a day or time that does not exist.
pub(crate) fn parse_timestamp(text: &[u8]) -> Option<Instant> {
    let (days, rest) = date(text)?;
    let midnight = days.checked_mul(SECONDS_A_DAY)?;
    let Some((separator, rest)) = rest.split_first() else { return Some(Instant { seconds: midnight, nanos: 0 }) };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (seconds, nanos, rest) = time_of_day(rest)?;
    let offset = zone(rest)?;
    Some(Instant { seconds: midnight.checked_add(i64::from(seconds))?.checked_sub(i64::from(offset))?, nanos })
}

/// Days since 1970-01-01 of a date, or of the date that a timestamp begins with.
pub(crate) fn parse_date(text: &[u8]) -> Option<i32> {
    let (days, rest) = date(text)?;
    if !rest.is_empty() {
        parse_timestamp(text)?;
    }
    i32::try_from(days).ok()
}

/// Nanoseconds since midnight of `HH:MM[:SS[.fraction]]`.
pub(crate) fn parse_time(text: &[u8]) -> Option<i64> {
    let (seconds, nanos, rest) = time_of_day(text)?;
    let inside = rest.is_empty() && i64::from(seconds) < SECONDS_A_DAY;
    inside.then(|| i64::from(seconds) * 1_000_000_000 + i64::from(nanos))
}

/// Days since 1970 and what follows the date.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (negative, unsigned) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    let signed = unsigned.len() < text.len();
    let digits = unsigned.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits != 4 && !(signed && (4..=9).contains(&digits)) {
        return None;
    }
    let (year, rest) = unsigned.split_at_checked(digits)?;
    let year = year.iter().fold(0, |year, digit| year * 10 + i64::from(digit - b'0'));
    let year = if negative { -year } else { year };
    let [b'-', m1, m2, b'-', d1, d2, rest @ ..] = rest else { return None };
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    if !(1..=12).contains(&month) || day == 0 || day > days_of_month(year, month) {
        return None;
    }
    Some((days_from_civil(year, month, day), rest))
}

/// Seconds and nanoseconds since midnight, and what follows the time. A leap second counts as the next second.
fn time_of_day(text: &[u8]) -> Option<(u32, u32, &[u8])> {
    let [h1, h2, b':', m1, m2, rest @ ..] = text else { return None };
    let (hour, minute) = (two(*h1, *h2)?, two(*m1, *m2)?);
    let (second, nanos, rest) = match rest {
        [b':', s1, s2, rest @ ..] => {
            let (nanos, rest) = fraction(rest)?;
            (two(*s1, *s2)?, nanos, rest)
        }
        rest => (0, 0, rest),
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((hour * 3600 + minute * 60 + second, nanos, rest))
}

/// Nanoseconds of `.123`, further digits dropped; 0 if there is no fraction.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at_checked(count)?;
    if digits.is_empty() {
        return None;
    }
    let nanos = digits.iter().take(9).fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    Some((nanos * power(9 - u32::try_from(count.min(9)).ok()?), rest))
}

/// Seconds that the zone is ahead of UTC.
fn zone(text: &[u8]) -> Option<i32> {
    let (sign, hours, minutes) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2] => (sign, two(*h1, *h2)?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, two(*h1, *h2)?, two(*m1, *m2)?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

#[inline]
fn two(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

fn days_of_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar. Years are counted from March, so that the leap
/// day is the last of its year, in eras of 400 years, which all have the same length.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = i64::from((153 * ((month + 9) % 12) + 2) / 5 + day - 1);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of the day `days` after 1970-01-01.
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

/// A date or time as text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    pub bytes: [u8; 40],
    /// How many of them count.
    pub len: usize,
}

impl Text {
    fn new() -> Self {
        Self { bytes: [0; 40], len: 0 }
    }
    #[inline(always)]
    fn push<const N: usize>(&mut self, piece: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut::<N>()) {
            *place = piece;
            self.len += N;
        }
    }
}

/// The date written last: rows that follow each other are mostly of one day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastDate {
    days: i64,
    text: Text,
}

impl LastDate {
    pub fn new() -> Self {
        Self { days: 0, text: date_text(0) }
    }
    #[inline(always)]
    fn of(&mut self, days: i64) -> Text {
        if days != self.days {
            *self = Self { days, text: date_text(days) };
        }
        self.text
    }
}

/// `2024-01-31T23:59:59.123Z`.
#[inline(always)]
pub(crate) fn timestamp_text(instant: Instant, date: &mut LastDate) -> Text {
    let mut text = date.of(instant.seconds.div_euclid(SECONDS_A_DAY));
    text.push([b'T']);
    push_time(&mut text, instant.seconds.rem_euclid(SECONDS_A_DAY), instant.nanos);
    text.push([b'Z']);
    text
}

/// The date `days` after 1970-01-01.
pub(crate) fn date_text(days: i64) -> Text {
    let mut text = Text::new();
    let (year, month, day) = civil_from_days(days);
    match u32::try_from(year) {
        Ok(year @ 0..=9999) => {
            text.push(pair(year / 100));
            text.push(pair(year % 100));
        }
        _ => {
            let sign = if year < 0 { '-' } else { '+' };
            format!("{sign}{:06}", year.unsigned_abs()).bytes().for_each(|byte| text.push([byte]));
        }
    }
    text.push([b'-']);
    text.push(pair(month));
    text.push([b'-']);
    text.push(pair(day));
    text
}

/// `23:59:59.123`.
pub(crate) fn time_text(instant: Instant) -> Text {
    let mut text = Text::new();
    push_time(&mut text, instant.seconds, instant.nanos);
    text
}

/// Hours to seconds, and the fraction if there is one.
#[inline(always)]
fn push_time(text: &mut Text, seconds: i64, nanos: u32) {
    let seconds = u32::try_from(seconds).unwrap_or(0);
    let ([h1, h2], [m1, m2], [s1, s2]) = (pair(seconds / 3600), pair(seconds / 60 % 60), pair(seconds % 60));
    text.push([h1, h2, b':', m1, m2, b':', s1, s2]);
    if nanos == 0 {
        return;
    }
    let (millis, micros, rest) = (nanos / 1_000_000, nanos / 1_000 % 1_000, nanos % 1_000);
    let [a, b, c] = triple(millis);
    text.push([b'.', a, b, c]);
    if micros != 0 || rest != 0 {
        text.push(triple(micros));
    }
    if rest != 0 {
        text.push(triple(rest));
    }
}

#[inline]
fn digit(value: u32) -> u8 {
    b'0' + (value % 10) as u8
}

#[inline]
fn pair(value: u32) -> [u8; 2] {
    [digit(value / 10), digit(value)]
}

#[inline]
fn triple(value: u32) -> [u8; 3] {
    [digit(value / 100), digit(value / 10), digit(value)]
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat};
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> Option<i64> {
        parse_timestamp(text.as_bytes())?.units(6)
    }

    #[test]
    fn spellings_of_a_time() {
        let expected = Some(1_706_745_599_120_000);
        assert_eq!(micros("2024-01-31T23:59:59.12Z"), expected);
        assert_eq!(micros("2024-01-31 23:59:59.120000999"), expected);
        assert_eq!(micros("2024-02-01t01:59:59.12+02:00"), expected);
        assert_eq!(micros("2024-01-31T18:29:59.12-0530"), expected);
        assert_eq!(micros("2024-01-31T23:59Z"), Some(1_706_745_540_000_000));
        assert_eq!(micros("2024-01-31"), Some(1_706_659_200_000_000));
        assert_eq!(micros("2016-12-31T23:59:60Z"), micros("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_not_a_time() {
        for text in [
            "",
            "now",
            "2024",
            "2024-13-01",
            "2023-02-29",
            "2024-01-32",
            "2024-01-01T",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+25:00",
            "2024-01-01T00:00:00Z ",
            "20240-01-01",
            "2024-01-01x00:00:00",
            "+2024-01-01T0:00",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    fn written(instant: Instant) -> String {
        let text = timestamp_text(instant, &mut LastDate::new());
        String::from_utf8(text.bytes[..text.len].to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value: i64, digits in prop::sample::select(vec![0u32, 3, 6, 9])) {
            let value = if digits == 0 { value / 1_000_000 } else { value };
            let text = written(Instant::from_units(value, digits));
            prop_assert_eq!(parse_timestamp(text.as_bytes()).and_then(|instant| instant.units(digits)), Some(value));
        }

        #[test]
        fn what_is_written_is_what_chrono_writes(millis in -62_000_000_000_000i64..253_000_000_000_000) {
            let expected = DateTime::from_timestamp_millis(millis).unwrap().to_rfc3339_opts(SecondsFormat::AutoSi, true);
            prop_assert_eq!(written(Instant::from_units(millis, 3)), expected);
        }

        #[test]
        fn days_are_those_of_chrono(days in -700_000i32..2_900_000) {
            let date = NaiveDate::from_epoch_days(days).unwrap();
            prop_assert_eq!(civil_from_days(i64::from(days)), (i64::from(date.year()), date.month(), date.day()));
            prop_assert_eq!(days_from_civil(i64::from(date.year()), date.month(), date.day()), i64::from(days));
        }
    }
}

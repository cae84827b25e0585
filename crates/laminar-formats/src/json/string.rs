//! Reading a string, with or without escapes.

use crate::fault::{Fault, fault};
use crate::json::scan::{find_stop, unexpected};

/// Where a string's content ends and whether it can be copied as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    /// Index of the closing quote, or of the first backslash if `escaped`.
    pub end: usize,
    pub escaped: bool,
}

/// Scans the string whose content starts at `start`, up to its end or its first escape. What was scanned is valid UTF-8
/// without control characters.
#[inline(always)]
pub(crate) fn scan(bytes: &[u8], start: usize) -> Result<Content, Fault> {
    let stop = find_stop(bytes, start);
    if !stop.ascii {
        check_utf8(bytes, start, stop.at)?;
    }
    match bytes.get(stop.at) {
        Some(b'"') => Ok(Content { end: stop.at, escaped: false }),
        Some(b'\\') => Ok(Content { end: stop.at, escaped: true }),
        _ => Err(unterminated(bytes, stop.at)),
    }
}

/// Steps over the string whose content starts at `start`; returns the index after its closing quote.
#[inline(always)]
pub(crate) fn skip(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let content = scan(bytes, start)?;
    if content.escaped { unescape(bytes, content.end, &mut |_| ()) } else { Ok(content.end + 1) }
}

/// Appends the string whose content starts at `start` to `out`; returns the index after its closing quote. After an error
/// `out` holds a part of it.
#[inline(always)]
pub(crate) fn read(bytes: &[u8], start: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
    let content = scan(bytes, start)?;
    out.extend_from_slice(bytes.get(start..content.end).unwrap_or_default());
    if content.escaped {
        unescape(bytes, content.end, &mut |piece| out.extend_from_slice(piece))
    } else {
        Ok(content.end + 1)
    }
}

/// Goes on from the backslash at `at` to the end of the string, giving each piece of its content to `out`.
#[inline(never)]
fn unescape(bytes: &[u8], mut at: usize, out: &mut dyn FnMut(&[u8])) -> Result<usize, Fault> {
    loop {
        // `at` is at a backslash.
        let simple = match bytes.get(at + 1) {
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => 0,
            _ => return Err(unexpected(bytes, at + 1, "an escape such as \\n or \\u00e9")),
        };
        if simple == 0 {
            let (character, after) = unicode_escape(bytes, at)?;
            out(character.encode_utf8(&mut [0; 4]).as_bytes());
            at = after;
        } else {
            out(&[simple]);
            at += 2;
        }
        let content = scan(bytes, at)?;
        out(bytes.get(at..content.end).unwrap_or_default());
        if !content.escaped {
            return Ok(content.end + 1);
        }
        at = content.end;
    }
}

/// The character of the `\uXXXX` at `at`, or of the surrogate pair there, and the index after it.
fn unicode_escape(bytes: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let lone = || fault(at, "a surrogate in a \\u escape without its other half");
    let first = four_hex(bytes, at + 2)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, at + 6));
    }
    if !(0xd800..0xdc00).contains(&first) || bytes.get(at + 6..at + 8) != Some(br"\u") {
        return Err(lone());
    }
    let second = four_hex(bytes, at + 8)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(lone());
    }
    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    char::from_u32(code).map(|character| (character, at + 12)).ok_or_else(lone)
}

fn four_hex(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let mut code = 0;
    for at in at..at + 4 {
        let digit = bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        code = code << 4 | digit.ok_or_else(|| unexpected(bytes, at, "four hexadecimal digits"))?;
    }
    Ok(code)
}

#[inline(never)]
fn check_utf8(bytes: &[u8], start: usize, end: usize) -> Result<(), Fault> {
    let content = bytes.get(start..end).unwrap_or_default();
    if simdutf8::basic::from_utf8(content).is_ok() {
        return Ok(());
    }
    let valid = std::str::from_utf8(content).map_or_else(|error| error.valid_up_to(), str::len);
    Err(fault(start + valid, "the value is not UTF-8"))
}

#[cold]
fn unterminated(bytes: &[u8], at: usize) -> Fault {
    match bytes.get(at) {
        Some(byte) => fault(at, format!("control character 0x{byte:02x} in a string must be escaped")),
        None => fault(bytes.len(), "the value ends inside a string"),
    }
}

//! A value that a column reads by its meaning: a string's content, a number in or out of quotes; and the faults for a value
//! that does not fit.

use std::borrow::Cow;

use arrow::datatypes::DataType;

use crate::fault::{Fault, fault};
use crate::json::number::{NotInteger, Number, Rounding, number};
use crate::json::scan::unexpected;
use crate::json::skip::skip_value;
use crate::json::string;
use laminar_core::sql_name::sql_name;

/// A string's content, and the index after the string.
type Quoted<'a> = (Cow<'a, [u8]>, usize);

/// The content of the string at `at` and the index after it; `None` if another kind of value stands there.
pub(crate) fn quoted(bytes: &[u8], at: usize) -> Result<Option<Quoted<'_>>, Fault> {
    if bytes.get(at) != Some(&b'"') {
        return Ok(None);
    }
    let content = string::scan(bytes, at + 1)?;
    if !content.escaped {
        return Ok(Some((Cow::Borrowed(bytes.get(at + 1..content.end).unwrap_or_default()), content.end + 1)));
    }
    let mut text = Vec::new();
    let end = string::read(bytes, at + 1, &mut text)?;
    Ok(Some((Cow::Owned(text), end)))
}

/// The value of `f` for the number at `at`, which may stand in quotes, and the index after it.
pub(crate) fn with_number<T>(
    bytes: &[u8],
    at: usize,
    depth: usize,
    data_type: &DataType,
    f: impl FnOnce(&Number<'_>) -> Result<T, NotInteger>,
) -> Result<(T, usize), Fault> {
    let (value, end) = match (quoted(bytes, at)?, bytes.get(at)) {
        (Some((text, end)), _) => match number(&text, 0) {
            Ok(number) if number.end == text.len() => (f(&number), end),
            _ => return Err(mismatch(bytes, at, depth, data_type)),
        },
        (None, Some(b'-' | b'0'..=b'9')) => {
            let number = number(bytes, at)?;
            (f(&number), number.end)
        }
        _ => return Err(mismatch(bytes, at, depth, data_type)),
    };
    match value {
        Ok(value) => Ok((value, end)),
        Err(NotInteger::OutOfRange) => Err(out_of_range(bytes, at, depth, data_type)),
        Err(NotInteger::Fraction) => Err(mismatch(bytes, at, depth, data_type)),
    }
}

#[inline(never)]
pub(crate) fn read_scaled(
    bytes: &[u8],
    at: usize,
    depth: usize,
    scale: i32,
    rounding: Rounding,
    data_type: &DataType,
) -> Result<(i128, usize), Fault> {
    with_number(bytes, at, depth, data_type, |number| number.scaled(scale, rounding))
}

/// The fault for a value of another kind than the column's, or for what is not even a value.
#[cold]
pub(crate) fn mismatch(bytes: &[u8], at: usize, depth: usize, data_type: &DataType) -> Fault {
    describe(bytes, at, depth, |found| format!("expected {}, found {found}", sql_name(data_type)))
}

#[cold]
pub(crate) fn out_of_range(bytes: &[u8], at: usize, depth: usize, data_type: &DataType) -> Fault {
    describe(bytes, at, depth, |found| format!("{found} is out of range for {}", sql_name(data_type)))
}

fn describe(bytes: &[u8], at: usize, depth: usize, message: impl FnOnce(&str) -> String) -> Fault {
    match skip_value(bytes, at, depth) {
        Ok(end) => fault(at, message(&excerpt(bytes, at, end))),
        Err(_) if bytes.get(at).is_none() => unexpected(bytes, at, "a value"),
        Err(fault) => fault,
    }
}

/// The value as written, cut after 40 characters.
pub(crate) fn excerpt(bytes: &[u8], at: usize, end: usize) -> String {
    let text = String::from_utf8_lossy(bytes.get(at..end).unwrap_or_default());
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text.into_owned(),
    }
}

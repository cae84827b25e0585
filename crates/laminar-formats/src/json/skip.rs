//! Stepping over a value that nobody reads, checking all of it.
//!
//! No recursion: the open containers are bits of one word, so depth costs nothing and is bounded.

use crate::fault::{Fault, fault};
use crate::json::number::skip_number;
use crate::json::scan::{expect_end, literal, skip_space, unexpected};
use crate::json::string;

/// Containers within containers that a message may have; one more is an error. The same as serde_json's.
pub(crate) const MAX_DEPTH: usize = 127;

/// The fault for a container that would be one too deep.
#[cold]
pub(crate) fn too_deep(at: usize) -> Fault {
    fault(at, format!("the value is nested deeper than {MAX_DEPTH} levels"))
}

/// Steps over the value at `at`, which stands inside `depth` containers; returns the index after it.
#[inline(always)]
pub(crate) fn skip_value(bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    match bytes.get(at) {
        Some(b'"') => string::skip(bytes, at + 1),
        Some(b'{' | b'[') => skip_container(bytes, at, depth),
        _ => skip_scalar(bytes, at),
    }
}

/// The JSON that a text is which stands at `at` of a record in another format, without the space behind it.
pub(crate) fn check_text(text: &[u8], at: usize) -> Result<&[u8], Fault> {
    let end = skip_value(text, 0, 0).and_then(|end| expect_end(text, end).map(|()| end));
    let end = end.map_err(|mut fault| {
        fault.message = format!("the text is not JSON: {}", fault.message);
        fault.offset = fault.offset.map(|offset| offset + at);
        fault
    })?;
    Ok(text.get(..end).unwrap_or_default())
}

#[inline]
fn skip_scalar(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match bytes.get(at) {
        Some(b'n') => literal(bytes, at, "null"),
        Some(b't') => literal(bytes, at, "true"),
        Some(b'f') => literal(bytes, at, "false"),
        _ => skip_number(bytes, at),
    }
}

/// Open containers, the innermost in the lowest bit: 1 for an object.
struct Open {
    kinds: u128,
    count: usize,
    limit: usize,
}

impl Open {
    fn push(&mut self, object: bool, at: usize) -> Result<(), Fault> {
        if self.count >= self.limit {
            return Err(too_deep(at));
        }
        self.kinds = self.kinds << 1 | u128::from(object);
        self.count += 1;
        Ok(())
    }
    fn pop(&mut self) {
        self.kinds >>= 1;
        self.count -= 1;
    }
    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }
}

#[inline(never)]
fn skip_container(bytes: &[u8], mut at: usize, depth: usize) -> Result<usize, Fault> {
    let mut open = Open { kinds: 0, count: 0, limit: MAX_DEPTH.saturating_sub(depth) };
    loop {
        // `at` is at the first byte of a value.
        match bytes.get(at) {
            Some(b'"') => at = string::skip(bytes, at + 1)?,
            Some(b'{') => {
                open.push(true, at)?;
                at = skip_space(bytes, at + 1);
                if bytes.get(at) == Some(&b'}') {
                    open.pop();
                    at += 1;
                } else {
                    at = skip_key(bytes, at)?;
                    continue;
                }
            }
            Some(b'[') => {
                open.push(false, at)?;
                at = skip_space(bytes, at + 1);
                if bytes.get(at) == Some(&b']') {
                    open.pop();
                    at += 1;
                } else {
                    continue;
                }
            }
            _ => at = skip_scalar(bytes, at)?,
        }
        // A value ended: close what ends with it, then step to the next.
        loop {
            if open.count == 0 {
                return Ok(at);
            }
            at = skip_space(bytes, at);
            match (bytes.get(at), open.in_object()) {
                (Some(b','), true) => {
                    at = skip_key(bytes, skip_space(bytes, at + 1))?;
                    break;
                }
                (Some(b','), false) => {
                    at = skip_space(bytes, at + 1);
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    open.pop();
                    at += 1;
                }
                (_, true) => return Err(unexpected(bytes, at, ", or }")),
                (_, false) => return Err(unexpected(bytes, at, ", or ]")),
            }
        }
    }
}

/// Steps over `"key" :` and the space around; returns the index of the value.
#[inline]
fn skip_key(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    if bytes.get(at) != Some(&b'"') {
        return Err(unexpected(bytes, at, "a field name in quotes"));
    }
    let at = skip_space(bytes, string::skip(bytes, at + 1)?);
    if bytes.get(at) != Some(&b':') {
        return Err(unexpected(bytes, at, ":"));
    }
    Ok(skip_space(bytes, at + 1))
}

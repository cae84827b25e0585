//! The envelope: which change it is, and where its rows stand. Well-formed to its last byte, or a fault.

use crate::fault::{Fault, fault};
use crate::json::not_an_object;
use crate::json::scan::{expect_end, skip_space, unexpected};
use crate::json::skip::skip_value;
use crate::json::value::{excerpt, quoted};

/// A record's change. Rows are indices of the values' first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A tombstone: nothing that is not said by the delete before it.
    None,
    Insert {
        after: usize,
    },
    Update {
        before: usize,
        after: usize,
    },
    Delete {
        before: usize,
    },
}

/// The change, and how many containers its rows stand in.
pub fn read(bytes: &[u8]) -> Result<(Change, usize), Fault> {
    let start = skip_space(bytes, 0);
    if is_null(bytes, start) {
        expect_end(bytes, skip_value(bytes, start, 0)?)?;
        return Ok((Change::None, 0));
    }
    let (outer, end) = locate(bytes, start, 0)?;
    expect_end(bytes, end)?;
    match outer.payload {
        Some(payload) if outer.op.is_none() => {
            if is_null(bytes, payload) {
                return Ok((Change::None, 0));
            }
            let (inner, _) = locate(bytes, payload, 1)?;
            Ok((inner.change(bytes, end)?, 2))
        }
        _ => Ok((outer.change(bytes, end)?, 1)),
    }
}

/// Where the values of the fields stand that are there.
#[derive(Default)]
struct Parts {
    op: Option<usize>,
    before: Option<usize>,
    after: Option<usize>,
    payload: Option<usize>,
}

/// The parts of the object at `at`, which stands inside `depth` containers, and the index after it. Of equal names the last
/// counts.
fn locate(bytes: &[u8], at: usize, depth: usize) -> Result<(Parts, usize), Fault> {
    let mut parts = Parts::default();
    if bytes.get(at) != Some(&b'{') {
        return Err(not_an_object(bytes, at));
    }
    let mut at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok((parts, at + 1));
    }
    loop {
        let Some((name, end)) = quoted(bytes, at)? else {
            return Err(unexpected(bytes, at, "a field name in quotes"));
        };
        at = skip_space(bytes, end);
        if bytes.get(at) != Some(&b':') {
            return Err(unexpected(bytes, at, ":"));
        }
        at = skip_space(bytes, at + 1);
        match name.as_ref() {
            b"op" => parts.op = Some(at),
            b"before" => parts.before = Some(at),
            b"after" => parts.after = Some(at),
            b"payload" => parts.payload = Some(at),
            _ => {}
        }
        at = skip_space(bytes, skip_value(bytes, at, depth + 1)?);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b'}') => return Ok((parts, at + 1)),
            _ => return Err(unexpected(bytes, at, ", or }")),
        }
    }
}

impl Parts {
    fn change(&self, bytes: &[u8], end: usize) -> Result<Change, Fault> {
        let Some(at) = self.op else {
            return Err(fault(end, "the value has no op, so it is not an envelope of Debezium"));
        };
        let row = |image: Option<usize>| image.filter(|at| !is_null(bytes, *at));
        let before = |op: &str| {
            row(self.before).ok_or_else(|| {
                let needs = "a row that is updated or deleted must be in it whole";
                let how = "PostgreSQL's REPLICA IDENTITY FULL";
                fault(self.before.unwrap_or(end), format!("op is {op} and before is missing: {needs}, as with {how}"))
            })
        };
        let after = |op: &str| {
            row(self.after).ok_or_else(|| fault(self.after.unwrap_or(end), format!("op is {op} and after is missing")))
        };
        let op = quoted(bytes, at)?.map(|(op, _)| op);
        Ok(match op.as_deref() {
            Some(b"c") => Change::Insert { after: after("c")? },
            Some(b"r") => Change::Insert { after: after("r")? },
            Some(b"u") => Change::Update { before: before("u")?, after: after("u")? },
            Some(b"d") => Change::Delete { before: before("d")? },
            _ => {
                let end = skip_value(bytes, at, 1)?;
                return Err(fault(at, format!("op is {}, expected c, r, u or d", excerpt(bytes, at, end))));
            }
        })
    }
}

/// Of a value that is known to be one, or that is looked at next.
fn is_null(bytes: &[u8], at: usize) -> bool {
    bytes.get(at) == Some(&b'n')
}

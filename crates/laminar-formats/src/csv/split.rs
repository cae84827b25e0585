//! A record to its fields.

use std::borrow::Cow;

use super::Dialect;
use crate::fault::{Fault, fault};

/// A field's content, and whether it stood in quotes. Its bytes are the record's own unless a quote within had to be halved.
pub(super) struct Field<'a> {
    pub content: Cow<'a, [u8]>,
    pub quoted: bool,
    /// Where it starts in the record.
    pub at: usize,
}

/// The record without the line break at its end.
pub(super) fn without_line_break(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Steps through the fields of a record; there is at least one.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    delimiter: u8,
    quote: u8,
    /// Where the next field starts; `None` behind the last.
    next: Option<usize>,
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8], dialect: &Dialect) -> Self {
        Self { bytes, delimiter: dialect.delimiter, quote: dialect.quote, next: Some(0) }
    }

    /// The next field; `None` behind the last.
    pub fn next(&mut self) -> Result<Option<Field<'a>>, Fault> {
        let Some(at) = self.next else { return Ok(None) };
        let rest = self.bytes.get(at..).unwrap_or_default();
        let (content, end, quoted) = match rest.first() {
            Some(byte) if *byte == self.quote => {
                let (content, end) = self.quoted(at + 1)?;
                (content, end, true)
            }
            _ => {
                let end = rest.iter().position(|byte| *byte == self.delimiter).unwrap_or(rest.len());
                let content = rest.get(..end).unwrap_or_default();
                if let Some(stray) =
                    content.iter().position(|byte| *byte == self.quote || matches!(byte, b'\n' | b'\r'))
                {
                    return Err(fault(at + stray, "a quote or line break in a field that does not begin with a quote"));
                }
                (Cow::Borrowed(content), at + end, false)
            }
        };
        self.next = match self.bytes.get(end) {
            None => None,
            Some(byte) if *byte == self.delimiter => Some(end + 1),
            Some(_) => return Err(fault(end, "a field goes on after its closing quote")),
        };
        Ok(Some(Field { content, quoted, at }))
    }

    /// The content that starts at `from`, behind the opening quote, and the index behind the closing one.
    fn quoted(&self, from: usize) -> Result<(Cow<'a, [u8]>, usize), Fault> {
        let mut content: Cow<'a, [u8]> = Cow::Borrowed(&[]);
        let mut start = from;
        loop {
            let rest = self.bytes.get(start..).unwrap_or_default();
            let Some(length) = rest.iter().position(|byte| *byte == self.quote) else {
                return Err(fault(self.bytes.len(), "the record ends within a quoted field"));
            };
            let end = start + length;
            let twice = self.bytes.get(end + 1) == Some(&self.quote);
            let piece = self.bytes.get(start..end + usize::from(twice)).unwrap_or_default();
            if content.is_empty() {
                content = Cow::Borrowed(piece);
            } else {
                content.to_mut().extend_from_slice(piece);
            }
            if !twice {
                return Ok((content, end + 1));
            }
            start = end + 2;
        }
    }
}

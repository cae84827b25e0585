//! A script's text and the places in it.
//!
//! Lines and columns count from 1, columns in characters, as sqlparser's tokens and `core::Location` do.

use datafusion::sql::sqlparser::tokenizer;
use laminar_core::Location;

/// Text with an index of its lines.
#[derive(Debug)]
pub(crate) struct Script<'a> {
    text: &'a str,
    /// Byte at which each line starts.
    starts: Vec<usize>,
}

impl<'a> Script<'a> {
    pub fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Self { text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// The text from one place to another, the end excluded.
    pub fn slice(&self, from: Location, to: Location) -> &'a str {
        self.text.get(self.offset(from)..self.offset(to)).unwrap_or_default()
    }

    /// The line's text without its end.
    pub fn line(&self, number: u64) -> Option<&'a str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let from = *self.starts.get(index)?;
        let to = self.starts.get(index + 1).map_or(self.text.len(), |next| next - 1);
        self.text.get(from..to).map(|line| line.trim_end_matches('\r'))
    }

    /// The place behind the last character.
    pub fn end(&self) -> Location {
        let line = self.starts.len() as u64;
        let last = self.starts.last().and_then(|from| self.text.get(*from..)).unwrap_or_default();
        Location { line, column: last.chars().count() as u64 + 1 }
    }

    /// Byte of a place; the text's length if it is beyond.
    fn offset(&self, at: Location) -> usize {
        let line = (at.line as usize).saturating_sub(1);
        let Some(from) = self.starts.get(line).copied() else { return self.text.len() };
        let rest = self.text.get(from..).unwrap_or_default();
        let column = (at.column as usize).saturating_sub(1);
        from + rest.char_indices().nth(column).map_or(rest.len(), |(offset, _)| offset)
    }
}

/// Our location of a token's; `None` for one without a place.
pub(crate) fn location(at: tokenizer::Location) -> Option<Location> {
    (at.line > 0).then_some(Location { line: at.line, column: at.column })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_characters_not_bytes() {
        let script = Script::new("aß,c\r\nd\n");
        let at = |line, column| Location { line, column };
        assert_eq!(script.slice(at(1, 2), at(1, 4)), "ß,");
        assert_eq!(script.slice(at(1, 4), at(2, 2)), "c\r\nd");
        assert_eq!(script.line(1), Some("aß,c"));
        assert_eq!(script.line(4), None);
        assert_eq!(script.end(), at(3, 1));
    }
}

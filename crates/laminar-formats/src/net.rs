//! What is left of changes that follow each other: a row that came and went was never there.
//!
//! Rows and keys are compared as the text they are written as: two that a reader could not tell apart are equal.
//!
//! ```text
//!  -a  +b          an update from a to b           +a  -a          nothing
//!  -a  +b -b +c    an update from a to c           -a  +a          nothing
//!  +b  -a          an update from a to b: of one key, so a went before b came, whichever was heard of first
//! ```
//!
//! The rule: applying the net changes to a relation that has at most one row a key gives what applying all of them gives.

use std::collections::HashMap;

use laminar_core::format::EncodedValues;
use laminar_core::{ChangeKind, Kinds};

/// One change that is left: the row that was there and the one that is there now. One of them at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    pub before: Option<u32>,
    pub after: Option<u32>,
}

/// Without a key only the two halves of an update belong together, and they are neighbours.
pub(crate) fn net_of_pairs(kinds: &Kinds, rows: &EncodedValues) -> Vec<Net> {
    let mut net = Vec::with_capacity(kinds.len());
    let mut kinds = (0u32..).zip(kinds.iter()).peekable();
    while let Some((row, kind)) = kinds.next() {
        match kind {
            ChangeKind::Insert | ChangeKind::UpdateAfter => net.push(Net { before: None, after: Some(row) }),
            ChangeKind::Delete => net.push(Net { before: Some(row), after: None }),
            ChangeKind::UpdateBefore => {
                let after = kinds.next_if(|(_, next)| *next == ChangeKind::UpdateAfter).map(|(after, _)| after);
                if after.is_none_or(|after| rows.get(after as usize) != rows.get(row as usize)) {
                    net.push(Net { before: Some(row), after });
                }
            }
        }
    }
    net
}

/// One change a key, in the order in which the keys are first heard of. `keys` and `rows` have an entry for each row.
pub(crate) fn net_by_key(kinds: &Kinds, keys: &EncodedValues, rows: &EncodedValues) -> Vec<Net> {
    let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(kinds.len());
    let mut changed: Vec<OfKey> = Vec::with_capacity(kinds.len());
    for ((row, kind), key) in (0u32..).zip(kinds.iter()).zip(keys.iter()) {
        let place = *places.entry(key).or_insert_with(|| {
            changed.push(OfKey::default());
            changed.len() - 1
        });
        let Some(of_key) = changed.get_mut(place) else { continue };
        let (same, other) = match kind {
            ChangeKind::Insert | ChangeKind::UpdateAfter => (&mut of_key.came, &mut of_key.went),
            ChangeKind::UpdateBefore | ChangeKind::Delete => (&mut of_key.went, &mut of_key.came),
        };
        if !other.take(|other| rows.get(other as usize) == rows.get(row as usize)) {
            same.push(row);
        }
    }
    let mut net = Vec::with_capacity(changed.len());
    for OfKey { came, went } in changed {
        // More than one of either: the key was not unique. The last row to come stands last, so it is what is left.
        net.extend(went.more.iter().map(|row| Net { before: Some(*row), after: None }));
        let mut after = came.first;
        for next in came.more {
            net.push(Net { before: None, after });
            after = Some(next);
        }
        if went.first.is_some() || after.is_some() {
            net.push(Net { before: went.first, after });
        }
    }
    net
}

/// Rows of one key that came or went and did not cancel each other.
#[derive(Default)]
struct OfKey {
    came: Few,
    went: Few,
}

/// Rows, nearly always one at most: no allocation for it.
#[derive(Default)]
struct Few {
    first: Option<u32>,
    more: Vec<u32>,
}

impl Few {
    fn push(&mut self, row: u32) {
        match self.first {
            None => self.first = Some(row),
            Some(_) => self.more.push(row),
        }
    }

    /// Removes one that `is` says yes to; was there one?
    fn take(&mut self, is: impl Fn(u32) -> bool) -> bool {
        if self.first.is_some_and(&is) {
            self.first = if self.more.is_empty() { None } else { Some(self.more.remove(0)) };
            return true;
        }
        match self.more.iter().position(|row| is(*row)) {
            Some(at) => {
                self.more.remove(at);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<'a>(texts: impl Iterator<Item = &'a str>) -> EncodedValues {
        let mut values = EncodedValues::default();
        for text in texts {
            values.bytes.extend_from_slice(text.as_bytes());
            values.end_value();
        }
        values
    }

    /// `+` came, `-` went, `<` update before, `>` update after; then a key and a row: `+1a`.
    #[track_caller]
    fn check(changes: &str, by_key: &str, of_pairs: &str) {
        let changes: Vec<&str> = changes.split_whitespace().collect();
        let kind = |change: &&str| match &change[..1] {
            "+" => ChangeKind::Insert,
            "-" => ChangeKind::Delete,
            "<" => ChangeKind::UpdateBefore,
            _ => ChangeKind::UpdateAfter,
        };
        let kinds: Kinds = changes.iter().map(kind).collect();
        let keys = values(changes.iter().map(|change| &change[1..2]));
        let rows = values(changes.iter().map(|change| &change[1..]));
        let show = |net: Vec<Net>| {
            let row = |row: Option<u32>| row.map_or("", |row| &changes[row as usize][1..]);
            net.iter().map(|net| format!("{}>{}", row(net.before), row(net.after))).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(show(net_by_key(&kinds, &keys, &rows)), by_key, "by key: {changes:?}");
        assert_eq!(show(net_of_pairs(&kinds, &rows)), of_pairs, "of pairs: {changes:?}");
    }

    #[test]
    fn what_follows_is_taken_together() {
        check("+1a +2b", ">1a >2b", ">1a >2b");
        check("<1a >1b", "1a>1b", "1a>1b");
        check("<1a >1a", "", "");
        check("-1a +1b", "1a>1b", "1a> >1b");
        check("+1a -1a", "", ">1a 1a>");
        check("-1a +1a", "", "1a> >1a");
        check("+1b -1a", "1a>1b", ">1b 1a>");
        check("<1a >1b <1b >1c", "1a>1c", "1a>1b 1b>1c");
        check("<1a >1b <2x >2y <1b >1a", "2x>2y", "1a>1b 2x>2y 1b>1a");
        check("<1a >2a", "1a> >2a", "1a>2a");
        check("+1a <1a >1b -1b -2x", "2x>", ">1a 1a>1b 1b> 2x>");
        check("<1a +2b >1b", "1a>1b >2b", "1a> >2b >1b");
    }

    #[test]
    fn a_key_that_is_not_unique_keeps_its_last_row() {
        check("+1a +1b +1c -1b", ">1a >1c", ">1a >1b >1c 1b>");
        check("-1a -1b", "1b> 1a>", "1a> 1b>");
    }
}

//! The versions of each key, and which of them may still be asked for.
//!
//! ```text
//!  key a    1:00 x    2:00 y    3:00 gone    4:00 z          watermark 2:30: x is dropped
//! ```

use std::collections::{BTreeMap, HashMap};

use arrow::row::OwnedRow;

#[derive(Default)]
pub(super) struct Versions {
    keys: HashMap<OwnedRow, BTreeMap<i64, Version>>,
    /// Rows of all keys, and ends.
    len: usize,
    /// Rows that came and are not kept any more, since the operator was opened.
    pub(super) released: u64,
    /// Keys by the times at which the watermark makes a version of theirs superfluous.
    due: BTreeMap<i64, Vec<OwnedRow>>,
    /// µs.
    ttl: Option<i64>,
    /// Keys by the times of their versions, if there is a time to live.
    last: BTreeMap<i64, Vec<OwnedRow>>,
}

/// From its time on.
struct Version {
    row: OwnedRow,
    /// False: there is none any more; `row` is one with the key.
    is_there: bool,
}

impl Versions {
    pub(super) fn new(ttl: Option<i64>) -> Self {
        Self { ttl, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// From `time` on the key has this row. Of two of one time the later one counts.
    pub(super) fn add(&mut self, key: OwnedRow, time: i64, row: OwnedRow, is_there: bool) {
        if self.ttl.is_some() {
            self.last.entry(time).or_default().push(key.clone());
        }
        let versions = self.keys.entry(key.clone()).or_default();
        let before = versions.insert(time, Version { row, is_there });
        self.len += usize::from(before.is_none());
        self.released += u64::from(before.is_some());
        // A later version that is here already makes this one superfluous when the watermark gets there.
        let next = versions.range(time.saturating_add(1)..).next().map(|(next, _)| *next);
        if let Some(next) = next {
            self.due.entry(next).or_default().push(key.clone());
        }
        if versions.len() > 1 || !is_there {
            self.due.entry(time).or_default().push(key);
        }
    }

    /// The key's row at a time that the watermark has not passed before.
    pub(super) fn at(&self, key: &OwnedRow, time: i64) -> Option<&OwnedRow> {
        let (_, version) = self.keys.get(key)?.range(..=time).next_back()?;
        version.is_there.then_some(&version.row)
    }

    /// Drops what no row from `watermark` on asks for.
    pub(super) fn pass(&mut self, watermark: i64) {
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= watermark) {
            for key in first.remove() {
                self.prune(&key, watermark);
            }
        }
        let Some(horizon) = self.ttl.map(|ttl| watermark.saturating_sub(ttl)) else { return };
        while let Some(first) = self.last.first_entry().filter(|first| *first.key() < horizon) {
            for key in first.remove() {
                let is_old = |versions: &BTreeMap<i64, Version>| versions.keys().all(|time| *time < horizon);
                if self.keys.get(&key).is_some_and(is_old) {
                    let gone = self.keys.remove(&key).map_or(0, |versions| versions.len());
                    self.len = self.len.saturating_sub(gone);
                    self.released += gone as u64;
                }
            }
        }
    }

    fn prune(&mut self, key: &OwnedRow, watermark: i64) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let before = versions.len();
        if let Some((now, is_there)) = versions.range(..=watermark).next_back().map(|(at, v)| (*at, v.is_there)) {
            *versions = versions.split_off(&now);
            if !is_there {
                versions.remove(&now);
            }
        }
        let gone = before - versions.len();
        self.len = self.len.saturating_sub(gone);
        self.released += gone as u64;
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Each version with its time: is its row there, or gone?
    pub(super) fn all(&self) -> impl Iterator<Item = (i64, &OwnedRow, bool)> {
        self.keys.values().flatten().map(|(time, version)| (*time, &version.row, version.is_there))
    }
}

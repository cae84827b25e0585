//! Bytes to rows and back. Implemented in `laminar-formats`, driven by source tasks and sink writers.

use crate::source::RawRecord;
use crate::{Changes, Error, Result};

/// Turns records into rows. One decoder per source task; never shared.
///
/// A record that fails leaves nothing behind: the rows before and after it are what they would be without it.
pub trait Decoder: Send {
    /// Appends the record's rows: one for most formats, none or two where a record is a change. An error names what is wrong with this record only; the caller decides whether that
    /// fails the job, skips the record or sends it to the dead letters, and goes on pushing. But an
    /// [`outage`](DecodeError::outage) is not the record's fault: the caller stops with it and reads the record again.
    fn push(&mut self, record: &RawRecord<'_>) -> std::result::Result<(), DecodeError>;
    /// Rows pushed since the last flush; a push adds as many as its record has.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Rows pushed since the last flush, in push order, each with its event time; `None` if there are none.
    fn flush(&mut self) -> Result<Option<Changes>>;
}

/// Why one record has no rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .column.as_ref().map(|c| format!(" (column {c})")).unwrap_or_default())]
pub struct DecodeError {
    pub message: String,
    /// The table's column that could not be filled, where one is to blame.
    pub column: Option<String>,
    /// Byte of the value at which decoding stopped.
    pub offset: Option<usize>,
    pub kind: FaultKind,
}

impl DecodeError {
    /// Why nothing is known of the record, if that is so.
    pub fn outage(&self) -> Option<&Error> {
        match &self.kind {
            FaultKind::Outage(error) => Some(error),
            FaultKind::Malformed | FaultKind::Constraint => None,
        }
    }
}

/// What a [`DecodeError`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The bytes are not what the format, or a column's type, wants.
    Malformed,
    /// A column that must not be null has no value.
    Constraint,
    /// What is needed to decode the record cannot be had now, such as its schema while the registry is down. The record is
    /// neither bad nor done.
    Outage(Error),
}

/// Turns rows into record values.
pub trait Encoder: Send {
    /// Appends the values of `changes` to `out`, which the caller has cleared, in order. There is one for every row, or, if
    /// `out.rows` is filled, fewer: a format that carries changes may take several rows together.
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()>;
}

/// Values laid end to end in one buffer: no allocation a row.
///
/// ```text
/// bytes  {"a":1}{"a":2}      ends  [7, 14]      rows  [] or, say, [1, 4]
/// ```
#[derive(Debug, Default)]
pub struct EncodedValues {
    pub bytes: Vec<u8>,
    /// One entry per value: the byte after its last.
    pub ends: Vec<usize>,
    /// One entry per value: the row of the changes whose key and metadata go with it. Empty: value i is of row i.
    pub rows: Vec<u32>,
    /// One entry per value: it has no bytes and says that nothing is left under the row's key. Empty: no value does.
    pub tombstones: Vec<bool>,
}

impl EncodedValues {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.rows.clear();
        self.tombstones.clear();
    }
    /// Ends the value whose bytes were just appended.
    pub fn end_value(&mut self) {
        self.ends.push(self.bytes.len());
    }
    /// The row of the changes that the value at `index` is of.
    pub fn row(&self, index: usize) -> usize {
        self.rows.get(index).map_or(index, |row| *row as usize)
    }
    pub fn is_tombstone(&self, index: usize) -> bool {
        self.tombstones.get(index).copied().unwrap_or(false)
    }
    /// The bytes of the value at `index`; none behind the last.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(index).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
    }
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}

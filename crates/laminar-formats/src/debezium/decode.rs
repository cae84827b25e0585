//! Envelopes to rows: two passes, one that finds the row images and one, the JSON decoder's, that reads them.

use arrow::array::ArrayRef;
use laminar_core::{ChangeKind, Result};

use super::envelope::{self, Change};
use crate::fault::Fault;
use crate::json::JsonDecoder;
use crate::record::ValueDecoder;

/// A message is one change: no row, one or two.
pub(crate) struct DebeziumDecoder {
    rows: JsonDecoder,
    pushed: &'static [ChangeKind],
}

impl DebeziumDecoder {
    /// `rows` reads the images.
    pub fn new(rows: JsonDecoder) -> Self {
        Self { rows, pushed: &[] }
    }

    fn image(&mut self, name: &str, bytes: &[u8], at: usize, depth: usize) -> Result<(), Fault> {
        self.rows.read_at(bytes, at, depth).map(drop).map_err(|mut fault| {
            fault.message = format!("in {name}: {}", fault.message);
            fault
        })
    }

    fn append(&mut self, bytes: &[u8], change: Change, depth: usize) -> Result<&'static [ChangeKind], Fault> {
        match change {
            Change::None => Ok(&[]),
            Change::Insert { after } => {
                self.image("after", bytes, after, depth)?;
                Ok(&[ChangeKind::Insert])
            }
            Change::Update { before, after } => {
                self.image("before", bytes, before, depth)?;
                self.image("after", bytes, after, depth)?;
                Ok(&[ChangeKind::UpdateBefore, ChangeKind::UpdateAfter])
            }
            Change::Delete { before } => {
                self.image("before", bytes, before, depth)?;
                Ok(&[ChangeKind::Delete])
            }
        }
    }
}

impl ValueDecoder for DebeziumDecoder {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        self.pushed = &[];
        let Some(bytes) = value else { return Ok(()) };
        let (change, depth) = envelope::read(bytes)?;
        let rows = self.rows.rows();
        match self.append(bytes, change, depth) {
            Ok(pushed) => {
                self.pushed = pushed;
                Ok(())
            }
            Err(fault) => {
                self.rows.truncate(rows);
                Err(fault)
            }
        }
    }
    fn pushed(&self) -> &'static [ChangeKind] {
        self.pushed
    }
    fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
    }
    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows.finish()
    }
}

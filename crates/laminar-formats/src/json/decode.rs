//! One message, one row: the decoders of whole JSON values.

use arrow::array::ArrayRef;
use laminar_core::Result;
use laminar_core::table::Column;

use crate::columns::Bytes;
use crate::fault::{Fault, fault, fault_of_record};
use crate::json::column::Slot;
use crate::json::object::ObjectReader;
use crate::json::scan::{expect_end, skip_space, unexpected};
use crate::json::skip::skip_value;
use crate::options::TimestampFormat;
use crate::record::ValueDecoder;

/// A message is one object; its fields fill the columns.
pub(crate) struct JsonDecoder {
    reader: ObjectReader,
}

impl JsonDecoder {
    /// `columns` are all that the table has in its value; `wanted` says which are decoded, in which order.
    pub fn new(columns: &[Column], wanted: &[usize], format: TimestampFormat) -> Result<Self> {
        let slots = wanted.iter().filter_map(|index| columns.get(*index));
        let slots = slots.map(|column| Slot::new(&column.field(), format)).collect::<Result<Vec<_>>>()?;
        let slot_of = |index: usize| wanted.iter().position(|wanted| *wanted == index);
        let names = columns.iter().enumerate().map(|(index, column)| (column.name.as_str(), slot_of(index)));
        Ok(Self { reader: ObjectReader::new(names, slots) })
    }

    pub fn rows(&self) -> usize {
        self.reader.rows()
    }

    /// Appends a row from the object at `at`, which stands inside `depth` containers; returns the index after it. After an
    /// error the columns may differ in length until `truncate`.
    pub fn read_at(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        self.reader.read(bytes, at, depth)
    }

    #[inline]
    fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let at = skip_space(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return Err(not_an_object(bytes, at));
        }
        let end = self.reader.read(bytes, at, 0)?;
        expect_end(bytes, end)
    }
}

impl ValueDecoder for JsonDecoder {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        let Some(bytes) = value else { return Err(tombstone()) };
        let rows = self.reader.rows();
        match self.read(bytes) {
            Ok(()) => Ok(()),
            Err(fault) => {
                self.reader.truncate(rows);
                Err(fault)
            }
        }
    }
    fn truncate(&mut self, rows: usize) {
        self.reader.truncate(rows);
    }
    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.reader.finish()
    }
}

/// A message is any value; all of it is one column.
pub(crate) struct Unstructured {
    texts: Bytes,
    /// The query reads the column.
    wanted: bool,
}

impl Unstructured {
    pub fn new(wanted: bool) -> Self {
        Self { texts: Bytes::new(), wanted }
    }
}

impl ValueDecoder for Unstructured {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        let Some(bytes) = value else { return Err(tombstone()) };
        let start = skip_space(bytes, 0);
        if let Some(fault) = nothing_or_bom(bytes, start) {
            return Err(fault);
        }
        let end = skip_value(bytes, start, 0)?;
        expect_end(bytes, end)?;
        let rows = self.texts.len();
        self.texts.bytes.extend_from_slice(bytes.get(start..end).unwrap_or_default());
        match self.texts.end_entry(start) {
            Ok(()) => Ok(()),
            Err(fault) => {
                self.texts.truncate(rows);
                Err(fault)
            }
        }
    }
    fn truncate(&mut self, rows: usize) {
        self.texts.truncate(rows);
    }
    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let texts = self.texts.finish_text()?;
        Ok(if self.wanted { vec![texts] } else { Vec::new() })
    }
}

#[cold]
fn tombstone() -> Fault {
    fault_of_record(
        "the record has no value (a tombstone), so it is not JSON; upsert = 'true' reads tombstones as deletes of their keys",
    )
}

#[cold]
fn nothing_or_bom(bytes: &[u8], at: usize) -> Option<Fault> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Some(fault(at, "the value is empty"));
    }
    let bom = rest.starts_with(b"\xef\xbb\xbf") || rest.starts_with(b"\xfe\xff") || rest.starts_with(b"\xff\xfe");
    bom.then(|| fault(at, "the value begins with a byte order mark; JSON is UTF-8 without one"))
}

#[cold]
pub(crate) fn not_an_object(bytes: &[u8], at: usize) -> Fault {
    if let Some(fault) = nothing_or_bom(bytes, at) {
        return fault;
    }
    match skip_value(bytes, at, 0) {
        Ok(_) => unexpected(bytes, at, "an object ({)"),
        Err(fault) => fault,
    }
}

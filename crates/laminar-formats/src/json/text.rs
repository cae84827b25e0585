//! Columns of bytes laid end to end: text, JSON as written, bytes from base64.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, NullBufferBuilder, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use laminar_core::Result;

use crate::fault::{Fault, fault};
use crate::json::skip::skip_value;
use crate::json::string;
use crate::json::value::{excerpt, mismatch, quoted};

/// Bytes of any length laid end to end.
pub(crate) struct Bytes {
    pub bytes: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Bytes {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }
    /// Ends the entry whose bytes were just appended; `at` is where it stands in the message.
    #[inline(always)]
    pub fn end_entry(&mut self, at: usize) -> Result<(), Fault> {
        match i32::try_from(self.bytes.len()) {
            Ok(end) => self.offsets.push(end),
            Err(_) => return Err(fault(at, "the batch has more than 2 GiB in this column")),
        }
        self.nulls.append_non_null();
        Ok(())
    }
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }
    pub fn push_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        self.nulls.append_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0);
        self.bytes.truncate(end);
        self.nulls.truncate(rows);
    }
    /// The entries from `row` on.
    pub fn entries_from(&self, row: usize) -> impl Iterator<Item = &[u8]> {
        let ends = self.offsets.get(row..).unwrap_or_default();
        ends.windows(2).map(|pair| match pair {
            [start, end] => self.bytes.get(*start as usize..*end as usize).unwrap_or_default(),
            _ => &[],
        })
    }
    pub fn take(&mut self) -> (OffsetBuffer<i32>, Vec<u8>, Option<NullBuffer>) {
        let mut room = Vec::with_capacity(self.offsets.len());
        room.push(0);
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, room).into());
        // A little more than last time, so that a usual batch does not grow.
        let room = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 16);
        (offsets, std::mem::replace(&mut self.bytes, room), self.nulls.finish())
    }
    pub fn finish_text(&mut self) -> Result<ArrayRef> {
        let (offsets, bytes, nulls) = self.take();
        Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?))
    }
}

/// A string's content, or any other value as written.
pub(crate) struct Texts(pub Bytes);

impl Texts {
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let end = match bytes.get(at) {
            Some(b'"') => string::read(bytes, at + 1, &mut self.0.bytes)?,
            _ => append_as_written(bytes, at, depth, &mut self.0.bytes)?,
        };
        self.0.end_entry(at)?;
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.0.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.0.finish_text()
    }
}

/// Any value as written.
pub(crate) struct JsonTexts(pub Bytes);

impl JsonTexts {
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let end = append_as_written(bytes, at, depth, &mut self.0.bytes)?;
        self.0.end_entry(at)?;
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.0.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.0.finish_text()
    }
}

#[inline(never)]
fn append_as_written(bytes: &[u8], at: usize, depth: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
    let end = skip_value(bytes, at, depth)?;
    out.extend_from_slice(bytes.get(at..end).unwrap_or_default());
    Ok(end)
}

/// Both alphabets of RFC 4648 are read, the padding may be missing.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Bytes written in base64.
pub(crate) struct Binaries(pub Bytes);

impl Binaries {
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let Some((text, end)) = quoted(bytes, at)? else {
            return Err(mismatch(bytes, at, depth, &DataType::Binary));
        };
        let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
        let engine = if url_safe { &URL_SAFE } else { &STANDARD };
        if engine.decode_vec(text.as_ref(), &mut self.0.bytes).is_err() {
            return Err(fault(at, format!("expected BYTEA in base64, found {}", excerpt(bytes, at, end))));
        }
        self.0.end_entry(at)?;
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.0.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let (offsets, bytes, nulls) = self.0.take();
        Ok(Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?))
    }
}

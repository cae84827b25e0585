//! Columns of bytes laid end to end: text, JSON as written, bytes from base64.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use laminar_core::Result;

use crate::columns::Bytes;
use crate::fault::{Fault, fault};
use crate::json::skip::skip_value;
use crate::json::string;
use crate::json::value::{excerpt, mismatch, quoted};

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
        self.0.finish_binary()
    }
}

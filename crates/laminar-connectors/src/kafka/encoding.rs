//! Bytes as base64 in columns of text: `key.encoding`, `value.encoding`.
//!
//! ```text
//!  read:  the record's bytes ─► base64 ─► a column of TEXT      write:  the column's base64 ─► the record's bytes
//! ```
//!
//! So bytes that are no text pass through JSON, SQL and back unharmed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laminar_core::format::{DecodeError, Decoder, EncodedValues};
use laminar_core::source::RawRecord;
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Error, Result};
use laminar_formats::FormatOptions;

use arrow::datatypes::DataType;

use super::sink::options::{Encoding, EncodingOptions, KeyFormat};

impl EncodingOptions {
    /// Does an encoding have a column of text to stand in? `key`: the key's columns.
    ///
    /// Errors: `conflicting_options`, `type_mismatch`.
    pub fn check<'a>(
        &self,
        format: &FormatOptions,
        value: &TableSpec,
        key: impl IntoIterator<Item = &'a DataType>,
    ) -> Result<()> {
        if self.value == Encoding::Base64 {
            if !format.is_raw() {
                let what = "value.encoding = 'base64' needs format = 'raw'";
                return Err(Error::new(Code::ConflictingOptions, what)
                    .with_hint("columns of type BYTEA are base64 in JSON anyway")
                    .with_field("value.encoding"));
            }
            let types = value.columns.iter().filter(|c| c.metadata.is_none()).map(|c| &c.data_type);
            needs_text("value.encoding", types)?;
        }
        if self.key == Encoding::Base64 {
            if let Some(form) = self.key_format.map(KeyFormat::form).filter(|form| form.is_registered()) {
                let what =
                    format!("key.encoding = 'base64' and key.format = '{}' both say what the key is", form.name());
                return Err(Error::new(Code::ConflictingOptions, what)
                    .with_hint("leave one of them out")
                    .with_field("key.encoding"));
            }
            needs_text("key.encoding", key)?;
        }
        Ok(())
    }
}

fn needs_text<'a>(option: &str, types: impl IntoIterator<Item = &'a DataType>) -> Result<()> {
    let types: Vec<_> = types.into_iter().collect();
    if !types.is_empty() && types.iter().all(|t| **t == DataType::Utf8) {
        return Ok(());
    }
    Err(Error::new(Code::TypeMismatch, format!("{option} = 'base64' needs a column of type TEXT"))
        .with_detail("base64 is text that stands for bytes")
        .with_hint("a column of type BYTEA holds the bytes themselves: leave the option out")
        .with_field(option))
}

/// Gives the decoder it wraps base64 in place of keys and values.
pub(super) struct Base64Decoder {
    inner: Box<dyn Decoder>,
    options: EncodingOptions,
    key: String,
    value: String,
}

impl Base64Decoder {
    /// The decoder itself if nothing is encoded.
    pub fn around(inner: Box<dyn Decoder>, options: EncodingOptions) -> Box<dyn Decoder> {
        match (options.key, options.value) {
            (Encoding::None, Encoding::None) => inner,
            _ => Box::new(Self { inner, options, key: String::new(), value: String::new() }),
        }
    }
}

impl Decoder for Base64Decoder {
    fn push(&mut self, record: &RawRecord<'_>) -> std::result::Result<(), DecodeError> {
        let key = encoded(record.key, self.options.key, &mut self.key);
        let value = encoded(record.value, self.options.value, &mut self.value);
        self.inner.push(&RawRecord { key, value, ..*record })
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn flush(&mut self) -> Result<Option<Changes>> {
        self.inner.flush()
    }
}

fn encoded<'a>(bytes: Option<&'a [u8]>, encoding: Encoding, text: &'a mut String) -> Option<&'a [u8]> {
    match (bytes, encoding) {
        (Some(bytes), Encoding::Base64) => {
            text.clear();
            STANDARD.encode_string(bytes, text);
            Some(text.as_bytes())
        }
        (bytes, _) => bytes,
    }
}

/// The bytes that the texts stand for, in their place.
///
/// Errors: `invalid_value` for a text that is no base64.
pub(super) fn decode_values(texts: EncodedValues, what: &str) -> Result<EncodedValues> {
    let mut bytes = EncodedValues { bytes: Vec::with_capacity(texts.bytes.len()), ..EncodedValues::default() };
    for text in texts.iter() {
        STANDARD.decode_vec(text, &mut bytes.bytes).map_err(|error| not_base64(text, what, &error))?;
        bytes.end_value();
    }
    Ok(EncodedValues { rows: texts.rows, tombstones: texts.tombstones, ..bytes })
}

fn not_base64(text: &[u8], what: &str, error: &base64::DecodeError) -> Error {
    let shown: String = String::from_utf8_lossy(text).chars().take(40).collect();
    Error::new(Code::InvalidValue, format!("the {what} '{shown}' is not base64"))
        .with_detail(error.to_string())
        .with_hint(format!("write encode(…, 'base64'), or leave {what}.encoding out"))
}

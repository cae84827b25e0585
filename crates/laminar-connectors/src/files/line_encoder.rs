//! Rows to lines of text: one a value, which is a row or a change.

use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Error, Result};
use laminar_formats::FormatOptions;

/// Encoded rows, each ended by a line break.
#[derive(Debug, Default)]
pub struct EncodedLines {
    pub bytes: Vec<u8>,
    /// One entry per line: the byte after its line break.
    pub ends: Vec<usize>,
}

pub struct LineEncoder {
    encoder: Box<dyn Encoder>,
    values: EncodedValues,
}

/// Refuses a format whose records are not text, so that lines do not part them.
pub fn check_text(format: &FormatOptions) -> Result<()> {
    if format.wants_frame() {
        return Err(Error::new(Code::NotSupported, "records that begin with the id of their schema have no lines")
            .with_hint("use format json without json.confluent_schema_registry, or another connector")
            .with_field("format"));
    }
    if format.is_binary() {
        let message = format!("format {} has no lines", format.format.as_str());
        return Err(Error::new(Code::NotSupported, message)
            .with_detail("its records are bytes that may be line breaks")
            .with_hint("use format json, or another connector")
            .with_field("format"));
    }
    Ok(())
}

/// Refuses a layout that would need more than one line a row.
pub fn check_lines(format: &FormatOptions) -> Result<()> {
    check_text(format)?;
    match format.json_pretty {
        Some(true) => Err(Error::new(Code::ConflictingOptions, "option json.pretty cannot be true: a row is one line")
            .with_field("json.pretty")),
        _ => Ok(()),
    }
}

impl LineEncoder {
    pub fn new(format: &FormatOptions, table: &TableSpec) -> Result<Self> {
        let encoder = laminar_formats::encoder(format, table)?;
        Ok(Self { encoder, values: EncodedValues::default() })
    }

    /// One line per value, in order. Errors: `invalid_value` for a value that has a line break in it.
    pub fn encode(&mut self, changes: &Changes) -> Result<EncodedLines> {
        self.values.clear();
        self.encoder.encode(changes, &mut self.values)?;
        let mut lines = EncodedLines {
            bytes: Vec::with_capacity(self.values.bytes.len() + self.values.len()),
            ends: Vec::with_capacity(self.values.len()),
        };
        for value in self.values.iter() {
            if value.contains(&b'\n') {
                return Err(Error::new(Code::InvalidValue, "a value with a line break cannot be written as one line"));
            }
            lines.bytes.extend_from_slice(value);
            lines.bytes.push(b'\n');
            lines.ends.push(lines.bytes.len());
        }
        Ok(lines)
    }
}

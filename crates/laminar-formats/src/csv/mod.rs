//! CSV: one line of fields a record, in the order of the table's columns (RFC 4180).
//!
//! ```text
//!  1,"a ""quoted"", long text",,2024-01-31T00:00:00Z      4 fields: 1 | a "quoted", long text | NULL | …
//! ```
//!
//! A field without quotes that is the null text (empty, unless `csv_null` says otherwise) is NULL; with quotes it is that text. A
//! field means what a JSON string of its content means in the column's type; a JSON, array, STRUCT or MAP column takes JSON text.
//!
//! The rule: a record has exactly as many fields as the table has columns, or it is a bad record. A blank line of a
//! file is no record; but for a table of one column it is that column's empty field, which is NULL unless `csv_null` says otherwise.

mod decode;
mod encode;
mod split;

use laminar_core::table::Column;
use laminar_core::{Code, Error, Result};

pub(crate) use decode::CsvDecoder;
pub(crate) use encode::CsvEncoder;

use crate::json;
use crate::options::FormatOptions;

/// How fields are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub delimiter: u8,
    pub quote: u8,
    pub null: Vec<u8>,
}

impl Dialect {
    /// Errors: `invalid_option`, `conflicting_options`.
    pub fn of(options: &FormatOptions) -> Result<Self> {
        let delimiter = character("csv_delimiter", options.csv_delimiter.as_deref(), b',')?;
        let quote = character("csv_quote", options.csv_quote.as_deref(), b'"')?;
        let null = options.csv_null.clone().unwrap_or_default().into_bytes();
        if delimiter == quote {
            let message = "csv_delimiter and csv_quote are the same character";
            return Err(Error::new(Code::ConflictingOptions, message).with_field("csv_quote"));
        }
        if null.iter().any(|byte| [delimiter, quote, b'\n', b'\r'].contains(byte)) {
            let message = "option csv_null has the delimiter, the quote or a line break in it, so it cannot be a field";
            return Err(Error::new(Code::InvalidOption, message).with_field("csv_null"));
        }
        Ok(Self { delimiter, quote, null })
    }
}

fn character(key: &str, text: Option<&str>, default: u8) -> Result<u8> {
    match text.map(str::as_bytes) {
        None => Ok(default),
        Some(b"\\t") => Ok(b'\t'),
        Some([byte]) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(*byte),
        Some(_) => {
            let text = text.unwrap_or_default();
            Err(Error::new(Code::InvalidOption, format!("option {key} cannot be '{text}'"))
                .with_detail("expected one character of ASCII, or \\t for a tab")
                .with_field(key))
        }
    }
}

/// Refuses a column that has no CSV form.
pub(crate) fn check_column(column: &Column) -> Result<()> {
    if json::can_write(&column.data_type) { Ok(()) } else { json::check_column(column) }
}

//! Rows to records: one line of fields a row, without a line break at its end.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Result};

use super::{Dialect, check_column};
use crate::internal;
use crate::json::out::Out;
use crate::json::refuse_changes;
use crate::json::write::{Style, write_column_item, write_fields};
use crate::options::{FormatOptions, TimestampFormat};
use crate::text_column::texts;

/// Writes one line a row.
pub(crate) struct CsvEncoder {
    dialect: Dialect,
    columns: Vec<Field>,
    style: Style,
}

impl CsvEncoder {
    /// Errors with `not_supported` if a column's type cannot be written.
    pub fn new(options: &FormatOptions, table: &TableSpec) -> Result<Self> {
        table.columns.iter().try_for_each(check_column)?;
        let format = options.timestamp_format();
        let timestamps = (format != TimestampFormat::Rfc3339).then_some(format);
        let columns = table.columns.iter().map(laminar_core::table::Column::field).collect();
        Ok(Self { dialect: Dialect::of(options)?, columns, style: Style { include_nulls: true, timestamps } })
    }

    /// A column's values as text; null where the column is.
    fn texts(&self, field: &Field, column: &ArrayRef) -> Result<StringArray> {
        let texts = match column.data_type() {
            DataType::Float32 | DataType::Float64 => {
                let doubles = cast(column, &DataType::Float64)?;
                let single = *column.data_type() == DataType::Float32;
                doubles
                    .as_primitive::<Float64Type>()
                    .iter()
                    .map(|value| value.map(|value| float(value, single)))
                    .collect()
            }
            DataType::Binary => {
                column.as_binary::<i32>().iter().map(|bytes| bytes.map(|bytes| STANDARD.encode(bytes))).collect()
            }
            DataType::Timestamp(..) if self.style.timestamps.is_some() => self.as_json(field, column)?,
            DataType::List(_) | DataType::Struct(_) | DataType::Map(..) => self.as_json(field, column)?,
            _ => texts(column)?,
        };
        let nulls = column.logical_nulls();
        Ok(StringArray::try_new(texts.offsets().clone(), texts.values().clone(), nulls)?)
    }

    fn as_json(&self, field: &Field, column: &ArrayRef) -> Result<StringArray> {
        let mut writers = write_fields(&vec![field.clone()].into(), &[Arc::clone(column)], self.style)?;
        let writer = writers.first_mut().ok_or_else(|| internal("a column without a writer"))?;
        let mut text = Vec::new();
        let mut all = Vec::with_capacity(column.len());
        for row in 0..column.len() {
            text.clear();
            write_column_item(&mut Out::new(&mut text), writer, row, self.style);
            all.push(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(StringArray::from_iter_values(all))
    }
}

/// The shortest text that reads back the same.
fn float(value: f64, single: bool) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let mut buffer = zmij::Buffer::new();
    if single { buffer.format_finite(value as f32).into() } else { buffer.format_finite(value).into() }
}

impl Dialect {
    /// Appends a field, in quotes where it needs them.
    fn write(&self, text: &[u8], out: &mut Vec<u8>) {
        let special = |byte: &u8| *byte == self.delimiter || *byte == self.quote || matches!(byte, b'\n' | b'\r');
        let edge = |byte: Option<&u8>| byte == Some(&b' ');
        if text != self.null
            && !text.is_empty()
            && !text.iter().any(special)
            && !edge(text.first())
            && !edge(text.last())
        {
            return out.extend_from_slice(text);
        }
        out.push(self.quote);
        for byte in text {
            if *byte == self.quote {
                out.push(self.quote);
            }
            out.push(*byte);
        }
        out.push(self.quote);
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        refuse_changes(changes, "csv")?;
        let rows = changes.rows();
        if rows.num_columns() != self.columns.len() {
            return Err(internal("the rows have other columns than the sink"));
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for (field, column) in self.columns.iter().zip(rows.columns()) {
            columns.push(self.texts(field, &cast(column, field.data_type())?)?);
        }
        for row in 0..rows.num_rows() {
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    out.bytes.push(self.dialect.delimiter);
                }
                match column.is_null(row) {
                    true => out.bytes.extend_from_slice(&self.dialect.null),
                    false => self.dialect.write(column.value(row).as_bytes(), &mut out.bytes),
                }
            }
            out.end_value();
        }
        Ok(())
    }
}

//! Values as they are: one column, TEXT or BYTEA, holds the record's bytes.
//!
//! A tombstone is NULL in both directions, where the outside system has such a thing; where not, writing null is an error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::Column;
use laminar_core::{Changes, Code, Error, Result};

use crate::fault::{Fault, fault, fault_of_record, in_column, of_constraint};
use crate::internal;
use crate::json::refuse_changes;
use crate::record::ValueDecoder;

/// Fills the one value column, or none if the query does not read it.
pub(crate) struct RawDecoder {
    column: Option<Column>,
    values: Vec<Option<(usize, usize)>>,
    bytes: Vec<u8>,
}

impl RawDecoder {
    pub fn new(mut columns: Vec<Column>) -> Result<Self> {
        let column = columns.pop();
        if !columns.is_empty() {
            return Err(internal("format raw has one value column"));
        }
        Ok(Self { column, values: Vec::new(), bytes: Vec::new() })
    }
}

impl ValueDecoder for RawDecoder {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        let Some(column) = &self.column else { return Ok(()) };
        let Some(value) = value else {
            if !column.nullable {
                let message = "the record has no value (a tombstone), and the column is NOT NULL";
                return Err(in_column(of_constraint(fault_of_record(message)), &column.name));
            }
            self.values.push(None);
            return Ok(());
        };
        if column.data_type == DataType::Utf8
            && let Err(error) = simdutf8::compat::from_utf8(value)
        {
            return Err(in_column(fault(error.valid_up_to(), "the value is not UTF-8"), &column.name));
        }
        let start = self.bytes.len();
        if start.saturating_add(value.len()) > i32::MAX as usize {
            return Err(in_column(fault_of_record("the batch has more than 2 GiB of text"), &column.name));
        }
        self.bytes.extend_from_slice(value);
        self.values.push(Some((start, self.bytes.len())));
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        let end = self.values.iter().rev().find_map(|value| value.map(|(_, end)| end)).unwrap_or(0);
        self.bytes.truncate(end);
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let (values, bytes) = (std::mem::take(&mut self.values), std::mem::take(&mut self.bytes));
        let Some(column) = &self.column else { return Ok(Vec::new()) };
        let offsets = OffsetBuffer::<i32>::from_lengths(values.iter().map(|v| v.map_or(0, |(start, end)| end - start)));
        let nulls = values.iter().any(Option::is_none).then(|| values.iter().map(Option::is_some).collect());
        let array: ArrayRef = if column.data_type == DataType::Utf8 {
            Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?)
        } else {
            Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?)
        };
        Ok(vec![array])
    }
}

/// Writes the only column's bytes.
pub(crate) struct RawEncoder {
    name: String,
    nulls: Nulls,
}

/// What is written for a null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// It is refused.
    Refused,
    Tombstones,
}

impl RawEncoder {
    pub fn new(schema: &Schema, nulls: Nulls) -> Result<Self> {
        match schema.fields().iter().as_slice() {
            [field] if cast_to_bytes(field.data_type()) => Ok(Self { name: field.name().clone(), nulls }),
            [field] => Err(Error::new(
                Code::TypeMismatch,
                format!("column {} is neither TEXT nor BYTEA, so it cannot be a record's whole value", field.name()),
            )),
            fields => Err(Error::new(
                Code::ColumnCount,
                format!("a record's whole value is one column, and the table has {}", fields.len()),
            )),
        }
    }
}

fn cast_to_bytes(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView)
}

impl Encoder for RawEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        refuse_changes(changes, "raw")?;
        let column = changes.rows().columns().first().ok_or_else(|| internal("a row without columns"))?;
        let bytes = cast(column, &DataType::Binary)?;
        let bytes = bytes.as_binary::<i32>();
        if bytes.null_count() > 0 && self.nulls == Nulls::Refused {
            return Err(Error::new(
                Code::InvalidValue,
                format!("column {} is null, and a record needs a value", self.name),
            )
            .with_hint("filter such rows out, or use coalesce"));
        }
        for value in bytes {
            out.bytes.extend_from_slice(value.unwrap_or_default());
            out.end_value();
        }
        if bytes.null_count() > 0 {
            out.tombstones.extend(bytes.iter().map(|value| value.is_none()));
        }
        Ok(())
    }
}

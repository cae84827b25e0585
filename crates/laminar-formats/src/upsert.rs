//! Changes to values under a primary key: of each key what is there now, or that nothing is.

use arrow::array::{Array, RecordBatch};
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Error, Result};

use crate::internal;
use crate::json::JsonEncoder;
use crate::net::net_by_key;
use crate::options::FormatOptions;

/// A format that writes each row by itself, whatever the row does.
pub(crate) trait RowEncoder: Send {
    /// Appends one value a row.
    fn write(&mut self, rows: &RecordBatch, out: &mut EncodedValues) -> Result<()>;
}

impl RowEncoder for JsonEncoder {
    fn write(&mut self, rows: &RecordBatch, out: &mut EncodedValues) -> Result<()> {
        JsonEncoder::write(self, rows, out)
    }
}

/// Writes one object or tombstone for each key of a call.
pub(crate) struct UpsertEncoder {
    format: Box<dyn RowEncoder>,
    keys: KeyEncoder,
    /// The rows as objects, reused from call to call.
    rows: EncodedValues,
}

impl UpsertEncoder {
    pub fn new(format: Box<dyn RowEncoder>, table: &TableSpec) -> Result<Self> {
        Ok(Self { format, keys: KeyEncoder::new(table)?, rows: EncodedValues::default() })
    }
}

impl Encoder for UpsertEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        let Some(kinds) = changes.kinds() else { return self.format.write(changes.rows(), out) };
        self.keys.refuse_nulls(changes.rows())?;
        self.rows.clear();
        self.format.write(changes.rows(), &mut self.rows)?;
        for net in net_by_key(kinds, self.keys.of(changes.rows())?, &self.rows) {
            if let Some(row) = net.after {
                out.bytes.extend_from_slice(self.rows.get(row as usize));
            }
            out.end_value();
            out.rows.extend(net.after.or(net.before));
            out.tombstones.push(net.after.is_none());
        }
        Ok(())
    }
}

/// The primary key of each row, as an object of its columns.
pub(crate) struct KeyEncoder {
    columns: Vec<usize>,
    json: JsonEncoder,
    keys: EncodedValues,
}

impl KeyEncoder {
    pub fn new(table: &TableSpec) -> Result<Self> {
        let column = |name: &String| table.columns.iter().position(|column| column.name == *name);
        let columns: Option<Vec<usize>> = table.primary_key.iter().map(column).collect();
        let columns = columns.ok_or_else(|| internal(format!("table {} lacks a column of its key", table.name)))?;
        let schema = table.schema().project(&columns)?;
        let json = JsonEncoder::new(&schema, &FormatOptions::default())?;
        Ok(Self { columns, json, keys: EncodedValues::default() })
    }

    /// The keys of the rows, one each.
    pub fn of(&mut self, rows: &RecordBatch) -> Result<&EncodedValues> {
        self.keys.clear();
        self.json.write(&rows.project(&self.columns)?, &mut self.keys)?;
        Ok(&self.keys)
    }

    fn refuse_nulls(&self, rows: &RecordBatch) -> Result<()> {
        let schema = rows.schema();
        let null = self.columns.iter().find(|index| rows.columns().get(**index).is_some_and(|c| c.null_count() > 0));
        match null.and_then(|index| schema.fields().get(*index)) {
            Some(field) => {
                let message = format!("column {} of the primary key is null", field.name());
                Err(Error::new(Code::InvalidValue, message).with_hint("filter such rows out, or use coalesce"))
            }
            None => Ok(()),
        }
    }
}

//! One record, one row; the table's columns are read by those of JSON.

use arrow::array::ArrayRef;
use laminar_core::table::Column;
use laminar_core::{ChangeKind, Result};

use super::Dialect;
use super::split::{Field, Fields, without_line_break};
use crate::fault::{Fault, fault, fault_of_record, in_column, of_constraint};
use crate::json::column::{self, Slot};
use crate::json::out::write_string;
use crate::json::scan::{expect_end, skip_space};
use crate::options::{FormatOptions, TimestampFormat};
use crate::record::ValueDecoder;

/// A longer field fits text, JSON and bytes only.
const MAX_VALUE_BYTES: usize = 4096;

/// Fills the wanted columns from fields by their place.
pub(crate) struct CsvDecoder {
    dialect: Dialect,
    names: Vec<String>,
    /// Per field: the slot that it fills, if it is read.
    places: Vec<Option<usize>>,
    slots: Vec<Slot>,
    header: bool,
    rows: usize,
    pushed: &'static [ChangeKind],
    /// A field as a JSON string, reused from field to field.
    scratch: Vec<u8>,
}

impl CsvDecoder {
    /// `columns` are all that the table has in its value; `wanted` says which are decoded, in which order.
    pub fn new(options: &FormatOptions, columns: &[Column], wanted: &[usize], format: TimestampFormat) -> Result<Self> {
        let slots = wanted.iter().filter_map(|index| columns.get(*index));
        let slots = slots.map(|column| Slot::new(&column.field(), format)).collect::<Result<Vec<_>>>()?;
        let places = (0..columns.len()).map(|index| wanted.iter().position(|wanted| *wanted == index)).collect();
        Ok(Self {
            dialect: Dialect::of(options)?,
            names: columns.iter().map(|column| column.name.clone()).collect(),
            places,
            slots,
            header: options.csv_header.unwrap_or(false),
            rows: 0,
            pushed: &[],
            scratch: Vec::new(),
        })
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields::new(bytes, &self.dialect);
        let mut count = 0;
        while let Some(field) = fields.next()? {
            if let Some(Some(place)) = self.places.get(count)
                && let Some(slot) = self.slots.get_mut(*place)
            {
                let read = fill(slot, &field, &self.dialect.null, &mut self.scratch);
                read.map_err(|fault| at_field(in_column(fault, &slot.name), field.at))?;
            }
            count += 1;
        }
        if count != self.places.len() {
            let (found, wanted) = (plural(count, "field"), plural(self.places.len(), "column"));
            return Err(fault(bytes.len(), format!("the record has {found}, the table has {wanted}")));
        }
        self.rows += 1;
        Ok(())
    }

    /// Are the fields the names of the columns?
    fn is_header(&self, bytes: &[u8]) -> bool {
        let mut fields = Fields::new(bytes, &self.dialect);
        let same = |field: &Field<'_>, name: &String| {
            std::str::from_utf8(&field.content).is_ok_and(|text| text.to_lowercase() == name.to_lowercase())
        };
        self.names.iter().all(|name| matches!(fields.next(), Ok(Some(field)) if same(&field, name)))
            && matches!(fields.next(), Ok(None))
    }
}

fn fill(slot: &mut Slot, field: &Field<'_>, null: &[u8], scratch: &mut Vec<u8>) -> Result<(), Fault> {
    let text: &[u8] = &field.content;
    if !field.quoted && text == null {
        if !slot.nullable {
            return Err(of_constraint(fault(0, "NULL in a NOT NULL column")));
        }
        slot.column.push_null();
        return Ok(());
    }
    let utf8 = simdutf8::compat::from_utf8(text);
    let utf8 = utf8.map_err(|error| fault(error.valid_up_to(), "the text is not UTF-8"))?;
    match &mut slot.column {
        column::Column::Text(texts) => {
            texts.0.bytes.extend_from_slice(text);
            texts.0.end_entry(0)
        }
        column @ (column::Column::Json(_)
        | column::Column::List(_)
        | column::Column::Struct(_)
        | column::Column::Map(_)) => {
            let end = column.read(text, skip_space(text, 0), 0)?;
            expect_end(text, end)
        }
        // No number, time or truth is as long; noise that is must not cost more than its length.
        column if text.len() > MAX_VALUE_BYTES && !matches!(column, column::Column::Binary(_)) => {
            Err(fault(0, format!("a text of {} bytes is no value of the column's type", text.len())))
        }
        column => {
            scratch.clear();
            match column {
                // As spreadsheets write it.
                column::Column::Boolean(_) => write_string(scratch, &utf8.to_ascii_lowercase()),
                _ => write_string(scratch, utf8),
            }
            column.read(scratch, 0, 0).map(drop)
        }
    }
}

/// The fault of a value at its place in the record.
#[cold]
fn at_field(mut fault: Fault, at: usize) -> Fault {
    fault.offset = Some(at);
    fault
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl ValueDecoder for CsvDecoder {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        self.pushed = &[];
        let Some(bytes) = value else {
            return Err(fault_of_record("the record has no value (a tombstone), so it is not CSV"));
        };
        let bytes = without_line_break(bytes);
        if self.header && self.is_header(bytes) {
            return Ok(());
        }
        let rows = self.rows;
        match self.read(bytes) {
            Ok(()) => {
                self.pushed = &[ChangeKind::Insert];
                Ok(())
            }
            Err(fault) => {
                self.truncate(rows);
                Err(fault)
            }
        }
    }
    fn pushed(&self) -> &'static [ChangeKind] {
        self.pushed
    }
    fn truncate(&mut self, rows: usize) {
        self.slots.iter_mut().for_each(|slot| slot.column.truncate(rows));
        self.rows = rows;
    }
    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.slots.iter_mut().map(|slot| slot.column.finish()).collect()
    }
}

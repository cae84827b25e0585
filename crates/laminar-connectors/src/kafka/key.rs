//! The keys of a sink's records: a column's value as it is, or the primary key's columns as a JSON object.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Error, Result};
use laminar_formats::FormatOptions;

/// The columns that key the records, by their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyColumns {
    /// Records have no key.
    None,
    One(usize),
    /// A primary key of several, or of a type that has no bytes of its own.
    Object(Vec<usize>),
}

impl KeyColumns {
    /// The column that the option `key_field` names, else the primary key.
    ///
    /// Errors: `unknown_column`, `type_mismatch`, `not_supported`.
    pub fn of(key_field: Option<&str>, table: &TableSpec) -> Result<Self> {
        if let Some(name) = key_field {
            return key_column(name, table).map(Self::One);
        }
        let index = |name: &String| table.columns.iter().position(|column| column.name == *name);
        let indices: Option<Vec<usize>> = table.primary_key.iter().map(index).collect();
        let missing = || Error::internal(format!("table {} lacks a column of its key", table.name));
        let indices = indices.ok_or_else(missing)?;
        let plain = |index: &usize| table.columns.get(*index).is_some_and(|column| is_plain(&column.data_type));
        match indices.as_slice() {
            [] => Ok(Self::None),
            [index] if plain(index) => Ok(Self::One(*index)),
            _ => {
                key_encoder(&indices, table)?;
                Ok(Self::Object(indices))
            }
        }
    }

    /// Two rows of the table have the same key exactly if they have the same primary key.
    pub fn is_primary(&self, table: &TableSpec) -> bool {
        match self {
            Self::None => false,
            Self::Object(_) => true,
            Self::One(index) => {
                let name = table.columns.get(*index).map(|column| column.name.as_str());
                matches!((table.primary_key.as_slice(), name), ([key], Some(name)) if key == name)
            }
        }
    }
}

fn key_column(name: &str, table: &TableSpec) -> Result<usize> {
    let found = table.columns.iter().position(|c| c.name == *name);
    let found = found.or_else(|| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)));
    let Some((index, column)) = found.and_then(|i| Some((i, table.columns.get(i)?))) else {
        let names = table.columns.iter().map(|c| c.name.as_str());
        let error = Error::new(Code::UnknownColumn, format!("table {} has no column {name}", table.name))
            .with_field("key_field");
        return Err(match laminar_core::options::nearest(name, names) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error,
        });
    };
    if is_plain(&column.data_type) {
        return Ok(index);
    }
    Err(Error::new(Code::TypeMismatch, format!("column {name} cannot be the record's key"))
        .with_detail("a key is text, an integer or bytes")
        .with_field("key_field"))
}

/// A value of the type is a key as it is.
fn is_plain(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary) || data_type.is_integer()
}

fn key_encoder(columns: &[usize], table: &TableSpec) -> Result<Box<dyn Encoder>> {
    let key = TableSpec {
        columns: columns.iter().filter_map(|index| table.columns.get(*index)).cloned().collect(),
        projection: (0..columns.len()).collect(),
        event_time: None,
        ..table.clone()
    };
    laminar_formats::encoder(&FormatOptions::default(), &key)
}

/// Makes the keys of one batch after another.
pub(super) struct KeyMaker {
    columns: KeyColumns,
    /// Of keys that are objects.
    encoder: Option<Box<dyn Encoder>>,
}

impl KeyMaker {
    pub fn new(columns: &KeyColumns, table: &TableSpec) -> Result<Self> {
        let encoder = match columns {
            KeyColumns::Object(columns) => Some(key_encoder(columns, table)?),
            _ => None,
        };
        Ok(Self { columns: columns.clone(), encoder })
    }

    /// The keys of the rows.
    pub fn keys(&mut self, changes: &Changes) -> Result<Keys> {
        match (&self.columns, &mut self.encoder) {
            (KeyColumns::One(index), _) => {
                let column = changes.rows().columns().get(*index);
                Keys::of_column(column.ok_or_else(|| Error::internal("the column of the record's key is missing"))?)
            }
            (KeyColumns::Object(columns), Some(encoder)) => {
                let rows = Changes::inserts(changes.rows().project(columns)?, changes.times().clone())?;
                let mut keys = EncodedValues::default();
                encoder.encode(&rows, &mut keys)?;
                Ok(Keys::Objects(keys))
            }
            _ => Ok(Keys::None),
        }
    }
}

/// The keys of a batch's rows.
pub(super) enum Keys {
    None,
    Text(StringArray),
    Bytes(BinaryArray),
    Objects(EncodedValues),
}

impl Keys {
    fn of_column(column: &ArrayRef) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Binary => Self::Bytes(column.as_binary::<i32>().clone()),
            DataType::Utf8 => Self::Text(column.as_string::<i32>().clone()),
            _ => Self::Text(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()),
        })
    }

    /// The key of the row; `None` if its column is null.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(keys) if row < keys.len() && keys.is_valid(row) => Some(keys.value(row).as_bytes()),
            Self::Bytes(keys) if row < keys.len() && keys.is_valid(row) => Some(keys.value(row)),
            Self::Objects(keys) => Some(keys.get(row)),
            _ => None,
        }
    }
}

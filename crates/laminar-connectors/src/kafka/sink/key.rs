//! The keys of a sink's records: a column's value as it is, an object or record of columns, or a text with placeholders.
//!
//! ```text
//!  key_field or _kafka_key ─┐ where it is null
//!                           ├─────────────────► sink.key ─► else no key
//!  PRIMARY KEY ─────────────┘ only without any of the others
//! ```

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Error, Result};
use laminar_formats::{FormatContext, KeyForm, key_encoder};

use super::options::{Encoding, KeyFormat};
use super::template::{Renderer, Template, column_index, unknown_column};
use crate::kafka::encoding::decode_values;

/// The columns that key the records, by their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyColumns {
    /// Records have no key.
    None,
    One(usize),
    /// Several, one of a type that has no bytes of its own, or any in a format with schemas.
    Object(Vec<usize>),
}

impl KeyColumns {
    /// The columns that the option `key_field` names, else `metadata`, a column whose name says so; else, if `by_default`, the
    /// primary key.
    ///
    /// Errors: `unknown_column`, `type_mismatch`, `conflicting_options`, `not_supported`, `missing_option` without the registry that
    /// the format needs.
    pub fn of(
        key_field: Option<&str>,
        metadata: Option<usize>,
        by_default: bool,
        format: Option<KeyFormat>,
        table: &TableSpec,
        formats: &FormatContext,
    ) -> Result<Self> {
        let (indices, option) = match (key_field, metadata) {
            (Some(names), Some(index)) => {
                let column = table.columns.get(index).map_or("", |column| column.name.as_str());
                let what = format!("key_field = '{names}' and column {column} are both the record's key");
                return Err(Error::new(Code::ConflictingOptions, what)
                    .with_hint("leave one of them out")
                    .with_field("key_field"));
            }
            (Some(names), None) => (named(names, table)?, true),
            (None, Some(index)) => (vec![index], true),
            (None, None) if by_default => (primary(table)?, false),
            (None, None) => (Vec::new(), false),
        };
        let plain = |index: &usize| table.columns.get(*index).is_some_and(|column| is_plain(&column.data_type));
        match (indices.as_slice(), format) {
            ([], Some(_)) => Err(Error::new(Code::ConflictingOptions, "key.format is given, and records have no key")
                .with_hint("add key_field")
                .with_field("key.format")),
            ([], None) => Ok(Self::None),
            ([index], None | Some(KeyFormat::Raw)) if plain(index) => Ok(Self::One(*index)),
            ([index], Some(KeyFormat::Raw)) => Err(not_plain(*index, table)),
            ([index], None) if option => Err(not_plain(*index, table)),
            (_, Some(KeyFormat::Raw)) => {
                Err(Error::new(Code::ConflictingOptions, "key.format = 'raw' is for a key of one column")
                    .with_hint("use key.format = 'json'")
                    .with_field("key.format"))
            }
            _ => {
                encoder(&indices, format, table, formats)?;
                Ok(Self::Object(indices))
            }
        }
    }

    pub fn indices(&self) -> &[usize] {
        match self {
            Self::None => &[],
            Self::One(index) => std::slice::from_ref(index),
            Self::Object(indices) => indices,
        }
    }

    /// Two rows of the table have the same key exactly if they have the same primary key.
    pub fn is_primary(&self, table: &TableSpec) -> bool {
        let names = self.indices().iter().filter_map(|index| table.columns.get(*index)).map(|column| &column.name);
        let mut names: Vec<_> = names.collect();
        let mut primary: Vec<_> = table.primary_key.iter().collect();
        names.sort();
        primary.sort();
        !names.is_empty() && names == primary
    }
}

/// `a` or `a, b`.
fn named(names: &str, table: &TableSpec) -> Result<Vec<usize>> {
    if let Some(index) = column_index(names, table) {
        return Ok(vec![index]);
    }
    let names = names.split(',').map(str::trim);
    names.map(|name| column_index(name, table).ok_or_else(|| unknown_column(name, table, "key_field"))).collect()
}

fn primary(table: &TableSpec) -> Result<Vec<usize>> {
    let index = |name: &String| table.columns.iter().position(|column| column.name == *name);
    let indices: Option<Vec<usize>> = table.primary_key.iter().map(index).collect();
    indices.ok_or_else(|| Error::internal(format!("table {} lacks a column of its key", table.name)))
}

fn not_plain(index: usize, table: &TableSpec) -> Error {
    let name = table.columns.get(index).map_or("", |column| column.name.as_str());
    Error::new(Code::TypeMismatch, format!("column {name} cannot be the record's key"))
        .with_detail("a key is text, an integer or bytes")
        .with_hint("key.format = 'json' writes any type, as an object")
        .with_field("key_field")
}

/// A value of the type is a key as it is.
fn is_plain(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary) || data_type.is_integer()
}

/// Of keys that are more than one column's value.
fn encoder(
    columns: &[usize],
    format: Option<KeyFormat>,
    table: &TableSpec,
    formats: &FormatContext,
) -> Result<Box<dyn Encoder>> {
    let key = TableSpec {
        columns: columns.iter().filter_map(|index| table.columns.get(*index)).cloned().collect(),
        projection: (0..columns.len()).collect(),
        event_time: None,
        ..table.clone()
    };
    key_encoder(format.map_or(KeyForm::Json, KeyFormat::form), &key, formats)
}

/// Where the keys of a table's records come from.
#[derive(Clone, Debug)]
pub(crate) struct KeyPlan {
    pub columns: KeyColumns,
    pub format: Option<KeyFormat>,
    /// Of records that have none from a column.
    pub template: Option<Template>,
    pub encoding: Encoding,
}

/// Makes the keys of one batch after another.
pub(crate) struct KeyMaker {
    columns: KeyColumns,
    /// Of keys that are objects or records.
    encoder: Option<Box<dyn Encoder>>,
    renderer: Option<Renderer>,
    encoding: Encoding,
}

impl KeyMaker {
    /// `renderer`: of the plan's template.
    pub fn new(plan: &KeyPlan, renderer: Option<Renderer>, table: &TableSpec, formats: &FormatContext) -> Result<Self> {
        let encoder = match &plan.columns {
            KeyColumns::Object(columns) => Some(encoder(columns, plan.format, table, formats)?),
            _ => None,
        };
        Ok(Self { columns: plan.columns.clone(), encoder, renderer, encoding: plan.encoding })
    }

    /// The keys of the rows.
    pub fn keys(&mut self, changes: &Changes) -> Result<Keys> {
        let keys = self.of_columns(changes)?;
        let Some(renderer) = &mut self.renderer else { return Ok(keys) };
        if !keys.lacks_some() {
            return Ok(keys);
        }
        let mut texts = EncodedValues::default();
        renderer.render(changes, &mut texts)?;
        Ok(match keys {
            Keys::None => Keys::Encoded(texts),
            keys => Keys::OrElse(Box::new(keys), texts),
        })
    }

    fn of_columns(&mut self, changes: &Changes) -> Result<Keys> {
        match (&self.columns, &mut self.encoder) {
            (KeyColumns::One(index), _) => {
                let column = changes.rows().columns().get(*index);
                let column = column.ok_or_else(|| Error::internal("the column of the record's key is missing"))?;
                match self.encoding {
                    Encoding::None => Keys::of_column(column),
                    Encoding::Base64 => Keys::of_base64(column),
                }
            }
            (KeyColumns::Object(columns), Some(encoder)) => {
                let rows = Changes::inserts(changes.rows().project(columns)?, changes.times().clone())?;
                let mut keys = EncodedValues::default();
                encoder.encode(&rows, &mut keys)?;
                Ok(Keys::Encoded(keys))
            }
            _ => Ok(Keys::None),
        }
    }
}

/// The keys of a batch's rows.
pub(crate) enum Keys {
    None,
    Text(StringArray),
    Bytes(BinaryArray),
    /// One for each row.
    Encoded(EncodedValues),
    /// Where the first have none, the second.
    OrElse(Box<Keys>, EncodedValues),
}

impl Keys {
    fn of_column(column: &ArrayRef) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Binary => Self::Bytes(column.as_binary::<i32>().clone()),
            DataType::Utf8 => Self::Text(column.as_string::<i32>().clone()),
            _ => Self::Text(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()),
        })
    }

    fn of_base64(column: &ArrayRef) -> Result<Self> {
        let texts = cast(column, &DataType::Binary)?;
        let texts = texts.as_binary::<i32>();
        let mut values = EncodedValues::default();
        for row in 0..texts.len() {
            values.bytes.extend_from_slice(if texts.is_valid(row) { texts.value(row) } else { b"" });
            values.end_value();
        }
        let decoded = decode_values(values, "key")?;
        let bytes = (0..texts.len()).map(|row| texts.is_valid(row).then(|| decoded.get(row)));
        Ok(Self::Bytes(BinaryArray::from_iter(bytes)))
    }

    fn lacks_some(&self) -> bool {
        match self {
            Self::None => true,
            Self::Text(keys) => keys.null_count() > 0,
            Self::Bytes(keys) => keys.null_count() > 0,
            Self::Encoded(_) | Self::OrElse(..) => false,
        }
    }

    /// The key of the row; `None` if its column is null.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(keys) if row < keys.len() && keys.is_valid(row) => Some(keys.value(row).as_bytes()),
            Self::Bytes(keys) if row < keys.len() && keys.is_valid(row) => Some(keys.value(row)),
            Self::Encoded(keys) => Some(keys.get(row)),
            Self::OrElse(keys, texts) => keys.get(row).or_else(|| Some(texts.get(row))),
            _ => None,
        }
    }
}

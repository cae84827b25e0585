//! Rows of small answers (system tables, SHOW, DESCRIBE) to a record batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use laminar_core::table::timestamp_type;
use laminar_core::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Text,
    BigInt,
    Boolean,
    /// A cell in milliseconds, shown as TIMESTAMP.
    Time,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    BigInt(i64),
    Boolean(bool),
    /// Milliseconds since 1970 UTC.
    Time(i64),
}

pub(crate) type Row = Vec<Cell>;

/// Rows of what each connection's cluster answered, the connection's name before them and `error` behind; one row of `width`
/// nulls in between for a cluster that did not answer.
pub(crate) fn with_errors<T>(
    answers: Vec<(String, Result<T>)>,
    width: usize,
    rows: impl Fn(T) -> Vec<Row>,
) -> Vec<Row> {
    let mut all = Vec::new();
    for (connection, answer) in answers {
        let (rows, error) = match answer {
            Ok(answer) => (rows(answer), Cell::Null),
            Err(error) => (vec![vec![Cell::Null; width]], Cell::Text(format!("{}: {error}", error.code()))),
        };
        all.extend(rows.into_iter().map(|row| [vec![connection.clone().into()], row, vec![error.clone()]].concat()));
    }
    all
}

impl ColumnType {
    pub fn sql(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::BigInt => "BIGINT",
            Self::Boolean => "BOOLEAN",
            Self::Time => "TIMESTAMP",
        }
    }
}

impl Cell {
    pub fn count(n: u64) -> Self {
        Self::BigInt(i64::try_from(n).unwrap_or(i64::MAX))
    }
    pub fn time(millis: Option<i64>) -> Self {
        millis.map_or(Self::Null, Self::Time)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}
impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}
impl From<Option<i64>> for Cell {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::BigInt)
    }
}
impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}
impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::count(n)
    }
}
impl From<usize> for Cell {
    fn from(n: usize) -> Self {
        Self::count(n as u64)
    }
}

pub(crate) fn schema(columns: &[(&str, ColumnType)]) -> SchemaRef {
    let data_type = |t: ColumnType| match t {
        ColumnType::Text => DataType::Utf8,
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Time => timestamp_type(),
    };
    let fields = columns.iter().map(|(name, t)| Field::new(*name, data_type(*t), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Every row has one cell per column; a cell of another type than its column is null.
pub(crate) fn batch(columns: &[(&str, ColumnType)], rows: Vec<Row>) -> Result<RecordBatch> {
    if let Some(row) = rows.iter().find(|r| r.len() != columns.len()) {
        return Err(Error::internal(format!("a row has {} cells for {} columns", row.len(), columns.len())));
    }
    let arrays = columns.iter().enumerate().map(|(i, (_, t))| column(*t, rows.iter().filter_map(|r| r.get(i))));
    Ok(RecordBatch::try_new(schema(columns), arrays.collect())?)
}

fn column<'a>(column_type: ColumnType, cells: impl Iterator<Item = &'a Cell>) -> ArrayRef {
    match column_type {
        ColumnType::Text => Arc::new(StringArray::from_iter(cells.map(|c| match c {
            Cell::Text(text) => Some(text.as_str()),
            _ => None,
        }))),
        ColumnType::BigInt => Arc::new(Int64Array::from_iter(cells.map(|c| match c {
            Cell::BigInt(n) => Some(*n),
            _ => None,
        }))),
        ColumnType::Boolean => Arc::new(BooleanArray::from_iter(cells.map(|c| match c {
            Cell::Boolean(b) => Some(*b),
            _ => None,
        }))),
        ColumnType::Time => Arc::new(TimestampMicrosecondArray::from_iter(cells.map(|c| match c {
            Cell::Time(millis) => Some(millis.saturating_mul(1_000)),
            _ => None,
        }))),
    }
}

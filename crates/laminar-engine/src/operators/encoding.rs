//! Rows as bytes: keys of maps, and the form in which state keeps rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use arrow::row::{Row, RowConverter, Rows, SortField};
use laminar_core::Result;

/// Rows as bytes that are equal if the rows are. Arrow would not count rows without columns: they get one that is constant.
pub(super) struct Encoding {
    converter: RowConverter,
    columns: usize,
}

impl Encoding {
    pub(super) fn new(mut types: Vec<DataType>) -> Result<Self> {
        let columns = types.len();
        if types.is_empty() {
            types.push(DataType::Boolean);
        }
        let converter = RowConverter::new(types.into_iter().map(SortField::new).collect())?;
        Ok(Self { converter, columns })
    }

    pub(super) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<Rows> {
        match columns {
            [] => Ok(self.converter.convert_columns(&[Arc::new(BooleanArray::from(vec![false; rows]))])?),
            columns => Ok(self.converter.convert_columns(columns)?),
        }
    }

    pub(super) fn decode<'a>(&self, rows: impl IntoIterator<Item = Row<'a>>) -> Result<Vec<ArrayRef>> {
        let mut columns = self.converter.convert_rows(rows)?;
        columns.truncate(self.columns);
        Ok(columns)
    }
}

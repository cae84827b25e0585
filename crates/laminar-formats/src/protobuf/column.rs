//! One column under construction, of any shape.

use arrow::array::ArrayRef;
use laminar_core::Result;

use super::nested::{Lists, Maps, Structs};
use super::scalar::Scalars;
use super::wire::Wire;
use crate::fault::Fault;

pub(super) enum Column {
    Scalar(Scalars),
    Struct(Box<Structs>),
    List(Box<Lists>),
    Map(Box<Maps>),
}

macro_rules! each {
    ($self:expr, $column:ident => $body:expr) => {
        match $self {
            Column::Scalar($column) => $body,
            Column::Struct($column) => $body,
            Column::List($column) => $body,
            Column::Map($column) => $body,
        }
    };
}

impl Column {
    /// Appends one value; of a column that is an array or MAP nothing, as its values are read one by one.
    #[inline(always)]
    pub fn read(&mut self, wire: &mut Wire<'_>) -> Result<(), Fault> {
        match self {
            Self::Scalar(column) => column.read(wire),
            Self::Struct(column) => column.read(wire),
            Self::List(_) | Self::Map(_) => Ok(()),
        }
    }
    /// Appends a null, whatever the table says about nulls.
    pub fn push_null(&mut self) {
        each!(self, column => column.push_null())
    }
    /// Cuts back to `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        each!(self, column => column.truncate(rows))
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        each!(self, column => column.finish())
    }
}

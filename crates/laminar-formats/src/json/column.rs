//! One column under construction: reads a JSON value straight into Arrow's buffers.
//!
//! Every column obeys the same rules:
//! - `read` gets the index of the value's first byte, never that of a `null`, and returns the index after the value;
//! - when `read` errors, the column may be longer than before: whoever knows the row cuts it back with `truncate`;
//! - `finish` hands over the array and leaves an empty column with room for as many rows again.
//!
//! Types are read as PostgreSQL's `json_to_record` reads them: a column gets what the value's text means in its type. A
//! TEXT column takes a string's content, and any other value as written; a number may stand in quotes.

use arrow::array::ArrayRef;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use laminar_core::table::TYPE_KEY;
use laminar_core::{Code, Error, Result};

use crate::columns::{Booleans, Bytes, Values};
use crate::fault::{Fault, fault, in_column, of_constraint};
use crate::json::nested::{Lists, Maps, Structs};
use crate::json::scalar::{Bools, Decimals, Floats, Integers};
use crate::json::scan::literal;
use crate::json::temporal::{Dates, Times, Timestamps};
use crate::json::text::{Binaries, JsonTexts, Texts};
use crate::options::TimestampFormat;
use laminar_core::sql_name::sql_name;

/// A column and what its table says about it.
pub(crate) struct Slot {
    pub name: Box<str>,
    pub nullable: bool,
    pub column: Column,
}

impl Slot {
    pub fn new(field: &Field, format: TimestampFormat) -> Result<Self> {
        let json = field.metadata().get(TYPE_KEY).is_some_and(|kind| kind == "json");
        let column = Column::new(field.data_type(), json, format)?;
        Ok(Self { name: field.name().as_str().into(), nullable: field.is_nullable(), column })
    }

    /// Reads the value at `at`, which may be `null`.
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if bytes.get(at) == Some(&b'n') { self.read_null(bytes, at) } else { self.column.read(bytes, at, depth) }
    }

    fn read_null(&mut self, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        let end = literal(bytes, at, "null")?;
        if !self.nullable {
            return Err(of_constraint(fault(at, "null in a NOT NULL column")));
        }
        self.column.push_null();
        Ok(end)
    }

    /// The value is missing from the object that ends before `at`.
    pub fn read_absent(&mut self, at: usize) -> Result<(), Fault> {
        if !self.nullable {
            return Err(in_column(of_constraint(fault(at, "no value for a NOT NULL column")), &self.name));
        }
        self.column.push_null();
        Ok(())
    }
}

pub(crate) enum Column {
    Boolean(Bools),
    Int8(Integers<Int8Type>),
    Int16(Integers<Int16Type>),
    Int32(Integers<Int32Type>),
    Int64(Integers<Int64Type>),
    UInt8(Integers<UInt8Type>),
    UInt16(Integers<UInt16Type>),
    UInt32(Integers<UInt32Type>),
    UInt64(Integers<UInt64Type>),
    Float32(Floats<Float32Type>),
    Float64(Floats<Float64Type>),
    Decimal(Decimals),
    Text(Texts),
    Json(JsonTexts),
    Binary(Binaries),
    Date(Dates),
    Time(Times),
    Timestamp(Timestamps),
    List(Box<Lists>),
    Struct(Box<Structs>),
    Map(Box<Maps>),
}

macro_rules! each {
    ($self:expr, $column:ident => $body:expr) => {
        match $self {
            Column::Boolean($column) => $body,
            Column::Int8($column) => $body,
            Column::Int16($column) => $body,
            Column::Int32($column) => $body,
            Column::Int64($column) => $body,
            Column::UInt8($column) => $body,
            Column::UInt16($column) => $body,
            Column::UInt32($column) => $body,
            Column::UInt64($column) => $body,
            Column::Float32($column) => $body,
            Column::Float64($column) => $body,
            Column::Decimal($column) => $body,
            Column::Text($column) => $body,
            Column::Json($column) => $body,
            Column::Binary($column) => $body,
            Column::Date($column) => $body,
            Column::Time($column) => $body,
            Column::Timestamp($column) => $body,
            Column::List($column) => $body,
            Column::Struct($column) => $body,
            Column::Map($column) => $body,
        }
    };
}

impl Column {
    pub fn new(data_type: &DataType, json: bool, format: TimestampFormat) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(Bools(Booleans::new())),
            DataType::Int8 => Self::Int8(Integers::new()),
            DataType::Int16 => Self::Int16(Integers::new()),
            DataType::Int32 => Self::Int32(Integers::new()),
            DataType::Int64 => Self::Int64(Integers::new()),
            DataType::UInt8 => Self::UInt8(Integers::new()),
            DataType::UInt16 => Self::UInt16(Integers::new()),
            DataType::UInt32 => Self::UInt32(Integers::new()),
            DataType::UInt64 => Self::UInt64(Integers::new()),
            DataType::Float32 => Self::Float32(Floats(Values::new())),
            DataType::Float64 => Self::Float64(Floats(Values::new())),
            DataType::Decimal128(precision, scale) => Self::Decimal(Decimals::new(*precision, *scale)),
            DataType::Utf8 if json => Self::Json(JsonTexts(Bytes::new())),
            DataType::Utf8 => Self::Text(Texts(Bytes::new())),
            DataType::Binary => Self::Binary(Binaries(Bytes::new())),
            DataType::Date32 => Self::Date(Dates(Values::new())),
            DataType::Time64(unit) => Self::Time(Times { unit: *unit, values: Values::new() }),
            DataType::Timestamp(unit, zone) => Self::Timestamp(Timestamps::new(*unit, zone.clone(), format)),
            DataType::List(item) => Self::List(Box::new(Lists::new(item, format)?)),
            DataType::Struct(fields) => Self::Struct(Box::new(Structs::new(fields, format)?)),
            DataType::Map(entries, _) => Self::Map(Box::new(Maps::new(entries, format)?)),
            other => {
                let text = format!("type {} has no JSON form", sql_name(other));
                return Err(Error::new(Code::NotSupported, text));
            }
        })
    }

    /// Appends the value at `at`, which stands inside `depth` containers.
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        match self {
            Self::Int64(column) => column.read(bytes, at, depth),
            Self::Text(column) => column.read(bytes, at, depth),
            Self::Timestamp(column) => column.read(bytes, at, depth),
            Self::Float64(column) => column.read(bytes, at, depth),
            other => other.read_other(bytes, at, depth),
        }
    }

    /// The types that are not worth a place in the loop's own code.
    #[inline(never)]
    fn read_other(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        each!(self, column => column.read(bytes, at, depth))
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

//! A column for each type of SQL that has no others in it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use laminar_core::Result;

use super::{Booleans, Bytes, Values};
use crate::internal;

/// A column of one type.
pub(crate) enum Scalar {
    Boolean(Booleans),
    Int8(Values<i8>),
    Int16(Values<i16>),
    Int32(Values<i32>),
    Int64(Values<i64>),
    UInt8(Values<u8>),
    UInt16(Values<u16>),
    UInt32(Values<u32>),
    UInt64(Values<u64>),
    Float32(Values<f32>),
    Float64(Values<f64>),
    Decimal(Values<i128>),
    Text(Bytes),
    Binary(Bytes),
    /// Days since 1970.
    Date(Values<i32>),
    /// In the unit of the type, as a timestamp too.
    Time(Values<i64>),
    Timestamp(Values<i64>),
    Interval(Values<IntervalMonthDayNano>),
}

macro_rules! each {
    ($self:expr, $column:ident => $body:expr) => {
        match $self {
            Scalar::Boolean($column) => $body,
            Scalar::Int8($column) => $body,
            Scalar::Int16($column) => $body,
            Scalar::Int32($column) | Scalar::Date($column) => $body,
            Scalar::Int64($column) | Scalar::Time($column) | Scalar::Timestamp($column) => $body,
            Scalar::UInt8($column) => $body,
            Scalar::UInt16($column) => $body,
            Scalar::UInt32($column) => $body,
            Scalar::UInt64($column) => $body,
            Scalar::Float32($column) => $body,
            Scalar::Float64($column) => $body,
            Scalar::Decimal($column) => $body,
            Scalar::Text($column) | Scalar::Binary($column) => $body,
            Scalar::Interval($column) => $body,
        }
    };
}

impl Scalar {
    /// `None`: it is a type with others in it, or none of SQL's.
    pub fn new(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean(Booleans::new()),
            DataType::Int8 => Self::Int8(Values::new()),
            DataType::Int16 => Self::Int16(Values::new()),
            DataType::Int32 => Self::Int32(Values::new()),
            DataType::Int64 => Self::Int64(Values::new()),
            DataType::UInt8 => Self::UInt8(Values::new()),
            DataType::UInt16 => Self::UInt16(Values::new()),
            DataType::UInt32 => Self::UInt32(Values::new()),
            DataType::UInt64 => Self::UInt64(Values::new()),
            DataType::Float32 => Self::Float32(Values::new()),
            DataType::Float64 => Self::Float64(Values::new()),
            DataType::Decimal128(..) => Self::Decimal(Values::new()),
            DataType::Utf8 => Self::Text(Bytes::new()),
            DataType::Binary => Self::Binary(Bytes::new()),
            DataType::Date32 => Self::Date(Values::new()),
            DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond) => Self::Time(Values::new()),
            DataType::Timestamp(..) => Self::Timestamp(Values::new()),
            DataType::Interval(IntervalUnit::MonthDayNano) => Self::Interval(Values::new()),
            _ => return None,
        })
    }

    /// Appends a null, whatever the table says about nulls.
    pub fn push_null(&mut self) {
        each!(self, column => column.push_null())
    }

    /// Cuts back to `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        each!(self, column => column.truncate(rows))
    }

    /// Appends the integer, of a date its days. False: it is out of range, or the column has no integers.
    #[inline]
    pub fn push_integer(&mut self, value: i128) -> bool {
        match self {
            Self::Int8(column) => push(column, value),
            Self::Int16(column) => push(column, value),
            Self::Int32(column) | Self::Date(column) => push(column, value),
            Self::Int64(column) => push(column, value),
            Self::UInt8(column) => push(column, value),
            Self::UInt16(column) => push(column, value),
            Self::UInt32(column) => push(column, value),
            Self::UInt64(column) => push(column, value),
            _ => false,
        }
    }

    /// The array, of the type that the column was made for, and an empty start.
    pub fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef> {
        Ok(match (self, data_type) {
            (Self::Boolean(column), _) => column.finish()?,
            (Self::Int8(column), _) => Arc::new(column.take::<Int8Type>()?),
            (Self::Int16(column), _) => Arc::new(column.take::<Int16Type>()?),
            (Self::Int32(column), _) => Arc::new(column.take::<Int32Type>()?),
            (Self::Int64(column), _) => Arc::new(column.take::<Int64Type>()?),
            (Self::UInt8(column), _) => Arc::new(column.take::<UInt8Type>()?),
            (Self::UInt16(column), _) => Arc::new(column.take::<UInt16Type>()?),
            (Self::UInt32(column), _) => Arc::new(column.take::<UInt32Type>()?),
            (Self::UInt64(column), _) => Arc::new(column.take::<UInt64Type>()?),
            (Self::Float32(column), _) => Arc::new(column.take::<Float32Type>()?),
            (Self::Float64(column), _) => Arc::new(column.take::<Float64Type>()?),
            (Self::Decimal(column), DataType::Decimal128(precision, scale)) => {
                let array: Decimal128Array = column.take::<Decimal128Type>()?;
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            (Self::Text(column), _) => column.finish_text()?,
            (Self::Binary(column), _) => column.finish_binary()?,
            (Self::Date(column), _) => Arc::new(column.take::<Date32Type>()?),
            (Self::Time(column), DataType::Time64(TimeUnit::Nanosecond)) => {
                Arc::new(column.take::<Time64NanosecondType>()?)
            }
            (Self::Time(column), _) => Arc::new(column.take::<Time64MicrosecondType>()?),
            (Self::Timestamp(column), DataType::Timestamp(unit, zone)) => {
                let zone = zone.clone();
                match unit {
                    TimeUnit::Second => Arc::new(column.take::<TimestampSecondType>()?.with_timezone_opt(zone)),
                    TimeUnit::Millisecond => {
                        Arc::new(column.take::<TimestampMillisecondType>()?.with_timezone_opt(zone))
                    }
                    TimeUnit::Microsecond => {
                        Arc::new(column.take::<TimestampMicrosecondType>()?.with_timezone_opt(zone))
                    }
                    TimeUnit::Nanosecond => Arc::new(column.take::<TimestampNanosecondType>()?.with_timezone_opt(zone)),
                }
            }
            (Self::Interval(column), _) => Arc::new(column.take::<IntervalMonthDayNanoType>()?),
            (Self::Decimal(_) | Self::Timestamp(_), _) => return Err(internal("a column is not of its type")),
        })
    }
}

#[inline(always)]
fn push<T: ArrowNativeType + TryFrom<i128>>(column: &mut Values<T>, value: i128) -> bool {
    T::try_from(value).map(|value| column.push(value)).is_ok()
}

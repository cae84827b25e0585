//! Columns of dates and times: text in RFC 3339, or numbers that count something since 1970 or midnight.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{
    DataType, Date32Type, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use laminar_core::Result;

use crate::columns::Values;
use crate::fault::Fault;
use crate::json::number::{Rounding, quick_integer};
use crate::json::value::{mismatch, out_of_range, quoted, read_scaled};
use crate::options::TimestampFormat;
use crate::times;

/// `"2024-01-31"`, or a number of days since 1970-01-01.
pub(crate) struct Dates(pub Values<i32>);

impl Dates {
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if let Some((text, end)) = quoted(bytes, at)? {
            let days = times::parse_date(&text).ok_or_else(|| mismatch(bytes, at, depth, &DataType::Date32))?;
            self.0.push(days);
            return Ok(end);
        }
        let (days, end) = read_scaled(bytes, at, depth, 0, Rounding::Exact, &DataType::Date32)?;
        self.0.push(i32::try_from(days).map_err(|_| out_of_range(bytes, at, depth, &DataType::Date32))?);
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.0.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        Ok(Arc::new(self.0.take::<Date32Type>()?))
    }
}

/// `"23:59:59.123"`, or a number of microseconds since midnight.
pub(crate) struct Times {
    pub unit: TimeUnit,
    pub values: Values<i64>,
}

impl Times {
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let data_type = DataType::Time64(self.unit);
        let (nanos, end) = match quoted(bytes, at)? {
            Some((text, end)) => (times::parse_time(&text), end),
            None => {
                let (micros, end) = read_scaled(bytes, at, depth, 0, Rounding::Exact, &data_type)?;
                let inside = (0..86_400_000_000).contains(&micros);
                (inside.then_some(micros).and_then(|micros| i64::try_from(micros * 1_000).ok()), end)
            }
        };
        let nanos = nanos.ok_or_else(|| mismatch(bytes, at, depth, &data_type))?;
        self.values.push(if self.unit == TimeUnit::Nanosecond { nanos } else { nanos / 1_000 });
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.values.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self.unit {
            TimeUnit::Nanosecond => Arc::new(self.values.take::<Time64NanosecondType>()?),
            _ => Arc::new(self.values.take::<Time64MicrosecondType>()?),
        })
    }
}

/// Text in RFC 3339, or a number that counts what `timestamp_format` says.
pub(crate) struct Timestamps {
    unit: TimeUnit,
    zone: Option<Arc<str>>,
    /// Decimal digits behind the second of a bare number, and of the column.
    read_digits: u32,
    column_digits: u32,
    /// A bare integer times `factor` is the column's value; 0 if it must be divided.
    factor: i64,
    values: Values<i64>,
}

impl Timestamps {
    pub fn new(unit: TimeUnit, zone: Option<Arc<str>>, format: TimestampFormat) -> Self {
        let column_digits: u32 = match unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => 3,
            TimeUnit::Microsecond => 6,
            TimeUnit::Nanosecond => 9,
        };
        let read_digits = format.digits();
        let factor = column_digits.checked_sub(read_digits).map_or(0, |digits| 10i64.pow(digits));
        Self { unit, zone, read_digits, column_digits, factor, values: Values::new() }
    }

    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        if let Some((value, end)) = quick_integer(bytes, at)
            && self.factor != 0
            && let Some(value) = value.checked_mul(self.factor)
        {
            self.values.push(value);
            return Ok(end);
        }
        self.read_slowly(bytes, at, depth)
    }

    #[inline(never)]
    pub fn read_slowly(&mut self, bytes: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
        let data_type = DataType::Timestamp(self.unit, self.zone.clone());
        if let Some((text, end)) = quoted(bytes, at)?
            && let Some(instant) = times::parse_timestamp(&text)
        {
            let value = instant.units(self.column_digits);
            self.values.push(value.ok_or_else(|| out_of_range(bytes, at, depth, &data_type))?);
            return Ok(end);
        }
        let scale = self.column_digits.cast_signed() - self.read_digits.cast_signed();
        let (value, end) = read_scaled(bytes, at, depth, scale, Rounding::Floor, &data_type)?;
        self.values.push(i64::try_from(value).map_err(|_| out_of_range(bytes, at, depth, &data_type))?);
        Ok(end)
    }
    pub fn push_null(&mut self) {
        self.values.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let zone = self.zone.clone();
        Ok(match self.unit {
            TimeUnit::Second => Arc::new(self.values.take::<TimestampSecondType>()?.with_timezone_opt(zone)),
            TimeUnit::Millisecond => Arc::new(self.values.take::<TimestampMillisecondType>()?.with_timezone_opt(zone)),
            TimeUnit::Microsecond => Arc::new(self.values.take::<TimestampMicrosecondType>()?.with_timezone_opt(zone)),
            TimeUnit::Nanosecond => Arc::new(self.values.take::<TimestampNanosecondType>()?.with_timezone_opt(zone)),
        })
    }
}

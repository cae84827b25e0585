//! A column without columns in it, filled from one value at a time.
//!
//! The rules are those of `json::column`: after an error the column may be one longer than before, and whoever knows the row
//! cuts it back; `finish` leaves an empty column with room for as many rows again.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Decimal128Array};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use laminar_core::sql_name::sql_name;
use laminar_core::{Code, Error, Result};

use super::known::{read_parts, write_json};
use super::source::{Number, Source};
use super::wire::{Wire, WireType, expect_wire};
use crate::fault::{Fault, fault};
use crate::json::number::{Rounding, number};
use crate::json::scalar::{Booleans, Values};
use crate::json::skip::check_text;
use crate::json::text::Bytes;
use crate::options::TimestampFormat;
use crate::text_column::digits_of;
use crate::times::{self, Instant, Scale};

/// One column and what fills it.
pub(super) struct Scalars {
    source: Source,
    target: Target,
    data_type: DataType,
}

enum Target {
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
    Json(Bytes),
    Binary(Bytes),
    Date(Values<i32>),
    Time(Values<i64>),
    Timestamp(Timestamps),
    Interval(Values<IntervalMonthDayNano>),
}

struct Timestamps {
    /// From the unit of a bare number to the column's.
    scale: Scale,
    /// Decimal digits behind the second of the column.
    column: u32,
    values: Values<i64>,
}

macro_rules! each {
    ($self:expr, $values:ident => $body:expr) => {
        match $self {
            Target::Boolean($values) => $body,
            Target::Int8($values) => $body,
            Target::Int16($values) => $body,
            Target::Int32($values) => $body,
            Target::Int64($values) => $body,
            Target::UInt8($values) => $body,
            Target::UInt16($values) => $body,
            Target::UInt32($values) => $body,
            Target::UInt64($values) => $body,
            Target::Float32($values) => $body,
            Target::Float64($values) => $body,
            Target::Decimal($values) => $body,
            Target::Text($values) | Target::Json($values) | Target::Binary($values) => $body,
            Target::Date($values) => $body,
            Target::Time($values) => $body,
            Target::Timestamp(Timestamps { values: $values, .. }) => $body,
            Target::Interval($values) => $body,
        }
    };
}

impl Scalars {
    /// A column of a type that the source [`fits`](Source::fits).
    pub fn new(source: Source, data_type: &DataType, json: bool, format: TimestampFormat) -> Result<Self> {
        let target = match data_type {
            DataType::Boolean => Target::Boolean(Booleans::new()),
            DataType::Int8 => Target::Int8(Values::new()),
            DataType::Int16 => Target::Int16(Values::new()),
            DataType::Int32 => Target::Int32(Values::new()),
            DataType::Int64 => Target::Int64(Values::new()),
            DataType::UInt8 => Target::UInt8(Values::new()),
            DataType::UInt16 => Target::UInt16(Values::new()),
            DataType::UInt32 => Target::UInt32(Values::new()),
            DataType::UInt64 => Target::UInt64(Values::new()),
            DataType::Float32 => Target::Float32(Values::new()),
            DataType::Float64 => Target::Float64(Values::new()),
            DataType::Decimal128(..) => Target::Decimal(Values::new()),
            DataType::Utf8 if json => Target::Json(Bytes::new()),
            DataType::Utf8 => Target::Text(Bytes::new()),
            DataType::Binary => Target::Binary(Bytes::new()),
            DataType::Date32 => Target::Date(Values::new()),
            DataType::Time64(_) => Target::Time(Values::new()),
            DataType::Timestamp(unit, _) => {
                let column = digits_of(*unit);
                let scale = Scale::digits(format.digits(), column);
                Target::Timestamp(Timestamps { scale, column, values: Values::new() })
            }
            DataType::Interval(_) => Target::Interval(Values::new()),
            other => {
                let text = format!("type {} has no Protobuf form", sql_name(other));
                return Err(Error::new(Code::NotSupported, text));
            }
        };
        Ok(Self { source, target, data_type: data_type.clone() })
    }

    pub fn wire_type(&self) -> WireType {
        self.source.wire_type()
    }
    pub fn is_packable(&self) -> bool {
        self.source.is_packable()
    }
    /// A value that comes twice is put together from both, as messages are.
    pub fn merges(&self) -> bool {
        !matches!(self.source, Source::Number(_) | Source::Enum(_) | Source::Text | Source::Bytes)
    }
    /// The text `''` has no meaning for it, so it is what a missing text is: NULL.
    pub fn empty_text_is_null(&self) -> bool {
        matches!(self.source, Source::Text) && !matches!(self.target, Target::Text(_))
    }

    /// Appends the value at `wire`, whose tag was just read.
    #[inline(always)]
    pub fn read(&mut self, wire: &mut Wire<'_>) -> Result<(), Fault> {
        match &self.source {
            Source::Number(number) => {
                let (at, number) = (wire.at(), *number);
                let raw = read_number(wire, number.wire_type())?;
                if let Target::Int64(values) = &mut self.target
                    && let Some(value) = number.integer(raw)
                {
                    values.push(value);
                    return Ok(());
                }
                self.push_number(number, raw, at)
            }
            Source::Text => {
                let (start, end) = wire.bytes()?;
                let text = wire.slice(start, end);
                if let Err(error) = simdutf8::basic::from_utf8(text) {
                    return Err(not_utf8(text, start, error));
                }
                if let Target::Text(column) = &mut self.target {
                    column.bytes.extend_from_slice(text);
                    return column.end_entry(start);
                }
                self.push_text(text, start)
            }
            _ => self.read_other(wire),
        }
    }

    #[inline(never)]
    fn read_other(&mut self, wire: &mut Wire<'_>) -> Result<(), Fault> {
        let at = wire.at();
        if let Source::Enum(_) = &self.source {
            let number = Number::Int32.integer(wire.varint()?).unwrap_or(0);
            return self.push_enum(number as i32, at);
        }
        let (start, end) = wire.bytes()?;
        let inner = wire.within(start, end);
        match &self.source {
            Source::Bytes => {
                let (Target::Binary(column) | Target::Text(column) | Target::Json(column)) = &mut self.target else {
                    return Err(self.misfit(at));
                };
                column.bytes.extend_from_slice(wire.slice(start, end));
                column.end_entry(start)
            }
            Source::Instant => {
                let (seconds, nanos) = read_parts(inner)?;
                self.push_instant(seconds, nanos, at)
            }
            Source::Duration => {
                let (seconds, nanos) = read_parts(inner)?;
                self.push_duration(seconds, nanos, at)
            }
            Source::Wrapper(source) => {
                let source = source.as_ref().clone();
                self.read_wrapped(source, inner)
            }
            Source::JsonObject | Source::JsonList | Source::JsonValue => {
                let (Target::Json(column) | Target::Text(column)) = &mut self.target else {
                    return Err(self.misfit(at));
                };
                write_json(&[inner], &self.source, &mut column.bytes, 0)?;
                column.end_entry(start)
            }
            Source::Number(_) | Source::Enum(_) | Source::Text => Err(self.misfit(at)),
        }
    }

    /// The value in a wrapper: the last field of number 1, or the default.
    fn read_wrapped(&mut self, source: Source, mut wire: Wire<'_>) -> Result<(), Fault> {
        let mut last = None;
        while !wire.is_at_end() {
            let (number, kind) = wire.tag()?;
            if number == 1 {
                expect_wire(wire.at(), number, kind, source.wire_type())?;
                last = Some(wire);
            }
            wire.skip(number, kind)?;
        }
        let zeros = Wire::new(&[0; 8]);
        let wrapper = std::mem::replace(&mut self.source, source);
        let read = self.read(&mut last.unwrap_or(zeros));
        self.source = wrapper;
        read
    }

    #[inline(never)]
    fn push_number(&mut self, number: Number, raw: u64, at: usize) -> Result<(), Fault> {
        macro_rules! integer {
            ($values:expr) => {
                match $values.try_push(number.wide(raw)) {
                    true => Ok(()),
                    false => Err(self.out_of_range(number.wide(raw), at)),
                }
            };
        }
        match &mut self.target {
            Target::Boolean(values) => {
                values.push(raw != 0);
                Ok(())
            }
            Target::Float32(values) => {
                values.push(f32::from_bits(raw as u32));
                Ok(())
            }
            Target::Float64(values) => {
                let single = number == Number::Float;
                values.push(if single { f64::from(f32::from_bits(raw as u32)) } else { f64::from_bits(raw) });
                Ok(())
            }
            Target::Int8(values) => integer!(values),
            Target::Int16(values) => integer!(values),
            Target::Int32(values) => integer!(values),
            Target::Int64(values) => integer!(values),
            Target::UInt8(values) => integer!(values),
            Target::UInt16(values) => integer!(values),
            Target::UInt32(values) => integer!(values),
            Target::UInt64(values) => integer!(values),
            Target::Date(values) => integer!(values),
            Target::Decimal(_) => self.push_decimal(number.wide(raw), 0, at),
            Target::Time(_) => {
                let nanos = number.integer(raw).filter(|micros| (0..86_400_000_000).contains(micros));
                self.push_time(nanos.map(|micros| micros * 1_000), at)
            }
            Target::Timestamp(target) => match number.integer(raw).and_then(|value| target.scale.of(value)) {
                Some(value) => {
                    target.values.push(value);
                    Ok(())
                }
                None => Err(self.out_of_range(number.wide(raw), at)),
            },
            Target::Text(_) | Target::Json(_) | Target::Binary(_) | Target::Interval(_) => Err(self.misfit(at)),
        }
    }

    fn push_enum(&mut self, number: i32, at: usize) -> Result<(), Fault> {
        let (Target::Text(column), Source::Enum(names)) = (&mut self.target, &self.source) else {
            return self.push_number(Number::SFixed32, u64::from(number.cast_unsigned()), at);
        };
        match names.name(number) {
            Some(name) => column.bytes.extend_from_slice(name.as_bytes()),
            None => column.bytes.extend_from_slice(number.to_string().as_bytes()),
        }
        column.end_entry(at)
    }

    /// Text of another type, known to be UTF-8.
    #[inline(never)]
    fn push_text(&mut self, text: &[u8], at: usize) -> Result<(), Fault> {
        let pushed = match &mut self.target {
            Target::Json(column) => {
                column.bytes.extend_from_slice(check_text(text, at)?);
                return column.end_entry(at);
            }
            Target::Decimal(_) => {
                let scale = self.scale();
                let parsed = number(text, 0).ok().filter(|number| number.end == text.len());
                match parsed.map(|number| number.scaled(scale, Rounding::HalfAway)) {
                    Some(Ok(value)) => return self.push_decimal(value, scale, at),
                    _ => false,
                }
            }
            Target::Date(values) => times::parse_date(text).map(|days| values.push(days)).is_some(),
            Target::Time(_) => match times::parse_time(text) {
                Some(nanos) => return self.push_time(Some(nanos), at),
                None => false,
            },
            Target::Timestamp(target) => {
                let value = times::parse_timestamp(text).and_then(|instant| instant.units(target.column));
                value.map(|value| target.values.push(value)).is_some()
            }
            _ => false,
        };
        match pushed {
            true => Ok(()),
            false => {
                let shown: String = String::from_utf8_lossy(text).chars().take(40).collect();
                Err(fault(at, format!("expected {}, found \"{shown}\"", sql_name(&self.data_type))))
            }
        }
    }

    /// `value` counts 10^-`scale`.
    fn push_decimal(&mut self, value: i128, scale: i32, at: usize) -> Result<(), Fault> {
        let DataType::Decimal128(precision, _) = self.data_type else { return Err(self.misfit(at)) };
        let more = u32::try_from(self.scale() - scale).unwrap_or(0);
        let scaled = 10i128.checked_pow(more).and_then(|factor| value.checked_mul(factor));
        let fits = scaled.filter(|value| value.unsigned_abs() < 10u128.saturating_pow(u32::from(precision)));
        match (fits, &mut self.target) {
            (Some(value), Target::Decimal(values)) => {
                values.push(value);
                Ok(())
            }
            _ => Err(self.out_of_range(value, at)),
        }
    }

    fn push_time(&mut self, nanos: Option<i64>, at: usize) -> Result<(), Fault> {
        match (nanos, &mut self.target, &self.data_type) {
            (Some(nanos), Target::Time(values), DataType::Time64(unit)) => {
                values.push(if *unit == TimeUnit::Nanosecond { nanos } else { nanos / 1_000 });
                Ok(())
            }
            _ => Err(fault(at, format!("out of range for {}", sql_name(&self.data_type)))),
        }
    }

    fn push_instant(&mut self, seconds: i64, nanos: i32, at: usize) -> Result<(), Fault> {
        let Target::Timestamp(target) = &mut self.target else { return Err(self.misfit(at)) };
        let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let Some(nanos) = nanos else {
            return Err(fault(at, "a Timestamp's nanos are not from 0 to 999,999,999"));
        };
        match (Instant { seconds, nanos }).units(target.column) {
            Some(value) => {
                target.values.push(value);
                Ok(())
            }
            None => Err(fault(at, format!("a Timestamp of {seconds} seconds is out of range for TIMESTAMP"))),
        }
    }

    fn push_duration(&mut self, seconds: i64, nanos: i32, at: usize) -> Result<(), Fault> {
        let Target::Interval(values) = &mut self.target else { return Err(self.misfit(at)) };
        let opposite = (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0);
        if nanos.unsigned_abs() >= 1_000_000_000 || opposite {
            return Err(fault(at, "a Duration's nanos are not of the same sign as its seconds, or too many"));
        }
        let total = seconds.checked_mul(1_000_000_000).and_then(|total| total.checked_add(i64::from(nanos)));
        match total {
            Some(total) => {
                values.push(IntervalMonthDayNano::new(0, 0, total));
                Ok(())
            }
            None => Err(fault(at, format!("a Duration of {seconds} seconds is out of range for INTERVAL"))),
        }
    }

    fn scale(&self) -> i32 {
        match self.data_type {
            DataType::Decimal128(_, scale) => i32::from(scale),
            _ => 0,
        }
    }

    pub fn push_null(&mut self) {
        each!(&mut self.target, values => values.push_null())
    }
    pub fn truncate(&mut self, rows: usize) {
        each!(&mut self.target, values => values.truncate(rows))
    }

    pub fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match &mut self.target {
            Target::Boolean(values) => values.finish()?,
            Target::Int8(values) => Arc::new(values.take::<Int8Type>()?),
            Target::Int16(values) => Arc::new(values.take::<Int16Type>()?),
            Target::Int32(values) => Arc::new(values.take::<Int32Type>()?),
            Target::Int64(values) => Arc::new(values.take::<Int64Type>()?),
            Target::UInt8(values) => Arc::new(values.take::<UInt8Type>()?),
            Target::UInt16(values) => Arc::new(values.take::<UInt16Type>()?),
            Target::UInt32(values) => Arc::new(values.take::<UInt32Type>()?),
            Target::UInt64(values) => Arc::new(values.take::<UInt64Type>()?),
            Target::Float32(values) => Arc::new(values.take::<Float32Type>()?),
            Target::Float64(values) => Arc::new(values.take::<Float64Type>()?),
            Target::Decimal(values) => {
                let DataType::Decimal128(precision, scale) = self.data_type else {
                    return Err(crate::internal("a decimal column of another type"));
                };
                let array: Decimal128Array = values.take()?;
                Arc::new(array.with_precision_and_scale(precision, scale)?)
            }
            Target::Text(column) | Target::Json(column) => column.finish_text()?,
            Target::Binary(column) => {
                let (offsets, bytes, nulls) = column.take();
                Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?)
            }
            Target::Date(values) => Arc::new(values.take::<Date32Type>()?),
            Target::Time(values) => match self.data_type {
                DataType::Time64(TimeUnit::Nanosecond) => Arc::new(values.take::<Time64NanosecondType>()?),
                _ => Arc::new(values.take::<Time64MicrosecondType>()?),
            },
            Target::Timestamp(Timestamps { column, values, .. }) => {
                let zone = match &self.data_type {
                    DataType::Timestamp(_, zone) => zone.clone(),
                    _ => None,
                };
                match column {
                    0 => Arc::new(values.take::<TimestampSecondType>()?.with_timezone_opt(zone)),
                    3 => Arc::new(values.take::<TimestampMillisecondType>()?.with_timezone_opt(zone)),
                    6 => Arc::new(values.take::<TimestampMicrosecondType>()?.with_timezone_opt(zone)),
                    _ => Arc::new(values.take::<TimestampNanosecondType>()?.with_timezone_opt(zone)),
                }
            }
            Target::Interval(values) => Arc::new(values.take::<IntervalMonthDayNanoType>()?),
        })
    }

    #[cold]
    fn out_of_range(&self, value: i128, at: usize) -> Fault {
        fault(at, format!("{value} is out of range for {}", sql_name(&self.data_type)))
    }

    /// The plan let a source through that its column cannot take: our fault, but no reason to panic.
    #[cold]
    fn misfit(&self, at: usize) -> Fault {
        fault(at, format!("the field does not fill {}", sql_name(&self.data_type)))
    }
}

#[inline(always)]
pub(super) fn read_number(wire: &mut Wire<'_>, kind: WireType) -> Result<u64, Fault> {
    match kind {
        WireType::Fixed64 => wire.fixed64(),
        WireType::Fixed32 => wire.fixed32(),
        _ => wire.varint(),
    }
}

trait TryPush {
    fn try_push(&mut self, value: i128) -> bool;
}

impl<T: arrow::datatypes::ArrowNativeType + TryFrom<i128>> TryPush for Values<T> {
    #[inline(always)]
    fn try_push(&mut self, value: i128) -> bool {
        match T::try_from(value) {
            Ok(value) => {
                self.push(value);
                true
            }
            Err(_) => false,
        }
    }
}

#[cold]
fn not_utf8(text: &[u8], start: usize, _: simdutf8::basic::Utf8Error) -> Fault {
    let valid = simdutf8::compat::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
    fault(start + valid, "the text is not UTF-8")
}

//! A column without columns in it, filled from one value at a time.
//!
//! The rules are those of `json::column`: after an error the column may be one longer than before, and whoever knows the row
//! cuts it back; `finish` leaves an empty column with room for as many rows again.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use laminar_core::sql_name::sql_name;
use laminar_core::{Code, Error, Result};

use super::known::{read_parts, write_json};
use super::source::{Number, Source};
use super::wire::{Wire, WireType, expect_wire};
use crate::columns::Scalar;
use crate::fault::{Fault, fault};
use crate::json::number::{Rounding, number};
use crate::json::skip::check_text;
use crate::options::TimestampFormat;
use crate::text_column::digits_of;
use crate::times::{self, Instant, Scale};

/// One column and what fills it.
pub(super) struct Scalars {
    source: Source,
    target: Scalar,
    data_type: DataType,
    /// Text that must be JSON.
    json: bool,
    /// Of a TIMESTAMP: from the unit of a bare number to the column's.
    scale: Scale,
}

impl Scalars {
    /// A column of a type that the source [`fits`](Source::fits).
    pub fn new(source: Source, data_type: &DataType, json: bool, format: TimestampFormat) -> Result<Self> {
        let target = Scalar::new(data_type).ok_or_else(|| {
            Error::new(Code::NotSupported, format!("type {} has no Protobuf form", sql_name(data_type)))
        })?;
        let scale = match data_type {
            DataType::Timestamp(unit, _) => Scale::digits(format.digits(), digits_of(*unit)),
            _ => Scale::Times(1),
        };
        Ok(Self { source, target, data_type: data_type.clone(), json, scale })
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
        matches!(self.source, Source::Text) && (self.json || !matches!(self.target, Scalar::Text(_)))
    }

    /// Appends the value at `wire`, whose tag was just read.
    #[inline(always)]
    pub fn read(&mut self, wire: &mut Wire<'_>) -> Result<(), Fault> {
        match &self.source {
            Source::Number(number) => {
                let (at, number) = (wire.at(), *number);
                let raw = read_number(wire, number.wire_type())?;
                if let Scalar::Int64(values) = &mut self.target
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
                if let Scalar::Text(column) = &mut self.target
                    && !self.json
                {
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
                let (Scalar::Binary(column) | Scalar::Text(column)) = &mut self.target else {
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
                let Scalar::Text(column) = &mut self.target else {
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
        match &mut self.target {
            Scalar::Boolean(values) => values.push(raw != 0),
            Scalar::Float32(values) => values.push(f32::from_bits(raw as u32)),
            Scalar::Float64(values) => {
                let single = number == Number::Float;
                values.push(if single { f64::from(f32::from_bits(raw as u32)) } else { f64::from_bits(raw) });
            }
            Scalar::Decimal(_) => return self.push_decimal(number.wide(raw), 0, at),
            Scalar::Time(_) => {
                let nanos = number.integer(raw).filter(|micros| (0..86_400_000_000).contains(micros));
                return self.push_time(nanos.map(|micros| micros * 1_000), at);
            }
            Scalar::Timestamp(values) => match number.integer(raw).and_then(|value| self.scale.of(value)) {
                Some(value) => values.push(value),
                None => return Err(self.out_of_range(number.wide(raw), at)),
            },
            Scalar::Text(_) | Scalar::Binary(_) | Scalar::Interval(_) => return Err(self.misfit(at)),
            integers => {
                if !integers.push_integer(number.wide(raw)) {
                    return Err(self.out_of_range(number.wide(raw), at));
                }
            }
        }
        Ok(())
    }

    fn push_enum(&mut self, number: i32, at: usize) -> Result<(), Fault> {
        let (Scalar::Text(column), Source::Enum(names)) = (&mut self.target, &self.source) else {
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
            Scalar::Text(column) if self.json => {
                column.bytes.extend_from_slice(check_text(text, at)?);
                return column.end_entry(at);
            }
            Scalar::Decimal(_) => {
                let scale = self.scale();
                let parsed = number(text, 0).ok().filter(|number| number.end == text.len());
                match parsed.map(|number| number.scaled(scale, Rounding::HalfAway)) {
                    Some(Ok(value)) => return self.push_decimal(value, scale, at),
                    _ => false,
                }
            }
            Scalar::Date(values) => times::parse_date(text).map(|days| values.push(days)).is_some(),
            Scalar::Time(_) => match times::parse_time(text) {
                Some(nanos) => return self.push_time(Some(nanos), at),
                None => false,
            },
            Scalar::Timestamp(values) => {
                let value = times::parse_timestamp(text).and_then(|instant| instant.units(digits(&self.data_type)));
                value.map(|value| values.push(value)).is_some()
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
            (Some(value), Scalar::Decimal(values)) => {
                values.push(value);
                Ok(())
            }
            _ => Err(self.out_of_range(value, at)),
        }
    }

    fn push_time(&mut self, nanos: Option<i64>, at: usize) -> Result<(), Fault> {
        match (nanos, &mut self.target, &self.data_type) {
            (Some(nanos), Scalar::Time(values), DataType::Time64(unit)) => {
                values.push(if *unit == TimeUnit::Nanosecond { nanos } else { nanos / 1_000 });
                Ok(())
            }
            _ => Err(fault(at, format!("out of range for {}", sql_name(&self.data_type)))),
        }
    }

    fn push_instant(&mut self, seconds: i64, nanos: i32, at: usize) -> Result<(), Fault> {
        let Scalar::Timestamp(values) = &mut self.target else { return Err(self.misfit(at)) };
        let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let Some(nanos) = nanos else {
            return Err(fault(at, "a Timestamp's nanos are not from 0 to 999,999,999"));
        };
        match (Instant { seconds, nanos }).units(digits(&self.data_type)) {
            Some(value) => {
                values.push(value);
                Ok(())
            }
            None => Err(fault(at, format!("a Timestamp of {seconds} seconds is out of range for TIMESTAMP"))),
        }
    }

    fn push_duration(&mut self, seconds: i64, nanos: i32, at: usize) -> Result<(), Fault> {
        let Scalar::Interval(values) = &mut self.target else { return Err(self.misfit(at)) };
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
        self.target.push_null();
    }
    pub fn truncate(&mut self, rows: usize) {
        self.target.truncate(rows);
    }

    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.target.finish(&self.data_type)
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

/// Decimal digits behind the second of a TIMESTAMP.
fn digits(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Timestamp(unit, _) => digits_of(*unit),
        _ => 0,
    }
}

#[cold]
fn not_utf8(text: &[u8], start: usize, _: simdutf8::basic::Utf8Error) -> Fault {
    let valid = simdutf8::compat::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
    fault(start + valid, "the text is not UTF-8")
}

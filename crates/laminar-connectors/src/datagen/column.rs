//! The values of one column: a pure function of seed and row number.
//!
//! Every type that has an order is made as an `i128` (a count of its smallest unit) or an `f64`, then put into an array of
//! its type; text is parsed by Arrow's casts, so a value is written as in SQL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, StringArray, StringBuilder, Time64MicrosecondArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, UInt64Type};
use laminar_core::options::HumanDuration;
use laminar_core::table::Column;
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, Result};

use super::SUBJECT;
use super::options::{FieldOptions, Kind, in_column};
use crate::generator::mix;

const DEFAULT_LENGTH: u32 = 12;
const MAX_LENGTH: u32 = 1 << 20;
/// Largest default of `max`: values that a person can read.
const DEFAULT_MAX: i128 = 1_000_000;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const DAY_2030: i128 = 21_915;
const DAY_MICROS: i128 = 86_400_000_000;

/// Makes one column.
#[derive(Debug)]
pub struct ColumnMaker {
    data_type: DataType,
    seed: u64,
    /// A row is null if its draw is below.
    null_below: u64,
    values: Values,
    clock: SharedClock,
}

#[derive(Debug)]
enum Values {
    Whole {
        start: i128,
        step: i128,
        sequence: bool,
        span: u128,
    },
    Steps {
        start: f64,
        step: f64,
    },
    /// `parts`: how many of them make one, if values are rounded.
    Between {
        start: f64,
        span: f64,
        parts: Option<f64>,
    },
    Texts {
        length: u32,
    },
    Bytes {
        length: u32,
    },
    Booleans,
    /// Whole numbers written as text.
    Numbered {
        start: i128,
        step: i128,
    },
    Uuids,
    Chosen(ArrayRef),
    Now,
}

impl ColumnMaker {
    /// Returns the maker and how many rows there are at most, where a sequence ends.
    ///
    /// Errors: `not_supported` (a type that cannot be made), `invalid_option`, `conflicting_options`, `missing_option`.
    pub fn new(column: &Column, field: &FieldOptions, seed: u64, clock: SharedClock) -> Result<(Self, Option<u64>)> {
        let spec = Spec { column, field };
        spec.new_maker(seed, clock).map_err(|error| in_column(error, &column.name))
    }

    /// The values of the rows with these numbers.
    pub fn make(&self, rows: &[u64]) -> Result<ArrayRef> {
        let draw = |row: &u64| mix(self.seed ^ mix(*row));
        let kept = |row: &u64| self.null_below == 0 || mix(draw(row) ^ NULL_SALT) >= self.null_below;
        let nulls = || (self.null_below > 0).then(|| rows.iter().map(kept).collect::<Vec<bool>>());
        Ok(match &self.values {
            Values::Whole { start, step, sequence, span } => {
                let value = |row: &u64| match sequence {
                    true => start + step * i128::from(*row),
                    false => start + bounded(draw(row), *span),
                };
                whole_array(&self.data_type, rows.iter().map(|row| kept(row).then(|| value(row))))?
            }
            Values::Steps { start, step } => {
                real_array(&self.data_type, rows.iter().map(|row| kept(row).then(|| start + step * *row as f64)))
            }
            Values::Between { start, span, parts } => {
                let value = |row: &u64| {
                    let value = start + span * unit(draw(row));
                    parts.map_or(value, |parts| (value * parts).round() / parts)
                };
                real_array(&self.data_type, rows.iter().map(|row| kept(row).then(|| value(row))))
            }
            Values::Booleans => {
                Arc::new(rows.iter().map(|row| kept(row).then(|| draw(row) >> 63 == 1)).collect::<BooleanArray>())
            }
            Values::Numbered { start, step } => {
                let value = |row: &u64| (start + step * i128::from(*row)).to_string();
                Arc::new(rows.iter().map(|row| kept(row).then(|| value(row))).collect::<StringArray>())
            }
            Values::Texts { length } => {
                let mut builder = StringBuilder::with_capacity(rows.len(), rows.len() * *length as usize);
                let mut text = String::new();
                for row in rows {
                    text.clear();
                    text.extend(letters(draw(row), *length));
                    builder.append_option(kept(row).then_some(text.as_str()));
                }
                Arc::new(builder.finish())
            }
            Values::Bytes { length } => {
                let mut builder = BinaryBuilder::with_capacity(rows.len(), rows.len() * *length as usize);
                for row in rows {
                    let draw = draw(row);
                    let bytes: Vec<u8> = (0..u64::from(*length)).map(|i| mix(draw ^ mix(i)) as u8).collect();
                    builder.append_option(kept(row).then_some(bytes));
                }
                Arc::new(builder.finish())
            }
            Values::Uuids => {
                Arc::new(rows.iter().map(|row| kept(row).then(|| uuid(draw(row)))).collect::<StringArray>())
            }
            Values::Chosen(values) => {
                let chosen = |row: &u64| bounded(draw(row), values.len() as u128) as u64;
                let at = rows.iter().map(|row| kept(row).then(|| chosen(row))).collect::<UInt64Array>();
                take(values, &at, None)?
            }
            Values::Now => {
                let now = self.clock.now_micros();
                match nulls() {
                    None => Arc::new(TimestampMicrosecondArray::from_value(now, rows.len())),
                    Some(kept) => {
                        Arc::new(kept.iter().map(|kept| kept.then_some(now)).collect::<TimestampMicrosecondArray>())
                    }
                }
            }
        })
    }
}

const NULL_SALT: u64 = 0x6e75_6c6c_6e75_6c6c;

/// Evenly from 0 to `span` - 1; `span` is at most 2^64.
fn bounded(draw: u64, span: u128) -> i128 {
    ((u128::from(draw) * span) >> 64) as i128
}

/// Evenly from 0 to 1, without 1.
fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

fn letters(draw: u64, length: u32) -> impl Iterator<Item = char> {
    // 12 letters of 5 bits from each 64.
    (0..length).map(move |i| {
        let bits = mix(draw ^ u64::from(i / 12)) >> (5 * (i % 12));
        char::from(*ALPHABET.get((bits & 31) as usize).unwrap_or(&b'a'))
    })
}

/// A UUID of version 4 (RFC 9562, section 5.4) from one draw.
fn uuid(draw: u64) -> String {
    let bits = (u128::from(draw) << 64) | u128::from(mix(draw));
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn real_array(data_type: &DataType, values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    match data_type {
        DataType::Float32 => Arc::new(values.map(|v| v.map(|v| v as f32)).collect::<Float32Array>()),
        _ => Arc::new(values.collect::<Float64Array>()),
    }
}

/// Values that are known to fit, as an array of the type.
fn whole_array(data_type: &DataType, values: impl Iterator<Item = Option<i128>>) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Int8 => Arc::new(values.map(|v| v.map(|v| v as i8)).collect::<Int8Array>()),
        DataType::Int16 => Arc::new(values.map(|v| v.map(|v| v as i16)).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(values.map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(values.map(|v| v.map(|v| v as i64)).collect::<Int64Array>()),
        DataType::UInt8 => Arc::new(values.map(|v| v.map(|v| v as u8)).collect::<UInt8Array>()),
        DataType::UInt16 => Arc::new(values.map(|v| v.map(|v| v as u16)).collect::<UInt16Array>()),
        DataType::UInt32 => Arc::new(values.map(|v| v.map(|v| v as u32)).collect::<UInt32Array>()),
        DataType::UInt64 => Arc::new(values.map(|v| v.map(|v| v as u64)).collect::<UInt64Array>()),
        DataType::Date32 => Arc::new(values.map(|v| v.map(|v| v as i32)).collect::<Date32Array>()),
        DataType::Time64(_) => Arc::new(values.map(|v| v.map(|v| v as i64)).collect::<Time64MicrosecondArray>()),
        DataType::Timestamp(..) => Arc::new(values.map(|v| v.map(|v| v as i64)).collect::<TimestampMicrosecondArray>()),
        DataType::Decimal128(precision, scale) => {
            Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale)?)
        }
        other => return Err(Error::internal(format!("{other} is not a whole type"))),
    })
}

/// Smallest and largest value of a type that is made of whole numbers.
fn bounds(data_type: &DataType) -> Option<(i128, i128)> {
    fn of<T: Into<i128>>(min: T, max: T) -> Option<(i128, i128)> {
        Some((min.into(), max.into()))
    }
    match data_type {
        DataType::Int8 => of(i8::MIN, i8::MAX),
        DataType::Int16 => of(i16::MIN, i16::MAX),
        DataType::Int32 | DataType::Date32 => of(i32::MIN, i32::MAX),
        DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, None) => of(i64::MIN, i64::MAX),
        DataType::UInt8 => of(u8::MIN, u8::MAX),
        DataType::UInt16 => of(u16::MIN, u16::MAX),
        DataType::UInt32 => of(u32::MIN, u32::MAX),
        DataType::UInt64 => of(u64::MIN, u64::MAX),
        DataType::Time64(TimeUnit::Microsecond) => Some((0, DAY_MICROS - 1)),
        // Up to 18 digits, so that a span fits in 64 bits.
        DataType::Decimal128(precision, _) => {
            let largest = 10i128.pow(u32::from(*precision).min(18)) - 1;
            Some((-largest, largest))
        }
        _ => None,
    }
}

/// A column and what was written about it.
struct Spec<'a> {
    column: &'a Column,
    field: &'a FieldOptions,
}

impl Spec<'_> {
    fn new_maker(&self, seed: u64, clock: SharedClock) -> Result<(ColumnMaker, Option<u64>)> {
        let default = if is_timestamp(&self.column.data_type) { Kind::Now } else { Kind::Random };
        let kind = self.field.kind.unwrap_or(default);
        self.refuse_options_of_other_kinds(kind)?;
        let (values, rows) = match kind {
            Kind::Sequence => self.sequence()?,
            Kind::Random => (self.random()?, None),
            Kind::Choice => (self.choice()?, None),
            Kind::Uuid if self.is_text() => (Values::Uuids, None),
            Kind::Now if is_timestamp(&self.column.data_type) => (Values::Now, None),
            Kind::Uuid => return Err(self.wrong_kind(kind, "TEXT")),
            Kind::Now => return Err(self.wrong_kind(kind, "TIMESTAMP")),
        };
        let own_seed =
            self.field.seed.unwrap_or_else(|| self.column.name.bytes().fold(0, |h, b| mix(h ^ u64::from(b))));
        let maker = ColumnMaker {
            data_type: self.column.data_type.clone(),
            seed: mix(seed) ^ mix(own_seed).rotate_left(32),
            null_below: self.null_below()?,
            values,
            clock,
        };
        Ok((maker, rows))
    }

    fn is_text(&self) -> bool {
        self.column.data_type == DataType::Utf8 && !self.column.json
    }

    /// No option is read and ignored.
    fn refuse_options_of_other_kinds(&self, kind: Kind) -> Result<()> {
        let field = self.field;
        let sized = matches!(self.column.data_type, DataType::Utf8 | DataType::Binary);
        let ranged = !sized && self.column.data_type != DataType::Boolean;
        let real = matches!(self.column.data_type, DataType::Float32 | DataType::Float64);
        let random = kind == Kind::Random;
        let given = [
            ("start", field.start.is_some(), kind == Kind::Sequence),
            ("end", field.end.is_some(), kind == Kind::Sequence),
            ("step", field.step.is_some(), kind == Kind::Sequence),
            ("min", field.min.is_some(), random && ranged),
            ("max", field.max.is_some(), random && ranged),
            ("decimals", field.decimals.is_some(), random && real),
            ("length", field.length.is_some(), random && sized),
            ("values", field.values.is_some(), kind == Kind::Choice),
        ];
        match given.iter().find(|(_, given, allowed)| *given && !allowed) {
            Some((option, ..)) => {
                let message =
                    format!("option {option} is not for kind {} of column {}", kind.as_str(), self.column.name);
                Err(Error::new(Code::ConflictingOptions, message)
                    .with_detail(format!("the column is {}", self.column.data_type))
                    .with_field(*option))
            }
            None => Ok(()),
        }
    }

    fn null_below(&self) -> Result<u64> {
        let rate = self.field.null_rate.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&rate) {
            return Err(self.invalid("null_rate", &rate.to_string(), "expected a number from 0 to 1"));
        }
        if rate > 0.0 && !self.column.nullable {
            let message = format!("column {} is NOT NULL and cannot have null_rate {rate}", self.column.name);
            return Err(Error::new(Code::ConflictingOptions, message).with_field("null_rate"));
        }
        Ok((rate * u64::MAX as f64) as u64)
    }

    fn sequence(&self) -> Result<(Values, Option<u64>)> {
        let (start, end) = (self.field.start.as_deref(), self.field.end.as_deref());
        if matches!(self.column.data_type, DataType::Float32 | DataType::Float64) {
            let start = self.real("start", start)?.unwrap_or(0.0);
            let step = self.real("step", self.field.step.as_deref())?.unwrap_or(1.0);
            if step == 0.0 {
                return Err(self.invalid("step", "0", "expected a number other than 0"));
            }
            let rows = self.real("end", end)?.map(|end| ((end - start) / step + 1e-9).floor().max(-1.0) as u64 + 1);
            return Ok((Values::Steps { start, step }, rows));
        }
        // Numbers as text count as BIGINT does.
        let counted = if self.is_text() { DataType::Int64 } else { self.column.data_type.clone() };
        let Some((min, max)) = bounds(&counted) else {
            return Err(self.wrong_kind(Kind::Sequence, "a number, a time or TEXT"));
        };
        let start = self.whole("start", start, &counted)?.unwrap_or(0);
        let step = self.step(&counted)?;
        let end = self.whole("end", end, &counted)?.unwrap_or(if step > 0 { max } else { min });
        let steps = (end - start) / step;
        let rows = if (end - start).signum() * step.signum() < 0 { 0 } else { steps + 1 };
        let rows = u64::try_from(rows).ok();
        let values = match self.is_text() {
            true => Values::Numbered { start, step },
            false => Values::Whole { start, step, sequence: true, span: 0 },
        };
        Ok((values, rows))
    }

    fn step(&self, counted: &DataType) -> Result<i128> {
        let written = self.field.step.as_deref();
        let timed = matches!(counted, DataType::Timestamp(..) | DataType::Time64(_));
        let step = match written {
            None if timed => 1_000_000,
            None => match counted {
                DataType::Decimal128(_, scale) => 10i128.pow(u32::try_from(*scale).unwrap_or(0)),
                _ => 1,
            },
            Some(text) if timed => {
                let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
                let parsed = text.parse::<HumanDuration>().map_err(|what| self.invalid("step", text, &what))?;
                sign * parsed.0.as_micros() as i128
            }
            Some(text) => {
                // A step may be negative where a value may not.
                let signed = match counted {
                    DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
                    _ => DataType::Int64,
                };
                self.whole("step", Some(text), &signed)?.unwrap_or(1)
            }
        };
        if step == 0 {
            Err(self.invalid("step", written.unwrap_or("0"), "expected a step other than 0"))
        } else {
            Ok(step)
        }
    }

    fn random(&self) -> Result<Values> {
        let (min, max) = (self.field.min.as_deref(), self.field.max.as_deref());
        match &self.column.data_type {
            DataType::Boolean => return Ok(Values::Booleans),
            DataType::Utf8 if self.column.json => {
                return Err(Error::new(
                    Code::MissingOption,
                    format!("column {} is JSON and needs kind choice", self.column.name),
                )
                .with_field("kind"));
            }
            DataType::Utf8 => return Ok(Values::Texts { length: self.length()? }),
            DataType::Binary => return Ok(Values::Bytes { length: self.length()? }),
            DataType::Float32 | DataType::Float64 => {
                let start = self.real("min", min)?.unwrap_or(0.0);
                let end = self.real("max", max)?.unwrap_or_else(|| (start + 1.0).max(1.0));
                if end < start {
                    return Err(self.invalid("max", max.unwrap_or_default(), "it is below min"));
                }
                return Ok(Values::Between { start, span: end - start, parts: self.parts()? });
            }
            _ => {}
        }
        let data_type = &self.column.data_type;
        let Some((_, largest)) = bounds(data_type) else {
            let message = format!("{SUBJECT} cannot fill column {} of type {data_type}", self.column.name);
            return Err(Error::new(Code::NotSupported, message).with_field(&self.column.name));
        };
        let usual = match data_type {
            DataType::Date32 => DAY_2030,
            DataType::Timestamp(..) => DAY_2030 * DAY_MICROS,
            DataType::Time64(_) => largest,
            DataType::Decimal128(_, scale) => DEFAULT_MAX * 10i128.pow(u32::try_from(*scale).unwrap_or(0).min(18)),
            _ => DEFAULT_MAX,
        };
        let start = self.whole("min", min, data_type)?.unwrap_or(0);
        let end = self.whole("max", max, data_type)?.unwrap_or_else(|| usual.max(start).min(largest));
        let span = u128::try_from(end - start + 1).unwrap_or(0);
        if end < start || span > 1 << 64 {
            return Err(self.invalid("max", max.unwrap_or_default(), "it is below min, or too far above"));
        }
        Ok(Values::Whole { start, step: 0, sequence: false, span })
    }

    fn parts(&self) -> Result<Option<f64>> {
        match self.field.decimals {
            Some(digits) if digits > 15 => Err(self.invalid("decimals", &digits.to_string(), "expected at most 15")),
            digits => Ok(digits.and_then(|digits| i32::try_from(digits).ok()).map(|digits| 10f64.powi(digits))),
        }
    }

    fn length(&self) -> Result<u32> {
        let length = self.field.length.unwrap_or(DEFAULT_LENGTH);
        if length > MAX_LENGTH {
            return Err(self.invalid("length", &length.to_string(), &format!("expected at most {MAX_LENGTH}")));
        }
        Ok(length)
    }

    fn choice(&self) -> Result<Values> {
        let values = self.field.values.as_deref().unwrap_or_default();
        if values.is_empty() {
            let message = format!("column {} of {SUBJECT} needs option values", self.column.name);
            return Err(Error::new(Code::MissingOption, message).with_field("values"));
        }
        if self.column.json
            && let Some(wrong) = values.iter().find(|v| serde_json::from_str::<serde::de::IgnoredAny>(v).is_err())
        {
            return Err(self.invalid("values", wrong, "expected JSON"));
        }
        let text: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        self.cast("values", &values.join(","), &text, &self.column.data_type).map(Values::Chosen)
    }

    /// The option's value in the smallest unit of the type.
    fn whole(&self, option: &str, text: Option<&str>, data_type: &DataType) -> Result<Option<i128>> {
        let Some(text) = text else { return Ok(None) };
        let written: ArrayRef = Arc::new(StringArray::from(vec![text.trim()]));
        let value = self.cast(option, text, &written, data_type)?;
        let number = match data_type {
            DataType::Decimal128(..) => value.as_primitive::<Decimal128Type>().value(0),
            DataType::UInt64 => i128::from(value.as_primitive::<UInt64Type>().value(0)),
            DataType::Date32 => {
                let days = self.cast(option, text, &value, &DataType::Int32)?;
                i128::from(self.cast(option, text, &days, &DataType::Int64)?.as_primitive::<Int64Type>().value(0))
            }
            _ => i128::from(self.cast(option, text, &value, &DataType::Int64)?.as_primitive::<Int64Type>().value(0)),
        };
        match bounds(data_type) {
            Some((min, max)) if number < min || number > max => Err(self.invalid(option, text, "it is out of range")),
            _ => Ok(Some(number)),
        }
    }

    fn real(&self, option: &str, text: Option<&str>) -> Result<Option<f64>> {
        let Some(text) = text else { return Ok(None) };
        let written: ArrayRef = Arc::new(StringArray::from(vec![text.trim()]));
        let number = self.cast(option, text, &written, &DataType::Float64)?.as_primitive::<Float64Type>().value(0);
        if number.is_finite() { Ok(Some(number)) } else { Err(self.invalid(option, text, "expected a finite number")) }
    }

    fn cast(&self, option: &str, written: &str, values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let cast = cast_with_options(values, to, &strict).map_err(|e| self.invalid(option, written, &e.to_string()))?;
        if cast.null_count() > 0 { Err(self.invalid(option, written, &format!("expected {to}"))) } else { Ok(cast) }
    }

    fn invalid(&self, option: &str, value: &str, detail: &str) -> Error {
        let message = format!("option {option} of column {} of {SUBJECT} cannot be '{value}'", self.column.name);
        Error::new(Code::InvalidOption, message).with_detail(detail).with_field(option)
    }

    fn wrong_kind(&self, kind: Kind, needed: &str) -> Error {
        let message = format!("kind {} needs a column of type {needed}", kind.as_str());
        Error::new(Code::TypeMismatch, message)
            .with_detail(format!("column {} is {}", self.column.name, self.column.data_type))
            .with_field("kind")
    }
}

fn is_timestamp(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, None))
}

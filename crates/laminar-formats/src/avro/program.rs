//! What is done with each value of a record, compiled: an operation reads its value's bytes and fills its column.
//!
//! Whatever the bytes are, an operation ends, reads no byte twice, and fills columns by no more than a constant factor of what
//! it reads: entries of arrays take a byte each at least, and those that take none are few by [`MAX_EMPTY`].

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use laminar_core::sql_name::sql_name;

use super::columns::{Column, Columns, Slot};
use super::skip::{Skip, Skipper, no_variant};
use super::wire;
use crate::columns::Scalar;
use crate::fault::{Fault, fault, in_column, of_constraint};
use crate::json::skip::check_text;
use crate::times::Scale;

/// Entries without bytes, such as nulls, in all arrays of one record.
const MAX_EMPTY: usize = 1024;

/// One schema's records to one table's columns.
#[derive(Debug)]
pub(super) struct Program {
    pub root: Op,
    pub skipper: Skipper,
}

/// Reads one value.
#[derive(Debug)]
pub(super) enum Op {
    /// No bytes: null.
    Null(Slot),
    Boolean(Slot),
    Long(Slot),
    Integer(Slot),
    Days(Slot),
    Scaled(Slot, Scale),
    TimeOfDay(Slot, Scale),
    LongAsFloat(Slot),
    LongAsDecimal(Slot, Rescale),
    Float(Slot),
    Double(Slot),
    Text(Slot),
    Json(Slot),
    Binary(Slot),
    Fixed(Slot, usize),
    Enum(Slot, Box<[Box<str>]>),
    Decimal(Slot, Wire, Rescale),
    BigDecimal(Slot, i32),
    Uuid(Slot, Wire),
    Duration(Slot),
    DurationText(Slot),
    Record(Box<Record>),
    Nullable {
        slot: Slot,
        null: i64,
        value: Box<Op>,
    },
    Union(Box<[Op]>),
    /// With the least size of an item.
    Array {
        slot: Slot,
        item: Box<Op>,
        least: usize,
    },
    Map {
        slot: Slot,
        value: Box<Op>,
    },
    /// Not in the record: the value that the reader's schema gives it, encoded.
    Constant {
        encoded: Box<[u8]>,
        value: Box<Program>,
    },
    Skip(Skip),
    /// A value that cannot be read; its presence is the record's fault.
    Refuse(Box<str>),
    /// Not in the record, and the column is NOT NULL.
    Missing,
}

/// The fields of a record in the order of its writer, then those that it lacks.
#[derive(Debug)]
pub(super) struct Record {
    /// The STRUCT; `None`: the fields are the table's columns.
    pub slot: Option<Slot>,
    pub fields: Box<[Field]>,
}

#[derive(Debug)]
pub(super) struct Field {
    /// The column's name, for messages; empty if the field is skipped.
    pub name: Box<str>,
    pub op: Op,
}

/// How bytes are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire {
    /// With their length in front.
    Bytes,
    Fixed(usize),
}

impl Wire {
    fn read(self, bytes: &[u8], at: usize) -> Result<(&[u8], usize), Fault> {
        match self {
            Self::Bytes => wire::slice(bytes, at),
            Self::Fixed(length) => wire::fixed(bytes, at, length),
        }
    }
}

/// A decimal's scale to another, and the limit that its column's precision sets. Digits beyond the scale are rounded half away
/// from zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rescale {
    pub from: i32,
    pub to: i32,
    pub limit: u128,
}

impl Rescale {
    pub fn of(self, value: i128) -> Option<i128> {
        rescale(value, self.to.checked_sub(self.from)?).filter(|value| value.unsigned_abs() < self.limit)
    }
}

fn rescale(value: i128, digits: i32) -> Option<i128> {
    let power = |digits: u32| 10i128.checked_pow(digits);
    match digits {
        0 => Some(value),
        1.. => match value {
            0 => Some(0),
            _ => value.checked_mul(power(digits.unsigned_abs())?),
        },
        _ => {
            let Some(divisor) = power(digits.unsigned_abs()) else { return Some(0) };
            let (whole, rest) = (value / divisor, value % divisor);
            let away = if rest.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2) { value.signum() } else { 0 };
            whole.checked_add(away)
        }
    }
}

/// Runs a program over one record.
pub(super) struct Run<'a> {
    pub skipper: &'a Skipper,
    pub columns: &'a mut Columns,
    /// How many entries without bytes may still come.
    empty: usize,
}

impl Program {
    /// Fills a row from the record whose body starts at `at` and ends the value. After an error the columns may differ in length.
    #[inline]
    pub fn row(&self, bytes: &[u8], at: usize, columns: &mut Columns) -> Result<(), Fault> {
        let end = self.value(bytes, at, columns)?;
        expect_end_of_record(bytes, end)?;
        columns.end_row();
        Ok(())
    }

    /// Reads the value at `at`; returns the index after it.
    pub fn value(&self, bytes: &[u8], at: usize, columns: &mut Columns) -> Result<usize, Fault> {
        Run { skipper: &self.skipper, columns, empty: MAX_EMPTY }.op(&self.root, bytes, at)
    }
}

impl Run<'_> {
    fn op(&mut self, op: &Op, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        match op {
            Op::Long(slot) => {
                let (value, end) = wire::long(bytes, at)?;
                match self.columns.column(*slot) {
                    Some(Column::Scalar(Scalar::Int64(column))) => column.push(value),
                    _ => return Err(wrong_column()),
                }
                Ok(end)
            }
            Op::Text(slot) => {
                let (text, end) = wire::slice(bytes, at)?;
                if simdutf8::basic::from_utf8(text).is_err() {
                    return Err(not_text(end - text.len(), text));
                }
                self.push_bytes(*slot, text, at)?;
                Ok(end)
            }
            Op::Scaled(slot, scale) => {
                let (value, end) = wire::long(bytes, at)?;
                match (self.columns.column(*slot), scale.of(value)) {
                    (Some(Column::Scalar(Scalar::Timestamp(column))), Some(value)) => column.push(value),
                    (Some(Column::Scalar(Scalar::Timestamp(_))), None) => {
                        return Err(self.out_of_range(*slot, at, value));
                    }
                    _ => return Err(wrong_column()),
                }
                Ok(end)
            }
            Op::Nullable { slot, null, value } => {
                let (index, next) = wire::long(bytes, at)?;
                if index == 1 - *null {
                    return self.op(value, bytes, next);
                }
                if index != *null {
                    return Err(no_variant(at, index, 2));
                }
                self.push_null(*slot, at)?;
                Ok(next)
            }
            Op::Record(record) => self.record(record, bytes, at),
            Op::Skip(skip) => match skip {
                Skip::Bytes => wire::slice(bytes, at).map(|(_, end)| end),
                Skip::Varint => wire::long(bytes, at).map(|(_, end)| end),
                other => self.skipper.run(other, bytes, at),
            },
            other => self.other(other, bytes, at),
        }
    }

    fn record(&mut self, record: &Record, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        let mut at = at;
        for field in &record.fields {
            match self.op(&field.op, bytes, at) {
                Ok(end) => at = end,
                Err(fault) if field.name.is_empty() => return Err(fault),
                Err(fault) => return Err(in_column(fault, &field.name)),
            }
        }
        if let Some(slot) = record.slot {
            match self.columns.column(slot) {
                Some(Column::Struct { rows, nulls, .. }) => {
                    *rows += 1;
                    nulls.append_non_null();
                }
                _ => return Err(wrong_column()),
            }
        }
        Ok(at)
    }

    /// The types that are not worth a place in the loop's own code.
    #[inline(never)]
    fn other(&mut self, op: &Op, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        match op {
            Op::Null(slot) => {
                self.push_null(*slot, at)?;
                Ok(at)
            }
            Op::Boolean(slot) => {
                let (value, end) = wire::boolean(bytes, at)?;
                match self.columns.column(*slot) {
                    Some(Column::Scalar(Scalar::Boolean(column))) => column.push(value),
                    _ => return Err(wrong_column()),
                }
                Ok(end)
            }
            Op::Integer(slot) => {
                let (value, end) = wire::long(bytes, at)?;
                match self.push_integer(*slot, value) {
                    true => Ok(end),
                    false => Err(self.out_of_range(*slot, at, value)),
                }
            }
            Op::Days(slot) => {
                let (value, end) = wire::int(bytes, at)?;
                match self.columns.column(*slot) {
                    Some(Column::Scalar(Scalar::Date(column))) => column.push(value),
                    _ => return Err(wrong_column()),
                }
                Ok(end)
            }
            Op::TimeOfDay(slot, scale) => {
                let (value, end) = wire::long(bytes, at)?;
                let last = match self.columns.node(*slot).map(|node| &node.data_type) {
                    Some(DataType::Time64(arrow::datatypes::TimeUnit::Nanosecond)) => 86_400_000_000_000,
                    _ => 86_400_000_000,
                };
                match (self.columns.column(*slot), scale.of(value).filter(|value| (0..last).contains(value))) {
                    (Some(Column::Scalar(Scalar::Time(column))), Some(value)) => column.push(value),
                    _ => return Err(self.out_of_range(*slot, at, value)),
                }
                Ok(end)
            }
            Op::LongAsFloat(slot) => {
                let (value, end) = wire::long(bytes, at)?;
                match self.columns.column(*slot) {
                    Some(Column::Scalar(Scalar::Float64(column))) => column.push(value as f64),
                    Some(Column::Scalar(Scalar::Float32(column))) => column.push(value as f32),
                    _ => return Err(wrong_column()),
                }
                Ok(end)
            }
            Op::LongAsDecimal(slot, rescale) => {
                let (value, end) = wire::long(bytes, at)?;
                self.push_decimal(*slot, rescale.of(i128::from(value)), at)?;
                Ok(end)
            }
            Op::Float(slot) => {
                let (value, end) = wire::float(bytes, at)?;
                match self.columns.column(*slot) {
                    Some(Column::Scalar(Scalar::Float32(column))) => column.push(value),
                    Some(Column::Scalar(Scalar::Float64(column))) => column.push(f64::from(value)),
                    _ => return Err(wrong_column()),
                }
                Ok(end)
            }
            Op::Double(slot) => {
                let (value, end) = wire::double(bytes, at)?;
                match self.columns.column(*slot) {
                    Some(Column::Scalar(Scalar::Float64(column))) => column.push(value),
                    Some(Column::Scalar(Scalar::Float32(column))) => column.push(value as f32),
                    _ => return Err(wrong_column()),
                }
                Ok(end)
            }
            Op::Json(slot) => {
                let (text, end) = wire::slice(bytes, at)?;
                self.push_bytes(*slot, check_text(text, end - text.len())?, at)?;
                Ok(end)
            }
            Op::Binary(slot) => {
                let (value, end) = wire::slice(bytes, at)?;
                self.push_bytes(*slot, value, at)?;
                Ok(end)
            }
            Op::Fixed(slot, length) => {
                let (value, end) = wire::fixed(bytes, at, *length)?;
                self.push_bytes(*slot, value, at)?;
                Ok(end)
            }
            Op::Enum(slot, symbols) => {
                let (index, end) = wire::long(bytes, at)?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                let Some(symbol) = symbol else {
                    let count = symbols.len();
                    return Err(fault(at, format!("the enum has {count} symbols, and the value says symbol {index}")));
                };
                self.push_bytes(*slot, symbol.as_bytes(), at)?;
                Ok(end)
            }
            Op::Decimal(slot, wire, rescale) => {
                let (value, end) = wire.read(bytes, at)?;
                self.push_decimal(*slot, big_endian(value).and_then(|value| rescale.of(value)), at)?;
                Ok(end)
            }
            Op::BigDecimal(slot, to) => {
                let (value, end) = wire::slice(bytes, at)?;
                self.big_decimal(*slot, *to, value, at)?;
                Ok(end)
            }
            Op::Uuid(slot, wire) => {
                let (value, end) = wire.read(bytes, at)?;
                let text = uuid_text(value).ok_or_else(|| fault(at, "a uuid has 16 bytes"))?;
                self.push_bytes(*slot, text.as_bytes(), at)?;
                Ok(end)
            }
            Op::Duration(slot) => {
                let (months, days, millis, end) = duration(bytes, at)?;
                let (months, days) = match (i32::try_from(months), i32::try_from(days)) {
                    (Ok(months), Ok(days)) => (months, days),
                    _ => return Err(fault(at, "the duration is out of range for INTERVAL")),
                };
                match self.columns.column(*slot) {
                    Some(Column::Scalar(Scalar::Interval(column))) => {
                        column.push(IntervalMonthDayNano::new(months, days, i64::from(millis) * 1_000_000));
                    }
                    _ => return Err(wrong_column()),
                }
                Ok(end)
            }
            Op::DurationText(slot) => {
                let (months, days, millis, end) = duration(bytes, at)?;
                let text = format!("P{months}M{days}DT{}.{:03}S", millis / 1000, millis % 1000);
                self.push_bytes(*slot, text.as_bytes(), at)?;
                Ok(end)
            }
            Op::Union(variants) => {
                let (index, next) = wire::long(bytes, at)?;
                let variant = usize::try_from(index).ok().and_then(|index| variants.get(index));
                self.op(variant.ok_or_else(|| no_variant(at, index, variants.len()))?, bytes, next)
            }
            Op::Array { slot, item, least } => self.array(*slot, item, *least, bytes, at),
            Op::Map { slot, value } => self.map(*slot, value, bytes, at),
            Op::Constant { encoded, value } => {
                value.value(encoded, 0, self.columns).map_err(|mut inner| {
                    (inner.offset, inner.message) = (Some(at), format!("its default: {}", inner.message));
                    inner
                })?;
                Ok(at)
            }
            Op::Refuse(why) => Err(fault(at, why.as_ref())),
            Op::Missing => {
                let why = "the record's schema has no such field, and the column is NOT NULL";
                Err(of_constraint(fault(at, why)))
            }
            Op::Long(_) | Op::Text(_) | Op::Scaled(..) | Op::Nullable { .. } | Op::Record(_) | Op::Skip(_) => {
                self.op(op, bytes, at)
            }
        }
    }

    fn array(&mut self, slot: Slot, item: &Op, least: usize, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        let mut next = at;
        let mut total = match self.columns.column(slot) {
            Some(Column::List { ends, .. }) => ends.total(),
            _ => return Err(wrong_column()),
        };
        loop {
            let (block, start) = wire::block(bytes, next, least)?;
            next = start;
            if block.count == 0 {
                break;
            }
            for _ in 0..block.count {
                let end = self.op(item, bytes, next)?;
                if end == next {
                    self.empty = self.empty.checked_sub(1).ok_or_else(|| too_many_empty(at))?;
                }
                next = end;
            }
            block_ends(block, next)?;
            total += block.count;
        }
        match self.columns.column(slot) {
            Some(Column::List { ends, .. }) => ends.push(total, at)?,
            _ => return Err(wrong_column()),
        }
        Ok(next)
    }

    fn map(&mut self, slot: Slot, value: &Op, bytes: &[u8], at: usize) -> Result<usize, Fault> {
        let mut next = at;
        loop {
            let (block, start) = wire::block(bytes, next, 1)?;
            next = start;
            if block.count == 0 {
                break;
            }
            for _ in 0..block.count {
                let (key, end) = wire::slice(bytes, next)?;
                if simdutf8::basic::from_utf8(key).is_err() {
                    return Err(not_text(end - key.len(), key));
                }
                match self.columns.column(slot) {
                    Some(Column::Map { keys, .. }) => {
                        keys.bytes.extend_from_slice(key);
                        keys.end_entry(next)?;
                    }
                    _ => return Err(wrong_column()),
                }
                next = self.op(value, bytes, end)?;
            }
            block_ends(block, next)?;
        }
        match self.columns.column(slot) {
            Some(Column::Map { ends, keys, repeats, .. }) => {
                let (first, total) = (ends.total(), keys.len());
                if total > first + 1 {
                    repeats.note(first, keys.entries_from(first));
                }
                ends.push(total, at)?;
            }
            _ => return Err(wrong_column()),
        }
        Ok(next)
    }

    fn push_null(&mut self, slot: Slot, at: usize) -> Result<(), Fault> {
        if self.columns.node(slot).is_some_and(|node| !node.nullable) {
            return Err(of_constraint(fault(at, "null in a NOT NULL column")));
        }
        self.columns.push_null(slot);
        Ok(())
    }

    #[inline(always)]
    fn push_bytes(&mut self, slot: Slot, value: &[u8], at: usize) -> Result<(), Fault> {
        match self.columns.column(slot) {
            Some(Column::Scalar(Scalar::Text(column) | Scalar::Binary(column))) => {
                column.bytes.extend_from_slice(value);
                column.end_entry(at)
            }
            _ => Err(wrong_column()),
        }
    }

    /// False: the value is out of range.
    fn push_integer(&mut self, slot: Slot, value: i64) -> bool {
        match self.columns.column(slot) {
            Some(Column::Scalar(column)) => column.push_integer(i128::from(value)),
            _ => false,
        }
    }

    fn push_decimal(&mut self, slot: Slot, value: Option<i128>, at: usize) -> Result<(), Fault> {
        match (self.columns.column(slot), value) {
            (Some(Column::Scalar(Scalar::Decimal(column))), Some(value)) => {
                column.push(value);
                Ok(())
            }
            (Some(Column::Scalar(Scalar::Decimal(_))), None) => {
                let name = self.columns.node(slot).map(|node| sql_name(&node.data_type)).unwrap_or_default();
                Err(fault(at, format!("the decimal is out of range for {name}")))
            }
            _ => Err(wrong_column()),
        }
    }

    /// `bytes` hold the unscaled value's bytes, then its scale.
    fn big_decimal(&mut self, slot: Slot, to: i32, bytes: &[u8], at: usize) -> Result<(), Fault> {
        let (unscaled, next) = wire::slice(bytes, 0)?;
        let (scale, _) = wire::long(bytes, next)?;
        let limit = match self.columns.node(slot).map(|node| &node.data_type) {
            Some(DataType::Decimal128(precision, _)) => 10u128.saturating_pow(u32::from(*precision)),
            _ => 0,
        };
        let rescale = i32::try_from(scale).ok().map(|from| Rescale { from, to, limit });
        let value = big_endian(unscaled).zip(rescale).and_then(|(value, rescale)| rescale.of(value));
        self.push_decimal(slot, value, at)
    }

    #[cold]
    fn out_of_range(&self, slot: Slot, at: usize, value: i64) -> Fault {
        let name = self.columns.node(slot).map(|node| sql_name(&node.data_type)).unwrap_or_default();
        fault(at, format!("{value} is out of range for {name}"))
    }
}

/// Two's complement, the highest byte first; `None` if it does not fit.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let (more, last) = bytes.split_at(bytes.len().saturating_sub(16));
    if more.iter().any(|byte| *byte != fill) {
        return None;
    }
    let mut value = [fill; 16];
    value.iter_mut().rev().zip(last.iter().rev()).for_each(|(to, from)| *to = *from);
    let value = i128::from_be_bytes(value);
    ((value < 0) == negative).then_some(value)
}

fn uuid_text(bytes: &[u8]) -> Option<String> {
    bytes.try_into().ok().map(|bytes| crate::registry::uuid_text(u128::from_be_bytes(bytes)))
}

/// Months, days and milliseconds.
fn duration(bytes: &[u8], at: usize) -> Result<(u32, u32, u32, usize), Fault> {
    let (value, end) = wire::fixed(bytes, at, 12)?;
    let part = |index: usize| value.get(4 * index..).and_then(<[u8]>::first_chunk).copied().map(u32::from_le_bytes);
    match (part(0), part(1), part(2)) {
        (Some(months), Some(days), Some(millis)) => Ok((months, days, millis, end)),
        _ => Err(wire::ends(bytes)),
    }
}

pub(super) fn expect_end_of_record(bytes: &[u8], end: usize) -> Result<(), Fault> {
    match bytes.len().saturating_sub(end) {
        0 => Ok(()),
        more => Err(fault(end, format!("{more} bytes follow the record: it was not written with this schema"))),
    }
}

/// A block is as long as it says, else stepping over it would lead elsewhere than reading it.
fn block_ends(block: wire::Block, at: usize) -> Result<(), Fault> {
    match block.end {
        Some(end) if end != at => Err(fault(at, "a block is not as long as it says")),
        _ => Ok(()),
    }
}

#[cold]
fn too_many_empty(at: usize) -> Fault {
    fault(at, format!("the record's arrays have more than {MAX_EMPTY} entries without bytes"))
}

#[cold]
fn not_text(at: usize, text: &[u8]) -> Fault {
    let valid = simdutf8::compat::from_utf8(text).map_or_else(|error| error.valid_up_to(), |_| 0);
    fault(at + valid, "the string is not UTF-8")
}

/// A program is compiled for the columns that it fills, so this does not happen.
#[cold]
fn wrong_column() -> Fault {
    crate::fault::fault_of_record("the program does not fit its columns")
}

//! Messages of Protobuf's own that fill one column: `Timestamp` and `Duration` (two numbers), `Struct`, `Value` and `ListValue`
//! (JSON by another name, written as JSON text).

use std::collections::HashMap;

use super::source::{Number, Source};
use super::wire::{MAX_DEPTH, Wire, WireType, expect_wire, too_deep};
use crate::fault::{Fault, fault};
use crate::json::out::write_string;

/// Fields 1 and 2 of a `Timestamp` or `Duration`: seconds and nanoseconds.
pub(super) fn read_parts(mut wire: Wire<'_>) -> Result<(i64, i32), Fault> {
    let (mut seconds, mut nanos) = (0, 0);
    while !wire.is_at_end() {
        let (number, kind) = wire.tag()?;
        match number {
            1 | 2 => {
                expect_wire(wire.at(), number, kind, WireType::Varint)?;
                let raw = wire.varint()?;
                if number == 1 { seconds = raw.cast_signed() } else { nanos = raw as u32 as i32 }
            }
            _ => wire.skip(number, kind)?,
        }
    }
    Ok((seconds, nanos))
}

/// Appends the message as JSON text; it stands inside `depth` others. Of equal names, and of the kinds of one value, the last
/// counts.
pub(super) fn write_json(wire: Wire<'_>, source: &Source, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    if depth >= MAX_DEPTH {
        return Err(too_deep(wire.at()));
    }
    match source {
        Source::JsonObject => write_object(wire, out, depth),
        Source::JsonList => write_list(wire, out, depth),
        _ => write_value(wire, out, depth),
    }
}

fn write_value(mut wire: Wire<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    let mut last = None;
    while !wire.is_at_end() {
        let (number, kind) = wire.tag()?;
        let expected = match number {
            1 | 4 => WireType::Varint,
            2 => WireType::Fixed64,
            3 | 5 | 6 => WireType::Bytes,
            _ => {
                wire.skip(number, kind)?;
                continue;
            }
        };
        expect_wire(wire.at(), number, kind, expected)?;
        last = Some((number, wire));
        wire.skip(number, kind)?;
    }
    let Some((number, mut wire)) = last else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    match number {
        2 => {
            let at = wire.at();
            write_number(f64::from_bits(wire.fixed64()?), at, out)
        }
        3 => {
            let (start, end) = wire.bytes()?;
            write_text(wire.slice(start, end), start, out)
        }
        4 => {
            let text = if wire.varint()? == 0 { "false" } else { "true" };
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        5 | 6 => {
            let (start, end) = wire.bytes()?;
            let source = if number == 5 { Source::JsonObject } else { Source::JsonList };
            write_json(wire.within(start, end), &source, out, depth + 1)
        }
        _ => {
            out.extend_from_slice(b"null");
            Ok(())
        }
    }
}

fn write_list(mut wire: Wire<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    out.push(b'[');
    let start = out.len();
    while !wire.is_at_end() {
        let (number, kind) = wire.tag()?;
        if number != 1 {
            wire.skip(number, kind)?;
            continue;
        }
        expect_wire(wire.at(), number, kind, WireType::Bytes)?;
        let (from, to) = wire.bytes()?;
        if out.len() > start {
            out.push(b',');
        }
        write_value(wire.within(from, to), out, depth)?;
    }
    out.push(b']');
    Ok(())
}

fn write_object(mut wire: Wire<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    // In the order of first appearance, each with the place of its last value.
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut fields = Vec::new();
    while !wire.is_at_end() {
        let (number, kind) = wire.tag()?;
        if number != 1 {
            wire.skip(number, kind)?;
            continue;
        }
        expect_wire(wire.at(), number, kind, WireType::Bytes)?;
        let (start, end) = wire.bytes()?;
        let (name, value) = read_entry(wire.within(start, end))?;
        let place = *places.entry(wire.slice(name.0, name.1)).or_insert(fields.len());
        match fields.get_mut(place) {
            Some((_, earlier)) => *earlier = value,
            None => fields.push((name, value)),
        }
    }
    out.push(b'{');
    for (at, ((start, end), value)) in fields.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(wire.slice(start, end), start, out)?;
        out.push(b':');
        write_value(wire.within(value.0, value.1), out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

type Range = (usize, usize);

fn read_entry(mut wire: Wire<'_>) -> Result<(Range, Range), Fault> {
    let (mut name, mut value) = ((0, 0), (0, 0));
    while !wire.is_at_end() {
        let (number, kind) = wire.tag()?;
        match number {
            1 | 2 => {
                expect_wire(wire.at(), number, kind, WireType::Bytes)?;
                let range = wire.bytes()?;
                if number == 1 { name = range } else { value = range }
            }
            _ => wire.skip(number, kind)?,
        }
    }
    Ok((name, value))
}

fn write_text(text: &[u8], at: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let text = simdutf8::compat::from_utf8(text);
    let text = text.map_err(|error| fault(at + error.valid_up_to(), "the text is not UTF-8"))?;
    write_string(out, text);
    Ok(())
}

/// An integer without a point, as other writers of JSON have it.
fn write_number(value: f64, at: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !value.is_finite() {
        return Err(fault(at, format!("a number is {value}, and JSON has none such")));
    }
    let whole = value as i64;
    if whole as f64 == value && whole.unsigned_abs() < 1 << 53 && value.to_bits() != (-0.0f64).to_bits() {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    }
    Ok(())
}

/// What a map's key is, however it is written; for finding equal ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    Number(i128),
    Text(&'a [u8]),
}

impl<'a> Key<'a> {
    /// The key at `wire`. A fault is none: the value was read before.
    pub fn read(source: &Source, wire: &mut Wire<'a>) -> Result<Self, Fault> {
        match source {
            Source::Number(number) => {
                let raw = super::scalar::read_number(wire, number.wire_type())?;
                Ok(Self::Number(if *number == Number::Bool { i128::from(raw != 0) } else { number.wide(raw) }))
            }
            _ => {
                let (start, end) = wire.bytes()?;
                Ok(Self::Text(wire.slice(start, end)))
            }
        }
    }
}

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

/// Appends the message as JSON text. It is given as `parts` that add up, as where its field came more than once, and stands inside
/// `depth` others. Of equal names, and of the kinds of one value, the last counts.
pub(super) fn write_json(parts: &[Wire<'_>], source: &Source, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    if depth >= MAX_DEPTH {
        return Err(too_deep(parts.first().map_or(0, Wire::at)));
    }
    match source {
        Source::JsonObject => write_object(parts, out, depth),
        Source::JsonList => write_list(parts, out, depth),
        _ => write_value(parts, out, depth),
    }
}

fn write_value(parts: &[Wire<'_>], out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    let mut last = None;
    // Of an object or array, all that belongs to it.
    let mut inner = Vec::new();
    for part in parts {
        let mut wire = *part;
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
            if last.is_none_or(|(before, _)| before != number) {
                inner.clear();
            }
            last = Some((number, wire));
            if matches!(number, 5 | 6) {
                let (start, end) = wire.bytes()?;
                inner.push(wire.within(start, end));
            } else {
                wire.skip(number, kind)?;
            }
        }
    }
    let Some((number, mut wire)) = last else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    match number {
        2 => {
            let at = wire.at();
            return write_number(f64::from_bits(wire.fixed64()?), at, out);
        }
        3 => {
            let (start, end) = wire.bytes()?;
            return write_text(wire.slice(start, end), start, out);
        }
        5 => return write_json(&inner, &Source::JsonObject, out, depth + 1),
        6 => return write_json(&inner, &Source::JsonList, out, depth + 1),
        4 if wire.varint()? == 0 => out.extend_from_slice(b"false"),
        4 => out.extend_from_slice(b"true"),
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}

fn write_list(parts: &[Wire<'_>], out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    out.push(b'[');
    let start = out.len();
    for part in parts {
        let mut wire = *part;
        while let Some(item) = next_of_first_field(&mut wire)? {
            if out.len() > start {
                out.push(b',');
            }
            write_value(&[item], out, depth)?;
        }
    }
    out.push(b']');
    Ok(())
}

fn write_object(parts: &[Wire<'_>], out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    // In the order of first appearance, each with its last value.
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut fields: Vec<(Name<'_>, Vec<Wire<'_>>)> = Vec::new();
    for part in parts {
        let mut wire = *part;
        while let Some(mut entry) = next_of_first_field(&mut wire)? {
            let (mut name, mut value) = ((entry.at(), Default::default()), Vec::new());
            while !entry.is_at_end() {
                let (number, kind) = entry.tag()?;
                if !matches!(number, 1 | 2) {
                    entry.skip(number, kind)?;
                    continue;
                }
                expect_wire(entry.at(), number, kind, WireType::Bytes)?;
                let (start, end) = entry.bytes()?;
                if number == 1 { name = (start, entry.slice(start, end)) } else { value.push(entry.within(start, end)) }
            }
            let place = *places.entry(name.1).or_insert(fields.len());
            match fields.get_mut(place) {
                Some((_, earlier)) => *earlier = value,
                None => fields.push((name, value)),
            }
        }
    }
    out.push(b'{');
    for (at, ((start, name), value)) in fields.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(name, start, out)?;
        out.push(b':');
        write_value(&value, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

/// Where a name stands, and the name.
type Name<'a> = (usize, &'a [u8]);

/// The next message of the repeated field 1, which is all that objects and arrays have.
fn next_of_first_field<'a>(wire: &mut Wire<'a>) -> Result<Option<Wire<'a>>, Fault> {
    while !wire.is_at_end() {
        let (number, kind) = wire.tag()?;
        if number == 1 {
            expect_wire(wire.at(), number, kind, WireType::Bytes)?;
            let (start, end) = wire.bytes()?;
            return Ok(Some(wire.within(start, end)));
        }
        wire.skip(number, kind)?;
    }
    Ok(None)
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

//! Tables and messages from entropy: legal, unusual and damaged ones.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use laminar_core::table::{Column, TableSpec};

/// Bytes that decide what is generated; zeros when they run out.
pub struct Entropy<'a>(pub &'a [u8]);

impl Entropy<'_> {
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }
    pub fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }
}

const NAMES: [&str; 10] = ["a", "b", "c", "A", "key", "Key", "straße", "d e", "f\"", ""];

fn data_type(entropy: &mut Entropy<'_>, depth: usize) -> DataType {
    let kinds = if depth == 0 { 6 } else { 9 };
    match entropy.below(kinds) {
        0 => DataType::Int64,
        1 => DataType::Utf8,
        2 => DataType::Float64,
        3 => DataType::Boolean,
        4 => DataType::Int16,
        5 => DataType::UInt64,
        6 => DataType::List(Arc::new(field(entropy, "item", depth - 1))),
        7 => {
            let count = 1 + entropy.below(3);
            let names = NAMES.iter().skip(entropy.below(NAMES.len() - 3)).take(count);
            DataType::Struct(names.map(|name| field(entropy, name, depth - 1)).collect())
        }
        _ => {
            let entry =
                Fields::from(vec![Field::new("key", DataType::Utf8, false), field(entropy, "value", depth - 1)]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
        }
    }
}

fn field(entropy: &mut Entropy<'_>, name: &str, depth: usize) -> Field {
    let data_type = data_type(entropy, depth);
    Field::new(name, data_type, entropy.below(8) != 7)
}

/// A table of one to five columns, of which some are read.
pub fn table(entropy: &mut Entropy<'_>) -> TableSpec {
    let count = 1 + entropy.below(5);
    let first = entropy.below(NAMES.len() - 5);
    let column = |name: &&str| {
        let field = field(entropy, name, 2);
        let json = *field.data_type() == DataType::Utf8 && entropy.below(2) == 1;
        let data_type = field.data_type().clone();
        Column { name: (*name).into(), data_type, nullable: field.is_nullable(), json, metadata: None }
    };
    let columns: Vec<Column> = NAMES.iter().skip(first).take(count).map(column).collect();
    let unread = entropy.byte();
    let mut projection: Vec<usize> = (0..count).filter(|at| unread >> at & 1 == 0).collect();
    if unread & 0x40 != 0 {
        projection.reverse();
    }
    TableSpec { name: "t".into(), columns, projection, event_time: None, primary_key: Vec::new() }
}

fn space(entropy: &mut Entropy<'_>, out: &mut Vec<u8>) {
    match entropy.byte() {
        0..224 => {}
        224..240 => out.push(b' '),
        byte => out.extend_from_slice(&b" \n\r\t  "[..usize::from(byte - 240) % 7]),
    }
}

fn text(entropy: &mut Entropy<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    for _ in 0..entropy.below(24) {
        match entropy.byte() {
            byte @ 0..160 => out.push(b'a' + byte % 26),
            160..170 => out.extend_from_slice(b"long enough for more than one block of sixteen"),
            170..180 => out.extend_from_slice("é€😀".as_bytes()),
            180..190 => out.extend_from_slice(br#"\"\\\/\b\f\n\r\t"#),
            190..200 => out.extend_from_slice(br"\u00e9\u20AC\ud83d\ude00"),
            200..202 => out.extend_from_slice(br"\ud83d"),
            byte @ 202..212 => out.push(b'0' + byte % 10),
            byte @ 212..214 => out.extend_from_slice(&[b'\\', byte]),
            214 => out.push(0xff),
            215 => out.push(b'\n'),
            _ => {}
        }
    }
    out.push(b'"');
}

fn number(entropy: &mut Entropy<'_>, out: &mut Vec<u8>) {
    let word = entropy.word();
    let text = match entropy.below(10) {
        0..3 => (word % 1000).to_string(),
        3 => word.to_string(),
        4 => word.cast_signed().to_string(),
        5 => (word.cast_signed() >> (word % 64)).to_string(),
        6 => format!("{}.{}", word >> 48, word & 0xffff),
        7 => format!("-{}.{:03}E{}", word >> 56, word & 0xff, (word >> 8 & 0xff).cast_signed() - 128),
        8 => format!("{}e+{}", word >> 60, word & 3),
        _ => {
            ["-0", "0.0", "-0.0e0", "18446744073709551616", "-9223372036854775809", "1e400", "01", "1.", "-", "5e-324"]
                [(word % 10) as usize]
                .to_string()
        }
    };
    out.extend_from_slice(text.as_bytes());
}

fn key(entropy: &mut Entropy<'_>, out: &mut Vec<u8>) {
    let name = NAMES[entropy.below(NAMES.len())];
    match entropy.below(8) {
        6 => text(entropy, out),
        7 => out.extend_from_slice(serde_json::to_string(&name.to_uppercase()).unwrap().as_bytes()),
        _ => out.extend_from_slice(serde_json::to_string(name).unwrap().as_bytes()),
    }
}

fn value(entropy: &mut Entropy<'_>, out: &mut Vec<u8>, depth: usize) {
    space(entropy, out);
    match entropy.below(if depth == 0 { 10 } else { 15 }) {
        0..4 => number(entropy, out),
        4..7 => text(entropy, out),
        7 => out.extend_from_slice(b"null"),
        8 => out.extend_from_slice(if entropy.below(2) == 0 { b"true" } else { b"false" }),
        9 => {
            out.push(b'"');
            number(entropy, out);
            out.push(b'"');
        }
        10..12 => {
            out.push(b'[');
            for at in 0..entropy.below(4) {
                if at > 0 {
                    out.push(b',');
                }
                value(entropy, out, depth - 1);
            }
            space(entropy, out);
            out.push(b']');
        }
        _ => object(entropy, out, depth - 1),
    }
    space(entropy, out);
}

fn object(entropy: &mut Entropy<'_>, out: &mut Vec<u8>, depth: usize) {
    out.push(b'{');
    space(entropy, out);
    for at in 0..entropy.below(7) {
        if at > 0 {
            out.push(b',');
            space(entropy, out);
        }
        key(entropy, out);
        space(entropy, out);
        out.push(b':');
        value(entropy, out, depth);
    }
    out.push(b'}');
}

/// An object whose fields mostly fit, in a fixed or any order, some missing.
fn fitting_object(entropy: &mut Entropy<'_>, out: &mut Vec<u8>, fields: &Fields) {
    out.push(b'{');
    let (first, missing) = (entropy.below(2 * fields.len().max(1)), entropy.byte());
    for at in 0..fields.len() {
        let field = &fields[(at + first / 2 * (first & 1)) % fields.len()];
        if missing >> (at % 8) & 1 == 1 && missing >= 128 {
            continue;
        }
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        space(entropy, out);
        out.extend_from_slice(serde_json::to_string(field.name()).unwrap().as_bytes());
        space(entropy, out);
        out.push(b':');
        fitting_value(entropy, out, field.data_type());
    }
    out.push(b'}');
}

fn fitting_value(entropy: &mut Entropy<'_>, out: &mut Vec<u8>, data_type: &DataType) {
    space(entropy, out);
    match (data_type, entropy.below(24)) {
        (_, 22) => out.extend_from_slice(b"null"),
        (_, 23) => value(entropy, out, 2),
        (DataType::Int64, _) => {
            let value = entropy.word().cast_signed();
            out.extend_from_slice((value >> (value & 63)).to_string().as_bytes());
        }
        (DataType::Int16 | DataType::UInt64, _) => out.extend_from_slice(entropy.below(200).to_string().as_bytes()),
        (DataType::Float64, _) => number(entropy, out),
        (DataType::Boolean, kind) => out.extend_from_slice(if kind & 1 == 0 { b"true" } else { b"false" }),
        (DataType::List(item), _) => {
            out.push(b'[');
            for at in 0..entropy.below(4) {
                if at > 0 {
                    out.push(b',');
                }
                fitting_value(entropy, out, item.data_type());
            }
            out.push(b']');
        }
        (DataType::Struct(fields), _) => fitting_object(entropy, out, fields),
        (DataType::Map(entries, _), _) => {
            let DataType::Struct(fields) = entries.data_type() else { return };
            out.push(b'{');
            for at in 0..entropy.below(4) {
                if at > 0 {
                    out.push(b',');
                }
                key(entropy, out);
                out.push(b':');
                fitting_value(entropy, out, fields[1].data_type());
            }
            out.push(b'}');
        }
        _ => text(entropy, out),
    }
    space(entropy, out);
}

/// A message: mostly an object, sometimes damaged, sometimes any bytes.
pub fn message(entropy: &mut Entropy<'_>, spec: &TableSpec) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = entropy.byte();
    if kind >= 240 {
        return std::mem::take(&mut entropy.0).to_vec();
    }
    space(entropy, &mut out);
    if kind & 1 == 0 {
        object(entropy, &mut out, 3);
    } else {
        fitting_object(entropy, &mut out, &spec.columns.iter().map(Column::field).collect());
    }
    space(entropy, &mut out);
    let at = (entropy.word() % (out.len() as u64 + 1)) as usize;
    match kind {
        0..130 => {}
        130..160 => out.truncate(at),
        160..180 => out.insert(at, entropy.byte()),
        180..200 => {
            let byte = entropy.byte();
            out.get_mut(at).into_iter().for_each(|place| *place = byte);
        }
        200..215 if at < out.len() => drop(out.remove(at)),
        215..220 => out.extend_from_slice(b"{}"),
        220..224 => {
            let levels = 120 + entropy.below(16);
            out = format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
        }
        _ => {}
    }
    out
}

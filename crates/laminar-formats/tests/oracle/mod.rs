//! serde_json as the judge of our JSON decoder.
//!
//! From a string of bytes ("entropy") come a table, a message and its neighbours; [`check`] decodes them and compares with
//! what serde_json says about the same message, by the rules of the reference: which messages are refused, and which value
//! each column has. The same body runs under proptest, over random seeds, and under cargo-fuzz.
//!
//! Where serde_json knows less than the text says (a number beyond a double, or an integer written with a point), no claim
//! is made.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int16Type, Int64Type, UInt64Type};
use laminar_core::Position;
use laminar_core::format::{DecodeError, Decoder};
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, TableSpec};
use laminar_formats::{FormatOptions, decoder};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

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

/// A JSON value with all its fields, repeated ones too.
#[derive(Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Build;
        impl<'de> Visitor<'de> for Build {
            type Value = Tree;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Unsigned(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Signed(value))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Tree::List(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
                let mut all = Vec::new();
                while let Some(field) = fields.next_entry()? {
                    all.push(field);
                }
                Ok(Tree::Object(all))
            }
        }
        deserializer.deserialize_any(Build)
    }
}

/// Does a value belong into a column?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Yes,
    Unknown,
    No,
}

fn fit(field: &Field, json: bool, value: Option<&Tree>) -> Fit {
    let value = match value {
        None | Some(Tree::Null) => return if field.is_nullable() { Fit::Yes } else { Fit::No },
        Some(value) => value,
    };
    let number_in_quotes = |text: &str| match serde_json::from_str::<Tree>(text) {
        Ok(number @ (Tree::Unsigned(_) | Tree::Signed(_) | Tree::Float(_))) if !text.contains([' ', '\n', '\r', '\t']) => {
            fit(field, json, Some(&number))
        }
        Err(error) if error.to_string().contains("out of range") => Fit::Unknown,
        _ => Fit::No,
    };
    match (field.data_type(), value) {
        (DataType::Utf8, _) => Fit::Yes,
        (DataType::Boolean, Tree::Bool(_)) => Fit::Yes,
        (DataType::Boolean, Tree::Text(text)) => claim(text == "true" || text == "false"),
        (DataType::Int64, Tree::Unsigned(value)) => claim(i64::try_from(*value).is_ok()),
        (DataType::Int64, Tree::Signed(_)) => Fit::Yes,
        (DataType::Int16, Tree::Unsigned(value)) => claim(i16::try_from(*value).is_ok()),
        (DataType::Int16, Tree::Signed(value)) => claim(i16::try_from(*value).is_ok()),
        (DataType::UInt64, Tree::Unsigned(_)) => Fit::Yes,
        (DataType::UInt64, Tree::Signed(_)) => Fit::No,
        (DataType::Int64 | DataType::Int16 | DataType::UInt64, Tree::Float(value)) => {
            if value.fract() == 0.0 || value.abs() < 1e-300 { Fit::Unknown } else { Fit::No }
        }
        (DataType::Float64, Tree::Unsigned(_) | Tree::Signed(_) | Tree::Float(_)) => Fit::Yes,
        (DataType::Float64, Tree::Text(text)) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => Fit::Unknown,
        (DataType::Int64 | DataType::Int16 | DataType::UInt64 | DataType::Float64, Tree::Text(text)) => {
            number_in_quotes(text)
        }
        (DataType::List(item), Tree::List(items)) => {
            items.iter().map(|value| fit(item, false, Some(value))).max().unwrap_or(Fit::Yes)
        }
        (DataType::Struct(fields), Tree::Object(_)) => {
            let all = fields.iter().enumerate().map(|(at, field)| {
                let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                column_fit(field, false, &candidates(value, &names, at))
            });
            all.max().unwrap_or(Fit::Yes)
        }
        (DataType::Map(entries, _), Tree::Object(given)) => {
            let DataType::Struct(fields) = entries.data_type() else { return Fit::Unknown };
            given.iter().map(|(_, value)| fit(&fields[1], false, Some(value))).max().unwrap_or(Fit::Yes)
        }
        _ => Fit::No,
    }
}

fn claim(fits: bool) -> Fit {
    if fits { Fit::Yes } else { Fit::No }
}

/// Every value must fit; a column without one is null.
fn column_fit(field: &Field, json: bool, values: &[&Tree]) -> Fit {
    if values.is_empty() {
        return fit(field, json, None);
    }
    values.iter().map(|value| fit(field, json, Some(value))).max().unwrap_or(Fit::Yes)
}

/// The values an object has for the column `names[at]`; the last one wins.
fn candidates<'a>(object: &'a Tree, names: &[&str], at: usize) -> Vec<&'a Tree> {
    let Tree::Object(fields) = object else { return Vec::new() };
    let mut values = Vec::new();
    let mut by_exact_name = false;
    for (key, value) in fields {
        let exact = names.iter().position(|name| name == key);
        let target = exact.or_else(|| names.iter().position(|name| name.to_lowercase() == key.to_lowercase()));
        if target != Some(at) || (by_exact_name && exact.is_none()) {
            continue;
        }
        by_exact_name |= exact.is_some();
        values.push(value);
    }
    values
}

/// Is the array's entry what the value says? Only asked where the value fits.
fn same(array: &dyn Array, row: usize, json: bool, value: Option<&Tree>) -> bool {
    let value = match value {
        None | Some(Tree::Null) => return array.is_null(row),
        Some(value) => value,
    };
    if array.is_null(row) {
        return false;
    }
    let integer = |value: &Tree| match value {
        Tree::Unsigned(value) => Some(i128::from(*value)),
        Tree::Signed(value) => Some(i128::from(*value)),
        Tree::Text(text) => text.parse().ok(),
        _ => None,
    };
    let is_integer = |found: i128| integer(value).is_none_or(|expected| expected == found);
    match (array.data_type(), value) {
        (DataType::Utf8, Tree::Text(text)) if !json => array.as_string::<i32>().value(row) == text,
        (DataType::Utf8, value) => {
            let written = serde_json::from_str::<Tree>(array.as_string::<i32>().value(row));
            written.is_ok_and(|written| written == *value)
        }
        (DataType::Boolean, Tree::Bool(value)) => array.as_boolean().value(row) == *value,
        (DataType::Boolean, Tree::Text(text)) => array.as_boolean().value(row) == (text == "true"),
        (DataType::Int64, _) => is_integer(array.as_primitive::<Int64Type>().value(row).into()),
        (DataType::Int16, _) => is_integer(array.as_primitive::<Int16Type>().value(row).into()),
        (DataType::UInt64, _) => is_integer(array.as_primitive::<UInt64Type>().value(row).into()),
        (DataType::Float64, _) => {
            let expected = match value {
                Tree::Unsigned(value) => *value as f64,
                Tree::Signed(value) => *value as f64,
                Tree::Float(value) => *value,
                Tree::Text(text) => text.parse().unwrap_or(0.0),
                _ => return false,
            };
            // serde_json may be one unit in the last place off; we are not.
            let found = array.as_primitive::<Float64Type>().value(row);
            found == expected || found.to_bits().abs_diff(expected.to_bits()) == 1
        }
        (DataType::List(_), Tree::List(items)) => {
            let found = array.as_list::<i32>().value(row);
            found.len() == items.len() && items.iter().enumerate().all(|(at, item)| same(&found, at, false, Some(item)))
        }
        (DataType::Struct(fields), Tree::Object(_)) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            let columns = array.as_struct().columns();
            columns.iter().enumerate().all(|(at, c)| same(c, row, false, candidates(value, &names, at).last().copied()))
        }
        (DataType::Map(_, _), Tree::Object(given)) => {
            let mut unique: Vec<(&str, &Tree)> = Vec::new();
            for (key, value) in given {
                match unique.iter_mut().find(|(earlier, _)| earlier == key) {
                    Some(earlier) => earlier.1 = value,
                    None => unique.push((key, value)),
                }
            }
            let found = array.as_map().value(row);
            let (keys, values) = (found.column(0).as_string::<i32>(), found.column(1));
            keys.len() == unique.len()
                && unique.iter().enumerate().all(|(at, (key, value))| keys.value(at) == *key && same(values, at, false, Some(value)))
        }
        _ => false,
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
            let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), field(entropy, "value", depth - 1)]);
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
        _ => ["-0", "0.0", "-0.0e0", "18446744073709551616", "-9223372036854775809", "1e400", "01", "1.", "-", "5e-324"]
            [(word % 10) as usize]
            .to_string(),
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

/// A message: mostly an object, sometimes damaged, sometimes any bytes.
pub fn message(entropy: &mut Entropy<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = entropy.byte();
    if kind >= 240 {
        return std::mem::take(&mut entropy.0).to_vec();
    }
    space(entropy, &mut out);
    object(entropy, &mut out, 3);
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

fn push(decoder: &mut dyn Decoder, message: &[u8]) -> Result<(), DecodeError> {
    decoder.push(&RawRecord {
        key: None,
        value: Some(message),
        timestamp_micros: 0,
        timestamp_type: TimestampType::None,
        topic: "t",
        partition: 0,
        position: Position(0),
        batch: None,
    })
}

/// What serde_json says about a message for a table.
struct Verdict {
    fit: Fit,
    tree: Option<Tree>,
}

fn judge(message: &[u8], spec: &TableSpec) -> Verdict {
    let tree = match serde_json::from_slice::<Tree>(message) {
        Ok(tree @ Tree::Object(_)) => tree,
        Err(error) if error.to_string().contains("number out of range") => return Verdict { fit: Fit::Unknown, tree: None },
        _ => return Verdict { fit: Fit::No, tree: None },
    };
    let names: Vec<&str> = spec.columns.iter().map(|column| column.name.as_str()).collect();
    let fits = spec.projection.iter().map(|at| {
        let column = &spec.columns[*at];
        column_fit(&column.field(), column.json, &candidates(&tree, &names, *at))
    });
    Verdict { fit: fits.max().unwrap_or(Fit::Yes), tree: Some(tree) }
}

/// Generates a table and messages from `entropy`, decodes them with one decoder, and compares with serde_json.
pub fn check(entropy: &[u8]) {
    let mut entropy = Entropy(entropy);
    let spec = table(&mut entropy);
    let mut decoder = decoder(&FormatOptions::default(), &spec).unwrap();
    let count = 1 + entropy.below(6);
    let mut messages: Vec<Vec<u8>> = (0..count).map(|_| message(&mut entropy)).collect();
    // Once more, now that their fields are expected.
    messages.extend_from_within(..);
    let mut accepted = Vec::new();
    for message in &messages {
        let verdict = judge(message, &spec);
        let result = push(decoder.as_mut(), message);
        let shown = || format!("{:?} into {:?}: {result:?}", String::from_utf8_lossy(message), spec);
        match verdict.fit {
            Fit::Yes => assert!(result.is_ok(), "refused {}", shown()),
            Fit::No => assert!(result.is_err(), "accepted {}", shown()),
            Fit::Unknown => {}
        }
        if result.is_ok() {
            accepted.push((message, verdict));
        }
    }
    assert_eq!(decoder.len(), accepted.len());
    let Some(changes) = decoder.flush().unwrap() else { return };
    check_rows(changes.rows(), &spec, &accepted);
}

fn check_rows(rows: &RecordBatch, spec: &TableSpec, accepted: &[(&Vec<u8>, Verdict)]) {
    assert_eq!(rows.num_rows(), accepted.len());
    let names: Vec<&str> = spec.columns.iter().map(|column| column.name.as_str()).collect();
    for (row, (message, verdict)) in accepted.iter().enumerate() {
        let Some(tree) = &verdict.tree else { continue };
        for (array, at) in rows.columns().iter().zip(&spec.projection) {
            let column = &spec.columns[*at];
            let values = candidates(tree, &names, *at);
            if column_fit(&column.field(), column.json, &values) != Fit::Yes {
                continue;
            }
            let shown = String::from_utf8_lossy(message);
            assert!(same(array, row, column.json, values.last().copied()), "{shown:?} row {row} gave {column:?} {array:?}");
        }
    }
}

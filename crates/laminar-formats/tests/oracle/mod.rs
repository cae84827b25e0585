//! serde_json as the judge of our JSON decoder.
//!
//! From a string of bytes ("entropy") come a table, a message and its neighbours; [`check`] decodes them and compares with
//! what serde_json says about the same message, by the rules of the reference: which messages are refused, and which value
//! each column has. The same body runs under proptest, over random seeds, and under cargo-fuzz.
//!
//! Where serde_json knows less than the text says (a number beyond a double, or an integer written with a point), no claim
//! is made.

mod generate;
#[path = "../support/mod.rs"]
mod support;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int16Type, Int64Type, UInt64Type};
use laminar_core::table::TableSpec;
use laminar_formats::{FormatOptions, decoder};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

pub use generate::{Entropy, message, table};
use support::push;

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

fn fit(field: &Field, value: Option<&Tree>) -> Fit {
    let value = match value {
        None | Some(Tree::Null) => return if field.is_nullable() { Fit::Yes } else { Fit::No },
        Some(value) => value,
    };
    let number_in_quotes = |text: &str| match serde_json::from_str::<Tree>(text) {
        Ok(number @ (Tree::Unsigned(_) | Tree::Signed(_) | Tree::Float(_)))
            if !text.contains([' ', '\n', '\r', '\t']) =>
        {
            fit(field, Some(&number))
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
        (DataType::Float64, Tree::Text(text)) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => {
            Fit::Unknown
        }
        (DataType::Int64 | DataType::Int16 | DataType::UInt64 | DataType::Float64, Tree::Text(text)) => {
            number_in_quotes(text)
        }
        (DataType::List(item), Tree::List(items)) => {
            items.iter().map(|value| fit(item, Some(value))).max().unwrap_or(Fit::Yes)
        }
        (DataType::Struct(fields), Tree::Object(_)) => {
            let all = fields.iter().enumerate().map(|(at, field)| {
                let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                column_fit(field, &candidates(value, &names, at))
            });
            all.max().unwrap_or(Fit::Yes)
        }
        (DataType::Map(entries, _), Tree::Object(given)) => {
            let DataType::Struct(fields) = entries.data_type() else { return Fit::Unknown };
            given.iter().map(|(_, value)| fit(&fields[1], Some(value))).max().unwrap_or(Fit::Yes)
        }
        _ => Fit::No,
    }
}

fn claim(fits: bool) -> Fit {
    if fits { Fit::Yes } else { Fit::No }
}

/// Every value must fit; a column without one is null.
fn column_fit(field: &Field, values: &[&Tree]) -> Fit {
    if values.is_empty() {
        return fit(field, None);
    }
    values.iter().map(|value| fit(field, Some(value))).max().unwrap_or(Fit::Yes)
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
                && unique
                    .iter()
                    .enumerate()
                    .all(|(at, (key, value))| keys.value(at) == *key && same(values, at, false, Some(value)))
        }
        _ => false,
    }
}

/// What serde_json says about a message for a table.
struct Verdict {
    fit: Fit,
    tree: Option<Tree>,
}

fn judge(message: &[u8], spec: &TableSpec) -> Verdict {
    let tree = match serde_json::from_slice::<Tree>(message) {
        Ok(tree @ Tree::Object(_)) => tree,
        Err(error) if error.to_string().contains("number out of range") => {
            return Verdict { fit: Fit::Unknown, tree: None };
        }
        _ => return Verdict { fit: Fit::No, tree: None },
    };
    let names: Vec<&str> = spec.columns.iter().map(|column| column.name.as_str()).collect();
    let fits = spec.projection.iter().map(|at| {
        let column = &spec.columns[*at];
        column_fit(&column.field(), &candidates(&tree, &names, *at))
    });
    Verdict { fit: fits.max().unwrap_or(Fit::Yes), tree: Some(tree) }
}

/// Generates a table and messages from `entropy`, decodes them with one decoder, and compares with serde_json.
pub fn check(entropy: &[u8]) {
    let mut entropy = Entropy(entropy);
    let spec = table(&mut entropy);
    let mut decoder = decoder(&FormatOptions::default(), &spec).unwrap();
    let count = 1 + entropy.below(6);
    let mut messages: Vec<Vec<u8>> = (0..count).map(|_| message(&mut entropy, &spec)).collect();
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
            if column_fit(&column.field(), &values) != Fit::Yes {
                continue;
            }
            let shown = String::from_utf8_lossy(message);
            assert!(
                same(array, row, column.json, values.last().copied()),
                "{shown:?} row {row} gave {column:?} {array:?}"
            );
        }
    }
}

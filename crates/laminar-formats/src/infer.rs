//! A sample of JSON records to the columns of a table that reads them.
//!
//! ```text
//!  {"id":1,"at":"2024-01-01T00:00:00Z"}
//!  {"id":2,"at":null,"tags":["a"]}         ─►  id BIGINT, at TIMESTAMP, tags TEXT[]
//! ```
//!
//! Each value has a shape, shapes of one field are merged, and what has no type that holds all of it is JSON. The real decoder then
//! reads the sample: a column that it cannot fill is made JSON too.

use std::fmt;

use arrow::datatypes::{DataType, Field};
use laminar_core::options::Options;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, TableSpec, timestamp_type};
use laminar_core::{Code, Error, Position, Result};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::decoder;

/// Objects within objects become a STRUCT up to this depth.
const MAX_DEPTH: usize = 8;

/// What a sample says of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Inferred {
    /// `json` or `debezium_json`.
    pub format: &'static str,
    pub columns: Vec<Column>,
    /// Records of the sample that are not of that format.
    pub refused: usize,
}

/// Errors: `bad_data` if no record of the sample is a JSON object.
pub fn infer(sample: &[Vec<u8>]) -> Result<Inferred> {
    let shapes: Vec<Shape> = sample.iter().filter_map(|value| serde_json::from_slice(value).ok()).collect();
    let changes: Option<Vec<&Shape>> =
        shapes.iter().map(Shape::images).collect::<Option<Vec<_>>>().map(|all| all.concat());
    let (format, rows) = match changes {
        Some(images) if !images.is_empty() => ("debezium_json", images),
        _ => ("json", shapes.iter().collect()),
    };
    let rows = rows.into_iter().filter(|shape| matches!(shape, Shape::Object(fields) if !fields.is_empty()));
    let Some(Shape::Object(fields)) = rows.cloned().reduce(Shape::merge) else {
        return Err(Error::new(Code::BadData, format!("of {} records none is a JSON object", sample.len()))
            .with_hint("format raw reads any bytes; for Avro and Protobuf leave the columns out: CREATE TABLE t WITH (…, format = 'avro')"));
    };
    let mut columns: Vec<Column> = fields.into_iter().map(|(name, shape)| shape.column(name)).collect();
    loop {
        match check(format, &columns, sample)? {
            Checked::Refused(refused) => return Ok(Inferred { format, columns, refused }),
            Checked::Unfit(name) => match columns.iter_mut().find(|column| column.name == name && !column.json) {
                // Text that only looked like times.
                Some(column) if column.data_type == timestamp_type() => column.data_type = DataType::Utf8,
                Some(column) => *column = json(name),
                None => return Ok(Inferred { format, columns, refused: sample.len() }),
            },
        }
    }
}

enum Checked {
    /// So many records are refused whatever the columns are.
    Refused(usize),
    /// This column cannot hold a value.
    Unfit(String),
}

fn check(format: &str, columns: &[Column], sample: &[Vec<u8>]) -> Result<Checked> {
    let options = Options::from_pairs([("format", format)]).parse("format")?;
    let table = TableSpec {
        name: "sample".into(),
        columns: columns.to_vec(),
        projection: (0..columns.len()).collect(),
        event_time: None,
        primary_key: Vec::new(),
    };
    let mut decoder = decoder(&options, &table)?;
    let mut refused = 0;
    for value in sample {
        let record = RawRecord {
            key: None,
            value: Some(value),
            timestamp_micros: 0,
            timestamp_type: TimestampType::None,
            topic: "",
            partition: 0,
            position: Position(0),
            batch: None,
        };
        if let Err(fault) = decoder.push(&record) {
            let column = fault.column.as_deref().map(|path| path.split('.').next().unwrap_or(path));
            match column.filter(|name| columns.iter().any(|c| c.name == *name && !c.json)) {
                Some(name) => return Ok(Checked::Unfit(name.to_string())),
                None => refused += 1,
            }
        }
    }
    decoder.flush()?;
    Ok(Checked::Refused(refused))
}

/// What a value is like.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Null,
    Boolean,
    Integer,
    Number,
    Text,
    /// Text that is a time.
    Time,
    List(Box<Shape>),
    /// In the order in which the fields came.
    Object(Vec<(String, Shape)>),
    /// Values that are not alike.
    Any,
}

impl Shape {
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, shape) | (shape, Self::Null) => shape,
            (Self::Integer, Self::Number) | (Self::Number, Self::Integer) => Self::Number,
            (Self::Text, Self::Time) | (Self::Time, Self::Text) => Self::Text,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.merge(*b))),
            (Self::Object(mut fields), Self::Object(others)) => {
                for (name, shape) in others {
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => *known = std::mem::replace(known, Self::Null).merge(shape),
                        None => fields.push((name, shape)),
                    }
                }
                Self::Object(fields)
            }
            (a, b) if a == b => a,
            _ => Self::Any,
        }
    }

    fn field(&self, name: &str) -> Option<&Shape> {
        let Self::Object(fields) = self else { return None };
        fields.iter().find(|(known, _)| known == name).map(|(_, shape)| shape)
    }

    /// Of an envelope of Debezium, the rows in it.
    fn images(&self) -> Option<Vec<&Shape>> {
        let change = self.field("payload").filter(|payload| payload.field("op").is_some()).unwrap_or(self);
        let is_one = matches!(change.field("op"), Some(Self::Text))
            && change.field("after").or(change.field("before")).is_some();
        is_one.then(|| ["before", "after"].iter().filter_map(|name| change.field(name)).collect())
    }

    fn column(self, name: String) -> Column {
        match self.data_type(0) {
            Some(data_type) => Column { name, data_type, nullable: true, json: false, metadata: None },
            None => json(name),
        }
    }

    /// `None`: only JSON holds it.
    fn data_type(&self, depth: usize) -> Option<DataType> {
        Some(match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Time => timestamp_type(),
            Self::List(item) => DataType::new_list(item.data_type(depth + 1)?, true),
            Self::Object(fields) if !fields.is_empty() && depth < MAX_DEPTH => {
                let field = |(name, shape): &(String, Shape)| Some(Field::new(name, shape.data_type(depth + 1)?, true));
                DataType::Struct(fields.iter().map(field).collect::<Option<Vec<_>>>()?.into())
            }
            Self::Null | Self::Any | Self::Object(_) => return None,
        })
    }
}

fn json(name: String) -> Column {
    Column { name, data_type: DataType::Utf8, nullable: true, json: true, metadata: None }
}

/// It begins as `2024-01-31T12:` or `2024-01-31 12:` do; whether the rest is a time the decoder says.
fn is_time(text: &str) -> bool {
    let looks = |(pattern, byte): (u8, &u8)| match pattern {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b' '),
        other => *byte == other,
    };
    let pattern = b"0000-00-00T00:00";
    text.len() >= pattern.len() && pattern.iter().copied().zip(text.as_bytes()).all(looks)
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> std::result::Result<Shape, E> {
        Ok(Shape::Null)
    }
    fn visit_bool<E>(self, _: bool) -> std::result::Result<Shape, E> {
        Ok(Shape::Boolean)
    }
    fn visit_i64<E>(self, _: i64) -> std::result::Result<Shape, E> {
        Ok(Shape::Integer)
    }
    fn visit_u64<E>(self, value: u64) -> std::result::Result<Shape, E> {
        Ok(if i64::try_from(value).is_ok() { Shape::Integer } else { Shape::Any })
    }
    fn visit_f64<E>(self, _: f64) -> std::result::Result<Shape, E> {
        Ok(Shape::Number)
    }
    fn visit_str<E>(self, text: &str) -> std::result::Result<Shape, E> {
        Ok(if is_time(text) { Shape::Time } else { Shape::Text })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Shape, A::Error> {
        let mut shape = Shape::Null;
        while let Some(item) = items.next_element()? {
            shape = shape.merge(item);
        }
        Ok(Shape::List(Box::new(shape)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Shape, A::Error> {
        let mut fields: Vec<(String, Shape)> = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            let known = fields.iter().position(|(known, _)| *known == name);
            if known.is_none() && fields.len() >= MAX_FIELDS {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let shape = entries.next_value()?;
            match known.and_then(|at| fields.get_mut(at)) {
                // Of equal names the last counts, as for the decoder.
                Some((_, known)) => *known = shape,
                None => fields.push((name, shape)),
            }
        }
        Ok(Shape::Object(fields))
    }
}

/// Fields of an object that are looked at: keys that are data make no columns without end.
const MAX_FIELDS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sample: &[&str], expected: &str) {
        let sample: Vec<Vec<u8>> = sample.iter().map(|value| value.as_bytes().to_vec()).collect();
        let actual = match infer(&sample) {
            Ok(Inferred { format, columns, refused }) => {
                let shown = |c: &Column| {
                    let of_type =
                        if c.json { "JSON".to_string() } else { laminar_core::sql_name::sql_name(&c.data_type) };
                    format!("{} {of_type}", c.name)
                };
                format!("{format}: {}; {refused} refused", columns.iter().map(shown).collect::<Vec<_>>().join(", "))
            }
            Err(error) => format!("{}: {}", error.code(), error.message()),
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn values_of_one_field_have_one_type() {
        check(
            &[r#"{"id":1,"at":"2024-01-01T00:00:00Z","x":1}"#, r#"{"at":null,"id":2,"tags":["a"],"x":0.5}"#],
            "json: id BIGINT, at TIMESTAMP, x DOUBLE, tags TEXT[]; 0 refused",
        );
        check(
            &[r#"{"a":1}"#, r#"{"a":"x"}"#, r#"{"a":[1,"x"],"b":null,"c":{}}"#],
            "json: a JSON, b JSON, c JSON; 0 refused",
        );
        check(
            &[r#"{"o":{"n":1,"Big":[{"t":true}]}}"#],
            "json: o STRUCT<n BIGINT, \"Big\" STRUCT<t BOOLEAN>[]>; 0 refused",
        );
        check(&[r#"{"t":"2024-01-01T00:00:00Z"}"#, r#"{"t":"soon"}"#], "json: t TEXT; 0 refused");
        check(&[r#"{"t":"2024-99-01T00:00:00Z"}"#], "json: t TEXT; 0 refused");
        check(&[r#"{"n":18446744073709551615}"#, r#"{"n":1}"#], "json: n JSON; 0 refused");
    }

    #[test]
    fn changes_are_told_by_their_envelope() {
        let created = r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c"}"#;
        let deleted = r#"{"payload":{"before":{"id":1,"old":true},"after":null,"op":"d"}}"#;
        check(&[created, deleted], "debezium_json: id BIGINT, name TEXT, old BOOLEAN; 0 refused");
    }

    #[test]
    fn what_is_no_object_is_counted() {
        check(&[r#"{"a":1}"#, "poison", "[1]", r#"{"a":2}"#], "json: a BIGINT; 2 refused");
        check(&["poison", "\u{0}\u{1}"], "bad_data: of 2 records none is a JSON object");
        check(&[], "bad_data: of 0 records none is a JSON object");
    }
}

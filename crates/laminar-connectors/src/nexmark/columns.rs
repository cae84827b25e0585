//! A table's columns: which value each shows, checked once, and their arrays.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringBuilder, StructArray, TimestampMicrosecondArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Fields};
use laminar_core::options::nearest;
use laminar_core::sql_name::sql_name;
use laminar_core::table::{Column, EventTime, timestamp_type};
use laminar_core::{Code, Error, Result};

use super::SUBJECT;
use super::events::{Events, Kind};
use super::fields::{Field, Make, fields};

/// Columns of a table that has every kind of event.
const EVENT_TYPE: &str = "event_type";
const DATE_TIME: &str = "date_time";
const WHOLE: [(&str, Option<Kind>); 5] = [
    (EVENT_TYPE, None),
    ("person", Some(Kind::Person)),
    ("auction", Some(Kind::Auction)),
    ("bid", Some(Kind::Bid)),
    (DATE_TIME, None),
];

/// Makes one column.
#[derive(Debug)]
pub enum ColumnMaker {
    EventType,
    Value(Make),
    /// The events of one kind, null for the others: these fields of it.
    Event(Kind, Fields, Vec<Make>),
}

/// A maker for every column, of a table of one kind of event or of all.
///
/// Errors: `unknown_column`, `type_mismatch`.
pub fn makers(event: Option<Kind>, columns: &[Column]) -> Result<Vec<ColumnMaker>> {
    let maker = |column: &Column| match event {
        Some(kind) => value(kind, &column.name, &column.data_type, &column.name).map(ColumnMaker::Value),
        None => of_all(column),
    };
    columns.iter().map(maker).collect()
}

/// What says when a row happened: the table's event time column where it is one of ours, else the event's own time.
pub fn times(event: Option<Kind>, event_time: Option<&EventTime>) -> fn(&Events, u64) -> i64 {
    let field = event.zip(event_time).and_then(|(kind, time)| fields(kind).iter().find(|f| f.name == time.column));
    match field.map(|field| field.make) {
        Some(Make::Time(time)) => time,
        _ => Events::time,
    }
}

fn of_all(column: &Column) -> Result<ColumnMaker> {
    let (name, data_type) = (column.name.as_str(), &column.data_type);
    let Some((_, kind)) = WHOLE.iter().find(|(known, _)| *known == name) else {
        let kinds = [Kind::Person, Kind::Auction, Kind::Bid].into_iter();
        let owner = kinds.filter(|kind| fields(*kind).iter().any(|f| f.name == name)).map(Kind::as_str).next_back();
        let error = unknown(name, name, WHOLE.iter().map(|(name, _)| *name));
        return Err(match owner {
            Some(kind) => error.with_hint(format!("for a table of one kind of event add event = '{kind}'")),
            None => error,
        });
    };
    match kind {
        None if name == DATE_TIME => {
            expect(name, data_type, &timestamp_type()).map(|()| ColumnMaker::Value(Make::Time(Events::time)))
        }
        None => expect(name, data_type, &DataType::Int32).map(|()| ColumnMaker::EventType),
        Some(kind) => {
            let DataType::Struct(declared) = data_type else { return Err(mismatch(name, data_type, "STRUCT")) };
            if !column.nullable {
                let message = format!("column {name} of {SUBJECT} cannot be NOT NULL");
                return Err(Error::new(Code::TypeMismatch, message)
                    .with_detail("it is null where the event is of another kind")
                    .with_field(name));
            }
            let make = |field: &Arc<arrow::datatypes::Field>| {
                value(*kind, field.name(), field.data_type(), &format!("{name}.{}", field.name()))
            };
            let makes = declared.iter().map(make).collect::<Result<_>>()?;
            Ok(ColumnMaker::Event(*kind, declared.clone(), makes))
        }
    }
}

/// The value `name` of a kind; `path` is what the user calls it.
fn value(kind: Kind, name: &str, data_type: &DataType, path: &str) -> Result<Make> {
    let known: &[Field] = fields(kind);
    let Some(field) = known.iter().find(|field| field.name == name) else {
        return Err(unknown(name, path, known.iter().map(|field| field.name)));
    };
    expect(path, data_type, &field.data_type()).map(|()| field.make)
}

fn expect(path: &str, data_type: &DataType, expected: &DataType) -> Result<()> {
    if data_type == expected { Ok(()) } else { Err(mismatch(path, data_type, &sql_name(expected))) }
}

fn mismatch(path: &str, data_type: &DataType, expected: &str) -> Error {
    Error::new(Code::TypeMismatch, format!("column {path} of {SUBJECT} must be {expected}"))
        .with_detail(format!("it is {}", sql_name(data_type)))
        .with_field(path)
}

fn unknown(name: &str, path: &str, known: impl Iterator<Item = &'static str> + Clone) -> Error {
    let error = Error::new(Code::UnknownColumn, format!("{SUBJECT} has no column {path}")).with_field(path);
    match nearest(name, known.clone()) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error.with_hint(format!("columns: {}", known.collect::<Vec<_>>().join(", "))),
    }
}

impl ColumnMaker {
    /// The values of the events with these numbers.
    pub fn make(&self, events: &Events, numbers: &[u64]) -> Result<ArrayRef> {
        Ok(match self {
            Self::EventType => Arc::new(Int32Array::from_iter_values(numbers.iter().map(|n| Kind::of(*n) as i32))),
            Self::Value(make) => array(*make, events, numbers, None),
            Self::Event(kind, fields, makes) => {
                let present = BooleanBuffer::collect_bool(numbers.len(), |i| {
                    numbers.get(i).is_some_and(|number| Kind::of(*number) == *kind)
                });
                let nulls = NullBuffer::new(present);
                let columns = makes.iter().map(|make| array(*make, events, numbers, Some(&nulls))).collect();
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(nulls), numbers.len())?)
            }
        })
    }
}

/// The values where `nulls` has one, else of every event.
fn array(make: Make, events: &Events, numbers: &[u64], nulls: Option<&NullBuffer>) -> ArrayRef {
    match make {
        // A value behind a null costs less than asking.
        Make::Number(make) => {
            let values: Vec<i64> = numbers.iter().map(|number| make(events, *number)).collect();
            Arc::new(Int64Array::new(values.into(), nulls.cloned()))
        }
        Make::Time(make) => {
            let values: Vec<i64> = numbers.iter().map(|number| make(events, *number)).collect();
            Arc::new(TimestampMicrosecondArray::new(values.into(), nulls.cloned()))
        }
        Make::Text(make) => {
            let mut builder = StringBuilder::with_capacity(numbers.len(), numbers.len() * 16);
            let mut text = String::new();
            for (row, number) in numbers.iter().enumerate() {
                if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                    builder.append_null();
                    continue;
                }
                text.clear();
                make(events, *number, &mut text);
                builder.append_value(&text);
            }
            Arc::new(builder.finish())
        }
    }
}

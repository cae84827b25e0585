//! Columns under construction, all of a table's in one arena, nested ones too: a program names them by their slot.
//!
//! A column may be longer than the rows that are done, after a fault; whoever knows the row cuts it back with `truncate`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Decimal128Array, ListArray, MapArray, NullBufferBuilder, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use laminar_core::sql_name::sql_name;
use laminar_core::table::TYPE_KEY;
use laminar_core::{Code, Error, Result};

use crate::internal;
use crate::json::nested::Ends;
use crate::json::scalar::{Booleans, Values};
use crate::json::text::Bytes;
use crate::repeats::Repeats;

/// Index of a column in the arena.
pub(crate) type Slot = usize;

/// A column and what its table says about it.
pub(crate) struct Node {
    pub name: Box<str>,
    pub nullable: bool,
    /// Text that must be JSON.
    pub json: bool,
    pub data_type: DataType,
    pub column: Column,
}

pub(crate) enum Column {
    Boolean(Booleans),
    Int8(Values<i8>),
    Int16(Values<i16>),
    Int32(Values<i32>),
    Int64(Values<i64>),
    UInt8(Values<u8>),
    UInt16(Values<u16>),
    UInt32(Values<u32>),
    UInt64(Values<u64>),
    Float32(Values<f32>),
    Float64(Values<f64>),
    Decimal(Values<i128>),
    Text(Bytes),
    Binary(Bytes),
    Date(Values<i32>),
    Time(Values<i64>),
    Timestamp(Values<i64>),
    Interval(Values<IntervalMonthDayNano>),
    List {
        ends: Ends,
        item: Slot,
    },
    /// Of equal keys the last wins, in the place of the first.
    Map {
        ends: Ends,
        keys: Bytes,
        value: Slot,
        repeats: Repeats,
    },
    Struct {
        children: Vec<Slot>,
        rows: usize,
        nulls: NullBufferBuilder,
    },
}

/// The arena.
#[derive(Default)]
pub(crate) struct Columns {
    nodes: Vec<Node>,
    /// Slots of the table's columns that are read, in the order asked for.
    top: Vec<Slot>,
    rows: usize,
}

impl Columns {
    /// Errors with `not_supported` if a type cannot be filled from Avro.
    pub fn new<'a>(fields: impl IntoIterator<Item = &'a Field>) -> Result<Self> {
        let mut columns = Self::default();
        for field in fields {
            let slot = columns.add(field)?;
            columns.top.push(slot);
        }
        Ok(columns)
    }

    fn add(&mut self, field: &Field) -> Result<Slot> {
        use DataType::*;
        let column = match field.data_type() {
            Boolean => Column::Boolean(Booleans::new()),
            Int8 => Column::Int8(Values::new()),
            Int16 => Column::Int16(Values::new()),
            Int32 => Column::Int32(Values::new()),
            Int64 => Column::Int64(Values::new()),
            UInt8 => Column::UInt8(Values::new()),
            UInt16 => Column::UInt16(Values::new()),
            UInt32 => Column::UInt32(Values::new()),
            UInt64 => Column::UInt64(Values::new()),
            Float32 => Column::Float32(Values::new()),
            Float64 => Column::Float64(Values::new()),
            Decimal128(_, _) => Column::Decimal(Values::new()),
            Utf8 => Column::Text(Bytes::new()),
            Binary => Column::Binary(Bytes::new()),
            Date32 => Column::Date(Values::new()),
            Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond) => Column::Time(Values::new()),
            Timestamp(_, _) => Column::Timestamp(Values::new()),
            Interval(IntervalUnit::MonthDayNano) => Column::Interval(Values::new()),
            List(item) => Column::List { ends: Ends::new(), item: self.add(item)? },
            Map(entries, _) => {
                let value = map_value(entries).ok_or_else(|| unsupported(field))?;
                let value = self.add(value)?;
                Column::Map { ends: Ends::new(), keys: Bytes::new(), value, repeats: Repeats::default() }
            }
            Struct(fields) => {
                let children = fields.iter().map(|field| self.add(field)).collect::<Result<_>>()?;
                Column::Struct { children, rows: 0, nulls: NullBufferBuilder::new(0) }
            }
            _ => return Err(unsupported(field)),
        };
        self.nodes.push(Node {
            name: field.name().as_str().into(),
            nullable: field.is_nullable(),
            json: field.metadata().get(TYPE_KEY).is_some_and(|kind| kind == "json"),
            data_type: field.data_type().clone(),
            column,
        });
        Ok(self.nodes.len() - 1)
    }

    pub fn top(&self) -> &[Slot] {
        &self.top
    }
    pub fn node(&self, slot: Slot) -> Option<&Node> {
        self.nodes.get(slot)
    }
    #[inline(always)]
    pub fn column(&mut self, slot: Slot) -> Option<&mut Column> {
        self.nodes.get_mut(slot).map(|node| &mut node.column)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }
    /// A row is done: every column has one entry more.
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Appends a null, whatever the table says about nulls.
    pub fn push_null(&mut self, slot: Slot) {
        let mut children = Vec::new();
        let Some(column) = self.column(slot) else { return };
        match column {
            Column::Boolean(column) => column.push_null(),
            Column::Int8(column) => column.push_null(),
            Column::Int16(column) => column.push_null(),
            Column::Int32(column) | Column::Date(column) => column.push_null(),
            Column::Int64(column) | Column::Time(column) | Column::Timestamp(column) => column.push_null(),
            Column::UInt8(column) => column.push_null(),
            Column::UInt16(column) => column.push_null(),
            Column::UInt32(column) => column.push_null(),
            Column::UInt64(column) => column.push_null(),
            Column::Float32(column) => column.push_null(),
            Column::Float64(column) => column.push_null(),
            Column::Decimal(column) => column.push_null(),
            Column::Text(column) | Column::Binary(column) => column.push_null(),
            Column::Interval(column) => column.push_null(),
            Column::List { ends, .. } | Column::Map { ends, .. } => ends.push_null(),
            Column::Struct { children: all, rows, nulls } => {
                *rows += 1;
                nulls.append_null();
                children.clone_from(all);
            }
        }
        children.into_iter().for_each(|child| self.push_null(child));
    }

    /// Cuts all columns back to `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.rows = rows;
        for slot in self.top.clone() {
            self.truncate_one(slot, rows);
        }
    }

    fn truncate_one(&mut self, slot: Slot, rows: usize) {
        let mut children = Vec::new();
        let Some(column) = self.column(slot) else { return };
        match column {
            Column::Boolean(column) => column.truncate(rows),
            Column::Int8(column) => column.truncate(rows),
            Column::Int16(column) => column.truncate(rows),
            Column::Int32(column) | Column::Date(column) => column.truncate(rows),
            Column::Int64(column) | Column::Time(column) | Column::Timestamp(column) => column.truncate(rows),
            Column::UInt8(column) => column.truncate(rows),
            Column::UInt16(column) => column.truncate(rows),
            Column::UInt32(column) => column.truncate(rows),
            Column::UInt64(column) => column.truncate(rows),
            Column::Float32(column) => column.truncate(rows),
            Column::Float64(column) => column.truncate(rows),
            Column::Decimal(column) => column.truncate(rows),
            Column::Text(column) | Column::Binary(column) => column.truncate(rows),
            Column::Interval(column) => column.truncate(rows),
            Column::List { ends, item } => {
                ends.truncate(rows);
                children.push((*item, ends.total()));
            }
            Column::Map { ends, keys, value, repeats } => {
                ends.truncate(rows);
                keys.truncate(ends.total());
                repeats.truncate(ends.total());
                children.push((*value, ends.total()));
            }
            Column::Struct { children: all, rows: count, nulls } => {
                *count = rows;
                nulls.truncate(rows);
                children.extend(all.iter().map(|child| (*child, rows)));
            }
        }
        children.into_iter().for_each(|(child, rows)| self.truncate_one(child, rows));
    }

    /// The columns that were asked for, and an empty start.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.top.clone().into_iter().map(|slot| self.finish_one(slot)).collect()
    }

    fn finish_one(&mut self, slot: Slot) -> Result<ArrayRef> {
        let Some(node) = self.nodes.get_mut(slot) else { return Err(internal("a column is missing")) };
        let data_type = node.data_type.clone();
        Ok(match (&mut node.column, &data_type) {
            (Column::Boolean(column), _) => column.finish()?,
            (Column::Int8(column), _) => Arc::new(column.take::<Int8Type>()?),
            (Column::Int16(column), _) => Arc::new(column.take::<Int16Type>()?),
            (Column::Int32(column), _) => Arc::new(column.take::<Int32Type>()?),
            (Column::Int64(column), _) => Arc::new(column.take::<Int64Type>()?),
            (Column::UInt8(column), _) => Arc::new(column.take::<UInt8Type>()?),
            (Column::UInt16(column), _) => Arc::new(column.take::<UInt16Type>()?),
            (Column::UInt32(column), _) => Arc::new(column.take::<UInt32Type>()?),
            (Column::UInt64(column), _) => Arc::new(column.take::<UInt64Type>()?),
            (Column::Float32(column), _) => Arc::new(column.take::<Float32Type>()?),
            (Column::Float64(column), _) => Arc::new(column.take::<Float64Type>()?),
            (Column::Decimal(column), DataType::Decimal128(precision, scale)) => {
                let array: Decimal128Array = column.take::<Decimal128Type>()?;
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            (Column::Text(column), _) => column.finish_text()?,
            (Column::Binary(column), _) => {
                let (offsets, bytes, nulls) = column.take();
                Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?)
            }
            (Column::Date(column), _) => Arc::new(column.take::<Date32Type>()?),
            (Column::Time(column), DataType::Time64(TimeUnit::Nanosecond)) => {
                Arc::new(column.take::<Time64NanosecondType>()?)
            }
            (Column::Time(column), _) => Arc::new(column.take::<Time64MicrosecondType>()?),
            (Column::Timestamp(column), DataType::Timestamp(unit, zone)) => timestamps(column, *unit, zone.clone())?,
            (Column::Interval(column), _) => Arc::new(column.take::<IntervalMonthDayNanoType>()?),
            (Column::List { ends, item }, DataType::List(field)) => {
                let ((offsets, nulls), item) = (ends.take(), *item);
                let items = self.finish_one(item)?;
                Arc::new(ListArray::try_new(Arc::clone(field), offsets, items, nulls)?)
            }
            (Column::Map { ends, keys, value, repeats }, DataType::Map(entries, _)) => {
                let ((offsets, nulls), keys, value) = (ends.take(), keys.finish_text()?, *value);
                let mut repeats = std::mem::take(repeats);
                let values = self.finish_one(value)?;
                let (offsets, keys, values) = repeats.take_out(offsets, keys, values)?;
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(internal("a MAP without entries"));
                };
                let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
                Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false)?)
            }
            (Column::Struct { children, rows, nulls }, DataType::Struct(fields)) => {
                let (rows, nulls, children) = (std::mem::take(rows), nulls.finish(), children.clone());
                let columns = children.into_iter().map(|child| self.finish_one(child)).collect::<Result<Vec<_>>>()?;
                structs(fields, columns, rows, nulls)?
            }
            _ => return Err(internal("a column is not of its type")),
        })
    }
}

fn structs(
    fields: &Fields,
    columns: Vec<ArrayRef>,
    rows: usize,
    nulls: Option<arrow::buffer::NullBuffer>,
) -> Result<ArrayRef> {
    if columns.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(rows, nulls)));
    }
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
}

fn timestamps(column: &mut Values<i64>, unit: TimeUnit, zone: Option<Arc<str>>) -> Result<ArrayRef> {
    Ok(match unit {
        TimeUnit::Second => Arc::new(column.take::<TimestampSecondType>()?.with_timezone_opt(zone)),
        TimeUnit::Millisecond => Arc::new(column.take::<TimestampMillisecondType>()?.with_timezone_opt(zone)),
        TimeUnit::Microsecond => Arc::new(column.take::<TimestampMicrosecondType>()?.with_timezone_opt(zone)),
        TimeUnit::Nanosecond => Arc::new(column.take::<TimestampNanosecondType>()?.with_timezone_opt(zone)),
    })
}

/// The values' field of a MAP whose keys are text.
pub(super) fn map_value(entries: &FieldRef) -> Option<&FieldRef> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.iter().as_slice() {
            [key, value] if *key.data_type() == DataType::Utf8 => Some(value),
            _ => None,
        },
        _ => None,
    }
}

fn unsupported(field: &Field) -> Error {
    Error::new(Code::NotSupported, format!("column {} cannot be read from Avro", field.name()))
        .with_detail(format!("type {} has no Avro form", sql_name(field.data_type())))
        .with_field(field.name())
}

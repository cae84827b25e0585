//! Columns under construction, all of a table's in one arena, nested ones too: a program names them by their slot.
//!
//! A column may be longer than the rows that are done, after a fault; whoever knows the row cuts it back with `truncate`.

use arrow::array::{ArrayRef, NullBufferBuilder};
use arrow::datatypes::{DataType, Field};
use laminar_core::sql_name::sql_name;
use laminar_core::table::TYPE_KEY;
use laminar_core::{Code, Error, Result};

use crate::columns::{Bytes, Ends, Repeats, Scalar, struct_array, text_map_value};
use crate::internal;

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
    Scalar(Scalar),
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
        let column = match field.data_type() {
            DataType::List(item) => Column::List { ends: Ends::new(), item: self.add(item)? },
            DataType::Map(entries, _) => {
                let value = text_map_value(entries).ok_or_else(|| unsupported(field))?;
                let value = self.add(value)?;
                Column::Map { ends: Ends::new(), keys: Bytes::new(), value, repeats: Repeats::default() }
            }
            DataType::Struct(fields) => {
                let children = fields.iter().map(|field| self.add(field)).collect::<Result<_>>()?;
                Column::Struct { children, rows: 0, nulls: NullBufferBuilder::new(0) }
            }
            other => Column::Scalar(Scalar::new(other).ok_or_else(|| unsupported(field))?),
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
            Column::Scalar(column) => column.push_null(),
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
            Column::Scalar(column) => column.truncate(rows),
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
            (Column::Scalar(column), data_type) => column.finish(data_type)?,
            (Column::List { ends, item }, DataType::List(field)) => {
                let (mut ends, item) = (std::mem::take(ends), *item);
                ends.finish_list(field, self.finish_one(item)?)?
            }
            (Column::Map { ends, keys, value, repeats }, DataType::Map(entries, _)) => {
                let (mut ends, mut repeats) = (std::mem::take(ends), std::mem::take(repeats));
                let (keys, value) = (keys.finish_text()?, *value);
                ends.finish_map(entries, keys, self.finish_one(value)?, &mut repeats)?
            }
            (Column::Struct { children, rows, nulls }, DataType::Struct(fields)) => {
                let (rows, nulls, children) = (std::mem::take(rows), nulls.finish(), children.clone());
                let columns = children.into_iter().map(|child| self.finish_one(child)).collect::<Result<Vec<_>>>()?;
                struct_array(fields, columns, rows, nulls)?
            }
            _ => return Err(internal("a column is not of its type")),
        })
    }
}

fn unsupported(field: &Field) -> Error {
    Error::new(Code::NotSupported, format!("column {} cannot be read from Avro", field.name()))
        .with_detail(format!("type {} has no Avro form", sql_name(field.data_type())))
        .with_field(field.name())
}

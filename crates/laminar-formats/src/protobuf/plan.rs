//! Which field each column means, and whether they fit: decided once, at CREATE TABLE.
//!
//! A column means the field of its name, else the one whose `json_name` it is, else the one whose name differs only in case.
//! A STRUCT's fields mean those of its message in the same way, so a message that contains itself is no trouble: a column's type
//! ends somewhere.

use std::sync::Arc;

use arrow::array::NullBufferBuilder;
use arrow::datatypes::{DataType, Field, Fields};
use laminar_core::options::nearest;
use laminar_core::sql_name::sql_name;
use laminar_core::table::TYPE_KEY;
use laminar_core::{Code, Error, Result};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::column::Column;
use super::message::{Absent, MessageReader, NONE, Place, Slot};
use super::nested::{Lists, Maps, Structs};
use super::scalar::Scalars;
use super::source::{Source, default_bytes};
use super::wire::WireType;
use crate::columns::{Ends, Repeats, map_fields};
use crate::options::TimestampFormat;
use crate::outside::MAX_FIELDS;

/// Makes the reader of `message` for `columns`, of which those in `wanted` are read, in that order.
pub(super) fn reader(
    message: &MessageDescriptor,
    columns: &[Field],
    wanted: &[usize],
    format: TimestampFormat,
) -> Result<MessageReader> {
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let field = field_of(message, column.name())?;
        if let Some((_, other)) = fields.iter().zip(columns).find(|(other, _)| **other == field) {
            let text =
                format!("columns {} and {} are the same field of {}", other.name(), column.name(), name(message));
            return Err(Error::new(Code::DuplicateColumn, text).with_field(column.name()));
        }
        check(&field, column)?;
        fields.push(field);
    }
    let mut slots = Vec::with_capacity(wanted.len());
    let mut places = Vec::new();
    for index in wanted {
        let (Some(field), Some(column)) = (fields.get(*index), columns.get(*index)) else { continue };
        places.push((field.number(), Place::Slot(u32::try_from(slots.len()).unwrap_or(NONE))));
        slots.push(slot(field, column, format)?);
    }
    let oneofs = oneofs(message, &mut places, &mut slots);
    Ok(MessageReader::new(places.into_iter(), slots, oneofs))
}

/// Numbers the oneofs that have a field that is read, and makes their other fields count.
fn oneofs(message: &MessageDescriptor, places: &mut Vec<(u32, Place)>, slots: &mut [Slot]) -> usize {
    let mut count = 0u32;
    for oneof in message.oneofs() {
        let members: Vec<u32> = oneof.fields().map(|field| field.number()).collect();
        let is_read = |number: &u32| places.iter().any(|(other, _)| other == number);
        let (read, unread): (Vec<u32>, Vec<u32>) = members.into_iter().partition(is_read);
        if read.is_empty() || (read.len() == 1 && unread.is_empty()) {
            continue;
        }
        for (_, place) in places.iter().filter(|(number, _)| read.contains(number)) {
            if let Place::Slot(index) = place
                && let Some(slot) = slots.get_mut(*index as usize)
            {
                slot.oneof = count;
            }
        }
        places.extend(unread.into_iter().map(|number| (number, Place::Member(count))));
        count += 1;
    }
    count as usize
}

/// The field that a column means.
pub(super) fn field_of(message: &MessageDescriptor, column: &str) -> Result<FieldDescriptor> {
    let by_name = message.get_field_by_name(column).or_else(|| message.get_field_by_json_name(column));
    let folded = || {
        let same = |name: &str| name.to_lowercase() == column.to_lowercase();
        message.fields().find(|field| same(field.name()) || same(field.json_name()))
    };
    by_name.or_else(folded).ok_or_else(|| {
        let names: Vec<String> = message.fields().map(|field| field.name().to_string()).collect();
        let text = format!("message {} has no field for column {column}", name(message));
        let error = Error::new(Code::UnknownColumn, text).with_field(column);
        match nearest(column, names.iter().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None if names.is_empty() => error.with_hint("the message has no fields"),
            None => error.with_hint(format!("its fields: {}", names.join(", "))),
        }
    })
}

/// Can the field fill the column, and be written from it?
pub(super) fn check(field: &FieldDescriptor, column: &Field) -> Result<()> {
    let misfit = || {
        let (wanted, found) = (sql_name(column.data_type()), kind_name(field));
        let text = format!("column {} of type {wanted} does not fit the field, which is {found}", column.name());
        let error = Error::new(Code::TypeMismatch, text).with_field(column.name());
        // Of a message with many fields the type would be no hint but a wall of text.
        match natural(field, 0, &mut 50) {
            Ok(natural) => {
                let natural = column_type(&natural);
                error.with_hint(format!("declare it {natural}"))
            }
            Err(_) => error,
        }
    };
    if field.is_group() {
        let text = format!("column {} means a group, which Protobuf gave up and which is not read", column.name());
        return Err(Error::new(Code::NotSupported, text).with_field(column.name()));
    }
    if field.is_map() {
        let (Kind::Message(entry), DataType::Map(entries, _)) = (field.kind(), column.data_type()) else {
            return Err(misfit());
        };
        let Some((key, value)) = map_fields(entries) else { return Err(misfit()) };
        check_one(&entry.map_entry_key_field(), key, &misfit)?;
        return check_one(&entry.map_entry_value_field(), value, &misfit);
    }
    if field.is_list() {
        let DataType::List(item) = column.data_type() else { return Err(misfit()) };
        return check_one(field, item, &misfit);
    }
    check_one(field, column, &misfit)
}

/// One value of the field.
fn check_one(field: &FieldDescriptor, column: &Field, misfit: &dyn Fn() -> Error) -> Result<()> {
    if let Some(source) = Source::of(&field.kind())
        && source.fits(column.data_type())
    {
        return Ok(());
    }
    let (Kind::Message(message), DataType::Struct(inner)) = (field.kind(), column.data_type()) else {
        return Err(misfit());
    };
    for inner in inner {
        check(&field_of(&message, inner.name())?, inner)?;
    }
    Ok(())
}

fn slot(field: &FieldDescriptor, column: &Field, format: TimestampFormat) -> Result<Slot> {
    let (wire, filled) = if field.is_map() {
        (WireType::Bytes, Column::Map(Box::new(maps(field, column, format)?)))
    } else if field.is_list() {
        let DataType::List(item_field) = column.data_type() else { return Err(unplanned(column)) };
        let item = one(field, item_field, format)?;
        let (wire, packable) = match &item {
            Column::Scalar(item) => (item.wire_type(), item.is_packable()),
            _ => (WireType::Bytes, false),
        };
        let field = Arc::clone(item_field);
        (wire, Column::List(Box::new(Lists { field, item, packable, wire, items: 0, ends: Ends::new() })))
    } else {
        let one = one(field, column, format)?;
        (wire_of(&one), one)
    };
    let (merges, null) = match &filled {
        Column::Scalar(column) => (column.merges(), column.empty_text_is_null()),
        Column::Struct(_) => (true, false),
        _ => (false, false),
    };
    let explicit = field.field_descriptor_proto().default_value.is_some();
    let absent = if field.is_required() {
        Absent::Required
    } else if null || (field.supports_presence() && !explicit) {
        Absent::Null
    } else {
        Absent::Value(default_bytes(field))
    };
    Ok(Slot {
        name: column.name().as_str().into(),
        nullable: column.is_nullable(),
        column: filled,
        wire,
        merges,
        absent,
        oneof: NONE,
        filled: 0,
        first: 0,
    })
}

/// A column for one value of the field.
fn one(field: &FieldDescriptor, column: &Field, format: TimestampFormat) -> Result<Column> {
    if let Some(source) = Source::of(&field.kind())
        && source.fits(column.data_type())
    {
        return Ok(Column::Scalar(Scalars::new(source, column.data_type(), is_json(column), format)?));
    }
    let (Kind::Message(message), DataType::Struct(fields)) = (field.kind(), column.data_type()) else {
        return Err(unplanned(column));
    };
    let inner: Vec<Field> = fields.iter().map(|field| field.as_ref().clone()).collect();
    let all: Vec<usize> = (0..inner.len()).collect();
    let reader = reader(&message, &inner, &all, format)?;
    Ok(Column::Struct(Box::new(Structs { fields: fields.clone(), reader, nulls: NullBufferBuilder::new(0) })))
}

fn maps(field: &FieldDescriptor, column: &Field, format: TimestampFormat) -> Result<Maps> {
    let (Kind::Message(entry), DataType::Map(entries, _)) = (field.kind(), column.data_type()) else {
        return Err(unplanned(column));
    };
    let Some((key_column, value_column)) = map_fields(entries) else { return Err(unplanned(column)) };
    let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
    let filled = one(&value, value_column, format)?;
    Ok(Maps {
        entries: Arc::clone(entries),
        key: one(&key, key_column, format)?,
        key_source: Source::of(&key.kind()).ok_or_else(|| unplanned(column))?,
        value_wire: wire_of(&filled),
        value: filled,
        absent: [default_bytes(&key), default_bytes(&value)],
        row: Vec::new(),
        ends: Ends::new(),
        repeats: Repeats::default(),
    })
}

fn wire_of(column: &Column) -> WireType {
    match column {
        Column::Scalar(column) => column.wire_type(),
        _ => WireType::Bytes,
    }
}

pub(super) fn is_json(field: &Field) -> bool {
    field.metadata().get(TYPE_KEY).is_some_and(|kind| kind == "json")
}

fn unplanned(column: &Field) -> Error {
    crate::internal(format!("column {} was not checked", column.name()))
}

fn name(message: &MessageDescriptor) -> &str {
    message.full_name()
}

/// A field's type as a `.proto` file writes it.
fn kind_name(field: &FieldDescriptor) -> String {
    let one = |field: &FieldDescriptor| format!("{:?}", field.kind());
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            format!("map<{}, {}>", one(&entry.map_entry_key_field()), one(&entry.map_entry_value_field()))
        }
        _ if field.is_list() => format!("repeated {}", one(field)),
        _ => one(field),
    }
}

/// A column's type for a message, JSON by its own name.
fn column_type(field: &Field) -> String {
    if is_json(field) { "JSON".into() } else { sql_name(field.data_type()) }
}

/// Messages within messages that columns are made for; one more, as of a message that contains itself, is refused.
const MAX_NESTING: usize = 32;

/// The columns that hold everything a message says, in the order of its fields, which with those of messages in it are no more
/// than `left`: a message that many others have in them counts for each.
///
/// Errors: `not_supported` for a message that contains itself, or too many.
pub(super) fn natural_fields(message: &MessageDescriptor, depth: usize, left: &mut usize) -> Result<Vec<Field>> {
    if depth > MAX_NESTING {
        let text = format!("message {} contains itself, so no columns hold all of it", name(message));
        return Err(Error::new(Code::NotSupported, text).with_hint("declare the columns that are needed"));
    }
    let natural = |field: FieldDescriptor| {
        *left = left.checked_sub(1).ok_or_else(|| {
            let text = format!("message {} has more than {MAX_FIELDS} fields in it", name(message));
            Error::new(Code::NotSupported, text).with_hint("declare the columns that are needed")
        })?;
        natural(&field, depth, left)
    };
    message.fields().filter(|field| !field.is_group()).map(natural).collect()
}

fn natural(field: &FieldDescriptor, depth: usize, left: &mut usize) -> Result<Field> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return Err(crate::internal("a map without entries")) };
        let key = natural_one(&entry.map_entry_key_field(), "key", depth, left)?.with_nullable(false);
        let value = natural_one(&entry.map_entry_value_field(), "value", depth, left)?;
        let entries = Field::new("entries", DataType::Struct(Fields::from(vec![key, value])), false);
        return Ok(Field::new(field.name(), DataType::Map(Arc::new(entries), false), true));
    }
    if field.is_list() {
        let item = natural_one(field, "item", depth, left)?;
        return Ok(Field::new(field.name(), DataType::List(Arc::new(item)), true));
    }
    natural_one(field, field.name(), depth, left)
}

fn natural_one(field: &FieldDescriptor, column: &str, depth: usize, left: &mut usize) -> Result<Field> {
    match (Source::of(&field.kind()), field.kind()) {
        (Some(source), _) => {
            let (data_type, json) = source.natural_type();
            let plain = Field::new(column, data_type, true);
            Ok(if json { plain.with_metadata([(TYPE_KEY.to_string(), "json".to_string())].into()) } else { plain })
        }
        (None, Kind::Message(message)) => {
            let fields = Fields::from(natural_fields(&message, depth + 1, left)?);
            Ok(Field::new(column, DataType::Struct(fields), true))
        }
        _ => Err(crate::internal(format!("field {} has no type", field.name()))),
    }
}

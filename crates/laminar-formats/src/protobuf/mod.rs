//! Protobuf: one message a record, straight into Arrow's buffers.
//!
//! ```text
//!  schema   .proto text, a descriptor set, the registry ─► a message's descriptor
//!  plan     descriptor × columns ─► message (fields by number) ─► column ─┬─ scalar   (source: what it is on the wire)
//!                                        ▲                                └─ nested: lists, structs, maps of columns
//!                                        └──────────────────────────────────────┘
//!  decode   a record ─► framed (its schema id, where there is a registry) ─► wire (tags, varints, lengths) ─► message ─► columns
//!  encode   rows ─► write (fields and their lengths), one message a row
//! ```
//!
//! An empty record is a message whose fields are all absent, as Protobuf has it.

mod column;
mod decode;
mod derive;
mod encode;
mod framed;
mod json_value;
mod known;
mod message;
mod nested;
mod plan;
mod scalar;
mod schema;
mod source;
mod wire;
mod write;

pub(crate) use decode::ProtobufDecoder;
pub(crate) use encode::ProtobufEncoder;
pub(crate) use framed::FramedDecoder;
pub(crate) use schema::Schema;

use arrow::datatypes::Field;
use laminar_core::Result;
use laminar_core::table::Column;
use prost_reflect::MessageDescriptor;

use crate::outside::MAX_FIELDS;

/// Do the columns of a table fit the message, whichever the table is for?
///
/// Errors: `unknown_column`, `type_mismatch`, `not_supported`, each naming the column.
pub(crate) fn check(message: &MessageDescriptor, columns: &[&Column]) -> Result<()> {
    columns.iter().try_for_each(|column| plan::check(&plan::field_of(message, &column.name)?, &column.field()))
}

/// The columns that hold everything the message says.
///
/// Errors: `not_supported` for a message that contains itself, or has too many fields in it.
pub(crate) fn columns_of(message: &MessageDescriptor) -> Result<Vec<Column>> {
    let fields = plan::natural_fields(message, 0, &mut { MAX_FIELDS })?;
    let column = |field: &Field| Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: true,
        json: plan::is_json(field),
        metadata: None,
    };
    Ok(fields.iter().map(column).collect())
}

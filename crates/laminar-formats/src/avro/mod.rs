//! Avro: one datum a record, plain or framed with the id of its registered schema.
//!
//! ```text
//!  decode   schema's text ─► schema ─┐
//!           table's columns ─────────┴─► compile ─► program: one operation a field, into columns or skipped
//!           record ─► program ─► columns (Arrow's buffers)         wire: the encoding of one value
//!  encode   table's columns (and a given schema) ─► encode ─► one datum a row
//! ```
//!
//! A program is compiled once for each schema that records were written with. What it does not read it steps over, so unlike
//! with JSON damage inside a field that no query reads may pass; damage that shifts what follows never does.

mod columns;
mod compile;
mod decode;
mod default;
mod encode;
mod envelope;
mod program;
mod schema;
mod skip;
mod types;
mod wire;
mod wire_out;
mod write;

use laminar_core::table::Column;
use laminar_core::{Error, Result};

use crate::registry::RegisteredSchema;

pub(crate) use decode::{AvroDecoder, Content};
pub(crate) use encode::{AvroEncoder, ChangeEncoder};

/// The columns of a table that reads all of the records of an Avro schema.
///
/// Errors: `invalid_schema`, and `not_supported` for a field whose type is none of a column's, such as a union of several.
pub fn avro_columns(schema: &str) -> Result<Vec<Column>> {
    types::columns_of(&schema::Parsed::text(schema, "the schema")?, Content::Row)
}

/// The same of records with this content.
pub(crate) fn columns_of_text(schema: &str, content: Content) -> Result<Vec<Column>> {
    types::columns_of(&schema::Parsed::text(schema, "option avro.schema")?, content)
}

/// The same of a schema in a registry.
pub(crate) fn registered_columns(schema: &RegisteredSchema, content: Content) -> Result<Vec<Column>> {
    types::columns_of(&schema::Parsed::registered(schema)?, content)
}

/// Refuses a column that has no Avro form: `not_supported`.
pub(crate) fn check_column(column: &Column) -> Result<()> {
    columns::Columns::new([&column.field()]).map(drop)
}

/// The error, with the column that it is about; inner columns come first, so `b` within `a` becomes `a.b`.
fn within(error: Error, name: &str) -> Error {
    let column = match error.field() {
        Some(inner) => format!("{name}.{inner}"),
        None => name.to_string(),
    };
    error.with_field(column)
}

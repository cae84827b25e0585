//! A table's columns from the schema of its records, for one that declares none.

use std::sync::Arc;

use laminar_core::table::Column;
use laminar_core::{Code, Error, Result};

use crate::avro::{Content, columns_of_text, registered_columns};
use crate::options::Known;
use crate::protobuf::{self, Schema};
use crate::registry::{RegisteredSchema, SchemaKind, TableRegistry};
use crate::{FormatContext, FormatOptions};

/// Fields that columns are made for, those within others included. A few lines of a schema can say that there are millions.
pub(crate) const MAX_FIELDS: usize = 10_000;

/// The columns that the schema of the table's records makes: the one that is given, else the newest under the subject of the
/// values. `None`: records of the format have no schema. Asks the registry, and waits for it.
///
/// Errors: `unknown_schema`, `not_supported`, `invalid_schema`, `missing_option`, and the registry's.
pub fn schema_columns(options: &FormatOptions, ctx: &FormatContext) -> Result<Option<Vec<Column>>> {
    let content = match options.known()? {
        Known::Avro => Content::Row,
        Known::DebeziumAvro => Content::Change,
        Known::Protobuf => return protobuf_columns(options, ctx),
        _ => return Ok(None),
    };
    if let Some(schema) = &options.avro_schema {
        return columns_of_text(schema, content).map(Some);
    }
    let Some(table) = options.framing(ctx)? else { return Ok(None) };
    let schema = latest_of(table, SchemaKind::Avro, None).map_err(list_them)?;
    registered_columns(&schema, content).map(Some)
}

fn protobuf_columns(options: &FormatOptions, ctx: &FormatContext) -> Result<Option<Vec<Column>>> {
    if options.protobuf_schema.is_some() {
        return protobuf::columns_of(&options.protobuf_descriptor()?).map(Some);
    }
    let Some(table) = options.framing(ctx)? else { return Ok(None) };
    let name = options.protobuf_message_name()?;
    let schema = latest_of(table, SchemaKind::Protobuf, name).map_err(list_them)?;
    protobuf::columns_of(&Schema::registered(&schema)?.message_or_first(name)?).map(Some)
}

/// What else a table without columns could do about its schema.
fn list_them(error: Error) -> Error {
    match error.code() {
        Code::UnknownSchema => {
            error.with_hint("list the columns in brackets after the table's name, or name another value_subject")
        }
        Code::MissingOption => {
            error.with_hint("add value_subject = '…', or list the columns in brackets after the table's name")
        }
        _ => error,
    }
}

/// The newest schema under the subject of the table's values, which are records or messages called `name`, where that is known.
///
/// Errors: `missing_option` if the subject is named after the record and nobody says how that is called, `invalid_schema` for one of
/// another kind, and the registry's.
pub(crate) fn latest_of(table: &TableRegistry, kind: SchemaKind, name: Option<&str>) -> Result<Arc<RegisteredSchema>> {
    if table.known_subject().is_none() && name.is_none() {
        return Err(Error::new(Code::MissingOption, "the subject of the table's schema is not known")
            .with_detail("it is named after the record, and there is none yet")
            .with_hint("add value_subject = '…'")
            .with_field("value_subject"));
    }
    let schema = table.registry.latest(&table.subject(name.unwrap_or_default()))?;
    if schema.kind != kind {
        let (is, wanted) = (schema.kind.name(), kind.name());
        let message = format!("the newest schema of the subject is {is}, not {wanted}");
        return Err(Error::new(Code::InvalidSchema, message).with_field("format"));
    }
    Ok(schema)
}

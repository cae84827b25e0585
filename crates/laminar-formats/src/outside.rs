//! A table's columns from the schema of its records, for one that declares none.

use std::sync::Arc;

use laminar_core::table::Column;
use laminar_core::{Code, Error, Result};

use crate::avro::{Content, columns_of_text, registered_columns};
use crate::options::Known;
use crate::protobuf::{self, Schema};
use crate::registry::{RegisteredSchema, SchemaKind, SubjectStrategy, TableRegistry};
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
    let schema = latest(table)?;
    match schema.kind {
        SchemaKind::Avro => registered_columns(&schema, content).map(Some),
        other => Err(of_another_kind(other, "Avro")),
    }
}

fn protobuf_columns(options: &FormatOptions, ctx: &FormatContext) -> Result<Option<Vec<Column>>> {
    if options.protobuf_schema.is_some() {
        return protobuf::columns_of(&options.protobuf_descriptor()?).map(Some);
    }
    let Some(table) = options.framing(ctx)? else { return Ok(None) };
    let schema = latest(table)?;
    match schema.kind {
        SchemaKind::Protobuf => {
            let message = Schema::registered(&schema)?.message_or_first(options.protobuf_message_name()?)?;
            protobuf::columns_of(&message).map(Some)
        }
        other => Err(of_another_kind(other, "Protobuf")),
    }
}

fn of_another_kind(kind: SchemaKind, wanted: &str) -> Error {
    let message = format!("the newest schema of the subject is {}, not {wanted}", kind.name());
    Error::new(Code::InvalidSchema, message).with_field("format")
}

/// The newest schema under the subject of the table's values.
fn latest(table: &TableRegistry) -> Result<Arc<RegisteredSchema>> {
    if table.options.value_subject.is_none() && table.options.strategy != SubjectStrategy::TopicName {
        return Err(Error::new(Code::MissingOption, "the subject of the table's schema is not known")
            .with_detail("it is named after the record, and there is none yet")
            .with_hint("add value_subject = '…', or list the columns in brackets after the table's name")
            .with_field("value_subject"));
    }
    let subject = table.value_subject("");
    table.registry.latest(&subject).map_err(|error| match error.code() {
        Code::UnknownSchema => {
            error.with_hint("list the columns in brackets after the table's name, or name another value_subject")
        }
        _ => error,
    })
}

//! A table's columns from the schema of its records, for one that declares none.

use laminar_core::table::Column;
use laminar_core::{Code, Error, Result};

use crate::avro::{Content, columns_of_text, registered_columns};
use crate::options::Known;
use crate::registry::{SchemaKind, SubjectStrategy};
use crate::{FormatContext, FormatOptions};

/// The columns that the schema of the table's records makes: the one that is given, else the newest under the subject of the
/// values. `None`: records of the format have no schema. Asks the registry, and waits for it.
///
/// Errors: `unknown_schema`, `not_supported`, `invalid_schema`, `missing_option`, and the registry's.
pub fn schema_columns(options: &FormatOptions, ctx: &FormatContext) -> Result<Option<Vec<Column>>> {
    let content = match options.known()? {
        Known::Avro => Content::Row,
        Known::DebeziumAvro => Content::Change,
        _ => return Ok(None),
    };
    if let Some(schema) = &options.avro_schema {
        return columns_of_text(schema, content).map(Some);
    }
    let Some(table) = options.framing(ctx)? else { return Ok(None) };
    if table.options.value_subject.is_none() && table.options.strategy != SubjectStrategy::TopicName {
        return Err(Error::new(Code::MissingOption, "the subject of the table's schema is not known")
            .with_detail("it is named after the record, and there is none yet")
            .with_hint("add value_subject = '…', or list the columns in brackets after the table's name")
            .with_field("value_subject"));
    }
    let subject = table.value_subject("");
    let schema = table.registry.latest(&subject).map_err(|error| match error.code() {
        Code::UnknownSchema => {
            error.with_hint("list the columns in brackets after the table's name, or name another value_subject")
        }
        _ => error,
    })?;
    match schema.kind {
        SchemaKind::Avro => registered_columns(&schema, content).map(Some),
        other => Err(Error::new(
            Code::InvalidSchema,
            format!("the schema of subject {subject} is {}, not Avro", other.name()),
        )
        .with_field("format")),
    }
}

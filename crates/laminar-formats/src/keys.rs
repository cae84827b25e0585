//! Keys of records: how the bytes of one stand for columns.
//!
//! ```text
//!  raw                             7              the bytes of one column
//!  json                            {"id":7}       an object of the columns, or the value of the only one
//!  avro, protobuf, confluent_json  frame, body    a record of the columns, whose schema is registered under <topic>-key
//! ```
//!
//! A key whose schema is registered is written and read by the format of that name, as values are, but under the subject of the keys.

use laminar_core::format::{Decoder, Encoder};
use laminar_core::options::Options;
use laminar_core::table::TableSpec;
use laminar_core::{Code, Error, Result};

use crate::options::FormatOptions;
use crate::{FormatContext, decoder_with, encoder_with};

/// How a record's key stands for its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// The text or bytes of its one column.
    Raw,
    /// An object of its columns, or the value of its one.
    Json,
    /// A record of its columns in Avro, framed with the id of its schema.
    Avro,
    /// A message of its columns, in the same way.
    Protobuf,
    /// An object of its columns, in the same way.
    FramedJson,
}

impl KeyForm {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
            Self::FramedJson => "confluent_json",
        }
    }

    /// Its schema is in the table's registry.
    pub fn is_registered(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf | Self::FramedJson)
    }

    fn format(self) -> Result<FormatOptions> {
        Options::from_pairs([("format", self.name())]).parse("key.format")
    }
}

/// Turns rows of a key's columns into keys, one each. `table` has no other columns; a schema is named after it, with `_key` behind.
///
/// Errors: `missing_option` if the form needs a registry and there is none; those of [`encoder_with`](crate::encoder_with()).
pub fn key_encoder(form: KeyForm, table: &TableSpec, ctx: &FormatContext) -> Result<Box<dyn Encoder>> {
    encoder_with(&form.format()?, &named(table), &of_keys(form, ctx)?)
}

/// Turns records whose values are keys into rows of a key's columns.
///
/// Errors: as [`key_encoder`].
pub(crate) fn key_decoder(form: KeyForm, table: &TableSpec, ctx: &FormatContext) -> Result<Box<dyn Decoder>> {
    decoder_with(&form.format()?, &named(table), &of_keys(form, ctx)?)
}

/// So that key and value, which may be named after their records, are not one subject.
fn named(table: &TableSpec) -> TableSpec {
    TableSpec { name: format!("{}_key", table.name), ..table.clone() }
}

fn of_keys(form: KeyForm, ctx: &FormatContext) -> Result<FormatContext> {
    match &ctx.registry {
        Some(registry) => Ok(FormatContext { registry: Some(registry.of_keys()) }),
        None if form.is_registered() => {
            let name = form.name();
            Err(Error::new(Code::MissingOption, format!("key.format = '{name}' needs a schema registry"))
                .with_hint("add 'schema_registry.endpoint' = 'http://host:8081'")
                .with_field("schema_registry.endpoint"))
        }
        None => Ok(FormatContext::default()),
    }
}

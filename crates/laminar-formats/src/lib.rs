//! Bytes to rows and back: the formats that records outside are written in.
//!
//! A connector asks for a [`decoder()`] or an [`encoder()`] with the [`FormatOptions`] of its table and knows no more about
//! formats than that. One record is one row, in both directions; but with `debezium_json` it is one change.
//!
//! ```text
//!  RawRecord ─► record ─┬─ json │ avro │ …  the record's value to the table's value columns
//!                       └─ metadata      topic, partition, offset, … to METADATA columns
//!                              │
//!                              ▼  flush: columns in the order of the projection, one event time a row
//!                           Changes
//! ```
//!
//! The rule that must stay true: **a record that fails leaves nothing behind.** Every column can be cut back to the row
//! where a record started, and is, on its first error.
//!
//! Reading order: `options` (what a user may write), `record` (a record to its rows), `metadata`, `raw`, `columns` (what all
//! decoders fill), `json` (the decoder and the encoder, where the time goes), `csv`, `avro`, `protobuf`, `registry` (schemas by id: the
//! port and the framing), `debezium`, `net` (what is left of changes that follow each other), `upsert`.

pub mod json;
pub mod options;
pub mod registry;

mod avro;
mod columns;
mod csv;
mod debezium;
mod fault;
mod keys;
mod metadata;
mod net;
mod outside;
mod protobuf;
mod raw;
mod record;
mod text_column;
mod times;
mod upsert;
mod upsert_decoder;
mod varint;

use laminar_core::connector::Role;
use laminar_core::format::{Decoder, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Code, Error, Result};

pub use keys::{KeyForm, key_encoder};
use options::Known;
pub use options::{FormatName, FormatOptions, TimestampFormat};
pub use outside::schema_columns;
use registry::TableRegistry;

/// What a format may need of its table's connector besides the options.
#[derive(Clone, Debug, Default)]
pub struct FormatContext {
    /// `Some`: values are framed with the ids of schemas that are registered there.
    pub registry: Option<TableRegistry>,
}

/// Turns records into rows of `table`: its projected columns in projection order, each row with its event time and, where
/// [`FormatOptions::yields_changes`], its kind.
///
/// Value columns come from the record's value in the format of `options`, metadata columns from the record itself. The event
/// time is the table's event time column, or without one the record's timestamp. Where the column is null the event time is
/// null too, and what lies below the null is the record's timestamp.
///
/// Errors are those of [`FormatOptions::check`], and `conflicting_options` for an option that only a sink has.
pub fn decoder(options: &FormatOptions, table: &TableSpec) -> Result<Box<dyn Decoder>> {
    decoder_with(options, table, &FormatContext::default())
}

/// The same, with what the connector has for formats. No I/O: a registry is asked when a record needs it.
pub fn decoder_with(options: &FormatOptions, table: &TableSpec, ctx: &FormatContext) -> Result<Box<dyn Decoder>> {
    options.check_role(Role::Source)?;
    options.check(table)?;
    let plan = record::Plan::new(table)?;
    match options.known()? {
        Known::Json if options.unstructured() => {
            let values = json::Unstructured::new(!plan.wanted.is_empty());
            match options.framing(ctx)? {
                Some(registry) => {
                    Ok(Box::new(record::RecordDecoder::new(json::FramedDecoder::new(values, registry), plan)?))
                }
                None => Ok(Box::new(record::RecordDecoder::new(values, plan)?)),
            }
        }
        Known::Json => {
            plan.value_columns.iter().try_for_each(json::check_column)?;
            let values = json::JsonDecoder::new(&plan.value_columns, &plan.wanted, options.timestamp_format())?;
            match options.framing(ctx)? {
                Some(registry) => {
                    Ok(Box::new(record::RecordDecoder::new(json::FramedDecoder::new(values, registry), plan)?))
                }
                None => Ok(Box::new(record::RecordDecoder::new(values, plan)?)),
            }
        }
        Known::Csv => {
            plan.value_columns.iter().try_for_each(json::check_column)?;
            let format = options.timestamp_format();
            let values = csv::CsvDecoder::new(options, &plan.value_columns, &plan.wanted, format)?;
            Ok(Box::new(record::RecordDecoder::new(values, plan)?))
        }
        Known::Debezium => {
            plan.value_columns.iter().try_for_each(json::check_column)?;
            let rows = json::JsonDecoder::new(&plan.value_columns, &plan.wanted, options.timestamp_format())?;
            Ok(Box::new(record::RecordDecoder::new(debezium::DebeziumDecoder::new(rows), plan)?))
        }
        known @ (Known::Avro | Known::DebeziumAvro) => {
            let registry = options.framing(ctx)?;
            let content = if known == Known::Avro { avro::Content::Row } else { avro::Content::Change };
            let digits = options.timestamp_format().digits();
            let schema = options.avro_schema.as_deref();
            let values = avro::AvroDecoder::new(&plan.value_columns, &plan.wanted, content, digits, schema, registry)?;
            Ok(Box::new(record::RecordDecoder::new(values, plan)?))
        }
        Known::Protobuf => {
            if let Some(registry) = options.framing(ctx)? {
                let values = protobuf::FramedDecoder::new(options, &plan.value_columns, &plan.wanted, registry)?;
                return Ok(Box::new(record::RecordDecoder::new(values, plan)?));
            }
            let (message, format) = (options.protobuf_descriptor()?, options.timestamp_format());
            let values = protobuf::ProtobufDecoder::new(&message, &plan.value_columns, &plan.wanted, format)?;
            Ok(Box::new(record::RecordDecoder::new(values, plan)?))
        }
        Known::Raw => {
            let columns = plan.wanted.iter().filter_map(|i| plan.value_columns.get(*i)).cloned().collect();
            Ok(Box::new(record::RecordDecoder::new(raw::RawDecoder::new(columns)?, plan)?))
        }
    }
}

/// Turns records that replace each other into rows of `table`, whose projection has all of its primary key: inserts for values, and
/// deletes for tombstones, in which only the key is not null. `form`: of a tombstone's key; by default `Raw` where the key is one
/// text, integer or bytes.
///
/// Errors: as [`decoder()`]; `missing_option` without a primary key, or without the registry that `form` needs; `conflicting_options` if the format's records are changes
/// themselves, or are the whole value.
pub fn upsert_decoder_with(
    options: &FormatOptions,
    table: &TableSpec,
    form: Option<KeyForm>,
    ctx: &FormatContext,
) -> Result<Box<dyn Decoder>> {
    if options.yields_changes() {
        let what = format!("records of format {} are changes themselves", options.format.as_str());
        return Err(Error::new(Code::ConflictingOptions, what).with_hint("leave upsert out").with_field("upsert"));
    }
    let rows = decoder_with(options, table, ctx)?;
    Ok(Box::new(upsert_decoder::UpsertDecoder::new(rows, table, form, options.timestamp_format(), ctx)?))
}

/// Turns rows of `table`, a sink's, into record values.
///
/// Unless [`FormatOptions::changes`] says otherwise only inserts can be written: a row that updates or deletes another is
/// refused with `not_supported`.
pub fn encoder(options: &FormatOptions, table: &TableSpec) -> Result<Box<dyn Encoder>> {
    encoder_with(options, table, &FormatContext::default())
}

/// The same, with what the connector has for formats. No I/O: a registry is asked when the first rows are encoded.
pub fn encoder_with(options: &FormatOptions, table: &TableSpec, ctx: &FormatContext) -> Result<Box<dyn Encoder>> {
    make_encoder(options, table, ctx, raw::Nulls::Refused)
}

/// As [`encoder_with()`], for an outside system that has tombstones: a whole value that is null is one.
pub fn tombstone_encoder_with(
    options: &FormatOptions,
    table: &TableSpec,
    ctx: &FormatContext,
) -> Result<Box<dyn Encoder>> {
    make_encoder(options, table, ctx, raw::Nulls::Tombstones)
}

fn make_encoder(
    options: &FormatOptions,
    table: &TableSpec,
    ctx: &FormatContext,
    nulls: raw::Nulls,
) -> Result<Box<dyn Encoder>> {
    options.check_role(Role::Sink)?;
    let schema = table.schema();
    match options.known()? {
        Known::Json if options.unstructured() => match options.framing(ctx)? {
            None => Ok(Box::new(raw::RawEncoder::new(&schema, nulls)?)),
            Some(_) => Err(Error::new(Code::ConflictingOptions, "json.unstructured in a sink cannot be framed")
                .with_detail("a JSON Schema is made of the table's columns, and the whole value is one")
                .with_field("json.unstructured")),
        },
        Known::Json => match options.framing(ctx)? {
            Some(registry) => Ok(Box::new(json::FramedEncoder::new(options, table, registry)?)),
            None => Ok(Box::new(json::JsonEncoder::new(&schema, options)?)),
        },
        Known::Csv => Ok(Box::new(csv::CsvEncoder::new(options, table)?)),
        Known::Raw => Ok(Box::new(raw::RawEncoder::new(&schema, nulls)?)),
        Known::Avro => {
            let registry = options.framing(ctx)?;
            Ok(Box::new(avro::AvroEncoder::new(table, options.avro_schema.as_deref(), registry)?))
        }
        Known::Protobuf => Ok(Box::new(protobuf::ProtobufEncoder::new(options, table, ctx)?)),
        Known::DebeziumAvro => {
            let registry = options.framing(ctx)?;
            Ok(Box::new(avro::ChangeEncoder::new(table, options.avro_schema.as_deref(), registry)?))
        }
        Known::Debezium => Ok(Box::new(debezium::DebeziumEncoder::new(options, table)?)),
    }
}

/// Turns changes of `table` into values under its primary key, for an outside system that keeps the last one of each: an
/// object for a row that is there, a tombstone for one that is gone. Errors with `internal` unless
/// [`FormatOptions::upserts`].
pub fn upsert_encoder(options: &FormatOptions, table: &TableSpec) -> Result<Box<dyn Encoder>> {
    upsert_encoder_with(options, table, &FormatContext::default())
}

/// The same, with what the connector has for formats. No I/O.
pub fn upsert_encoder_with(
    options: &FormatOptions,
    table: &TableSpec,
    ctx: &FormatContext,
) -> Result<Box<dyn Encoder>> {
    options.check_role(Role::Sink)?;
    if !options.upserts(table) {
        return Err(internal(format!("table {} has no rows under a key", table.name)));
    }
    let format: Box<dyn upsert::RowEncoder> = match options.known()? {
        Known::Avro => {
            let registry = options.framing(ctx)?;
            Box::new(avro::AvroEncoder::new(table, options.avro_schema.as_deref(), registry)?)
        }
        Known::Protobuf => Box::new(protobuf::ProtobufEncoder::new(options, table, ctx)?),
        _ => match options.framing(ctx)? {
            Some(registry) => Box::new(json::FramedEncoder::new(options, table, registry)?),
            None => Box::new(json::JsonEncoder::new(&table.schema(), options)?),
        },
    };
    Ok(Box::new(upsert::UpsertEncoder::new(format, table)?))
}

/// The error for a fault of ours that is not the record's.
fn internal(message: impl std::fmt::Display) -> Error {
    Error::internal(message.to_string())
}

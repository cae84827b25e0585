//! What a user may write about formats in `WITH (…)`. The doc comments are the reference page.

use std::borrow::Cow;

use arrow::datatypes::DataType;
use laminar_core::connector::Role;
use laminar_core::options::{missing, nearest};
use laminar_core::sink::ChangeSupport;
use laminar_core::sql_name::sql_name;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Code, Error, Result};
use prost_reflect::MessageDescriptor;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::registry::TableRegistry;
use crate::{FormatContext, avro, csv, json, protobuf};

/// Options of the format that a table's records are written in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FormatOptions {
    /// How a record's value is written. `json`: one JSON object a record, its fields the columns. `raw`: the bytes as they
    /// are, in the table's only column, which is TEXT or BYTEA. `debezium_json`: one change a record, `before`, `after` and `op`, as
    /// Debezium writes it; `debezium-json` means the same. `avro`: one Avro datum a record, framed with the id of its schema where
    /// `schema_registry.endpoint` is given; `confluent_avro` is the same and needs the registry. `debezium_avro`: one
    /// change a record, as `debezium_json`, in Avro. `protobuf`: one Protobuf message a record, framed likewise. `csv`: one line of
    /// comma-separated fields a record, in the order of the columns, where an empty line is no row if there are several. `confluent_json`: `json` framed with the id of a JSON Schema.
    #[serde(default)]
    pub format: FormatName,
    /// For `json`: `true` takes the whole value, any JSON, as the table's only column, which is JSON or TEXT. Default: `false`.
    #[serde(default, rename = "json.unstructured", skip_serializing_if = "Option::is_none")]
    pub json_unstructured: Option<bool>,
    /// For `json` in a sink: `true` writes each object over several lines, indented by two spaces. Default: `false`.
    #[serde(default, rename = "json.pretty", skip_serializing_if = "Option::is_none")]
    pub json_pretty: Option<bool>,
    /// For `json` and `debezium_json` in a sink: `false` leaves out a field that is null instead of writing `null`. Default: `true`.
    #[serde(default, rename = "json.include_nulls", skip_serializing_if = "Option::is_none")]
    pub json_include_nulls: Option<bool>,
    /// For `avro` and `debezium_avro`: the schema, in Avro's JSON. Of records that are not framed it is the schema that they are written with; of framed
    /// ones the reader's, whose aliases and defaults count, instead of the newest that the registry has. For a sink of `avro` the schema to
    /// write. Default: for a sink what the table's columns say.
    #[serde(default, rename = "avro.schema", skip_serializing_if = "Option::is_none")]
    pub avro_schema: Option<String>,
    /// For `avro` and `debezium_avro`: `false` reads and writes records without the frame that names their schema, though a registry is given; `true`
    /// needs a registry. Default: `true` where `schema_registry.endpoint` is given.
    #[serde(default, rename = "avro.confluent_schema_registry", skip_serializing_if = "Option::is_none")]
    pub avro_framed: Option<bool>,
    /// For `json`, `csv` and `debezium_json`: how a TIMESTAMP is written. Text in RFC 3339 is read whatever is set here; a time
    /// without a zone is UTC. For `avro` and `protobuf`: what an integer counts that is a TIMESTAMP column. Default: `rfc3339`; for
    /// `debezium_json` `unix_micros`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_format: Option<TimestampFormat>,
    /// For `protobuf`: the message of the schema that a record is, by its full name (`shop.Order`). Not needed where the schema
    /// has only one; of a registry's it is else the first.
    #[serde(default, rename = "protobuf.message", skip_serializing_if = "Option::is_none")]
    pub protobuf_message: Option<String>,
    /// For `protobuf`: `false` reads and writes records without the frame that names their schema, though a registry is given; `true`
    /// needs a registry. Default: `true` where `schema_registry.endpoint` is given.
    #[serde(default, rename = "protobuf.confluent_schema_registry", skip_serializing_if = "Option::is_none")]
    pub protobuf_framed: Option<bool>,
    /// For `json` in the same way: records are framed with the id of a JSON Schema. Default: `false`; `true` for
    /// `format = 'confluent_json'`, which means `json` with it.
    #[serde(default, rename = "json.confluent_schema_registry", skip_serializing_if = "Option::is_none")]
    pub json_framed: Option<bool>,
    /// The same as `protobuf.message`.
    #[serde(default, rename = "protobuf.message_type", skip_serializing_if = "Option::is_none")]
    pub protobuf_message_type: Option<String>,
    /// For `protobuf`: the text of the `.proto` file, which may import Protobuf's own files only; or a descriptor set in base64,
    /// as `protoc --include_imports -o /dev/stdout … | base64` makes it.
    #[serde(default, rename = "protobuf.schema", skip_serializing_if = "Option::is_none")]
    pub protobuf_schema: Option<String>,
    /// For `protobuf`: path of a file that has what `protobuf.schema` would have: a `.proto` file, or a descriptor set as
    /// `protoc --include_imports -o` writes it. Of a server's files only those below its `files_dir`.
    #[serde(default, rename = "protobuf.descriptor", skip_serializing_if = "Option::is_none")]
    pub protobuf_descriptor: Option<String>,
    /// For `csv`: the character between fields; `\t` is a tab. Default: `,`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv_delimiter: Option<String>,
    /// For `csv`: the character around a field that has delimiters, quotes or line breaks in it; written twice it stands for itself.
    /// Default: `"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv_quote: Option<String>,
    /// For `csv`: a field of this text without quotes is NULL. Default: an empty field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv_null: Option<String>,
    /// For `csv` in a source: `true` reads no row from a record whose fields are the names of the columns, as the first line of a file
    /// is. Fields are always in the order of the columns. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv_header: Option<bool>,
}

/// How times are written: see [`FormatOptions::timestamp_format`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimestampFormat {
    /// Text such as `2024-01-31T23:59:59.123Z`; a bare number that is read counts milliseconds.
    #[default]
    Rfc3339,
    /// A number: seconds since 1970-01-01 UTC.
    UnixSeconds,
    /// A number: milliseconds since 1970-01-01 UTC.
    UnixMillis,
    /// A number: microseconds since 1970-01-01 UTC.
    UnixMicros,
    /// A number: nanoseconds since 1970-01-01 UTC.
    UnixNanos,
}

impl TimestampFormat {
    /// Decimal digits after the second that a bare number counts in.
    pub(crate) fn digits(self) -> u32 {
        match self {
            Self::UnixSeconds => 0,
            Self::Rfc3339 | Self::UnixMillis => 3,
            Self::UnixMicros => 6,
            Self::UnixNanos => 9,
        }
    }
}

/// A format's name as written; whether it works is asked by [`FormatOptions::check`], so that the answer for one that is
/// known but not built yet is not "no such format".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormatName(String);

impl FormatName {
    /// The name, in lower case.
    pub fn new(name: &str) -> Self {
        Self(name.to_ascii_lowercase())
    }
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for FormatName {
    fn default() -> Self {
        Self::new("json")
    }
}

impl JsonSchema for FormatName {
    fn schema_name() -> Cow<'static, str> {
        "Format".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "string", "enum": WORKING})
    }
}

/// A format that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Json,
    Raw,
    Debezium,
    Avro,
    DebeziumAvro,
    Protobuf,
    Csv,
}

impl Known {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Raw => "raw",
            Self::Debezium => "debezium_json",
            Self::Avro => "avro",
            Self::DebeziumAvro => "debezium_avro",
            Self::Protobuf => "protobuf",
            Self::Csv => "csv",
        }
    }
}

const WORKING: [&str; 9] =
    ["json", "raw", "debezium_json", "avro", "confluent_avro", "debezium_avro", "protobuf", "csv", "confluent_json"];

/// Formats that the dialect names and this version has not.
const LATER: [&str; 1] = ["parquet"];

impl FormatOptions {
    /// Can this be a table of that role? What [`decoder`](crate::decoder()) and [`encoder`](crate::encoder()) would say, for
    /// a table that is only being created. No I/O.
    pub fn check_table(&self, role: Role, table: &TableSpec) -> Result<()> {
        self.check(table)?;
        match role {
            Role::Source => crate::decoder(self, table).map(drop),
            Role::Sink => crate::encoder(self, table).map(drop),
        }
    }

    /// Is it a format that works, and is every option one of it? For a connection, which has no columns. No I/O.
    ///
    /// Errors: `not_supported`, `invalid_option`, `conflicting_options`, `invalid_schema`.
    pub fn check_options(&self) -> Result<()> {
        let format = self.known()?;
        self.refuse_others_options(format)?;
        match &self.protobuf_schema {
            Some(schema) => protobuf::Schema::parse(schema).map(drop),
            None => Ok(()),
        }
    }

    /// Is every option understood, and can the format fill or write these columns, whichever the table is for? No I/O.
    ///
    /// Errors: `not_supported` (a format or column type that does not work yet), `invalid_option` (no such format),
    /// `conflicting_options` (an option of another format), `column_count` and `type_mismatch` (columns that do not fit).
    pub fn check(&self, table: &TableSpec) -> Result<()> {
        let format = self.known()?;
        self.refuse_others_options(format)?;
        let columns: Vec<&Column> = table.columns.iter().filter(|c| c.metadata.is_none()).collect();
        if matches!(format, Known::Avro | Known::DebeziumAvro) {
            return columns.iter().try_for_each(|column| avro::check_column(column));
        }
        if format == Known::Protobuf {
            // Without a schema of the table's own, the registry's decides; a decoder or encoder that has none says so.
            return match (&self.protobuf_schema, &self.protobuf_descriptor) {
                (None, None) => self.protobuf_message_name().map(drop),
                _ => protobuf::check(&self.protobuf_descriptor()?, &columns),
            };
        }
        if format == Known::Csv {
            csv::Dialect::of(self)?;
            return columns.iter().try_for_each(|column| csv::check_column(column));
        }
        if format != Known::Raw && !self.unstructured() {
            return columns.iter().try_for_each(|column| match json::can_write(&column.data_type) {
                true => Ok(()),
                false => json::check_column(column),
            });
        }
        let what = if format == Known::Raw { "format raw" } else { "json.unstructured" };
        let [column] = columns.as_slice() else {
            let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
            return Err(Error::new(Code::ColumnCount, format!("{what} needs exactly one column for the value"))
                .with_detail(format!("table {} has {}: {}", table.name, names.len(), names.join(", ")))
                .with_hint("columns that are filled from metadata do not count"));
        };
        let fits = matches!((&column.data_type, format), (DataType::Utf8, _) | (DataType::Binary, Known::Raw));
        if !fits {
            let types = if format == Known::Raw { "TEXT or BYTEA" } else { "JSON or TEXT" };
            return Err(Error::new(Code::TypeMismatch, format!("{what} needs a column of type {types}"))
                .with_detail(format!("column {} is {}", column.name, sql_name(&column.data_type)))
                .with_field(&column.name));
        }
        Ok(())
    }

    /// Refuses an option that only the other direction has.
    pub fn check_role(&self, role: Role) -> Result<()> {
        if role == Role::Sink && self.csv_header.is_some() {
            return Err(Error::new(Code::ConflictingOptions, "option csv_header is for sources only")
                .with_hint("remove it: a sink writes rows only")
                .with_field("csv_header"));
        }
        let given = [("json.pretty", self.json_pretty), ("json.include_nulls", self.json_include_nulls)];
        match given.iter().find(|(_, value)| role == Role::Source && value.is_some()) {
            Some((name, _)) => Err(Error::new(Code::ConflictingOptions, format!("option {name} is for sinks only"))
                .with_hint("remove it: a source reads every layout of JSON")
                .with_field(*name)),
            None => Ok(()),
        }
    }

    /// Records update and delete rows that earlier ones inserted.
    pub fn yields_changes(&self) -> bool {
        matches!(self.known(), Ok(Known::Debezium | Known::DebeziumAvro))
    }

    /// Which changes an [`encoder`](crate::encoder()) can write.
    pub fn changes(&self) -> ChangeSupport {
        if self.yields_changes() { ChangeSupport::Changes } else { ChangeSupport::InsertOnly }
    }

    /// Can changes of the table be written as the rows under its primary key, by an
    /// [`upsert_encoder`](crate::upsert_encoder())?
    pub fn upserts(&self, table: &TableSpec) -> bool {
        matches!(self.known(), Ok(Known::Json | Known::Avro | Known::Protobuf))
            && !self.unstructured()
            && !table.primary_key.is_empty()
    }

    /// The value is one column's bytes as they are.
    pub fn is_raw(&self) -> bool {
        matches!(self.known(), Ok(Known::Raw))
    }

    /// Of a file of lines: is a blank one layout? It is in JSON, and in CSV unless a record is a single field, which may be empty.
    pub fn has_blank_lines(&self, table: &TableSpec) -> bool {
        match self.known() {
            Ok(Known::Json | Known::Debezium) => !self.wants_frame(),
            Ok(Known::Csv) => table.columns.iter().filter(|column| column.metadata.is_none()).count() > 1,
            _ => false,
        }
    }

    /// A record is bytes that may be any, a line break too.
    pub fn is_binary(&self) -> bool {
        matches!(self.known(), Ok(Known::Avro | Known::DebeziumAvro | Known::Protobuf)) || self.wants_frame()
    }

    /// The options say that each record begins with the id of its schema, whether or not there is a registry.
    pub fn wants_frame(&self) -> bool {
        self.is_confluent() || self.frame_option().1 == Some(true)
    }

    /// Each record begins with the id of its schema, in the registry that there is.
    pub fn is_framed(&self, ctx: &FormatContext) -> bool {
        matches!(self.framing(ctx), Ok(Some(_)))
    }

    /// `confluent_avro` and `confluent_json` are framed whatever the options say.
    fn is_confluent(&self) -> bool {
        self.format.as_str().to_ascii_lowercase().starts_with("confluent_")
    }

    /// The option that frames the format's records: its name, its value, and its default where there is a registry.
    fn frame_option(&self) -> (&'static str, Option<bool>, bool) {
        match self.known() {
            Ok(Known::Avro | Known::DebeziumAvro) => ("avro.confluent_schema_registry", self.avro_framed, true),
            Ok(Known::Protobuf) => ("protobuf.confluent_schema_registry", self.protobuf_framed, true),
            _ => ("json.confluent_schema_registry", self.json_framed, false),
        }
    }

    /// The registry whose ids frame the values; `None`: they are plain.
    pub(crate) fn framing<'a>(&self, ctx: &'a FormatContext) -> Result<Option<&'a TableRegistry>> {
        self.known()?;
        let name = self.format.as_str();
        let (key, given, by_default) = self.frame_option();
        let always = self.is_confluent();
        if always && given == Some(false) {
            let plain = self.known()?.name();
            return Err(Error::new(Code::ConflictingOptions, format!("format {name} is framed, and {key} is false"))
                .with_hint(format!("format {plain} reads and writes plain records"))
                .with_field(key));
        }
        match &ctx.registry {
            None if always || given == Some(true) => {
                Err(missing("schema_registry.endpoint", &format!("format {name}"))
                    .with_hint("add 'schema_registry.endpoint' = 'http://host:8081'"))
            }
            registry if always || given.unwrap_or(by_default) => Ok(registry.as_ref()),
            _ => Ok(None),
        }
    }

    /// The whole value is one column.
    pub(crate) fn unstructured(&self) -> bool {
        self.json_unstructured.unwrap_or(false)
    }
    pub(crate) fn timestamp_format(&self) -> TimestampFormat {
        let default = if matches!(self.known(), Ok(Known::Debezium)) {
            TimestampFormat::UnixMicros
        } else {
            TimestampFormat::default()
        };
        self.timestamp_format.unwrap_or(default)
    }

    /// The message that the schema in the options describes.
    ///
    /// Errors: `missing_option`, `conflicting_options`, `invalid_option`, `invalid_schema`.
    pub(crate) fn protobuf_descriptor(&self) -> Result<MessageDescriptor> {
        if self.protobuf_descriptor.is_some() {
            // Connectors that may read files have replaced it by the file's content.
            return Err(Error::new(Code::NotSupported, "the table's connector reads no schema from a file")
                .with_hint("give the text as 'protobuf.schema' = '…'")
                .with_field("protobuf.descriptor"));
        }
        let schema = self.protobuf_schema.as_deref().ok_or_else(|| {
            Error::new(Code::MissingOption, "format protobuf needs option protobuf.schema")
                .with_hint(
                    "add 'protobuf.schema' = 'syntax = \"proto3\"; message …', or 'protobuf.descriptor' = 'file'",
                )
                .with_field("protobuf.schema")
        })?;
        protobuf::Schema::parse(schema)?.message(self.protobuf_message_name()?)
    }

    pub(crate) fn protobuf_message_name(&self) -> Result<Option<&str>> {
        match (self.protobuf_message.as_deref(), self.protobuf_message_type.as_deref()) {
            (Some(one), Some(other)) if one != other => {
                let message =
                    "protobuf.message and protobuf.message_type are the same option, and say different things";
                Err(Error::new(Code::ConflictingOptions, message).with_field("protobuf.message_type"))
            }
            (one, other) => Ok(one.or(other)),
        }
    }

    pub(crate) fn known(&self) -> Result<Known> {
        let name = self.format.as_str();
        match name.to_ascii_lowercase().as_str() {
            "json" | "confluent_json" => Ok(Known::Json),
            "raw" => Ok(Known::Raw),
            "debezium_json" | "debezium-json" => Ok(Known::Debezium),
            "avro" | "confluent_avro" => Ok(Known::Avro),
            "debezium_avro" | "debezium-avro" => Ok(Known::DebeziumAvro),
            "protobuf" => Ok(Known::Protobuf),
            "csv" => Ok(Known::Csv),
            later if LATER.contains(&later) => {
                Err(Error::new(Code::NotSupported, format!("format {later} is not supported yet"))
                    .with_hint(format!("formats that work: {}", WORKING.join(", ")))
                    .with_field("format"))
            }
            other => {
                let error = Error::new(Code::InvalidOption, format!("option format cannot be '{name}'"))
                    .with_detail(format!("expected one of {}", WORKING.join(", ")))
                    .with_field("format");
                Err(match nearest(other, WORKING.into_iter().chain(LATER)) {
                    Some(near) => error.with_hint(format!("did you mean {near}?")),
                    None => error,
                })
            }
        }
    }

    fn refuse_others_options(&self, format: Known) -> Result<()> {
        let (json, debezium) = (format == Known::Json, format == Known::Debezium);
        let avro = matches!(format, Known::Avro | Known::DebeziumAvro);
        let (protobuf, csv) = (format == Known::Protobuf, format == Known::Csv);
        let given = [
            ("json.unstructured", self.json_unstructured.is_some(), json),
            ("json.pretty", self.json_pretty.is_some(), json),
            ("json.include_nulls", self.json_include_nulls.is_some(), json || debezium),
            ("timestamp_format", self.timestamp_format.is_some(), json || debezium || avro || protobuf || csv),
            ("avro.schema", self.avro_schema.is_some(), avro),
            ("avro.confluent_schema_registry", self.avro_framed.is_some(), avro),
            ("protobuf.confluent_schema_registry", self.protobuf_framed.is_some(), protobuf),
            ("json.confluent_schema_registry", self.json_framed.is_some(), json),
            ("csv_delimiter", self.csv_delimiter.is_some(), csv),
            ("csv_quote", self.csv_quote.is_some(), csv),
            ("csv_null", self.csv_null.is_some(), csv),
            ("csv_header", self.csv_header.is_some(), csv),
            ("protobuf.message", self.protobuf_message.is_some(), protobuf),
            ("protobuf.message_type", self.protobuf_message_type.is_some(), protobuf),
            ("protobuf.schema", self.protobuf_schema.is_some(), protobuf),
            ("protobuf.descriptor", self.protobuf_descriptor.is_some(), protobuf),
        ];
        match given.iter().find(|(_, given, fits)| *given && !fits) {
            Some((name, _, _)) => {
                let message = format!("option {name} is not for format {}", format.name());
                Err(Error::new(Code::ConflictingOptions, message).with_field(*name))
            }
            None => Ok(()),
        }
    }
}

//! What a user may write about formats in `WITH (…)`. The doc comments are the reference page.

use std::borrow::Cow;

use arrow::datatypes::DataType;
use laminar_core::connector::Role;
use laminar_core::options::nearest;
use laminar_core::sink::ChangeSupport;
use laminar_core::sql_name::sql_name;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Code, Error, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::json;

/// Options of the format that a table's records are written in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FormatOptions {
    /// How a record's value is written. `json`: one JSON object a record, its fields the columns. `raw`: the bytes as they
    /// are, in the table's only column, which is TEXT or BYTEA. `debezium_json`: one change a record, `before`, `after` and `op`, as
    /// Debezium writes it; `debezium-json` means the same.
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
    /// For `json` and `debezium_json`: how a TIMESTAMP is written. Text in RFC 3339 is read whatever is set here; a time without
    /// a zone is UTC. Default: `rfc3339`; for `debezium_json` `unix_micros`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_format: Option<TimestampFormat>,
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
}

impl Known {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Raw => "raw",
            Self::Debezium => "debezium_json",
        }
    }
}

const WORKING: [&str; 3] = ["json", "raw", "debezium_json"];

/// Formats that the dialect names and this version has not.
const LATER: [&str; 7] = ["avro", "confluent_avro", "protobuf", "csv", "parquet", "json_schema", "confluent_json"];

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

    /// Is every option understood, and can the format fill or write these columns, whichever the table is for? No I/O.
    ///
    /// Errors: `not_supported` (a format or column type that does not work yet), `invalid_option` (no such format),
    /// `conflicting_options` (an option of another format), `column_count` and `type_mismatch` (columns that do not fit).
    pub fn check(&self, table: &TableSpec) -> Result<()> {
        let format = self.known()?;
        self.refuse_others_options(format)?;
        let columns: Vec<&Column> = table.columns.iter().filter(|c| c.metadata.is_none()).collect();
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
        matches!(self.known(), Ok(Known::Debezium))
    }

    /// Which changes an [`encoder`](crate::encoder()) can write.
    pub fn changes(&self) -> ChangeSupport {
        if self.yields_changes() { ChangeSupport::Changes } else { ChangeSupport::InsertOnly }
    }

    /// Can changes of the table be written as the rows under its primary key, by an
    /// [`upsert_encoder`](crate::upsert_encoder())?
    pub fn upserts(&self, table: &TableSpec) -> bool {
        matches!(self.known(), Ok(Known::Json)) && !self.unstructured() && !table.primary_key.is_empty()
    }

    /// The value is one column's bytes as they are.
    pub fn is_raw(&self) -> bool {
        matches!(self.known(), Ok(Known::Raw))
    }

    /// A record is JSON text, so that an empty line is none.
    pub fn is_json_text(&self) -> bool {
        matches!(self.known(), Ok(Known::Json | Known::Debezium))
    }

    /// The whole value is one column.
    pub(crate) fn unstructured(&self) -> bool {
        self.json_unstructured.unwrap_or(false)
    }
    pub(crate) fn timestamp_format(&self) -> TimestampFormat {
        let default = if self.yields_changes() { TimestampFormat::UnixMicros } else { TimestampFormat::default() };
        self.timestamp_format.unwrap_or(default)
    }

    pub(crate) fn known(&self) -> Result<Known> {
        let name = self.format.as_str();
        match name.to_ascii_lowercase().as_str() {
            "json" => Ok(Known::Json),
            "raw" => Ok(Known::Raw),
            "debezium_json" | "debezium-json" => Ok(Known::Debezium),
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
        let given = [
            ("json.unstructured", self.json_unstructured.is_some(), json),
            ("json.pretty", self.json_pretty.is_some(), json),
            ("json.include_nulls", self.json_include_nulls.is_some(), json || debezium),
            ("timestamp_format", self.timestamp_format.is_some(), json || debezium),
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

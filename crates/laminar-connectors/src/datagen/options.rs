//! What a user may write in `WITH (…)`: options of the table, and `fields.<column>.…` for each column.

use std::collections::BTreeMap;

use laminar_core::options::{OptionEntry, names, nearest, unknown};
use laminar_core::table::TableSpec;
use laminar_core::{Code, Error, Options, Result};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::Value;

use super::SUBJECT;
use crate::batch::BatchOptions;
use crate::declared::{Declared, schema};
use crate::generator::Plan;

/// Options of `datagen`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct DatagenOptions {
    /// Rows a second, over all shards. Default: as fast as the pipeline takes them.
    #[serde(default)]
    pub rows_per_second: Option<f64>,
    /// How many rows there are, over all shards; then the source ends. Default: without end, or as many as the
    /// shortest sequence has.
    #[serde(default)]
    pub number_of_rows: Option<u64>,
    /// Two tables with the same seed and fields have the same rows.
    #[serde(default)]
    pub seed: u64,
    /// Number of splits that share the rows: as many tasks can make them side by side.
    #[serde(default = "one")]
    pub shards: u32,
}

fn one() -> u32 {
    1
}

/// Options of one column, each written `fields.<column>.<option>`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct FieldOptions {
    /// What the values are. Default: `now` for TIMESTAMP, else `random`.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// For `sequence`: the first value. Default: 0; for TIMESTAMP and DATE 1970-01-01.
    #[serde(default)]
    pub start: Option<String>,
    /// For `sequence`: the last value; the source ends with it. Default: no end.
    #[serde(default)]
    pub end: Option<String>,
    /// For `sequence`: from one row to the next, such as `1` or `-0.5`; for TIMESTAMP and TIME a duration such as `250ms`, for
    /// DATE days. Default: 1; for TIMESTAMP and TIME `1s`.
    #[serde(default)]
    pub step: Option<String>,
    /// For `random`: the smallest value. Default: 0; for TIMESTAMP and DATE 1970-01-01.
    #[serde(default)]
    pub min: Option<String>,
    /// For `random`: the largest value. Default: that of the type, at most 1000000; for DOUBLE and FLOAT 1; for TIMESTAMP and
    /// DATE 2030-01-01.
    #[serde(default)]
    pub max: Option<String>,
    /// For `random` DOUBLE and FLOAT: digits after the decimal point, at most 15. Default: all of them.
    #[serde(default)]
    pub decimals: Option<u32>,
    /// For `random` TEXT and BYTEA: the length. Default: 12.
    #[serde(default)]
    pub length: Option<u32>,
    /// For `choice`, and needed there: the values, as `a,b,c` or `["a", "b", "c"]`. One that is written twice comes twice as often.
    #[serde(default)]
    pub values: Option<Vec<String>>,
    /// Makes the column differ from another one with the same options. Default: made from the column's
    /// name.
    #[serde(default)]
    pub seed: Option<u64>,
    /// The part of the rows where the column is null, from 0 to 1. Default: 0.
    #[serde(default)]
    pub null_rate: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `start`, `start + step` and so on.
    Sequence,
    /// Evenly distributed between `min` and `max`.
    Random,
    /// One of `values`.
    Choice,
    /// Random UUIDs.
    Uuid,
    /// The time when the row is made; a row that is made again after a crash gets a new one.
    Now,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Random => "random",
            Self::Choice => "choice",
            Self::Uuid => "uuid",
            Self::Now => "now",
        }
    }
}

const PREFIX: &str = "fields.";

/// The JSON schema, with the options of columns as a pattern.
pub fn source_schema() -> Value {
    let mut all = schema([schema_for!(DatagenOptions), schema_for!(BatchOptions)]);
    let fields = schema([schema_for!(FieldOptions)]);
    let properties = fields.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let patterns = properties.into_iter().map(|(name, what)| (format!("^fields\\..+\\.{name}$"), what));
    if let Some(object) = all.as_object_mut() {
        object.insert("patternProperties".into(), Value::Object(patterns.collect()));
        if let Some(definitions) = fields.get("$defs") {
            object.insert("$defs".into(), definitions.clone());
        }
    }
    all
}

/// A table's options, read and checked but for what depends on the columns' types.
pub struct Read {
    pub own: DatagenOptions,
    pub plan: Plan,
    /// By column name.
    pub fields: BTreeMap<String, FieldOptions>,
}

/// Errors: those of [`Options::parse`]; `unknown_option` for `fields.<column>.<wrong>`.
pub fn read(options: &Options) -> Result<Read> {
    let (of_fields, rest): (Vec<_>, Vec<_>) = options.iter().cloned().partition(|e| e.key.starts_with(PREFIX));
    let rest = Options::new(rest)?;
    let declared = Declared::new(SUBJECT, &rest).with::<DatagenOptions>().with::<BatchOptions>();
    declared.check()?;
    BatchOptions::of(&rest)?;
    let own: DatagenOptions = declared.read()?;
    let plan = Plan::new(SUBJECT, own.shards, own.number_of_rows, own.rows_per_second, "rows_per_second")?;
    let mut columns: BTreeMap<String, Vec<OptionEntry>> = BTreeMap::new();
    for entry in of_fields {
        let path = entry.key.strip_prefix(PREFIX).unwrap_or_default();
        let Some((column, option)) = path.rsplit_once('.').filter(|(column, _)| !column.is_empty()) else {
            let known: Vec<String> =
                names::<FieldOptions>().iter().map(|name| format!("fields.<column>.{name}")).collect();
            return Err(unknown(&entry, &known, SUBJECT));
        };
        let stripped = OptionEntry { key: option.to_string(), ..entry.clone() };
        columns.entry(column.to_string()).or_default().push(stripped);
    }
    let mut fields = BTreeMap::new();
    for (column, entries) in columns {
        let subject = format!("column {column} of {SUBJECT}");
        let read: Result<FieldOptions> = Options::new(entries).and_then(|entries| entries.parse(&subject));
        let field = read.map_err(|error| in_column(error, &column))?;
        fields.insert(column, field);
    }
    Ok(Read { own, plan, fields })
}

/// The error, blaming `fields.<column>.<option>` where it blames an option.
pub fn in_column(error: Error, column: &str) -> Error {
    match error.field().map(|option| format!("{PREFIX}{column}.{option}")) {
        Some(field) => error.with_field(field),
        None => error,
    }
}

impl Read {
    /// Are the columns that the options name those of the table? Errors: `unknown_column`.
    pub fn check_columns(&self, options: &Options, table: &TableSpec) -> Result<()> {
        let columns = || table.columns.iter().map(|c| c.name.as_str());
        let Some(column) = self.fields.keys().find(|field| !columns().any(|c| c == field.as_str())) else {
            return Ok(());
        };
        let error = Error::new(Code::UnknownColumn, format!("table {} has no column {column}", table.name));
        let prefix = format!("{PREFIX}{column}.");
        let option = options.iter().find_map(|entry| entry.key.strip_prefix(&prefix)).unwrap_or_default();
        let error = error.with_field(format!("{prefix}{option}"));
        Err(match nearest(column, columns()) {
            Some(near) => error.with_hint(format!("did you mean '{PREFIX}{near}.{option}'?")),
            None => error.with_hint(format!("columns: {}", columns().collect::<Vec<_>>().join(", "))),
        })
    }
}

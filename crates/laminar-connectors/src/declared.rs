//! Options that several structs declare together: a connector's own, those of its format, those of batches.
//!
//! A key belongs to the first group that declares it. One that no group declares is an error with the nearest name of all
//! of them, whichever struct it is in.

use laminar_core::connector::Role;
use laminar_core::options::{names, unknown};
use laminar_core::{Code, Error, Options, Result};
use laminar_formats::FormatOptions;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::batch::BatchOptions;

/// A connector, or one of its directions, without options of its own.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) struct NoOptions {}

/// The options of one table, as `connector NAME` in messages.
pub(crate) struct Declared<'a> {
    subject: &'a str,
    options: &'a Options,
    groups: Vec<Vec<String>>,
    /// Options of the other direction, to say so instead of "unknown".
    other: Vec<String>,
    role: Option<Role>,
}

impl<'a> Declared<'a> {
    pub fn new(subject: &'a str, options: &'a Options) -> Self {
        Self { subject, options, groups: Vec::new(), other: Vec::new(), role: None }
    }
    /// Adds the options that `T` declares.
    pub fn with<T: JsonSchema>(mut self) -> Self {
        self.groups.push(names::<T>());
        self
    }
    /// `T` declares options of a direction that is not `role`.
    pub fn but<T: JsonSchema>(mut self, role: Role) -> Self {
        (self.other, self.role) = (names::<T>(), Some(role));
        self
    }

    /// Is every option declared?
    pub fn check(&self) -> Result<()> {
        let known = self.groups.concat();
        let Some(entry) = self.options.iter().find(|e| !known.contains(&e.key)) else { return Ok(()) };
        match self.role.filter(|_| self.other.contains(&entry.key)) {
            None => Err(unknown(entry, &known, self.subject)),
            Some(role) => {
                let side = if role == Role::Source { "sinks" } else { "sources" };
                let message = format!("option {} of {} is for {side} only", entry.key, self.subject);
                Err(Error::new(Code::ConflictingOptions, message).with_field(&entry.key).at(entry.location))
            }
        }
    }

    /// Reads the options that `T` declares.
    pub fn read<T: DeserializeOwned + JsonSchema>(&self) -> Result<T> {
        self.options.split_known::<T>().0.parse(self.subject)
    }

    /// Like `read`, but required options may be absent: checks those that are given.
    pub fn check_given<T: DeserializeOwned + JsonSchema>(&self) -> Result<()> {
        match self.read::<T>() {
            Err(error) if error.code() != Code::MissingOption => Err(error),
            _ => Ok(()),
        }
    }
}

/// Options of a source of records: its own, of the format, of batches.
pub(crate) fn read_source<T, Other>(subject: &str, options: &Options) -> Result<(T, FormatOptions)>
where
    T: DeserializeOwned + JsonSchema,
    Other: JsonSchema,
{
    let declared = Declared::new(subject, options).with::<T>().with::<FormatOptions>().with::<BatchOptions>();
    let declared = declared.but::<Other>(Role::Source);
    declared.check()?;
    BatchOptions::of(options)?;
    let format: FormatOptions = declared.read()?;
    format.check_role(Role::Source)?;
    Ok((declared.read()?, format))
}

/// Options of a sink of records: its own and those of the format.
pub(crate) fn read_sink<T, Other>(subject: &str, options: &Options) -> Result<(T, FormatOptions)>
where
    T: DeserializeOwned + JsonSchema,
    Other: JsonSchema,
{
    let declared = Declared::new(subject, options).with::<T>().with::<FormatOptions>().but::<Other>(Role::Sink);
    declared.check()?;
    let format: FormatOptions = declared.read()?;
    format.check_role(Role::Sink)?;
    Ok((declared.read()?, format))
}

/// The JSON schema of several structs as of one.
pub(crate) fn schema(parts: impl IntoIterator<Item = schemars::Schema>) -> Value {
    let mut merged = Map::from_iter([("type".to_string(), Value::from("object"))]);
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut definitions = Map::new();
    for part in parts {
        let take = |key: &str| part.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        properties.extend(take("properties"));
        definitions.extend(take("$defs"));
        required.extend(part.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    merged.insert("properties".into(), properties.into());
    merged.insert("required".into(), required.into());
    if !definitions.is_empty() {
        merged.insert("$defs".into(), definitions.into());
    }
    merged.into()
}

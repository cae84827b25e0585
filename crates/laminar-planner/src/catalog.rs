//! The catalogue as the planner sees it: plain definitions, and a snapshot of all of them.
//!
//! A definition is what CREATE leaves after its checks. It is stored as JSON and keeps option values as written, with their
//! placeholders; what they stand for is looked up when a connector is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use laminar_core::connector::Role;
use laminar_core::options::nearest;
use laminar_core::{Code, Error, Options};
use serde::{Deserialize, Serialize};

use crate::resolver;
use crate::statement::{Name, ObjectKind};
use crate::types::SqlType;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionDef {
    pub name: String,
    pub connector: String,
    pub options: Options,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableDef {
    pub name: String,
    /// The connection whose options the table's own override.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    pub connector: String,
    /// `None`: it can be read and written.
    pub role: Option<Role>,
    /// Empty: a sink whose columns are those of the query that is inserted.
    pub columns: Vec<ColumnDef>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary_key: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<WatermarkDef>,
    /// Of the table itself, as written.
    pub options: Options,
}

impl TableDef {
    /// Is a row's event time its arrival? A column may be both generated and the watermark's only if it is `PROCTIME()`.
    pub fn is_by_arrival(&self) -> bool {
        let Some(watermark) = &self.watermark else { return false };
        self.columns.iter().any(|column| column.name == watermark.column && column.generated.is_some())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnDef {
    pub name: String,
    #[serde(rename = "type")]
    pub sql_type: SqlType,
    pub nullable: bool,
    /// SQL of the value where the record has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// SQL over the other columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<String>,
    /// Key of the record's metadata that fills it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

/// `WATERMARK FOR column AS column - delay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatermarkDef {
    pub column: String,
    pub delay: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewDef {
    pub name: String,
    /// Names for the query's columns; empty: the query's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    pub query: String,
    pub depends_on: BTreeSet<ObjectRef>,
}

/// A catalogue object that another one needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    pub kind: ObjectKind,
    pub name: String,
}

impl ObjectRef {
    pub fn new(kind: ObjectKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

impl ConnectionDef {
    pub fn depends_on(&self) -> BTreeSet<ObjectRef> {
        secret_refs(&self.options)
    }
}

impl TableDef {
    pub fn depends_on(&self) -> BTreeSet<ObjectRef> {
        let mut refs = secret_refs(&self.options);
        refs.extend(self.connection.iter().map(|name| ObjectRef::new(ObjectKind::Connection, name)));
        refs
    }

    pub fn can_be(&self, role: Role) -> bool {
        self.role.is_none_or(|own| own == role)
    }

    /// Schema of all columns, as a query sees them.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().map(|c| c.sql_type.field(&c.name, c.nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

fn secret_refs(options: &Options) -> BTreeSet<ObjectRef> {
    resolver::secrets(options).into_iter().map(|name| ObjectRef::new(ObjectKind::Secret, name)).collect()
}

/// What a pipeline gives to queries.
#[derive(Clone, Debug)]
pub struct PipelineEntry {
    /// Columns of its result; `None` if it writes to sinks.
    pub result: Option<SchemaRef>,
}

/// All definitions at one moment. Built by the session from the metastore, read by the planner.
#[derive(Clone, Debug, Default)]
pub struct CatalogSnapshot {
    pub secrets: BTreeSet<String>,
    pub connections: BTreeMap<String, ConnectionDef>,
    pub tables: BTreeMap<String, TableDef>,
    pub views: BTreeMap<String, ViewDef>,
    pub pipelines: BTreeMap<String, PipelineEntry>,
}

/// What a name in FROM stands for.
#[derive(Clone, Copy, Debug)]
pub enum Relation<'a> {
    Table(&'a TableDef),
    View(&'a ViewDef),
    /// The result of a pipeline without a sink.
    Result(&'a SchemaRef),
}

impl CatalogSnapshot {
    pub fn connection(&self, name: &Name) -> Result<&ConnectionDef, Error> {
        self.connections.get(&name.value).ok_or_else(|| {
            let error = Error::new(Code::UnknownConnection, format!("there is no connection {}", name.value));
            let error = error.with_hint("SHOW CONNECTIONS lists them");
            did_you_mean(error, &name.value, self.connections.keys()).at(name.location)
        })
    }

    /// Errors: `unknown_table`, `wrong_object_kind`, with the nearest name.
    pub fn relation(&self, name: &Name) -> Result<Relation<'_>, Error> {
        let key = name.as_str();
        if let Some(table) = self.tables.get(key) {
            return Ok(Relation::Table(table));
        }
        if let Some(view) = self.views.get(key) {
            return Ok(Relation::View(view));
        }
        match self.pipelines.get(key) {
            Some(PipelineEntry { result: Some(schema) }) => return Ok(Relation::Result(schema)),
            Some(PipelineEntry { result: None }) => {
                return Err(Error::new(
                    Code::WrongObjectKind,
                    format!("pipeline {key} writes to a sink and keeps no result"),
                )
                .with_hint("read the topic or file that it writes through a table of type 'source'")
                .at(name.location));
            }
            None => {}
        }
        Err(self.unknown_relation(name))
    }

    /// The error for a name that no relation has.
    pub fn unknown_relation(&self, name: &Name) -> Error {
        let key = name.as_str();
        if self.connections.contains_key(key) {
            return Error::new(Code::WrongObjectKind, format!("{key} is a connection: it has no columns to read"))
                .with_hint(format!("CREATE TABLE … (columns) WITH (connector = '{key}'), and read the table"))
                .at(name.location);
        }
        let names = self.tables.keys().chain(self.views.keys()).chain(self.pipelines.keys());
        let error = Error::new(Code::UnknownTable, format!("there is no table, view or pipeline {key}"))
            .with_hint("SHOW TABLES, SHOW VIEWS and SHOW PIPELINES list them; those of the system are in system");
        did_you_mean(error, key, names).at(name.location)
    }
}

/// The error with the nearest of `candidates` as its hint, if one is near; else as it is.
pub(crate) fn did_you_mean<'a, S: AsRef<str> + 'a>(
    error: Error,
    written: &str,
    candidates: impl IntoIterator<Item = &'a S>,
) -> Error {
    match nearest(written, candidates.into_iter().map(AsRef::as_ref)) {
        Some(name) => error.with_hint(format!("did you mean {name}?")),
        None => error,
    }
}

//! The catalogue in memory: the planner's snapshot, and what the metadata database says besides (ids, text, times).
//!
//! A value of [`Catalog`] never changes: a statement clones it, changes the clone, stores the change in the database, and
//! then publishes the clone. Readers keep the one they took.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use laminar_core::options::Secret;
use laminar_core::{Code, Error, PipelineId, Result};
use laminar_metastore::{CatalogObject, DesiredState, Metastore, Page};
use laminar_planner::catalog::{CatalogSnapshot, ConnectionDef, ObjectRef, PipelineEntry, TableDef, ViewDef};
use laminar_planner::settings::PipelineOptions;
use laminar_planner::statement::{Name, ObjectKind};
use laminar_planner::types::SqlType;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::GraphInfo;

/// Everything that is defined, at one moment.
#[derive(Clone, Default)]
pub(crate) struct Catalog {
    pub snapshot: CatalogSnapshot,
    /// Secrets, connections, tables and views.
    pub objects: BTreeMap<ObjectRef, Entry>,
    /// By name.
    pub pipelines: BTreeMap<String, Arc<Pipeline>>,
    pub secrets: BTreeMap<String, Secret>,
}

/// What is known of an object besides its definition.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub id: String,
    /// The statement as written; a secret's without its value.
    pub sql: String,
    /// Milliseconds since 1970 UTC.
    pub created_at: i64,
    pub updated_at: i64,
}

/// A pipeline as the catalogue has it.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub id: PipelineId,
    pub name: String,
    /// A CREATE PIPELINE statement, or the query or script that REST was given.
    pub sql: String,
    pub parallelism: u32,
    pub checkpoint_interval_micros: u64,
    pub desired: DesiredState,
    pub created_at: i64,
    pub updated_at: i64,
    pub planned: Planned,
}

/// What planning found out, stored with the pipeline (as JSON, in its options) so that the catalogue loads without planning.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Planned {
    #[serde(default)]
    pub options: PipelineOptions,
    #[serde(default)]
    pub sources: Vec<String>,
    #[serde(default)]
    pub sinks: Vec<String>,
    #[serde(default)]
    pub depends_on: Vec<ObjectRef>,
    /// Columns of its result, if it keeps one.
    #[serde(default)]
    pub result: Option<Vec<ResultColumn>>,
    #[serde(default)]
    pub graph: GraphInfo,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ResultColumn {
    name: String,
    #[serde(rename = "type")]
    sql_type: SqlType,
    nullable: bool,
}

impl Planned {
    pub fn set_result(&mut self, schema: Option<&SchemaRef>) {
        let column = |f: &Arc<arrow::datatypes::Field>| ResultColumn {
            name: f.name().clone(),
            sql_type: SqlType::from_arrow(f),
            nullable: f.is_nullable(),
        };
        self.result = schema.map(|s| s.fields().iter().map(column).collect());
    }

    fn result_schema(&self) -> Option<SchemaRef> {
        let columns = self.result.as_ref()?;
        let fields = columns.iter().map(|c| c.sql_type.field(&c.name, c.nullable));
        Some(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    /// The graph, each operator at this parallelism.
    pub fn graph_at(&self, parallelism: usize) -> GraphInfo {
        let mut graph = self.graph.clone();
        graph.nodes.iter_mut().for_each(|node| node.parallelism = parallelism);
        graph
    }

    /// As it is stored. Errors: `not_supported` for a result of which that could not be read again.
    pub fn to_json(&self) -> Result<serde_json::Value> {
        for column in self.result.iter().flatten() {
            SqlType::parse(column.sql_type.as_str()).map_err(|_| {
                let what = format!("column {} of the result is of type {}", column.name, column.sql_type);
                Error::new(Code::NotSupported, what)
                    .with_detail("no column of a table can be of that type")
                    .with_hint("CAST it to one that has a name, such as TEXT")
            })?;
        }
        serde_json::to_value(self).map_err(|e| Error::internal(format!("a pipeline's options cannot be stored: {e}")))
    }
}

impl Catalog {
    /// Reads everything. What another version has written and this one cannot read is told in the log, stands in nobody's way, and can be
    /// dropped or replaced; what needs it does not find it. Errors: `metadata_unavailable`.
    pub async fn load(metastore: &dyn Metastore) -> Result<Self> {
        let mut catalog = Self::default();
        for object in metastore.objects(None, &Page::all()).await? {
            if object.kind == laminar_metastore::ObjectKind::Secret {
                let value = metastore.secret_value(&object.name).await?;
                catalog.secrets.insert(object.name.clone(), value);
            }
            let damaged = (object.kind, object.name.clone(), entry(&object));
            if let Err(error) = catalog.put_object(object) {
                let (kind, name, entry) = damaged;
                error!(%name, %error, "left out: its definition cannot be read; DROP it, or create it anew with OR REPLACE");
                catalog.objects.insert(ObjectRef::new(object_kind(kind), name), entry);
            }
        }
        for row in metastore.pipelines(&Page::all()).await? {
            catalog.put_pipeline(Pipeline::from_row(row.clone()).unwrap_or_else(|error| {
                error!(name = %row.name, %error, "what was planned of it cannot be read; it is planned anew when it starts");
                Pipeline::planned_later(row)
            }));
        }
        Ok(catalog)
    }

    /// Adds or replaces what the database returned.
    pub fn put_object(&mut self, object: CatalogObject) -> Result<()> {
        let (kind, entry) = (object_kind(object.kind), entry(&object));
        let CatalogObject { name, definition, .. } = object;
        match kind {
            ObjectKind::Secret => drop(self.snapshot.secrets.insert(name.clone())),
            ObjectKind::Connection => {
                let definition: ConnectionDef = read(&name, definition)?;
                self.snapshot.connections.insert(name.clone(), definition);
            }
            ObjectKind::Table => {
                let definition: TableDef = read(&name, definition)?;
                self.snapshot.tables.insert(name.clone(), definition);
            }
            ObjectKind::View => {
                let definition: ViewDef = read(&name, definition)?;
                self.snapshot.views.insert(name.clone(), definition);
            }
            ObjectKind::Pipeline => return Err(Error::internal(format!("pipeline {name} is stored as an object"))),
        }
        self.objects.insert(ObjectRef::new(kind, name), entry);
        Ok(())
    }

    pub fn put_pipeline(&mut self, pipeline: Pipeline) {
        let entry = PipelineEntry { result: pipeline.planned.result_schema() };
        self.snapshot.pipelines.insert(pipeline.name.clone(), entry);
        self.pipelines.insert(pipeline.name.clone(), Arc::new(pipeline));
    }

    pub fn remove(&mut self, object: &ObjectRef) {
        let name = object.name.as_str();
        match object.kind {
            ObjectKind::Secret => {
                self.snapshot.secrets.remove(name);
                self.secrets.remove(name);
            }
            ObjectKind::Connection => drop(self.snapshot.connections.remove(name)),
            ObjectKind::Table => drop(self.snapshot.tables.remove(name)),
            ObjectKind::View => drop(self.snapshot.views.remove(name)),
            ObjectKind::Pipeline => {
                self.snapshot.pipelines.remove(name);
                self.pipelines.remove(name);
            }
        }
        self.objects.remove(object);
    }

    /// The pipeline with this id or name. Errors: `unknown_pipeline`.
    pub fn pipeline(&self, id_or_name: &str) -> Result<&Arc<Pipeline>> {
        let by_id = || self.pipelines.values().find(|p| p.id.as_str() == id_or_name);
        self.pipelines.get(id_or_name).or_else(by_id).ok_or_else(|| {
            let error = Error::new(Code::UnknownPipeline, format!("there is no pipeline {id_or_name}"));
            match laminar_core::options::nearest(id_or_name, self.pipelines.keys().map(String::as_str)) {
                Some(name) => error.with_hint(format!("did you mean {name}?")),
                None => error.with_hint("SHOW PIPELINES lists them"),
            }
        })
    }

    /// The object of this kind with this id or name; `None` if there is none.
    pub fn object(&self, kind: ObjectKind, id_or_name: &str) -> Option<(&ObjectRef, &Entry)> {
        self.objects
            .iter()
            .find(|(object, _)| object.kind == kind && object.name == id_or_name)
            .or_else(|| self.objects.iter().find(|(object, entry)| object.kind == kind && entry.id == id_or_name))
    }

    pub fn contains(&self, object: &ObjectRef) -> bool {
        match object.kind {
            ObjectKind::Pipeline => self.pipelines.contains_key(&object.name),
            _ => self.objects.contains_key(object),
        }
    }

    /// The table, view or pipeline that stands behind a name after FROM.
    pub fn relation_kind(&self, name: &str) -> Option<ObjectKind> {
        [ObjectKind::Table, ObjectKind::View, ObjectKind::Pipeline]
            .into_iter()
            .find(|kind| self.contains(&ObjectRef::new(*kind, name)))
    }

    /// What needs the object directly, in order of kind and name.
    pub fn users(&self, used: &ObjectRef) -> Vec<ObjectRef> {
        let snapshot = &self.snapshot;
        let connections = snapshot.connections.values().filter(|c| c.depends_on().contains(used));
        let tables = snapshot.tables.values().filter(|t| t.depends_on().contains(used));
        let views = snapshot.views.values().filter(|v| v.depends_on.contains(used));
        let pipelines = self.pipelines.values().filter(|p| p.planned.depends_on.contains(used));
        connections
            .map(|c| ObjectRef::new(ObjectKind::Connection, &c.name))
            .chain(tables.map(|t| ObjectRef::new(ObjectKind::Table, &t.name)))
            .chain(views.map(|v| ObjectRef::new(ObjectKind::View, &v.name)))
            .chain(pipelines.map(|p| ObjectRef::new(ObjectKind::Pipeline, &p.name)))
            .collect()
    }

    /// Ids of what these names stand for; what is gone or local has none.
    pub fn ids<'a>(&self, refs: impl IntoIterator<Item = &'a ObjectRef>) -> Vec<String> {
        let id = |object: &ObjectRef| match object.kind {
            ObjectKind::Pipeline => self.pipelines.get(&object.name).map(|p| p.id.to_string()),
            _ => self.objects.get(object).map(|e| e.id.clone()),
        };
        refs.into_iter().filter_map(id).collect()
    }

    /// The error for a name of this kind that does not exist, with the nearest one.
    pub fn unknown(&self, kind: ObjectKind, name: &Name) -> Error {
        let code = match kind {
            ObjectKind::Secret => Code::UnknownSecret,
            ObjectKind::Connection => Code::UnknownConnection,
            ObjectKind::Table | ObjectKind::View => Code::UnknownTable,
            ObjectKind::Pipeline => Code::UnknownPipeline,
        };
        let error = Error::new(code, format!("there is no {} {}", kind.as_str(), name.value)).at(name.location);
        if let Some(other) = self.relation_kind(&name.value).filter(|other| *other != kind) {
            return Error::new(
                Code::WrongObjectKind,
                format!("{} is a {}, not a {}", name.value, other.as_str(), kind.as_str()),
            )
            .at(name.location);
        }
        let names = self.objects.keys().filter(|o| o.kind == kind).map(|o| o.name.as_str());
        let pipelines = self.pipelines.keys().filter(|_| kind == ObjectKind::Pipeline).map(String::as_str);
        match laminar_core::options::nearest(&name.value, names.chain(pipelines)) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error.with_hint(format!("SHOW {}S lists them", kind.as_str().to_uppercase())),
        }
    }
}

impl Pipeline {
    pub fn from_row(row: laminar_metastore::Pipeline) -> Result<Self> {
        let planned = read(&row.name, row.options.clone())?;
        Ok(Self { planned, ..Self::planned_later(row) })
    }

    fn planned_later(row: laminar_metastore::Pipeline) -> Self {
        Self {
            planned: Planned::default(),
            id: row.id,
            name: row.name,
            sql: row.sql,
            parallelism: row.parallelism,
            checkpoint_interval_micros: row.checkpoint_interval_micros,
            desired: row.desired,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("objects", &self.objects.keys())
            .field("pipelines", &self.pipelines.keys())
            .finish()
    }
}

fn object_kind(stored: laminar_metastore::ObjectKind) -> ObjectKind {
    use laminar_metastore::ObjectKind as Stored;
    match stored {
        Stored::Secret => ObjectKind::Secret,
        Stored::Connection => ObjectKind::Connection,
        Stored::Table => ObjectKind::Table,
        Stored::View => ObjectKind::View,
        Stored::Pipeline => ObjectKind::Pipeline,
    }
}

fn entry(object: &CatalogObject) -> Entry {
    let CatalogObject { id, sql, created_at, updated_at, .. } = object.clone();
    Entry { id, sql, created_at, updated_at }
}

fn read<T: serde::de::DeserializeOwned>(name: &str, definition: serde_json::Value) -> Result<T> {
    serde_json::from_value(definition).map_err(|e| {
        Error::internal(format!("the stored definition of {name} cannot be read")).with_detail(e.to_string())
    })
}

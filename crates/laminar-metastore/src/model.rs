//! What the metadata database holds, as plain values.
//!
//! Times are milliseconds since 1970 UTC. Ids are UUIDs of version 7 (see [`crate::new_id`]): they sort by creation,
//! which is what paging relies on. `definition`, `options`, `failure` and `detail` belong to the caller: the metastore
//! stores the JSON and gives it back unchanged.

use std::fmt;

use laminar_core::options::Secret;
use laminar_core::{Code, Epoch, JobId, PipelineId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a named object of the catalogue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    Secret,
    Connection,
    Table,
    View,
    Pipeline,
}

impl ObjectKind {
    pub const ALL: [ObjectKind; 5] = [Self::Secret, Self::Connection, Self::Table, Self::View, Self::Pipeline];

    /// As stored and as shown: `table`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Connection => "connection",
            Self::Table => "table",
            Self::View => "view",
            Self::Pipeline => "pipeline",
        }
    }

    /// The namespace in which names are unique. Tables, views and pipelines share one: all can stand after `FROM`.
    pub(crate) fn space(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Connection => "connection",
            Self::Table | Self::View | Self::Pipeline => "relation",
        }
    }

    /// Definitions of these may hold credentials, so they are sealed before they reach the database.
    pub(crate) fn is_sealed(self) -> bool {
        !matches!(self, Self::View)
    }

    /// The code of the error that says that none has this name.
    pub fn unknown(self) -> Code {
        match self {
            Self::Secret => Code::UnknownSecret,
            Self::Connection => Code::UnknownConnection,
            Self::Table | Self::View => Code::UnknownTable,
            Self::Pipeline => Code::UnknownPipeline,
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A secret, connection, table or view. Its `Debug` shows neither definition nor SQL: they may hold credentials.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogObject {
    pub id: String,
    pub kind: ObjectKind,
    pub name: String,
    /// What the planner made of the statement; null for a secret.
    pub definition: Value,
    /// The statement as written; for a secret without its value.
    pub sql: String,
    pub created_at: i64,
    pub updated_at: i64,
}

impl fmt::Debug for CatalogObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("CatalogObject");
        shown.field("id", &self.id).field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What it takes to create or replace a [`CatalogObject`].
#[derive(Clone)]
pub struct NewObject {
    /// Not [`ObjectKind::Pipeline`]: those have a method of their own.
    pub kind: ObjectKind,
    pub name: String,
    pub definition: Value,
    pub sql: String,
    /// The value of a secret; `None` for every other kind.
    pub secret: Option<Secret>,
    /// Ids of the objects and pipelines this one refers to; they cannot be dropped before it.
    pub uses: Vec<String>,
}

impl fmt::Debug for NewObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewObject").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether the user wants a pipeline to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    Running,
    Stopped,
}

impl DesiredState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// A pipeline's definition. Its `Debug` does not show the SQL, which may hold credentials of local tables.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    pub id: PipelineId,
    pub name: String,
    pub sql: String,
    pub options: Value,
    pub parallelism: u32,
    pub checkpoint_interval_micros: u64,
    pub desired: DesiredState,
    pub created_at: i64,
    pub updated_at: i64,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Pipeline");
        shown.field("id", &self.id).field("name", &self.name).field("desired", &self.desired).finish_non_exhaustive()
    }
}

/// What it takes to create a [`Pipeline`]. The caller chooses the id ([`crate::new_id`]): it is needed for planning.
#[derive(Clone)]
pub struct NewPipeline {
    pub id: PipelineId,
    pub name: String,
    pub sql: String,
    pub options: Value,
    pub parallelism: u32,
    pub checkpoint_interval_micros: u64,
    pub desired: DesiredState,
    /// Ids of the objects and pipelines it reads and writes; they cannot be dropped before it.
    pub uses: Vec<String>,
}

impl fmt::Debug for NewPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPipeline").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The fields of a pipeline to change; `None` leaves one as it is.
#[derive(Clone, Default)]
pub struct PipelineChange {
    pub sql: Option<String>,
    pub options: Option<Value>,
    pub parallelism: Option<u32>,
    pub checkpoint_interval_micros: Option<u64>,
    pub desired: Option<DesiredState>,
    /// Replaces what the pipeline refers to.
    pub uses: Option<Vec<String>>,
}

/// One run of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub pipeline_id: PipelineId,
    /// 1 for the first job of its pipeline, then one more each time.
    pub run: u64,
    /// A state of the controller's state machine, as text.
    pub state: String,
    /// The error that ended it, as the REST API shows errors.
    pub failure: Option<Value>,
    pub restarts: u32,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
}

/// What it takes to create a [`Job`].
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    pub id: JobId,
    pub pipeline_id: PipelineId,
    pub state: String,
}

/// A job's new state. `None` leaves a field as it is; `failure: Some(None)` clears it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobChange {
    pub state: String,
    pub failure: Option<Option<Value>>,
    pub restarts: Option<u32>,
    pub started_at: Option<i64>,
    pub finished_at: Option<Option<i64>>,
}

/// What the cache knows of one checkpoint; the manifest in the checkpoint store is the truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRow {
    pub pipeline_id: PipelineId,
    pub job_id: JobId,
    pub epoch: Epoch,
    /// `running`, `committed` or `failed`.
    pub state: String,
    pub started_at: i64,
    pub finished_at: Option<i64>,
    pub bytes: u64,
    pub detail: Value,
}

/// One line of a job's error log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobErrorRow {
    pub id: String,
    pub job_id: JobId,
    pub at: i64,
    /// `error`, `warn` or `info`.
    pub level: String,
    /// The operator or table it happened at, where one is known.
    pub operator: Option<String>,
    pub message: String,
    pub detail: Value,
}

/// What it takes to add a [`JobErrorRow`].
#[derive(Clone, Debug, PartialEq)]
pub struct NewJobError {
    pub job_id: JobId,
    pub level: String,
    pub operator: Option<String>,
    pub message: String,
    pub detail: Value,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most this many; ask for one more than you show to learn whether there are more.
    pub limit: u32,
    /// Id (for checkpoints: epoch) of the last item of the page before; `None` for the first page.
    pub starting_after: Option<String>,
}

impl Page {
    /// The first `limit` items.
    pub fn first(limit: u32) -> Self {
        Self { limit, starting_after: None }
    }
    /// Everything there is; for lists that fit in memory by their nature (the catalogue).
    pub fn all() -> Self {
        Self::first(i32::MAX as u32)
    }
}

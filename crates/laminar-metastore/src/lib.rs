//! Durable metadata behind one trait, in PostgreSQL or SQLite.
//!
//! Nothing that a running pipeline needs is only here: a checkpoint's truth is its manifest, an output's truth is the
//! sink's transaction. So when the database is down only DDL fails, with `metadata_unavailable`, and it works again when
//! the database is back.
//!
//! Reading order: `model` (what is stored), the traits below, `key` (sealing), `database` (two drivers, one SQL),
//! `objects`, `pipelines`, `jobs`, `checkpoints` (the statements), `rotation` (a new key). Tables are in `/migrations`.

mod model;

mod key;

mod database;
mod store;

mod checkpoints;
mod jobs;
mod objects;
mod pipelines;

mod rotation;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use laminar_core::options::Secret;
use laminar_core::time::SharedClock;
use laminar_core::{Epoch, JobId, PipelineId, Result};
use uuid::{ContextV7, Timestamp, Uuid};

pub use key::SecretKey;
pub use model::{
    CatalogObject, CheckpointRow, DesiredState, Job, JobChange, JobErrorRow, NewJob, NewJobError, NewObject,
    NewPipeline, ObjectKind, Page, Pipeline, PipelineChange,
};
pub use rotation::rotate;

/// The metadata database.
///
/// Every method may fail with `metadata_unavailable` (within seconds; calling again later is safe) and with the codes it
/// names. Each call is one transaction.
#[async_trait]
pub trait Metastore: Objects + Pipelines + Jobs + Checkpoints + std::fmt::Debug {
    /// Names this installation: made once, when the database is first used, and the same ever after.
    fn instance_id(&self) -> &str;
    /// Does the database answer?
    async fn ping(&self) -> Result<()>;
    /// Closes the connections, so that the files or the server are free when it returns.
    async fn close(&self);
}

/// Secrets, connections, tables and views.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Errors: `duplicate_name`, also if a table, view or pipeline of that name exists; `not_found` if something in
    /// `uses` is gone.
    async fn create_object(&self, new: NewObject) -> Result<CatalogObject>;
    /// Creates, or replaces the one with the same name and kind, keeping its id and `created_at`.
    ///
    /// Errors: `duplicate_name` if the name belongs to an object of another kind.
    async fn replace_object(&self, new: NewObject) -> Result<CatalogObject>;
    /// Errors: `unknown_secret`, `unknown_connection` or `unknown_table`.
    async fn object(&self, kind: ObjectKind, name: &str) -> Result<CatalogObject>;
    /// Oldest first; of one kind or of all.
    async fn objects(&self, kind: Option<ObjectKind>, page: &Page) -> Result<Vec<CatalogObject>>;
    /// Drops it and returns what it was. Errors: as `object`; `in_use`, naming what needs it.
    async fn drop_object(&self, kind: ObjectKind, name: &str) -> Result<CatalogObject>;
    /// The value of a secret. Errors: `unknown_secret`.
    async fn secret_value(&self, name: &str) -> Result<Secret>;
}

/// Definitions of pipelines.
#[async_trait]
pub trait Pipelines: Send + Sync {
    /// Errors: `duplicate_name`, also if a table or view of that name exists; `not_found` if something in `uses` is gone.
    async fn create_pipeline(&self, new: NewPipeline) -> Result<Pipeline>;
    /// Errors: `unknown_pipeline`.
    async fn pipeline(&self, id: &PipelineId) -> Result<Pipeline>;
    /// Errors: `unknown_pipeline`.
    async fn pipeline_named(&self, name: &str) -> Result<Pipeline>;
    /// Oldest first.
    async fn pipelines(&self, page: &Page) -> Result<Vec<Pipeline>>;
    /// Errors: `unknown_pipeline`; `not_found` if something in `uses` is gone.
    async fn update_pipeline(&self, id: &PipelineId, change: PipelineChange) -> Result<Pipeline>;
    /// Drops it with its jobs, errors and checkpoint rows. Errors: `unknown_pipeline`; `in_use`.
    async fn drop_pipeline(&self, id: &PipelineId) -> Result<Pipeline>;
}

/// Runs of pipelines.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// Adds the pipeline's next run. Errors: `unknown_pipeline`; `duplicate_name` if the id exists.
    async fn create_job(&self, new: NewJob) -> Result<Job>;
    /// Errors: `unknown_job`.
    async fn job(&self, id: &JobId) -> Result<Job>;
    /// Newest first; of one pipeline or of all.
    async fn jobs(&self, pipeline: Option<&PipelineId>, page: &Page) -> Result<Vec<Job>>;
    /// Changes the job if its state is still `expected`. Errors: `unknown_job`; `wrong_state`, naming the state it has.
    async fn update_job(&self, id: &JobId, expected: &str, change: JobChange) -> Result<Job>;
    /// Errors: `unknown_job`.
    async fn add_job_error(&self, new: NewJobError) -> Result<JobErrorRow>;
    /// Newest first.
    async fn job_errors(&self, job: &JobId, page: &Page) -> Result<Vec<JobErrorRow>>;
}

/// The cache of what checkpoints there are.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Adds the row, or replaces the one of the same pipeline and epoch. Errors: `unknown_pipeline`.
    async fn put_checkpoint(&self, row: &CheckpointRow) -> Result<()>;
    /// Newest epoch first.
    async fn checkpoints(&self, pipeline: &PipelineId, page: &Page) -> Result<Vec<CheckpointRow>>;
    /// The committed one with the largest epoch.
    async fn latest_checkpoint(&self, pipeline: &PipelineId) -> Result<Option<CheckpointRow>>;
    /// Deletes rows whose epoch is smaller than `epoch`; returns how many.
    async fn forget_checkpoints(&self, pipeline: &PipelineId, before: Epoch) -> Result<u64>;
}

/// Orders the ids of one millisecond.
static ID_SEQUENCE: Mutex<ContextV7> = Mutex::new(ContextV7::new());

/// A new id: a UUID of version 7. Ids of one process sort by creation.
pub fn new_id(clock: &SharedClock) -> String {
    let millis = u64::try_from(clock.now_millis()).unwrap_or_default();
    let nanos = u32::try_from(millis % 1000).unwrap_or_default() * 1_000_000;
    Uuid::new_v7(Timestamp::from_unix(&ID_SEQUENCE, millis / 1000, nanos)).to_string()
}

/// Opens the metadata database at `url`, brings its tables up to date and checks the key.
///
/// `url` is `sqlite:PATH` (created if absent, readable by its owner only), `sqlite::memory:` or `postgres://…` (tables are
/// in the schema `laminar`). Safe when two servers start at once.
///
/// Errors: `invalid_option` for an unusable URL or a key that does not open what is stored; `metadata_unavailable`.
pub async fn connect(url: &str, key: SecretKey, clock: SharedClock) -> Result<Arc<dyn Metastore>> {
    store::open(url, key, clock).await
}

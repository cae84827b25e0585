//! The running system: one per process, shared by every session and door.
//!
//! A change of the catalogue goes: check, persist, publish the new snapshot, start what is to run. One change at a time;
//! if a step fails, the ones before it are undone, so nothing is ever half created. Readers never wait: they take the
//! current snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use laminar_connectors::Registry;
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, Result};
use laminar_metastore::Metastore;

use crate::session::Session;
use crate::*;

/// What the system is made of.
#[derive(Clone, Debug)]
pub struct SystemConfig {
    pub metastore: Arc<dyn Metastore>,
    /// Where checkpoints live: a folder's path, `file://`, `s3://`, `gs://` or `az://`.
    pub state_url: String,
    pub registry: Arc<Registry>,
    pub clock: SharedClock,
    pub defaults: Defaults,
    /// The only folder under which options may name files that the server reads (certificates); `None`: none.
    pub files_dir: Option<PathBuf>,
    /// May option values read the server's environment (`${env:X}`)?
    pub allow_env: bool,
    /// Armed by tests only.
    pub crash: laminar_engine::crash::CrashPoints,
}

/// What a pipeline or session uses where nothing else is said.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub parallelism: usize,
    pub checkpoint_interval: Duration,
    pub checkpoint_timeout: Duration,
    /// Longest time a preview of a stream reads.
    pub preview_timeout: Duration,
    /// Most rows a preview of a stream reads.
    pub preview_limit: usize,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            parallelism: 1,
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_timeout: Duration::from_secs(600),
            preview_timeout: Duration::from_secs(10),
            preview_limit: 100_000,
        }
    }
}

pub struct System {
    config: SystemConfig,
}

impl System {
    /// Loads the catalogue and resumes every pipeline that should run; a pipeline that cannot start is retried in the
    /// background and does not hold up the others.
    ///
    /// Errors: `metadata_unavailable`, `store_unavailable`.
    pub async fn start(config: SystemConfig) -> Result<Arc<System>> {
        Ok(Arc::new(System { config }))
    }

    /// A session with default settings.
    pub fn session(self: &Arc<Self>) -> Session {
        Session::new(Arc::clone(self))
    }

    /// Stops every job with a checkpoint. Pipelines that ran run again when the system next starts. Idempotent.
    pub async fn shutdown(&self) {}

    pub fn config(&self) -> &SystemConfig {
        &self.config
    }

    // Pipelines; `id` is an id or a name. Errors of all: `unknown_pipeline`.

    /// Oldest first.
    pub async fn pipelines(&self) -> Result<Vec<PipelineInfo>> {
        later()
    }
    pub async fn pipeline(&self, _id: &str) -> Result<PipelineInfo> {
        later()
    }
    /// Creates and starts it; if it cannot start, it is not created.
    pub async fn create_pipeline(self: &Arc<Self>, _new: NewPipeline) -> Result<PipelineInfo> {
        later()
    }
    pub async fn patch_pipeline(self: &Arc<Self>, _id: &str, _patch: PipelinePatch) -> Result<PipelineInfo> {
        later()
    }
    /// Does nothing if it runs. Returns the job.
    pub async fn start_pipeline(self: &Arc<Self>, _id: &str) -> Result<JobInfo> {
        later()
    }
    /// Returns when it has stopped. Does nothing if it does not run.
    pub async fn stop_pipeline(&self, _id: &str, _how: StopKind) -> Result<PipelineInfo> {
        later()
    }
    /// Stops it if it runs (with a checkpoint unless `from` is another place), starts it, returns the new job.
    pub async fn restart_pipeline(self: &Arc<Self>, _id: &str, _from: RestartFrom) -> Result<JobInfo> {
        later()
    }
    /// Stops it, then drops it with its jobs and checkpoints.
    pub async fn delete_pipeline(&self, _id: &str) -> Result<()> {
        later()
    }
    /// Plans the query (as [`NewPipeline::query`]) without creating anything. What is wrong is in the answer.
    pub async fn validate(&self, _query: &str) -> Result<ValidateResult> {
        later()
    }
    /// The first rows that a pipeline of this query would yield, read within bounds; nothing is written anywhere.
    pub async fn preview(self: &Arc<Self>, _query: &str) -> Result<Outcome> {
        later()
    }

    // Jobs. Errors of all: `unknown_job`.

    /// Newest first, at most `limit`; of one pipeline or of all.
    pub async fn jobs(&self, _pipeline: Option<&str>, _limit: usize) -> Result<Vec<JobInfo>> {
        later()
    }
    pub async fn job(&self, _id: &str) -> Result<JobInfo> {
        later()
    }
    /// Newest first.
    pub async fn job_errors(&self, _id: &str, _limit: usize) -> Result<Vec<JobErrorInfo>> {
        later()
    }
    /// Newest first.
    pub async fn job_checkpoints(&self, _id: &str, _limit: usize) -> Result<Vec<CheckpointInfo>> {
        later()
    }
    pub async fn job_metrics(&self, _id: &str) -> Result<JobMetricsInfo> {
        later()
    }
    pub async fn stop_job(&self, _id: &str, _how: StopKind) -> Result<JobInfo> {
        later()
    }
    /// Restarts the job's pipeline; returns the new job.
    pub async fn restart_job(self: &Arc<Self>, _id: &str, _from: RestartFrom, _parallelism: Option<usize>) -> Result<JobInfo> {
        later()
    }

    // Connections and tables; `id` is an id or a name.

    pub async fn connections(&self) -> Result<Vec<ConnectionInfo>> {
        later()
    }
    /// Errors: `unknown_connection`.
    pub async fn connection(&self, _id: &str) -> Result<ConnectionInfo> {
        later()
    }
    pub async fn create_connection(&self, _new: NewConnection) -> Result<ConnectionInfo> {
        later()
    }
    /// Reaches out with these options; creates nothing. Errors only when the options are wrong.
    pub async fn test_new_connection(&self, _new: NewConnection) -> Result<TestResult> {
        later()
    }
    pub async fn test_connection(&self, _id: &str) -> Result<TestResult> {
        later()
    }
    /// Errors: `unknown_connection`, `in_use`.
    pub async fn delete_connection(&self, _id: &str) -> Result<()> {
        later()
    }

    pub async fn tables(&self) -> Result<Vec<TableInfo>> {
        later()
    }
    /// Errors: `unknown_table`.
    pub async fn table(&self, _id: &str) -> Result<TableInfo> {
        later()
    }
    pub async fn create_table(&self, _new: NewTable) -> Result<TableInfo> {
        later()
    }
    pub async fn test_new_table(&self, _new: NewTable) -> Result<TestResult> {
        later()
    }
    /// Errors: `unknown_table`, `in_use`.
    pub async fn delete_table(&self, _id: &str) -> Result<()> {
        later()
    }

    pub fn connectors(&self) -> Vec<ConnectorInfo> {
        Vec::new()
    }

    /// Prometheus text exposition (version 0.0.4) of all jobs.
    pub fn metrics_text(&self) -> String {
        String::new()
    }
}

fn later<T>() -> Result<T> {
    Err(Error::new(Code::NotSupported, "being written"))
}

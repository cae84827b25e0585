//! The real metadata database behind a switch, so that a test can take it away and give it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use laminar_core::options::Secret;
use laminar_core::{Code, Epoch, Error, JobId, PipelineId, Result};
use laminar_metastore::{
    CatalogObject, CheckpointRow, Checkpoints, Job, JobChange, JobErrorRow, Jobs, Metastore, NewJob, NewJobError,
    NewObject, NewPipeline, ObjectKind, Objects, Page, Pipeline, PipelineChange, Pipelines,
};
use tokio::sync::Notify;

/// What the database does, and word of a call that hangs. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<AtomicU8>, Arc<Notify>);

const WORKS: u8 = 0;
const AWAY: u8 = 1;
const NO_JOBS: u8 = 2;
const HANGS: u8 = 3;

#[allow(dead_code)] // each test file uses its part
impl Switch {
    pub fn works(&self) {
        self.0.store(WORKS, Ordering::SeqCst);
    }
    /// Every call fails.
    pub fn away(&self) {
        self.0.store(AWAY, Ordering::SeqCst);
    }
    /// It goes away just before a new job is written.
    pub fn takes_no_jobs(&self) {
        self.0.store(NO_JOBS, Ordering::SeqCst);
    }
    /// A new object is never answered.
    pub fn hangs(&self) {
        self.0.store(HANGS, Ordering::SeqCst);
    }

    /// Waits until a call hangs.
    pub async fn has_hung(&self) {
        self.1.notified().await;
    }

    fn answers(&self, call: &str) -> Result<()> {
        let now = self.0.load(Ordering::SeqCst);
        if now == AWAY || now == NO_JOBS && call == "create_job" {
            return Err(Error::new(Code::MetadataUnavailable, format!("the test took the database away from {call}")));
        }
        Ok(())
    }

    async fn hang(&self) {
        if self.0.load(Ordering::SeqCst) == HANGS {
            self.1.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug)]
pub struct Outage {
    pub inner: Arc<dyn Metastore>,
    pub switch: Switch,
}

#[async_trait]
impl Metastore for Outage {
    fn instance_id(&self) -> &str {
        self.inner.instance_id()
    }
    async fn ping(&self) -> Result<()> {
        self.switch.answers("ping")?;
        self.inner.ping().await
    }
    async fn close(&self) {
        self.inner.close().await
    }
}

#[async_trait]
impl Objects for Outage {
    async fn create_object(&self, new: NewObject) -> Result<CatalogObject> {
        self.switch.hang().await;
        self.switch.answers("create_object")?;
        self.inner.create_object(new).await
    }
    async fn replace_object(&self, new: NewObject) -> Result<CatalogObject> {
        self.switch.answers("replace_object")?;
        self.inner.replace_object(new).await
    }
    async fn object(&self, kind: ObjectKind, name: &str) -> Result<CatalogObject> {
        self.switch.answers("object")?;
        self.inner.object(kind, name).await
    }
    async fn objects(&self, kind: Option<ObjectKind>, page: &Page) -> Result<Vec<CatalogObject>> {
        self.switch.answers("objects")?;
        self.inner.objects(kind, page).await
    }
    async fn drop_object(&self, kind: ObjectKind, name: &str) -> Result<CatalogObject> {
        self.switch.answers("drop_object")?;
        self.inner.drop_object(kind, name).await
    }
    async fn secret_value(&self, name: &str) -> Result<Secret> {
        self.switch.answers("secret_value")?;
        self.inner.secret_value(name).await
    }
}

#[async_trait]
impl Pipelines for Outage {
    async fn create_pipeline(&self, new: NewPipeline) -> Result<Pipeline> {
        self.switch.answers("create_pipeline")?;
        self.inner.create_pipeline(new).await
    }
    async fn pipeline(&self, id: &PipelineId) -> Result<Pipeline> {
        self.switch.answers("pipeline")?;
        self.inner.pipeline(id).await
    }
    async fn pipeline_named(&self, name: &str) -> Result<Pipeline> {
        self.switch.answers("pipeline_named")?;
        self.inner.pipeline_named(name).await
    }
    async fn pipelines(&self, page: &Page) -> Result<Vec<Pipeline>> {
        self.switch.answers("pipelines")?;
        self.inner.pipelines(page).await
    }
    async fn update_pipeline(&self, id: &PipelineId, change: PipelineChange) -> Result<Pipeline> {
        self.switch.answers("update_pipeline")?;
        self.inner.update_pipeline(id, change).await
    }
    async fn drop_pipeline(&self, id: &PipelineId) -> Result<Pipeline> {
        self.switch.answers("drop_pipeline")?;
        self.inner.drop_pipeline(id).await
    }
}

#[async_trait]
impl Jobs for Outage {
    async fn create_job(&self, new: NewJob) -> Result<Job> {
        self.switch.answers("create_job")?;
        self.inner.create_job(new).await
    }
    async fn job(&self, id: &JobId) -> Result<Job> {
        self.switch.answers("job")?;
        self.inner.job(id).await
    }
    async fn jobs(&self, pipeline: Option<&PipelineId>, page: &Page) -> Result<Vec<Job>> {
        self.switch.answers("jobs")?;
        self.inner.jobs(pipeline, page).await
    }
    async fn update_job(&self, id: &JobId, expected: &str, change: JobChange) -> Result<Job> {
        self.switch.answers("update_job")?;
        self.inner.update_job(id, expected, change).await
    }
    async fn add_job_error(&self, new: NewJobError) -> Result<JobErrorRow> {
        self.switch.answers("add_job_error")?;
        self.inner.add_job_error(new).await
    }
    async fn job_errors(&self, job: &JobId, page: &Page) -> Result<Vec<JobErrorRow>> {
        self.switch.answers("job_errors")?;
        self.inner.job_errors(job, page).await
    }
}

#[async_trait]
impl Checkpoints for Outage {
    async fn put_checkpoint(&self, row: &CheckpointRow) -> Result<()> {
        self.switch.answers("put_checkpoint")?;
        self.inner.put_checkpoint(row).await
    }
    async fn checkpoints(&self, pipeline: &PipelineId, page: &Page) -> Result<Vec<CheckpointRow>> {
        self.switch.answers("checkpoints")?;
        self.inner.checkpoints(pipeline, page).await
    }
    async fn latest_checkpoint(&self, pipeline: &PipelineId) -> Result<Option<CheckpointRow>> {
        self.switch.answers("latest_checkpoint")?;
        self.inner.latest_checkpoint(pipeline).await
    }
    async fn forget_checkpoints(&self, pipeline: &PipelineId, before: Epoch) -> Result<u64> {
        self.switch.answers("forget_checkpoints")?;
        self.inner.forget_checkpoints(pipeline, before).await
    }
}

//! Pipelines from definition to running job and back.
//!
//! ```text
//!  create:  plan ─► insert row ─► publish ─► start ─► ok
//!                      ▲             ▲         │ failed before it ran
//!                      └─ drop row ◄─┴─────────┘
//! ```

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use laminar_controller::{FirstStart, GraphFactory, JobHandle, JobSpec, OnFailure, RestartPolicy};
use laminar_core::{Code, Epoch, Error, PipelineId, Result};
use laminar_engine::graph::Graph;
use laminar_engine::job::{Restore, StopMode};
use laminar_metastore::{DesiredState, PipelineChange};
use laminar_planner::catalog::ObjectRef;
use laminar_planner::statement::{Name, ObjectKind, OnExisting};

use crate::catalog::{Catalog, Pipeline};
use crate::define::Definition;
use crate::outcome::Notice;
use crate::{RestartFrom, StopKind, System};

/// How long a statement waits for the first start of a pipeline.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a statement waits for a job to stop with a checkpoint.
const STOP_PATIENCE: Duration = Duration::from_secs(120);
/// How long DROP waits for a last checkpoint before it goes on without.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// A pipeline to be created.
pub(crate) struct Creation {
    pub name: Name,
    /// As it will be stored.
    pub sql: String,
    pub definition: Definition,
    pub on_existing: OnExisting,
}

/// What came of a creation.
pub(crate) struct Created {
    pub pipeline: Arc<Pipeline>,
    pub notices: Vec<Notice>,
    /// It was there before, and `IF NOT EXISTS` kept it.
    pub existed: bool,
}

impl System {
    /// Starts every pipeline that should run. One that cannot be started now is left to the keeper.
    pub(crate) async fn resume(self: &Arc<Self>) {
        for pipeline in self.catalog().pipelines.values() {
            if pipeline.desired != DesiredState::Running {
                continue;
            }
            if let Err(error) = self.launch(pipeline, FirstStart::MayBeRetried, Restore::Latest).await {
                tracing::warn!(pipeline = %pipeline.name, %error, "pipeline was not resumed yet");
            }
        }
    }

    /// Creates the pipeline and starts it; if it cannot start, it is not created. Call with `changing` held.
    pub(crate) async fn create_and_start(self: &Arc<Self>, creation: Creation) -> Result<Created> {
        let catalog = self.catalog();
        let name = &creation.name;
        if let Some(existing) = catalog.pipelines.get(&name.value) {
            return match creation.on_existing {
                OnExisting::Keep => Ok(Created { pipeline: Arc::clone(existing), notices: vec![], existed: true }),
                OnExisting::Replace => self.replace_and_start(existing, creation).await,
                OnExisting::Fail => Err(duplicate(ObjectKind::Pipeline, name)),
            };
        }
        if let Some(kind) = catalog.relation_kind(&name.value) {
            return Err(duplicate(kind, name));
        }
        let id = PipelineId::new(laminar_metastore::new_id(&self.config.clock));
        let planned = self.plan(&catalog, &id, &creation.definition)?;
        let row = self.config.metastore.create_pipeline(laminar_metastore::NewPipeline {
            id: id.clone(),
            name: name.value.clone(),
            sql: creation.sql,
            options: planned.stored.to_json()?,
            parallelism: planned.parallelism,
            checkpoint_interval_micros: planned.checkpoint_interval_micros,
            desired: DesiredState::Running,
            uses: catalog.ids(&planned.stored.depends_on),
        });
        let pipeline = Pipeline::from_row(row.await?)?;
        let mut with = (*catalog).clone();
        with.put_pipeline(pipeline.clone());
        self.publish(with);
        let pipeline = Arc::new(pipeline);
        match self.start_now(&pipeline, Restore::Latest).await {
            Ok(_) => Ok(Created { pipeline, notices: planned.notices, existed: false }),
            Err(error) => {
                self.erase(&pipeline).await;
                Err(error)
            }
        }
    }

    /// The new definition takes over the old one's id and, where it fits, its state. If it cannot start, the old one is put
    /// back and runs again if it ran.
    async fn replace_and_start(self: &Arc<Self>, old: &Arc<Pipeline>, creation: Creation) -> Result<Created> {
        let catalog = self.catalog();
        let planned = self.plan(&catalog, &old.id, &creation.definition)?;
        let users = catalog.users(&ObjectRef::new(ObjectKind::Pipeline, &old.name));
        if !users.is_empty() {
            return Err(in_use(&creation.name, ObjectKind::Pipeline, &users));
        }
        let change = PipelineChange {
            sql: Some(creation.sql),
            options: Some(planned.stored.to_json()?),
            parallelism: Some(planned.parallelism),
            checkpoint_interval_micros: Some(planned.checkpoint_interval_micros),
            desired: Some(DesiredState::Running),
            uses: Some(catalog.ids(&planned.stored.depends_on)),
        };
        let pipeline = self.change_and_restart(old, change, true).await.map_err(|error| match error.code() {
            Code::CheckpointMismatch => {
                error.with_hint("DROP the pipeline and create it again to begin without its old state")
            }
            _ => error,
        })?;
        Ok(Created { pipeline, notices: planned.notices, existed: false })
    }

    /// Stores the change; a job that runs (or must, by `start`) is stopped with a checkpoint before and started after. If
    /// it cannot start with the change, everything is put back. Call with `changing` held.
    ///
    /// Errors: those of stopping and starting; `timeout` and `metadata_unavailable` before anything is changed.
    pub(crate) async fn change_and_restart(
        self: &Arc<Self>,
        old: &Arc<Pipeline>,
        change: PipelineChange,
        start: bool,
    ) -> Result<Arc<Pipeline>> {
        let ran = self.is_active(&old.id);
        if ran {
            self.interrupt(old, StopMode::Checkpoint, STOP_PATIENCE).await?;
        }
        let result = async {
            let changed = self.store_change(old, change).await?;
            if ran || start {
                self.start_now(&changed, Restore::Latest).await?;
            }
            Ok(changed)
        };
        match result.await {
            Ok(changed) => Ok(changed),
            Err(error) => {
                let catalog = self.catalog();
                let back = PipelineChange {
                    sql: Some(old.sql.clone()),
                    options: Some(old.planned.to_json()?),
                    parallelism: Some(old.parallelism),
                    checkpoint_interval_micros: Some(old.checkpoint_interval_micros),
                    desired: Some(old.desired),
                    uses: Some(catalog.ids(&old.planned.depends_on)),
                };
                let undo = async {
                    let restored = self.store_change(old, back).await?;
                    if ran {
                        self.launch(&restored, FirstStart::MayBeRetried, Restore::Latest).await?;
                    }
                    Ok::<_, Error>(())
                };
                if let Err(failure) = undo.await {
                    tracing::error!(pipeline = %old.name, error = %failure, "a failed change of the pipeline was not undone");
                }
                Err(error)
            }
        }
    }

    /// Stores the change and publishes it.
    async fn store_change(&self, pipeline: &Pipeline, change: PipelineChange) -> Result<Arc<Pipeline>> {
        let row = self.config.metastore.update_pipeline(&pipeline.id, change).await?;
        let changed = Pipeline::from_row(row)?;
        let mut catalog = (*self.catalog()).clone();
        catalog.put_pipeline(changed.clone());
        self.publish(catalog);
        Ok(Arc::new(changed))
    }

    async fn set_desired(&self, pipeline: &Arc<Pipeline>, desired: DesiredState) -> Result<Arc<Pipeline>> {
        if pipeline.desired == desired {
            return Ok(Arc::clone(pipeline));
        }
        self.store_change(pipeline, PipelineChange { desired: Some(desired), ..PipelineChange::default() }).await
    }

    /// Starts it if it does not run. Call with `changing` held.
    pub(crate) async fn start_stopped(
        self: &Arc<Self>,
        pipeline: &Arc<Pipeline>,
        from: RestartFrom,
    ) -> Result<JobHandle> {
        if let Some(job) = self.controller.latest(&pipeline.id).filter(|j| !j.status().phase.is_final()) {
            return Ok(job);
        }
        let restore = match from {
            RestartFrom::Latest => Restore::Latest,
            RestartFrom::Checkpoint(epoch) => Restore::Epoch(Epoch(epoch)),
            RestartFrom::Nothing => Restore::Nothing,
        };
        let wanted = self.set_desired(pipeline, DesiredState::Running).await?;
        let started = match self.start_now(&wanted, restore).await {
            Ok(job) if restore != Restore::Latest => self.pinned(&wanted, job).await,
            started => started,
        };
        if started.is_err() && pipeline.desired != DesiredState::Running {
            self.set_desired(&wanted, pipeline.desired).await?;
        }
        started
    }

    /// Stops it if it runs, and keeps it stopped. Returns why there is no last checkpoint, if it failed. Call with
    /// `changing` held.
    pub(crate) async fn stop_running(&self, pipeline: &Arc<Pipeline>, how: StopKind) -> Result<Option<Error>> {
        self.set_desired(pipeline, DesiredState::Stopped).await?;
        let ended = self.controller.stop(&pipeline.id, stop_mode(how), STOP_PATIENCE).await?;
        self.controller.flush().await;
        Ok(ended.and_then(|status| status.failure))
    }

    /// Stops it if it runs and starts it again. If it ran and cannot start from there, it goes on at its latest checkpoint.
    /// Call with `changing` held.
    ///
    /// Errors: those of stopping and starting; `not_found` if the checkpoint is not kept.
    pub(crate) async fn restart(self: &Arc<Self>, pipeline: &Arc<Pipeline>, from: RestartFrom) -> Result<JobHandle> {
        if let RestartFrom::Checkpoint(epoch) = from {
            self.require_checkpoint(pipeline, Epoch(epoch)).await?;
        }
        let ran = self.is_active(&pipeline.id);
        if ran {
            let mode = if from == RestartFrom::Latest { StopMode::Checkpoint } else { StopMode::Immediate };
            self.interrupt(pipeline, mode, STOP_PATIENCE).await?;
        }
        let started = self.start_stopped(pipeline, from).await;
        let is_down = ran && pipeline.desired == DesiredState::Running && !self.is_active(&pipeline.id);
        if started.is_err()
            && is_down
            && let Err(error) = self.launch(pipeline, FirstStart::MayBeRetried, Restore::Latest).await
        {
            tracing::error!(pipeline = %pipeline.name, %error, "a pipeline whose restart failed does not run");
        }
        started
    }

    /// Stops the job of a pipeline that is to be started again or dropped. Not without the database: it could do neither.
    /// If the rest fails, the keeper brings the job back.
    ///
    /// Errors: `metadata_unavailable`; `timeout`.
    async fn interrupt(&self, pipeline: &Pipeline, mode: StopMode, patience: Duration) -> Result<()> {
        self.config.metastore.ping().await?;
        match self.controller.stop(&pipeline.id, mode, patience).await {
            Err(error) if error.code() == Code::Timeout && pipeline.desired == DesiredState::Running => {
                let what = "nothing else has changed: once the job has stopped, it starts again as it was";
                Err(error.with_detail(what).with_hint("STOP PIPELINE without a checkpoint does not wait for one"))
            }
            stopped => stopped.map(drop),
        }
    }

    /// Errors: `not_found`, naming those that are kept; `store_unavailable`.
    async fn require_checkpoint(&self, pipeline: &Pipeline, epoch: Epoch) -> Result<()> {
        let kept = self.store.pipeline(&pipeline.id).list().await?;
        if kept.iter().any(|manifest| manifest.epoch == epoch) {
            return Ok(());
        }
        let kept: Vec<_> = kept.iter().map(|manifest| manifest.epoch.to_string()).collect();
        Err(Error::new(Code::NotFound, format!("checkpoint {epoch} is not kept"))
            .with_hint(format!("checkpoints that are: {}", kept.join(", "))))
    }

    /// Stops and drops it with all that is kept of it. Call with `changing` held. Errors: `in_use`.
    pub(crate) async fn drop_pipeline(&self, pipeline: &Arc<Pipeline>) -> Result<()> {
        let catalog = self.catalog();
        let users = catalog.users(&ObjectRef::new(ObjectKind::Pipeline, &pipeline.name));
        if !users.is_empty() {
            return Err(in_use(&Name::new(&pipeline.name), ObjectKind::Pipeline, &users));
        }
        match self.interrupt(pipeline, StopMode::Checkpoint, DROP_PATIENCE).await {
            Err(error) if error.code() == Code::MetadataUnavailable => return Err(error),
            Err(_) => self.interrupt(pipeline, StopMode::Immediate, DROP_PATIENCE).await?,
            Ok(()) => {}
        }
        self.controller.flush().await;
        self.config.metastore.drop_pipeline(&pipeline.id).await?;
        self.forget(&catalog, pipeline).await;
        Ok(())
    }

    /// Undoes a creation whose start failed.
    async fn erase(&self, pipeline: &Arc<Pipeline>) {
        self.controller.flush().await;
        if let Err(error) = self.config.metastore.drop_pipeline(&pipeline.id).await {
            tracing::error!(pipeline = %pipeline.name, %error, "a pipeline that could not start was not removed");
            return;
        }
        self.forget(&self.catalog(), pipeline).await;
    }

    async fn forget(&self, catalog: &Catalog, pipeline: &Pipeline) {
        let mut without = catalog.clone();
        without.remove(&ObjectRef::new(ObjectKind::Pipeline, &pipeline.name));
        self.publish(without);
        self.controller.forget(&pipeline.id);
        self.results().remove(&pipeline.id);
        self.groups().remove(&pipeline.id);
        self.connected().remove(&pipeline.id);
        if let Err(error) = self.store.pipeline(&pipeline.id).delete_all().await {
            tracing::warn!(pipeline = %pipeline.name, %error, "checkpoints of a dropped pipeline were not deleted");
        }
    }

    /// Starts a job and waits until it runs. An error leaves no job behind.
    async fn start_now(self: &Arc<Self>, pipeline: &Arc<Pipeline>, restore: Restore) -> Result<JobHandle> {
        let job = self.launch(pipeline, FirstStart::MustSucceed, restore).await?;
        match tokio::time::timeout(START_PATIENCE, job.wait_started()).await {
            Ok(Ok(_)) => Ok(job),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.controller.stop(&pipeline.id, StopMode::Immediate, DROP_PATIENCE).await?;
                Err(Error::new(
                    Code::Timeout,
                    format!("pipeline {} has not started within {START_PATIENCE:?}", pipeline.name),
                ))
            }
        }
    }

    /// Waits for the job's first checkpoint. Only it makes lasting that the job began elsewhere than at the latest one: if
    /// the server died before, it would go on from the old state.
    async fn pinned(&self, pipeline: &Pipeline, job: JobHandle) -> Result<JobHandle> {
        match tokio::time::timeout(START_PATIENCE, job.wait_checkpointed()).await {
            Ok(Ok(())) => Ok(job),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(
                Code::Timeout,
                format!("pipeline {} runs, but has made no checkpoint within {START_PATIENCE:?}", pipeline.name),
            )
            .with_hint("until it has one, a restart of the server begins with the old state: see its errors")),
        }
    }

    /// Starts a job and returns at once. Call with `changing` held. Errors: `metadata_unavailable`; `cancelled` if the
    /// system is shutting down.
    pub(crate) async fn launch(
        self: &Arc<Self>,
        pipeline: &Arc<Pipeline>,
        first_start: FirstStart,
        restore: Restore,
    ) -> Result<JobHandle> {
        if self.is_closing() {
            return Err(Error::new(Code::Cancelled, "the system is shutting down"));
        }
        let options = &pipeline.planned.options;
        let mut policy = RestartPolicy { first_start, ..RestartPolicy::default() };
        if options.on_failure == Some(laminar_planner::settings::OnFailure::Stop) {
            policy.on_failure = OnFailure::Fail;
        }
        policy.max_restarts = options.max_restarts.unwrap_or(policy.max_restarts);
        let spec = JobSpec {
            pipeline: pipeline.id.clone(),
            parallelism: pipeline.parallelism as usize,
            checkpoint_interval: Duration::from_micros(pipeline.checkpoint_interval_micros),
            checkpoint_timeout: options.checkpoint_timeout.map_or(self.config.defaults.checkpoint_timeout, |d| d.0),
            tolerable_failed_checkpoints: options.tolerable_failed_checkpoints(),
            policy,
            restore,
            graphs: Arc::new(Replan { system: Arc::downgrade(self), pipeline: Arc::clone(pipeline) }),
        };
        self.controller.start(spec).await
    }

    /// Errors: `unknown_pipeline`.
    pub(crate) fn named_pipeline(&self, name: &Name) -> Result<Arc<Pipeline>> {
        let catalog = self.catalog();
        let found = catalog.pipelines.get(&name.value).cloned();
        found.ok_or_else(|| catalog.unknown(ObjectKind::Pipeline, name))
    }

    pub(crate) fn is_active(&self, pipeline: &PipelineId) -> bool {
        self.controller.latest(pipeline).is_some_and(|j| !j.status().phase.is_final())
    }
}

/// Plans a pipeline's graph from its stored text, each time a job launches.
struct Replan {
    system: Weak<System>,
    pipeline: Arc<Pipeline>,
}

#[async_trait]
impl GraphFactory for Replan {
    async fn graph(&self) -> Result<Graph> {
        let Some(system) = self.system.upgrade() else {
            return Err(Error::new(Code::Cancelled, "the system is shutting down"));
        };
        system.graph_of(&self.pipeline)
    }
}

pub(crate) fn stop_mode(how: StopKind) -> StopMode {
    match how {
        StopKind::None | StopKind::Checkpoint | StopKind::Graceful => StopMode::Checkpoint,
        StopKind::Immediate | StopKind::Force => StopMode::Immediate,
    }
}

pub(crate) fn duplicate(kind: ObjectKind, name: &Name) -> Error {
    Error::new(Code::DuplicateName, format!("{} {} exists", kind.as_str(), name.value))
        .with_hint("choose another name, or use IF NOT EXISTS or OR REPLACE")
        .at(name.location)
}

pub(crate) fn in_use(name: &Name, kind: ObjectKind, users: &[ObjectRef]) -> Error {
    let users: Vec<_> = users.iter().map(ObjectRef::to_string).collect();
    Error::new(Code::InUse, format!("{} {} is used by {}", kind.as_str(), name.value, users.join(", ")))
        .with_hint("drop what uses it first")
        .at(name.location)
}

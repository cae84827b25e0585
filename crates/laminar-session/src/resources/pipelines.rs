//! Pipelines as resources. `id` is an id or a name everywhere.

use std::sync::Arc;

use laminar_controller::Phase;
use laminar_core::{Code, Error, PipelineId, Result};
use laminar_metastore::{DesiredState, Page, PipelineChange};
use laminar_planner::statement::{Name, OnExisting, PipelineStep};

use crate::catalog::Pipeline;
use crate::define::define;
use crate::info::Diagnostic;
use crate::lifecycle::Creation;
use crate::query::{self, QueryCatalog};
use crate::resources::{hides, password_options};
use crate::settings::Settings;
use crate::{
    JobInfo, NewPipeline, Outcome, PipelineInfo, PipelinePatch, RestartFrom, StopKind, System, ValidateResult,
};

/// Shortest checkpoint interval.
const MIN_INTERVAL_MICROS: u64 = 10_000;
/// Most parallel instances of a pipeline.
const MAX_PARALLELISM: usize = 1_024;

impl System {
    /// Oldest first.
    pub async fn pipelines(&self) -> Result<Vec<PipelineInfo>> {
        let mut pipelines: Vec<_> = self.catalog().pipelines.values().cloned().collect();
        pipelines.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        let mut infos = Vec::with_capacity(pipelines.len());
        for pipeline in pipelines {
            infos.push(self.pipeline_info(&pipeline).await?);
        }
        Ok(infos)
    }

    /// Errors: `unknown_pipeline`.
    pub async fn pipeline(&self, id: &str) -> Result<PipelineInfo> {
        let pipeline = Arc::clone(self.catalog().pipeline(id)?);
        self.pipeline_info(&pipeline).await
    }

    /// Creates and starts it; if it cannot start, it is not created.
    pub async fn create_pipeline(self: &Arc<Self>, new: NewPipeline) -> Result<PipelineInfo> {
        if !new.udfs.is_empty() {
            return Err(Error::new(Code::NotSupported, "user-defined functions are not supported in this version")
                .with_field("udfs"));
        }
        check_name(&new.name)?;
        check_numbers(new.parallelism, new.checkpoint_interval_micros)?;
        let _guard = self.changing.lock().await;
        let catalog = self.catalog();
        let mut definition = define(&self.planner, &catalog.snapshot, &new.query, &self.values(&catalog))?;
        definition.name.get_or_insert_with(|| new.name.clone());
        definition.parallelism = new.parallelism.map(|n| n as u32);
        definition.checkpoint_interval_micros = new.checkpoint_interval_micros;
        let creation =
            Creation { name: Name::new(new.name), sql: new.query, definition, on_existing: OnExisting::Fail };
        let created = self.create_and_start(creation).await?;
        self.pipeline_info(&created.pipeline).await
    }

    /// Errors: `unknown_pipeline`, `invalid_request`, and those of stopping and starting.
    pub async fn patch_pipeline(self: &Arc<Self>, id: &str, patch: PipelinePatch) -> Result<PipelineInfo> {
        check_numbers(patch.parallelism, patch.checkpoint_interval_micros)?;
        let _guard = self.changing.lock().await;
        let mut pipeline = Arc::clone(self.catalog().pipeline(id)?);
        let parallelism = patch.parallelism.map(|n| n as u32).filter(|n| *n != pipeline.parallelism);
        let interval = patch.checkpoint_interval_micros.filter(|n| *n != pipeline.checkpoint_interval_micros);
        // What stops anyway need not be restarted with the new numbers.
        let stops = patch.stop.filter(|how| *how != StopKind::None);
        if let Some(how) = stops {
            self.stop_running(&pipeline, how).await?;
            pipeline = Arc::clone(self.catalog().pipeline(id)?);
        }
        if parallelism.is_some() || interval.is_some() {
            let change =
                PipelineChange { parallelism, checkpoint_interval_micros: interval, ..PipelineChange::default() };
            pipeline = self.change_and_restart(&pipeline, change, false).await?;
        }
        if patch.stop == Some(StopKind::None) {
            self.start_stopped(&pipeline, RestartFrom::Latest).await?;
        }
        let pipeline = Arc::clone(self.catalog().pipeline(id)?);
        self.pipeline_info(&pipeline).await
    }

    /// Does nothing if it runs. Returns the job. Errors: `unknown_pipeline`, and why it cannot start.
    pub async fn start_pipeline(self: &Arc<Self>, id: &str) -> Result<JobInfo> {
        let _guard = self.changing.lock().await;
        let pipeline = Arc::clone(self.catalog().pipeline(id)?);
        let job = self.start_stopped(&pipeline, RestartFrom::Latest).await?;
        self.job(job.status().id.as_str()).await
    }

    /// Returns when it has stopped. Does nothing if it does not run. Errors: `unknown_pipeline`, `timeout`.
    pub async fn stop_pipeline(&self, id: &str, how: StopKind) -> Result<PipelineInfo> {
        let _guard = self.changing.lock().await;
        let pipeline = Arc::clone(self.catalog().pipeline(id)?);
        self.stop_running(&pipeline, how).await?;
        self.pipeline(id).await
    }

    /// Stops it if it runs (with a checkpoint unless `from` is another place), starts it, returns the new job.
    pub async fn restart_pipeline(self: &Arc<Self>, id: &str, from: RestartFrom) -> Result<JobInfo> {
        let _guard = self.changing.lock().await;
        let pipeline = Arc::clone(self.catalog().pipeline(id)?);
        let job = self.restart(&pipeline, from).await?;
        self.job(job.status().id.as_str()).await
    }

    /// Stops it, then drops it with its jobs and checkpoints. Errors: `unknown_pipeline`, `in_use`.
    pub async fn delete_pipeline(&self, id: &str) -> Result<()> {
        let _guard = self.changing.lock().await;
        let pipeline = Arc::clone(self.catalog().pipeline(id)?);
        self.drop_pipeline(&pipeline).await
    }

    /// Plans the query (as [`NewPipeline::query`]) without creating anything. What is wrong is in the answer.
    pub async fn validate(&self, query: &str) -> Result<ValidateResult> {
        let catalog = self.catalog();
        let id = PipelineId::from("validate");
        let planned = define(&self.planner, &catalog.snapshot, query, &self.values(&catalog))
            .and_then(|definition| self.plan(&catalog, &id, &definition));
        Ok(match planned {
            Ok(planned) => ValidateResult { graph: Some(planned.stored.graph), ..ValidateResult::default() },
            Err(error) => {
                let place =
                    error.location().map(|l| format!(" at line {}, column {}", l.line, l.column)).unwrap_or_default();
                ValidateResult {
                    graph: None,
                    errors: vec![format!("{}: {error}{place}", error.code())],
                    diagnostics: vec![Diagnostic::from(&error)],
                }
            }
        })
    }

    /// The first rows that a pipeline of this query would yield (of the first query, if it has several), read within
    /// bounds; nothing is written anywhere.
    pub async fn preview(self: &Arc<Self>, query: &str) -> Result<Outcome> {
        let catalog = self.catalog();
        let definition = define(&self.planner, &catalog.snapshot, query, &self.values(&catalog))?;
        self.plan(&catalog, &PipelineId::from("preview"), &definition)?;
        let first = definition.body.steps.into_iter().next();
        let query = match first.ok_or_else(|| Error::new(Code::InvalidRequest, "the text has no query"))? {
            PipelineStep::Insert(insert) => insert.query,
            PipelineStep::Select(query) => query,
        };
        let catalog = QueryCatalog { catalog, snapshot: definition.snapshot };
        query::select(self, &catalog, &Settings::new(&self.config.defaults), &query).await
    }

    /// The pipeline's text, with what its own tables hold of credentials masked.
    pub(crate) fn shown_sql(&self, pipeline: &Pipeline) -> String {
        let connectors = self.config.registry.iter();
        let names: Vec<_> = connectors.flat_map(|c| password_options([c.source_schema(), c.sink_schema()])).collect();
        let masked = laminar_planner::mask(&pipeline.sql, |key, value| hides(key, value, &names));
        masked.unwrap_or_else(|error| {
            tracing::error!(pipeline = %pipeline.name, %error, "the text of the pipeline cannot be shown");
            "****".to_string()
        })
    }

    async fn pipeline_info(&self, pipeline: &Pipeline) -> Result<PipelineInfo> {
        let job = match self.controller.latest(&pipeline.id) {
            Some(handle) => Some(self.job(handle.status().id.as_str()).await?),
            None => self.earlier_job(&pipeline.id).await?,
        };
        let phase = job.as_ref().and_then(|j| Phase::parse(&j.state)).unwrap_or(Phase::Created);
        let wanted = pipeline.desired == DesiredState::Running;
        let (action, in_progress) = match phase {
            Phase::Running | Phase::Recovering => (Some("stop"), phase == Phase::Recovering),
            Phase::Scheduling | Phase::Stopping => (None, true),
            Phase::Created | Phase::Stopped | Phase::Failed | Phase::Finished => (Some("start"), false),
        };
        Ok(PipelineInfo {
            id: pipeline.id.to_string(),
            name: pipeline.name.clone(),
            query: self.shown_sql(pipeline),
            parallelism: pipeline.parallelism as usize,
            checkpoint_interval_micros: pipeline.checkpoint_interval_micros,
            state: phase.as_str().to_lowercase(),
            stop: if wanted { "none" } else { "checkpoint" }.to_string(),
            action: action.map(str::to_string),
            action_text: phase.as_str().to_string(),
            action_in_progress: in_progress,
            created_at: pipeline.created_at,
            updated_at: pipeline.updated_at,
            graph: Some(pipeline.planned.graph_at(pipeline.parallelism as usize)),
            udfs: Vec::new(),
            preview: false,
            sources: pipeline.planned.sources.clone(),
            sinks: pipeline.planned.sinks.clone(),
            job_id: job.as_ref().map(|j| j.id.clone()),
            failure_message: job.as_ref().and_then(|j| j.failure_message.clone()),
            failure_hint: job.and_then(|j| j.failure_hint),
        })
    }

    /// The latest job, of a process before this one; `None` also while the database is down.
    async fn earlier_job(&self, id: &PipelineId) -> Result<Option<JobInfo>> {
        match self.config.metastore.jobs(Some(id), &Page::first(1)).await {
            Ok(jobs) => match jobs.first() {
                Some(job) => self.job(job.id.as_str()).await.map(Some),
                None => Ok(None),
            },
            Err(error) if error.code() == Code::MetadataUnavailable => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A name from REST: not empty, no control characters, not longer than a label.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = !name.trim().is_empty() && name.len() <= 255 && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(Error::new(Code::InvalidName, "a name has 1 to 255 bytes and no control characters").with_field("name"))
}

fn check_numbers(parallelism: Option<usize>, interval_micros: Option<u64>) -> Result<()> {
    if parallelism.is_some_and(|n| n == 0 || n > MAX_PARALLELISM) {
        return Err(Error::new(Code::InvalidRequest, format!("parallelism must be from 1 to {MAX_PARALLELISM}"))
            .with_field("parallelism"));
    }
    if interval_micros.is_some_and(|n| n < MIN_INTERVAL_MICROS) {
        return Err(Error::new(
            Code::InvalidRequest,
            format!("checkpoint_interval_micros must be at least {MIN_INTERVAL_MICROS}"),
        )
        .with_field("checkpoint_interval_micros"));
    }
    Ok(())
}

//! Jobs, their errors, checkpoints and numbers. Jobs of this process are in memory, earlier ones in the metadata database;
//! while the database is down, only the former are shown.

use std::collections::HashSet;

use laminar_controller::{JobHandle, JobStatus, Phase};
use laminar_core::{Code, Error, JobId, PipelineId, Result};
use laminar_engine::LedgerEntry;
use laminar_engine::metrics::{JobSnapshot, TaskSnapshot};
use laminar_metastore::{CheckpointRow, DesiredState, JobErrorRow, Page};
use serde_json::Value;

use super::kind_text;
use crate::catalog::Catalog;
use crate::{
    CheckpointInfo, JobErrorInfo, JobInfo, JobMetricsInfo, JobTotals, OperatorMetricsInfo, RestartFrom, StopKind,
    System,
};

impl System {
    /// Newest first, at most `limit`; of one pipeline or of all. Errors: `unknown_pipeline`.
    pub async fn jobs(&self, pipeline: Option<&str>, limit: usize) -> Result<Vec<JobInfo>> {
        let catalog = self.catalog();
        let pipeline = pipeline.map(|p| catalog.pipeline(p).map(|p| p.id.clone())).transpose()?;
        let handles = self.controller.latest_jobs();
        let wanted = |h: &&JobHandle| pipeline.as_ref().is_none_or(|p| h.status().pipeline == *p);
        let mut jobs: Vec<JobInfo> = handles.iter().filter(wanted).map(|h| live(&catalog, h)).collect();
        let known: HashSet<String> = jobs.iter().map(|j| j.id.clone()).collect();
        let page = page(limit);
        let stored = available(self.config.metastore.jobs(pipeline.as_ref(), &page).await)?;
        jobs.extend(stored.into_iter().filter(|j| !known.contains(j.id.as_str())).map(|j| earlier(&catalog, j)));
        jobs.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        jobs.truncate(limit);
        Ok(jobs)
    }

    /// Errors: `unknown_job`.
    pub async fn job(&self, id: &str) -> Result<JobInfo> {
        let catalog = self.catalog();
        match self.controller.job(&JobId::from(id)) {
            Some(handle) => Ok(live(&catalog, &handle)),
            None => Ok(earlier(&catalog, self.config.metastore.job(&JobId::from(id)).await?)),
        }
    }

    /// Newest first. Errors: `unknown_job`.
    pub async fn job_errors(&self, id: &str, limit: usize) -> Result<Vec<JobErrorInfo>> {
        let job = JobId::from(id);
        let rows = match self.controller.job(&job) {
            Some(handle) => handle.errors(),
            None => {
                self.config.metastore.job(&job).await?;
                self.config.metastore.job_errors(&job, &page(limit)).await?
            }
        };
        Ok(rows.into_iter().take(limit).map(error_info).collect())
    }

    /// Newest first. Errors: `unknown_job`.
    pub async fn job_checkpoints(&self, id: &str, limit: usize) -> Result<Vec<CheckpointInfo>> {
        let pipeline = self.job(id).await?.pipeline_id;
        let mut checkpoints = self.pipeline_checkpoints(&pipeline, usize::MAX).await?;
        checkpoints.retain(|c| c.job_id == id);
        checkpoints.truncate(limit);
        Ok(checkpoints)
    }

    /// Checkpoints of all jobs of the pipeline, newest first. Errors: `unknown_pipeline`.
    pub async fn pipeline_checkpoints(&self, pipeline: &str, limit: usize) -> Result<Vec<CheckpointInfo>> {
        let id = self.catalog().pipeline(pipeline)?.id.clone();
        let mut rows = self.controller.latest(&id).map(|h| h.checkpoints()).unwrap_or_default();
        let known: HashSet<u64> = rows.iter().map(|r| r.epoch.0).collect();
        let stored = available(self.config.metastore.checkpoints(&id, &page(limit)).await)?;
        rows.extend(stored.into_iter().filter(|r| !known.contains(&r.epoch.0)));
        rows.sort_by_key(|r| std::cmp::Reverse(r.epoch));
        rows.truncate(limit);
        Ok(rows.into_iter().map(|row| self.checkpoint_info(row)).collect())
    }

    /// Errors: `unknown_job`. All zero for a job of an earlier process: counters live in memory.
    pub async fn job_metrics(&self, id: &str) -> Result<JobMetricsInfo> {
        let Some(handle) = self.controller.job(&JobId::from(id)) else {
            self.job(id).await?;
            return Ok(JobMetricsInfo::default());
        };
        let Some(snapshot) = handle.metrics().map(|m| m.snapshot()) else { return Ok(JobMetricsInfo::default()) };
        let status = handle.status();
        let until = status.finished_at.unwrap_or_else(|| self.config.clock.now_millis());
        let seconds = status.started_at.map_or(0.0, |from| (until - from) as f64 / 1_000.0);
        let totals = totals(&snapshot);
        let watermark = snapshot.operators.iter().filter_map(|o| o.watermark_micros).min();
        let operator = |o: laminar_engine::metrics::OperatorSnapshot| OperatorMetricsInfo {
            operator_id: o.operator.to_string(),
            operator_name: o.name,
            kind: kind_text(o.kind).to_string(),
            parallelism: o.parallelism,
            records_in: o.rows_in,
            records_out: o.rows_out,
            bytes_in: o.bytes_in,
            batches: o.batches_in,
            errors: o.bad_records,
            watermark: o.watermark_micros,
        };
        Ok(JobMetricsInfo {
            totals,
            throughput: if seconds > 0.0 { totals.records_in as f64 / seconds } else { 0.0 },
            watermark,
            operators: snapshot.operators.into_iter().map(operator).collect(),
        })
    }

    /// Returns when it has stopped; its pipeline stays stopped. Errors: `unknown_job`; `wrong_state` if it has ended.
    pub async fn stop_job(&self, id: &str, how: StopKind) -> Result<JobInfo> {
        let job = self.job(id).await?;
        let ended = Phase::parse(&job.state).is_none_or(Phase::is_final);
        if ended {
            return Err(Error::new(Code::WrongState, format!("job {id} is {}", job.state.to_lowercase())));
        }
        self.stop_pipeline(&job.pipeline_id, how).await?;
        self.job(id).await
    }

    /// Restarts the job's pipeline, at another parallelism if one is given; returns the new job.
    pub async fn restart_job(
        self: &std::sync::Arc<Self>,
        id: &str,
        from: RestartFrom,
        parallelism: Option<usize>,
    ) -> Result<JobInfo> {
        let pipeline = self.job(id).await?.pipeline_id;
        if let Some(parallelism) = parallelism {
            let patch = crate::PipelinePatch { parallelism: Some(parallelism), ..crate::PipelinePatch::default() };
            self.patch_pipeline(&pipeline, patch).await?;
        }
        self.restart_pipeline(&pipeline, from).await
    }

    /// Pipeline name, job id and numbers of each job of this process.
    pub(crate) fn job_snapshots(&self) -> Vec<(String, String, JobSnapshot)> {
        let catalog = self.catalog();
        let numbers = |h: JobHandle| {
            let status = h.status();
            Some((pipeline_name(&catalog, &status.pipeline), status.id.to_string(), h.metrics()?.snapshot()))
        };
        self.controller.latest_jobs().into_iter().filter_map(numbers).collect()
    }

    /// The same of each instance.
    pub(crate) fn job_tasks(&self) -> Vec<(String, String, Vec<TaskSnapshot>)> {
        let catalog = self.catalog();
        let numbers = |h: JobHandle| {
            let status = h.status();
            Some((pipeline_name(&catalog, &status.pipeline), status.id.to_string(), h.metrics()?.tasks()))
        };
        self.controller.latest_jobs().into_iter().filter_map(numbers).collect()
    }

    /// The same of the latest checkpoints' ledgers.
    pub(crate) fn job_ledgers(&self) -> Vec<(String, String, Vec<LedgerEntry>)> {
        let catalog = self.catalog();
        let ledgers = |h: JobHandle| {
            let status = h.status();
            Some((pipeline_name(&catalog, &status.pipeline), status.id.to_string(), h.metrics()?.ledgers()))
        };
        self.controller.latest_jobs().into_iter().filter_map(ledgers).collect()
    }

    /// µs since 1970 UTC.
    pub(crate) fn now_micros(&self) -> i64 {
        self.config.clock.now_micros()
    }

    fn checkpoint_info(&self, row: CheckpointRow) -> CheckpointInfo {
        let url = &self.config.state_url;
        let backend = match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("s3") => "s3",
            Some("gs") => "gcs",
            Some("az" | "abfs" | "abfss") => "azure",
            _ => "filesystem",
        };
        let state = match row.state.as_str() {
            "committed" => "completed",
            "running" => "in_progress",
            other => other,
        };
        CheckpointInfo {
            id: format!("{}-{}", row.job_id, row.epoch),
            job_id: row.job_id.to_string(),
            epoch: row.epoch.0,
            state: state.to_string(),
            start_time: row.started_at,
            finish_time: row.finished_at,
            size_bytes: row.finished_at.map(|_| row.bytes),
            backend: backend.to_string(),
            location: format!("{}/{}", url.trim_end_matches('/'), row.pipeline_id),
            pipeline_id: row.pipeline_id.to_string(),
            detail: row.detail,
        }
    }
}

/// What the database said; nothing if it is down.
fn available<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(error) if error.code() == Code::MetadataUnavailable => Ok(T::default()),
        result => result,
    }
}

fn page(limit: usize) -> Page {
    Page::first(u32::try_from(limit).unwrap_or(i32::MAX as u32).min(i32::MAX as u32))
}

pub(crate) fn totals(snapshot: &JobSnapshot) -> JobTotals {
    JobTotals {
        records_in: snapshot.rows_read(),
        records_out: snapshot.rows_written(),
        bytes_in: snapshot.bytes_read(),
        errors: snapshot.bad_records,
        warnings: snapshot.checkpoints_failed,
    }
}

fn live(catalog: &Catalog, handle: &JobHandle) -> JobInfo {
    let JobStatus {
        id, pipeline, run, phase, failure, restarts, parallelism, created_at, started_at, finished_at, ..
    } = handle.status();
    JobInfo {
        id: id.to_string(),
        pipeline_name: pipeline_name(catalog, &pipeline),
        running_desired: running_desired(catalog, &pipeline),
        pipeline_id: pipeline.to_string(),
        state: phase.as_str().to_string(),
        run_id: run,
        created_at,
        start_time: started_at,
        finish_time: finished_at,
        tasks: Some(parallelism),
        restarts,
        failure_code: failure.as_ref().map(|e| e.code().as_str().to_string()),
        failure_message: failure.as_ref().map(ToString::to_string),
        failure_hint: failure.as_ref().and_then(|e| e.hint()).map(str::to_string),
        metrics: handle.metrics().map(|m| totals(&m.snapshot())).unwrap_or_default(),
    }
}

fn earlier(catalog: &Catalog, job: laminar_metastore::Job) -> JobInfo {
    let of_failure =
        |key: &str| job.failure.as_ref().and_then(|f| f.get(key)).and_then(Value::as_str).map(str::to_string);
    JobInfo {
        id: job.id.to_string(),
        pipeline_name: pipeline_name(catalog, &job.pipeline_id),
        running_desired: running_desired(catalog, &job.pipeline_id),
        pipeline_id: job.pipeline_id.to_string(),
        failure_code: of_failure("code"),
        failure_message: match (of_failure("message"), of_failure("detail")) {
            (Some(message), Some(detail)) => Some(format!("{message}: {detail}")),
            (message, _) => message,
        },
        failure_hint: of_failure("hint"),
        state: job.state,
        run_id: job.run,
        created_at: job.created_at,
        start_time: job.started_at,
        finish_time: job.finished_at,
        tasks: None,
        restarts: u64::from(job.restarts),
        metrics: JobTotals::default(),
    }
}

fn pipeline_name(catalog: &Catalog, id: &PipelineId) -> String {
    catalog.pipelines.values().find(|p| p.id == *id).map(|p| p.name.clone()).unwrap_or_default()
}

fn running_desired(catalog: &Catalog, id: &PipelineId) -> bool {
    catalog.pipelines.values().any(|p| p.id == *id && p.desired == DesiredState::Running)
}

fn error_info(row: JobErrorRow) -> JobErrorInfo {
    let record = row.detail.get("position").filter(|position| !position.is_null()).map(|_| row.detail.clone());
    JobErrorInfo {
        id: row.id,
        job_id: row.job_id.to_string(),
        timestamp: row.at,
        level: if row.level == "error" { "error" } else { "warning" }.to_string(),
        operator_id: row.operator,
        message: row.message,
        details: row.detail,
        record,
    }
}

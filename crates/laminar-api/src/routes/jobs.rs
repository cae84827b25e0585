//! `/jobs`: runs of pipelines, with what they count, what they saved and what went wrong.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use laminar_core::{Code, Error};
use laminar_session::{
    CheckpointInfo, JobErrorInfo, JobInfo, JobMetricsInfo, OperatorMetricsInfo, RestartFrom, StopKind,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Id, Ids, OptionalBody, Query};
use crate::page::{List, PageQuery};
use crate::routes::{SCAN_LIMIT, uninterrupted};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// At most this many items: 1 to 100, 20 if absent.
    pub limit: Option<usize>,
    /// Id of the last item of the part before.
    #[serde(alias = "startingAfter")]
    pub starting_after: Option<String>,
    /// Items to skip, instead of `starting_after`.
    pub offset: Option<usize>,
    /// Only jobs of this pipeline: its id or name.
    #[serde(alias = "pipelineId")]
    pub pipeline_id: Option<String>,
    /// Only jobs in this state, such as `Running`.
    pub state: Option<String>,
    /// Only jobs that should run, or only those that should not.
    pub running: Option<bool>,
    /// `created_at:desc` (newest first, as if absent) or `created_at:asc`.
    pub sort: Option<Sort>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
pub enum Sort {
    #[serde(rename = "created_at:desc")]
    NewestFirst,
    #[serde(rename = "created_at:asc")]
    OldestFirst,
}

/// All jobs, newest first.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(Filter), responses((status = 200, body = List<JobInfo>)))]
pub async fn list(State(app): State<App>, Query(filter): Query<Filter>) -> ApiResult<Json<List<JobInfo>>> {
    let mut jobs = app.system.jobs(filter.pipeline_id.as_deref(), SCAN_LIMIT).await?;
    jobs.retain(|job| {
        filter.state.as_ref().is_none_or(|state| state.eq_ignore_ascii_case(&job.state))
            && filter.running.is_none_or(|running| running == job.running_desired)
    });
    if matches!(filter.sort, Some(Sort::OldestFirst)) {
        jobs.reverse();
    }
    let page = PageQuery { limit: filter.limit, starting_after: filter.starting_after, offset: filter.offset };
    Ok(Json(page.cut(jobs, |job| &job.id)?))
}

/// One job.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobInfo)))]
pub async fn get(State(app): State<App>, Id(id): Id) -> ApiResult<Json<JobInfo>> {
    Ok(Json(app.system.job(&id).await?))
}

/// What the job counts, in sum and per operator.
#[utoipa::path(get, path = "/jobs/{id}/metrics", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobMetricsInfo)))]
pub async fn metrics(State(app): State<App>, Id(id): Id) -> ApiResult<Json<JobMetricsInfo>> {
    Ok(Json(app.system.job_metrics(&id).await?))
}

/// What one operator of the job counts.
#[utoipa::path(get, path = "/jobs/{id}/operators/{operator_id}/metrics", tag = "jobs",
    params(("id" = String, Path), ("operator_id" = String, Path)), responses((status = 200, body = OperatorMetricsInfo)))]
pub async fn operator_metrics(State(app): State<App>, Ids(id, operator): Ids) -> ApiResult<Json<OperatorMetricsInfo>> {
    let operators = app.system.job_metrics(&id).await?.operators;
    match operators.into_iter().find(|o| o.operator_id == operator) {
        Some(metrics) => Ok(Json(metrics)),
        None => Err(ApiError::not_found(format!("job {id} has no operator {operator}"))),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFilter {
    /// At most this many items: 1 to 100, 20 if absent.
    pub limit: Option<usize>,
    /// Id of the last item of the part before.
    #[serde(alias = "startingAfter")]
    pub starting_after: Option<String>,
    /// Items to skip, instead of `starting_after`.
    pub offset: Option<usize>,
    /// Only completed checkpoints, or only the others.
    pub completed: Option<bool>,
}

/// The job's checkpoints, newest first.
#[utoipa::path(get, path = "/jobs/{id}/checkpoints", tag = "jobs", params(("id" = String, Path), CheckpointFilter),
    responses((status = 200, body = List<CheckpointInfo>)))]
pub async fn checkpoints(
    State(app): State<App>,
    Id(id): Id,
    Query(filter): Query<CheckpointFilter>,
) -> ApiResult<Json<List<CheckpointInfo>>> {
    let mut checkpoints = app.system.job_checkpoints(&id, SCAN_LIMIT).await?;
    checkpoints.retain(|c| filter.completed.is_none_or(|completed| completed == (c.state == "completed")));
    let page = PageQuery { limit: filter.limit, starting_after: filter.starting_after, offset: filter.offset };
    Ok(Json(page.cut(checkpoints, |checkpoint| &checkpoint.id)?))
}

/// One checkpoint, by its id or its epoch.
#[utoipa::path(get, path = "/jobs/{id}/checkpoints/{checkpoint_id}", tag = "jobs",
    params(("id" = String, Path), ("checkpoint_id" = String, Path)), responses((status = 200, body = CheckpointInfo)))]
pub async fn checkpoint(State(app): State<App>, Ids(id, wanted): Ids) -> ApiResult<Json<CheckpointInfo>> {
    Ok(Json(find_checkpoint(&app, &id, &wanted).await?))
}

async fn find_checkpoint(app: &App, job: &str, wanted: &str) -> ApiResult<CheckpointInfo> {
    let epoch = wanted.parse().ok();
    let found = app.system.job_checkpoints(job, SCAN_LIMIT).await?;
    let found = found.into_iter().find(|c| c.id == wanted || Some(c.epoch) == epoch);
    found.ok_or_else(|| ApiError::not_found(format!("job {job} has no checkpoint {wanted}")))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ErrorFilter {
    /// At most this many items: 1 to 100, 20 if absent.
    pub limit: Option<usize>,
    /// Id of the last item of the part before.
    #[serde(alias = "startingAfter")]
    pub starting_after: Option<String>,
    /// Items to skip, instead of `starting_after`.
    pub offset: Option<usize>,
    /// `error` or `warning`.
    pub level: Option<Level>,
    #[serde(alias = "operatorId")]
    pub operator_id: Option<String>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Error,
    Warning,
}

/// What went wrong in the job, newest first.
#[utoipa::path(get, path = "/jobs/{id}/errors", tag = "jobs", params(("id" = String, Path), ErrorFilter),
    responses((status = 200, body = List<JobErrorInfo>)))]
pub async fn errors(
    State(app): State<App>,
    Id(id): Id,
    Query(filter): Query<ErrorFilter>,
) -> ApiResult<Json<List<JobErrorInfo>>> {
    let level = filter.level.map(|level| match level {
        Level::Error => "error",
        Level::Warning => "warning",
    });
    let mut errors = app.system.job_errors(&id, SCAN_LIMIT).await?;
    errors.retain(|error| {
        level.is_none_or(|level| error.level == level)
            && filter.operator_id.as_ref().is_none_or(|operator| error.operator_id.as_ref() == Some(operator))
    });
    let page = PageQuery { limit: filter.limit, starting_after: filter.starting_after, offset: filter.offset };
    Ok(Json(page.cut(errors, |error| &error.id)?))
}

#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopJob {
    #[serde(default)]
    pub mode: StopMode,
    /// How long to wait for the end before answering; the job goes on stopping after that. 60 if absent.
    #[serde(default, alias = "timeoutSeconds")]
    pub timeout_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopMode {
    /// Take a checkpoint, then stop.
    #[default]
    Checkpoint,
    /// StopJob now; what came after the last checkpoint is read again at the next start.
    Immediate,
    /// The same as `immediate`.
    Force,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Stopped {
    pub message: String,
    /// When it stopped, ms since 1970 UTC; absent while it is still stopping.
    pub expected_finish_time: Option<i64>,
}

const STOP_WAIT_SECONDS: u64 = 60;

/// Stops a job; its pipeline stays stopped until it is started.
#[utoipa::path(post, path = "/jobs/{id}/stop", tag = "jobs", params(("id" = String, Path)), request_body = StopJob,
    responses((status = 200, body = Stopped), (status = 202, body = Stopped)))]
pub async fn stop(
    State(app): State<App>,
    Id(id): Id,
    OptionalBody(stop): OptionalBody<StopJob>,
) -> ApiResult<(StatusCode, Json<Stopped>)> {
    let how = match stop.mode {
        StopMode::Checkpoint => StopKind::Checkpoint,
        StopMode::Immediate | StopMode::Force => StopKind::Immediate,
    };
    let wait = Duration::from_secs(stop.timeout_seconds.unwrap_or(STOP_WAIT_SECONDS).min(3600));
    let job = id.clone();
    let stopping = uninterrupted(async move { app.system.stop_job(&job, how).await });
    match tokio::time::timeout(wait, stopping).await {
        Ok(job) => {
            let job = job?;
            let message = format!("job {id} is {}", job.state.to_lowercase());
            Ok((StatusCode::OK, Json(Stopped { message, expected_finish_time: job.finish_time })))
        }
        Err(_) => {
            let message = format!("job {id} is still stopping");
            Ok((StatusCode::ACCEPTED, Json(Stopped { message, expected_finish_time: None })))
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartJob {
    /// Go on from this checkpoint (id or epoch) of the job instead of the latest.
    #[serde(default, alias = "checkpointId")]
    pub checkpoint_id: Option<String>,
    #[serde(default)]
    pub parallelism: Option<usize>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Restarted {
    pub message: String,
    pub new_job_id: String,
}

/// Restarts the job's pipeline in a new job.
#[utoipa::path(post, path = "/jobs/{id}/restart", tag = "jobs", params(("id" = String, Path)), request_body = RestartJob,
    responses((status = 200, body = Restarted)))]
pub async fn restart(
    State(app): State<App>,
    Id(id): Id,
    OptionalBody(restart): OptionalBody<RestartJob>,
) -> ApiResult<Json<Restarted>> {
    if restart.parallelism == Some(0) {
        return Err(Error::new(Code::InvalidRequest, "parallelism must be at least 1")
            .with_field("parallelism")
            .into());
    }
    let from = match &restart.checkpoint_id {
        None => RestartFrom::Latest,
        Some(wanted) => RestartFrom::Checkpoint(find_checkpoint(&app, &id, wanted).await?.epoch),
    };
    let message = format!("job {id} is restarted");
    let job = uninterrupted(async move { app.system.restart_job(&id, from, restart.parallelism).await }).await?;
    Ok(Json(Restarted { message, new_job_id: job.id }))
}

//! `/pipelines`: definitions of what runs, and whether it should. Ids and names are equal in paths.

use arrow::array::RecordBatch;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use laminar_core::{Code, Error, Result};
use laminar_session::{
    JobInfo, NewPipeline, Outcome, PipelineInfo, PipelinePatch, RestartFrom, StopKind, ValidateResult,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::error::ApiResult;
use crate::extract::{Body, Id, OptionalBody, Query};
use crate::page::{List, Message, PageQuery};
use crate::routes::sql::answer_outcome;
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
    /// Only pipelines of this name; `*` stands for any text.
    pub name: Option<String>,
    /// Only pipelines in this state, such as `running`, `stopped` or `failed`.
    pub state: Option<String>,
}

/// All pipelines, oldest first.
#[utoipa::path(get, path = "/pipelines", tag = "pipelines", params(Filter),
    responses((status = 200, body = List<PipelineInfo>)))]
pub async fn list(State(app): State<App>, Query(filter): Query<Filter>) -> ApiResult<Json<List<PipelineInfo>>> {
    let mut pipelines = app.system.pipelines().await?;
    pipelines.retain(|pipeline| {
        filter.name.as_ref().is_none_or(|pattern| matches(pattern, &pipeline.name))
            && filter.state.as_ref().is_none_or(|state| state.eq_ignore_ascii_case(&pipeline.state))
    });
    let page = PageQuery { limit: filter.limit, starting_after: filter.starting_after, offset: filter.offset };
    Ok(Json(page.cut(pipelines, |pipeline| &pipeline.id)?))
}

/// Creates a pipeline and starts it. If it cannot start, it is not created.
#[utoipa::path(post, path = "/pipelines", tag = "pipelines", request_body = NewPipeline,
    responses((status = 201, body = PipelineInfo)))]
pub async fn create(
    State(app): State<App>,
    Body(new): Body<NewPipeline>,
) -> ApiResult<(StatusCode, Json<PipelineInfo>)> {
    let pipeline = uninterrupted(async move { app.system.create_pipeline(new).await }).await?;
    Ok((StatusCode::CREATED, Json(pipeline)))
}

/// One pipeline.
#[utoipa::path(get, path = "/pipelines/{id}", tag = "pipelines", params(("id" = String, Path)),
    responses((status = 200, body = PipelineInfo)))]
pub async fn get(State(app): State<App>, Id(id): Id) -> ApiResult<Json<PipelineInfo>> {
    Ok(Json(app.system.pipeline(&id).await?))
}

/// Stops or starts a pipeline, or changes its parallelism or checkpoint interval.
#[utoipa::path(patch, path = "/pipelines/{id}", tag = "pipelines", params(("id" = String, Path)),
    request_body = PipelinePatch, responses((status = 200, body = PipelineInfo)))]
pub async fn patch(
    State(app): State<App>,
    Id(id): Id,
    Body(patch): Body<PipelinePatch>,
) -> ApiResult<Json<PipelineInfo>> {
    Ok(Json(uninterrupted(async move { app.system.patch_pipeline(&id, patch).await }).await?))
}

/// Stops a pipeline and drops it with its jobs and checkpoints.
#[utoipa::path(delete, path = "/pipelines/{id}", tag = "pipelines", params(("id" = String, Path)),
    responses((status = 200, body = Message)))]
pub async fn delete(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Message>> {
    let message = format!("pipeline {id} is deleted");
    uninterrupted(async move { app.system.delete_pipeline(&id).await }).await?;
    Ok(Json(Message { message }))
}

/// A job that was started.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Started {
    pub message: String,
    pub job_id: String,
}

/// Starts a stopped pipeline at its latest checkpoint; does nothing if it runs.
#[utoipa::path(post, path = "/pipelines/{id}/start", tag = "pipelines", params(("id" = String, Path)),
    responses((status = 200, body = Started)))]
pub async fn start(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Started>> {
    let message = format!("pipeline {id} is started");
    let job = uninterrupted(async move { app.system.start_pipeline(&id).await }).await?;
    Ok(Json(Started { message, job_id: job.id }))
}

#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartPipeline {
    /// Stop at once instead of with a checkpoint: what came after the last one is read again.
    #[serde(default)]
    pub force: bool,
    /// Go on from the checkpoint of this epoch.
    #[serde(default, alias = "fromCheckpoint")]
    pub from_checkpoint: Option<u64>,
    /// Start from the beginning, as if the pipeline were new.
    #[serde(default, alias = "ignoreState")]
    pub ignore_state: bool,
}

/// Stops a pipeline if it runs, and starts it again.
#[utoipa::path(post, path = "/pipelines/{id}/restart", tag = "pipelines", params(("id" = String, Path)),
    request_body = RestartPipeline, responses((status = 200, body = Started)))]
pub async fn restart(
    State(app): State<App>,
    Id(id): Id,
    OptionalBody(restart): OptionalBody<RestartPipeline>,
) -> ApiResult<Json<Started>> {
    let from = match (restart.from_checkpoint, restart.ignore_state) {
        (Some(_), true) => {
            let error = Error::new(Code::ConflictingOptions, "from_checkpoint and ignore_state exclude each other");
            return Err(error.with_field("ignore_state").into());
        }
        (Some(epoch), false) => RestartFrom::Checkpoint(epoch),
        (None, true) => RestartFrom::Nothing,
        (None, false) => RestartFrom::Latest,
    };
    let message = format!("pipeline {id} is restarted");
    let job = uninterrupted(async move {
        if restart.force {
            app.system.stop_pipeline(&id, StopKind::Immediate).await?;
        }
        app.system.restart_pipeline(&id, from).await
    })
    .await?;
    Ok(Json(Started { message, job_id: job.id }))
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryOnly {
    /// As the `query` of a new pipeline.
    pub query: String,
    /// User-defined functions: refused while not empty.
    #[serde(default)]
    pub udfs: Vec<Value>,
}

/// Plans a query without creating anything; what is wrong with it is in the answer.
#[utoipa::path(post, path = "/pipelines/validate_query", tag = "pipelines", request_body = QueryOnly,
    responses((status = 200, body = ValidateResult)))]
pub async fn validate(State(app): State<App>, Body(request): Body<QueryOnly>) -> ApiResult<Json<ValidateResult>> {
    refuse_udfs(&request.udfs)?;
    Ok(Json(app.system.validate(&request.query).await?))
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// As the `query` of a new pipeline.
    pub query: String,
    /// User-defined functions: refused while not empty.
    #[serde(default)]
    pub udfs: Vec<Value>,
    /// Stop after this many rows.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Whether to write to the sinks too: refused when true.
    #[serde(default, alias = "enableSinks")]
    pub enable_sinks: bool,
}

/// The first rows that a pipeline of this query would yield. Writes nothing; answers in the formats of `POST /sql`.
#[utoipa::path(post, path = "/pipelines/preview", tag = "pipelines", request_body = Preview,
    responses((status = 200, content((crate::encode::json::SqlAnswer = "application/json"),
        (String = "application/x-ndjson"), (String = "text/event-stream"), (Vec<u8> = "application/vnd.apache.arrow.stream")))))]
pub async fn preview(State(app): State<App>, headers: HeaderMap, Body(request): Body<Preview>) -> ApiResult<Response> {
    refuse_udfs(&request.udfs)?;
    if request.enable_sinks {
        let error = Error::new(Code::NotSupported, "a preview writes nothing").with_field("enable_sinks");
        return Err(error.with_hint("create a pipeline to write to its sinks").into());
    }
    let mut outcome = app.system.preview(&request.query).await?;
    if let (Some(limit), Outcome::Rows { rows, .. }) = (request.limit, &mut outcome) {
        *rows = at_most(limit, std::mem::replace(rows, stream::empty().boxed()));
    }
    answer_outcome(&app, &headers, outcome).await
}

/// The first `limit` rows; nothing is read after them.
fn at_most(limit: usize, rows: BoxStream<'static, Result<RecordBatch>>) -> BoxStream<'static, Result<RecordBatch>> {
    let cut = stream::unfold((limit, rows), |(left, mut rows)| async move {
        let batch = if left == 0 { None } else { rows.next().await }?;
        let batch = batch.map(|batch| batch.slice(0, batch.num_rows().min(left)));
        let taken = batch.as_ref().map_or(0, RecordBatch::num_rows);
        Some((batch, (left - taken, rows)))
    });
    cut.boxed()
}

fn refuse_udfs(udfs: &[Value]) -> ApiResult<()> {
    if udfs.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::NotSupported, "user-defined functions are not supported").with_field("udfs").into())
}

/// The pipeline's jobs, newest first.
#[utoipa::path(get, path = "/pipelines/{id}/jobs", tag = "pipelines", params(("id" = String, Path), PageQuery),
    responses((status = 200, body = List<JobInfo>)))]
pub async fn jobs(State(app): State<App>, Id(id): Id, Query(page): Query<PageQuery>) -> ApiResult<Json<List<JobInfo>>> {
    Ok(Json(page.cut(app.system.jobs(Some(&id), SCAN_LIMIT).await?, |job| &job.id)?))
}

/// Does `name` fit `pattern`, where `*` stands for any text? Letters count in either case.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(earlier) = last.replace(part) {
            match rest.split_once(earlier) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name) in
            [("orders", "Orders"), ("ord*", "orders"), ("*ers", "orders"), ("o*d*s", "orders"), ("*", "")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("order", "orders"), ("*x*", "orders"), ("ab*ba", "aba"), ("a*b*c", "acb")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}

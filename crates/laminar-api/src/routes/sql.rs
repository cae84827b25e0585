//! `POST /sql`: any statements, answered in the format that `Accept` names.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use laminar_core::{Code, Error};
use laminar_planner::parameters::{self, Parameter};
use laminar_session::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::App;
use crate::encode::{Format, Frames, Setting, arrow, json, ndjson, sse};
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::script;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One statement, or several separated by `;`.
    #[schema(example = "SELECT * FROM system.pipelines")]
    pub query: String,
    /// Values of `$1`, `$2`, … in SELECT and INSERT … VALUES: texts, numbers, booleans or null, as if written there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Value>,
    /// Settings for this request, as `SET name = value` before the query would make them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub settings: BTreeMap<String, Value>,
}

/// Runs SQL. A script with a syntax error runs nothing; else the first statement that fails ends it, and the ones before
/// it stay done.
///
/// The answer depends on `Accept`: `application/json` (all of it, when it is complete), `application/x-ndjson` (the rows,
/// one object a line, as they come), `text/event-stream` (everything as it comes: events `columns`, `rows`, `notices`,
/// `done`, `error`, `end`; SUBSCRIBE goes on until the client leaves), or `application/vnd.apache.arrow.stream` (the rows
/// of one statement).
#[utoipa::path(post, path = "/sql", tag = "sql", request_body = SqlRequest,
    responses((status = 200, content((json::SqlAnswer = "application/json"), (String = "application/x-ndjson"),
        (String = "text/event-stream"), (Vec<u8> = "application/vnd.apache.arrow.stream")))))]
pub async fn run(State(app): State<App>, headers: HeaderMap, Body(request): Body<SqlRequest>) -> ApiResult<Response> {
    let format = Format::negotiate(&headers)?;
    let mut parsed = laminar_planner::parse(&request.query)?;
    parameters::bind(&mut parsed, &params(request.params)?)?;
    if parsed.is_empty() {
        return Err(Error::new(Code::InvalidRequest, "there is no statement in the query").with_field("query").into());
    }
    if format == Format::Arrow && parsed.len() > 1 {
        let error = Error::new(
            Code::InvalidRequest,
            format!("an Arrow stream holds the rows of one statement, not of {}", parsed.len()),
        );
        return Err(ApiError::http(StatusCode::NOT_ACCEPTABLE, error.with_hint("send the statements one by one")));
    }
    let frames = script::run(&app.system, settings(request.settings)?, parsed, app.stopping.clone());
    answer(format, frames).await
}

/// The rows of one outcome, in the format that `Accept` names.
pub(super) async fn answer_outcome(app: &App, headers: &HeaderMap, outcome: Outcome) -> ApiResult<Response> {
    let format = Format::negotiate(headers)?;
    answer(format, script::run_outcome(&app.system, outcome, app.stopping.clone())).await
}

async fn answer(format: Format, frames: Frames) -> ApiResult<Response> {
    match format {
        Format::Json => json::answer(frames).await,
        Format::Ndjson => ndjson::answer(frames).await,
        Format::Sse => Ok(sse::answer(frames)),
        Format::Arrow => arrow::answer(frames).await,
    }
}

fn params(given: Vec<Value>) -> ApiResult<Vec<Parameter>> {
    let mut params = Vec::with_capacity(given.len());
    for (index, value) in given.into_iter().enumerate() {
        params.push(match value {
            Value::Null => Parameter::Null,
            Value::Bool(value) => Parameter::Boolean(value),
            Value::Number(number) => Parameter::Number(number.to_string()),
            Value::String(text) => Parameter::Text(text),
            Value::Array(_) | Value::Object(_) => {
                let message = format!("the value of ${} must be a text, a number, a boolean or null", index + 1);
                let error = Error::new(Code::InvalidRequest, message).with_field(format!("params[{index}]"));
                return Err(error
                    .with_hint("send a list or an object as JSON text, and read it with -> and ->>")
                    .into());
            }
        });
    }
    Ok(params)
}

fn settings(given: BTreeMap<String, Value>) -> ApiResult<Vec<Setting>> {
    let mut settings = Vec::with_capacity(given.len());
    for (name, value) in given {
        let value = match value {
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => {
                let error =
                    Error::new(Code::InvalidRequest, format!("setting {name} must be a text, a number or a boolean"));
                return Err(error.with_field(format!("settings.{name}")).into());
            }
        };
        settings.push(Setting { name, value });
    }
    Ok(settings)
}

//! `GET /metrics`: Prometheus text, at the root and under the prefix.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::App;

/// Counters and gauges of all jobs, as Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "system",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
pub async fn metrics(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.system.metrics_text()).into_response()
}

//! The REST door: resources under `/api/v1`, SQL on `POST /api/v1/sql`, Prometheus text on `/metrics`.
//!
//! Everything that happens is the system's (`laminar_session::System`); here requests become typed values, answers become
//! JSON, and errors become statuses. No request can take the server down: bodies are bounded, whatever does not fit is a
//! JSON error, and a panic in a handler is a 500 for that request alone. Nor can a web page use it behind its owner's back
//! (`hosts`).
//!
//! Reading order: `routes` (the resources), `script` (running SQL), `encode` (its answer), `extract` and `error`.

pub mod encode;
pub mod error;
mod extract;
mod hosts;
mod page;
mod routes;
mod script;

use std::any::Any;
use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
pub use hosts::AllowedHosts;
use laminar_core::{Code, Error};
use laminar_session::System;
pub use routes::sql::SqlRequest;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;

/// Where the API listens unless told otherwise.
pub const DEFAULT_PORT: u16 = 5115;
const PREFIX: &str = "/api/v1";
/// Largest request body: a script of a megabyte is a mistake long before this.
const MAX_BODY_BYTES: usize = 4 << 20;

/// What every handler sees.
#[derive(Clone)]
struct App {
    system: Arc<System>,
    /// Turns true when the server goes down: streams end.
    stopping: watch::Receiver<bool>,
    openapi: Arc<str>,
}

/// Answers requests until `shutdown` resolves and those under way are done; streams without an end are ended then.
pub async fn serve(
    listener: TcpListener,
    system: Arc<System>,
    hosts: AllowedHosts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let graceful = async move {
        shutdown.await;
        let _ = stop.send(true);
    };
    axum::serve(listener, router(system, hosts, stopping)).with_graceful_shutdown(graceful).await
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes::openapi::complete(resources().split_for_parts().1)
}

fn router(system: Arc<System>, hosts: AllowedHosts, stopping: watch::Receiver<bool>) -> Router {
    let resources = resources().split_for_parts().0;
    let app = App { system, stopping, openapi: openapi().to_json().unwrap_or_default().into() };
    let routes = Router::new().nest(PREFIX, resources).route("/metrics", get(routes::metrics::metrics));
    let routes = routes.fallback(unknown_path).method_not_allowed_fallback(wrong_method).with_state(app);
    safeguarded(routes.layer(middleware::from_fn_with_state(hosts, hosts::check)))
}

/// What holds for every request: bounds, and that a fault in one harms no other.
fn safeguarded(routes: Router) -> Router {
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(after_panic))
        .layer(TraceLayer::new_for_http().make_span_with(span))
}

/// Every resource, with its description.
fn resources() -> OpenApiRouter<App> {
    use routes::{clusters, connections, connectors, jobs, metrics, openapi, ping, pipelines, sql, tables};
    OpenApiRouter::with_openapi(openapi::Base::openapi())
        .routes(routes!(ping::ping))
        .routes(routes!(sql::run))
        .routes(routes!(connectors::list))
        .routes(routes!(connectors::get))
        .routes(routes!(connections::list, connections::create))
        .routes(routes!(connections::test_new))
        .routes(routes!(connections::get, connections::delete))
        .routes(routes!(connections::test))
        .routes(routes!(clusters::create_topic))
        .routes(routes!(clusters::reset_offsets))
        .routes(routes!(tables::list, tables::create))
        .routes(routes!(tables::test_new))
        .routes(routes!(tables::get, tables::delete))
        .routes(routes!(pipelines::list, pipelines::create))
        .routes(routes!(pipelines::validate))
        .routes(routes!(pipelines::preview))
        .routes(routes!(pipelines::get, pipelines::patch, pipelines::delete))
        .routes(routes!(pipelines::start))
        .routes(routes!(pipelines::restart))
        .routes(routes!(pipelines::jobs))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get))
        .routes(routes!(jobs::metrics))
        .routes(routes!(jobs::operator_metrics))
        .routes(routes!(jobs::checkpoints))
        .routes(routes!(jobs::checkpoint))
        .routes(routes!(jobs::errors))
        .routes(routes!(jobs::stop))
        .routes(routes!(jobs::restart))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::document))
}

fn span(request: &Request) -> tracing::Span {
    let path = request.extensions().get::<MatchedPath>().map_or(request.uri().path(), MatchedPath::as_str);
    tracing::info_span!("request", method = %request.method(), path)
}

async fn unknown_path(uri: Uri) -> ApiError {
    let error = Error::new(Code::NotFound, format!("there is nothing at {}", uri.path()));
    error.with_hint(format!("the API's description is at {PREFIX}/openapi.json")).into()
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let error = Error::new(Code::InvalidRequest, format!("{} does not answer {method}", uri.path()));
    ApiError::http(StatusCode::METHOD_NOT_ALLOWED, error)
}

fn after_panic(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = text, "a request handler panicked");
    ApiError::from(Error::internal("the request failed because of a fault in the server")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn broken() -> &'static str {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_panic_is_one_answer() {
        let router = safeguarded(Router::new().route("/broken", get(broken)).route("/fine", get(|| async { "yes" })));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let answer = reqwest::get(format!("http://{address}/broken")).await.unwrap();
        assert_eq!(answer.status(), 500);
        let body: error::ErrorBody = answer.json().await.unwrap();
        assert_eq!(body.error.code, "internal");
        assert_eq!(reqwest::get(format!("http://{address}/fine")).await.unwrap().text().await.unwrap(), "yes");
        server.abort();
    }
}

//! `GET /openapi.json`: the API's description, made from the handlers themselves.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::{Content, Ref, ResponseBuilder};

use crate::App;
use crate::error::ErrorBody;

/// What the handlers' annotations do not say.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Laminar",
        description = "SQL over streams. Every statement can be sent to `POST /sql`; the other paths are the same objects as \
                       resources.\n\nErrors of every path have the body `ErrorBody`; `code` is stable and the same as in SQL \
                       and the CLI. Requests whose error says `retryable: true` may succeed unchanged later; no other error \
                       goes away by itself. Ids and names are interchangeable in paths. Fields are snake_case; camelCase is \
                       accepted in requests."
    ),
    components(schemas(ErrorBody)),
    servers((url = "/api/v1"))
)]
pub(crate) struct Base;

/// Adds the error answer to every operation, so that no handler repeats it, and makes their ids unique: `pipelines_list`.
pub(crate) fn complete(mut api: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let content = Content::new(Some(Ref::from_schema_name("ErrorBody")));
    let error = ResponseBuilder::new().description("any failure").content("application/json", content).build();
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_string(), error.clone().into());
            let tag = operation.tags.iter().flatten().next();
            if let (Some(tag), Some(id)) = (tag, &mut operation.operation_id) {
                *id = format!("{tag}_{id}");
            }
        }
    }
    api
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "system", responses((status = 200, body = Object)))]
pub async fn document(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], app.openapi.to_string()).into_response()
}

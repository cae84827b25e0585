//! `GET /ping`: is the server there?

use axum::Json;

/// Answers `"Pong"`.
#[utoipa::path(get, path = "/ping", tag = "system", responses((status = 200, body = String, example = "Pong")))]
pub async fn ping() -> Json<&'static str> {
    Json("Pong")
}

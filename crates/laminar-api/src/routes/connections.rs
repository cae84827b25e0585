//! `/connection_profiles`: what `CREATE CONNECTION` makes. Ids and names are equal in paths.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use laminar_session::{ConnectionInfo, NewConnection, TestResult};

use crate::App;
use crate::error::ApiResult;
use crate::extract::{Body, Id, Query};
use crate::page::{Data, List, Message, PageQuery};
use crate::routes::{option_names, uninterrupted};

/// All connections, oldest first.
#[utoipa::path(get, path = "/connection_profiles", tag = "connections", params(PageQuery),
    responses((status = 200, body = List<ConnectionInfo>)))]
pub async fn list(State(app): State<App>, Query(page): Query<PageQuery>) -> ApiResult<Json<List<ConnectionInfo>>> {
    Ok(Json(page.cut(app.system.connections().await?, |connection| &connection.id)?))
}

/// Creates a connection after checking its options; reaches nothing outside.
#[utoipa::path(post, path = "/connection_profiles", tag = "connections", request_body = NewConnection,
    responses((status = 201, body = Data<ConnectionInfo>)))]
pub async fn create(
    State(app): State<App>,
    Body(new): Body<NewConnection>,
) -> ApiResult<(StatusCode, Json<Data<ConnectionInfo>>)> {
    let data = uninterrupted(async move { app.system.create_connection(accepted(new)).await }).await?;
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// Reaches out with these options, step by step; creates nothing.
#[utoipa::path(post, path = "/connection_profiles/test", tag = "connections", request_body = NewConnection,
    responses((status = 200, body = Data<TestResult>)))]
pub async fn test_new(State(app): State<App>, Body(new): Body<NewConnection>) -> ApiResult<Json<Data<TestResult>>> {
    let data = app.system.test_new_connection(accepted(new)).await?;
    Ok(Json(Data { data }))
}

/// One connection.
#[utoipa::path(get, path = "/connection_profiles/{id}", tag = "connections", params(("id" = String, Path)),
    responses((status = 200, body = Data<ConnectionInfo>)))]
pub async fn get(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Data<ConnectionInfo>>> {
    let data = app.system.connection(&id).await?;
    Ok(Json(Data { data }))
}

/// Reaches out with the connection's options, step by step.
#[utoipa::path(post, path = "/connection_profiles/{id}/test", tag = "connections", params(("id" = String, Path)),
    responses((status = 200, body = Data<TestResult>)))]
pub async fn test(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Data<TestResult>>> {
    let data = app.system.test_connection(&id).await?;
    Ok(Json(Data { data }))
}

/// Drops a connection that no table uses.
#[utoipa::path(delete, path = "/connection_profiles/{id}", tag = "connections", params(("id" = String, Path)),
    responses((status = 200, body = Data<Message>)))]
pub async fn delete(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Data<Message>>> {
    let message = format!("connection {id} is deleted");
    uninterrupted(async move { app.system.delete_connection(&id).await }).await?;
    Ok(Json(Data { data: Message { message } }))
}

fn accepted(mut new: NewConnection) -> NewConnection {
    new.config = option_names(new.config);
    new
}

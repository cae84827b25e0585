//! `/connection_profiles/{id}/topics` and `/groups`: the few things that are changed in the Kafka behind a connection.
//!
//! What the cluster tells of itself are the system tables `kafka_brokers`, `kafka_topics`, `kafka_partitions` and
//! `kafka_consumer_groups`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use laminar_session::{NewTopicInfo, ResetInfo, ResetOffsets};

use crate::App;
use crate::error::ApiResult;
use crate::extract::{Body, Id};
use crate::page::{Data, Message};
use crate::routes::uninterrupted;

/// Creates a topic in the cluster.
#[utoipa::path(post, path = "/connection_profiles/{id}/topics", tag = "connections", request_body = NewTopicInfo,
    params(("id" = String, Path)), responses((status = 201, body = Data<Message>)))]
pub async fn create_topic(
    State(app): State<App>,
    Id(id): Id,
    Body(new): Body<NewTopicInfo>,
) -> ApiResult<(StatusCode, Json<Data<Message>>)> {
    let message = format!("topic {} is created", new.name);
    uninterrupted(async move { app.system.create_topic(&id, new).await }).await?;
    Ok((StatusCode::CREATED, Json(Data { data: Message { message } })))
}

/// Moves a consumer group that has no members: one of `to_earliest`, `to_latest`, `to_timestamp` and `to_offset`.
#[utoipa::path(post, path = "/connection_profiles/{id}/groups/{group}/reset", tag = "connections",
    request_body = ResetOffsets, params(("id" = String, Path), ("group" = String, Path)),
    responses((status = 200, body = Data<ResetInfo>)))]
pub async fn reset_offsets(
    State(app): State<App>,
    Path((id, group)): Path<(String, String)>,
    Body(reset): Body<ResetOffsets>,
) -> ApiResult<Json<Data<ResetInfo>>> {
    let data = uninterrupted(async move { app.system.reset_offsets(&id, &group, reset).await }).await?;
    Ok(Json(Data { data }))
}

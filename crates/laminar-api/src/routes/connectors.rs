//! `GET /connectors`: the kinds of outside systems, with the JSON schemas of their options.

use axum::Json;
use axum::extract::State;
use laminar_core::connector::Role;
use laminar_session::ConnectorInfo;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::App;
use crate::error::ApiResult;
use crate::extract::{Id, Query};
use crate::page::Data;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only connectors of this category, such as `messaging`.
    pub category: Option<String>,
    /// Only connectors that can be a `source`, or a `sink`.
    #[serde(rename = "type")]
    #[param(rename = "type", value_type = Option<String>)]
    pub role: Option<Role>,
}

/// All connectors.
#[utoipa::path(get, path = "/connectors", tag = "connectors", params(Filter),
    responses((status = 200, body = Data<Vec<ConnectorInfo>>)))]
pub async fn list(State(app): State<App>, Query(filter): Query<Filter>) -> Json<Data<Vec<ConnectorInfo>>> {
    let role = filter.role.map(|role| match role {
        Role::Source => "source",
        Role::Sink => "sink",
    });
    let mut data = app.system.connectors();
    data.retain(|connector| {
        filter.category.as_ref().is_none_or(|category| *category == connector.category)
            && role.is_none_or(|role| connector.roles.iter().any(|r| r == role))
    });
    Json(Data { data })
}

/// One connector, by its name.
#[utoipa::path(get, path = "/connectors/{id}", tag = "connectors", params(("id" = String, Path)),
    responses((status = 200, body = Data<ConnectorInfo>)))]
pub async fn get(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Data<ConnectorInfo>>> {
    app.system.config().registry.get(&id)?;
    match app.system.connectors().into_iter().find(|connector| connector.id == id) {
        Some(data) => Ok(Json(Data { data })),
        None => Err(crate::error::ApiError::not_found(format!("there is no connector {id}"))),
    }
}

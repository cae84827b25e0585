//! `/connection_tables`: what `CREATE TABLE` makes. Ids and names are equal in paths.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use laminar_session::{NewTable, TableInfo, TestResult};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::App;
use crate::error::ApiResult;
use crate::extract::{Body, Id, Query};
use crate::page::{Data, List, Message, PageQuery};
use crate::routes::{option_names, uninterrupted};

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
    /// Only tables that can be a `source`, or a `sink`.
    #[serde(rename = "type")]
    pub table_type: Option<TableType>,
    /// Only tables of this connector.
    pub connector: Option<String>,
}

#[derive(Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableType {
    Source,
    Sink,
}

impl Filter {
    fn wants(&self, table: &TableInfo) -> bool {
        let role = self.table_type.is_none_or(|wanted| match wanted {
            TableType::Source => table.table_type.starts_with("source"),
            TableType::Sink => table.table_type.ends_with("sink"),
        });
        role && self.connector.as_ref().is_none_or(|connector| *connector == table.connector)
    }
}

/// All tables, oldest first.
#[utoipa::path(get, path = "/connection_tables", tag = "tables", params(Filter),
    responses((status = 200, body = List<TableInfo>)))]
pub async fn list(State(app): State<App>, Query(filter): Query<Filter>) -> ApiResult<Json<List<TableInfo>>> {
    let mut tables = app.system.tables().await?;
    tables.retain(|table| filter.wants(table));
    let page = PageQuery { limit: filter.limit, starting_after: filter.starting_after, offset: filter.offset };
    Ok(Json(page.cut(tables, |table| &table.id)?))
}

/// Creates a table after checking its options and that what they name is there.
#[utoipa::path(post, path = "/connection_tables", tag = "tables", request_body = NewTable,
    responses((status = 201, body = Data<TableInfo>)))]
pub async fn create(
    State(app): State<App>,
    Body(new): Body<NewTable>,
) -> ApiResult<(StatusCode, Json<Data<TableInfo>>)> {
    let data = uninterrupted(async move { app.system.create_table(accepted(new)).await }).await?;
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// Reaches out with these options, step by step; creates nothing.
#[utoipa::path(post, path = "/connection_tables/test", tag = "tables", request_body = NewTable,
    responses((status = 200, body = Data<TestResult>)))]
pub async fn test_new(State(app): State<App>, Body(new): Body<NewTable>) -> ApiResult<Json<Data<TestResult>>> {
    let data = app.system.test_new_table(accepted(new)).await?;
    Ok(Json(Data { data }))
}

/// One table.
#[utoipa::path(get, path = "/connection_tables/{id}", tag = "tables", params(("id" = String, Path)),
    responses((status = 200, body = Data<TableInfo>)))]
pub async fn get(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Data<TableInfo>>> {
    let data = app.system.table(&id).await?;
    Ok(Json(Data { data }))
}

/// Drops a table that no pipeline or view uses.
#[utoipa::path(delete, path = "/connection_tables/{id}", tag = "tables", params(("id" = String, Path)),
    responses((status = 200, body = Data<Message>)))]
pub async fn delete(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Data<Message>>> {
    let message = format!("table {id} is deleted");
    uninterrupted(async move { app.system.delete_table(&id).await }).await?;
    Ok(Json(Data { data: Message { message } }))
}

fn accepted(mut new: NewTable) -> NewTable {
    new.config = option_names(new.config);
    new
}

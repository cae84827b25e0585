//! `application/json`: everything in one object, when the script is done.
//!
//! ```json
//! {"results": [{"columns": [{"name": "id", "type": "BIGINT"}], "rows": [[1], [2]], "notices": [], "tag": "SELECT 2"}]}
//! ```
//!
//! For one statement its fields also stand beside `results`. Since the whole answer is held in memory it is bounded;
//! larger ones, and those without an end, are for the streaming formats.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use laminar_core::{Code, Error, Result};
use laminar_session::Notice;
use serde::Serialize;
use utoipa::ToSchema;

use super::rows::{ColumnInfo, Shape, columns, write_rows};
use super::{Done, Format, Frame, Frames};
use crate::error::ApiResult;

const MAX_ANSWER_BYTES: usize = 32 << 20;

/// The answer, for the API's description; it is written by hand below.
#[derive(Serialize, ToSchema)]
pub struct SqlAnswer {
    /// One per statement.
    pub results: Vec<StatementAnswer>,
    #[serde(flatten)]
    pub only: Option<StatementAnswer>,
}

#[derive(Serialize, ToSchema)]
pub struct StatementAnswer {
    /// Empty if the statement returns no rows.
    pub columns: Vec<ColumnInfo>,
    /// One array per row, in the order of the columns.
    pub rows: Vec<Vec<serde_json::Value>>,
    pub notices: Vec<Notice>,
    #[serde(flatten)]
    pub done: Done,
}

pub async fn answer(mut frames: Frames) -> ApiResult<Response> {
    let mut results: Vec<Bytes> = Vec::new();
    let mut size = 0;
    let mut statement = Statement::default();
    while let Some(frame) = frames.next().await {
        match frame {
            Frame::Columns { endless: true, .. } => {
                let error = Error::new(
                    Code::InvalidRequest,
                    "this statement's rows have no end, so one JSON object cannot hold them",
                );
                return Err(error.with_hint("send Accept: text/event-stream or application/x-ndjson").into());
            }
            Frame::Columns { schema, .. } => statement.columns = columns(&schema),
            Frame::Rows(batch) => {
                if !statement.rows.is_empty() && batch.num_rows() > 0 {
                    statement.rows.push(b',');
                }
                write_rows(&batch, Shape::Array, b',', &mut statement.rows)?;
                check_size(size + statement.rows.len())?;
            }
            Frame::Notices(notices) => statement.notices.extend(notices),
            Frame::Done(done) => {
                let bytes = std::mem::take(&mut statement).finish(&done)?;
                size += bytes.len();
                check_size(size)?;
                results.push(bytes);
            }
            Frame::Failed(error) => return Err(error.into()),
        }
    }
    Ok(compose(results))
}

fn check_size(size: usize) -> Result<()> {
    if size <= MAX_ANSWER_BYTES {
        return Ok(());
    }
    let error = Error::new(Code::LimitExceeded, format!("the answer is larger than {} MiB", MAX_ANSWER_BYTES >> 20));
    Err(error.with_hint("add a LIMIT, or send Accept: application/x-ndjson to get the rows as a stream"))
}

#[derive(Default)]
struct Statement {
    columns: Vec<ColumnInfo>,
    /// Rows with commas between, without the brackets around all.
    rows: Vec<u8>,
    notices: Vec<Notice>,
}

impl Statement {
    /// The fields of the statement's object, without its braces.
    fn finish(self, done: &Done) -> Result<Bytes> {
        let json = |error: serde_json::Error| Error::internal(format!("an answer cannot be written: {error}"));
        let mut out = Vec::with_capacity(self.rows.len() + 256);
        out.extend_from_slice(b"\"columns\":");
        serde_json::to_writer(&mut out, &self.columns).map_err(json)?;
        out.extend_from_slice(b",\"rows\":[");
        out.extend_from_slice(&self.rows);
        out.extend_from_slice(b"],\"notices\":");
        serde_json::to_writer(&mut out, &self.notices).map_err(json)?;
        out.push(b',');
        // `{"tag":…}` without its opening brace; the closing one goes too.
        let done = serde_json::to_vec(done).map_err(json)?;
        out.extend_from_slice(done.get(1..done.len().saturating_sub(1)).unwrap_or_default());
        Ok(out.into())
    }
}

/// Puts the results together without copying them.
fn compose(results: Vec<Bytes>) -> Response {
    let mut parts = vec![Bytes::from_static(b"{\"results\":[")];
    for (index, result) in results.iter().enumerate() {
        parts.push(Bytes::from_static(if index > 0 { b",{" } else { b"{" }));
        parts.push(result.clone());
        parts.push(Bytes::from_static(b"}"));
    }
    parts.push(Bytes::from_static(b"]"));
    if let [only] = results.as_slice() {
        parts.push(Bytes::from_static(b","));
        parts.push(only.clone());
    }
    parts.push(Bytes::from_static(b"}"));
    let body = Body::from_stream(stream::iter(parts.into_iter().map(Ok::<_, std::convert::Infallible>)));
    ([(header::CONTENT_TYPE, Format::Json.media_type())], body).into_response()
}

//! The answer of `POST /sql` as bytes, in the format the client accepts.
//!
//! A script's answer is a stream of [`Frame`]s, the same for every format:
//!
//! ```text
//! statement with rows:     Columns  Rows* Notices?  Done
//! statement without rows:  Notices? Done
//! a failure, anywhere:     Failed, and nothing after it
//! ```
//!
//! `rows` turns Arrow into JSON; the other modules are one format each. Errors before the first row become an HTTP
//! status; later ones are the last thing in the body, or cut it short where the format has no place for them.

pub mod arrow;
pub mod json;
pub mod ndjson;
pub mod rows;
pub mod sse;

use std::time::Duration;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use axum::http::{HeaderMap, StatusCode, header};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use laminar_core::{Code, Error};
use laminar_session::Notice;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};

/// One piece of a script's answer.
#[derive(Debug)]
pub enum Frame {
    /// A statement's rows follow.
    Columns {
        schema: SchemaRef,
        /// The rows have no end of their own, as those of SUBSCRIBE.
        endless: bool,
    },
    Rows(RecordBatch),
    Notices(Vec<Notice>),
    /// The statement is done.
    Done(Done),
    /// The script ends here.
    Failed(Error),
}

/// What a statement did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// As PostgreSQL's command tag: `SELECT 3`, `CREATE TABLE`.
    pub tag: String,
    /// What a SET changed. Settings last for one request: a client that wants them to last sends them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<Setting>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    pub name: String,
    pub value: String,
}

pub type Frames = BoxStream<'static, Frame>;

/// The formats of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Ndjson,
    Sse,
    Arrow,
}

impl Format {
    pub const ALL: [Format; 4] = [Self::Json, Self::Ndjson, Self::Sse, Self::Arrow];

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Sse => "text/event-stream",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The format that `Accept` prefers; JSON if it does not say.
    pub fn negotiate(headers: &HeaderMap) -> ApiResult<Self> {
        let mut best: Option<(Self, f32)> = None;
        let mut asked = false;
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|r| !r.is_empty()) {
                asked = true;
                let range = range.to_ascii_lowercase();
                let (media, quality) = split_quality(&range);
                let Some(format) = Self::matching(media) else { continue };
                if quality > best.map_or(0.0, |(_, q)| q) {
                    best = Some((format, quality));
                }
            }
        }
        match best {
            Some((format, _)) => Ok(format),
            None if !asked => Ok(Self::Json),
            None => {
                let known = Self::ALL.map(Self::media_type).join(", ");
                let error = Error::new(Code::InvalidRequest, "none of the accepted media types can be produced");
                Err(ApiError::http(StatusCode::NOT_ACCEPTABLE, error.with_hint(format!("accept one of {known}"))))
            }
        }
    }

    fn matching(media: &str) -> Option<Self> {
        match media {
            "*/*" | "application/*" => Some(Self::Json),
            "text/*" => Some(Self::Sse),
            "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
            media => Self::ALL.into_iter().find(|format| format.media_type() == media),
        }
    }
}

/// `text/html;q=0.8` → `text/html`, 0.8.
fn split_quality(range: &str) -> (&str, f32) {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
    (media, quality)
}

/// How long an answer's head may wait for the first row, so that an early error still decides the status.
const FIRST_ROW_WAIT: Duration = Duration::from_millis(300);

/// Reads up to the first row or end; a failure there becomes the answer's status. Returns all frames, none lost.
async fn fail_early(mut frames: Frames) -> ApiResult<Frames> {
    let mut seen = Vec::new();
    let deadline = tokio::time::Instant::now() + FIRST_ROW_WAIT;
    while let Ok(Some(frame)) = tokio::time::timeout_at(deadline, frames.next()).await {
        let enough = match frame {
            Frame::Failed(error) => return Err(error.into()),
            Frame::Columns { endless, .. } => endless,
            Frame::Rows(_) | Frame::Done(_) => true,
            Frame::Notices(_) => false,
        };
        seen.push(frame);
        if enough {
            break;
        }
    }
    Ok(stream::iter(seen).chain(frames).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<Format>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        assert_eq!(Format::negotiate(&headers).ok(), expected, "{accept}");
    }

    #[test]
    fn accept_decides() {
        assert_eq!(Format::negotiate(&HeaderMap::new()).ok(), Some(Format::Json));
        check("*/*", Some(Format::Json));
        check("text/event-stream", Some(Format::Sse));
        check("application/x-ndjson, application/json;q=0.9", Some(Format::Ndjson));
        check("text/html, application/vnd.apache.arrow.stream;q=0.2, */*;q=0.1", Some(Format::Arrow));
        check("Application/JSON", Some(Format::Json));
        check("text/html", None);
        check("application/json;q=0", None);
    }
}

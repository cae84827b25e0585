//! `application/x-ndjson`: the rows and nothing else, one JSON object a line, as they come.
//!
//! Statements without rows add nothing. A failure after the first row is the last line, `{"error": {…}}`, as in the
//! error body.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, future};
use laminar_core::Error;

use super::rows::{Shape, write_rows};
use super::{Format, Frame, Frames, fail_early};
use crate::error::{ApiResult, ErrorBody};

pub async fn answer(frames: Frames) -> ApiResult<Response> {
    let frames = fail_early(frames).await?;
    let lines = frames.filter_map(|frame| future::ready(lines(frame).map(Ok::<_, std::convert::Infallible>)));
    Ok(([(header::CONTENT_TYPE, Format::Ndjson.media_type())], Body::from_stream(lines)).into_response())
}

fn lines(frame: Frame) -> Option<Bytes> {
    match frame {
        Frame::Rows(batch) if batch.num_rows() > 0 => {
            let mut out = Vec::new();
            if let Err(error) = write_rows(&batch, Shape::Object, b'\n', &mut out) {
                return Some(error_line(&error));
            }
            out.push(b'\n');
            Some(out.into())
        }
        Frame::Failed(error) => Some(error_line(&error)),
        Frame::Rows(_) | Frame::Columns { .. } | Frame::Notices(_) | Frame::Done(_) => None,
    }
}

fn error_line(error: &Error) -> Bytes {
    let mut line = serde_json::to_vec(&ErrorBody::new(error)).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

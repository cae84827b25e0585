//! `text/event-stream` (Server-Sent Events): the pieces of the JSON answer, each as soon as it is known.
//!
//! ```text
//! event: columns   data: {"columns":[{"name":"id","type":"BIGINT"}]}     a statement's rows follow; with "endless":true
//!                                                                        they have no end of their own
//! event: rows      data: {"rows":[[1],[2]]}
//! event: notices   data: {"notices":[{"code":"preview","message":"…"}]}
//! event: done      data: {"tag":"SELECT 2"}                              the statement is done
//! event: error     data: {"error":{…}}                                   the script failed; nothing follows
//! event: end       data: {}                                              the script is done
//! ```
//!
//! A stream that stops without `error` or `end` was cut off. This is what `laminar sql` speaks.

use std::convert::Infallible;

use arrow::array::RecordBatch;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use laminar_core::{Error, Result};
use serde::Serialize;

use super::rows::{ColumnInfo, Shape, columns, write_rows};
use super::{Frame, Frames};
use crate::error::ErrorBody;

/// Rows of one event, so that a reader shows the first ones early.
const ROWS_PER_EVENT: usize = 500;

pub fn answer(frames: Frames) -> Response {
    let events = frames
        .map(Some)
        .chain(stream::iter([None]))
        .scan(false, |failed, frame| {
            let events = match &frame {
                None if *failed => Vec::new(),
                None => vec![event("end", "{}".to_string())],
                Some(frame) => frame_events(frame).unwrap_or_else(|error| {
                    *failed = true;
                    vec![error_event(&error)]
                }),
            };
            *failed |= matches!(frame, Some(Frame::Failed(_)));
            std::future::ready(Some(events))
        })
        .flat_map(|events| stream::iter(events.into_iter().map(Ok::<_, Infallible>)));
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

fn frame_events(frame: &Frame) -> Result<Vec<Event>> {
    Ok(match frame {
        Frame::Columns { schema, endless } => vec![columns_event(&columns(schema), *endless)?],
        Frame::Rows(batch) => rows_events(batch)?,
        Frame::Notices(notices) => vec![json_event("notices", "notices", notices)?],
        Frame::Done(done) => vec![event("done", json(done)?)],
        Frame::Failed(error) => vec![error_event(error)],
    })
}

fn columns_event(columns: &[ColumnInfo], endless: bool) -> Result<Event> {
    let end = if endless { ",\"endless\":true}" } else { "}" };
    Ok(event("columns", format!("{{\"columns\":{}{end}", json(columns)?)))
}

fn rows_events(batch: &RecordBatch) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for start in (0..batch.num_rows()).step_by(ROWS_PER_EVENT) {
        let part = batch.slice(start, ROWS_PER_EVENT.min(batch.num_rows() - start));
        let mut out = b"{\"rows\":[".to_vec();
        write_rows(&part, Shape::Array, b',', &mut out)?;
        out.extend_from_slice(b"]}");
        let text =
            String::from_utf8(out).map_err(|_| Error::internal("rows were written as something else than UTF-8"))?;
        events.push(event("rows", text));
    }
    Ok(events)
}

fn json_event(name: &str, key: &str, value: &(impl Serialize + ?Sized)) -> Result<Event> {
    let value = json(value)?;
    Ok(event(name, format!("{{\"{key}\":{value}}}")))
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("an event cannot be written: {error}")))
}

fn error_event(error: &Error) -> Event {
    event("error", serde_json::to_string(&ErrorBody::new(error)).unwrap_or_default())
}

fn event(name: &str, data: String) -> Event {
    Event::default().event(name).data(data)
}

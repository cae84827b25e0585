//! What a statement answers: done, or rows.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;
use laminar_core::Result;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The answer of one statement.
pub enum Outcome {
    Done {
        /// As PostgreSQL's command tag: `CREATE TABLE`, `INSERT 0 3`.
        tag: String,
        notices: Vec<Notice>,
    },
    Rows {
        schema: SchemaRef,
        /// Dropping the stream ends the query. A SUBSCRIBE has no end of its own.
        rows: BoxStream<'static, Result<RecordBatch>>,
        /// Known before the first row.
        notices: Vec<Notice>,
        /// Known once `rows` has ended.
        late: LateNotices,
        /// `SELECT`, `SHOW`, `EXPLAIN`, `SUBSCRIBE`; a door appends the number of rows where its protocol wants it.
        tag: String,
    },
}

/// Something the user should know that is not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Notice {
    /// Stable name: `preview`, `preview_limit`, `preview_timeout`, `shared_group`, `already_exists`, …
    pub code: String,
    pub message: String,
}

impl Notice {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// Notices that come up while rows flow, such as that a preview ran into its time limit.
#[derive(Clone, Debug, Default)]
pub struct LateNotices(Arc<Mutex<Vec<Notice>>>);

impl LateNotices {
    pub fn push(&self, notice: Notice) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }
    /// Removes and returns what has come up so far.
    pub fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Outcome {
    pub fn done(tag: impl Into<String>) -> Self {
        Self::Done { tag: tag.into(), notices: Vec::new() }
    }
    pub fn done_with(tag: impl Into<String>, notices: Vec<Notice>) -> Self {
        Self::Done { tag: tag.into(), notices }
    }
    /// Rows that are all at hand.
    pub fn rows(tag: impl Into<String>, batch: RecordBatch) -> Self {
        Self::rows_with(tag, batch, Vec::new())
    }
    pub fn rows_with(tag: impl Into<String>, batch: RecordBatch, notices: Vec<Notice>) -> Self {
        Self::Rows {
            schema: batch.schema(),
            rows: futures::stream::iter([Ok(batch)]).boxed(),
            notices,
            late: LateNotices::default(),
            tag: tag.into(),
        }
    }
    pub fn tag(&self) -> &str {
        match self {
            Self::Done { tag, .. } | Self::Rows { tag, .. } => tag,
        }
    }
    /// All rows of the answer, for callers that know it to be small and finite; none for `Done`.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        let Self::Rows { mut rows, .. } = self else { return Ok(Vec::new()) };
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { tag, notices } => f.debug_struct("Done").field("tag", tag).field("notices", notices).finish(),
            Self::Rows { schema, tag, notices, .. } => {
                f.debug_struct("Rows").field("tag", tag).field("schema", schema).field("notices", notices).finish()
            }
        }
    }
}

//! SUBSCRIBE TO a pipeline: its rows as they come, until the client goes away or the pipeline is dropped. Those of a pipeline
//! that updates its rows have one column more, the first: what becomes of the row.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use laminar_core::{ChangeKind, Changes, Code, Error, Result};
use laminar_engine::{Keep, RelationHandle};
use laminar_planner::statement::{Name, ObjectKind};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::System;
use crate::outcome::{LateNotices, Notice, Outcome};

/// First column of rows that change.
const KIND: &str = "_change";

fn kind_text(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Insert => "insert",
        ChangeKind::UpdateBefore => "update_before",
        ChangeKind::UpdateAfter => "update_after",
        ChangeKind::Delete => "delete",
    }
}

/// Errors: `unknown_pipeline`; `wrong_object_kind` if it writes to sinks; `wrong_state` if it has not run yet.
pub(crate) fn subscribe(system: &System, name: &Name) -> Result<Outcome> {
    let catalog = system.catalog();
    let Some(pipeline) = catalog.pipelines.get(&name.value) else {
        return Err(catalog.unknown(ObjectKind::Pipeline, name));
    };
    if pipeline.planned.result.is_none() {
        let sinks = pipeline.planned.sinks.join(", ");
        return Err(Error::new(
            Code::WrongObjectKind,
            format!("pipeline {} writes to {sinks} and keeps no result", name.value),
        )
        .with_hint("follow a pipeline AS SELECT …, or read what this one writes through a source table")
        .at(name.location));
    }
    let relation: Option<RelationHandle> = system.results().get(&pipeline.id).cloned();
    let Some(relation) = relation else {
        return Err(Error::new(
            Code::WrongState,
            format!("pipeline {} has not run since the server started", name.value),
        )
        .with_hint(format!("START PIPELINE {}", name.value))
        .at(name.location));
    };
    let late = LateNotices::default();
    let schema = match relation.keeps(Keep::Current) {
        true => with_kind(relation.schema()),
        false => Arc::clone(relation.schema()),
    };
    let (late_notices, pipeline) = (late.clone(), name.value.clone());
    let follower =
        Follower { changes: relation.subscribe(), schema: Arc::clone(&schema), late: late_notices, pipeline };
    Ok(Outcome::Rows {
        schema,
        rows: futures::stream::unfold(follower, |mut follower| async {
            let rows = follower.next().await?;
            Some((rows, follower))
        })
        .boxed(),
        notices: Vec::new(),
        late,
        tag: "SUBSCRIBE".to_string(),
    })
}

/// The columns behind one that says what becomes of the row.
fn with_kind(schema: &SchemaRef) -> SchemaRef {
    let kind = Arc::new(Field::new(KIND, DataType::Utf8, false));
    Arc::new(Schema::new(std::iter::once(kind).chain(schema.fields().iter().cloned()).collect::<Vec<_>>()))
}

struct Follower {
    changes: Receiver<Changes>,
    schema: SchemaRef,
    late: LateNotices,
    pipeline: String,
}

impl Follower {
    /// `None` when the pipeline is gone.
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            match self.changes.recv().await {
                Ok(changes) => return Some(self.rows(&changes)),
                Err(RecvError::Lagged(batches)) => {
                    let message = format!("{batches} batches of {} were lost: the reader was too slow", self.pipeline);
                    self.late.push(Notice::new("lagged", message));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn rows(&self, changes: &Changes) -> Result<RecordBatch> {
        let rows = changes.rows();
        if rows.num_columns() == self.schema.fields().len() {
            return Ok(rows.clone());
        }
        let kinds: StringArray = match changes.kinds() {
            Some(kinds) => kinds.iter().map(|kind| Some(kind_text(kind))).collect(),
            None => std::iter::repeat_n(Some(kind_text(ChangeKind::Insert)), rows.num_rows()).collect(),
        };
        let mut columns: Vec<ArrayRef> = vec![Arc::new(kinds)];
        columns.extend_from_slice(rows.columns());
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

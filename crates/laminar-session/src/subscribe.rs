//! SUBSCRIBE TO a pipeline: its rows as they come, until the client goes away or the pipeline is dropped.

use arrow::array::RecordBatch;
use futures::StreamExt;
use laminar_core::{Changes, Code, Error, Result};
use laminar_engine::RelationHandle;
use laminar_planner::statement::{Name, ObjectKind};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::System;
use crate::outcome::{LateNotices, Notice, Outcome};

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
    let follower = Follower { changes: relation.subscribe(), late: late.clone(), pipeline: name.value.clone() };
    Ok(Outcome::Rows {
        schema: relation.schema().clone(),
        rows: futures::stream::unfold(follower, |mut follower| async {
            let rows = follower.next().await?;
            Some((Ok(rows), follower))
        })
        .boxed(),
        notices: Vec::new(),
        late,
        tag: "SUBSCRIBE".to_string(),
    })
}

struct Follower {
    changes: Receiver<Changes>,
    late: LateNotices,
    pipeline: String,
}

impl Follower {
    /// `None` when the pipeline is gone.
    async fn next(&mut self) -> Option<RecordBatch> {
        loop {
            match self.changes.recv().await {
                Ok(changes) => return Some(changes.rows().clone()),
                Err(RecvError::Lagged(batches)) => {
                    let message = format!("{batches} batches of {} were lost: the reader was too slow", self.pipeline);
                    self.late.push(Notice::new("lagged", message));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

//! `system.jobs`: one row per run of a pipeline, newest first.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

/// Jobs shown at most.
pub(crate) const LIMIT: usize = 10_000;

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "jobs",
    about: "One row per run of a pipeline, newest first; the newest 10,000.",
    columns: &[
        ("id", Text, "The job's id."),
        ("pipeline_id", Text, "Id of its pipeline."),
        ("pipeline_name", Text, "Name of its pipeline."),
        ("run_id", BigInt, "1 for the pipeline's first job, then counting."),
        (
            "state",
            Text,
            "`Created`, `Scheduling`, `Running`, `Stopping`, `Recovering`, `Stopped`, `Failed` or `Finished`.",
        ),
        ("restarts", BigInt, "Restarts after failures within this job."),
        ("failure_code", Text, "Code of the failure, as in the list of errors."),
        ("failure_message", Text, "Why it failed, or starts again."),
        ("failure_hint", Text, "What to do about it, where one can say."),
        ("created_at", Time, "When it was asked for."),
        ("start_time", Time, "When it first ran; null before."),
        ("finish_time", Time, "When it ended; null before."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let row = |j: crate::JobInfo| {
        vec![
            j.id.into(),
            j.pipeline_id.into(),
            j.pipeline_name.into(),
            j.run_id.into(),
            j.state.into(),
            j.restarts.into(),
            j.failure_code.into(),
            j.failure_message.into(),
            j.failure_hint.into(),
            Cell::Time(j.created_at),
            Cell::time(j.start_time),
            Cell::time(j.finish_time),
        ]
    };
    Ok(source.system.jobs(None, LIMIT).await?.into_iter().map(row).collect())
}

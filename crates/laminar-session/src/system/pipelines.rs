//! `system.pipelines`: one row per pipeline, oldest first.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "pipelines",
    about: "One row per pipeline, oldest first.",
    columns: &[
        ("id", Text, "The pipeline's id."),
        ("name", Text, "Its name."),
        ("state", Text, "State of its latest job, in lower case; `created` if it never had one."),
        ("parallelism", BigInt, "Parallel instances of its tasks."),
        ("checkpoint_interval_micros", BigInt, "Time between two checkpoints, in microseconds."),
        ("sources", Text, "Tables that it reads."),
        ("sinks", Text, "Tables that it writes."),
        ("job_id", Text, "Id of its latest job."),
        ("failure_message", Text, "Why that job failed, or starts again."),
        ("query", Text, "The statements that it runs, as written; credentials in them masked."),
        ("created_at", Time, "When it was created."),
        ("updated_at", Time, "When it was last changed."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let pipelines = source.system.pipelines().await?;
    let row = |p: crate::PipelineInfo| {
        vec![
            p.id.into(),
            p.name.into(),
            p.state.into(),
            p.parallelism.into(),
            p.checkpoint_interval_micros.into(),
            p.sources.join(", ").into(),
            p.sinks.join(", ").into(),
            p.job_id.into(),
            p.failure_message.into(),
            p.query.into(),
            Cell::Time(p.created_at),
            Cell::Time(p.updated_at),
        ]
    };
    Ok(pipelines.into_iter().map(row).collect())
}

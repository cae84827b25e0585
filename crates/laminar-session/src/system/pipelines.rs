//! `system.pipelines`: one row per pipeline, oldest first.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "pipelines",
    columns: &[
        ("id", Text),
        ("name", Text),
        ("state", Text),
        ("parallelism", BigInt),
        ("checkpoint_interval_micros", BigInt),
        ("sources", Text),
        ("sinks", Text),
        ("job_id", Text),
        ("failure_message", Text),
        ("query", Text),
        ("created_at", Time),
        ("updated_at", Time),
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

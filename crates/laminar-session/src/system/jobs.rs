//! `system.jobs`: one row per run of a pipeline, newest first.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

/// Jobs shown at most.
pub(crate) const LIMIT: usize = 10_000;

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "jobs",
    columns: &[
        ("id", Text),
        ("pipeline_id", Text),
        ("pipeline_name", Text),
        ("run_id", BigInt),
        ("state", Text),
        ("restarts", BigInt),
        ("failure_code", Text),
        ("failure_message", Text),
        ("created_at", Time),
        ("start_time", Time),
        ("finish_time", Time),
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
            Cell::Time(j.created_at),
            Cell::time(j.start_time),
            Cell::time(j.finish_time),
        ]
    };
    Ok(source.system.jobs(None, LIMIT).await?.into_iter().map(row).collect())
}

//! `system.checkpoints`: the latest checkpoints of every pipeline, newest first within one.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

/// Checkpoints shown per pipeline at most.
const LIMIT: usize = 1_000;

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "checkpoints",
    columns: &[
        ("id", Text),
        ("pipeline_id", Text),
        ("pipeline_name", Text),
        ("job_id", Text),
        ("epoch", BigInt),
        ("state", Text),
        ("start_time", Time),
        ("finish_time", Time),
        ("size_bytes", BigInt),
        ("location", Text),
        ("detail", Text),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for pipeline in source.system.pipelines().await? {
        for c in source.system.pipeline_checkpoints(&pipeline.id, LIMIT).await? {
            rows.push(vec![
                c.id.into(),
                c.pipeline_id.into(),
                pipeline.name.clone().into(),
                c.job_id.into(),
                c.epoch.into(),
                c.state.into(),
                Cell::Time(c.start_time),
                Cell::time(c.finish_time),
                c.size_bytes.map_or(Cell::Null, Cell::count),
                c.location.into(),
                c.detail.to_string().into(),
            ]);
        }
    }
    Ok(rows)
}

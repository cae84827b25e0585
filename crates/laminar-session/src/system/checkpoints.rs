//! `system.checkpoints`: the latest checkpoints of every pipeline, newest first within one.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

/// Checkpoints shown per pipeline at most.
const LIMIT: usize = 1_000;

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "checkpoints",
    about: "The latest 1,000 checkpoints of every pipeline, newest first within one.",
    columns: &[
        ("id", Text, "`<job id>-<epoch>`."),
        ("pipeline_id", Text, "Id of its pipeline."),
        ("pipeline_name", Text, "Name of its pipeline."),
        ("job_id", Text, "Id of the job that made it."),
        ("epoch", BigInt, "Its number, which grows over all jobs of a pipeline."),
        ("state", Text, "`in_progress`, `completed` or `failed`; what failed is part of the next one."),
        ("start_time", Time, "When its barrier was sent."),
        ("finish_time", Time, "When it was committed or failed; null before."),
        ("size_bytes", BigInt, "Bytes of its files; null before they are known."),
        ("location", Text, "Where its files are."),
        (
            "detail",
            Text,
            "JSON: the next record to read per source and split, and the files of state; of a failed one `failure`, why it failed.",
        ),
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

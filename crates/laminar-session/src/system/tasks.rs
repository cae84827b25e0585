//! `system.tasks`: one row per parallel instance of each operator of each pipeline's latest job in this process.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "tasks",
    about: "One row per parallel instance of each operator, of each pipeline's latest job in this process. `system.metrics` has their sums.",
    columns: &[
        ("pipeline_name", Text, "Name of the pipeline."),
        ("job_id", Text, "Id of the job."),
        ("operator_id", Text, "Stable id of the operator, such as `source-0`."),
        ("task", BigInt, "Which instance, from 0."),
        ("records_in", BigInt, "Rows that came in; of a source, records read."),
        ("records_out", BigInt, "Rows that went out."),
        ("paused_splits", BigInt, "Splits of a source that wait for slower ones, as `max_watermark_drift` says."),
        ("watermark", Time, "Event time up to which its input is complete; null before the first."),
        ("watermark_lag_ms", BigInt, "How far that is behind the server's time."),
        (
            "alignment_micros",
            BigInt,
            "Time that it waited at barriers for its other inputs. Operators that run in one task wait together: it stands at the first.",
        ),
        ("last_alignment_micros", BigInt, "The same at the last barrier."),
        (
            "commit_wait_micros",
            BigInt,
            "Time that rows waited in front of a sink for the commit of the rows before them.",
        ),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let now = source.system.now_micros();
    let mut rows = Vec::new();
    for (pipeline, job, tasks) in source.system.job_tasks() {
        for t in tasks {
            rows.push(vec![
                pipeline.clone().into(),
                job.clone().into(),
                t.operator.as_str().into(),
                Cell::count(t.index.into()),
                t.rows_in.into(),
                t.rows_out.into(),
                t.paused_splits.into(),
                Cell::time(t.watermark_micros.map(|w| w / 1_000)),
                t.watermark_micros.map(|w| now.saturating_sub(w) / 1_000).into(),
                t.alignment_micros.into(),
                t.last_alignment_micros.into(),
                t.commit_wait_micros.into(),
            ]);
        }
    }
    Ok(rows)
}

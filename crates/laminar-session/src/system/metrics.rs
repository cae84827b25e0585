//! `system.metrics`: one row per operator of each pipeline's latest job in this process, in the order of their ids.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "metrics",
    about: "One row per operator of each pipeline's latest job in this process; those of a job in the order of their ids, as text. Counters begin at zero with each start.",
    columns: &[
        ("pipeline_name", Text, "Name of the pipeline."),
        ("job_id", Text, "Id of the job."),
        ("operator_id", Text, "Stable id of the operator, such as `source-0`."),
        ("operator_name", Text, "What it does."),
        ("kind", Text, "`source`, `operator` or `sink`."),
        ("parallelism", BigInt, "Its parallel instances; the numbers are their sum."),
        ("records_in", BigInt, "Rows that came in; of a source, records read."),
        ("records_out", BigInt, "Rows that went out."),
        ("bytes_in", BigInt, "Bytes read, of a source."),
        ("batches", BigInt, "Batches that came in."),
        (
            "errors",
            BigInt,
            "Of a source: records that could not be decoded, and rows for which something could not be computed.",
        ),
        ("late_rows", BigInt, "Rows of a source that came behind the watermark and were left out."),
        ("dead_letters", BigInt, "Records of a source that were written to the dead letters."),
        ("lost_records", BigInt, "Records that were gone before a source read them, where `on_data_loss` allows it."),
        ("watermark", Time, "Event time up to which its input is complete; null before the first."),
        ("watermark_lag_ms", BigInt, "How far that is behind the server's time."),
        (
            "alignment_micros",
            BigInt,
            "Time that its instances waited at barriers for their other inputs, all barriers together.",
        ),
        ("last_alignment_micros", BigInt, "The same at the last barrier, of the instance that waited longest."),
        (
            "commit_wait_micros",
            BigInt,
            "Time that rows waited in front of a sink for the commit of the rows before them.",
        ),
        (
            "state_rows",
            BigInt,
            "Rows in the files that are its state in the last checkpoint, at most about twice what is live; null without state.",
        ),
        ("state_bytes", BigInt, "Bytes of these files."),
        ("checkpoint_bytes", BigInt, "Bytes that the last checkpoint wrote of it."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let now = source.system.now_micros();
    let mut rows = Vec::new();
    for (pipeline, job, snapshot) in source.system.job_snapshots() {
        for o in snapshot.operators {
            rows.push(vec![
                pipeline.clone().into(),
                job.clone().into(),
                o.operator.as_str().into(),
                o.name.into(),
                crate::resources::kind_text(o.kind).into(),
                Cell::count(o.parallelism.into()),
                o.rows_in.into(),
                o.rows_out.into(),
                o.bytes_in.into(),
                o.batches_in.into(),
                o.bad_records.into(),
                o.late_rows.into(),
                o.dead_letters.into(),
                o.lost_records.into(),
                Cell::time(o.watermark_micros.map(|w| w / 1_000)),
                o.watermark_micros.map(|w| now.saturating_sub(w) / 1_000).into(),
                o.alignment_micros.into(),
                o.last_alignment_micros.into(),
                o.commit_wait_micros.into(),
                o.state.map_or(Cell::Null, |s| s.rows.into()),
                o.state.map_or(Cell::Null, |s| s.bytes.into()),
                o.state.map_or(Cell::Null, |s| s.written.into()),
            ]);
        }
    }
    Ok(rows)
}

//! `system.metrics`: one row per operator of each pipeline's latest job in this process, sources first.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text, Time};
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "metrics",
    columns: &[
        ("pipeline_name", Text),
        ("job_id", Text),
        ("operator_id", Text),
        ("operator_name", Text),
        ("kind", Text),
        ("parallelism", BigInt),
        ("records_in", BigInt),
        ("records_out", BigInt),
        ("bytes_in", BigInt),
        ("batches", BigInt),
        ("errors", BigInt),
        ("watermark", Time),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
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
                Cell::time(o.watermark_micros.map(|w| w / 1_000)),
            ]);
        }
    }
    Ok(rows)
}

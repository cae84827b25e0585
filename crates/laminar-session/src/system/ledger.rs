//! `system.ledger`: where every row went, of each operator up to each of the latest checkpoints.

use laminar_core::Result;

use super::ColumnType::{BigInt, Text};
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "ledger",
    about: "Where every row went: one row per operator and checkpoint, of the latest 20 checkpoints of each pipeline's latest job in this process. The numbers count from the job's start. A checkpoint whose sums do not agree is not committed: the job fails, and says which operator lost count.",
    columns: &[
        ("pipeline_name", Text, "Name of the pipeline."),
        ("job_id", Text, "Id of the job."),
        ("epoch", BigInt, "Number of the checkpoint."),
        ("operator_id", Text, "Stable id of the operator, such as `source-0`."),
        ("table_name", Text, "The table, of a source or a sink."),
        (
            "records_read",
            BigInt,
            "Of a source: records. They and `extra_rows` are all others of its row but `dead_letters` together.",
        ),
        ("extra_rows", BigInt, "Of a source: rows beyond the first of their record, where a record may be several."),
        (
            "no_rows",
            BigInt,
            "Of a source: records that are no row, and nothing is wrong with them, such as tombstones of a change feed.",
        ),
        ("bad_records", BigInt, "Of a source: records that cannot be decoded."),
        ("late_rows", BigInt, "Of a source: rows behind the watermark that were left out."),
        ("dead_letters", BigInt, "Of a source: records in the dead letters; each is bad, late or rejected somewhere."),
        (
            "records_in",
            BigInt,
            "Rows that came in, as many as were sent. Of an operator that keeps none, they are `rejected`, `filtered` and `records_out` together.",
        ),
        ("rejected", BigInt, "Rows for which something cannot be computed."),
        (
            "unroutable",
            BigInt,
            "Of those that went out, rows that did not come everywhere: the key by which they are shared out cannot be computed.",
        ),
        ("filtered", BigInt, "Rows that the query leaves out; null for an operator that keeps rows or makes some."),
        ("records_out", BigInt, "Rows that went out; of a sink: that its writer took."),
        (
            "found",
            BigInt,
            "Rows in the operator's state when the job started; of a grouping groups, of OVER distinct rows. With `records_in` they are, of a join or an upsert, `released` and `held` together; null for an operator that keeps nothing.",
        ),
        (
            "released",
            BigInt,
            "Rows that it does not keep, or not any more, such as those replaced, deleted or too old to be joined; null for a grouping: its groups are not the rows that come.",
        ),
        ("held", BigInt, "Rows, or groups, in its state now; null for an operator that keeps nothing."),
        ("difference", BigInt, "Rows that are missing: always 0; null if that cannot be said."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (pipeline, job, ledger) in source.system.job_ledgers() {
        for entry in ledger {
            let counts = entry.counts;
            rows.push(vec![
                pipeline.clone().into(),
                job.clone().into(),
                entry.epoch.0.into(),
                entry.operator.as_str().into(),
                entry.table.into(),
                counts.read.into(),
                counts.extra.into(),
                counts.none.into(),
                counts.bad.into(),
                counts.late.into(),
                counts.dead.into(),
                counts.rows_in.into(),
                counts.rejected.into(),
                counts.unroutable.into(),
                counts.filtered.map_or(Cell::Null, Cell::from),
                counts.rows_out.into(),
                counts.held.map_or(Cell::Null, |_| counts.found.into()),
                counts.released.map_or(Cell::Null, Cell::from),
                counts.held.map_or(Cell::Null, Cell::from),
                entry.difference.into(),
            ]);
        }
    }
    Ok(rows)
}

//! `system.kafka_partitions`: one row per partition of each topic of each connection to Kafka, asked now; a cluster that does not answer is one row with its error.

use laminar_core::Result;
use laminar_core::cluster::PartitionInfo;

use super::ColumnType::{BigInt, Text};
use super::rows::with_errors;
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "kafka_partitions",
    about: "One row per partition of each topic of each connection to Kafka, asked now; a cluster that does not answer is one row with its error.",
    columns: &[
        ("connection", Text, "The connection."),
        ("topic", Text, "Its topic."),
        ("partition", BigInt, "Its number."),
        ("leader", BigInt, "Id of the broker that serves it; null while there is none."),
        ("replicas", Text, "Ids of the brokers that have a copy."),
        ("in_sync_replicas", Text, "Those of them that are up to date."),
        ("low_watermark", BigInt, "Offset of the oldest record that is kept."),
        ("high_watermark", BigInt, "Offset of the record that comes next."),
        ("error", Text, "Why its cluster does not answer; the other columns are null then."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let answers =
        source.system.ask_clusters(source.connection.as_deref(), |c| async move { c.partitions().await }).await;
    let list = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let row = |p: PartitionInfo| {
        vec![
            p.topic.into(),
            Cell::BigInt(p.partition.into()),
            p.leader.map(i64::from).into(),
            list(&p.replicas).into(),
            list(&p.in_sync).into(),
            p.low_watermark.into(),
            p.high_watermark.into(),
        ]
    };
    Ok(with_errors(answers, 7, |partitions: Vec<PartitionInfo>| partitions.into_iter().map(row).collect()))
}

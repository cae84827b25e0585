//! `system.kafka_topics`: one row per topic of each connection to Kafka, asked now; a cluster that does not answer is one row with its error.

use laminar_core::Result;
use laminar_core::cluster::TopicInfo;

use super::ColumnType::{BigInt, Boolean, Text};
use super::rows::with_errors;
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "kafka_topics",
    about: "One row per topic of each connection to Kafka, asked now; a cluster that does not answer is one row with its error.",
    columns: &[
        ("connection", Text, "The connection."),
        ("topic", Text, "Its name."),
        ("partitions", BigInt, "Number of its partitions."),
        ("replication_factor", BigInt, "Copies of each."),
        ("is_internal", Boolean, "Made by the brokers or by Laminar for themselves."),
        ("cleanup_policy", Text, "`delete`, `compact` or both."),
        ("retention_ms", BigInt, "How long records are kept; -1: for ever."),
        ("retention_bytes", BigInt, "How much of each partition is kept; -1: all."),
        ("error", Text, "Why its cluster does not answer; the other columns are null then."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let answers = source.system.ask_clusters(source.connection.as_deref(), |c| async move { c.topics().await }).await;
    let row = |t: TopicInfo| {
        vec![
            t.name.into(),
            Cell::count(t.partitions as u64),
            Cell::count(t.replication_factor as u64),
            t.is_internal.into(),
            t.cleanup_policy.into(),
            t.retention_ms.into(),
            t.retention_bytes.into(),
        ]
    };
    Ok(with_errors(answers, 7, |topics: Vec<TopicInfo>| topics.into_iter().map(row).collect()))
}

//! `system.kafka_brokers`: one row per broker of each connection to Kafka, asked now; a cluster that does not answer is one row with its error.

use laminar_core::Result;
use laminar_core::cluster::BrokerInfo;

use super::ColumnType::{BigInt, Text};
use super::rows::with_errors;
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "kafka_brokers",
    about: "One row per broker of each connection to Kafka, asked now; a cluster that does not answer is one row with its error.",
    columns: &[
        ("connection", Text, "The connection."),
        ("broker_id", BigInt, "The broker's id."),
        ("host", Text, "The host that clients are sent to."),
        ("port", BigInt, "Its port."),
        ("error", Text, "Why its cluster does not answer; the other columns are null then."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let answers = source.system.ask_clusters(source.connection.as_deref(), |c| async move { c.brokers().await }).await;
    let row = |b: BrokerInfo| vec![Cell::BigInt(b.id.into()), b.host.into(), Cell::BigInt(b.port.into())];
    Ok(with_errors(answers, 3, |brokers: Vec<BrokerInfo>| brokers.into_iter().map(row).collect()))
}

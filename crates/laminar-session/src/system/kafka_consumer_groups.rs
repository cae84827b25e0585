//! `system.kafka_consumer_groups`: one row per partition in which a consumer group stands, one for a group that stands nowhere, of each connection to Kafka, asked now; a cluster that does not answer is one row with its error.

use laminar_core::Result;
use laminar_core::cluster::{GroupInfo, GroupOffset};
use serde_json::{Value, json};

use super::ColumnType::{BigInt, Text};
use super::rows::with_errors;
use super::{Cell, Row, Source, SystemTable};

pub(crate) const TABLE: SystemTable = SystemTable {
    name: "kafka_consumer_groups",
    about: "One row per partition in which a consumer group stands, one for a group that stands nowhere, of each connection to Kafka, asked now; a cluster that does not answer is one row with its error.",
    columns: &[
        ("connection", Text, "The connection."),
        ("group_id", Text, "The group."),
        ("state", Text, "As the broker calls it: `Stable`, `Empty`, `Dead` and others."),
        ("protocol", Text, "How its members share partitions."),
        ("members", BigInt, "Number of its members."),
        ("member_ids", Text, "JSON: each member's id, client and host."),
        ("topic", Text, "The topic in which it stands."),
        ("partition", BigInt, "The partition."),
        ("committed_offset", BigInt, "The next record to read."),
        ("end_offset", BigInt, "Offset of the record that comes next."),
        ("lag", BigInt, "Records that it has not read."),
        ("error", Text, "Why its cluster does not answer; the other columns are null then."),
    ],
    rows: |source| Box::pin(rows(source)),
};

async fn rows(source: &Source) -> Result<Vec<Row>> {
    let answers = source.system.ask_clusters(source.connection.as_deref(), |c| async move { c.groups().await }).await;
    Ok(with_errors(answers, 10, |groups: Vec<GroupInfo>| groups.iter().flat_map(group_rows).collect()))
}

fn group_rows(group: &GroupInfo) -> Vec<Row> {
    let members = group.members.iter();
    let members: Vec<_> = members.map(|m| json!({"id": m.id, "client_id": m.client_id, "host": m.host})).collect();
    let of_group = || -> Row {
        vec![
            group.id.clone().into(),
            group.state.clone().into(),
            group.protocol.clone().into(),
            Cell::count(group.members.len() as u64),
            Value::from(members.clone()).to_string().into(),
        ]
    };
    if group.offsets.is_empty() {
        return vec![[of_group(), vec![Cell::Null; 5]].concat()];
    }
    let row = |o: &GroupOffset| {
        let stands = vec![
            o.topic.clone().into(),
            Cell::BigInt(o.partition.into()),
            Cell::BigInt(o.committed),
            o.end.into(),
            o.lag().into(),
        ];
        [of_group(), stands].concat()
    };
    group.offsets.iter().map(row).collect()
}

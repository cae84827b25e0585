//! Read in one cluster, write in another: the transaction, and with it the marker, is in the one that is written to.

use laminar_core::sink::SourceProgress;
use laminar_core::source::ConsumerGroup;
use laminar_core::{Epoch, Position, SplitId};

use super::buffer::OwnBroker;
use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_from_one_cluster_to_another_exactly_once() {
    let from = topic("from", 1).await;
    put(&from, (0..6).map(|i| value(0, format!(r#"{{"id":{i},"name":"n{i}"}}"#))));
    let other = OwnBroker::start();
    let source = open_source(&[("topic", &from)], Some("p"));
    let split = SplitId::new(format!("{from}/0"));
    let installation = Installation::new();
    let pairs = [("bootstrap_servers", other.address.as_str()), ("topic", "to")];

    // Epoch 1 is committed; of epoch 2 rows are written, and the process dies.
    let sink = installation.sink(&pairs).unwrap();
    let mut open = open_sink(&sink).await;
    let mut records = reader(&source).await;
    let progress = |position: u64| SourceProgress {
        group: Some(ConsumerGroup { cluster: bootstrap(), group_id: "laminar-p".into() }),
        positions: vec![(split.clone(), Position(position))],
    };
    let seen = take(&mut records, 6).await;
    let row = |seen: &Seen| serde_json::from_str::<serde_json::Value>(seen.3.as_deref().unwrap()).unwrap();
    let rows = |seen: &[Seen]| {
        let pair = |v: serde_json::Value| (v["id"].as_i64().unwrap(), v["name"].as_str().unwrap().to_string());
        changes(seen.iter().map(row).map(pair).collect::<Vec<_>>())
    };
    open.writer.write(&rows(&seen[..4])).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    let mut first = super::transaction::marker(1);
    first.positions = [("source-0".into(), [(split.clone(), Position(4))].into())].into();
    open.committer.commit(&first, &[progress(4)]).await.unwrap();
    open.writer.write(&rows(&seen[4..])).await.unwrap();
    open.writer.flush(Epoch(2)).await.unwrap();
    drop((open, sink));

    // The marker of the other cluster says where to go on in this one.
    let second = installation.restarted();
    let sink = second.sink(&pairs).unwrap();
    let mut open = open_sink(&sink).await;
    let marker = open.marker.clone().unwrap();
    assert_eq!(marker, first);
    let mut records = reader_at(&source, &[(split.clone(), marker.positions[&"source-0".into()][&split])]).await;
    let seen = take(&mut records, 2).await;
    open.writer.write(&rows(&seen)).await.unwrap();
    open.writer.flush(Epoch(2)).await.unwrap();
    open.committer.commit(&super::transaction::marker(2), &[progress(6)]).await.unwrap();

    let expected: Vec<String> = (0..6).map(|i| format!(r#"{{"id":{i},"name":"n{i}"}}"#)).collect();
    assert_eq!(values(&read_at(&other.address, "to", "read_committed").await), expected);
    assert_eq!(committed("laminar-p", &from, 0).await, None, "a group of another cluster is not in the transaction");
}

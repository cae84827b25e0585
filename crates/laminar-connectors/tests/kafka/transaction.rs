//! Exactly-once: visibility, markers, fencing, offsets, and what a crash leaves behind.

use std::collections::BTreeMap;
use std::time::Duration;

use laminar_connectors::kafka::PROGRESS_TOPIC;
use laminar_core::sink::{Delivery, Marker, SourceProgress};
use laminar_core::source::ConsumerGroup;
use laminar_core::{Code, Epoch, OperatorId, Position, SplitId};
use rdkafka::producer::{BaseProducer, Producer};

use super::support::*;

pub fn marker(epoch: u64) -> Marker {
    let splits = BTreeMap::from([(SplitId::from("in/0"), Position(epoch * 10))]);
    Marker {
        version: 1,
        epoch: Epoch(epoch),
        manifest_digest: format!("{epoch:064x}"),
        positions: BTreeMap::from([(OperatorId::from("source-0"), splits)]),
        watermark: Some(epoch as i64),
        previous: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_become_visible_with_the_commit() {
    let topic = topic("sink", 2).await;
    let sink = Installation::new().sink(&[("topic", &topic)]).unwrap();
    assert_eq!(sink.delivery(), Delivery::ExactlyOnce);
    let mut open = open_sink(&sink).await;
    assert_eq!(open.marker, None);
    for epoch in 1..=3 {
        let before = (epoch as i64 - 1) * 100;
        open.writer.write(&changes(names(before..before + 100))).await.unwrap();
        open.writer.flush(Epoch(epoch)).await.unwrap();
        assert_eq!(read(&topic, "read_uncommitted").await.len(), epoch as usize * 100);
        assert_eq!(read(&topic, "read_committed").await.len(), before as usize);
        open.committer.commit(&marker(epoch), &[]).await.unwrap();
        assert_eq!(read(&topic, "read_committed").await.len(), epoch as usize * 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_the_last_marker() {
    let topic = topic("sink", 1).await;
    let first = Installation::new();
    let sink = first.sink(&[("topic", &topic)]).unwrap();
    let mut open = open_sink(&sink).await;
    for epoch in 1..=3 {
        open.writer.write(&changes(names(0..1))).await.unwrap();
        open.writer.flush(Epoch(epoch)).await.unwrap();
        open.committer.commit(&marker(epoch), &[]).await.unwrap();
    }
    // Recovered again by the same object, as when a job restarts within its process.
    assert_eq!(open.committer.recover().await.unwrap(), Some(marker(3)));
    drop((open, sink));
    let second = first.restarted();
    assert_eq!(open_sink(&second.sink(&[("topic", &topic)]).unwrap()).await.marker, Some(marker(3)));
    assert_eq!(open_sink(&Installation::new().sink(&[("topic", &topic)]).unwrap()).await.marker, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_commit_leaves_nothing() {
    let topic = topic("sink", 1).await;
    let first = Installation::new();
    let sink = first.sink(&[("topic", &topic)]).unwrap();
    let mut open = open_sink(&sink).await;
    open.writer.write(&changes(names(0..10))).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    drop((open, sink));
    let second = first.restarted();
    let sink = second.sink(&[("topic", &topic)]).unwrap();
    let mut open = open_sink(&sink).await;
    assert_eq!(open.marker, None);
    open.writer.write(&changes(names(100..101))).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    open.committer.commit(&marker(1), &[]).await.unwrap();
    assert_eq!(values(&read(&topic, "read_committed").await), [r#"{"id":100,"name":"n100"}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_fenced() {
    let topic = topic("sink", 1).await;
    let first = Installation::new();
    let sink = first.sink(&[("topic", &topic)]).unwrap();
    let mut zombie = open_sink(&sink).await;
    zombie.writer.write(&changes(names(0..10))).await.unwrap();
    zombie.writer.flush(Epoch(1)).await.unwrap();

    let second = first.restarted();
    let new_sink = second.sink(&[("topic", &topic)]).unwrap();
    let mut new = open_sink(&new_sink).await;
    let error = zombie.committer.commit(&marker(1), &[]).await.err().unwrap();
    assert_eq!(error.code(), Code::Fenced, "{error:?}");
    let error = zombie.writer.write(&changes(names(0..10))).await.err().unwrap();
    assert_eq!(error.code(), Code::Fenced, "{error:?}");

    new.writer.write(&changes(names(50..51))).await.unwrap();
    new.writer.flush(Epoch(1)).await.unwrap();
    new.committer.commit(&marker(1), &[]).await.unwrap();
    assert_eq!(values(&read(&topic, "read_committed").await), [r#"{"id":50,"name":"n50"}"#]);
}

/// It may have heard nothing of it: paused, or cut off from the broker. What a person starts after that takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_looks_whether_another_took_over() {
    let topic = topic("sink", 1).await;
    let first = Installation::new();
    let sink = first.sink(&[("topic", &topic)]).unwrap();
    drop(open_sink(&sink).await);
    drop(open_sink(&sink).await);

    let second = first.restarted();
    let new_sink = second.sink(&[("topic", &topic)]).unwrap();
    let mut new = open_sink(&new_sink).await;
    let error = sink.committer().unwrap().recover().await.err().unwrap();
    assert_eq!(error.code(), Code::Fenced, "{error:?}");
    new.writer.write(&changes(names(50..51))).await.unwrap();
    new.writer.flush(Epoch(1)).await.unwrap();
    new.committer.commit(&marker(1), &[]).await.unwrap();

    assert_eq!(open_sink(&sink).await.marker.map(|m| m.epoch), Some(Epoch(1)));
}

/// The broker answers alike when a transaction stayed open too long; then nobody else took over, and the job goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_broker_gave_up_may_be_recovered() {
    let topic = topic("sink", 1).await;
    let installation = Installation::new();
    let sink = installation.sink(&[("topic", &topic)]).unwrap();
    let mut open = open_sink(&sink).await;
    open.writer.write(&changes(names(0..10))).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    // Ends our transaction and raises the epoch, as the broker does by itself after the timeout.
    let id = format!("laminar.{}.{}", installation.instance, installation.pipeline);
    let broker: BaseProducer = client(&[("transactional.id", &id)]).create().unwrap();
    broker.init_transactions(SOON).unwrap();
    let error = open.writer.flush(Epoch(1)).await.and(open.committer.commit(&marker(1), &[]).await).err().unwrap();
    assert_eq!(error.code(), Code::CommitUnknown, "{error:?}");
    assert_eq!(open.writer.write(&changes(names(0..1))).await.err().unwrap().code(), Code::CommitUnknown);

    let mut open = open_sink(&sink).await;
    assert_eq!(open.marker, None);
    open.writer.write(&changes(names(7..8))).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    open.committer.commit(&marker(1), &[]).await.unwrap();
    assert_eq!(values(&read(&topic, "read_committed").await), [r#"{"id":7,"name":"n7"}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_of_a_pipeline_share_one_transaction() {
    let (a, b) = (topic("a", 1).await, topic("b", 1).await);
    let installation = Installation::new();
    let sinks = [installation.sink(&[("topic", &a)]).unwrap(), installation.sink(&[("topic", &b)]).unwrap()];
    let error = installation.sink(&[("topic", &b), ("linger_ms", "77")]).err().unwrap();
    assert_eq!(error.code(), Code::ConflictingOptions, "{error:?}");
    assert_eq!(sinks[0].committer().unwrap().id(), sinks[1].committer().unwrap().id());
    let mut first = open_sink(&sinks[0]).await;
    let mut second = sinks[1].open(&task(1)).await.unwrap();
    first.writer.write(&changes(names(0..5))).await.unwrap();
    second.write(&changes(names(0..7))).await.unwrap();
    first.writer.flush(Epoch(1)).await.unwrap();
    second.flush(Epoch(1)).await.unwrap();
    assert_eq!((read(&a, "read_committed").await.len(), read(&b, "read_committed").await.len()), (0, 0));
    first.committer.commit(&marker(1), &[]).await.unwrap();
    assert_eq!((read(&a, "read_committed").await.len(), read(&b, "read_committed").await.len()), (5, 7));

    // While the job runs, a new graph of the pipeline may be planned with other settings; its job fences this one.
    let replaced = installation.sink(&[("topic", &b), ("compression", "zstd")]).unwrap();
    let next = open_sink(&replaced).await;
    assert_eq!(next.marker, Some(marker(1)));
    let fenced = first.committer.commit(&marker(2), &[]).await.unwrap_err();
    assert_eq!(fenced.code(), Code::Fenced, "{fenced:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_names_of_one_cluster_are_found_out() {
    let topic = topic("sink", 1).await;
    let other_name = bootstrap().replace("127.0.0.1", "localhost");
    let installation = Installation::new();
    let a = installation.sink(&[("topic", &topic)]).unwrap();
    let b = installation.sink(&[("topic", &topic), ("bootstrap_servers", &other_name)]).unwrap();
    a.committer().unwrap().recover().await.unwrap();
    let error = b.committer().unwrap().recover().await.err().unwrap();
    assert_eq!(error.code(), Code::ConflictingOptions, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_the_source_are_in_the_transaction() {
    let (input, output) = (topic("in", 2).await, topic("out", 1).await);
    let group_id = unique("group");
    let sink = Installation::new().sink(&[("topic", &output)]).unwrap();
    let mut open = open_sink(&sink).await;
    let progress = |cluster: &str, next: [u64; 2]| SourceProgress {
        group: Some(ConsumerGroup { cluster: cluster.into(), group_id: group_id.clone() }),
        positions: (0..2).map(|p| (SplitId::new(format!("{input}/{p}")), Position(next[p]))).collect(),
    };
    open.writer.write(&changes(names(0..1))).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    let cluster = open.committer.id().to_string();
    // The same split read by two sources of the pipeline: the one that lags counts.
    let sources = [progress(&cluster, [5, 9]), progress(&cluster, [7, 8]), progress("elsewhere:9092", [99, 99])];
    open.committer.commit(&marker(1), &sources).await.unwrap();
    assert_eq!(committed(&group_id, &input, 0).await, Some(5));
    assert_eq!(committed(&group_id, &input, 1).await, Some(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_waits_for_transactions_that_hide_the_marker() {
    let topic = topic("sink", 1).await;
    let first = Installation::new();
    {
        let sink = first.sink(&[("topic", &topic)]).unwrap();
        let mut open = open_sink(&sink).await;
        open.writer.write(&changes(names(0..1))).await.unwrap();
        open.writer.flush(Epoch(1)).await.unwrap();
        open.committer.commit(&marker(1), &[]).await.unwrap();
    }
    // Another pipeline died between its marker and its commit; ours, committed later, lies behind it.
    let other: BaseProducer = client(&[("transactional.id", &unique("other"))]).create().unwrap();
    other.init_transactions(SOON).unwrap();
    other.begin_transaction().unwrap();
    send(&other, PROGRESS_TOPIC, [Record { key: Some("other".into()), value: Some("{}".into()), ..Record::default() }]);
    {
        let second = first.restarted();
        let sink = second.sink(&[("topic", &topic)]).unwrap();
        let recovering = tokio::spawn(async move {
            let open = open_sink(&sink).await;
            open.marker
        });
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!recovering.is_finished(), "the end of the topic is hidden");
        other.abort_transaction(SOON).unwrap();
        assert_eq!(recovering.await.unwrap(), Some(marker(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_longer_than_the_broker_allows_says_what_to_change() {
    let topic = topic("sink", 1).await;
    let mut installation = Installation::new();
    installation.interval = Duration::from_secs(3600);
    let sink = installation.sink(&[("topic", &topic)]).unwrap();
    let error = sink.committer().unwrap().recover().await.err().unwrap();
    assert_eq!(error.code(), Code::InvalidOption, "{error:?}");
    assert!(
        error.hint().unwrap().contains("transaction.max.timeout.ms of the broker to at least 10800000"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_is_told_in_bounded_time() {
    let sink = Installation::new().sink(&[("topic", "t"), ("bootstrap_servers", "127.0.0.1:1")]).unwrap();
    let recovered = tokio::time::timeout(SOON, sink.committer().unwrap().recover()).await.unwrap();
    assert_eq!(recovered.err().unwrap().code(), Code::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_needs_recovered_transactions() {
    let topic = topic("sink", 1).await;
    let sink = Installation::new().sink(&[("topic", &topic)]).unwrap();
    assert_eq!(sink.open(&task(0)).await.err().unwrap().code(), Code::Internal);
}

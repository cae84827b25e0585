//! What the cluster tells of itself, and moving a group; judged by a client of the test's own.

use laminar_connectors::kafka::KafkaConnector;
use laminar_core::Code;
use laminar_core::cluster::{NewTopic, ResetTo, SharedClusterAdmin};
use laminar_core::connector::Connector;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::support::*;

fn cluster(pairs: &[(&str, &str)]) -> SharedClusterAdmin {
    KafkaConnector::new().cluster(&options(pairs)).unwrap().unwrap()
}

/// Commits as a consumer of its own would.
async fn commit(group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let consumer: BaseConsumer = client(&[("group.id", group)]).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_topics_and_partitions_are_told() {
    let topic = topic("cluster", 2).await;
    put(&topic, (0..5).map(|i| value(1, format!("{i}"))));
    let cluster = cluster(&[]);
    let brokers = cluster.brokers().await.unwrap();
    assert_eq!(brokers.len(), 1);
    assert_eq!(format!("{}:{}", brokers[0].host, brokers[0].port), bootstrap());

    let topics = cluster.topics().await.unwrap();
    let ours = topics.iter().find(|t| t.name == topic).unwrap();
    assert_eq!((ours.partitions, ours.replication_factor, ours.is_internal), (2, 1, false));
    assert_eq!(ours.cleanup_policy.as_deref(), Some("delete"));
    assert_eq!(ours.retention_ms, Some(-1));

    let partitions = cluster.partitions().await.unwrap();
    let ours: Vec<_> = partitions.iter().filter(|p| p.topic == topic).collect();
    let told: Vec<_> = ours.iter().map(|p| (p.partition, p.low_watermark, p.high_watermark)).collect();
    assert_eq!(told, [(0, Some(0), Some(0)), (1, Some(0), Some(5))]);
    assert!(ours.iter().all(|p| p.leader == Some(brokers[0].id) && p.in_sync == p.replicas && p.replicas.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_told_and_moved() {
    let topic = topic("cluster", 2).await;
    let group = unique("group");
    put(&topic, (0..10).map(|i| Record { millis: Some(1000 * (i + 1)), ..value(0, "x") }));
    commit(&group, &topic, &[(0, 4)]).await;
    let cluster = cluster(&[]);
    let found = cluster.groups().await.unwrap().into_iter().find(|g| g.id == group).unwrap();
    assert_eq!((found.state.as_str(), found.members.len()), ("Empty", 0));
    let offsets = found.offsets;
    assert_eq!(offsets.len(), 1);
    assert_eq!((offsets[0].topic.as_str(), offsets[0].partition, offsets[0].committed), (topic.as_str(), 0, 4));
    assert_eq!(offsets[0].lag(), Some(6));

    for (to, expected) in [
        (ResetTo::Earliest, 0),
        (ResetTo::Latest, 10),
        (ResetTo::Offset(7), 7),
        (ResetTo::Offset(70), 10),
        (ResetTo::Timestamp(3500), 3),
        (ResetTo::Timestamp(99_000), 10),
    ] {
        // Of every topic that it has: only partition 0 of this one.
        let moved = cluster.reset_offsets(&group, None, to).await.unwrap();
        assert_eq!(moved.iter().map(|m| m.committed).collect::<Vec<_>>(), [expected], "{to:?}");
        assert_eq!(committed(&group, &topic, 0).await, Some(expected), "{to:?}");
        assert_eq!(committed(&group, &topic, 1).await, None, "{to:?}");
    }
    // Of a topic: all its partitions, and a group that nobody had.
    let fresh = unique("group");
    assert_eq!(cluster.reset_offsets(&fresh, Some(&topic), ResetTo::Latest).await.unwrap().len(), 2);
    assert_eq!(committed(&fresh, &topic, 1).await, Some(0));

    let error = cluster.reset_offsets(&unique("group"), None, ResetTo::Latest).await.unwrap_err();
    assert_eq!((error.code(), error.hint().is_some()), (Code::NotFound, true));
    let error = cluster.reset_offsets(&group, Some(&unique("no")), ResetTo::Latest).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownTopic);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_members_is_not_moved() {
    let topic = topic("cluster", 1).await;
    let group = unique("group");
    put(&topic, [value(0, "x")]);
    let consumer: BaseConsumer = client(&[("group.id", &group), ("auto.offset.reset", "earliest")]).create().unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    let consumer = tokio::task::spawn_blocking(move || {
        while consumer.poll(std::time::Duration::from_millis(100)).is_none_or(|polled| polled.is_err()) {}
        consumer
    });
    let consumer = tokio::time::timeout(SOON, consumer).await.expect("the member gets no record").unwrap();
    let cluster = cluster(&[]);
    let error = cluster.reset_offsets(&group, Some(&topic), ResetTo::Latest).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongState, "{error:?}");
    assert!(error.detail().unwrap().contains("1 members"), "{error:?}");
    let members = cluster.groups().await.unwrap().into_iter().find(|g| g.id == group).unwrap().members;
    assert_eq!((members.len(), members[0].client_id.as_str(), members[0].host.as_str()), (1, "rdkafka", "127.0.0.1"));
    drop(consumer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_once_and_as_asked() {
    let cluster = cluster(&[]);
    let config = vec![("retention.ms".to_string(), "60000".to_string())];
    let name = unique("made");
    let new = NewTopic { name: name.clone(), partitions: Some(3), replication_factor: None, config };
    cluster.create_topic(&new).await.unwrap();
    let made = cluster.topics().await.unwrap().into_iter().find(|t| t.name == name).unwrap();
    assert_eq!((made.partitions, made.retention_ms), (3, Some(60_000)));
    assert_eq!(cluster.create_topic(&new).await.unwrap_err().code(), Code::DuplicateName);
    let wrong = [
        (NewTopic { name: unique("x"), replication_factor: Some(7), ..new.clone() }, "replication_factor"),
        (NewTopic { name: "a b".into(), ..new.clone() }, "topic"),
        (NewTopic { name: unique("x"), partitions: Some(0), ..new.clone() }, "partitions"),
        (NewTopic { name: unique("x"), config: vec![("retentoin.ms".into(), "1".into())], ..new.clone() }, "config"),
    ];
    for (new, field) in wrong {
        let error = cluster.create_topic(&new).await.unwrap_err();
        assert_eq!((error.code(), error.field()), (Code::InvalidOption, Some(field)), "{error:?}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_says_so() {
    let away = cluster(&[("bootstrap_servers", "127.0.0.1:1")]);
    assert_eq!(away.brokers().await.unwrap_err().code(), Code::Unreachable);
    assert_eq!(away.groups().await.unwrap_err().code(), Code::Unreachable);
    let new = NewTopic { name: unique("made"), partitions: None, replication_factor: None, config: Vec::new() };
    assert_eq!(away.create_topic(&new).await.unwrap_err().code(), Code::Unreachable);
}

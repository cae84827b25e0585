//! Reading: order, positions, starts, ends, and what goes wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use laminar_core::source::{BatchLimit, Fetched, SplitStart, StartAt, TimestampType};
use laminar_core::{Code, Position, SplitId};
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_record_once_in_order_with_positions() {
    let topic = topic("source", 3).await;
    put(&topic, (0..3000).map(|i| value(i % 3, format!("{}", i / 3))));
    let source = open_source(&[("topic", &topic)], None);
    let splits = source.discover().await.unwrap();
    assert_eq!(splits, (0..3).map(|p| SplitId::new(format!("{topic}/{p}"))).collect::<Vec<_>>());
    let mut reader = reader(&source).await;
    let mut by_split: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (split, position, _, value) in take(&mut reader, 3000).await {
        assert_eq!(value, Some(position.to_string()));
        by_split.entry(split).or_default().push(position);
    }
    assert!(by_split.values().all(|positions| positions.iter().copied().eq(0..1000)));
    assert_eq!(reader.positions(), splits.iter().map(|s| (s.clone(), Position(1000))).collect::<Vec<_>>());
    assert_eq!(source.ends(&splits).await.unwrap(), vec![Some(Position(1000)); 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_where_another_stood() {
    let topic = topic("source", 1).await;
    put(&topic, (0..100).map(|i| value(0, i.to_string())));
    let source = open_source(&[("topic", &topic)], None);
    let mut reader = reader_at(&source, &[(SplitId::new(format!("{topic}/0")), Position(40))]).await;
    assert_eq!(take(&mut reader, 60).await.first().map(|s| s.1), Some(40));
}

/// Much of both is fetched ahead when one is paused.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_partition_is_left_out_and_goes_on_where_it_stood() {
    let topic = topic("source", 2).await;
    put(&topic, (0..20_000).map(|i| value(i % 2, format!("{}", i / 2))));
    let source = open_source(&[("topic", &topic)], None);
    let splits = source.discover().await.unwrap();
    let mut reader = reader(&source).await;
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut fetched = 0;
    while fetched < 1_000 {
        let next = tokio::time::timeout(SOON, reader.next(BatchLimit { rows: 400, bytes: 1 << 20 })).await;
        let Fetched::Records(records) = next.expect("no more records").unwrap() else { panic!("not records") };
        for at in 0..records.records.len() {
            let record = records.records.get(at);
            let split = format!("{}/{}", record.topic, record.partition);
            seen.entry(split).or_default().push(record.position.0);
        }
        fetched += records.records.len();
    }
    let begun = seen.get(splits[0].as_str()).map_or(0, Vec::len);
    let mut add = |records: Vec<Seen>| {
        let mut of_first = 0;
        for (split, position, ..) in records {
            of_first += usize::from(split == splits[0].as_str());
            seen.entry(split).or_default().push(position);
        }
        of_first
    };
    for _ in 0..3 {
        reader.pause(&[splits[0].clone()].into()).unwrap();
        reader.pause(&[].into()).unwrap();
    }
    reader.pause(&[splits[0].clone()].into()).unwrap();
    assert_eq!(add(take(&mut reader, 10_000 - (fetched - begun)).await), 0, "rows of the paused partition came");
    reader.pause(&[].into()).unwrap();
    assert_eq!(add(take(&mut reader, 10_000 - begun).await), 10_000 - begun);
    assert!(seen.values().all(|positions| positions.iter().copied().eq(0..10_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_behind_until_the_broker_says_that_there_is_no_more() {
    let topic = topic("source", 2).await;
    put(&topic, [value(0, "a"), value(0, "b")]);
    let source = open_source(&[("topic", &topic)], None);
    let mut reader = reader(&source).await;
    assert_eq!(reader.behind().len(), 2, "nothing is known of the empty one either");
    take(&mut reader, 2).await;
    let none_behind = async {
        while !reader.behind().is_empty() {
            // The news comes while records are waited for.
            let _ = tokio::time::timeout(Duration::from_millis(50), reader.next(LIMIT)).await;
        }
    };
    tokio::time::timeout(SOON, none_behind).await.expect("a partition stays behind");
    put(&topic, [value(1, "c")]);
    take(&mut reader, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_topics_are_read_by_one_reader() {
    let (a, b) = (topic("a", 1).await, topic("b", 2).await);
    put(&a, [value(0, "a0")]);
    put(&b, [value(0, "b0"), value(1, "b1")]);
    let source = open_source(&[("topics", &format!("{b},{a}"))], None);
    let mut reader = reader(&source).await;
    let mut seen: Vec<_> = take(&mut reader, 3).await.into_iter().map(|s| (s.0, s.3.unwrap())).collect();
    seen.sort();
    let expected = [(format!("{a}/0"), "a0"), (format!("{b}/0"), "b0"), (format!("{b}/1"), "b1")];
    assert_eq!(seen, expected.map(|(split, value)| (split, value.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_headers_timestamps_and_tombstones() {
    let topic = topic("source", 1).await;
    let headers =
        vec![("a".to_string(), Some("1".to_string())), ("b".to_string(), None), ("a".to_string(), Some(String::new()))];
    put(
        &topic,
        [
            Record {
                key: Some("k".into()),
                value: Some("v".into()),
                millis: Some(1_700_000_000_123),
                headers,
                partition: 0,
            },
            Record { key: Some("k".into()), ..Record::default() },
        ],
    );
    let source = open_source(&[("topic", &topic)], None);
    let mut reader = reader(&source).await;
    let Fetched::Records(fetched) = reader.next(BatchLimit { rows: 1, bytes: 1 << 20 }).await.unwrap() else {
        panic!()
    };
    let record = fetched.records.get(0);
    assert_eq!((record.key, record.value), (Some(b"k".as_slice()), Some(b"v".as_slice())));
    assert_eq!((record.timestamp_micros, record.timestamp_type), (1_700_000_000_123_000, TimestampType::CreateTime));
    let mut seen = Vec::new();
    record.headers(&mut |name, value| seen.push((name.to_string(), value.map(<[u8]>::to_vec))));
    assert_eq!(seen, [("a".into(), Some(b"1".to_vec())), ("b".into(), None), ("a".into(), Some(Vec::new()))]);
    assert_eq!(take(&mut reader, 1).await, [(format!("{topic}/0"), 1, Some("k".into()), None)]);
    assert_eq!(reader.positions(), [(SplitId::new(format!("{topic}/0")), Position(2))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_keep_to_their_limits() {
    let topic = topic("source", 1).await;
    put(&topic, (0..5000).map(|_| value(0, "x".repeat(1000))));
    let source = open_source(&[("topic", &topic)], None);
    let mut reader = reader(&source).await;
    let mut count = 0;
    while count < 5000 {
        let Fetched::Records(fetched) = reader.next(BatchLimit { rows: 700, bytes: 100_000 }).await.unwrap() else {
            panic!()
        };
        // The limit in bytes is looked at every 256 records.
        assert!(fetched.records.len() <= 356 + 256, "{}", fetched.records.len());
        count += fetched.records.len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_is_a_number_before_the_first_record() {
    let topic = topic("source", 2).await;
    put(&topic, (0..10).map(|i| value(0, i.to_string())));
    let source = open_source(&[("topic", &topic), ("offset", "latest")], None);
    let before = reader(&source).await.positions();
    assert_eq!(before.iter().map(|(_, p)| p.0).collect::<Vec<_>>(), [10, 0]);
    put(&topic, [value(0, "new"), value(1, "first")]);
    let mut seen = take(&mut reader_at(&source, &before).await, 2).await;
    seen.sort();
    assert_eq!(seen.into_iter().map(|s| s.3.unwrap()).collect::<Vec<_>>(), ["new", "first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_is_the_first_record_not_older() {
    let topic = topic("source", 2).await;
    put(
        &topic,
        [1000, 2000, 3000].map(|ms| Record { millis: Some(ms), value: Some(ms.to_string()), ..Record::default() }),
    );
    let check = async |timestamp: &str, expected: [u64; 2]| {
        let source = open_source(&[("topic", &topic), ("offset", "timestamp"), ("timestamp", timestamp)], None);
        let positions = reader(&source).await.positions();
        assert_eq!(positions.iter().map(|(_, p)| p.0).collect::<Vec<_>>(), expected, "{timestamp}");
    };
    check("1500", [1, 0]).await;
    check("1970-01-01T00:00:02Z", [1, 0]).await;
    check("3001", [3, 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_records_are_skipped_and_the_end_is_reached() {
    let topic = topic("source", 1).await;
    let producer: BaseProducer = client(&[("transactional.id", &unique("txn"))]).create().unwrap();
    producer.init_transactions(SOON).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, [value(0, "kept")]);
    producer.commit_transaction(SOON).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, [value(0, "aborted"), value(0, "aborted too")]);
    producer.abort_transaction(SOON).unwrap();

    let source = open_source(&[("topic", &topic)], None);
    let mut reader = reader(&source).await;
    let split = SplitId::new(format!("{topic}/0"));
    let end = source.ends(std::slice::from_ref(&split)).await.unwrap()[0].unwrap();
    assert_eq!(end, Position(5)); // kept, commit, aborted, aborted too, abort
    let mut seen = Vec::new();
    while reader.positions()[0].1 < end {
        let Fetched::Records(fetched) = tokio::time::timeout(SOON, reader.next(LIMIT)).await.unwrap().unwrap() else {
            panic!()
        };
        seen.extend((0..fetched.records.len()).map(|i| fetched.records.get(i).value.unwrap().to_vec()));
        assert_eq!(fetched.runs.last().unwrap().next, reader.positions()[0].1);
    }
    assert_eq!(seen, [b"kept".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_wait_loses_nothing() {
    let topic = topic("source", 1).await;
    let source = open_source(&[("topic", &topic)], None);
    let mut reader = reader(&source).await;
    for round in 0..20 {
        // Nothing is there yet, so each of these waits is dropped.
        assert!(tokio::time::timeout(Duration::from_millis(5), reader.next(LIMIT)).await.is_err());
        put(&topic, (0..50).map(|i| value(0, (round * 50 + i).to_string())));
        let seen = take(&mut reader, 50).await;
        assert!(seen.iter().map(|s| s.1).eq(round * 50..round * 50 + 50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpointed_positions_become_the_groups_offsets() {
    let topic = topic("source", 1).await;
    put(&topic, (0..10).map(|i| value(0, i.to_string())));
    let (pipeline, group) = (unique("p"), unique("group"));
    for (pairs, group) in [
        (vec![("topic", topic.as_str())], format!("laminar-{pipeline}")),
        (vec![("topic", topic.as_str()), ("group_id", group.as_str())], group.clone()),
        // The interval holds commits back; closing the reader sends the last.
        (
            vec![("topic", topic.as_str()), ("group_id", &format!("{group}-slow")), ("commit.interval.ms", "3600000")],
            format!("{group}-slow"),
        ),
    ] {
        let source = open_source(&pairs, Some(&pipeline));
        assert_eq!(source.group().unwrap().group_id, group);
        let mut reader = reader(&source).await;
        take(&mut reader, 10).await;
        for position in [3, 7] {
            reader.checkpointed(&[(SplitId::new(format!("{topic}/0")), Position(position))]).await;
        }
        drop(reader);
        let deadline = Instant::now() + SOON;
        while committed(&group, &topic, 0).await != Some(7) {
            assert!(Instant::now() < deadline, "{group}: {:?}", committed(&group, &topic, 0).await);
        }
    }
    let preview = open_source(&[("topic", &topic), ("group_id", &format!("{group}-preview"))], None);
    assert_eq!(preview.group(), None);
    let mut reader = reader(&preview).await;
    take(&mut reader, 10).await;
    reader.checkpointed(&reader.positions()).await;
    drop(reader);
    assert_eq!(committed(&format!("{group}-preview"), &topic, 0).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_are_an_error() {
    let topic = topic("source", 1).await;
    put(&topic, (0..10).map(|i| value(0, i.to_string())));
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(5)).unwrap();
    admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    let source = open_source(&[("topic", &topic)], None);
    let split = SplitId::new(format!("{topic}/0"));
    for position in [2, 999] {
        let mut reader = reader_at(&source, &[(split.clone(), Position(position))]).await;
        let error = tokio::time::timeout(SOON, reader.next(LIMIT)).await.unwrap().err().unwrap();
        assert_eq!(error.code(), Code::DataLoss, "{error:?}");
        assert!(
            error.to_string().starts_with(&format!("cannot read partition 0 of topic {topic} at offset {position}"))
        );
        assert_eq!(reader.positions(), [(split.clone(), Position(position))]);
    }
    assert_eq!(take(&mut reader(&source).await, 5).await[0].1, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_and_an_unreachable_broker_are_told_apart() {
    let missing = unique("missing");
    let error = open_source(&[("topic", &missing)], None).discover().await.err().unwrap();
    assert_eq!(error.code(), Code::UnknownTopic, "{error:?}");
    assert!(error.to_string().contains(&missing));
    let source = open_source(&[("topic", &missing)], None);
    let open = source.open(vec![SplitStart { split: SplitId::new(format!("{missing}/0")), at: StartAt::Configured }]);
    assert_eq!(open.await.err().unwrap().code(), Code::UnknownTopic);

    let start = Instant::now();
    let error =
        open_source(&[("topic", "t"), ("bootstrap_servers", "127.0.0.1:1")], None).discover().await.err().unwrap();
    assert_eq!(error.code(), Code::Unreachable, "{error:?}");
    assert!(error.detail().unwrap().contains("Connection refused"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_without_splits_waits() {
    let topic = topic("source", 1).await;
    let mut reader = open_source(&[("topic", &topic)], None).open(Vec::new()).await.unwrap();
    assert_eq!(reader.positions(), []);
    assert!(tokio::time::timeout(Duration::from_millis(300), reader.next(LIMIT)).await.is_err());
}

/// The records missed, and then those that come.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_are_skipped_and_counted_if_the_table_says_so() {
    let topic = topic("source", 2).await;
    put(&topic, (0..20).map(|i| value(i % 2, (i / 2).to_string())));
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(5)).unwrap();
    admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    let source = open_source(&[("topic", &topic), ("on_data_loss", "skip")], None);
    let splits = source.discover().await.unwrap();
    // Before what there is, and behind it.
    for (position, missed) in [(2, 3), (999, 0)] {
        let starts = [(splits[0].clone(), Position(position)), (splits[1].clone(), Position(8))];
        let mut reader = reader_at(&source, &starts).await;
        let (mut lost, mut seen) = (0, Vec::new());
        while seen.len() < 7 {
            // The wait is dropped again and again, as a task does.
            let next = tokio::time::timeout(Duration::from_millis(3), reader.next(LIMIT)).await;
            let Ok(fetched) = next else { continue };
            let Fetched::Records(fetched) = fetched.unwrap() else { panic!() };
            lost += fetched.lost;
            let of = |at| (fetched.records.get(at).partition, fetched.records.get(at).position.0);
            seen.extend((0..fetched.records.len()).map(of));
        }
        seen.sort_unstable();
        assert_eq!((seen, lost), (vec![(0, 5), (0, 6), (0, 7), (0, 8), (0, 9), (1, 8), (1, 9)], missed));
        assert_eq!(reader.positions(), splits.iter().map(|s| (s.clone(), Position(10))).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_says_where_a_pipeline_starts() {
    let topic = topic("source", 3).await;
    put(&topic, (0..30).map(|i| value(i % 3, (i / 3).to_string())));
    let group = unique("group");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(4)).unwrap();
    list.add_partition_offset(&topic, 2, Offset::Offset(7)).unwrap();
    let member: BaseConsumer = client(&[("group.id", &group)]).create().unwrap();
    member.commit(&list, CommitMode::Sync).unwrap();
    let at = async |reset: Option<&str>| {
        let mut pairs = vec![("topic", topic.as_str()), ("group_id", group.as_str()), ("offset", "group")];
        pairs.extend(reset.map(|reset| ("auto.offset.reset", reset)));
        let source = open_source(&pairs, Some("p"));
        let splits = source.discover().await.unwrap();
        let start = |split| SplitStart { split, at: StartAt::Configured };
        let opened = source.open(splits.into_iter().map(start).collect()).await;
        opened.map(|reader| reader.positions().into_iter().map(|(_, p)| p.0).collect::<Vec<_>>())
    };
    assert_eq!(at(None).await.unwrap(), [4, 0, 7]);
    assert_eq!(at(Some("latest")).await.unwrap(), [4, 10, 7]);
    let error = at(Some("none")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error:?}");
    assert!(error.to_string().contains(&format!("partition 1 of topic {topic}")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_open_transactions_are_read_at_once_if_the_table_says_so() {
    let topic = topic("source", 1).await;
    let producer: BaseProducer = client(&[("transactional.id", &unique("txn"))]).create().unwrap();
    producer.init_transactions(SOON).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &topic, [value(0, "open")]);
    for mode in ["read_mode", "isolation.level"] {
        let source = open_source(&[("topic", &topic), (mode, "read_uncommitted")], None);
        assert_eq!(take(&mut reader(&source).await, 1).await[0].3.as_deref(), Some("open"));
        assert_eq!(source.ends(&source.discover().await.unwrap()).await.unwrap(), [Some(Position(1))]);
    }
    let source = open_source(&[("topic", &topic)], None);
    assert_eq!(source.ends(&source.discover().await.unwrap()).await.unwrap(), [Some(Position(0))]);
    producer.abort_transaction(SOON).unwrap();
}

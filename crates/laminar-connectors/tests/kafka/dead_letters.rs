//! Dead letters: the record byte for byte, in the transaction of the pipeline's sinks.

use std::sync::Arc;

use laminar_connectors::kafka::KafkaConnector;
use laminar_core::connector::{Connector, DeadLettersOf, SinkContext, SourceContext};
use laminar_core::dead_letter::{LetterBuilder, Reason, Stage};
use laminar_core::sink::{Delivery, Sink};
use laminar_core::source::{Fetched, RawRecord, TimestampType};
use laminar_core::time::SystemClock;
use laminar_core::{Code, Epoch, PipelineId, Position, Result};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::support::*;

/// The sink of dead letters of a table that reads `topic`.
fn dead_letters(
    of: &Installation,
    topic: &str,
    destination: Option<&str>,
    delivery: Option<Delivery>,
) -> Result<Arc<dyn Sink>> {
    let options = options(&[("topic", topic), ("fetch.min.bytes", "2")]);
    let ctx = context(of, delivery);
    let of_table = DeadLettersOf { options: &options, table: &table(), destination };
    of.connector.check_dead_letters(&of_table)?;
    of.connector.dead_letters(&of_table, &ctx)
}

fn context(of: &Installation, delivery: Option<Delivery>) -> SinkContext {
    SinkContext {
        instance: of.instance.clone(),
        pipeline: PipelineId::from(of.pipeline.as_str()),
        delivery,
        checkpoint_interval: of.interval,
        clock: Arc::new(SystemClock),
    }
}

/// Letters of all records of the topic.
async fn letters_of(topic: &str, count: usize) -> laminar_core::Changes {
    let source = open_source(&[("topic", topic)], None);
    let mut reader = reader(&source).await;
    let mut letters = LetterBuilder::new("pipe", "t");
    while letters.len() < count {
        let Fetched::Records(fetched) = reader.next(LIMIT).await.unwrap() else { panic!("not records") };
        for index in 0..fetched.records.len() {
            let record: RawRecord<'_> = fetched.records.get(index);
            letters.push(&record, Reason { stage: Stage::Decode, code: Code::BadData, message: "é is no row" });
        }
    }
    letters.finish().unwrap().unwrap()
}

type Pairs = Vec<(String, Option<Vec<u8>>)>;

#[allow(clippy::type_complexity)] // key, value and headers
fn read_all(topic: &str) -> Vec<(Option<Vec<u8>>, Option<Vec<u8>>, Pairs)> {
    let group = unique("judge");
    let settings = [("group.id", group.as_str()), ("enable.partition.eof", "true")];
    let consumer: BaseConsumer = client(&settings).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut found = Vec::new();
    loop {
        match consumer.poll(SOON).expect("the judge waits too long") {
            Ok(message) => {
                let headers = message
                    .headers()
                    .map(|all| all.iter().map(|h| (h.key.to_string(), h.value.map(<[u8]>::to_vec))).collect::<Pairs>());
                let bytes = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
                found.push((bytes(message.key()), bytes(message.payload()), headers.unwrap_or_default()));
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return found,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_its_record_and_what_is_wrong_with_it() {
    let topic = topic("orders", 1).await;
    let headers = vec![("a".to_string(), Some("1".to_string())), ("a".to_string(), None)];
    let record = Record { key: Some("k".into()), millis: Some(1_700_000_000_123), headers, ..value(0, "{\"id\":") };
    put(&topic, [record, Record { value: Some(String::new()), ..Record::default() }, Record::default()]);
    let letters = letters_of(&topic, 3).await;
    let sink = dead_letters(&Installation::new(), &topic, None, None).unwrap();
    assert_eq!(sink.delivery(), Delivery::ExactlyOnce);
    let mut open = open_sink(&sink).await;
    open.writer.write(&letters).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    let beside = format!("{topic}-dlq");
    assert_eq!(read(&beside, "read_committed").await.len(), 0);
    open.committer.commit(&super::transaction::marker(1), &[]).await.unwrap();
    let found = tokio::task::spawn_blocking(move || read_all(&beside)).await.unwrap();
    assert_eq!(found.len(), 3);
    let (key, value, headers) = &found[0];
    assert_eq!((key.as_deref(), value.as_deref()), (Some(b"k".as_slice()), Some(b"{\"id\":".as_slice())));
    let text = |(name, value): &(String, Option<Vec<u8>>)| {
        (name.clone(), value.as_ref().map(|v| String::from_utf8(v.clone()).unwrap()))
    };
    let expected = [
        ("a", Some("1")),
        ("a", None),
        ("__laminar.errors.pipeline", Some("pipe")),
        ("__laminar.errors.table", Some("t")),
        ("__laminar.errors.topic", Some(topic.as_str())),
        ("__laminar.errors.partition", Some("0")),
        ("__laminar.errors.offset", Some("0")),
        ("__laminar.errors.timestamp", Some("1700000000123")),
        ("__laminar.errors.stage", Some("decode")),
        ("__laminar.errors.code", Some("bad_data")),
        ("__laminar.errors.message", Some("é is no row")),
    ];
    let expected = expected.map(|(name, value)| (name.to_string(), value.map(str::to_string)));
    assert_eq!(headers.iter().map(text).collect::<Vec<_>>(), expected);
    assert_eq!((&found[1].0, found[1].1.as_deref()), (&None, Some(b"".as_slice())), "an empty value is none");
    assert_eq!((&found[2].0, &found[2].1), (&None, &None), "a tombstone stays one");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_letters_are_one_transaction() {
    let (topic_in, out, dead) = (topic("in", 1).await, topic("out", 1).await, topic("dead", 1).await);
    put(&topic_in, [value(0, "x")]);
    let letters = letters_of(&topic_in, 1).await;
    let installation = Installation::new();
    let rows = installation.sink(&[("topic", &out), ("linger_ms", "1")]).unwrap();
    let sink = dead_letters(&installation, &topic_in, Some(&dead), None).unwrap();
    assert_eq!(rows.committer().unwrap().id(), sink.committer().unwrap().id());
    let mut rows = open_sink(&rows).await;
    // Not recovered a second time: it is the same transaction.
    let mut writer = sink.open(&task(1)).await.unwrap();
    rows.writer.write(&changes(names(0..1))).await.unwrap();
    writer.write(&letters).await.unwrap();
    rows.writer.flush(Epoch(1)).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    assert_eq!(read(&dead, "read_uncommitted").await.len(), 1);
    rows.committer.commit(&super::transaction::marker(1), &[]).await.unwrap();
    assert_eq!(read(&out, "read_committed").await.len(), 1);
    assert_eq!(values(&read(&dead, "read_committed").await), ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_letters_are_visible_with_the_flush() {
    let topic = topic("in", 1).await;
    put(&topic, [value(0, "x")]);
    let letters = letters_of(&topic, 1).await;
    let sink = dead_letters(&Installation::new(), &topic, None, Some(Delivery::AtLeastOnce)).unwrap();
    assert!(sink.committer().is_none());
    let mut writer = sink.open(&task(0)).await.unwrap();
    writer.write(&letters).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    assert_eq!(values(&read(&format!("{topic}-dlq"), "read_committed").await), ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_topic_stay_in_order_and_may_go_where_rows_go() {
    let (topic_in, out) = (topic("in", 1).await, topic("out", 1).await);
    put(&topic_in, (0..2500).map(|i| value(0, i.to_string())));
    let letters = letters_of(&topic_in, 2500).await;
    let installation = Installation::new();
    let rows = installation.sink(&[("topic", &out), ("compression", "lz4")]).unwrap();
    let sink = dead_letters(&installation, &topic_in, Some(&out), None).unwrap();
    let mut rows = open_sink(&rows).await;
    let mut writer = sink.open(&task(1)).await.unwrap();
    rows.writer.write(&changes(names(0..1))).await.unwrap();
    rows.writer.flush(Epoch(1)).await.unwrap();
    writer.write(&letters).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    rows.committer.commit(&super::transaction::marker(1), &[]).await.unwrap();
    let found = read(&out, "read_committed").await;
    let numbers: Vec<i64> = values(&found).iter().skip(1).map(|value| value.parse().unwrap()).collect();
    assert!(numbers.into_iter().eq(0..2500));
}

/// The topic of letters takes what the topic of records took, and a little more.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_record_is_a_long_letter() {
    let name = unique("long");
    let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "12000000");
    admin().create_topics(&[new], &AdminOptions::new().operation_timeout(Some(SOON))).await.unwrap();
    let producer = client(&[("message.max.bytes", "20000000")]).create().unwrap();
    send(&producer, &name, [value(0, "x".repeat(10 << 20))]);
    let letters = letters_of(&name, 1).await;
    let mut open = open_sink(&dead_letters(&Installation::new(), &name, None, None).unwrap()).await;
    open.writer.write(&letters).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    open.committer.commit(&super::transaction::marker(1), &[]).await.unwrap();
    let found = read(&format!("{name}-dlq"), "read_committed").await;
    assert_eq!(found[0].value.as_ref().map(String::len), Some(10 << 20));
}

/// Whatever the table itself reads: letters of aborted transactions are none, and a topic that has had none yet hides no other.
#[tokio::test(flavor = "multi_thread")]
async fn letters_are_shown_that_are_committed_of_the_topics_that_are_there() {
    let (first, second) = (topic("in", 1).await, topic("in", 1).await);
    let beside = format!("{first}-dlq");
    let new = NewTopic::new(&beside, 1, TopicReplication::Fixed(1));
    admin().create_topics(&[new], &AdminOptions::new().operation_timeout(Some(SOON))).await.unwrap();
    let producer: BaseProducer = client(&[("transactional.id", &unique("letters"))]).create().unwrap();
    producer.init_transactions(SOON).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &beside, [value(0, "aborted")]);
    producer.abort_transaction(SOON).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, &beside, [value(0, "committed")]);
    producer.commit_transaction(SOON).unwrap();

    let topics = format!("{first},{second}");
    let options = options(&[("topics", &topics), ("read_mode", "read_uncommitted"), ("on_data_loss", "fail")]);
    let of = DeadLettersOf { options: &options, table: &table(), destination: None };
    let ctx = SourceContext { pipeline: None, clock: Arc::new(SystemClock), partitions: None };
    let source = KafkaConnector::new().dead_letter_source(&of, &ctx).unwrap().unwrap();
    let seen = take(&mut reader(&source).await, 1).await;
    assert_eq!((seen[0].0.as_str(), seen[0].3.as_deref()), (format!("{beside}/0").as_str(), Some("committed")));
}

#[test]
fn letters_do_not_go_where_they_are_read() {
    let installation = Installation::new();
    let check = |destination: &str| dead_letters(&installation, "orders", Some(destination), None).err().unwrap();
    assert_eq!(check("orders").code(), Code::ConflictingOptions);
    let error = check("no such/name");
    assert_eq!((error.code(), error.field()), (Code::InvalidOption, Some("dlq_topic")));
    for reserved in ["__laminar_progress", "__consumer_offsets"] {
        let error = check(reserved);
        assert_eq!((error.code(), error.field()), (Code::ForbiddenOption, Some("dlq_topic")), "{error:?}");
    }
}

/// The topic is in a header, which anybody may have written who may write to the topic of letters.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_goes_back_only_to_a_topic_of_its_table() {
    let (ours, other) = (topic("in", 1).await, topic("in", 1).await);
    let sink_of = |read: &str| {
        let installation = Installation::new();
        let options = options(&[("topics", read)]);
        let of = DeadLettersOf { options: &options, table: &table(), destination: None };
        installation.connector.replay(&of, &context(&installation, Some(Delivery::AtLeastOnce))).unwrap()
    };
    let letter_of = |topic: &str| {
        let mut letters = LetterBuilder::new("pipe", "t");
        let record = RawRecord {
            key: None,
            value: Some(b"x"),
            timestamp_micros: 0,
            timestamp_type: TimestampType::None,
            topic,
            partition: 0,
            position: Position(0),
            batch: None,
        };
        letters.push(&record, Reason { stage: Stage::Decode, code: Code::BadData, message: "no" });
        letters.finish().unwrap().unwrap()
    };
    let mut writer = sink_of(&ours).open(&task(0)).await.unwrap();
    writer.write(&letter_of(&ours)).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    assert_eq!(values(&read(&ours, "read_committed").await), ["x"]);

    let error = writer.write(&letter_of(&other)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidValue, "{error:?}");
    assert!(error.message().contains(&other) && error.detail().unwrap().contains(&ours), "{error:?}");
    assert_eq!(read(&other, "read_committed").await, []);
    let mut writer = sink_of("__consumer_offsets").open(&task(0)).await.unwrap();
    assert_eq!(writer.write(&letter_of("__consumer_offsets")).await.unwrap_err().code(), Code::InvalidValue);
}

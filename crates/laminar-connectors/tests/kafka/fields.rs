//! What a sink's columns and options make of a record besides its value, judged by a plain consumer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use laminar_connectors::kafka::KafkaConnector;
use laminar_core::connector::{Connector, Role, SourceContext};
use laminar_core::sink::{ChangeSupport, Delivery};
use laminar_core::source::BatchLimit;
use laminar_core::source::Fetched;
use laminar_core::table::{Column, TableSpec};
use laminar_core::time::SystemClock;
use laminar_core::{Changes, Code, Epoch};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::support::*;

fn table_of(columns: &[(&str, ArrayRef)]) -> TableSpec {
    let column = |(name, array): &(&str, ArrayRef)| Column {
        name: name.to_string(),
        data_type: array.data_type().clone(),
        nullable: true,
        json: false,
        metadata: None,
    };
    TableSpec {
        name: "t".into(),
        columns: columns.iter().map(column).collect(),
        projection: (0..columns.len()).collect(),
        event_time: None,
        primary_key: Vec::new(),
    }
}

fn batch_of(columns: &[(&str, ArrayRef)]) -> Changes {
    let columns = columns.iter().map(|(name, array)| (*name, ArrayRef::clone(array), true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let times = TimestampMicrosecondArray::from(vec![0; rows.num_rows()]);
    Changes::inserts(rows, times).unwrap()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn numbers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// Writes the rows at least once. The error of writing or flushing, if there is one.
async fn write(columns: &[(&str, ArrayRef)], pairs: &[(&str, &str)]) -> laminar_core::Result<()> {
    let sink = Installation::new().sink_of(&table_of(columns), pairs, Some(Delivery::AtLeastOnce))?;
    let mut writer = sink.open(&task(0)).await?;
    writer.write(&batch_of(columns)).await?;
    writer.flush(Epoch(1)).await
}

/// All of the topic's records, as `partition key value headers`, and the timestamps apart; in the order of their partitions.
async fn records(topic: &str) -> (Vec<String>, Vec<i64>) {
    let topic = topic.to_string();
    tokio::task::spawn_blocking(move || {
        let settings = [("group.id", "judge"), ("isolation.level", "read_committed"), ("enable.partition.eof", "true")];
        let consumer: BaseConsumer = client(&settings).set("enable.auto.commit", "false").create().unwrap();
        let metadata = consumer.fetch_metadata(Some(&topic), SOON).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(&topic, partition as i32, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut found, mut ended) = (BTreeMap::new(), 0);
        while ended < partitions {
            match consumer.poll(SOON).expect("the judge waits too long") {
                Ok(m) => {
                    let text =
                        |bytes: Option<&[u8]>| bytes.map_or("-".into(), |b| String::from_utf8_lossy(b).into_owned());
                    let headers = m.headers().map_or_else(Vec::new, |all| {
                        all.iter().map(|h| format!("{}={}", h.key, text(h.value))).collect::<Vec<_>>()
                    });
                    let line =
                        format!("{} {} {} [{}]", m.partition(), text(m.key()), text(m.payload()), headers.join(" "));
                    found.insert((m.partition(), m.offset()), (line, m.timestamp().to_millis().unwrap()));
                }
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        found.into_values().unzip()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_a_record_comes_from_its_column() {
    let (a, b) = (topic("fields-a", 3).await, topic("fields-b", 1).await);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for (name, value) in [("trace", Some("1")), ("trace", Some("2")), ("none", None)] {
        maps.keys().append_value(name);
        maps.values().append_option(value);
    }
    for is_valid in [true, false, true] {
        maps.append(is_valid).unwrap();
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("v", texts(&[Some("x"), Some("y"), Some("z")])),
        ("_kafka_key", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"k0"), None, Some(b"")]))),
        ("_kafka_partition", numbers(&[Some(2), Some(1), None])),
        (
            "_kafka_timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_704_067_200_123_456), None, Some(1_000)])),
        ),
        ("_kafka_topic", texts(&[None, None, Some(&b)])),
        ("_kafka_headers", Arc::new(maps.finish())),
    ];
    let sink = Installation::new().sink_of(&table_of(&columns), &[("topic", &a)], None).unwrap();
    assert_eq!(sink.delivery(), Delivery::ExactlyOnce);
    let mut open = open_sink(&sink).await;
    open.writer.write(&batch_of(&columns)).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    assert_eq!(records(&b).await.0, Vec::<String>::new(), "both topics are in the transaction");
    open.committer.commit(&super::transaction::marker(1), &[]).await.unwrap();
    let (lines, times) = records(&a).await;
    assert_eq!(lines, [r#"1 - {"v":"y"} []"#, r#"2 k0 {"v":"x"} [trace=1 trace=2 none=-]"#]);
    assert_eq!(times[1], 1_704_067_200_123);
    assert!(times[0] > 1_704_067_200_123, "now");
    let (lines, times) = records(&b).await;
    assert_eq!((lines, times), (vec![r#"0  {"v":"z"} []"#.to_string()], vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_name_the_columns_and_headers_may_be_json() {
    let topic = topic("fields", 4).await;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", numbers(&[Some(1), Some(2)])),
        ("to", texts(&[Some(&topic), Some(&topic)])),
        ("shard", numbers(&[Some(3), Some(0)])),
        ("at", numbers(&[Some(77), Some(88)])),
        ("_kafka_headers", texts(&[Some(r#"{"n":1,"t":"x"}"#), Some("{}")])),
    ];
    let pairs = [
        ("topic_field", "to"),
        ("partition_field", "shard"),
        ("timestamp_field", "at"),
        ("key_field", "id, shard"),
        ("value.exclude", "to,shard"),
        ("json.include_nulls", "false"),
    ];
    write(&columns, &pairs).await.unwrap();
    let (lines, times) = records(&topic).await;
    let expected =
        [r#"0 {"id":2,"shard":0} {"id":2,"at":88} []"#, r#"3 {"id":1,"shard":3} {"id":1,"at":77} [n=1 t=x]"#];
    assert_eq!((lines, times), (expected.map(String::from).to_vec(), vec![88, 77]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_a_record_is_an_error_of_that_row() {
    let topic = topic("fields", 2).await;
    let check = async |name: &str, column: ArrayRef, pairs: &[(&str, &str)], code: Code, message: &str| {
        let error = write(&[("v", texts(&[Some("x")])), (name, column)], pairs).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, message), "{error:?}");
        assert_eq!(error.retry(), laminar_core::Retry::Never);
    };
    let fixed = [("topic", topic.as_str())];
    let what = format!("topic {topic} has no partition 2");
    check("_kafka_partition", numbers(&[Some(2)]), &fixed, Code::InvalidValue, &what).await;
    check("_kafka_partition", numbers(&[Some(-1)]), &fixed, Code::InvalidValue, "there is no partition -1").await;
    let what = "a record cannot have timestamp -5 (milliseconds since 1970)";
    check("_kafka_timestamp", numbers(&[Some(-5)]), &fixed, Code::InvalidValue, what).await;
    check("_kafka_headers", texts(&[Some("[1]")]), &fixed, Code::InvalidValue, "headers cannot be made of '[1]'").await;
    check("_kafka_topic", texts(&[None]), &[], Code::InvalidValue, "a row has no topic").await;
    for name in ["__laminar_progress", "__consumer_offsets", "a b", ""] {
        let what = format!("no row can go to topic '{name}'");
        check("_kafka_topic", texts(&[Some(name)]), &[], Code::InvalidValue, &what).await;
    }
    let what = "the key 'no!' is not base64";
    check("_kafka_key", texts(&[Some("no!")]), &[fixed[0], ("key.encoding", "base64")], Code::InvalidValue, what).await;
    let away = unique("away");
    let columns = [("v", texts(&[Some("x")])), ("_kafka_topic", texts(&[Some(&away)]))];
    let error = write(&columns, &[("topic.auto_create", "false")]).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownTopic);
    assert!(records(&topic).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_make_keys_and_values() {
    let topic = topic("fields", 1).await;
    let columns = [
        ("clientid", texts(&[Some("c1"), None])),
        ("value", texts(&[Some("on"), Some("off")])),
        ("_kafka_key", texts(&[None, Some("own")])),
    ];
    let pairs = [("topic", topic.as_str()), ("message.key", "id-${.clientid}"), ("sink.value", "v = ${.value}")];
    write(&columns, &pairs).await.unwrap();
    write(&columns[..2], &[pairs[0], ("sink.key", "snot"), ("sink.value", "${.}")]).await.unwrap();
    let expected = [
        "0 id-c1 v = on []",
        "0 own v = off []",
        r#"0 snot {"clientid":"c1","value":"on"} []"#,
        r#"0 snot {"clientid":null,"value":"off"} []"#,
    ];
    assert_eq!(records(&topic).await.0, expected);
    let sink = Installation::new().sink_of(&table_of(&columns), &pairs, Some(Delivery::AtLeastOnce)).unwrap();
    assert_eq!(sink.changes(), ChangeSupport::InsertOnly);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_through_text_as_base64() {
    let topic = topic("fields", 1).await;
    let rows = [("key", texts(&[Some("AP8="), None])), ("value", texts(&[Some("/w=="), None]))];
    let base64 =
        [("format", "raw"), ("key.encoding", "base64"), ("value.encoding", "base64"), ("topic", topic.as_str())];
    write(&rows, &base64).await.unwrap();
    let consumer: BaseConsumer = client(&[("group.id", &unique("judge"))]).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let (first, second) = (consumer.poll(SOON).unwrap().unwrap(), consumer.poll(SOON).unwrap().unwrap());
    assert_eq!((first.key(), first.payload()), (Some(&[0, 255][..]), Some(&[255][..])));
    assert_eq!((second.key(), second.payload()), (None, None), "null is a tombstone");

    let mut table = table_of(&rows);
    table.columns[0].metadata = Some("key".into());
    let ctx = SourceContext { pipeline: None, clock: Arc::new(SystemClock), partitions: None };
    let connector = KafkaConnector::new();
    connector.check_table(Role::Source, &options(&base64), &table).unwrap();
    let source = connector.source(&options(&base64), &table, &ctx).unwrap();
    let mut decoder = source.decoder().unwrap().unwrap();
    let mut reader = reader(&source).await;
    while decoder.len() < 2 {
        let Fetched::Records(fetched) = reader.next(BatchLimit { rows: 10, bytes: 1 << 20 }).await.unwrap() else {
            panic!("not records")
        };
        for index in 0..fetched.records.len() {
            decoder.push(&fetched.records.get(index)).unwrap();
        }
    }
    let read = decoder.flush().unwrap().unwrap();
    let columns: Vec<ArrayRef> = rows.iter().map(|(_, array)| ArrayRef::clone(array)).collect();
    assert_eq!(read.rows().columns(), columns);
}

/// The partitions of `keys` as librdkafka alone chooses them.
async fn chosen_by_librdkafka(keys: &[String], partitioner: &str) -> Vec<String> {
    let judged = topic("partitioner", 5).await;
    let producer: BaseProducer = client(&[("partitioner", partitioner)]).create().unwrap();
    for key in keys {
        producer.send(BaseRecord::to(&judged).key(key).payload("v")).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(SOON).unwrap();
    places(&judged).await
}

/// `partition key` of each record, in the order of the keys.
async fn places(topic: &str) -> Vec<String> {
    let mut places: Vec<String> = read(topic, "read_committed")
        .await
        .into_iter()
        .map(|f| format!("{} {}", f.key.unwrap(), f.partition))
        .collect();
    places.sort();
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn partitioners_choose_as_their_names_say() {
    let keys: Vec<String> = (0..200).map(|i| format!("key-{i}")).collect();
    let columns = [("k", Arc::new(StringArray::from(keys.clone())) as ArrayRef)];
    for (ours, theirs) in [
        ("consistent", "consistent"),
        ("consistent_random", "consistent"),
        ("fnv1a", "fnv1a"),
        ("key_dispatch", "murmur2"),
        ("murmur2", "murmur2_random"),
    ] {
        let topic = topic("partitioner", 5).await;
        write(&columns, &[("topic", &topic), ("key_field", "k"), ("partitioner", ours)]).await.unwrap();
        assert_eq!(places(&topic).await, chosen_by_librdkafka(&keys, theirs).await, "{ours}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_takes_one_partition_after_the_other() {
    let topic = topic("partitioner", 4).await;
    let keys = Arc::new(StringArray::from(vec!["the same"; 4_001])) as ArrayRef;
    write(&[("k", keys)], &[("topic", &topic), ("key_field", "k"), ("partitioner", "round_robin")]).await.unwrap();
    let mut counts = [0; 4];
    read(&topic, "read_committed").await.iter().for_each(|f| counts[f.partition as usize] += 1);
    assert_eq!(counts, [1_001, 1_000, 1_000, 1_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_of_one_transaction_may_choose_partitions_and_compression_differently() {
    let (a, b) = (topic("a", 4).await, topic("b", 4).await);
    let installation = Installation::new();
    let sink = |pairs: &[(&str, &str)]| installation.sink(pairs).unwrap();
    let sinks = [
        sink(&[("topic", &a), ("partitioner", "round_robin"), ("compression", "zstd")]),
        sink(&[("topic", &b), ("partitioner", "murmur2"), ("compression", "gzip")]),
        sink(&[("topic", &a), ("partitioner", "random")]),
    ];
    let mut first = open_sink(&sinks[0]).await;
    let mut second = sinks[1].open(&task(0)).await.unwrap();
    let error = sinks[2].open(&task(0)).await.err().unwrap();
    assert_eq!(error.code(), Code::ConflictingOptions, "{error:?}");
    for writer in [&mut first.writer, &mut second] {
        writer.write(&changes(names(0..40))).await.unwrap();
        writer.flush(Epoch(1)).await.unwrap();
    }
    first.committer.commit(&super::transaction::marker(1), &[]).await.unwrap();
    let spread = |found: Vec<Found>| {
        let mut counts = [0; 4];
        found.iter().for_each(|f| counts[f.partition as usize] += 1);
        counts
    };
    assert_eq!(spread(read(&a, "read_committed").await), [10; 4]);
    // Rows without a key: murmur2 of nothing is one partition.
    let mut counts = spread(read(&b, "read_committed").await);
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 0, 40]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_acknowledgements_are_for_rows_that_may_be_lost() {
    for acks in ["0", "1", "all"] {
        let topic = topic("acks", 1).await;
        let pairs = [("topic", topic.as_str()), ("acks", acks), ("max_inflight", "10"), ("delivery", "at_least_once")];
        write(&[("v", texts(&[Some("x")]))], &pairs).await.unwrap();
        // With acks = 0 nothing says when the broker has it.
        while records(&topic).await.0.is_empty() {}
        let sink = Installation::new().sink(&pairs[..2]);
        match acks {
            "all" => assert!(sink.is_ok()),
            _ => assert_eq!(sink.err().unwrap().code(), Code::ConflictingOptions),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_as_the_options_say() {
    let (made, plain) = (unique("made"), unique("made"));
    let mut table = table();
    table.primary_key = vec!["id".into()];
    let create = [("topic.auto_create", "true"), ("topic.partitions", "3"), ("topic.retention", "7d")];
    let pairs = [&[("topic", made.as_str())], &create[..]].concat();
    KafkaConnector::new().check_outside(Role::Sink, &options(&pairs)).await.unwrap();
    let sink = Installation::new().sink_of(&table, &pairs, Some(Delivery::AtLeastOnce)).unwrap();
    drop(sink.open(&task(0)).await.unwrap());
    let policy = [&[("topic", plain.as_str()), ("topic.cleanup_policy", "compact,delete")], &create[..1]].concat();
    drop(
        Installation::new()
            .sink_of(&super::support::table(), &policy, Some(Delivery::AtLeastOnce))
            .unwrap()
            .open(&task(0))
            .await
            .unwrap(),
    );
    let settings = async |topic: &str| {
        let asked = [ResourceSpecifier::Topic(topic)];
        let found = admin().describe_configs(&asked, &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        let get = |name: &str| found.get(name).unwrap().value.clone().unwrap();
        (get("cleanup.policy"), get("retention.ms"))
    };
    assert_eq!(settings(&made).await, ("compact".into(), "604800000".into()), "rows under a key are compacted");
    assert_eq!(settings(&plain).await.0, "compact,delete");
    let metadata = admin().inner().fetch_metadata(Some(&made), SOON).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);

    // Where the broker makes topics, and nothing is said of it.
    let asked = unique("asked");
    let sink = Installation::new().sink_of(&table, &[("topic", &asked)], Some(Delivery::AtLeastOnce)).unwrap();
    drop(sink.open(&task(0)).await.unwrap());
    assert_eq!(settings(&asked).await.0, "compact");

    let missing = [("topic", "no-such-topic"), ("topic.auto_create", "false")];
    let error = KafkaConnector::new().check_outside(Role::Sink, &options(&missing)).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownTopic);
    assert!(error.hint().unwrap().contains("'topic.auto_create' = 'true'"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_topic_does_not_take_says_so() {
    let topic = topic("small", 1).await;
    let small = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", "1000");
    admin().alter_configs(&[small], &AdminOptions::new()).await.unwrap();
    let error = write(&[("v", texts(&[Some(&"x".repeat(5_000))]))], &[("topic", &topic)]).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), (Code::RowTooLarge, laminar_core::Retry::Never), "{error:?}");
    assert!(error.hint().unwrap().contains("max.message.bytes"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_may_be_of_any_unit() {
    let topic = topic("fields", 1).await;
    let nanos = arrow::compute::cast(
        &numbers(&[Some(1_704_067_200_123_456_789)]),
        &DataType::Timestamp(TimeUnit::Nanosecond, None),
    );
    write(&[("v", texts(&[Some("x")])), ("_kafka_timestamp", nanos.unwrap())], &[("topic", &topic)]).await.unwrap();
    assert_eq!(records(&topic).await.1, [1_704_067_200_123]);
}

//! The outside world as tests need it: topics, records put in and read back, tables and batches.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use laminar_connectors::kafka::KafkaConnector;
use laminar_core::connector::{Connector, SinkContext, SourceContext};
use laminar_core::sink::{Committer, Delivery, Sink, SinkWriter};
use laminar_core::source::{BatchLimit, Fetched, Source, SourceReader, SplitStart, StartAt};
use laminar_core::table::{Column, TableSpec};
use laminar_core::time::SystemClock;
use laminar_core::{Changes, OperatorId, Options, PipelineId, Position, SplitId, TaskId};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

pub const LIMIT: BatchLimit = BatchLimit { rows: 1000, bytes: 1 << 20 };
pub const SOON: Duration = Duration::from_secs(30);

pub fn bootstrap() -> String {
    std::env::var("LAMINAR_TEST_KAFKA")
        .expect("LAMINAR_TEST_KAFKA is not set: run `make test`, or eval \"$(scripts/parts.sh start kafka)\"")
}

/// A name that nobody had before.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{:016x}", rand::random::<u64>())
}

pub fn client(extra: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    extra.iter().for_each(|(k, v)| {
        config.set(*k, *v);
    });
    config
}

pub fn admin() -> AdminClient<DefaultClientContext> {
    client(&[]).create().unwrap()
}

/// A new topic; returns its name.
pub async fn topic(prefix: &str, partitions: i32) -> String {
    let name = unique(prefix);
    let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(SOON));
    for result in admin().create_topics(&[new], &options).await.unwrap() {
        result.unwrap();
    }
    name
}

/// A record to put in: partition, key, value, timestamp in ms, headers.
#[derive(Clone, Default)]
pub struct Record {
    pub partition: i32,
    pub key: Option<String>,
    pub value: Option<String>,
    pub millis: Option<i64>,
    pub headers: Vec<(String, Option<String>)>,
}

pub fn value(partition: i32, value: impl Into<String>) -> Record {
    Record { partition, value: Some(value.into()), ..Record::default() }
}

pub fn send(producer: &BaseProducer, topic: &str, records: impl IntoIterator<Item = Record>) {
    for record in records {
        let mut base = BaseRecord::<String, String>::to(topic).partition(record.partition);
        base.key = record.key.as_ref();
        base.payload = record.value.as_ref();
        base.timestamp = record.millis;
        if !record.headers.is_empty() {
            let add = |all: OwnedHeaders, (key, value): &(String, Option<String>)| {
                all.insert(rdkafka::message::Header { key, value: value.as_ref() })
            };
            base.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), add));
        }
        producer.send(base).map_err(|(e, _)| e).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(SOON).unwrap();
}

pub fn put(topic: &str, records: impl IntoIterator<Item = Record>) {
    send(&client(&[("queue.buffering.max.messages", "1000000")]).create().unwrap(), topic, records);
}

/// What a consumer of its own finds: partition, key, value, in order per partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub partition: i32,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: usize,
}

/// Everything in the topic up to its present end, as `isolation` sees it.
pub async fn read(topic: &str, isolation: &str) -> Vec<Found> {
    read_at(&bootstrap(), topic, isolation).await
}

/// The same, in another cluster.
pub async fn read_at(servers: &str, topic: &str, isolation: &str) -> Vec<Found> {
    let (servers, topic, isolation) = (servers.to_string(), topic.to_string(), isolation.to_string());
    tokio::task::spawn_blocking(move || read_blocking(&servers, &topic, &isolation)).await.unwrap()
}

fn read_blocking(servers: &str, topic: &str, isolation: &str) -> Vec<Found> {
    let group = unique("judge");
    let settings = [("group.id", group.as_str()), ("isolation.level", isolation), ("enable.partition.eof", "true")];
    let mut config = client(&settings);
    let consumer: BaseConsumer =
        config.set("enable.auto.commit", "false").set("bootstrap.servers", servers).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), SOON).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition as i32, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut found, mut ended) = (Vec::new(), 0);
    while ended < partitions {
        match consumer.poll(SOON).expect("the judge waits too long") {
            Ok(message) => found.push(Found {
                partition: message.partition(),
                key: message.key().map(|k| String::from_utf8_lossy(k).into_owned()),
                value: message.payload().map(|v| String::from_utf8_lossy(v).into_owned()),
                headers: message.headers().map_or(0, Headers::count),
            }),
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    found
}

pub fn values(found: &[Found]) -> Vec<&str> {
    found.iter().filter_map(|f| f.value.as_deref()).collect()
}

/// The group's committed offset of a partition.
pub async fn committed(group: &str, topic: &str, partition: i32) -> Option<i64> {
    let consumer: BaseConsumer = client(&[("group.id", group)]).create().unwrap();
    let topic = topic.to_string();
    let read = move || {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, partition);
        let list = consumer.committed_offsets(list, SOON).unwrap();
        match list.elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// `id BIGINT, name TEXT`.
pub fn table() -> TableSpec {
    let column = |name: &str, data_type: DataType| Column {
        name: name.into(),
        data_type,
        nullable: true,
        json: false,
        metadata: None,
    };
    TableSpec {
        name: "t".into(),
        columns: vec![column("id", DataType::Int64), column("name", DataType::Utf8)],
        projection: vec![0, 1],
        event_time: None,
        primary_key: Vec::new(),
    }
}

pub fn changes(rows: impl IntoIterator<Item = (i64, String)>) -> Changes {
    let (ids, names): (Vec<i64>, Vec<String>) = rows.into_iter().unzip();
    let times = TimestampMicrosecondArray::from(vec![0; ids.len()]);
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(Int64Array::from(ids))), ("name", Arc::new(StringArray::from(names)))];
    Changes::inserts(RecordBatch::try_from_iter_with_nullable(columns.map(|(n, a)| (n, a, true))).unwrap(), times)
        .unwrap()
}

pub fn options(pairs: &[(&str, &str)]) -> Options {
    let server = Options::from_pairs([("bootstrap_servers", bootstrap())]);
    server.overridden_by(&Options::from_pairs(pairs.iter().copied()))
}

pub fn open_source(pairs: &[(&str, &str)], pipeline: Option<&str>) -> Arc<dyn Source> {
    let ctx =
        SourceContext { pipeline: pipeline.map(PipelineId::from), clock: Arc::new(SystemClock), partitions: None };
    KafkaConnector::new().source(&options(pairs), &table(), &ctx).unwrap()
}

/// A reader over all splits, each where the options say.
pub async fn reader(source: &Arc<dyn Source>) -> Box<dyn SourceReader> {
    let splits = source.discover().await.unwrap();
    source.open(splits.into_iter().map(|split| SplitStart { split, at: StartAt::Configured }).collect()).await.unwrap()
}

pub async fn reader_at(source: &Arc<dyn Source>, positions: &[(SplitId, Position)]) -> Box<dyn SourceReader> {
    let start =
        |(split, position): &(SplitId, Position)| SplitStart { split: split.clone(), at: StartAt::At(*position) };
    source.open(positions.iter().map(start).collect()).await.unwrap()
}

/// A record as the reader gave it: split, position, key, value.
pub type Seen = (String, u64, Option<String>, Option<String>);

/// Reads until `count` records came.
pub async fn take(reader: &mut Box<dyn SourceReader>, count: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let fetched = tokio::time::timeout(SOON, reader.next(LIMIT)).await.expect("no more records").unwrap();
        let Fetched::Records(fetched) = fetched else { panic!("not records") };
        assert_eq!(fetched.runs.iter().map(|r| r.count).sum::<usize>(), fetched.records.len());
        let splits = fetched.runs.iter().flat_map(|run| std::iter::repeat_n(run, run.count));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for (index, run) in splits.enumerate() {
            let record = fetched.records.get(index);
            assert_eq!(run.split.as_str(), format!("{}/{}", record.topic, record.partition));
            assert!(record.position < run.next);
            seen.push((run.split.to_string(), record.position.0, record.key.map(text), record.value.map(text)));
        }
    }
    assert_eq!(seen.len(), count);
    seen
}

/// One installation's connector, and a pipeline's sinks from it.
pub struct Installation {
    pub connector: KafkaConnector,
    pub instance: String,
    pub pipeline: String,
    pub interval: Duration,
}

impl Installation {
    pub fn new() -> Self {
        Self {
            connector: KafkaConnector::new(),
            instance: unique("instance"),
            pipeline: unique("pipeline"),
            interval: Duration::from_secs(10),
        }
    }
    /// The same installation after a restart.
    pub fn restarted(&self) -> Self {
        Self {
            connector: KafkaConnector::new(),
            instance: self.instance.clone(),
            pipeline: self.pipeline.clone(),
            interval: self.interval,
        }
    }
    pub fn sink(&self, pairs: &[(&str, &str)]) -> laminar_core::Result<Arc<dyn Sink>> {
        self.sink_of(&table(), pairs, None)
    }
    pub fn sink_of(
        &self,
        table: &TableSpec,
        pairs: &[(&str, &str)],
        delivery: Option<Delivery>,
    ) -> laminar_core::Result<Arc<dyn Sink>> {
        let ctx = SinkContext {
            instance: self.instance.clone(),
            pipeline: PipelineId::from(self.pipeline.as_str()),
            delivery,
            checkpoint_interval: self.interval,
            clock: Arc::new(SystemClock),
        };
        self.connector.check_table(laminar_core::connector::Role::Sink, &options(pairs), table)?;
        self.connector.sink(&options(pairs), table, &ctx)
    }
}

pub fn task(index: u32) -> TaskId {
    TaskId { operator: OperatorId::from("sink-0"), index }
}

/// A recovered sink with one writer.
pub struct Open {
    pub committer: Arc<dyn Committer>,
    pub writer: Box<dyn SinkWriter>,
    pub marker: Option<laminar_core::sink::Marker>,
}

pub async fn open_sink(sink: &Arc<dyn Sink>) -> Open {
    let committer = sink.committer().unwrap();
    let marker = committer.recover().await.unwrap();
    Open { writer: sink.open(&task(0)).await.unwrap(), committer, marker }
}

pub fn names(range: std::ops::Range<i64>) -> impl Iterator<Item = (i64, String)> {
    range.map(|i| (i, format!("n{i}")))
}

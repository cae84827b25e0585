//! Kafka topics as a source: one split a partition, named `topic/partition`; a position is an offset.
//!
//! Partitions are assigned by us, never by the group: the checkpoint says where to go on, and the group's offsets only
//! follow it, for other tools to see. Nothing joins the group.
//!
//! A split without a position is pinned when the reader opens: `latest` becomes a number then, not at the first record,
//! else a restart in between would skip what arrived meanwhile.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::connector::SourceContext;
use laminar_core::format::Decoder;
use laminar_core::source::{ConsumerGroup, Source, SourceReader, SplitStart, StartAt};
use laminar_core::table::TableSpec;
use laminar_core::{Code, Error, Position, Result, SplitId};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, ClientKind, Cluster, Events, REACH, blocking};
use super::encoding::Base64Decoder;
use super::error::from_kafka;
use super::native::{FetchQueue, position};
use super::options::{SourceSettings, Start};
use super::reader::Reader;

/// How long opening a reader waits for the brokers to say where the splits start.
const RESOLVE: Duration = Duration::from_secs(15);

/// The group whose rights a preview uses when none is named; nothing is committed to it.
const PREVIEW_GROUP: &str = "laminar-preview";

/// Bounds of what one reader fetches ahead. Small records cost librdkafka about 450 bytes besides their own, so both the
/// number and the bytes are bounded: about 30 MB a reader. A full queue is looked at again after 5 ms, not a second.
const FETCH_AHEAD: &[(&str, &str)] = &[
    ("queued.min.messages", "30000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "8388608"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "100"),
];

/// What we depend on. An offset that is gone is an error, never a jump; offsets are ours to commit.
const FIXED: &[(&str, &str)] = &[
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("allow.auto.create.topics", "false"),
];

pub(super) struct KafkaSource {
    settings: SourceSettings,
    table: TableSpec,
    /// `None`: a preview, which commits nothing.
    group: Option<ConsumerGroup>,
}

impl KafkaSource {
    pub fn new(settings: SourceSettings, table: &TableSpec, ctx: &SourceContext) -> Self {
        let group = ctx.pipeline.as_ref().map(|pipeline| ConsumerGroup {
            cluster: settings.cluster.name().to_string(),
            group_id: settings.group_id.clone().unwrap_or_else(|| format!("laminar-{pipeline}")),
        });
        Self { settings, table: table.clone(), group }
    }

    /// Positions in a topic that the table does not name any more must not be forgotten in silence.
    fn check_split(&self, split: &SplitId) -> Result<()> {
        let (topic, _) = parse_split(split)?;
        if self.settings.topics.contains(&topic) {
            return Ok(());
        }
        let message = format!("the checkpoint stands in topic {topic}, which table {} does not read", self.table.name);
        Err(Error::new(Code::CheckpointMismatch, message)
            .with_detail(format!("the table reads {}", self.settings.topics.join(", ")))
            .with_hint("give the table its topic back, or RESTART PIPELINE … IGNORING STATE to start anew"))
    }

    fn consumer(&self) -> Result<BaseConsumer<Events>> {
        let group_id = match (&self.group, &self.settings.group_id) {
            (Some(group), _) => group.group_id.as_str(),
            (None, Some(group_id)) => group_id,
            (None, None) => PREVIEW_GROUP,
        };
        let mut config = self.settings.cluster.config(ClientKind::Consumer, FETCH_AHEAD, FIXED);
        config.set("group.id", group_id);
        self.settings.cluster.create(&config)
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn discover(&self) -> Result<Vec<SplitId>> {
        let (cluster, topics) = (self.settings.cluster.clone(), self.settings.topics.clone());
        blocking(move || {
            let client = cluster.inspector("read_committed")?;
            let mut splits = Vec::new();
            for topic in &topics {
                let partitions = client::partitions(&cluster, &client, topic, REACH)?;
                splits.extend(partitions.into_iter().map(|partition| split_id(topic, partition)));
            }
            Ok(splits)
        })
        .await
    }

    async fn open(&self, splits: Vec<SplitStart>) -> Result<Box<dyn SourceReader>> {
        splits.iter().try_for_each(|start| self.check_split(&start.split))?;
        let consumer = self.consumer()?;
        let (cluster, start) = (self.settings.cluster.clone(), self.settings.start);
        let queue_and_positions = blocking(move || open(&cluster, consumer, &splits, start)).await?;
        let (queue, positions) = queue_and_positions;
        let commits = self.group.is_some().then_some(self.settings.commit_interval);
        Ok(Box::new(Reader::new(Arc::new(queue), positions, commits)))
    }

    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>> {
        let decoder = laminar_formats::decoder(&self.settings.format, &self.table)?;
        Ok(Some(Base64Decoder::around(decoder, self.settings.encoding)))
    }

    fn can_pause(&self) -> bool {
        true
    }

    fn yields_changes(&self) -> bool {
        self.settings.format.yields_changes()
    }

    async fn ends(&self, splits: &[SplitId]) -> Result<Vec<Option<Position>>> {
        let cluster = self.settings.cluster.clone();
        let partitions = splits.iter().map(parse_split).collect::<Result<Vec<_>>>()?;
        blocking(move || {
            let client = cluster.inspector("read_committed")?;
            let asked: Vec<_> = partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)).collect();
            let ends = offsets(&cluster, &client, &asked, Start::Latest)?;
            Ok(ends.into_iter().map(Some).collect())
        })
        .await
    }

    fn group(&self) -> Option<ConsumerGroup> {
        self.group.clone()
    }
}

/// A split with the topic and partition it names, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub split: SplitId,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Next record to read.
    pub next: Position,
    /// The broker said that there is none yet.
    pub at_end: bool,
}

fn open(
    cluster: &Cluster,
    consumer: BaseConsumer<Events>,
    splits: &[SplitStart],
    start: Start,
) -> Result<(FetchQueue, Vec<Standing>)> {
    let mut standings = Vec::with_capacity(splits.len());
    let (mut configured, mut beginning) = (Vec::new(), Vec::new());
    for (at, split) in splits.iter().enumerate() {
        let (topic, partition) = parse_split(&split.split)?;
        match split.at {
            StartAt::Configured => configured.push(at),
            StartAt::Beginning => beginning.push(at),
            StartAt::At(_) => {}
        }
        let next = split.at.or_zero();
        standings.push(Standing { split: split.split.clone(), topic: topic.into(), partition, next, at_end: false });
    }
    for (unknown, start) in [(configured, start), (beginning, Start::Earliest)] {
        let asked: Vec<(&str, i32)> =
            unknown.iter().filter_map(|at| standings.get(*at)).map(|s| (s.topic.as_ref(), s.partition)).collect();
        let resolved = offsets(cluster, &consumer, &asked, start)?;
        for (at, next) in unknown.into_iter().zip(resolved) {
            if let Some(standing) = standings.get_mut(at) {
                standing.next = next;
            }
        }
    }

    let names: Vec<(String, i32)> = standings.iter().map(|s| (s.topic.to_string(), s.partition)).collect();
    let queue = FetchQueue::new(consumer, &names).map_err(Error::internal)?;
    let mut assignment = TopicPartitionList::with_capacity(standings.len());
    for standing in &standings {
        let offset = i64::try_from(standing.next.0).map_err(|_| {
            Error::new(
                Code::DataLoss,
                format!("position {} of split {} is not an offset", standing.next, standing.split),
            )
        })?;
        let added = assignment.add_partition_offset(&standing.topic, standing.partition, Offset::Offset(offset));
        added.map_err(|e| from_kafka(format!("cannot read split {}", standing.split), &e))?;
    }
    if let Some(consumer) = queue.consumer() {
        let what = || format!("cannot read from kafka at {}", cluster.name());
        consumer.assign(&assignment).map_err(|e| from_kafka(what(), &e))?;
    }
    Ok((queue, standings))
}

/// Where `start` is in each partition now, in the order asked. Blocks.
///
/// Errors: `unreachable`, `authentication_failed`, `unknown_topic`.
pub(super) fn offsets(
    cluster: &Cluster,
    client: &BaseConsumer<Events>,
    partitions: &[(&str, i32)],
    start: Start,
) -> Result<Vec<Position>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    // The protocol's own numbers: -2 asks for the first offset, -1 for the end, others are times.
    let asked = match start {
        Start::Earliest => Offset::Beginning,
        Start::Latest => Offset::End,
        Start::AtMillis(millis) => Offset::Offset(millis),
    };
    let list = ask(cluster, client, partitions, asked)?;
    let mut positions = Vec::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        let what = || format!("cannot find where to start in partition {partition} of topic {topic}");
        let found = list.find_partition(topic, *partition);
        let found = found.ok_or_else(|| Error::new(Code::UnknownTopic, what()))?;
        found.error().map_err(|e| from_kafka(what(), &e))?;
        positions.push(match found.offset() {
            Offset::Offset(offset) => position(offset),
            // Nothing is as late as the time asked for.
            Offset::End if start != Start::Latest => {
                match offsets(cluster, client, &[(topic, *partition)], Start::Latest)?.first() {
                    Some(end) => *end,
                    None => return Err(Error::internal(what())),
                }
            }
            other => {
                return Err(Error::new(Code::ConnectorError, what()).with_detail(format!("the broker said {other:?}")));
            }
        });
    }
    Ok(positions)
}

fn ask(
    cluster: &Cluster,
    client: &BaseConsumer<Events>,
    partitions: &[(&str, i32)],
    asked: Offset,
) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        let added = list.add_partition_offset(topic, *partition, asked);
        added.map_err(|e| from_kafka(format!("cannot ask for offsets of topic {topic}"), &e))?;
    }
    client.offsets_for_times(list, RESOLVE).map_err(|error| {
        client::drain_events(client);
        let mapped = from_kafka(format!("cannot ask kafka at {} for offsets", cluster.name()), &error);
        if mapped.code() == Code::Unreachable { cluster.unreachable(client.context()) } else { mapped }
    })
}

/// `topic/partition`; a topic's name has no slash.
fn split_id(topic: &str, partition: i32) -> SplitId {
    SplitId::new(format!("{topic}/{partition}"))
}

fn parse_split(split: &SplitId) -> Result<(String, i32)> {
    let parsed = split
        .as_str()
        .rsplit_once('/')
        .and_then(|(topic, partition)| Some((topic.to_string(), partition.parse().ok()?)));
    parsed.ok_or_else(|| Error::internal(format!("{split} is not a split of kafka")))
}

/// Positions by topic and partition, as the committer of a sink needs them.
pub(super) fn offset_list(positions: &[(SplitId, Position)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (split, next) in positions {
        let (topic, partition) = parse_split(split)?;
        let offset = i64::try_from(next.0).unwrap_or(i64::MAX);
        let added = list.add_partition_offset(&topic, partition, Offset::Offset(offset));
        added.map_err(|e| from_kafka(format!("cannot commit the offset of split {split}"), &e))?;
    }
    Ok(list)
}

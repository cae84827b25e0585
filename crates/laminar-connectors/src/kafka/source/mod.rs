//! Kafka topics as a source: one split a partition, named `topic/partition`; a position is an offset.
//!
//! Partitions are assigned by us, never by the group: the checkpoint says where to go on, and the group's offsets only
//! follow it, for other tools to see. Nothing joins the group.
//!
//! A split without a position is pinned when the reader opens: `latest` becomes a number then, not at the first record,
//! else a restart in between would skip what arrived meanwhile. So do the group's offsets, which are read only then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::connector::{PartitionSet, SourceContext};
use laminar_core::format::Decoder;
use laminar_core::source::{ConsumerGroup, Source, SourceReader, SplitStart};
use laminar_core::table::TableSpec;
use laminar_core::{Code, Error, Position, Result, SplitId};
use laminar_formats::FormatContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::kafka::client::error::from_kafka;
use crate::kafka::client::{ClientKind, Cluster, Events, blocking};
use crate::kafka::encoding::Base64Decoder;
use crate::kafka::native::FetchQueue;
use crate::schema_registry::Patience;
use inspector::Inspector;
use options::SourceSettings;
use places::{At, Places, Standing, offsets};
use reader::Reader;

mod gone;
mod inspector;
pub(super) mod options;
pub(super) mod places;
mod reader;

/// The group whose rights a preview uses when none is named; nothing is committed to it.
pub(crate) const PREVIEW_GROUP: &str = "laminar-preview";

/// Bounds of what one reader fetches ahead. Small records cost librdkafka about 450 bytes besides their own, so both the
/// number and the bytes are bounded: about 30 MB a reader. A full queue is looked at again after 5 ms, not a second.
const FETCH_AHEAD: &[(&str, &str)] = &[
    ("queued.min.messages", "30000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "8388608"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "100"),
    // As Java's client: a broker that hangs is told from one that has nothing.
    ("socket.timeout.ms", "30000"),
];

/// What we depend on. An offset that is gone is an error, never a jump; offsets are ours to commit.
const FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("allow.auto.create.topics", "false"),
];

pub(crate) struct KafkaSource {
    settings: SourceSettings,
    table: TableSpec,
    /// `None`: a preview, which commits nothing.
    group: Option<ConsumerGroup>,
    formats: FormatContext,
    inspector: Inspector,
    /// The brokers tell topics of one name apart.
    has_topic_ids: bool,
    /// `None`: all.
    partitions: Option<PartitionSet>,
}

impl KafkaSource {
    pub fn new(settings: SourceSettings, table: &TableSpec, ctx: &SourceContext) -> Result<Self> {
        let group = ctx.pipeline.as_ref().map(|pipeline| ConsumerGroup {
            cluster: settings.cluster.name().to_string(),
            group_id: settings.group_id.clone().unwrap_or_else(|| format!("laminar-{pipeline}")),
        });
        let inspector = Inspector::new(settings.cluster.clone(), settings.read_mode.as_str());
        let (formats, partitions) = (settings.formats(Patience::Job)?, ctx.partitions.clone());
        Ok(Self { settings, table: table.clone(), group, formats, inspector, has_topic_ids: true, partitions })
    }

    /// The built-in broker has no ids of topics, and leaves the question unanswered.
    pub fn without_topic_ids(self) -> Self {
        Self { has_topic_ids: false, ..self }
    }

    /// Positions in a topic that the table does not name any more must not be forgotten in silence.
    fn check_split(&self, split: &SplitId) -> Result<()> {
        let (topic, _) = parse_split(split)?;
        if self.settings.topics.contains(&topic) {
            return Ok(());
        }
        let message = format!("the checkpoint stands in topic {topic}, which table {} does not read", self.table.name);
        Err(Error::new(Code::CheckpointMismatch, message)
            .with_detail(format!("the table reads {}", self.settings.topics))
            .with_hint("give the table its topic back, or RESTART PIPELINE … IGNORING STATE to start anew"))
    }

    /// Settings of the client that reads.
    fn client(&self) -> ClientConfig {
        let group_id = match (&self.group, &self.settings.group_id) {
            (Some(group), _) => group.group_id.as_str(),
            (None, Some(group_id)) => group_id,
            (None, None) => PREVIEW_GROUP,
        };
        let mut config = self.settings.cluster.config(ClientKind::Consumer, FETCH_AHEAD, FIXED);
        config.set("isolation.level", self.settings.read_mode.as_str());
        config.set("group.id", group_id);
        config
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn discover(&self) -> Result<Vec<SplitId>> {
        let (topics, loss) = (self.settings.topics.clone(), self.settings.on_data_loss);
        self.inspector.splits(topics, self.partitions.clone(), loss).await
    }

    async fn generations(&self, splits: &[SplitId]) -> Result<BTreeMap<SplitId, String>> {
        if !self.has_topic_ids {
            return Ok(BTreeMap::new());
        }
        self.inspector.topic_ids(splits, self.settings.on_data_loss).await
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.settings.discovery
    }

    async fn open(&self, splits: Vec<SplitStart>) -> Result<Box<dyn SourceReader>> {
        splits.iter().try_for_each(|start| self.check_split(&start.split))?;
        let client = self.client();
        let places = Places {
            cluster: self.settings.cluster.clone(),
            start: self.settings.start,
            loss: self.settings.on_data_loss,
        };
        let (queue, standings, places) = blocking(move || {
            let consumer = places.cluster.create(&client)?;
            let standings = places.stand(&consumer, &splits)?;
            let queue = open(&places.cluster, consumer, &standings)?;
            Ok((queue, standings, places))
        })
        .await?;
        let commits = self.group.is_some().then_some(self.settings.commit_interval);
        Ok(Box::new(Reader::new(Arc::new(queue), standings, places, commits)))
    }

    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>> {
        let decoder = self.settings.decoder(&self.table, &self.formats)?;
        Ok(Some(Base64Decoder::around(decoder, self.settings.encoding)))
    }

    fn can_pause(&self) -> bool {
        true
    }

    fn yields_changes(&self) -> bool {
        self.settings.upsert || self.settings.format.yields_changes()
    }

    fn upserts(&self) -> bool {
        self.settings.upsert
    }

    async fn ends(&self, splits: &[SplitId]) -> Result<Vec<Option<Position>>> {
        let partitions = splits.iter().map(parse_split).collect::<Result<Vec<_>>>()?;
        let ends = self.inspector.ask(move |cluster, client| {
            let asked: Vec<_> = partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)).collect();
            Ok(offsets(cluster, client, &asked, At::End)?.into_iter().map(Some).collect())
        });
        ends.await
    }

    fn group(&self) -> Option<ConsumerGroup> {
        self.group.clone()
    }
}

/// A consumer that reads from there.
fn open(cluster: &Cluster, consumer: BaseConsumer<Events>, standings: &[Standing]) -> Result<FetchQueue> {
    let queue = FetchQueue::new(consumer, &partitions_of(standings)).map_err(Error::internal)?;
    let assignment = assignment(standings)?;
    if let Some(consumer) = queue.consumer() {
        let what = || format!("cannot read from kafka at {}", cluster.name());
        consumer.assign(&assignment).map_err(|e| from_kafka(what(), &e))?;
    }
    Ok(queue)
}

pub(crate) fn partitions_of(standings: &[Standing]) -> Vec<(String, i32)> {
    standings.iter().map(|s| (s.topic.to_string(), s.partition)).collect()
}

/// The partitions, each from its next offset.
pub(crate) fn assignment(standings: &[Standing]) -> Result<TopicPartitionList> {
    let mut assignment = TopicPartitionList::with_capacity(standings.len());
    for standing in standings {
        let offset = i64::try_from(standing.next.0).map_err(|_| {
            Error::new(
                Code::DataLoss,
                format!("position {} of split {} is not an offset", standing.next, standing.split),
            )
        })?;
        let added = assignment.add_partition_offset(&standing.topic, standing.partition, Offset::Offset(offset));
        added.map_err(|e| from_kafka(format!("cannot read split {}", standing.split), &e))?;
    }
    Ok(assignment)
}

/// `topic/partition`; a topic's name has no slash.
pub(crate) fn split_id(topic: &str, partition: i32) -> SplitId {
    SplitId::new(format!("{topic}/{partition}"))
}

pub(crate) fn parse_split(split: &SplitId) -> Result<(String, i32)> {
    let parsed = split
        .as_str()
        .rsplit_once('/')
        .and_then(|(topic, partition)| Some((topic.to_string(), partition.parse().ok()?)));
    parsed.ok_or_else(|| Error::internal(format!("{split} is not a split of kafka")))
}

/// The topics that the splits are of, each once.
pub(crate) fn topics_of<'a>(splits: impl Iterator<Item = &'a SplitId>) -> Result<BTreeSet<String>> {
    splits.map(|split| Ok(parse_split(split)?.0)).collect()
}

/// Positions by topic and partition, as the committer of a sink needs them.
pub(crate) fn offset_list(positions: &[(SplitId, Position)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (split, next) in positions {
        let (topic, partition) = parse_split(split)?;
        let offset = i64::try_from(next.0).unwrap_or(i64::MAX);
        let added = list.add_partition_offset(&topic, partition, Offset::Offset(offset));
        added.map_err(|e| from_kafka(format!("cannot commit the offset of split {split}"), &e))?;
    }
    Ok(list)
}

//! The cluster as the system tables and the command line see it: brokers, topics, groups, and moving a group.
//!
//! The rule that must stay true: a group is moved only while it has no members, all of its partitions or none, and not after
//! whoever asked was told that there was no answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use laminar_core::cluster::{
    BrokerInfo, ClusterAdmin, GroupInfo, GroupMember, GroupOffset, NewTopic, PartitionInfo, ResetTo, TopicInfo,
};
use laminar_core::{Code, Error, Result};
use rdkafka::admin::{self, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::client::error::{from_code, from_kafka};
use crate::kafka::client::{self, ClientKind, Cluster, Events, REACH, blocking};
use crate::kafka::native;

/// Whoever asks waits nine seconds.
const ANSWER: Duration = Duration::from_secs(8);

/// What a commit that was begun in time may take longer.
const COMMIT: Duration = Duration::from_millis(500);

/// Partitions whose ends are asked for in one go.
const AT_ONCE: usize = 1000;

pub(crate) struct KafkaClusterAdmin(Cluster);

impl KafkaClusterAdmin {
    pub fn new(cluster: Cluster) -> Self {
        Self(cluster)
    }

    /// Runs `ask` with a client that has reached the cluster, away from the threads that move rows. It has [`ANSWER`] in all.
    async fn with<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Asker, &Metadata) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (cluster, deadline) = (self.0.clone(), Instant::now() + ANSWER);
        blocking(move || {
            let asker = Asker { client: cluster.inspector("read_uncommitted")?, cluster, deadline };
            let metadata = client::metadata(&asker.cluster, &asker.client, None, REACH)?;
            ask(&asker, &metadata)
        })
        .await
    }
}

/// A client that only asks.
struct Asker {
    cluster: Cluster,
    client: BaseConsumer<Events>,
    /// Nobody waits for an answer later.
    deadline: Instant,
}

#[async_trait]
impl ClusterAdmin for KafkaClusterAdmin {
    async fn brokers(&self) -> Result<Vec<BrokerInfo>> {
        self.with(|_, metadata| {
            let broker = |b: &rdkafka::metadata::MetadataBroker| BrokerInfo {
                id: b.id(),
                host: b.host().to_string(),
                port: u16::try_from(b.port()).unwrap_or(0),
            };
            let mut brokers: Vec<_> = metadata.brokers().iter().map(broker).collect();
            brokers.sort_by_key(|broker| broker.id);
            Ok(brokers)
        })
        .await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let mut topics = self
            .with(|_, metadata| {
                let topic = |t: &rdkafka::metadata::MetadataTopic| TopicInfo {
                    name: t.name().to_string(),
                    partitions: t.partitions().len(),
                    replication_factor: t.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0),
                    is_internal: t.name().starts_with("__"),
                    cleanup_policy: None,
                    retention_ms: None,
                    retention_bytes: None,
                };
                let mut topics: Vec<_> = metadata.topics().iter().map(topic).collect();
                topics.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(topics)
            })
            .await?;
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        let mut settings = self.topic_settings(&names).await;
        for topic in &mut topics {
            let Some(found) = settings.remove(&topic.name) else { continue };
            let number = |key: &str| found.get(key).and_then(|value| value.parse().ok());
            topic.cleanup_policy = found.get("cleanup.policy").cloned();
            topic.retention_ms = number("retention.ms");
            topic.retention_bytes = number("retention.bytes");
        }
        Ok(topics)
    }

    async fn partitions(&self) -> Result<Vec<PartitionInfo>> {
        self.with(|asker, metadata| {
            let mut partitions = Vec::new();
            for topic in metadata.topics() {
                partitions.extend(topic.partitions().iter().map(|p| PartitionInfo {
                    topic: topic.name().to_string(),
                    partition: p.id(),
                    leader: (p.leader() >= 0).then_some(p.leader()),
                    replicas: p.replicas().to_vec(),
                    in_sync: p.isr().to_vec(),
                    low_watermark: None,
                    high_watermark: None,
                }));
            }
            partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
            let names: Vec<_> = partitions.iter().map(|p| (p.topic.clone(), p.partition)).collect();
            let (low, high) = (asker.offsets(&names, Offset::Beginning)?, asker.offsets(&names, Offset::End)?);
            for (partition, (low, high)) in partitions.iter_mut().zip(low.into_iter().zip(high)) {
                (partition.low_watermark, partition.high_watermark) = (low, high);
            }
            Ok(partitions)
        })
        .await
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.with(|asker, _| {
            let mut groups = asker.groups(None)?;
            for group in &mut groups {
                let committed = told(&group.id, asker.committed(&group.id))?.into_iter();
                let offset = |(topic, partition, committed)| GroupOffset { topic, partition, committed, end: None };
                group.offsets = committed.map(offset).collect();
            }
            // Many groups stand in the same partitions: their ends are asked for once.
            let stands = groups.iter().flat_map(|group| &group.offsets).map(|o| (o.topic.clone(), o.partition));
            let partitions: Vec<_> = stands.collect::<BTreeSet<_>>().into_iter().collect();
            let ends = asker.offsets(&partitions, Offset::End)?;
            let ends: BTreeMap<_, _> = partitions.into_iter().zip(ends).collect();
            for offset in groups.iter_mut().flat_map(|group| &mut group.offsets) {
                offset.end = ends.get(&(offset.topic.clone(), offset.partition)).copied().flatten();
            }
            Ok(groups)
        })
        .await
    }

    async fn reset_offsets(&self, group: &str, topic: Option<&str>, to: ResetTo) -> Result<Vec<GroupOffset>> {
        let (name, topic) = (group.to_string(), topic.map(str::to_string));
        let moved = self.with(move |asker, metadata| asker.reset(metadata, &name, topic.as_deref(), to));
        tokio::time::timeout(ANSWER + COMMIT, moved).await.unwrap_or_else(|_| {
            let what = format!("kafka at {} does not say whether group {group} is moved", self.0.name());
            Err(Error::new(Code::Timeout, what).with_detail("it may still be moved"))
        })
    }

    async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        let cluster = &self.0;
        self.with(|_, _| Ok(())).await?; // says why the cluster cannot be reached, which an admin client does not
        let what = || format!("cannot create topic {} in kafka at {}", topic.name, cluster.name());
        let replication = TopicReplication::Fixed(topic.replication_factor.unwrap_or(-1));
        let mut new = admin::NewTopic::new(&topic.name, topic.partitions.unwrap_or(-1), replication);
        for (key, value) in &topic.config {
            new = new.set(key, value);
        }
        let admin = super::admin_client(cluster).await?;
        let outcome = admin.create_topics(&[new], &super::options()).await;
        client::drop_elsewhere(admin);
        match outcome.map_err(|e| from_kafka(what(), &e))?.into_iter().next() {
            Some(Ok(_)) => Ok(()),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Err(Error::new(
                Code::DuplicateName,
                format!("topic {} exists in kafka at {}", topic.name, cluster.name()),
            )
            .with_field("topic")),
            Some(Err((_, code))) => Err(match wrong_setting(code) {
                Some((field, hint)) => Error::new(Code::InvalidOption, what())
                    .with_detail(code.to_string())
                    .with_hint(hint)
                    .with_field(field),
                None => from_code(what(), code, ""),
            }),
            None => Err(Error::internal(what())),
        }
    }
}

/// What the group has committed. A group that is there and does not tell us hides no others.
///
/// Errors: `unreachable` and `timeout`: the next would not answer either.
fn told(group: &str, committed: Result<Vec<native::Committed>>) -> Result<Vec<native::Committed>> {
    match committed {
        Err(error) if !matches!(error.code(), Code::Unreachable | Code::Timeout) => {
            tracing::debug!(group, %error, "a group's offsets cannot be read");
            Ok(Vec::new())
        }
        committed => committed,
    }
}

/// The field to blame, and what to do.
fn wrong_setting(code: RDKafkaErrorCode) -> Option<(&'static str, &'static str)> {
    Some(match code {
        RDKafkaErrorCode::InvalidTopic => ("topic", "a name has 1 to 249 letters, digits, '.', '_' or '-'"),
        RDKafkaErrorCode::InvalidPartitions => ("partitions", "give at least 1"),
        RDKafkaErrorCode::InvalidReplicationFactor => {
            ("replication_factor", "give at least 1, and no more than there are brokers")
        }
        RDKafkaErrorCode::InvalidConfig => ("config", "see Kafka's settings of topics, such as retention.ms"),
        RDKafkaErrorCode::PolicyViolation => ("topic", "the cluster has rules for new topics: ask who runs it"),
        _ => return None,
    })
}

impl KafkaClusterAdmin {
    /// Settings by topic; nothing where we may not ask.
    async fn topic_settings(&self, names: &[String]) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut settings = BTreeMap::new();
        let Ok(admin) = super::admin_client(&self.0).await else { return settings };
        let asked: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let answered = match asked.is_empty() {
            true => Vec::new(),
            false => admin.describe_configs(&asked, &super::options()).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "settings of topics cannot be read");
                Vec::new()
            }),
        };
        client::drop_elsewhere(admin);
        for resource in answered.into_iter().flatten() {
            let admin::OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
            let entries = resource.entries.iter().filter_map(|e| Some((e.name.clone(), e.value.clone()?)));
            settings.insert(name.clone(), entries.collect());
        }
        settings
    }
}

impl Asker {
    /// How long the next question may take.
    ///
    /// Errors: `timeout`.
    fn left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now()).min(REACH);
        if left.is_zero() {
            let what =
                format!("kafka at {} did not answer all questions within {} s", self.cluster.name(), ANSWER.as_secs());
            return Err(Error::new(Code::Timeout, what).with_detail("nothing was changed"));
        }
        Ok(left)
    }

    /// Where `at` is in each partition, in the order asked; `None` where its leader does not say.
    fn offsets(&self, partitions: &[(String, i32)], at: Offset) -> Result<Vec<Option<i64>>> {
        let mut found = Vec::with_capacity(partitions.len());
        for some in partitions.chunks(AT_ONCE) {
            let mut list = TopicPartitionList::with_capacity(some.len());
            for (topic, partition) in some {
                let added = list.add_partition_offset(topic, *partition, at);
                added.map_err(|e| from_kafka(format!("cannot ask for offsets of topic {topic}"), &e))?;
            }
            let what = || format!("cannot ask kafka at {} for offsets", self.cluster.name());
            let list = self.client.offsets_for_times(list, self.left()?).map_err(|e| from_kafka(what(), &e))?;
            found.extend(some.iter().map(|(topic, partition)| {
                let element = list.find_partition(topic, *partition)?;
                match (element.error(), element.offset()) {
                    (Ok(()), Offset::Offset(offset)) => Some(offset),
                    _ => None,
                }
            }));
        }
        Ok(found)
    }

    fn groups(&self, group: Option<&str>) -> Result<Vec<GroupInfo>> {
        let what = || format!("cannot ask kafka at {} for its groups", self.cluster.name());
        let list = self.client.fetch_group_list(group, self.left()?).map_err(|e| from_kafka(what(), &e))?;
        let member = |m: &rdkafka::groups::GroupMemberInfo| GroupMember {
            id: m.id().to_string(),
            client_id: m.client_id().to_string(),
            host: m.client_host().trim_start_matches('/').to_string(),
        };
        let group = |g: &rdkafka::groups::GroupInfo| GroupInfo {
            id: g.name().to_string(),
            state: g.state().to_string(),
            protocol: g.protocol().to_string(),
            members: g.members().iter().map(member).collect(),
            offsets: Vec::new(),
        };
        let mut groups: Vec<_> = list.groups().iter().map(group).collect();
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(groups)
    }

    fn committed(&self, group: &str) -> Result<Vec<native::Committed>> {
        let left_ms = i32::try_from(self.left()?.as_millis()).unwrap_or(i32::MAX);
        let mut committed = native::committed(self.client.client(), group, left_ms).map_err(|(code, text)| {
            from_code(
                format!("cannot ask kafka at {} for the offsets of group {group}", self.cluster.name()),
                code,
                &text,
            )
        })?;
        committed.sort();
        Ok(committed)
    }

    fn reset(&self, metadata: &Metadata, group: &str, topic: Option<&str>, to: ResetTo) -> Result<Vec<GroupOffset>> {
        let at = || format!("in kafka at {}", self.cluster.name());
        let members: usize = self.groups(Some(group))?.iter().map(|group| group.members.len()).sum();
        if members > 0 {
            return Err(has_members(group, &format!("{members} members read with it")));
        }
        let partitions: Vec<(String, i32)> = match topic {
            Some(name) => {
                let found = metadata.topics().iter().find(|t| t.name() == name && !t.partitions().is_empty());
                let Some(found) = found else {
                    return Err(Error::new(Code::UnknownTopic, format!("there is no topic {name} {}", at()))
                        .with_field("topic"));
                };
                found.partitions().iter().map(|partition| (name.to_string(), partition.id())).collect()
            }
            None => self.committed(group)?.into_iter().map(|(topic, partition, _)| (topic, partition)).collect(),
        };
        if partitions.is_empty() {
            return Err(Error::new(Code::NotFound, format!("group {group} has no offsets {}", at()))
                .with_hint("name a topic to give it some")
                .with_field("group"));
        }
        let (low, high) = (self.offsets(&partitions, Offset::Beginning)?, self.offsets(&partitions, Offset::End)?);
        let times = match to {
            ResetTo::Timestamp(millis) => self.offsets(&partitions, Offset::Offset(millis))?,
            _ => vec![None; partitions.len()],
        };
        let mut moved = Vec::with_capacity(partitions.len());
        let bounds = low.into_iter().zip(high).zip(times);
        for ((topic, partition), ((low, high), time)) in partitions.into_iter().zip(bounds) {
            let (Some(low), Some(high)) = (low, high) else {
                let what = format!("partition {partition} of topic {topic} does not say where it begins and ends");
                return Err(Error::new(Code::Unreachable, what).with_detail("it has no leader; nothing was changed"));
            };
            let committed = match to {
                ResetTo::Earliest => low,
                ResetTo::Latest => high,
                // Nothing is as late as the time asked for.
                ResetTo::Timestamp(_) => time.unwrap_or(high),
                ResetTo::Offset(offset) => offset.clamp(low, high),
            };
            moved.push(GroupOffset { topic, partition, committed, end: Some(high) });
        }
        self.commit(group, &moved)?;
        Ok(moved)
    }

    fn commit(&self, group: &str, offsets: &[GroupOffset]) -> Result<()> {
        let what = || format!("cannot move group {group} in kafka at {}", self.cluster.name());
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for o in offsets {
            let added = list.add_partition_offset(&o.topic, o.partition, Offset::Offset(o.committed));
            added.map_err(|e| from_kafka(what(), &e))?;
        }
        let fixed = [("group.id", group), ("enable.auto.commit", "false")];
        let client: BaseConsumer<Events> =
            self.cluster.create(&self.cluster.config(ClientKind::Consumer, &[], &fixed))?;
        // Its first commit would wait for a broker without saying why it does not come.
        client::metadata(&self.cluster, &client, Some(crate::kafka::producer::marker::TOPIC), self.left()?)?;
        self.left()?;
        client.commit(&list, CommitMode::Sync).map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration) => {
                has_members(group, "somebody joined it just now")
            }
            _ => match from_kafka(what(), &error) {
                error if error.code() == Code::Unreachable => error.with_detail("it may still be moved"),
                error => error,
            },
        })
    }
}

fn has_members(group: &str, detail: &str) -> Error {
    Error::new(Code::WrongState, format!("group {group} is in use"))
        .with_detail(detail)
        .with_hint("stop its consumers first")
        .with_field("group")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::client::options::Protocol;

    #[test]
    fn a_group_that_does_not_tell_its_offsets_hides_no_others() {
        let check = |code: Code, expected: Option<Code>| {
            let told = told("g", Err(Error::new(code, "no")));
            assert_eq!(told.as_ref().err().map(Error::code), expected, "{told:?}");
        };
        check(Code::AuthenticationFailed, None);
        check(Code::ConnectorError, None);
        check(Code::Unreachable, Some(Code::Unreachable));
        check(Code::Timeout, Some(Code::Timeout));
    }

    #[test]
    fn nobody_is_asked_and_nothing_moved_after_the_time_is_up() {
        let cluster = Cluster::new(vec!["127.0.0.1:1".into()], Protocol::Plaintext, Vec::new());
        let client = cluster.inspector("read_uncommitted").unwrap();
        let asker = Asker { cluster, client, deadline: Instant::now() };
        let begun = Instant::now();
        let errors = [asker.groups(None).err(), asker.committed("g").err(), asker.commit("g", &[]).err()];
        for error in errors {
            let error = error.unwrap();
            assert_eq!((error.code(), error.detail()), (Code::Timeout, Some("nothing was changed")));
        }
        assert!(begun.elapsed() < REACH);
    }
}

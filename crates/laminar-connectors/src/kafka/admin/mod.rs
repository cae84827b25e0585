//! What we ask of a cluster besides records: topics, and settings of its brokers.

use std::time::{Duration, Instant};

use laminar_core::{Code, Error, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::client::error::{from_code, from_kafka};
use crate::kafka::client::{self, ClientKind, Cluster, Events, REACH, blocking};
use crate::kafka::producer::marker;
use crate::kafka::sink::options::{CleanupPolicy, Retention, SinkSettings};

pub(super) mod cluster;
pub(super) mod test_connection;

/// How long a new topic may take to become usable.
pub(crate) const CREATION: Duration = Duration::from_secs(10);

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REACH)).operation_timeout(Some(REACH))
}

/// A client for what only admin clients may ask. To be dropped elsewhere too: see [`client::drop_elsewhere`].
pub(crate) async fn admin_client(cluster: &Cluster) -> Result<AdminClient<Events>> {
    let cluster = cluster.clone();
    blocking(move || cluster.create(&cluster.config(ClientKind::Producer, &[], &[]))).await
}

/// Number of brokers, and one of their ids.
async fn brokers(cluster: &Cluster) -> Result<(usize, i32)> {
    let cluster = cluster.clone();
    blocking(move || {
        let client = cluster.inspector("read_committed")?;
        let metadata = client::metadata(&cluster, &client, Some(marker::TOPIC), REACH)?;
        let id = metadata.brokers().first().map_or(-1, |broker| broker.id());
        Ok((metadata.brokers().len(), id))
    })
    .await
}

/// A setting of the brokers; `None` if we may not ask, or the broker does not answer such questions.
pub(crate) async fn broker_setting(cluster: &Cluster, name: &str) -> Result<Option<String>> {
    let (_, broker) = brokers(cluster).await?;
    let admin = admin_client(cluster).await?;
    let asked = admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options()).await;
    client::drop_elsewhere(admin);
    let resources = asked.unwrap_or_else(|error| {
        tracing::debug!(%error, "settings of kafka's brokers cannot be read");
        Vec::new()
    });
    let mut entries = resources.into_iter().filter_map(std::result::Result::ok);
    Ok(entries.find_map(|resource| resource.get(name).and_then(|entry| entry.value.clone())))
}

/// Does the broker create a topic that is asked for? `None`: it does not say.
pub(crate) async fn broker_creates(cluster: &Cluster) -> Result<Option<bool>> {
    let setting = broker_setting(cluster, "auto.create.topics.enable").await?;
    Ok(setting.and_then(|setting| setting.parse().ok()))
}

/// Does the topic exist? Creates nothing.
pub(crate) async fn topic_exists(cluster: &Cluster, topic: &str) -> Result<bool> {
    let (cluster, topic) = (cluster.clone(), topic.to_string());
    blocking(move || {
        let client = cluster.inspector("read_committed")?;
        match client::partitions(&cluster, &client, &topic, REACH) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Code::UnknownTopic => Ok(false),
            Err(error) => Err(error),
        }
    })
    .await
}

/// Makes sure that a sink's topic exists, and counts its partitions: as `topic.auto_create` says it is created by us, or asking
/// for it creates it where the broker creates topics by itself. `compacts`: the topic is to keep the last of each key, so where the
/// broker would create it, with its default for all topics, we do.
///
/// Errors: `unknown_topic` if nobody creates it, `unreachable`, `authentication_failed`.
pub(crate) async fn ensure_sink_topic(settings: &SinkSettings, topic: &str, compacts: bool) -> Result<i32> {
    let asks = settings.creation.auto_create.is_none();
    if settings.creation.auto_create.unwrap_or(compacts)
        && !topic_exists(&settings.cluster, topic).await?
        // A broker that does not say whether it does may not create one for us either.
        && (!asks || broker_creates(&settings.cluster).await? == Some(true))
        && let Err(error) = create_sink_topic(settings, topic, compacts).await
    {
        if !asks {
            return Err(error);
        }
        tracing::warn!(topic, %error, "the broker creates the topic: check that it is compacted");
    }
    let (cluster, topic) = (settings.cluster.clone(), topic.to_string());
    blocking(move || {
        let client = if asks { cluster.topic_creator()? } else { cluster.inspector("read_committed")? };
        let deadline = Instant::now() + CREATION;
        loop {
            match client::partitions(&cluster, &client, &topic, REACH) {
                Ok(found) => return Ok(i32::try_from(found.len()).unwrap_or(i32::MAX)),
                Err(error) if error.code() == Code::UnknownTopic && !asks => {
                    return Err(error.with_hint(creation_hint()));
                }
                // The first answer about a topic that is being created may still be that it is missing.
                Err(error) if error.code() == Code::UnknownTopic && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(error) if error.code() == Code::UnknownTopic => return Err(error.with_hint(creation_hint())),
                Err(error) => return Err(error),
            }
        }
    })
    .await
}

/// What to do about a topic that a sink needs and the broker does not create.
pub(crate) fn creation_hint() -> &'static str {
    "create the topic, or add 'topic.auto_create' = 'true' to the table"
}

/// A topic as the table's options want it.
async fn create_sink_topic(settings: &SinkSettings, topic: &str, compacts: bool) -> Result<()> {
    let creation = &settings.creation;
    // To the broker, -1 is its own default.
    let number = |given: Option<u32>| given.map_or(-1, |given| i32::try_from(given).unwrap_or(i32::MAX));
    let replication = TopicReplication::Fixed(number(creation.replication_factor));
    let policy =
        creation.cleanup_policy.unwrap_or(if compacts { CleanupPolicy::Compact } else { CleanupPolicy::Delete });
    let retention = creation.retention.map(|retention| match retention {
        Retention::Forever => "-1".to_string(),
        Retention::For(time) => time.0.as_millis().to_string(),
    });
    let mut new = NewTopic::new(topic, number(creation.partitions), replication).set("cleanup.policy", policy.as_str());
    if let Some(retention) = &retention {
        new = new.set("retention.ms", retention);
    }
    create(&settings.cluster, &new, "create it by hand, or give this user CREATE on the topic").await
}

/// Makes sure that the topic of markers exists, with settings that keep the last marker of each pipeline for ever.
pub(crate) async fn ensure_progress_topic(cluster: &Cluster, topic: &str) -> Result<()> {
    if topic_exists(cluster, topic).await? {
        return Ok(());
    }
    let (count, _) = brokers(cluster).await?;
    let replication = i32::try_from(count.clamp(1, 3)).unwrap_or(1);
    // Small segments, so that compaction keeps recovery short: the segment being written is never compacted.
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(replication))
        .set("cleanup.policy", "compact")
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1")
        .set("segment.bytes", "4194304")
        .set("min.cleanable.dirty.ratio", "0.1");
    let hint =
        format!("create it by hand: one partition, cleanup.policy=compact, retention.ms=-1, {replication} replicas");
    create(cluster, &new, &hint).await
}

/// Creates the topic, which may exist meanwhile, and waits until it is there.
async fn create(cluster: &Cluster, new: &NewTopic<'_>, hint: &str) -> Result<()> {
    let admin = admin_client(cluster).await?;
    let outcome = admin.create_topics([new], &options()).await;
    client::drop_elsewhere(admin);
    let what = || format!("cannot create topic {} in kafka at {}", new.name, cluster.name());
    match outcome.map_err(|e| from_kafka(what(), &e).with_hint(hint))?.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
            Err(from_code(what(), code, "").with_hint(hint))
        }
        Some(_) => wait_for(cluster, new.name).await,
        None => Err(Error::internal(what())),
    }
}

/// Makes sure that the topic of the dead letters of topic `of` exists, and takes records as long as that one has.
///
/// Errors: as of creating topics, with what to do by hand.
pub(crate) async fn ensure_dead_letter_topic(cluster: &Cluster, topic: &str, of: &str) -> Result<()> {
    if topic_exists(cluster, topic).await? {
        return Ok(());
    }
    let admin = admin_client(cluster).await?;
    let longest = longest_record(&admin, of).await;
    let longest = longest.map(|bytes| bytes.saturating_add(LETTER_HEADERS).to_string());
    // Partitions and replicas: the broker's defaults.
    let mut new = NewTopic::new(topic, -1, TopicReplication::Fixed(-1));
    if let Some(longest) = &longest {
        new = new.set("max.message.bytes", longest);
    }
    client::drop_elsewhere(admin);
    create(cluster, &new, &format!("create topic {topic} by hand, or name another in dlq_topic")).await
}

/// Room for what a dead letter has besides its record.
const LETTER_HEADERS: u32 = 64 << 10;

/// Bytes of the longest batch that the topic takes; `None` if we may not ask.
async fn longest_record(admin: &AdminClient<Events>, topic: &str) -> Option<u32> {
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options()).await.ok()?;
    let topic = described.into_iter().find_map(std::result::Result::ok)?;
    topic.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}

async fn wait_for(cluster: &Cluster, topic: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + CREATION;
    while !topic_exists(cluster, topic).await? {
        if tokio::time::Instant::now() > deadline {
            let what = format!("topic {topic} of kafka at {} did not appear after it was created", cluster.name());
            return Err(Error::new(Code::Timeout, what));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

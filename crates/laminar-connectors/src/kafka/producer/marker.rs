//! The marker: the record, written inside the sink's own transaction, that says which epoch is visible.
//!
//! ```text
//!  topic __laminar_progress   compacted, kept for ever, in the sink's cluster
//!  key   laminar.<instance>.<pipeline>          value {"version":1,"epoch":7,"manifest_digest":"…","positions":{…},…}
//!  key   laminar.<instance>.<pipeline>/owner    value a name that is new with each recovery
//! ```
//!
//! The owner tells two cases apart that the broker answers alike, "fenced": another instance took over (then its name is
//! there), or the broker aborted our transaction because it stayed open too long, as when a laptop sleeps (then ours is).
//!
//! Read after `init_transactions`, which decided our own last transaction. Other pipelines' open transactions may still
//! hide the end of the topic from `read_committed`: reading goes on until the high watermark that was captured first is
//! reached, and does not stop where the visible records end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use laminar_core::sink::Marker;
use laminar_core::source::RawRecords;
use laminar_core::{Code, Error, Position, Result};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::client::error::{from_code, from_kafka, passes};
use crate::kafka::client::{self, ClientKind, Cluster, REACH, blocking};
use crate::kafka::native::{FetchQueue, News, position};

use crate::kafka::source::places::{At, offsets};

/// Where markers are, in every cluster that an exactly-once sink writes to.
pub(crate) const TOPIC: &str = "__laminar_progress";

/// Layout of a marker that this version writes and reads.
const VERSION: u32 = 1;

/// Longest wait for other pipelines' transactions to end: they time out after a minute, or three checkpoint intervals.
const WAIT: Duration = Duration::from_secs(120);
const WARN: Duration = Duration::from_secs(5);

/// The value of a marker's record.
pub(crate) fn encode(marker: &Marker) -> Result<Vec<u8>> {
    serde_json::to_vec(marker).map_err(|e| Error::internal(format!("a marker cannot be written: {e}")))
}

fn decode(key: &str, value: &[u8]) -> Result<Marker> {
    let what = || format!("the marker of {key} in topic {TOPIC} cannot be read");
    let parsed: serde_json::Value = serde_json::from_slice(value)
        .map_err(|e| Error::new(Code::CheckpointDamaged, what()).with_detail(e.to_string()))?;
    let version = parsed.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version != u64::from(VERSION) {
        return Err(Error::new(Code::CheckpointDamaged, what())
            .with_detail(format!("it has version {version}, and this Laminar reads version {VERSION}"))
            .with_hint("run the version that wrote it, or a newer one"));
    }
    serde_json::from_value(parsed).map_err(|e| Error::new(Code::CheckpointDamaged, what()).with_detail(e.to_string()))
}

/// What the topic says of one pipeline.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The last committed marker; `None` if there never was one.
    pub marker: Option<Marker>,
    /// Who recovered last.
    pub owner: Option<String>,
}

/// Key of the record that names who recovered last.
pub(crate) fn owner_key(key: &str) -> String {
    format!("{key}/owner")
}

/// What was last committed under `key`. Where our own last transaction matters, our producer must have initialised its
/// transactions before, so that it is decided.
pub(crate) async fn read(cluster: &Cluster, key: &str) -> Result<Progress> {
    let opened = {
        let (cluster, key) = (cluster.clone(), key.to_string());
        blocking(move || open(&cluster, &key)).await?
    };
    let Opened { queue, mut unread } = opened;
    let queue = Arc::new(queue);
    let owner_key = owner_key(key);
    let mut progress = Progress::default();
    let deadline = tokio::time::Instant::now() + WAIT;
    let mut warn = tokio::time::Instant::now() + WARN;
    unread.retain(|_, span| span.next < span.end);
    while !unread.is_empty() {
        let taken = queue.take(1000, 4 << 20);
        for index in 0..taken.messages.len() {
            let record = taken.messages.get(index);
            let Some(value) = record.value else { continue };
            if record.key == Some(key.as_bytes()) {
                let marker = decode(key, value)?;
                if progress.marker.as_ref().is_none_or(|known| known.epoch <= marker.epoch) {
                    progress.marker = Some(marker);
                }
            } else if record.key == Some(owner_key.as_bytes()) {
                progress.owner = Some(String::from_utf8_lossy(value).into_owned());
            }
        }
        for run in taken.messages.runs() {
            advance(&mut unread, run.partition, position(run.last.saturating_add(1)));
        }
        for news in &taken.news {
            hear(cluster, &mut unread, news)?;
        }
        unread.retain(|_, span| span.next < span.end);
        if let Some(consumer) = queue.consumer() {
            drop(consumer.poll(Duration::ZERO));
            if let Some(error) = consumer.context().fatal() {
                return Err(error);
            }
        }
        let now = tokio::time::Instant::now();
        if now > deadline {
            return Err(Error::new(Code::Timeout, format!("topic {TOPIC} cannot be read to its end"))
                .with_detail(format!("an open transaction of another pipeline hides the last records for {WAIT:?}"))
                .with_hint("find it with kafka-transactions.sh --find-hanging"));
        }
        if now > warn {
            warn = now + WARN;
            tracing::warn!(cluster = cluster.name(), "waiting until the open transactions of other pipelines end");
        }
        if taken.messages.is_empty() && !unread.is_empty() {
            let _ = tokio::time::timeout(Duration::from_millis(100), queue.filled()).await;
        }
    }
    Ok(progress)
}

/// What is left to read of a partition.
#[derive(Debug)]
struct Span {
    next: Position,
    /// The high watermark when reading began.
    end: Position,
}

struct Opened {
    queue: FetchQueue,
    unread: HashMap<i32, Span>,
}

fn open(cluster: &Cluster, key: &str) -> Result<Opened> {
    let inspector = cluster.inspector("read_uncommitted")?;
    let partitions = client::partitions(cluster, &inspector, TOPIC, REACH)?;
    let asked: Vec<(&str, i32)> = partitions.iter().map(|partition| (TOPIC, *partition)).collect();
    let ends = offsets(cluster, &inspector, &asked, At::End)?;
    let starts = offsets(cluster, &inspector, &asked, At::Beginning)?;
    let spans = starts.into_iter().zip(ends).map(|(next, end)| Span { next, end });
    let unread: HashMap<i32, Span> = partitions.iter().copied().zip(spans).collect();

    // librdkafka wants a group before it assigns; nothing is committed to it.
    let fixed = [
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("enable.partition.eof", "true"),
        ("allow.auto.create.topics", "false"),
        ("group.id", key),
    ];
    let consumer = cluster.create(&cluster.config(ClientKind::Consumer, &[], &fixed))?;
    let names: Vec<(String, i32)> = partitions.iter().map(|partition| (TOPIC.to_string(), *partition)).collect();
    let queue = FetchQueue::new(consumer, &names).map_err(Error::internal)?;
    let mut assignment = TopicPartitionList::new();
    for (partition, span) in &unread {
        let offset = Offset::Offset(i64::try_from(span.next.0).unwrap_or(i64::MAX));
        let added = assignment.add_partition_offset(TOPIC, *partition, offset);
        added.map_err(|e| from_kafka(format!("cannot read topic {TOPIC}"), &e))?;
    }
    if let Some(consumer) = queue.consumer() {
        consumer.assign(&assignment).map_err(|e| from_kafka(format!("cannot read topic {TOPIC}"), &e))?;
    }
    Ok(Opened { queue, unread })
}

fn hear(cluster: &Cluster, unread: &mut HashMap<i32, Span>, news: &News) -> Result<()> {
    if news.code == RDKafkaErrorCode::PartitionEOF {
        advance(unread, news.partition, position(news.offset));
        return Ok(());
    }
    if passes(news.code) {
        tracing::warn!(cluster = cluster.name(), topic = news.topic, "{}", news.text);
        return Ok(());
    }
    Err(from_code(format!("cannot read topic {} of kafka at {}", news.topic, cluster.name()), news.code, &news.text))
}

fn advance(unread: &mut HashMap<i32, Span>, partition: i32, next: Position) {
    if let Some(span) = unread.get_mut(&partition) {
        span.next = span.next.max(next);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use laminar_core::{Epoch, OperatorId, SplitId};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_marker_comes_back_as_it_was_written(
            epoch in any::<u64>(),
            digest in "[0-9a-f]{64}",
            watermark in proptest::option::of(any::<i64>()),
            previous in proptest::option::of(any::<u64>()),
            positions in proptest::collection::btree_map("[a-z0-9-]{1,12}", any::<u64>(), 0..4),
        ) {
            let splits = positions.iter().map(|(s, p)| (SplitId::new(s.as_str()), Position(*p))).collect::<BTreeMap<_, _>>();
            let positions = BTreeMap::from([(OperatorId::from("source-0"), splits)]);
            let previous = previous.map(Epoch);
            let marker =
                Marker { version: VERSION, epoch: Epoch(epoch), manifest_digest: digest, positions, watermark, previous };
            prop_assert_eq!(decode("k", &encode(&marker).unwrap()).unwrap(), marker);
        }
    }

    #[test]
    fn a_marker_of_another_version_is_not_guessed_at() {
        let error = decode("k", br#"{"version":2,"epoch":1}"#).unwrap_err();
        assert_eq!(error.code(), Code::CheckpointDamaged);
        assert_eq!(error.detail(), Some("it has version 2, and this Laminar reads version 1"));
    }
}

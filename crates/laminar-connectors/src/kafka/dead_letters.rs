//! The topic of a source table's dead letters.
//!
//! ```text
//!  letter:   key and value  as they came          headers  as they came, then __laminar.errors.{pipeline, table, topic, …}
//! ```
//!
//! They are written in the transaction that the pipeline's sinks into this cluster share, or in one of their own where there are
//! no such sinks: so each is there once, whatever died meanwhile.
//!
//! The letter's own timestamp is the time at which it was written, not its record's, which is in a header: a topic's retention
//! would else delete the letters of old records at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::connector::SinkContext;
use laminar_core::dead_letter::{HEADER_PREFIX, Letter, Letters, REPLAYED_HEADER};
use laminar_core::options::missing;
use laminar_core::sink::{Committer, Delivery, Sink, SinkWriter};
use laminar_core::{Changes, Code, Epoch, Error, Result, TaskId};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::admin;
use super::client::Cluster;
use super::options::{OnDataLoss, ReadMode, SourceSettings, Start, check_topic_name, is_reserved};
use super::producer::{Producer, settle};
use super::sink::ACKNOWLEDGED;
use super::sink_options::EncodingOptions;
use super::topics::Topics;
use super::transaction::{Transaction, Transactions};

/// Added to a topic's name where the table does not say where its dead letters go.
const SUFFIX: &str = "-dlq";

/// Longest message in a header; the whole of it stands in the log.
const MAX_MESSAGE: usize = 1000;

/// Where the letters of one table go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Destination {
    /// What `dlq_topic` says.
    Topic(String),
    /// For each topic one beside it.
    Beside,
    /// Back to the topic that their records came from, as these records.
    Back,
}

impl Destination {
    fn new(topic: Option<&str>) -> Self {
        topic.map_or(Self::Beside, |topic| Self::Topic(topic.to_string()))
    }

    fn of(&self, topic: &str) -> String {
        match self {
            Self::Topic(topic) => topic.clone(),
            Self::Beside => format!("{topic}{SUFFIX}"),
            Self::Back => topic.to_string(),
        }
    }

    /// Sorted, distinct; `None` if those of a pattern would go beside what it matches.
    fn topics(&self, read: &Topics) -> Option<Vec<String>> {
        let mut topics: Vec<String> = match (read, self) {
            (_, Self::Topic(topic)) => vec![topic.clone()],
            (Topics::Named(names), _) => names.iter().map(|name| self.of(name)).collect(),
            (Topics::Matching(..), _) => return None,
        };
        topics.sort();
        topics.dedup();
        Some(topics)
    }

    /// Errors: `invalid_option`, `forbidden_option`, `conflicting_options`; `missing_option` with a pattern of topics, which may
    /// match what is beside them.
    fn check(&self, settings: &SourceSettings) -> Result<()> {
        let Some(topics) = self.topics(&settings.topics) else {
            return Err(missing("dlq_topic", "a table of topic_pattern")
                .with_hint("name the topic of its dead letters, one that the pattern does not match"));
        };
        for topic in topics {
            check_topic_name(&topic).map_err(|what| {
                Error::new(Code::InvalidOption, format!("option dlq_topic cannot be '{topic}'"))
                    .with_detail(what)
                    .with_field("dlq_topic")
            })?;
            if is_reserved(&topic) {
                let what =
                    format!("topic {topic} holds what Kafka or Laminar need to work: no dead letter can go there");
                return Err(Error::new(Code::ForbiddenOption, what)
                    .with_hint("name another topic in dlq_topic")
                    .with_field("dlq_topic"));
            }
            if settings.topics.contains(&topic) {
                let what = format!("topic {topic} is read, and its dead letters would go there again");
                return Err(Error::new(Code::ConflictingOptions, what)
                    .with_hint("name another topic in dlq_topic")
                    .with_field("dlq_topic"));
            }
        }
        Ok(())
    }
}

/// Can the letters of a table with these settings go there? No I/O.
pub(super) fn check(settings: &SourceSettings, topic: Option<&str>) -> Result<()> {
    Destination::new(topic).check(settings)
}

/// What reads the letters of the table that reads with `settings`.
pub(super) fn as_source(mut settings: SourceSettings, topic: Option<&str>) -> SourceSettings {
    let topics = Destination::new(topic).topics(&settings.topics);
    settings.topics = Topics::Named(topics.unwrap_or_default());
    settings.start = Start::Earliest;
    // Whatever the table reads: a letter counts once its transaction is committed, and some topics may have none yet.
    settings.read_mode = ReadMode::ReadCommitted;
    settings.on_data_loss = OnDataLoss::Skip;
    // Letters are as their records came.
    settings.encoding = EncodingOptions::default();
    settings
}

pub(super) struct DeadLetterSink {
    cluster: Cluster,
    destination: Destination,
    /// What the table reads.
    topics: Topics,
    way: Way,
}

enum Way {
    /// With the transaction of the pipeline in this cluster.
    Transaction(Arc<Transaction>),
    /// At once, through a producer that the writers share while there are any.
    AtOnce(Mutex<Weak<Producer>>),
}

impl Way {
    fn new(cluster: &Cluster, delivery: Delivery, ctx: &SinkContext, transactions: &Arc<Transactions>) -> Result<Self> {
        Ok(match delivery {
            Delivery::ExactlyOnce => Self::Transaction(transactions.join(cluster, ctx)?),
            Delivery::AtLeastOnce => Self::AtOnce(Mutex::new(Weak::new())),
        })
    }
}

impl DeadLetterSink {
    pub fn new(
        settings: SourceSettings,
        topic: Option<&str>,
        delivery: Delivery,
        ctx: &SinkContext,
        transactions: &Arc<Transactions>,
    ) -> Result<Self> {
        let destination = Destination::new(topic);
        destination.check(&settings)?;
        let way = Way::new(&settings.cluster, delivery, ctx, transactions)?;
        Ok(Self { cluster: settings.cluster, destination, topics: settings.topics, way })
    }

    /// A sink that makes records of letters again.
    pub fn putting_back(
        settings: SourceSettings,
        delivery: Delivery,
        ctx: &SinkContext,
        transactions: &Arc<Transactions>,
    ) -> Result<Self> {
        let way = Way::new(&settings.cluster, delivery, ctx, transactions)?;
        Ok(Self { cluster: settings.cluster, destination: Destination::Back, topics: settings.topics, way })
    }

    fn producer(&self) -> Result<Arc<Producer>> {
        match &self.way {
            Way::Transaction(transaction) => transaction.producer(),
            Way::AtOnce(shared) => {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(producer) = shared.upgrade() {
                    return Ok(producer);
                }
                let producer = Arc::new(Producer::new(&self.cluster, &[])?);
                *shared = Arc::downgrade(&producer);
                Ok(producer)
            }
        }
    }
}

#[async_trait]
impl Sink for DeadLetterSink {
    async fn open(&self, _: &TaskId) -> Result<Box<dyn SinkWriter>> {
        let (transaction, patience) = match &self.way {
            Way::Transaction(transaction) => (Some(Arc::clone(transaction)), transaction.timeout()),
            Way::AtOnce(_) => (None, ACKNOWLEDGED),
        };
        let mut writer = Writer {
            cluster: self.cluster.clone(),
            destination: self.destination.clone(),
            topics: self.topics.clone(),
            known: BTreeSet::new(),
            producer: self.producer()?,
            transaction,
            patience,
        };
        // The topics of the letters of those that the table names are there before the first letter.
        if self.destination != Destination::Back {
            for topic in self.topics.names() {
                writer.topic_for(topic).await?;
            }
        }
        Ok(Box::new(writer))
    }

    fn delivery(&self) -> Delivery {
        match &self.way {
            Way::Transaction(_) => Delivery::ExactlyOnce,
            Way::AtOnce(_) => Delivery::AtLeastOnce,
        }
    }

    fn committer(&self) -> Option<Arc<dyn Committer>> {
        match &self.way {
            Way::Transaction(transaction) => Some(transaction.take() as Arc<dyn Committer>),
            Way::AtOnce(_) => None,
        }
    }
}

struct Writer {
    cluster: Cluster,
    destination: Destination,
    /// What the table reads.
    topics: Topics,
    /// Topics of letters that exist.
    known: BTreeSet<String>,
    producer: Arc<Producer>,
    /// `None`: at least once.
    transaction: Option<Arc<Transaction>>,
    patience: Duration,
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        let sent = self.send(changes).await;
        self.explain(sent).await
    }

    async fn flush(&mut self, _: Epoch) -> Result<()> {
        let settled = settle(&self.producer, self.patience).await;
        self.explain(settled).await
    }
}

impl Writer {
    async fn send(&mut self, changes: &Changes) -> Result<()> {
        for letter in Letters::of(changes.rows())?.iter() {
            let topic = self.topic_for(letter.topic).await?;
            self.producer.room().await?;
            let mut record = BaseRecord::<[u8], [u8]>::to(&topic);
            match &self.destination {
                Destination::Back => {
                    record.headers = Some(headers_again(&letter));
                    record.timestamp = Some(letter.timestamp_micros / 1000).filter(|millis| *millis > 0);
                }
                Destination::Topic(_) | Destination::Beside => record.headers = Some(headers(&letter)),
            }
            (record.key, record.payload) = (letter.key, letter.value);
            self.producer.send(record)?;
        }
        Ok(())
    }

    /// The topic of letters of `topic`, which exists then.
    async fn topic_for(&mut self, topic: &str) -> Result<String> {
        let topic_of_letters = self.destination.of(topic);
        if !self.known.contains(&topic_of_letters) {
            match &self.destination {
                // The letter's header says so, and whoever may write letters may write what they like there.
                Destination::Back if is_reserved(topic) || !self.topics.contains(topic) => {
                    let what = format!("a dead letter cannot go back to topic {topic}");
                    return Err(Error::new(Code::InvalidValue, what)
                        .with_detail(format!("its table reads {}", self.topics))
                        .with_hint("leave the letter out by WHERE, or give the table its topic back"));
                }
                Destination::Back if admin::topic_exists(&self.cluster, topic).await? => {}
                Destination::Back => {
                    let what = format!("topic {topic} of kafka at {} is gone", self.cluster.name());
                    return Err(Error::new(Code::UnknownTopic, what).with_hint("create it again to put letters back"));
                }
                Destination::Topic(_) | Destination::Beside => {
                    admin::ensure_dead_letter_topic(&self.cluster, &topic_of_letters, topic).await?;
                }
            }
            self.known.insert(topic_of_letters.clone());
        }
        Ok(topic_of_letters)
    }

    async fn explain(&self, outcome: Result<()>) -> Result<()> {
        match (outcome, &self.transaction) {
            (Err(error), Some(transaction)) => Err(transaction.explain(error).await),
            (outcome, _) => outcome,
        }
    }
}

/// The record's own, and which record it was.
fn headers_again(letter: &Letter<'_>) -> OwnedHeaders {
    let mut all = OwnedHeaders::new();
    letter.headers(&mut |name, value| {
        // Of an earlier time that it was put back.
        if name != REPLAYED_HEADER {
            all = std::mem::take(&mut all).insert(Header { key: name, value });
        }
    });
    let place = format!("{}/{}/{}", letter.topic, letter.partition, letter.offset);
    all.insert(Header { key: REPLAYED_HEADER, value: Some(place.as_bytes()) })
}

/// The record's own, then ours: where a record is a dead letter for the second time, the last of a name counts.
fn headers(letter: &Letter<'_>) -> OwnedHeaders {
    let mut all = OwnedHeaders::new();
    let add = |all: OwnedHeaders, key: &str, value: Option<&[u8]>| all.insert(Header { key, value });
    letter.headers(&mut |name, value| all = add(std::mem::take(&mut all), name, value));
    let message = match letter.message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => letter.message.get(..end).unwrap_or_default(),
        None => letter.message,
    };
    let (partition, offset) = (letter.partition.to_string(), letter.offset.to_string());
    // As Kafka has it: milliseconds since 1970.
    let timestamp = (letter.timestamp_micros / 1000).to_string();
    let ours = [
        ("pipeline", letter.pipeline),
        ("table", letter.table),
        ("topic", letter.topic),
        ("partition", &partition),
        ("offset", &offset),
        ("timestamp", &timestamp),
        ("stage", letter.stage),
        ("code", letter.code),
        ("message", message),
    ];
    for (name, value) in ours {
        all = add(all, &format!("{HEADER_PREFIX}{name}"), Some(value.as_bytes()));
    }
    all
}

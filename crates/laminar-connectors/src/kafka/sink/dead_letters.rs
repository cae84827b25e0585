//! The topic of a source table's dead letters.
//!
//! ```text
//!  letter:   key and value  as they came          headers  as they came, then __laminar.errors.{pipeline, table, topic, …}
//! ```
//!
//! Key, value and values of headers are byte for byte what came. A header's name is text here: bytes in it that are not UTF-8 are
//! replaced.
//!
//! They are written in the transaction that the pipeline's sinks into this cluster share, or in one of their own where there are
//! no such sinks: so each is there once, whatever died meanwhile.
//!
//! The letter's own timestamp is the time at which it was written, not its record's, which is in a header: a topic's retention
//! would else delete the letters of old records at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use laminar_core::connector::SinkContext;
use laminar_core::dead_letter::{HEADER_PREFIX, Letter, Letters, REPLAYED_HEADER};
use laminar_core::options::missing;
use laminar_core::sink::{Committer, Delivery, Sink, SinkWriter};
use laminar_core::{Changes, Code, Epoch, Error, Result, TaskId};

use super::SLICE;
use super::headers::{Headers, RecordHeaders};
use super::options::EncodingOptions;
use crate::kafka::admin;
use crate::kafka::client::Cluster;
use crate::kafka::native::Topic;
use crate::kafka::producer::Producer;
use crate::kafka::producer::record::{Carries, Record};
use crate::kafka::producer::shared::SharedProducer;
use crate::kafka::producer::transaction::Transactions;
use crate::kafka::source::options::{OnDataLoss, ReadMode, SourceSettings, Start};
use crate::kafka::topics::{Topics, check_topic_name, is_reserved};

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
pub(crate) fn check(settings: &SourceSettings, topic: Option<&str>) -> Result<()> {
    Destination::new(topic).check(settings)
}

/// What reads the letters of the table that reads with `settings`.
pub(crate) fn as_source(mut settings: SourceSettings, topic: Option<&str>) -> SourceSettings {
    let topics = Destination::new(topic).topics(&settings.topics);
    settings.topics = Topics::Named(topics.unwrap_or_default());
    settings.start = Start::Earliest;
    // Whatever the table reads: a letter counts once its transaction is committed, and some topics may have none yet.
    settings.read_mode = ReadMode::ReadCommitted;
    settings.on_data_loss = OnDataLoss::Skip;
    // Letters are as their records came.
    settings.encoding = EncodingOptions::default();
    settings.upsert = false;
    settings
}

pub(crate) struct DeadLetterSink {
    cluster: Cluster,
    destination: Destination,
    /// What the table reads.
    topics: Topics,
    producer: Arc<SharedProducer>,
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
        Self::to(destination, settings, delivery, ctx, transactions)
    }

    /// A sink that makes records of letters again.
    pub fn putting_back(
        settings: SourceSettings,
        delivery: Delivery,
        ctx: &SinkContext,
        transactions: &Arc<Transactions>,
    ) -> Result<Self> {
        Self::to(Destination::Back, settings, delivery, ctx, transactions)
    }

    fn to(
        destination: Destination,
        settings: SourceSettings,
        delivery: Delivery,
        ctx: &SinkContext,
        transactions: &Arc<Transactions>,
    ) -> Result<Self> {
        let producer = match delivery {
            Delivery::ExactlyOnce => SharedProducer::InTransaction(transactions.join(&settings.cluster, ctx)?),
            Delivery::AtLeastOnce => SharedProducer::at_once(&settings.cluster, &[]),
        };
        Ok(Self { cluster: settings.cluster, destination, topics: settings.topics, producer: Arc::new(producer) })
    }
}

#[async_trait]
impl Sink for DeadLetterSink {
    async fn open(&self, _: &TaskId) -> Result<Box<dyn SinkWriter>> {
        let mut writer = Writer {
            cluster: self.cluster.clone(),
            destination: self.destination.clone(),
            topics: self.topics.clone(),
            known: BTreeSet::new(),
            open: HashMap::new(),
            producer: self.producer.get().await?,
            shared: Arc::clone(&self.producer),
            names: Names::new(),
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
        self.producer.delivery()
    }

    fn committer(&self) -> Option<Arc<dyn Committer>> {
        self.producer.committer()
    }
}

struct Writer {
    cluster: Cluster,
    destination: Destination,
    /// What the table reads.
    topics: Topics,
    /// Topics of letters that exist.
    known: BTreeSet<String>,
    /// Those of them that got letters. Not opened before: a sink of the pipeline may write there too, with settings of its own.
    open: HashMap<String, Topic>,
    producer: Arc<Producer>,
    shared: Arc<SharedProducer>,
    names: Names,
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        let sent = self.send(changes).await;
        self.shared.explain(sent).await
    }

    async fn flush(&mut self, _: Epoch) -> Result<()> {
        let settled = self.shared.settle(&self.producer).await;
        self.shared.explain(settled).await
    }
}

impl Writer {
    async fn send(&mut self, changes: &Changes) -> Result<()> {
        let letters: Vec<Letter<'_>> = Letters::of(changes.rows())?.iter().collect();
        let (mut headers, mut text) = (RecordHeaders::default(), String::new());
        let mut by_topic: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, letter) in letters.iter().enumerate() {
            match &self.destination {
                Destination::Back => add_headers_again(letter, &mut headers, &mut text),
                Destination::Topic(_) | Destination::Beside => {
                    self.names.add_headers(letter, &mut headers, &mut text);
                }
            }
            headers.end_record();
            by_topic.entry(letter.topic).or_default().push(at);
        }
        for (topic, of_topic) in by_topic {
            let name = self.topic_for(topic).await?;
            if !self.open.contains_key(&name) {
                self.open.insert(name.clone(), self.producer.topic(&name, &[])?);
            }
            let Some(handle) = self.open.get_mut(&name) else { continue };
            for slice in of_topic.chunks(SLICE) {
                self.producer.room().await?;
                let record =
                    |at: &usize| letters.get(*at).map(|letter| self.destination.record(letter, headers.get(*at)));
                let records = slice.iter().filter_map(record);
                let bytes = records.clone().map(|record| record.len() + record.headers.size()).sum();
                self.producer.produce(handle, records, Carries::Everything, slice.len(), bytes)?;
            }
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
}

impl Destination {
    /// The record that the letter becomes.
    fn record<'a>(&self, letter: &Letter<'a>, headers: Headers<'a>) -> Record<'a> {
        let timestamp = match self {
            Self::Back => (letter.timestamp_micros / 1000).max(0),
            Self::Topic(_) | Self::Beside => 0,
        };
        Record { timestamp, headers, ..Record::new(letter.key, letter.value) }
    }
}

/// The record's own, and which record it was.
fn add_headers_again(letter: &Letter<'_>, to: &mut RecordHeaders, text: &mut String) {
    letter.headers(&mut |name, value| {
        // Of an earlier time that it was put back.
        if name != REPLAYED_HEADER {
            to.add(name.as_bytes(), value);
        }
    });
    let place = written(text, format_args!("{}/{}/{}", letter.topic, letter.partition, letter.offset));
    to.add(REPLAYED_HEADER.as_bytes(), Some(place));
}

/// Names of the headers in which a letter says what is wrong with its record.
struct Names {
    whose: [String; 3],
    place: [String; 3],
    what: [String; 3],
}

impl Names {
    fn new() -> Self {
        let all = |names: [&str; 3]| names.map(|name| format!("{HEADER_PREFIX}{name}"));
        Self {
            whose: all(["pipeline", "table", "topic"]),
            place: all(["partition", "offset", "timestamp"]),
            what: all(["stage", "code", "message"]),
        }
    }

    /// The record's own, then ours: where a record is a dead letter for the second time, the last of a name counts.
    fn add_headers(&self, letter: &Letter<'_>, to: &mut RecordHeaders, text: &mut String) {
        letter.headers(&mut |name, value| to.add(name.as_bytes(), value));
        let message = match letter.message.char_indices().nth(MAX_MESSAGE) {
            Some((end, _)) => letter.message.get(..end).unwrap_or_default(),
            None => letter.message,
        };
        for (name, value) in self.whose.iter().zip([letter.pipeline, letter.table, letter.topic]) {
            to.add(name.as_bytes(), Some(value.as_bytes()));
        }
        // The timestamp as Kafka has it: milliseconds since 1970.
        let place = [i64::from(letter.partition), letter.offset, letter.timestamp_micros / 1000];
        for (name, value) in self.place.iter().zip(place) {
            to.add(name.as_bytes(), Some(written(text, format_args!("{value}"))));
        }
        for (name, value) in self.what.iter().zip([letter.stage, letter.code, message]) {
            to.add(name.as_bytes(), Some(value.as_bytes()));
        }
    }
}

/// The text, in a buffer that is used again and again.
fn written<'a>(text: &'a mut String, what: std::fmt::Arguments<'_>) -> &'a [u8] {
    text.clear();
    // Writing to a String does not fail.
    let _ = text.write_fmt(what);
    text.as_bytes()
}

//! What to read: the options of a source, and the settings that they become, complete and consistent.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use laminar_core::format::Decoder;
use laminar_core::options::{HumanDuration, missing};
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Code, Error, Result};
use laminar_formats::registry::RegistryOptions;
use laminar_formats::{FormatContext, FormatOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::client::Cluster;
use crate::kafka::options::{SUBJECT, Written};
use crate::kafka::sink::options::{Encoding, EncodingOptions, KeyFormat};
use crate::kafka::topics::Topics;
use crate::schema_registry::{Patience, format_context};

/// The brokers are not asked for their topics more often.
const MIN_DISCOVERY: Duration = Duration::from_millis(100);

/// What to read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SourceOptions {
    /// The topic to read. Needed, unless `topics` or `topic_pattern` is given.
    pub topic: Option<String>,
    /// Several topics to read, separated by commas; instead of `topic`.
    pub topics: Option<Vec<String>>,
    /// Regular expression: every topic is read whose whole name matches it, those that are created later too; instead of
    /// `topic`. Topics whose names begin with `__` are Kafka's own and do not match.
    pub topic_pattern: Option<String>,
    /// How often new partitions are looked for, and with `topic_pattern` new topics. They are read from their beginning. `0`:
    /// only when the pipeline starts. A topic that was deleted and created again is noticed as often.
    #[serde(default = "default_discovery")]
    pub partition_discovery_interval: HumanDuration,
    /// Consumer group to which progress is reported, for other tools to see. Where a pipeline goes on is decided by its
    /// checkpoint, not by the group. Default: `laminar-<pipeline id>`.
    pub group_id: Option<String>,
    /// Where a pipeline starts that has no checkpoint yet. Default: what `auto.offset.reset` says, else `earliest`.
    pub offset: Option<StartOption>,
    /// With `offset = 'timestamp'`, and needed there: RFC 3339 such as `2024-01-01T00:00:00Z`, or milliseconds since 1970.
    /// Starts at the first record that is not older; at the end if there is none.
    pub timestamp: Option<String>,
    /// Kafka's name for `offset`. With `offset = 'group'`: where partitions start of which the group has no offset. Default:
    /// `earliest`.
    #[serde(rename = "auto.offset.reset")]
    pub auto_offset_reset: Option<Reset>,
    /// Each record is the row of its primary key from then on, in place of the one before, and a record without value (a tombstone)
    /// takes the row away: how a compacted topic holds a table. The table needs a PRIMARY KEY, whose columns are read from the value
    /// or from metadata; of a tombstone they are read from the record's key, as `key.format` says. Which row is the last is certain
    /// within a partition, so records of one key must always go to the same one: not to several topics, and not to another
    /// partition when some are added.
    #[serde(default)]
    pub upsert: bool,
    /// Which records of transactions are read.
    #[serde(default)]
    pub read_mode: ReadMode,
    /// What happens when records are gone before they were read: retention removed them, or their topic was deleted.
    #[serde(default)]
    pub on_data_loss: OnDataLoss,
    /// Least time in milliseconds between two commits of offsets to the group. Default: with each checkpoint.
    #[serde(rename = "commit.interval.ms")]
    pub commit_interval_ms: Option<u64>,
}

fn default_discovery() -> HumanDuration {
    HumanDuration(Duration::from_secs(30))
}

/// Where a pipeline starts that has no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartOption {
    /// At the oldest record that the topic still has.
    Earliest,
    /// At the end: only what comes later.
    Latest,
    /// At the first record that is not older than `timestamp`.
    Timestamp,
    /// At the offsets that the consumer group has committed; where it has none, as `auto.offset.reset` says.
    Group,
}

/// Where a partition starts of which the group has no offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// At the oldest record; also written `smallest` or `beginning`.
    #[default]
    #[serde(alias = "smallest", alias = "beginning")]
    Earliest,
    /// At the end; also written `largest` or `end`.
    #[serde(alias = "largest", alias = "end")]
    Latest,
    /// Nowhere: the pipeline fails. Only with `offset = 'group'`.
    #[serde(alias = "error")]
    None,
}

/// Which records of transactions are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadMode {
    /// Those of committed ones, in order: what follows an open transaction waits for its end.
    #[default]
    ReadCommitted,
    /// All, at once: those that are aborted later, too.
    ReadUncommitted,
}

impl ReadMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// What happens when records are gone before they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDataLoss {
    /// The pipeline fails with `data_loss`.
    #[default]
    Fail,
    /// It goes on at the oldest record that there is; what was missed is counted: `lost_records` in `system.metrics`.
    Skip,
}

/// A source's settings, complete.
#[derive(Clone, Debug)]
pub(crate) struct SourceSettings {
    pub cluster: Cluster,
    pub topics: Topics,
    /// How often to look for new partitions and topics; `None`: only at the start.
    pub discovery: Option<Duration>,
    pub group_id: Option<String>,
    pub start: Start,
    pub upsert: bool,
    pub read_mode: ReadMode,
    pub on_data_loss: OnDataLoss,
    pub commit_interval: Duration,
    pub encoding: EncodingOptions,
    pub format: FormatOptions,
    pub registry: RegistryOptions,
}

/// Where a split starts that has no position yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Earliest,
    Latest,
    AtMillis(i64),
    /// Where the group stands.
    Group(Reset),
}

impl SourceSettings {
    /// What the format gets of the connector. No I/O.
    pub fn formats(&self, patience: Patience) -> Result<FormatContext> {
        format_context(&self.registry, self.topics.names().first().map_or("", String::as_str), patience)
    }

    /// A tombstone's key is read as columns of the value are, which have no encoding.
    fn refuse_encoded_keys(&self, table: &TableSpec) -> Result<()> {
        let of_value = |column: &&Column| column.metadata.is_none() && table.primary_key.contains(&column.name);
        if self.encoding.key == Encoding::None || !table.columns.iter().any(|column| of_value(&column)) {
            return Ok(());
        }
        Err(Error::new(
            Code::ConflictingOptions,
            "key.encoding is given, and tombstones' keys are read as the primary key",
        )
        .with_hint("make the column of METADATA FROM 'key' the primary key, or leave key.encoding out")
        .with_field("key.encoding"))
    }

    /// Of values and, with `upsert`, of keys. No I/O.
    pub fn decoder(&self, table: &TableSpec, formats: &FormatContext) -> Result<Box<dyn Decoder>> {
        match self.upsert {
            true => {
                self.refuse_encoded_keys(table)?;
                let form = self.encoding.key_format.map(KeyFormat::form);
                laminar_formats::upsert_decoder_with(&self.format, table, form, formats)
            }
            false => laminar_formats::decoder_with(&self.format, table, formats),
        }
    }
}

impl Written {
    /// What a source is made from.
    pub fn source(self) -> Result<SourceSettings> {
        let cluster = self.cluster()?;
        let topics = self.topics()?.ok_or_else(|| missing("topic", SUBJECT))?;
        let start = self.start()?;
        let discovery = self.source.partition_discovery_interval.0;
        if self.encoding.key_format.is_some() && !self.source.upsert {
            let what = "key.format of a source is about the keys of tombstones";
            return Err(self.error("key.format", Code::ConflictingOptions, what).with_hint("add upsert = 'true'"));
        }
        Ok(SourceSettings {
            cluster,
            topics,
            discovery: (!discovery.is_zero()).then(|| discovery.max(MIN_DISCOVERY)),
            group_id: self.source.group_id,
            start,
            upsert: self.source.upsert,
            read_mode: self.source.read_mode,
            on_data_loss: self.source.on_data_loss,
            commit_interval: Duration::from_millis(self.source.commit_interval_ms.unwrap_or(0)),
            encoding: self.encoding,
            format: self.format,
            registry: self.registry,
        })
    }

    /// The topics to read, if any are named.
    pub fn topics(&self) -> Result<Option<Topics>> {
        let given = [
            ("topic", self.source.topic.is_some()),
            ("topics", self.source.topics.is_some()),
            ("topic_pattern", self.source.topic_pattern.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect();
        if let [first, second, ..] = given.as_slice() {
            let what = format!("{first} and {second} are both given");
            return Err(self.error(second, Code::ConflictingOptions, what).with_hint("give one"));
        }
        if let Some(pattern) = &self.source.topic_pattern {
            return Topics::matching(pattern).map(Some).map_err(|what| self.invalid("topic_pattern", &what));
        }
        let mut topics = self.source.topics.clone().unwrap_or_default();
        topics.extend(self.source.topic.clone());
        topics.sort();
        topics.dedup();
        Ok((!topics.is_empty()).then_some(Topics::Named(topics)))
    }

    fn start(&self) -> Result<Start> {
        let source = &self.source;
        let of_reset = match source.auto_offset_reset {
            None => None,
            Some(Reset::Earliest) => Some(StartOption::Earliest),
            Some(Reset::Latest) => Some(StartOption::Latest),
            Some(Reset::None) if source.offset == Some(StartOption::Group) => None,
            Some(Reset::None) => {
                let what = "auto.offset.reset = 'none' is about the offsets of a group";
                return Err(self
                    .error("auto.offset.reset", Code::ConflictingOptions, what)
                    .with_hint("add offset = 'group'"));
            }
        };
        let offset = match (source.offset, of_reset) {
            (Some(offset), Some(reset)) if offset != StartOption::Group && offset != reset => {
                return Err(self
                    .error("auto.offset.reset", Code::ConflictingOptions, "options offset and auto.offset.reset differ")
                    .with_detail("they are names of one setting")
                    .with_hint("give one of them"));
            }
            (offset, reset) => offset.or(reset).unwrap_or(StartOption::Earliest),
        };
        match (offset, &source.timestamp) {
            (StartOption::Earliest, None) => Ok(Start::Earliest),
            (StartOption::Latest, None) => Ok(Start::Latest),
            (StartOption::Group, None) => Ok(Start::Group(source.auto_offset_reset.unwrap_or_default())),
            (StartOption::Timestamp, Some(text)) => Ok(Start::AtMillis(parse_timestamp(text).unwrap_or_default())),
            (StartOption::Timestamp, None) => {
                Err(missing("timestamp", SUBJECT).with_hint("offset = 'timestamp' needs it"))
            }
            (_, Some(_)) => Err(self
                .error("timestamp", Code::ConflictingOptions, "option timestamp needs offset = 'timestamp'")
                .with_hint("add offset = 'timestamp', or remove timestamp")),
        }
    }
}

/// Milliseconds since 1970; a time without a zone is UTC.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(millis) = text.parse::<i64>() {
        return (millis >= 0).then_some(millis);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    formats.iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok()).map(|t| t.and_utc().timestamp_millis())
}

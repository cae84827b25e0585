//! What to write: the options of a sink, and the settings that they become, complete and consistent.
//!
//! Besides where rows go ([`SinkOptions`]): where each field of a record comes from ([`FieldOptions`]), how keys and values stand in
//! text ([`EncodingOptions`]), how the producer sends ([`ProducerOptions`]), how a missing topic is made ([`TopicOptions`]), and
//! where rows wait while the brokers are away ([`BufferOptions`]). Checks that need no table are in `options`; those that need its
//! columns are in `fields`.

use laminar_core::options::{ByteSize, HumanDuration};
use laminar_core::sink::Delivery;
use laminar_core::{Code, Error, Result};
use laminar_formats::registry::RegistryOptions;
use laminar_formats::{FormatContext, FormatOptions, KeyForm};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::client::Cluster;
use crate::kafka::options::Written;
use crate::kafka::topics::is_reserved;
use crate::schema_registry::{Patience, format_context};

/// What to write.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SinkOptions {
    /// The topic to write to; needed, unless a column says it: see `topic_field`. What becomes of a missing one says
    /// `topic.auto_create`.
    pub topic: Option<String>,
    /// Column whose value is the record's key: text, integer or bytes; or several columns, separated by commas, whose JSON object
    /// it is. Rows of one key stay in order. A column named `_kafka_key` is the key without this option. Without either the table's
    /// primary key is the record's: the value of its column, or, of several columns or another type, a JSON object of them. With the
    /// primary key as key, `json` takes updates and deletes: the last row of each key, and a tombstone for one that is gone. Default:
    /// the primary key, else records have no key but that of `sink.key`.
    pub key_field: Option<String>,
    /// What is guaranteed for each row across crashes. What the pipeline says wins. Default: `exactly_once`;
    /// `at_least_once` into the broker of `laminar dev`.
    pub delivery: Option<Delivery>,
    /// How batches of records are compressed; `lz4` makes JSON about three times smaller.
    #[serde(default)]
    pub compression: Compression,
    /// Longest time in milliseconds that a row waits for others to fill a request. Default: 5.
    pub linger_ms: Option<f64>,
}

/// How record batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names of the algorithms say it
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What goes into each record besides the value's columns.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct FieldOptions {
    /// Column with the partition to write the row to, an integer; where it is null, the partitioner chooses. A column named
    /// `_kafka_partition` is one without this option. The column named here stays in the value: see `value.exclude`.
    pub partition_field: Option<String>,
    /// Column with the record's timestamp: a TIMESTAMP, or an integer that counts milliseconds since 1970. Where it is null, and
    /// without such a column, a record has the time at which it is written. A column named `_kafka_timestamp` is one without
    /// this option.
    pub timestamp_field: Option<String>,
    /// Column with the topic to write the row to, TEXT; where it is null, `topic` is meant, which may be left out then. A column
    /// named `_kafka_topic` is one without this option.
    pub topic_field: Option<String>,
    /// Key of each record that has none from a column: a text such as `snot`, in which `${.column}` stands for what a column has
    /// in that row, `${.column.field}` for a part of it, `${.}` for the whole row as JSON, and `${$}` for a dollar sign. What is
    /// null or absent is empty text.
    #[serde(rename = "sink.key")]
    pub key: Option<String>,
    /// Value of each record: a text with the same placeholders as `sink.key`, such as `v = ${.value}`, in place of what the
    /// format makes of the row.
    #[serde(rename = "sink.value")]
    pub value: Option<String>,
    /// Columns that are not part of the value, separated by commas, such as the one that `topic_field` names. Columns
    /// whose names begin with `_kafka_` never are.
    #[serde(default, rename = "value.exclude")]
    pub value_exclude: Vec<String>,
}

/// How a record's key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyFormat {
    /// The value of one column as it is.
    Raw,
    /// An object of the key's columns.
    Json,
    /// A record of the key's columns in Avro, framed with the id of its schema, which is registered under `key_subject`.
    Avro,
    /// A message of the key's columns in Protobuf, in the same way.
    Protobuf,
    /// An object of the key's columns, in the same way.
    ConfluentJson,
}

impl KeyFormat {
    pub(crate) fn form(self) -> KeyForm {
        match self {
            Self::Raw => KeyForm::Raw,
            Self::Json => KeyForm::Json,
            Self::Avro => KeyForm::Avro,
            Self::Protobuf => KeyForm::Protobuf,
            Self::ConfluentJson => KeyForm::FramedJson,
        }
    }
}

/// How keys are written, and how bytes stand in columns of text.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub struct EncodingOptions {
    /// How the record's key is written; of a source, with `upsert`, how the key of a record without value is read. Default: `raw` if it is one
    /// column of text, integer or bytes, else `json`.
    #[serde(rename = "key.format")]
    pub key_format: Option<KeyFormat>,
    /// How the key's bytes stand in its column of TEXT: read, `base64` makes text of any bytes; written, it makes the bytes of
    /// that text again.
    #[serde(default, rename = "key.encoding")]
    pub key: Encoding,
    /// The same for the value, with `format = 'raw'` and a column of TEXT.
    #[serde(default, rename = "value.encoding")]
    pub value: Encoding,
}

/// How bytes stand in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As they are, which must be UTF-8.
    #[default]
    None,
    /// RFC 4648, section 4, with padding.
    Base64,
}

/// How records are sent.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct ProducerOptions {
    /// Which partition a row goes to that names none. Two sinks of a pipeline may choose differently.
    #[serde(default)]
    pub partitioner: Partitioner,
    /// Which brokers must have a row before it counts as written. Anything but `all` needs `delivery = 'at_least_once'`.
    #[serde(default)]
    pub acks: Acks,
    /// Most bytes of one batch of records, with a unit such as `896KB`. Default: `1000000`.
    #[serde(rename = "batch.max_bytes")]
    pub batch_max_bytes: Option<ByteSize>,
    /// Most requests to a broker that are not answered yet. With `acks = 'all'` more than 5 count as 5: a broker keeps the
    /// order of retried requests for no more. Default: 5.
    pub max_inflight: Option<u32>,
    /// How often the number of a topic's partitions is looked up, with a unit such as `60s`. Default: `5m`.
    pub partition_count_refresh_interval: Option<HumanDuration>,
}

/// Which partition a row goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Partitioner {
    /// By Java's murmur2 of the key, as Java clients do; without a key any, changed every few milliseconds.
    #[default]
    #[serde(alias = "default", alias = "key_dispatch", alias = "hash")]
    Murmur2Random,
    /// The same; rows without a key all go to one partition.
    Murmur2,
    /// By CRC-32 of the key, as librdkafka's own default does; without a key any.
    ConsistentRandom,
    /// The same; rows without a key all go to one partition.
    Consistent,
    /// By FNV-1a of the key, as Sarama does; without a key any.
    Fnv1aRandom,
    /// The same; rows without a key all go to one partition.
    Fnv1a,
    /// Any, whatever the key is: rows of a key are not in order.
    Random,
    /// One partition after the other, row by row, whatever the key is.
    #[serde(alias = "roundrobin")]
    RoundRobin,
}

impl Partitioner {
    /// librdkafka's name for it; round robin is ours.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Murmur2Random | Self::RoundRobin => "murmur2_random",
            Self::Murmur2 => "murmur2",
            Self::ConsistentRandom => "consistent_random",
            Self::Consistent => "consistent",
            Self::Fnv1aRandom => "fnv1a_random",
            Self::Fnv1a => "fnv1a",
            Self::Random => "random",
        }
    }
}

/// Which brokers must have a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Acks {
    /// All replicas that are in sync.
    #[default]
    #[serde(rename = "all", alias = "-1", alias = "all_isr")]
    All,
    /// The partition's leader: its loss loses rows.
    #[serde(rename = "1", alias = "leader", alias = "leader_only")]
    Leader,
    /// None: a row counts as written when it was sent.
    #[serde(rename = "0", alias = "none")]
    None,
}

impl Acks {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Leader => "1",
            Self::None => "0",
        }
    }
}

/// What happens when a topic is missing.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct TopicOptions {
    /// `true` creates a missing topic when rows are first written to it. `false` makes a missing one an error at CREATE TABLE
    /// even where the broker would create it. Default: what the broker does with topics that are asked for; where it creates them, one
    /// that is to keep the last row of each key is made compacted, if the broker says that it creates topics and this user may.
    #[serde(rename = "topic.auto_create")]
    pub auto_create: Option<bool>,
    /// Partitions of a topic that is created. Default: the broker's.
    #[serde(rename = "topic.partitions")]
    pub partitions: Option<u32>,
    /// Brokers that hold each partition of a topic that is created. Default: the broker's.
    #[serde(rename = "topic.replication_factor")]
    pub replication_factor: Option<u32>,
    /// How long a topic that is created keeps records, such as `7d`; `forever`. Default: the broker's.
    #[serde(rename = "topic.retention")]
    pub retention: Option<Retention>,
    /// What becomes of old records of a topic that is created. Default: `compact` for a sink that writes the last row of each
    /// key, else `delete`.
    #[serde(rename = "topic.cleanup_policy")]
    pub cleanup_policy: Option<CleanupPolicy>,
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    Forever,
    For(HumanDuration),
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.trim() {
            "forever" | "-1" => Ok(Self::Forever),
            text => text.parse().map(Self::For).map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Retention {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Retention".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "duration"})
    }
}

/// What becomes of old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CleanupPolicy {
    /// They are deleted after the retention.
    Delete,
    /// The last one of each key is kept.
    Compact,
    /// The last one of each key is kept until the retention.
    #[serde(alias = "compact,delete", alias = "delete,compact")]
    CompactDelete,
}

impl CleanupPolicy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactDelete => "compact,delete",
        }
    }
}

/// Where rows wait that the brokers do not take at once. When a limit is reached, the pipeline waits: no row is dropped.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct BufferOptions {
    /// Where rows wait while the brokers are away or slow.
    #[serde(default, rename = "buffer.mode")]
    pub mode: BufferMode,
    /// Most bytes that wait, for each partition of the sink's topics, with a unit such as `2GB`. Default: 32 MB in all, in
    /// memory; on disk `1GB` for each partition.
    #[serde(rename = "buffer.per_partition_limit")]
    pub per_partition_limit: Option<ByteSize>,
    /// Bytes of one file of rows that wait on disk; a file goes when its last row is sent. Default: `100MB`.
    #[serde(rename = "buffer.segment_bytes")]
    pub segment_bytes: Option<ByteSize>,
    /// `true` holds rows back, or puts them on disk, when the machine has less than a twentieth of its memory left.
    #[serde(default, rename = "buffer.memory_overload_protection")]
    pub memory_overload_protection: bool,
}

/// Where rows wait that are not sent yet. A wait ends with its checkpoint: what is not written then is read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BufferMode {
    /// In memory.
    #[default]
    Memory,
    /// On disk, but for a few megabytes that are being sent.
    Disk,
    /// In memory, and what does not fit there on disk.
    Hybrid,
}

impl ProducerOptions {
    /// Settings of the client that the user's own properties may have set already.
    pub(crate) fn apply(&self, cluster: &mut Cluster) {
        if let Some(ByteSize(bytes)) = self.batch_max_bytes {
            cluster.set_default("batch.size", &bytes.to_string());
        }
        if let Some(count) = self.max_inflight {
            let most = if self.acks == Acks::All { 5 } else { u32::MAX };
            cluster.set_default("max.in.flight.requests.per.connection", &count.clamp(1, most).to_string());
        }
        if let Some(interval) = self.partition_count_refresh_interval {
            cluster.set_default("topic.metadata.refresh.interval.ms", &interval.0.as_millis().to_string());
        }
        if self.acks != Acks::All {
            cluster.set_default("acks", self.acks.as_str());
        }
    }
}

/// A sink's settings, complete.
#[derive(Clone, Debug)]
pub(crate) struct SinkSettings {
    pub cluster: Cluster,
    /// `None`: a column says it.
    pub topic: Option<String>,
    pub key_field: Option<String>,
    pub delivery: Option<Delivery>,
    pub compression: Compression,
    pub fields: FieldOptions,
    pub encoding: EncodingOptions,
    pub producer: ProducerOptions,
    pub creation: TopicOptions,
    pub buffer: BufferOptions,
    pub format: FormatOptions,
    pub registry: RegistryOptions,
}

impl SinkSettings {
    /// What the format gets of the connector. No I/O.
    pub fn formats(&self, patience: Patience) -> Result<FormatContext> {
        format_context(&self.registry, self.topic.as_deref().unwrap_or_default(), patience)
    }

    /// What librdkafka is told of each topic.
    pub fn topic_config(&self) -> Vec<(&'static str, &'static str)> {
        vec![("partitioner", self.producer.partitioner.as_str()), ("compression.codec", self.compression.as_str())]
    }
}

impl Written {
    /// What a sink is made from.
    pub fn sink(self) -> Result<SinkSettings> {
        let mut cluster = self.cluster()?;
        if let Some(topic) = self.sink.topic.as_ref().filter(|topic| is_reserved(topic)) {
            let what = format!("topic {topic} holds what Kafka or Laminar need to work: no table can write to it");
            return Err(self.error("topic", Code::ForbiddenOption, what).with_hint("name another topic"));
        }
        self.producer.apply(&mut cluster);
        if let Some(linger_ms) = self.sink.linger_ms {
            cluster.set_default("linger.ms", &linger_ms.to_string());
        }
        Ok(SinkSettings {
            cluster,
            topic: self.sink.topic,
            key_field: self.sink.key_field,
            delivery: self.sink.delivery,
            compression: self.sink.compression,
            fields: self.fields,
            encoding: self.encoding,
            producer: self.producer,
            creation: self.creation,
            buffer: self.buffer,
            format: self.format,
            registry: self.registry,
        })
    }
}

/// The error for a sink that cannot keep what exactly-once promises.
pub(crate) fn acks_conflict(acks: Acks) -> Error {
    let what = format!("acks = '{}' cannot be exactly-once", acks.as_str());
    Error::new(Code::ConflictingOptions, what)
        .with_detail("an acknowledged row could be lost")
        .with_hint("leave acks out, or add delivery = 'at_least_once'")
        .with_field("acks")
}

//! What a user may write about Kafka in `WITH (…)`. The doc comments are the reference page.
//!
//! Options are read in groups, so that a connection may carry some of each: the client's ([`ClientOptions`]), a source's,
//! a sink's, the format's, the batch's; what is left are librdkafka's own properties. [`Written`] holds all groups;
//! [`SourceSettings`] and [`SinkSettings`] are what a source and a sink are made from, complete and consistent.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use laminar_core::connector::Role;
use laminar_core::options::{OptionEntry, Secret, missing, names};
use laminar_core::sink::Delivery;
use laminar_core::{Code, Error, Options, Result};
use laminar_formats::FormatOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::Cluster;
use super::marker;
use super::properties;
use super::sink_options::{
    Acks, BufferMode, BufferOptions, EncodingOptions, FieldOptions, ProducerOptions, TopicOptions,
};
use crate::batch::BatchOptions;

pub(super) const SUBJECT: &str = "connector kafka";

/// How to reach the brokers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ClientOptions {
    /// Brokers to start from: `host:port`, several separated by commas. The others of the cluster are found from there.
    #[schemars(required)]
    pub bootstrap_servers: Option<String>,
    /// How Laminar logs in. Default: `sasl` if a user name, a mechanism or a protocol with a login is given, else `none`.
    #[serde(rename = "auth.type")]
    pub auth_type: Option<AuthType>,
    /// How the password is proved. The names may be written in lower case. Default: `PLAIN`.
    #[serde(rename = "auth.mechanism")]
    pub auth_mechanism: Option<Mechanism>,
    /// The same as `security.protocol`, under the name that goes with the login's other options.
    #[serde(rename = "auth.protocol")]
    pub auth_protocol: Option<Protocol>,
    /// Name to log in with.
    #[serde(rename = "auth.username")]
    pub auth_username: Option<String>,
    /// Password to log in with; best given as `${secret:name}`, after `CREATE SECRET`.
    #[serde(rename = "auth.password")]
    pub auth_password: Option<Secret>,
    /// What travels on the connection. The names may be written in lower case. Default: `SASL_SSL` with a login, `SSL` with
    /// a certificate or authorities given, else `PLAINTEXT`.
    #[serde(rename = "security.protocol")]
    pub security_protocol: Option<Protocol>,
    /// PEM file of the authorities that sign the brokers' certificates. Default: those that the system trusts.
    #[serde(rename = "ssl.ca.location")]
    pub ssl_ca_location: Option<String>,
    /// PEM file of the certificate that Laminar shows to the brokers, where they ask for one.
    #[serde(rename = "ssl.certificate.location")]
    pub ssl_certificate_location: Option<String>,
    /// PEM file of that certificate's key.
    #[serde(rename = "ssl.key.location")]
    pub ssl_key_location: Option<String>,
    /// Password of the key file, if it has one.
    #[serde(rename = "ssl.key.password")]
    pub ssl_key_password: Option<Secret>,
}

/// How we log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// Not at all.
    None,
    /// With a name and password.
    Sasl,
    /// Known, and refused: a later issue.
    #[schemars(skip)]
    AwsMskIam,
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// The password itself; only sensible inside TLS.
    #[serde(rename = "PLAIN", alias = "plain")]
    Plain,
    /// RFC 5802 with SHA-256.
    #[serde(rename = "SCRAM-SHA-256", alias = "scram-sha-256")]
    ScramSha256,
    /// RFC 5802 with SHA-512.
    #[serde(rename = "SCRAM-SHA-512", alias = "scram-sha-512")]
    ScramSha512,
}

impl Mechanism {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// What travels on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Protocol {
    /// Neither TLS nor a login.
    #[serde(alias = "plaintext")]
    Plaintext,
    /// TLS.
    #[serde(alias = "ssl")]
    Ssl,
    /// A login without TLS.
    #[serde(alias = "sasl_plaintext")]
    SaslPlaintext,
    /// A login inside TLS.
    #[serde(alias = "sasl_ssl")]
    SaslSsl,
}

impl Protocol {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
    pub(super) fn has_login(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
    pub(super) fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// What to read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SourceOptions {
    /// The topic to read. Needed, unless `topics` is given.
    pub topic: Option<String>,
    /// Several topics to read, separated by commas; instead of `topic`.
    pub topics: Option<Vec<String>>,
    /// Consumer group to which progress is reported, for other tools to see. Where a pipeline goes on is decided by its
    /// checkpoint, not by the group. Default: `laminar-<pipeline id>`.
    pub group_id: Option<String>,
    /// Where a pipeline starts that has no checkpoint yet.
    #[serde(default)]
    pub offset: StartOption,
    /// With `offset = 'timestamp'`, and needed there: RFC 3339 such as `2024-01-01T00:00:00Z`, or milliseconds since 1970.
    /// Starts at the first record that is not older; at the end if there is none.
    pub timestamp: Option<String>,
    /// Least time in milliseconds between two commits of offsets to the group. Default: with each checkpoint.
    #[serde(rename = "commit.interval.ms")]
    pub commit_interval_ms: Option<u64>,
}

/// Where a pipeline starts that has no checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartOption {
    /// At the oldest record that the topic still has.
    #[default]
    Earliest,
    /// At the end: only what comes later.
    Latest,
    /// At the first record that is not older than `timestamp`.
    Timestamp,
}

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

/// All that is written about one connection or table, each group well-formed, none complete.
pub(super) struct Written {
    /// After translation of Kafka's names; for places in messages.
    all: Options,
    pub client: ClientOptions,
    pub source: SourceOptions,
    pub sink: SinkOptions,
    pub fields: FieldOptions,
    pub encoding: EncodingOptions,
    pub producer: ProducerOptions,
    pub creation: TopicOptions,
    pub buffer: BufferOptions,
    pub format: FormatOptions,
    properties: Vec<(String, String)>,
}

impl Written {
    /// Reads and checks each option by itself. `role` is `None` for a connection, which may serve both.
    pub fn read(options: &Options, role: Option<Role>, files_dir: Option<&Path>) -> Result<Self> {
        BatchOptions::of(options)?;
        let all = properties::translate(options)?;
        let (client, rest) = all.split_known::<ClientOptions>();
        let (source, _) = all.split_known::<SourceOptions>();
        let (_, rest) = rest.split_known::<SourceOptions>();
        let (sink, _) = all.split_known::<SinkOptions>();
        let (_, rest) = rest.split_known::<SinkOptions>();
        let (fields, rest) = rest.split_known::<FieldOptions>();
        let (encoding, rest) = rest.split_known::<EncodingOptions>();
        let (producer, rest) = rest.split_known::<ProducerOptions>();
        let (creation, rest) = rest.split_known::<TopicOptions>();
        let (buffer, rest) = rest.split_known::<BufferOptions>();
        let (format, rest) = rest.split_known::<FormatOptions>();
        let (_, mut rest) = rest.split_known::<BatchOptions>();
        rest.remove("max.poll.records");
        let format = format.parse::<FormatOptions>(SUBJECT)?;
        refuse_other_role(&all, role)?;
        let mut known = names::<ClientOptions>();
        known.extend(names::<SourceOptions>());
        known.extend(sink_only());
        known.extend(names::<EncodingOptions>());
        known.extend(names::<FormatOptions>());
        known.extend(names::<BatchOptions>());
        let (files, _) = client.split_known::<FileOptions>();
        let properties = properties::check(&rest, role, &known, files_dir)?;
        properties::check(&files, role, &known, files_dir)?;
        let written = Self {
            client: client.parse(SUBJECT)?,
            source: source.parse(SUBJECT)?,
            sink: sink.parse(SUBJECT)?,
            fields: fields.parse(SUBJECT)?,
            encoding: encoding.parse(SUBJECT)?,
            producer: producer.parse(SUBJECT)?,
            creation: creation.parse(SUBJECT)?,
            buffer: buffer.parse(SUBJECT)?,
            format,
            properties,
            all,
        };
        written.check_each()?;
        Ok(written)
    }

    /// Checks that need no other option.
    fn check_each(&self) -> Result<()> {
        if self.client.auth_type == Some(AuthType::AwsMskIam) {
            return Err(self
                .error("auth.type", Code::NotSupported, "auth.type aws_msk_iam of connector kafka is not supported yet")
                .with_hint("use 'auth.type' = 'sasl' with SCRAM"));
        }
        let topics = self.source.topic.iter().map(|t| ("topic", t));
        let listed = self.source.topics.iter().flatten().map(|t| ("topics", t));
        topics.chain(listed).try_for_each(|(key, topic)| self.check_topic(key, topic))?;
        if let Some(servers) = &self.client.bootstrap_servers {
            Cluster::servers(servers).map_err(|what| self.invalid("bootstrap_servers", &what))?;
        }
        if self.source.group_id.as_deref().is_some_and(|id| id.trim().is_empty() || id.contains('\0')) {
            return Err(self.invalid("group_id", "expected a name"));
        }
        if let Some(text) = &self.source.timestamp {
            parse_timestamp(text)
                .ok_or_else(|| self.invalid("timestamp", "expected RFC 3339 or milliseconds since 1970"))?;
        }
        if self.sink.linger_ms.is_some_and(|ms| !(0.0..=900_000.0).contains(&ms)) {
            return Err(self.invalid("linger_ms", "expected 0 to 900000"));
        }
        self.check_sink()?;
        self.protocol()?;
        Ok(())
    }

    fn check_sink(&self) -> Result<()> {
        let (producer, creation, buffer) = (&self.producer, &self.creation, &self.buffer);
        let sizes = [
            ("batch.max_bytes", producer.batch_max_bytes, i32::MAX.unsigned_abs().into()),
            ("buffer.per_partition_limit", buffer.per_partition_limit, u64::MAX),
            ("buffer.segment_bytes", buffer.segment_bytes, u64::MAX),
        ];
        for (key, size, most) in sizes {
            if size.is_some_and(|size| size.0 == 0 || size.0 > most) {
                return Err(self.invalid(key, &format!("expected 1 byte to {most}")));
            }
        }
        let counts = [
            ("max_inflight", producer.max_inflight, 1_000_000),
            ("topic.partitions", creation.partitions, 100_000),
            ("topic.replication_factor", creation.replication_factor, 1_000),
        ];
        for (key, count, most) in counts {
            if count.is_some_and(|count| !(1..=most).contains(&count)) {
                return Err(self.invalid(key, &format!("expected 1 to {most}")));
            }
        }
        let interval = producer.partition_count_refresh_interval;
        if interval.is_some_and(|interval| !(10..=3_600_000).contains(&interval.0.as_millis())) {
            return Err(self.invalid("partition_count_refresh_interval", "expected 10ms to 1h"));
        }
        if producer.acks != Acks::All && self.sink.delivery == Some(Delivery::ExactlyOnce) {
            return Err(acks_conflict(producer.acks));
        }
        let on_disk = ["buffer.segment_bytes"].iter().find_map(|key| self.all.entry(key));
        if let (BufferMode::Memory, Some(entry)) = (buffer.mode, on_disk) {
            let what = format!("option {} needs buffer.mode = 'disk' or 'hybrid'", entry.key);
            return Err(self.error(&entry.key, Code::ConflictingOptions, what));
        }
        let made = ["topic.partitions", "topic.replication_factor", "topic.retention", "topic.cleanup_policy"];
        match made.iter().find_map(|key| self.all.entry(key)) {
            Some(entry) if creation.auto_create != Some(true) => {
                let what = format!("option {} is about a topic that is created", entry.key);
                let error = self.error(&entry.key, Code::ConflictingOptions, what);
                Err(error.with_hint("add 'topic.auto_create' = 'true'"))
            }
            _ => Ok(()),
        }
    }

    fn check_topic(&self, key: &str, topic: &str) -> Result<()> {
        if !is_topic_name(topic) {
            return Err(self.invalid(key, "a topic's name has 1 to 249 letters, digits, '.', '_' or '-'"));
        }
        Ok(())
    }

    /// Security protocol and login that the options together ask for.
    fn protocol(&self) -> Result<Protocol> {
        let client = &self.client;
        let wants_login = match client.auth_type {
            Some(kind) => kind == AuthType::Sasl,
            None => client.auth_username.is_some() || client.auth_mechanism.is_some(),
        };
        if let (Some(a), Some(b)) = (client.auth_protocol, client.security_protocol)
            && a != b
        {
            return Err(self.error(
                "security.protocol",
                Code::ConflictingOptions,
                "auth.protocol and security.protocol differ",
            ));
        }
        if client.auth_type == Some(AuthType::None) && client.auth_username.is_some() {
            return Err(self.error(
                "auth.username",
                Code::ConflictingOptions,
                "auth.username is given and auth.type is none",
            ));
        }
        let protocol = client.auth_protocol.or(client.security_protocol);
        match (protocol, wants_login) {
            (Some(protocol), true) if !protocol.has_login() => Err(self.error(
                "auth.type",
                Code::ConflictingOptions,
                "a login needs SASL_SSL or SASL_PLAINTEXT as protocol",
            )),
            (Some(protocol), _) => Ok(protocol),
            (None, true) => Ok(Protocol::SaslSsl),
            (None, false) if client.ssl_ca_location.is_some() || client.ssl_certificate_location.is_some() => {
                Ok(Protocol::Ssl)
            }
            (None, false) => Ok(Protocol::Plaintext),
        }
    }

    /// The cluster that the options name.
    pub fn cluster(&self) -> Result<Cluster> {
        let client = &self.client;
        let Some(servers) = &client.bootstrap_servers else { return Err(missing("bootstrap_servers", SUBJECT)) };
        let servers = Cluster::servers(servers).map_err(|what| self.invalid("bootstrap_servers", &what))?;
        let protocol = self.protocol()?;
        let mut config: Vec<(String, String)> = self.properties.clone();
        let mut set = |key: &str, value: &str| config.push((key.to_string(), value.to_string()));
        set("security.protocol", protocol.as_str());
        if protocol.has_login() {
            let Some(username) = &client.auth_username else { return Err(missing("auth.username", SUBJECT)) };
            let Some(password) = &client.auth_password else { return Err(missing("auth.password", SUBJECT)) };
            set("sasl.mechanism", client.auth_mechanism.unwrap_or(Mechanism::Plain).as_str());
            set("sasl.username", username);
            set("sasl.password", password.expose());
        }
        let files = [
            ("ssl.ca.location", client.ssl_ca_location.as_deref()),
            ("ssl.certificate.location", client.ssl_certificate_location.as_deref()),
            ("ssl.key.location", client.ssl_key_location.as_deref()),
            ("ssl.key.password", client.ssl_key_password.as_ref().map(Secret::expose)),
        ];
        for (key, value) in files {
            if let Some(value) = value {
                set(key, value);
            }
        }
        Ok(Cluster::new(servers, protocol, config))
    }

    /// What a source is made from.
    pub fn source(self) -> Result<SourceSettings> {
        let cluster = self.cluster()?;
        let topics = match (&self.source.topic, &self.source.topics) {
            (Some(_), Some(_)) => {
                return Err(self
                    .error("topics", Code::ConflictingOptions, "topic and topics are both given")
                    .with_hint("give one"));
            }
            (Some(topic), None) => vec![topic.clone()],
            (None, Some(topics)) if !topics.is_empty() => {
                let mut topics = topics.clone();
                topics.sort();
                topics.dedup();
                topics
            }
            _ => return Err(missing("topic", SUBJECT)),
        };
        let start = match (self.source.offset, &self.source.timestamp) {
            (StartOption::Earliest, None) => Start::Earliest,
            (StartOption::Latest, None) => Start::Latest,
            (StartOption::Timestamp, Some(text)) => Start::AtMillis(parse_timestamp(text).unwrap_or_default()),
            (StartOption::Timestamp, None) => {
                return Err(missing("timestamp", SUBJECT).with_hint("offset = 'timestamp' needs it"));
            }
            (_, Some(_)) => {
                return Err(self
                    .error("timestamp", Code::ConflictingOptions, "option timestamp needs offset = 'timestamp'")
                    .with_hint("add offset = 'timestamp', or remove timestamp"));
            }
        };
        Ok(SourceSettings {
            cluster,
            topics,
            group_id: self.source.group_id,
            start,
            commit_interval: Duration::from_millis(self.source.commit_interval_ms.unwrap_or(0)),
            encoding: self.encoding,
            format: self.format,
        })
    }

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
        })
    }

    /// An error about option `key`, at its place.
    pub fn error(&self, key: &str, code: Code, message: impl Into<String>) -> Error {
        Error::new(code, message).with_field(key).at(self.all.entry(key).and_then(|e| e.location))
    }

    fn invalid(&self, key: &str, what: &str) -> Error {
        let absent = OptionEntry { key: key.to_string(), value: String::new(), location: None };
        properties::invalid(self.all.entry(key).unwrap_or(&absent), what)
    }
}

/// The client's options whose values are files on the server.
#[derive(JsonSchema)]
#[allow(dead_code)] // only its field names are used
struct FileOptions {
    #[serde(rename = "ssl.ca.location")]
    ca: Option<String>,
    #[serde(rename = "ssl.certificate.location")]
    certificate: Option<String>,
    #[serde(rename = "ssl.key.location")]
    key: Option<String>,
}

/// A source's settings, complete.
#[derive(Clone, Debug)]
pub(super) struct SourceSettings {
    pub cluster: Cluster,
    /// Sorted, distinct, at least one.
    pub topics: Vec<String>,
    pub group_id: Option<String>,
    pub start: Start,
    pub commit_interval: Duration,
    pub encoding: EncodingOptions,
    pub format: FormatOptions,
}

/// A sink's settings, complete.
#[derive(Clone, Debug)]
pub(super) struct SinkSettings {
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
}

impl SinkSettings {
    /// What librdkafka is told of each topic.
    pub fn topic_config(&self) -> Vec<(&'static str, &'static str)> {
        vec![("partitioner", self.producer.partitioner.as_str()), ("compression.codec", self.compression.as_str())]
    }
}

/// The error for a sink that cannot keep what exactly-once promises.
pub(super) fn acks_conflict(acks: Acks) -> Error {
    let what = format!("acks = '{}' cannot be exactly-once", acks.as_str());
    Error::new(Code::ConflictingOptions, what)
        .with_detail("an acknowledged row could be lost")
        .with_hint("leave acks out, or add delivery = 'at_least_once'")
        .with_field("acks")
}

/// Is it the name of a topic?
pub(super) fn is_topic_name(topic: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !topic.is_empty() && topic.len() <= 249 && topic != "." && topic != ".." && topic.chars().all(legal)
}

/// Topics that hold what Kafka or Laminar need to work: no table writes to them.
pub(super) fn is_reserved(topic: &str) -> bool {
    let kafkas = ["__consumer_offsets", "__transaction_state", "__cluster_metadata", "__share_group_state"];
    topic == marker::TOPIC || topic.starts_with("__laminar") || kafkas.contains(&topic)
}

/// Names of the options that only a sink has.
fn sink_only() -> Vec<String> {
    let mut all = names::<SinkOptions>();
    all.retain(|name| name != "topic");
    all.extend(names::<FieldOptions>());
    all.extend(names::<ProducerOptions>());
    all.extend(names::<TopicOptions>());
    all.extend(names::<BufferOptions>());
    all
}

/// Where a split starts that has no position yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Earliest,
    Latest,
    AtMillis(i64),
}

fn refuse_other_role(all: &Options, role: Option<Role>) -> Result<()> {
    let (foreign, other) = match role {
        Some(Role::Source) => (sink_only(), "sink"),
        Some(Role::Sink) => {
            let names = ["topics", "group_id", "offset", "timestamp", "commit.interval.ms"];
            (names.iter().map(ToString::to_string).collect(), "source")
        }
        None => return Ok(()),
    };
    let entries = foreign.iter().filter_map(|key| all.entry(key));
    entries.into_iter().try_for_each(|entry| properties::refuse_other_role(entry, other))
}

/// Milliseconds since 1970; a time without a zone is UTC.
fn parse_timestamp(text: &str) -> Option<i64> {
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

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;

//! What a user may write about Kafka in `WITH (…)`. The doc comments are the reference page.
//!
//! Options are read in groups, so that a connection may carry some of each: the client's ([`ClientOptions`]), a source's,
//! a sink's, the format's, the batch's; what is left are librdkafka's own properties. [`Written`] holds all groups;
//! [`SourceSettings`] and [`SinkSettings`] are what a source and a sink are made from, complete and consistent.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use laminar_core::connector::Role;
use laminar_core::options::{HumanDuration, OptionEntry, Secret, missing, names};
use laminar_core::sink::Delivery;
use laminar_core::{Code, Error, Options, Result};
use laminar_formats::registry::RegistryOptions;
use laminar_formats::{FormatContext, FormatOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::Cluster;
use super::login::{self, Login, TokenOptions};
use super::properties;
use super::sink_options::{
    Acks, BufferMode, BufferOptions, EncodingOptions, FieldOptions, ProducerOptions, TopicOptions,
};
use super::topics::{Topics, check_topic_name, is_reserved};
use crate::batch::BatchOptions;
use crate::files::{self, FilesAccess};
use crate::schema_registry::{Patience, format_context};

pub(super) const SUBJECT: &str = "connector kafka";

/// The brokers are not asked for their topics more often.
const MIN_DISCOVERY: Duration = Duration::from_millis(100);

/// How to reach the brokers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ClientOptions {
    /// Brokers to start from: `host:port`, several separated by commas. The others of the cluster are found from there.
    #[schemars(required)]
    pub bootstrap_servers: Option<String>,
    /// How Laminar logs in. Default: `sasl` if a user name, a token, a mechanism or a protocol with a login is given, else `none`.
    #[serde(rename = "auth.type")]
    pub auth_type: Option<AuthType>,
    /// How the login is proved. The names may be written in lower case. Default: `OAUTHBEARER` with a token, else `PLAIN`.
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
    /// Is there TLS at all? Another way to write `security.protocol`, which then need not be given.
    #[serde(rename = "ssl.enable")]
    pub ssl_enable: Option<bool>,
}

/// How we log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// Not at all.
    None,
    /// With a name and password, or a token.
    Sasl,
    /// With a token that the server's AWS credentials sign, as Amazon MSK wants it.
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
    /// RFC 7628: a token of OAuth 2.0.
    #[serde(rename = "OAUTHBEARER", alias = "oauthbearer")]
    OauthBearer,
    /// Kerberos; only in a build with the feature `gssapi`.
    #[serde(rename = "GSSAPI", alias = "gssapi")]
    Gssapi,
}

impl Mechanism {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
            Self::Gssapi => "GSSAPI",
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
    pub(super) fn as_str(self) -> &'static str {
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
    pub token: TokenOptions,
    pub source: SourceOptions,
    pub sink: SinkOptions,
    pub fields: FieldOptions,
    pub encoding: EncodingOptions,
    pub producer: ProducerOptions,
    pub creation: TopicOptions,
    pub buffer: BufferOptions,
    pub format: FormatOptions,
    pub registry: RegistryOptions,
    properties: Vec<(String, String)>,
}

impl Written {
    /// Reads and checks each option by itself. `role` is `None` for a connection, which may serve both.
    pub fn read(options: &Options, role: Option<Role>, files_dir: Option<&Path>) -> Result<Self> {
        BatchOptions::of(options)?;
        let files = files_dir.map_or_else(FilesAccess::everywhere, |folder| FilesAccess::below(folder.into()));
        let options = files::descriptor::inline(options, &files)?;
        let all = properties::translate(&options)?;
        let (client, rest) = all.split_known::<ClientOptions>();
        let (token, rest) = rest.split_known::<TokenOptions>();
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
        let (registry, rest) = rest.split_known::<RegistryOptions>();
        let (_, mut rest) = rest.split_known::<BatchOptions>();
        rest.remove("max.poll.records");
        let format = format.parse::<FormatOptions>(SUBJECT)?;
        refuse_other_role(&all, role)?;
        let mut known = names::<ClientOptions>();
        known.extend(names::<TokenOptions>());
        known.extend(names::<SourceOptions>());
        known.extend(sink_only());
        known.extend(names::<EncodingOptions>());
        known.extend(names::<FormatOptions>());
        known.extend(names::<RegistryOptions>());
        known.extend(names::<BatchOptions>());
        let (files, _) = all.split_known::<FileOptions>();
        let properties = properties::check(&rest, role, &known, files_dir)?;
        properties::check(&files, role, &known, files_dir)?;
        let written = Self {
            client: client.parse(SUBJECT)?,
            token: token.parse(SUBJECT)?,
            source: source.parse(SUBJECT)?,
            sink: sink.parse(SUBJECT)?,
            fields: fields.parse(SUBJECT)?,
            encoding: encoding.parse(SUBJECT)?,
            producer: producer.parse(SUBJECT)?,
            creation: creation.parse(SUBJECT)?,
            buffer: buffer.parse(SUBJECT)?,
            format,
            registry: registry.parse(SUBJECT)?,
            properties,
            all,
        };
        written.check_each()?;
        Ok(written)
    }

    /// Checks that need no other option.
    fn check_each(&self) -> Result<()> {
        let topics = self.source.topic.iter().map(|t| ("topic", t));
        let listed = self.source.topics.iter().flatten().map(|t| ("topics", t));
        topics.chain(listed).try_for_each(|(key, topic)| self.check_topic(key, topic))?;
        if let Some(pattern) = &self.source.topic_pattern {
            Topics::matching(pattern).map_err(|what| self.invalid("topic_pattern", &what))?;
        }
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
        self.placed(self.registry.check_each())?;
        login::check_each(self)?;
        login::protocol(self).map(drop)
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
        check_topic_name(topic).map_err(|what| self.invalid(key, what))
    }

    /// The cluster that the options name.
    pub fn cluster(&self) -> Result<Cluster> {
        let client = &self.client;
        let Some(servers) = &client.bootstrap_servers else { return Err(missing("bootstrap_servers", SUBJECT)) };
        let servers = Cluster::servers(servers).map_err(|what| self.invalid("bootstrap_servers", &what))?;
        let Login { protocol, properties, tokens } = login::login(self)?;
        let mut config: Vec<(String, String)> = self.properties.clone();
        let mut set = |key: &str, value: &str| config.push((key.to_string(), value.to_string()));
        set("security.protocol", protocol.as_str());
        properties.iter().for_each(|(key, value)| set(key, value));
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
        Ok(Cluster::new(servers, protocol, config).with_tokens(tokens))
    }

    /// What a source is made from.
    pub fn source(self) -> Result<SourceSettings> {
        let cluster = self.cluster()?;
        let topics = self.topics()?.ok_or_else(|| missing("topic", SUBJECT))?;
        let start = self.start()?;
        let discovery = self.source.partition_discovery_interval.0;
        Ok(SourceSettings {
            cluster,
            topics,
            discovery: (!discovery.is_zero()).then(|| discovery.max(MIN_DISCOVERY)),
            group_id: self.source.group_id,
            start,
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

    /// An error about option `key`, at its place.
    pub fn error(&self, key: &str, code: Code, message: impl Into<String>) -> Error {
        Error::new(code, message).with_field(key).at(self.all.entry(key).and_then(|e| e.location))
    }

    /// The outcome of a check that does not know where options stand.
    fn placed<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| {
            let entry = error.field().and_then(|key| self.all.entry(key));
            let location = entry.and_then(|entry| entry.location);
            error.at(location)
        })
    }

    /// What a connection says it is for; `None`: for both.
    pub fn role(&self) -> Option<Role> {
        let given = |names: &[&str]| names.iter().any(|name| self.all.entry(name).is_some());
        match (given(&["group_id", "offset", "topics", "timestamp"]), given(&["key_field", "delivery"])) {
            (true, false) => Some(Role::Source),
            (false, true) => Some(Role::Sink),
            _ => None,
        }
    }

    /// Is the property of librdkafka given?
    pub fn has_property(&self, key: &str) -> bool {
        self.property(key).is_some()
    }
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub fn invalid(&self, key: &str, what: &str) -> Error {
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
    #[serde(rename = "https.ca.location")]
    provider: Option<String>,
}

/// A source's settings, complete.
#[derive(Clone, Debug)]
pub(super) struct SourceSettings {
    pub cluster: Cluster,
    pub topics: Topics,
    /// How often to look for new partitions and topics; `None`: only at the start.
    pub discovery: Option<Duration>,
    pub group_id: Option<String>,
    pub start: Start,
    pub read_mode: ReadMode,
    pub on_data_loss: OnDataLoss,
    pub commit_interval: Duration,
    pub encoding: EncodingOptions,
    pub format: FormatOptions,
    pub registry: RegistryOptions,
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
    pub registry: RegistryOptions,
}

impl SourceSettings {
    /// What the format gets of the connector. No I/O.
    pub fn formats(&self, patience: Patience) -> Result<FormatContext> {
        format_context(&self.registry, self.topics.names().first().map_or("", String::as_str), patience)
    }
}

impl SinkSettings {
    /// What the format gets of the connector. No I/O.
    pub fn formats(&self, patience: Patience) -> Result<FormatContext> {
        format_context(&self.registry, self.topic.as_deref().unwrap_or_default(), patience)
    }
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
    /// Where the group stands.
    Group(Reset),
}

/// Options that only a source has.
const SOURCE_ONLY: &[&str] = &[
    "topics",
    "topic_pattern",
    "partition_discovery_interval",
    "group_id",
    "offset",
    "timestamp",
    "auto.offset.reset",
    "read_mode",
    "on_data_loss",
    "commit.interval.ms",
];

fn refuse_other_role(all: &Options, role: Option<Role>) -> Result<()> {
    let (foreign, other) = match role {
        Some(Role::Source) => (sink_only(), "sink"),
        Some(Role::Sink) => (SOURCE_ONLY.iter().map(ToString::to_string).collect(), "source"),
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

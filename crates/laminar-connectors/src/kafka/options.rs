//! What a user may write about Kafka in `WITH (…)`. The doc comments are the reference page.
//!
//! Options are read in groups, so that a connection may carry some of each: the client's, a source's, a sink's, the format's, the
//! batch's; what is left are librdkafka's own properties. [`Written`] holds all groups. What they say stands in
//! `client` (`options`, `login`, `token`), `source::options` and `sink::options`, where sources and sinks also find what they are made from.

use std::path::Path;
use std::sync::Arc;

use laminar_core::connector::Role;
use laminar_core::options::{OptionEntry, Secret, missing, names};
use laminar_core::sink::Delivery;
use laminar_core::{Code, Error, Options, Result};
use laminar_formats::FormatOptions;
use laminar_formats::registry::RegistryOptions;
use schemars::JsonSchema;

use super::client::Cluster;
use super::client::login::{self, Login, TokenOptions};
use super::client::options::ClientOptions;
use super::client::properties;
use super::client::token::Logins;
use super::sink::options::{
    Acks, BufferMode, BufferOptions, EncodingOptions, FieldOptions, ProducerOptions, SinkOptions, TopicOptions,
    acks_conflict,
};
use super::source::options::{SourceOptions, parse_timestamp};
use super::topics::{Topics, check_topic_name};
use crate::batch::BatchOptions;
use crate::files::{self, FilesAccess};

pub(super) const SUBJECT: &str = "connector kafka";

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
    logins: Arc<Logins>,
}

impl Written {
    /// The same, whose clients share tokens with those of `logins`.
    #[must_use]
    pub fn sharing(self, logins: &Arc<Logins>) -> Self {
        Self { logins: Arc::clone(logins), ..self }
    }

    /// Reads and checks each option by itself. `role` is `None` for a connection, which may serve both.
    pub fn read(options: &Options, role: Option<Role>, files_dir: Option<&Path>) -> Result<Self> {
        BatchOptions::of(options)?;
        let files = files_dir.map_or_else(FilesAccess::everywhere, |folder| FilesAccess::below(folder.into()));
        let options = files::descriptor::inline(options, &files)?;
        let all = properties::in_folder(&properties::translate(&options)?, files_dir);
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
            logins: Arc::default(),
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
        Ok(Cluster::new(servers, protocol, config).with_tokens(tokens.map(|tokens| self.logins.shared(tokens))))
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

/// Options that only a source has.
const SOURCE_ONLY: &[&str] = &[
    "topics",
    "topic_pattern",
    "partition_discovery_interval",
    "group_id",
    "offset",
    "timestamp",
    "auto.offset.reset",
    "upsert",
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

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;

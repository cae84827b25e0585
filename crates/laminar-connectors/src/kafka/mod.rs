//! Kafka, as a source and as a sink, through librdkafka; and an in-process broker for trying things out.
//!
//! The contract, in both directions:
//!
//! ```text
//!  source   split = topic/partition     position = the next offset      group offsets follow the checkpoints
//!  sink     one transaction an epoch    marker inside it                the transaction is the commit record
//! ```
//!
//! - A reader starts at concrete offsets, and stops with `data_loss` when the broker no longer has the next one. It jumps
//!   only where the table says `on_data_loss = 'skip'`, and counts what it missed.
//! - Topics and partitions that appear are read from their beginning; a topic that was deleted and created again is told from
//!   the old one by its id.
//! - An exactly-once sink writes into the pipeline's one open transaction. What died when is decided by the broker; after
//!   `init_transactions` the last marker says which epoch is visible. See `transaction`.
//! - A broker that is away is waited for; refused logins, missing topics and lost records are errors.
//! - Options are checked without I/O when a statement is read, and against the cluster at CREATE TABLE.
//!
//! The folders, in reading order:
//!
//! ```text
//!  options    what a user may write, of connections and tables       topics  names of topics, and patterns of them
//!  client/    what all clients share: address, login, token, librdkafka's properties, errors, and why a broker does not let us in
//!  source/    topics as a source: what there is to read, where each split starts, the reader
//!  sink/      rows as records: fields, keys, headers, topics, what waits while the broker is away; dead letters
//!  producer/  records on their way to the brokers, and the transactions that they are part of
//!  admin/     what is asked of a cluster besides records: topics, groups, "does the connection work?"
//!  native/    librdkafka's calls that rdkafka has not: the only unsafe code
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use laminar_core::cluster::SharedClusterAdmin;
use laminar_core::connector::{Connector, DeadLettersOf, MetadataColumn, Role, SinkContext, SourceContext, TestStage};
use laminar_core::options::{ALIASES, names};
use laminar_core::sink::{Delivery, Sink};
use laminar_core::source::Source;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Code, Error, Options, Result};
use laminar_formats::FormatOptions;
use laminar_formats::registry::RegistryOptions;
use schemars::schema_for;
use serde_json::{Value, json};

use crate::batch::BatchOptions;
use crate::schema_registry::Patience;
use admin::cluster::KafkaClusterAdmin;
use admin::test_connection;
use client::login::TokenOptions;
use client::options::ClientOptions;
use client::token::Logins;
use options::Written;
use producer::transaction::Transactions;
use sink::KafkaSink;
use sink::dead_letters::{self, DeadLetterSink};
use sink::fields::Fields;
use sink::options::{
    Acks, BufferOptions, EncodingOptions, FieldOptions, ProducerOptions, SinkOptions, SinkSettings, TopicOptions,
    acks_conflict,
};
use source::KafkaSource;
use source::options::SourceOptions;

mod admin;
mod client;
mod dev_broker;
mod encoding;
mod native;
mod options;
mod producer;
mod sink;
mod source;
mod topics;

pub use client::properties::{Allowed, ClientProperty};
pub use dev_broker::DevBroker;

/// The properties of librdkafka that may be given besides the connector's own options, and those that may not.
pub fn client_properties() -> Vec<ClientProperty> {
    let mut ours = names::<ClientOptions>();
    ours.extend(names::<TokenOptions>());
    ours.extend(names::<SourceOptions>());
    ours.extend(names::<ProducerOptions>());
    client::properties::client_properties(&ours)
}

/// The topic of markers in every cluster that an exactly-once sink writes to.
pub const PROGRESS_TOPIC: &str = producer::marker::TOPIC;

/// The connector `kafka`. One instance serves a whole process: it is where the sinks of a pipeline find the transaction
/// that they share.
#[derive(Default)]
pub struct KafkaConnector {
    files_dir: Option<PathBuf>,
    /// Where rows of sinks wait that do so on disk.
    spool_dir: Option<PathBuf>,
    /// Name of the cluster that is a [`DevBroker`].
    dev_cluster: Option<String>,
    transactions: Arc<Transactions>,
    logins: Arc<Logins>,
}

impl KafkaConnector {
    /// A connector that reads files (certificates, keys) from anywhere, as a tool on one's own machine may.
    pub fn new() -> Self {
        Self::default()
    }

    /// The connector of a server: options name files only below `dir`.
    #[must_use]
    pub fn with_files_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.files_dir = Some(dir.into());
        self
    }

    /// Says where rows of sinks wait that do so on disk; else it is the system's folder for temporary files.
    #[must_use]
    pub fn with_spool_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spool_dir = Some(dir.into());
        self
    }

    /// Says that the broker at `bootstrap` is a [`DevBroker`], whose transactions isolate nothing: sinks there are
    /// at-least-once, and `exactly_once` is refused.
    #[must_use]
    pub fn with_dev_broker(mut self, bootstrap: &str) -> Self {
        let servers = client::Cluster::servers(bootstrap).unwrap_or_default();
        self.dev_cluster =
            Some(client::Cluster::new(servers, client::options::Protocol::Plaintext, Vec::new()).name().to_string());
        self
    }

    fn read(&self, options: &Options, role: Option<Role>) -> Result<Written> {
        Ok(Written::read(options, role, self.files_dir.as_deref())?.sharing(&self.logins))
    }

    /// What a sink into the cluster guarantees: what the pipeline asks for, else the table, else the best there is.
    fn delivery(&self, settings: &SinkSettings, asked: Option<Delivery>) -> Result<Delivery> {
        let delivery = self.delivery_into(&settings.cluster, asked.or(settings.delivery))?;
        match (delivery, settings.producer.acks) {
            (Delivery::AtLeastOnce, _) | (_, Acks::All) => Ok(delivery),
            (Delivery::ExactlyOnce, acks) => Err(acks_conflict(acks)),
        }
    }

    /// Is it the built-in broker?
    fn is_dev(&self, cluster: &client::Cluster) -> bool {
        self.dev_cluster.as_deref() == Some(cluster.name())
    }

    /// The same for what is asked for, if anything is.
    fn delivery_into(&self, cluster: &client::Cluster, asked: Option<Delivery>) -> Result<Delivery> {
        match (asked, self.is_dev(cluster)) {
            (Some(Delivery::ExactlyOnce), true) => {
                Err(Error::new(Code::NotSupported, "the built-in broker cannot deliver exactly once")
                    .with_detail("it accepts transactions and does not isolate them")
                    .with_hint("remove delivery = 'exactly_once', or write to a real Kafka cluster")
                    .with_field("delivery"))
            }
            (Some(delivery), _) => Ok(delivery),
            (None, true) => Ok(Delivery::AtLeastOnce),
            (None, false) => Ok(Delivery::ExactlyOnce),
        }
    }
}

const METADATA: &[MetadataColumn] = &[
    MetadataColumn { key: "topic", column: "_kafka_topic", sql_type: "TEXT", description: "The record's topic." },
    MetadataColumn {
        key: "partition",
        column: "_kafka_partition",
        sql_type: "INT",
        description: "The record's partition.",
    },
    MetadataColumn {
        key: "offset",
        column: "_kafka_offset",
        sql_type: "BIGINT",
        description: "The record's offset in its partition.",
    },
    MetadataColumn {
        key: "timestamp",
        column: "_kafka_timestamp",
        sql_type: "TIMESTAMP",
        description: "The record's timestamp, as its type says.",
    },
    MetadataColumn {
        key: "timestamp_type",
        column: "_kafka_timestamp_type",
        sql_type: "TEXT",
        description: "Who set the timestamp: the producer (CreateTime) or the broker (LogAppendTime).",
    },
    MetadataColumn { key: "key", column: "_kafka_key", sql_type: "BYTEA", description: "The record's key." },
    MetadataColumn {
        key: "headers",
        column: "_kafka_headers",
        sql_type: "JSON",
        description: "The record's headers, an object of name and value.",
    },
];

const SINK_METADATA: &[MetadataColumn] = &[
    MetadataColumn { key: "key", column: "_kafka_key", sql_type: "BYTEA", description: "The record's key." },
    MetadataColumn {
        key: "partition",
        column: "_kafka_partition",
        sql_type: "INT",
        description: "The partition to write to; null: the partitioner chooses.",
    },
    MetadataColumn {
        key: "timestamp",
        column: "_kafka_timestamp",
        sql_type: "TIMESTAMP",
        description: "The record's timestamp; null: now.",
    },
    MetadataColumn {
        key: "topic",
        column: "_kafka_topic",
        sql_type: "TEXT",
        description: "The topic to write to; null: that of the option topic.",
    },
    MetadataColumn {
        key: "headers",
        column: "_kafka_headers",
        sql_type: "JSON",
        description: "The record's headers, an object or a map of name and value.",
    },
];

#[async_trait]
impl Connector for KafkaConnector {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn description(&self) -> &'static str {
        "Topics of Apache Kafka, and of what speaks its protocol."
    }

    fn source_schema(&self) -> Option<Value> {
        let groups = [
            schema_for!(ClientOptions).to_value(),
            schema_for!(TokenOptions).to_value(),
            schema_for!(SourceOptions).to_value(),
            schema_for!(EncodingOptions).to_value(),
            schema_for!(FormatOptions).to_value(),
            schema_for!(RegistryOptions).to_value(),
            schema_for!(BatchOptions).to_value(),
        ];
        Some(merge("Options of a Kafka source.", groups))
    }

    fn sink_schema(&self) -> Option<Value> {
        let groups = [
            schema_for!(ClientOptions).to_value(),
            schema_for!(TokenOptions).to_value(),
            schema_for!(SinkOptions).to_value(),
            schema_for!(FieldOptions).to_value(),
            schema_for!(EncodingOptions).to_value(),
            schema_for!(ProducerOptions).to_value(),
            schema_for!(TopicOptions).to_value(),
            schema_for!(BufferOptions).to_value(),
            schema_for!(FormatOptions).to_value(),
            schema_for!(RegistryOptions).to_value(),
        ];
        Some(merge("Options of a Kafka sink.", groups))
    }
    fn sink_delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn metadata_columns(&self) -> &'static [MetadataColumn] {
        METADATA
    }

    fn can_select_partitions(&self) -> bool {
        true
    }

    fn sink_metadata_columns(&self) -> &'static [MetadataColumn] {
        SINK_METADATA
    }

    fn check_connection(&self, options: &Options) -> Result<()> {
        let written = self.read(options, None)?;
        written.format.check_options()
    }

    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        let written = self.read(options, Some(role))?;
        written.format.check_role(role)?;
        match role {
            Role::Source => {
                written.format.check(table)?;
                let settings = written.source()?;
                let of_key = |column: &&Column| column.metadata.as_deref() == Some("key");
                let key = table.columns.iter().filter(of_key).map(|column| &column.data_type);
                settings.encoding.check(&settings.format, table, key)?;
                settings.decoder(&table.whole(), &settings.formats(Patience::Statement)?).map(drop)
            }
            Role::Sink => {
                let settings = written.sink()?;
                // One that takes the columns of its query is checked when that is known.
                if !table.columns.is_empty() {
                    let fields = Fields::new(&settings, table)?;
                    if fields.template.is_none() {
                        laminar_formats::encoder_with(
                            &settings.format,
                            &fields.value,
                            &settings.formats(Patience::Statement)?,
                        )?;
                    }
                }
                self.delivery(&settings, None).map(drop)
            }
        }
    }

    async fn check_outside(&self, role: Role, options: &Options) -> Result<()> {
        let written = self.read(options, Some(role))?;
        match role {
            Role::Source => test_connection::check_source(&written.source()?).await,
            Role::Sink => {
                let settings = written.sink()?;
                let delivery = self.delivery(&settings, None)?;
                test_connection::check_sink(&settings, delivery).await
            }
        }
    }

    async fn outside_columns(&self, options: &Options) -> Result<Option<Vec<Column>>> {
        let settings = self.read(options, Some(Role::Source))?.source()?;
        let formats = settings.formats(Patience::Statement)?;
        client::blocking(move || laminar_formats::schema_columns(&settings.format, &formats)).await
    }

    async fn test(&self, options: &Options) -> Vec<TestStage> {
        test_connection::test(self.read(options, None)).await
    }

    fn cluster(&self, options: &Options) -> Result<Option<SharedClusterAdmin>> {
        Ok(Some(Arc::new(KafkaClusterAdmin::new(self.read(options, None)?.cluster()?))))
    }

    fn source(&self, options: &Options, table: &TableSpec, ctx: &SourceContext) -> Result<Arc<dyn Source>> {
        let settings = self.read(options, Some(Role::Source))?.source()?;
        let is_dev = self.is_dev(&settings.cluster);
        let source = KafkaSource::new(settings, table, ctx)?;
        Ok(Arc::new(if is_dev { source.without_topic_ids() } else { source }))
    }

    fn sink(&self, options: &Options, table: &TableSpec, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        let settings = self.read(options, Some(Role::Sink))?.sink()?;
        let delivery = self.delivery(&settings, ctx.delivery)?;
        let spool_dir = self.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
        Ok(Arc::new(KafkaSink::new(settings, table, delivery, ctx, &self.transactions, spool_dir)?))
    }

    fn check_dead_letters(&self, of: &DeadLettersOf<'_>) -> Result<()> {
        let settings = self.read(of.options, Some(Role::Source))?.source()?;
        dead_letters::check(&settings, of.destination)
    }

    fn dead_letters(&self, of: &DeadLettersOf<'_>, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        let settings = self.read(of.options, Some(Role::Source))?.source()?;
        let delivery = self.delivery_into(&settings.cluster, ctx.delivery)?;
        Ok(Arc::new(DeadLetterSink::new(settings, of.destination, delivery, ctx, &self.transactions)?))
    }

    fn replay(&self, of: &DeadLettersOf<'_>, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        let settings = self.read(of.options, Some(Role::Source))?.source()?;
        let delivery = self.delivery_into(&settings.cluster, ctx.delivery)?;
        Ok(Arc::new(DeadLetterSink::putting_back(settings, delivery, ctx, &self.transactions)?))
    }

    fn dead_letter_source(&self, of: &DeadLettersOf<'_>, ctx: &SourceContext) -> Result<Option<Arc<dyn Source>>> {
        let settings = self.read(of.options, Some(Role::Source))?.source()?;
        let settings = dead_letters::as_source(settings, of.destination);
        Ok(Some(Arc::new(KafkaSource::new(settings, of.table, ctx)?)))
    }
}

/// One schema with the properties of all, with Kafka's names for them; further properties are librdkafka's.
fn merge<const N: usize>(title: &str, groups: [Value; N]) -> Value {
    let mut properties = serde_json::Map::new();
    let mut required = Vec::new();
    let mut definitions = serde_json::Map::new();
    for group in groups {
        let take = |key: &str| group.get(key).cloned();
        if let Some(Value::Object(object)) = take("properties") {
            properties.extend(object);
        }
        if let Some(Value::Array(names)) = take("required") {
            required.extend(names);
        }
        if let Some(Value::Object(object)) = take("$defs") {
            definitions.extend(object);
        }
    }
    for (name, property) in &mut properties {
        let aliases = client::properties::aliases(name);
        if let (Some(property), false) = (property.as_object_mut(), aliases.is_empty()) {
            property.insert(ALIASES.to_string(), aliases.into());
        }
    }
    json!({
        "type": "object",
        "description": title,
        "properties": properties,
        "required": required,
        "$defs": definitions,
        "additionalProperties": {
            "type": "string",
            "description": "Any other name is a property of librdkafka, such as fetch.min.bytes; Java's names are translated.",
        },
    })
}

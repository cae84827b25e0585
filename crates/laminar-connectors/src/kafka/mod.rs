//! Kafka, as a source and as a sink, through librdkafka; and an in-process broker for trying things out.
//!
//! The contract, in both directions:
//!
//! ```text
//!  source   split = topic/partition     position = the next offset      group offsets follow the checkpoints
//!  sink     one transaction an epoch    marker inside it                the transaction is the commit record
//! ```
//!
//! - A reader reads `read_committed`, starts at concrete offsets, and stops with `data_loss` when the broker no longer has
//!   the next one. It never jumps.
//! - An exactly-once sink writes into the pipeline's one open transaction. What died when is decided by the broker; after
//!   `init_transactions` the last marker says which epoch is visible. See `transaction`.
//! - A broker that is away is waited for; refused logins, missing topics and lost records are errors.
//! - Options are checked without I/O when a statement is read, and against the cluster at CREATE TABLE.
//!
//! Reading order: `options` and `properties` (what a user may write), `client` (what all clients share), `source` and
//! `reader`, `sink`, `dead_letters`, `producer`, `transaction` and `marker`, `native` (the only unsafe code), `admin`, `test_connection`,
//! `dev_broker`.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use laminar_core::connector::{Connector, DeadLettersOf, MetadataColumn, Role, SinkContext, SourceContext, TestStage};
use laminar_core::options::{ALIASES, names};
use laminar_core::sink::{Delivery, Sink};
use laminar_core::source::Source;
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Code, Error, Options, Result};
use laminar_formats::FormatOptions;
use schemars::schema_for;
use serde_json::{Value, json};

use crate::batch::BatchOptions;
use dead_letters::DeadLetterSink;
use options::{ClientOptions, SinkOptions, SourceOptions, Written};
use sink::KafkaSink;
use source::KafkaSource;
use transaction::Transactions;

mod admin;
mod client;
mod dead_letters;
mod dev_broker;
mod error;
mod key;
mod marker;
mod native;
mod options;
mod producer;
mod properties;
mod property_names;
mod reader;
mod sink;
mod source;
mod test_connection;
mod transaction;

pub use dev_broker::DevBroker;
pub use properties::{Allowed, ClientProperty};

/// The properties of librdkafka that may be given besides the connector's own options, and those that may not.
pub fn client_properties() -> Vec<ClientProperty> {
    properties::client_properties(&names::<ClientOptions>())
}

/// The topic of markers in every cluster that an exactly-once sink writes to.
pub const PROGRESS_TOPIC: &str = marker::TOPIC;

/// The connector `kafka`. One instance serves a whole process: it is where the sinks of a pipeline find the transaction
/// that they share.
#[derive(Default)]
pub struct KafkaConnector {
    files_dir: Option<PathBuf>,
    /// Name of the cluster that is a [`DevBroker`].
    dev_cluster: Option<String>,
    transactions: Arc<Transactions>,
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

    /// Says that the broker at `bootstrap` is a [`DevBroker`], whose transactions isolate nothing: sinks there are
    /// at-least-once, and `exactly_once` is refused.
    #[must_use]
    pub fn with_dev_broker(mut self, bootstrap: &str) -> Self {
        let servers = client::Cluster::servers(bootstrap).unwrap_or_default();
        self.dev_cluster =
            Some(client::Cluster::new(servers, options::Protocol::Plaintext, Vec::new()).name().to_string());
        self
    }

    fn read(&self, options: &Options, role: Option<Role>) -> Result<Written> {
        Written::read(options, role, self.files_dir.as_deref())
    }

    /// What a sink into the cluster guarantees: what the pipeline asks for, else the table, else the best there is.
    fn delivery(&self, settings: &options::SinkSettings, asked: Option<Delivery>) -> Result<Delivery> {
        self.delivery_into(&settings.cluster, asked.or(settings.delivery))
    }

    /// The same for what is asked for, if anything is.
    fn delivery_into(&self, cluster: &client::Cluster, asked: Option<Delivery>) -> Result<Delivery> {
        let is_dev = self.dev_cluster.as_deref() == Some(cluster.name());
        match (asked, is_dev) {
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
            schema_for!(SourceOptions).to_value(),
            schema_for!(FormatOptions).to_value(),
            schema_for!(BatchOptions).to_value(),
        ];
        Some(merge("Options of a Kafka source.", groups))
    }

    fn sink_schema(&self) -> Option<Value> {
        let groups = [
            schema_for!(ClientOptions).to_value(),
            schema_for!(SinkOptions).to_value(),
            schema_for!(FormatOptions).to_value(),
        ];
        Some(merge("Options of a Kafka sink.", groups))
    }
    fn sink_delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn metadata_columns(&self) -> &'static [MetadataColumn] {
        METADATA
    }

    fn check_connection(&self, options: &Options) -> Result<()> {
        let written = self.read(options, None)?;
        // Is it a format that works? One text column suits every one.
        let value = Column {
            name: "value".into(),
            data_type: arrow::datatypes::DataType::Utf8,
            nullable: true,
            json: false,
            metadata: None,
        };
        let any = TableSpec {
            name: String::new(),
            columns: vec![value],
            projection: vec![0],
            event_time: None,
            primary_key: Vec::new(),
        };
        written.format.check(&any)
    }

    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        let written = self.read(options, Some(role))?;
        written.format.check_role(role)?;
        written.format.check(table)?;
        match role {
            Role::Source => written.source().map(drop),
            Role::Sink => {
                let metadata = table.columns.iter().find(|column| column.metadata.is_some());
                if let Some(column) = metadata {
                    let what =
                        format!("column {} of sink table {} is metadata of what is read", column.name, table.name);
                    return Err(
                        Error::new(Code::NotSupported, what).with_hint("remove it; key_field sets the record's key")
                    );
                }
                let settings = written.sink()?;
                key::KeyColumns::of(settings.key_field.as_deref(), table)?;
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

    async fn test(&self, options: &Options) -> Vec<TestStage> {
        test_connection::test(self.read(options, None)).await
    }

    fn source(&self, options: &Options, table: &TableSpec, ctx: &SourceContext) -> Result<Arc<dyn Source>> {
        let settings = self.read(options, Some(Role::Source))?.source()?;
        Ok(Arc::new(KafkaSource::new(settings, table, ctx)))
    }

    fn sink(&self, options: &Options, table: &TableSpec, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        let settings = self.read(options, Some(Role::Sink))?.sink()?;
        let delivery = self.delivery(&settings, ctx.delivery)?;
        Ok(Arc::new(KafkaSink::new(settings, table, delivery, ctx, &self.transactions)?))
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
        Ok(Some(Arc::new(KafkaSource::new(settings, of.table, ctx))))
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
        let aliases = properties::aliases(name);
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

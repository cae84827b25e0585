//! Tables in this process's memory: written by a pipeline, read by others and by tests.
//!
//! They live as long as the process, so they survive a job's restart, not the server's.

mod dead_letters;
mod log;
mod sink;
mod source;

use std::sync::Arc;

use async_trait::async_trait;
use laminar_core::connector::{Connector, DeadLettersOf, MetadataColumn, Role, SinkContext, SourceContext, TestStage};
use laminar_core::sink::{Delivery, Sink};
use laminar_core::source::Source;
use laminar_core::table::TableSpec;
use laminar_core::{Code, Error, Options, Result};
use laminar_formats::FormatOptions;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

use crate::batch::BatchOptions;
use crate::declared::{Declared, schema};
use crate::staged::{Stages, delivery};
pub use log::MemoryLogs;

const SUBJECT: &str = "connector memory";
const MAX_PARTITIONS: u32 = 1024;

const METADATA: &[MetadataColumn] = &[
    MetadataColumn { key: "topic", column: "_log", sql_type: "TEXT", description: "The log's name." },
    MetadataColumn { key: "partition", column: "_partition", sql_type: "INT", description: "The record's partition." },
    MetadataColumn {
        key: "offset",
        column: "_offset",
        sql_type: "BIGINT",
        description: "The record's place in the log.",
    },
    MetadataColumn {
        key: "timestamp",
        column: "_timestamp",
        sql_type: "TIMESTAMP",
        description: "When the record was read.",
    },
];

/// Options of `memory`, for reading and writing alike.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct MemoryOptions {
    /// Name of the log; tables with the same one share its records. Default: the table's name.
    #[serde(default)]
    name: Option<String>,
    /// Into how many splits readers divide the log, record by record in turn.
    #[serde(default = "one")]
    partitions: u32,
    /// Of a source: each record is the row of its primary key from then on, in place of the one before.
    #[serde(default)]
    upsert: bool,
}

fn one() -> u32 {
    1
}

fn read(options: &Options) -> Result<(MemoryOptions, FormatOptions)> {
    let declared =
        Declared::new(SUBJECT, options).with::<MemoryOptions>().with::<FormatOptions>().with::<BatchOptions>();
    declared.check()?;
    BatchOptions::of(options)?;
    let own: MemoryOptions = declared.read()?;
    if !(1..=MAX_PARTITIONS).contains(&own.partitions) {
        let message = format!("option partitions of {SUBJECT} cannot be '{}'", own.partitions);
        return Err(Error::new(Code::InvalidOption, message)
            .with_detail(format!("expected 1 to {MAX_PARTITIONS}"))
            .with_field("partitions"));
    }
    Ok((own, declared.read()?))
}

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryConnector {
    logs: MemoryLogs,
}

impl MemoryConnector {
    pub fn new(logs: MemoryLogs) -> Self {
        Self { logs }
    }
}

#[async_trait]
impl Connector for MemoryConnector {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn description(&self) -> &'static str {
        "Keeps records in the server's memory until it stops."
    }
    fn source_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(MemoryOptions), schema_for!(FormatOptions), schema_for!(BatchOptions)]))
    }
    fn sink_schema(&self) -> Option<serde_json::Value> {
        self.source_schema()
    }
    fn sink_delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }
    fn metadata_columns(&self) -> &'static [MetadataColumn] {
        METADATA
    }
    fn check_connection(&self, options: &Options) -> Result<()> {
        read(options).map(|_| ())
    }

    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        let (own, format) = read(options)?;
        format.check_role(role)?;
        format.check(table)?;
        if !own.upsert {
            return Ok(());
        }
        let conflict = |what: &str, hint: &str| {
            Err(Error::new(Code::ConflictingOptions, what).with_hint(hint).with_field("upsert"))
        };
        if role == Role::Sink {
            return conflict(
                "option upsert of connector memory is for sources only",
                "a sink writes every row: leave it out",
            );
        }
        if own.partitions > 1 {
            return conflict(
                "upsert and partitions are both given",
                "records of one key are read in order in one partition only",
            );
        }
        source::decoder(&format, &table.whole(), true).map(drop)
    }

    async fn test(&self, options: &Options) -> Vec<TestStage> {
        let mut stages = Stages::default();
        stages.add("options", self.check_connection(options), "the options are understood");
        stages.done()
    }

    fn source(&self, options: &Options, table: &TableSpec, ctx: &SourceContext) -> Result<Arc<dyn Source>> {
        self.check_table(Role::Source, options, table)?;
        let (own, format) = read(options)?;
        let log = self.logs.log(own.name.as_deref().unwrap_or(&table.name));
        let (table, clock) = (table.clone(), ctx.clock.clone());
        Ok(Arc::new(source::LogSource { log, partitions: own.partitions, format, upsert: own.upsert, table, clock }))
    }

    fn sink(&self, options: &Options, table: &TableSpec, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        self.check_table(Role::Sink, options, table)?;
        let (own, format) = read(options)?;
        let log = self.logs.log(own.name.as_deref().unwrap_or(&table.name));
        Ok(Arc::new(sink::LogSink::new(log, ctx.pipeline.clone(), format, table.clone(), delivery(ctx))))
    }

    fn check_dead_letters(&self, of: &DeadLettersOf<'_>) -> Result<()> {
        let (own, _) = read(of.options)?;
        if of.destination != Some(own.name.as_deref().unwrap_or(&of.table.name)) {
            return Ok(());
        }
        Err(Error::new(Code::ConflictingOptions, "the log is read, and its dead letters would go there again")
            .with_hint("name another log in dlq_topic")
            .with_field("dlq_topic"))
    }

    /// The log that is named, else the source's name and `-dlq`.
    fn dead_letters(&self, of: &DeadLettersOf<'_>, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        self.check_dead_letters(of)?;
        let (own, _) = read(of.options)?;
        let beside = format!("{}-dlq", own.name.as_deref().unwrap_or(&of.table.name));
        let log = self.logs.log(of.destination.unwrap_or(&beside));
        let (table, format) = (dead_letters::table(log.name()), FormatOptions::default());
        let sink = sink::LogSink::new(log, ctx.pipeline.clone(), format, table, delivery(ctx));
        Ok(Arc::new(dead_letters::DeadLetterSink(Arc::new(sink))))
    }
}

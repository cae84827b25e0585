//! Options that belong to us, not to a connector: of tables (and connections, for their tables), and of pipelines.
//!
//! Each is declared once here; reference pages and the console's form come from the same structs.

use std::time::Duration;

use laminar_core::connector::Role;
use laminar_core::options::HumanDuration;
use laminar_core::sink::Delivery;
use laminar_core::{Code, Error, Options, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Behind `event_time_field` alone, and behind the time of a record.
const DEFAULT_WATERMARK_DELAY: Duration = Duration::from_secs(1);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of a table, whatever its connector.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct TableSettings {
    /// Name of a connection or, if there is none, of a connector.
    pub connector: Option<String>,
    /// Name of a connection; its options apply where the table gives none.
    pub connection: Option<String>,
    /// `source` to read, `sink` to write.
    #[serde(rename = "type")]
    pub table_type: Option<TableType>,
    /// Fills columns with the connector's metadata names (such as `_kafka_offset`) from the record's metadata.
    #[serde(default)]
    pub include_metadata: bool,
    /// The TIMESTAMP column that says when a row happened. Default: the record's own timestamp.
    pub event_time_field: Option<String>,
    /// How far the watermark stays behind the latest event time. Default 1s.
    pub watermark_delay: Option<HumanDuration>,
    /// A partition that is caught up and silent for this long does not hold the others back. Default 30s.
    pub idle_timeout: Option<HumanDuration>,
    /// What happens to a record that cannot be decoded: `fail` stops the pipeline, `skip` counts it and goes on.
    #[serde(default)]
    pub bad_data: BadData,
    /// With `bad_data = 'skip'`: more bad records than this in one batch stop the pipeline.
    pub max_errors_per_batch: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableType {
    Source,
    Sink,
}

impl From<TableType> for Role {
    fn from(table_type: TableType) -> Self {
        match table_type {
            TableType::Source => Self::Source,
            TableType::Sink => Self::Sink,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BadData {
    #[default]
    Fail,
    #[serde(alias = "drop")]
    Skip,
}

impl TableSettings {
    /// Our options of the list, and those that are the connector's.
    pub fn split(options: &Options, subject: &str) -> Result<(Self, Options)> {
        refuse_later(options)?;
        let (ours, theirs) = options.split_known::<Self>();
        let settings: Self = ours.parse(subject)?;
        if settings.max_errors_per_batch.is_some() && settings.bad_data == BadData::Fail {
            let entry = ours.entry("max_errors_per_batch");
            return Err(Error::new(Code::ConflictingOptions, "max_errors_per_batch needs bad_data = 'skip'")
                .with_field("max_errors_per_batch")
                .at(entry.and_then(|e| e.location)));
        }
        Ok((settings, theirs))
    }

    pub fn watermark_delay(&self) -> Duration {
        self.watermark_delay.map_or(DEFAULT_WATERMARK_DELAY, |d| d.0)
    }

    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout.map_or(DEFAULT_IDLE_TIMEOUT, |d| d.0)
    }
}

/// Options that the dialect has and this version does not run.
fn refuse_later(options: &Options) -> Result<()> {
    for entry in options.iter() {
        let hint = match (entry.key.as_str(), entry.value.to_ascii_lowercase().as_str()) {
            ("bad_data", "dlq") => {
                "use bad_data = 'skip' to count and leave out bad records, or 'fail' to stop at the first"
            }
            ("dlq_topic", _) => "leave it out, and use bad_data = 'skip' or 'fail'",
            ("late_data" | "allowed_lateness", _) => "no statement of this version drops late rows: leave it out",
            _ => continue,
        };
        let what = match entry.key.as_str() {
            "bad_data" => "bad_data = 'dlq' (dead letters) is".to_string(),
            "dlq_topic" => "dlq_topic (dead letters) is".to_string(),
            key => format!("option {key} is"),
        };
        return Err(Error::new(Code::NotSupported, format!("{what} not supported in this version"))
            .with_hint(hint)
            .with_field(&entry.key)
            .at(entry.location));
    }
    Ok(())
}

/// Options of `CREATE PIPELINE … WITH (…)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineOptions {
    /// Parallel instances of each operator. Default: the server's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// Time between two checkpoints. Default: the server's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<HumanDuration>,
    /// What sinks guarantee: `exactly_once` or `at_least_once`. Default: the best that the sink can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// After a failure: `restart`, or `stop`. Default `restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Restarts in a row before the pipeline stays failed. Default: the server's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// Rows that a pipeline without a sink keeps. Default 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_rows: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    #[default]
    Restart,
    Stop,
}

/// Most parallel instances of a pipeline.
const MAX_PARALLELISM: u32 = 1024;

impl PipelineOptions {
    /// Errors: as of [`Options::parse`], and `invalid_option` for values out of range.
    pub fn parse(options: &Options, pipeline: &str) -> Result<Self> {
        let parsed: Self = options.parse(&format!("pipeline {pipeline}"))?;
        let invalid = |key: &str, expected: &str| {
            let entry = options.entry(key);
            let value = entry.map_or("", |e| e.value.as_str());
            Err(Error::new(Code::InvalidOption, format!("option {key} of pipeline {pipeline} cannot be '{value}'"))
                .with_detail(format!("expected {expected}"))
                .with_field(key)
                .at(entry.and_then(|e| e.location)))
        };
        if parsed.parallelism.is_some_and(|n| n == 0 || n > MAX_PARALLELISM) {
            return invalid("parallelism", &format!("an integer from 1 to {MAX_PARALLELISM}"));
        }
        if parsed.checkpoint_interval.is_some_and(|d| d.0 < Duration::from_millis(10)) {
            return invalid("checkpoint_interval", "at least 10ms");
        }
        if parsed.retain_rows == Some(0) {
            return invalid("retain_rows", "at least 1");
        }
        Ok(parsed)
    }
}

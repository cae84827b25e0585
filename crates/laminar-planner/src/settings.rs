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
const DEFAULT_UPDATING_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Options of a table, whatever its connector.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct TableSettings {
    /// Name of a connection or, if there is none of that name, of a connector. Needed, unless `connection` is given.
    pub connector: Option<String>,
    /// Name of a connection. Its options count where the table gives none.
    pub connection: Option<String>,
    /// What the table is for. Default: what its connector, columns and options allow, both if they do.
    #[serde(rename = "type")]
    pub table_type: Option<TableType>,
    /// `true` fills columns that have the name of one of the connector's metadata columns, such as `_kafka_offset`, from the
    /// record's metadata. For a source.
    #[serde(default)]
    pub include_metadata: bool,
    /// The TIMESTAMP column that says when a row happened; `WATERMARK FOR` in the column list says the same. For a source.
    /// Default: the record's own timestamp.
    pub event_time_field: Option<String>,
    /// How far the watermark stays behind the latest event time: rows may be that much out of order. For a source.
    #[schemars(extend("default" = HumanDuration(DEFAULT_WATERMARK_DELAY)))]
    pub watermark_delay: Option<HumanDuration>,
    /// A partition that is caught up and silent for this long does not hold the watermark of the others back. For a source.
    #[schemars(extend("default" = HumanDuration(DEFAULT_IDLE_TIMEOUT)))]
    pub idle_timeout: Option<HumanDuration>,
    /// In a backfill: a partition that is further ahead of the slowest one in event time is not read until that has come
    /// closer, so that open windows and joins do not pile up. Partitions without anything to read do not count. Only
    /// where the connector can pause partitions. For a source. Default: all are read as fast as they can be.
    pub max_watermark_drift: Option<HumanDuration>,
    /// How much later than that a row may still come: windows stay open for it. For a source. Default: 0s.
    pub allowed_lateness: Option<HumanDuration>,
    /// What happens to a row that is later, where rows are put into windows or matched by time. For a source.
    #[serde(default)]
    pub late_data: LateData,
    /// What happens to a record that cannot be decoded, or for which an expression of the query cannot be computed before its rows
    /// are grouped, joined or sorted: a cast, a division by zero. For a source.
    #[serde(default)]
    pub bad_data: BadData,
    /// Where dead letters go, with `bad_data = 'dlq'` or `late_data = 'dlq'`: a topic, which is created if it is missing. For a
    /// source. Default: for each topic that is read, the one with its name and `-dlq`.
    pub dlq_topic: Option<String>,
    /// With `bad_data = 'skip'` or `'dlq'`: more bad records than this in one batch stop the pipeline. Default: no limit.
    pub max_errors_per_batch: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableType {
    /// Pipelines read it.
    Source,
    /// Pipelines write it.
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LateData {
    /// The row is counted and left out.
    #[default]
    Drop,
    /// The same, and its record is written to the dead letters, as with `bad_data`.
    Dlq,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BadData {
    /// The pipeline stops, and says which record it was.
    #[default]
    Fail,
    /// The record is counted and left out; `drop` means the same.
    #[serde(alias = "drop")]
    Skip,
    /// The record is counted and written to the dead letters: key, value and headers as they came, and headers
    /// `__laminar.errors.…` that say where it stood and what is wrong with it.
    Dlq,
}

impl TableSettings {
    /// Our options of the list, and those that are the connector's.
    pub fn split(options: &Options, subject: &str) -> Result<(Self, Options)> {
        let (ours, theirs) = options.split_known::<Self>();
        let settings: Self = ours.parse(subject)?;
        if settings.max_watermark_drift.is_some_and(|d| d.0.is_zero()) {
            let entry = ours.entry("max_watermark_drift");
            return Err(Error::new(Code::InvalidOption, "max_watermark_drift cannot be 0")
                .with_detail("expected a duration above 0")
                .with_field("max_watermark_drift")
                .at(entry.and_then(|e| e.location)));
        }
        let needs = |key: &str, what: &str| {
            let place = ours.entry(key).and_then(|e| e.location);
            Error::new(Code::ConflictingOptions, format!("{key} needs {what}")).with_field(key).at(place)
        };
        if settings.max_errors_per_batch.is_some() && settings.bad_data == BadData::Fail {
            return Err(needs("max_errors_per_batch", "bad_data = 'skip' or 'dlq'")
                .with_hint("bad_data = 'fail', the default, stops at the first"));
        }
        if settings.dlq_topic.is_some() && !settings.keeps_dead_letters() {
            return Err(needs("dlq_topic", "bad_data = 'dlq' or late_data = 'dlq'"));
        }
        Ok((settings, theirs))
    }

    pub fn keeps_dead_letters(&self) -> bool {
        self.bad_data == BadData::Dlq || self.late_data == LateData::Dlq
    }

    pub fn watermark_delay(&self) -> Duration {
        self.watermark_delay.map_or(DEFAULT_WATERMARK_DELAY, |d| d.0)
    }

    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout.map_or(DEFAULT_IDLE_TIMEOUT, |d| d.0)
    }
}

/// Options of `CREATE PIPELINE … WITH (…)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineOptions {
    /// Parallel instances of the pipeline's tasks, 1 to 1024. Default: the server's `--parallelism`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// Time between two checkpoints, at least 10ms. Exactly-once rows become visible with a checkpoint, so this is also how
    /// long they take. Default: the server's `--checkpoint-interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<HumanDuration>,
    /// A checkpoint that takes longer than this has failed: the next one has all of it. Above 0. Default: the server's
    /// `--checkpoint-timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_timeout: Option<HumanDuration>,
    /// Checkpoints that may fail in a row; with one more, the pipeline does, and `on_failure` decides. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerable_failed_checkpoints: Option<u32>,
    /// What the pipeline's sinks guarantee; a sink that cannot do it is refused. Default: what each sink's table says, else
    /// the best that the sink can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// What happens after a failure that may pass, such as a broker that is away. Default: `restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Restarts within ten minutes before the pipeline stays failed. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// Rows that a pipeline without a sink keeps of its result: the latest. Default: 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_rows: Option<usize>,
    /// How long rows, groups and join partners that may still change are kept, in event time after the last row of their
    /// key: a later row finds none of them. Not for windows, which end by themselves. Default: 1 day; for what comes of tables
    /// that change, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updating_ttl: Option<HumanDuration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Starts again from the last checkpoint, after a wait that grows with each failure.
    #[default]
    Restart,
    /// Stays failed until somebody starts it.
    Stop,
}

const DEFAULT_TOLERABLE_FAILED_CHECKPOINTS: u32 = 3;

/// Most parallel instances of a pipeline.
const MAX_PARALLELISM: u32 = 1024;

impl PipelineOptions {
    pub fn updating_ttl(&self) -> Duration {
        self.updating_ttl.map_or(DEFAULT_UPDATING_TTL, |d| d.0)
    }

    pub fn tolerable_failed_checkpoints(&self) -> u32 {
        self.tolerable_failed_checkpoints.unwrap_or(DEFAULT_TOLERABLE_FAILED_CHECKPOINTS)
    }

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
        if parsed.checkpoint_timeout.is_some_and(|d| d.0.is_zero()) {
            return invalid("checkpoint_timeout", "a duration above 0");
        }
        if parsed.retain_rows == Some(0) {
            return invalid("retain_rows", "at least 1");
        }
        Ok(parsed)
    }
}

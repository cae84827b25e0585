//! A source of counted rows, for trying things out: which shard made the row, and how many it made before.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use laminar_core::connector::{Connector, Role, SinkContext, SourceContext, TestStage};
use laminar_core::options::{HumanDuration, nearest};
use laminar_core::sink::Sink;
use laminar_core::source::Source;
use laminar_core::table::{TableSpec, timestamp_type};
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, Options, Result};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

use crate::batch::BatchOptions;
use crate::declared::{Declared, schema};
use crate::generator::{Generator, Plan, Rows, start_micros};
use crate::staged::{Stages, no_sink};

const SUBJECT: &str = "connector impulse";
const COLUMNS: [&str; 3] = ["counter", "subtask_index", "timestamp"];

/// Options of `impulse`. The table's columns are any of `counter` and `subtask_index`, BIGINT UNSIGNED or another integer
/// type, and `timestamp`, TIMESTAMP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct ImpulseOptions {
    /// Rows a second, over all shards. Default: as fast as the pipeline takes them.
    #[serde(default)]
    event_rate: Option<f64>,
    /// How many rows there are, over all shards; then the source ends. Default: without end.
    #[serde(default)]
    message_count: Option<u64>,
    /// Time of the first row, RFC 3339. Default: `1970-01-01T00:00:00Z` if `event_time_interval` is given; without both, a
    /// row's time is the clock's when it is made, and a row that is made again after a crash gets a new one.
    #[serde(default)]
    start_time: Option<String>,
    /// Time from one row to the next, where `start_time` or this is given. Default: what `event_rate` says, or 1 ms without
    /// one.
    #[serde(default)]
    event_time_interval: Option<HumanDuration>,
    /// Number of splits, each with a counter of its own from 0.
    #[serde(default = "one")]
    shards: u32,
}

fn one() -> u32 {
    1
}

/// When row number i of the whole source happens.
#[derive(Clone, Debug)]
enum Times {
    Clock(SharedClock),
    Even { start: i64, interval: i64 },
}

impl ImpulseOptions {
    fn read(options: &Options) -> Result<Self> {
        let declared = Declared::new(SUBJECT, options).with::<Self>().with::<BatchOptions>();
        declared.check()?;
        BatchOptions::of(options)?;
        let own: Self = declared.read()?;
        own.plan()?;
        own.start()?;
        Ok(own)
    }

    fn plan(&self) -> Result<Plan> {
        Plan::new(SUBJECT, self.shards, self.message_count, self.event_rate, "event_rate")
    }

    fn start(&self) -> Result<Option<i64>> {
        self.start_time.as_deref().map(|text| start_micros(SUBJECT, text)).transpose()
    }

    fn times(&self, clock: &SharedClock) -> Result<Times> {
        let start = self.start()?;
        if start.is_none() && self.event_time_interval.is_none() {
            return Ok(Times::Clock(clock.clone()));
        }
        let by_rate = || self.event_rate.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        let interval = self.event_time_interval.map(|i| i.0).or_else(by_rate).unwrap_or(Duration::from_millis(1));
        let interval = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
        Ok(Times::Even { start: start.unwrap_or(0), interval })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct ImpulseConnector;

#[async_trait]
impl Connector for ImpulseConnector {
    fn name(&self) -> &'static str {
        "impulse"
    }
    fn description(&self) -> &'static str {
        "Makes counted rows at a steady rate, for trying things out."
    }
    fn source_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(ImpulseOptions), schema_for!(BatchOptions)]))
    }
    fn sink_schema(&self) -> Option<serde_json::Value> {
        None
    }
    fn check_connection(&self, options: &Options) -> Result<()> {
        ImpulseOptions::read(options).map(|_| ())
    }

    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        if role == Role::Sink {
            return Err(no_sink("impulse"));
        }
        ImpulseOptions::read(options)?;
        table.columns.iter().try_for_each(|column| {
            let fits = match column.name.as_str() {
                "timestamp" => column.data_type == timestamp_type(),
                name if COLUMNS.contains(&name) => column.data_type.is_integer(),
                name => {
                    let error =
                        Error::new(Code::UnknownColumn, format!("{SUBJECT} has no column {name}")).with_field(name);
                    return Err(match nearest(name, COLUMNS) {
                        Some(near) => error.with_hint(format!("did you mean {near}?")),
                        None => error.with_hint(format!("columns: {}", COLUMNS.join(", "))),
                    });
                }
            };
            if fits {
                return Ok(());
            }
            let wanted =
                if column.name == "timestamp" { "TIMESTAMP" } else { "BIGINT UNSIGNED or another integer type" };
            Err(Error::new(Code::TypeMismatch, format!("column {} of {SUBJECT} must be {wanted}", column.name))
                .with_field(&column.name))
        })
    }

    async fn test(&self, options: &Options) -> Vec<TestStage> {
        let mut stages = Stages::default();
        stages.add("options", self.check_connection(options), "the options are understood");
        stages.done()
    }

    fn source(&self, options: &Options, table: &TableSpec, ctx: &SourceContext) -> Result<Arc<dyn Source>> {
        self.check_table(Role::Source, options, table)?;
        let own = ImpulseOptions::read(options)?;
        let plan = own.plan()?;
        let names = table.projection.iter().filter_map(|i| table.columns.get(*i)).map(|c| c.name.clone()).collect();
        let times = own.times(&ctx.clock)?;
        let rows = Impulses { names, schema: table.projected_schema(), times, shards: u64::from(plan.shards) };
        Ok(Arc::new(Generator::new(plan, Arc::new(rows))))
    }

    fn sink(&self, _: &Options, _: &TableSpec, _: &SinkContext) -> Result<Arc<dyn Sink>> {
        Err(no_sink("impulse"))
    }
}

struct Impulses {
    names: Vec<String>,
    schema: SchemaRef,
    times: Times,
    shards: u64,
}

impl Rows for Impulses {
    fn make(&self, shard: u32, indices: Range<u64>) -> Result<(RecordBatch, TimestampMicrosecondArray)> {
        let count = indices.clone().count();
        let times: TimestampMicrosecondArray = match &self.times {
            Times::Clock(clock) => TimestampMicrosecondArray::from_value(clock.now_micros(), count),
            Times::Even { start, interval } => {
                let number = |j: u64| j.saturating_mul(self.shards).saturating_add(u64::from(shard));
                let after = |j| i64::try_from(number(j)).unwrap_or(i64::MAX).saturating_mul(*interval);
                TimestampMicrosecondArray::from_iter_values(indices.clone().map(|j| start.saturating_add(after(j))))
            }
        };
        let column = |(name, data_type): (&str, &DataType)| -> Result<ArrayRef> {
            let numbers = match name {
                "counter" => UInt64Array::from_iter_values(indices.clone()),
                "subtask_index" => UInt64Array::from_value(u64::from(shard), count),
                _ => return Ok(Arc::new(times.clone())),
            };
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            Ok(cast_with_options(&numbers, data_type, &strict)?)
        };
        let types = self.schema.fields().iter().map(|f| f.data_type());
        let columns = self.names.iter().map(String::as_str).zip(types).map(column).collect::<Result<_>>()?;
        let size = RecordBatchOptions::new().with_row_count(Some(count));
        Ok((RecordBatch::try_new_with_options(self.schema.clone(), columns, &size)?, times))
    }
}

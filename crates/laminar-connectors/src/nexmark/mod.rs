//! The event stream of the Nexmark benchmark: an auction site's persons, auctions and bids.
//!
//! ```sql
//! CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP, WATERMARK FOR date_time)
//!   WITH (connector = 'nexmark', event = 'bid', event_rate = 1000000, message_count = 10000000);
//! ```
//!
//! The rule: an event is a function of the seed and its number alone, whoever asks for it, so tables with the same options
//! show the same stream, and a position resumes exactly. With `event` a row is an event of that kind, else any event.
//!
//! The benchmark: Tucker and others, "NEXMark – A Benchmark for Queries over Data Streams" (2002), with the distributions
//! that Apache Beam gave it. Reading order: `events` (order, ids, times), `fields` (every value), `columns` (a table's columns).

mod columns;
mod events;
mod fields;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use laminar_core::connector::{Connector, Role, SinkContext, SourceContext, TestStage};
use laminar_core::sink::Sink;
use laminar_core::source::Source;
use laminar_core::table::TableSpec;
use laminar_core::{Code, Error, Options, Result};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

use crate::batch::BatchOptions;
use crate::declared::{Declared, schema};
use crate::generator::{Generator, Plan, Rows, start_micros};
use crate::staged::{Stages, no_sink};
use columns::{ColumnMaker, makers, times};
use events::{Events, Kind};

const SUBJECT: &str = "connector nexmark";
/// Events a second of event time, unless said otherwise.
const DEFAULT_RATE: f64 = 10_000.0;
/// 2015-07-15T00:00:00Z, the benchmark's own beginning.
const DEFAULT_START_MICROS: i64 = 1_436_918_400_000_000;

/// Options of `nexmark`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct NexmarkOptions {
    /// The only kind of event that the table has; its columns are then any of that kind's. Of every 50 events of the stream 1
    /// is a person, 3 are auctions and 46 bids. A table of all has any of the columns `event_type` INT (0 a person, 1 an auction, 2
    /// a bid), `person`, `auction` and `bid`, each a STRUCT of any of the kind's columns and null where the event is of another kind,
    /// and `date_time` TIMESTAMP. Default: all three.
    #[serde(default)]
    event: Option<Kind>,
    /// Events a second of the whole stream, in event time; without `message_count` they also come at that rate. Default: 10000
    /// in event time, and as fast as the pipeline takes them.
    #[serde(default)]
    event_rate: Option<f64>,
    /// How many events the whole stream has, of all kinds; then the source ends. They come as fast as the pipeline takes
    /// them. Default: without end.
    #[serde(default)]
    message_count: Option<u64>,
    /// Time of the first event, RFC 3339. Default: `2015-07-15T00:00:00Z`.
    #[serde(default)]
    start_time: Option<String>,
    /// Two tables with the same seed, rate and start have the same events.
    #[serde(default)]
    seed: u64,
    /// Number of splits that share the rows: as many tasks can make them side by side.
    #[serde(default = "one")]
    shards: u32,
}

fn one() -> u32 {
    1
}

impl NexmarkOptions {
    fn read(options: &Options) -> Result<Self> {
        let declared = Declared::new(SUBJECT, options).with::<Self>().with::<BatchOptions>();
        declared.check()?;
        BatchOptions::of(options)?;
        let own: Self = declared.read()?;
        own.plan()?;
        own.start()?;
        Ok(own)
    }

    /// How many rows this table has, which are the events of its kind, and how fast they come.
    fn plan(&self) -> Result<Plan> {
        let all = Plan::new(SUBJECT, self.shards, self.message_count, self.event_rate, "event_rate")?;
        let share = self.event.map_or(1.0, Kind::share);
        Ok(Plan {
            rows: all.rows.map(|events| self.event.map_or(events, |kind| kind.among(events))),
            rate: all.rate.filter(|_| all.rows.is_none()).map(|rate| rate * share),
            ..all
        })
    }

    fn start(&self) -> Result<i64> {
        self.start_time.as_deref().map_or(Ok(DEFAULT_START_MICROS), |text| start_micros(SUBJECT, text))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct NexmarkConnector;

#[async_trait]
impl Connector for NexmarkConnector {
    fn name(&self) -> &'static str {
        "nexmark"
    }
    fn description(&self) -> &'static str {
        "Makes the event stream of the Nexmark benchmark: persons, auctions and bids."
    }
    fn source_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(NexmarkOptions), schema_for!(BatchOptions)]))
    }
    fn sink_schema(&self) -> Option<serde_json::Value> {
        None
    }
    fn check_connection(&self, options: &Options) -> Result<()> {
        NexmarkOptions::read(options).map(|_| ())
    }

    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        if role == Role::Sink {
            return Err(no_sink("nexmark"));
        }
        if let Some(column) = table.columns.iter().find(|c| c.metadata.is_some()) {
            let message = format!("{SUBJECT} has no metadata for column {}", column.name);
            return Err(Error::new(Code::NotSupported, message));
        }
        let own = NexmarkOptions::read(options)?;
        makers(own.event, &table.columns).map(|_| ())
    }

    async fn test(&self, options: &Options) -> Vec<TestStage> {
        let mut stages = Stages::default();
        stages.add("options", self.check_connection(options), "the options are understood");
        stages.done()
    }

    fn source(&self, options: &Options, table: &TableSpec, _: &SourceContext) -> Result<Arc<dyn Source>> {
        self.check_table(Role::Source, options, table)?;
        let own = NexmarkOptions::read(options)?;
        let plan = own.plan()?;
        let read: Vec<_> = table.projection.iter().filter_map(|i| table.columns.get(*i)).cloned().collect();
        let rows = NexmarkRows {
            kind: own.event,
            events: Events::new(own.seed, own.start()?, own.event_rate.unwrap_or(DEFAULT_RATE)),
            columns: makers(own.event, &read)?,
            schema: table.projected_schema(),
            time: times(own.event, table.event_time.as_ref()),
            shards: u64::from(plan.shards),
        };
        Ok(Arc::new(Generator::new(plan, Arc::new(rows))))
    }

    fn sink(&self, _: &Options, _: &TableSpec, _: &SinkContext) -> Result<Arc<dyn Sink>> {
        Err(no_sink("nexmark"))
    }
}

struct NexmarkRows {
    kind: Option<Kind>,
    events: Events,
    columns: Vec<ColumnMaker>,
    schema: SchemaRef,
    /// A row's event time, of its event's number.
    time: fn(&Events, u64) -> i64,
    shards: u64,
}

impl Rows for NexmarkRows {
    fn make(&self, shard: u32, indices: Range<u64>) -> Result<(RecordBatch, TimestampMicrosecondArray)> {
        let row = |j: u64| j.saturating_mul(self.shards).saturating_add(u64::from(shard));
        let numbers: Vec<u64> = match self.kind {
            None => indices.map(row).collect(),
            Some(kind) => indices.map(|j| kind.number(row(j))).collect(),
        };
        let columns = self.columns.iter().map(|c| c.make(&self.events, &numbers)).collect::<Result<Vec<_>>>()?;
        let times = numbers.iter().map(|number| (self.time)(&self.events, *number));
        let times = TimestampMicrosecondArray::from_iter_values(times);
        let size = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        Ok((RecordBatch::try_new_with_options(self.schema.clone(), columns, &size)?, times))
    }
}

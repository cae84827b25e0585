//! A source of made-up rows that look real: each column has a rule.
//!
//! ```sql
//! CREATE TABLE orders (id BIGINT, status TEXT, total DOUBLE, at TIMESTAMP) WITH (
//!   connector = 'datagen', rows_per_second = 1000, 'fields.id.kind' = 'sequence', 'fields.id.start' = 1,
//!   'fields.status.kind' = 'choice', 'fields.status.values' = 'new,paid,paid,sent', 'fields.total.max' = 500);
//! ```
//!
//! Row i of a table is a function of the seed and i alone (but for columns of kind `now`), whatever the number of shards.

mod column;
mod options;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use laminar_core::connector::{Connector, Role, SinkContext, SourceContext, TestStage};
use laminar_core::sink::Sink;
use laminar_core::source::Source;
use laminar_core::table::TableSpec;
use laminar_core::time::{SharedClock, SystemClock};
use laminar_core::{Code, Error, Options, Result};

use crate::generator::{Generator, Plan, Rows};
use crate::staged::{Stages, no_sink};
use column::ColumnMaker;
use options::{Read, read, source_schema};

const SUBJECT: &str = "connector datagen";

/// See the module.
#[derive(Debug, Default)]
pub struct DatagenConnector;

#[async_trait]
impl Connector for DatagenConnector {
    fn name(&self) -> &'static str {
        "datagen"
    }
    fn description(&self) -> &'static str {
        "Makes up rows, each column by a rule: a sequence, random values, a choice."
    }
    fn source_schema(&self) -> Option<serde_json::Value> {
        Some(source_schema())
    }
    fn sink_schema(&self) -> Option<serde_json::Value> {
        None
    }
    fn check_connection(&self, options: &Options) -> Result<()> {
        read(options).map(|_| ())
    }

    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        if role == Role::Sink {
            return Err(no_sink("datagen"));
        }
        if let Some(column) = table.columns.iter().find(|c| c.metadata.is_some()) {
            return Err(Error::new(
                Code::NotSupported,
                format!("{SUBJECT} has no metadata for column {}", column.name),
            ));
        }
        let read = read(options)?;
        read.check_columns(options, table)?;
        makers(&read, table, &(Arc::new(SystemClock) as SharedClock)).map(|_| ())
    }

    async fn test(&self, options: &Options) -> Vec<TestStage> {
        let mut stages = Stages::default();
        stages.add("options", self.check_connection(options), "the options are understood");
        stages.done()
    }

    fn source(&self, options: &Options, table: &TableSpec, ctx: &SourceContext) -> Result<Arc<dyn Source>> {
        self.check_table(Role::Source, options, table)?;
        let read = read(options)?;
        let (columns, rows) = makers(&read, table, &ctx.clock)?;
        let time = table.event_time.as_ref().and_then(|time| table.columns.iter().position(|c| c.name == time.column));
        let made = MadeRows {
            columns,
            projection: table.projection.clone(),
            schema: table.projected_schema(),
            time,
            shards: u64::from(read.plan.shards),
            clock: ctx.clock.clone(),
        };
        let rows = read.plan.rows.into_iter().chain(rows).min();
        Ok(Arc::new(Generator::new(Plan { rows, ..read.plan }, Arc::new(made))))
    }

    fn sink(&self, _: &Options, _: &TableSpec, _: &SinkContext) -> Result<Arc<dyn Sink>> {
        Err(no_sink("datagen"))
    }
}

/// A maker for every column, and how many rows the shortest sequence has.
fn makers(read: &Read, table: &TableSpec, clock: &SharedClock) -> Result<(Vec<ColumnMaker>, Option<u64>)> {
    let mut shortest: Option<u64> = None;
    let mut makers = Vec::new();
    for column in &table.columns {
        let field = read.fields.get(&column.name).cloned().unwrap_or_default();
        let (maker, rows) = ColumnMaker::new(column, &field, read.own.seed, clock.clone())?;
        shortest = shortest.into_iter().chain(rows).min();
        makers.push(maker);
    }
    Ok((makers, shortest))
}

struct MadeRows {
    columns: Vec<ColumnMaker>,
    projection: Vec<usize>,
    schema: SchemaRef,
    /// The column of event times.
    time: Option<usize>,
    shards: u64,
    clock: SharedClock,
}

impl Rows for MadeRows {
    fn make(&self, shard: u32, indices: Range<u64>) -> Result<(RecordBatch, TimestampMicrosecondArray)> {
        let rows: Vec<u64> = indices.map(|j| j.saturating_mul(self.shards).saturating_add(u64::from(shard))).collect();
        let wanted = self.projection.iter().filter_map(|i| self.columns.get(*i));
        let columns = wanted.map(|column| column.make(&rows)).collect::<Result<Vec<_>>>()?;
        let size = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let now = self.clock.now_micros();
        let times = match self.time.and_then(|at| Some((at, self.columns.get(at)?))) {
            None => TimestampMicrosecondArray::from_value(now, rows.len()),
            Some((at, maker)) => {
                let made = self.projection.iter().position(|i| *i == at).and_then(|i| columns.get(i).cloned());
                let made = made.map_or_else(|| maker.make(&rows), Ok)?;
                let times = made.as_primitive_opt::<TimestampMicrosecondType>();
                let times = times.ok_or_else(|| Error::internal("the event time is not a timestamp"))?;
                match times.null_count() {
                    0 => times.clone(),
                    _ => times.iter().map(|time| Some(time.unwrap_or(now))).collect(),
                }
            }
        };
        Ok((RecordBatch::try_new_with_options(self.schema.clone(), columns, &size)?, times))
    }
}

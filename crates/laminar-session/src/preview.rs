//! A stream as a table for one query: read from where the table's options start, up to where its splits end now, within
//! bounds of rows and time. Nothing is left outside: no consumer group, no offsets.
//!
//! A source without an end (a generator that does not count) stops at the query's LIMIT or at a bound. What cut the reading
//! short is told in a late notice.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as QueryState, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::TryStreamExt;
use laminar_core::connector::SourceContext;
use laminar_core::format::Decoder;
use laminar_core::source::{BatchLimit, Fetched, Run, SourceReader, SplitStart, StartAt};
use laminar_core::{ChangeKind, Changes, Error, Position, Result, SplitId, TaskId};
use laminar_engine::operator::{Operator, OperatorContext, OperatorFactory, Output};
use laminar_engine::{Keep, RelationHandle};
use laminar_planner::catalog::{CatalogSnapshot, TableDef};
use tokio::time::Instant;

use crate::System;
use crate::outcome::{LateNotices, Notice};
use crate::settings::Settings;

/// One fetch: small, so that a LIMIT does not read much more than it needs.
const FETCH: BatchLimit = BatchLimit { rows: 1_024, bytes: 4 << 20 };

/// A source table as DataFusion sees it.
pub(crate) struct Preview(Arc<Inner>);

struct Inner {
    system: Arc<System>,
    catalog: CatalogSnapshot,
    table: TableDef,
    settings: Settings,
    late: LateNotices,
    schema: SchemaRef,
}

impl Preview {
    pub fn new(
        system: Arc<System>,
        catalog: CatalogSnapshot,
        table: TableDef,
        settings: Settings,
        late: LateNotices,
    ) -> Self {
        let schema = table.schema();
        Self(Arc::new(Inner { system, catalog, table, settings, late, schema }))
    }
}

impl std::fmt::Debug for Preview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "preview of {}", self.0.table.name)
    }
}

#[async_trait]
impl TableProvider for Preview {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        _: &dyn QueryState,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.0.schema.fields().len()).collect());
        let schema = Arc::new(self.0.schema.project(&columns)?);
        let scan = Scan { preview: Arc::clone(&self.0), columns, schema: Arc::clone(&schema), limit };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, vec![], false, limit)?))
    }
}

struct Scan {
    preview: Arc<Inner>,
    columns: Vec<usize>,
    schema: SchemaRef,
    limit: Option<usize>,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "preview of {}", self.preview.table.name)
    }
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let reading = Reading::open(Arc::clone(&self.preview), self.columns.clone(), self.limit);
        let batches =
            futures::stream::once(reading).and_then(async |reading: Reading| Ok(reading.batches())).try_flatten();
        let batches = batches.map_err(|e: Error| DataFusionError::External(Box::new(e)));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// One scan under way.
struct Reading {
    preview: Arc<Inner>,
    schema: SchemaRef,
    /// `None` if the source yields rows.
    decoder: Option<Box<dyn Decoder>>,
    /// What rows go through, one batch in and at most one out: to changes, and to the table's other columns.
    steps: Vec<Box<dyn Operator>>,
    reader: Box<dyn SourceReader>,
    /// Splits that have an end, not reached yet.
    open_ends: BTreeMap<SplitId, Position>,
    /// A split without an end exists: only bounds stop the reading.
    endless: bool,
    deadline: Instant,
    /// Rows still wanted.
    wanted: usize,
    /// It is the setting that bounds the rows, not the query's own LIMIT.
    limited_by_setting: bool,
    bad_records: usize,
    /// Why the first of them could not be decoded.
    first_fault: Option<String>,
    over: bool,
    /// For a source of changes: what they lead to is the answer, not they.
    current: Option<Current>,
}

/// The rows that the changes read so far leave.
struct Current {
    relation: RelationHandle,
    operator: Box<dyn Operator>,
    /// Rows that are there now.
    rows: i64,
}

impl Current {
    /// How many rows are there afterwards.
    async fn take(&mut self, changes: Changes) -> Result<usize> {
        let weights = changes.kinds().map(|kinds| kinds.iter().map(ChangeKind::weight).sum::<i64>());
        self.rows += weights.unwrap_or_else(|| i64::try_from(changes.num_rows()).unwrap_or(i64::MAX));
        self.operator.on_changes(0, changes, &mut Output::default()).await?;
        Ok(usize::try_from(self.rows).unwrap_or(0))
    }
}

impl Reading {
    async fn open(preview: Arc<Inner>, columns: Vec<usize>, limit: Option<usize>) -> Result<Self> {
        let deadline = Instant::now() + preview.settings.preview_timeout;
        let ctx = SourceContext { pipeline: None, clock: Arc::clone(&preview.system.config.clock), partitions: None };
        let values = preview.system.values(&preview.system.catalog());
        let opened = preview.system.planner.open_source(&preview.catalog, &preview.table, &columns, &ctx, &values)?;
        let source = opened.node.source;
        let task = TaskId { operator: "source-0".into(), index: 0 };
        let upsert = opened.upsert.as_ref().map(|factory| factory as &dyn OperatorFactory);
        let project = opened.project.as_ref().map(|factory| factory as &dyn OperatorFactory);
        let steps = upsert.into_iter().chain(project).map(|factory| factory.create(&task)).collect::<Result<_>>()?;
        let splits = source.discover().await?;
        let ends = source.ends(&splits).await?;
        let endless = ends.iter().any(Option::is_none);
        let open_ends = splits.iter().cloned().zip(ends).filter_map(|(split, end)| Some((split, end?))).collect();
        let starts = splits.into_iter().map(|split| SplitStart { split, at: StartAt::Configured }).collect();
        let decoder = source.decoder()?;
        let reader = source.open(starts).await?;
        let current = match source.yields_changes() {
            true => {
                let relation = RelationHandle::new(Arc::clone(&opened.schema), Keep::Current)?;
                let mut operator = relation.operator().create(&task)?;
                let mut fresh = OperatorContext { task, parallelism: 1, restored: Vec::new(), watermark: None };
                operator.open(&mut fresh).await?;
                Some(Current { operator, relation, rows: 0 })
            }
            false => None,
        };
        // The first changes are not the first rows.
        let limit = limit.filter(|_| current.is_none());
        let most = preview.settings.preview_limit;
        let wanted = limit.unwrap_or(usize::MAX).min(most);
        let limited_by_setting = limit.is_none_or(|limit| limit > most);
        let over = wanted == 0;
        let mut reading = Self {
            preview,
            schema: opened.schema,
            decoder,
            steps,
            reader,
            open_ends,
            endless,
            deadline,
            wanted,
            limited_by_setting,
            bad_records: 0,
            first_fault: None,
            over,
            current,
        };
        reading.close_reached();
        Ok(reading)
    }

    fn batches(self) -> impl futures::Stream<Item = Result<RecordBatch>> {
        futures::stream::try_unfold(self, async |mut reading: Reading| {
            let batch = reading.next().await?;
            Ok(batch.map(|batch| (batch, reading)))
        })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while !self.over {
            let fetched = match tokio::time::timeout_at(self.deadline, self.reader.next(FETCH)).await {
                Ok(fetched) => fetched?,
                Err(_) => {
                    self.stop_at_timeout();
                    break;
                }
            };
            let changes = self.decode(fetched)?;
            self.close_reached();
            let Some(changes) = changes else { continue };
            let changes = self.compute(changes).await?;
            match &mut self.current {
                Some(current) => {
                    let is_enough = current.take(changes).await? >= self.wanted && !self.over;
                    if is_enough {
                        self.stop_at_limit();
                    }
                }
                None if changes.num_rows() > 0 => return Ok(Some(self.take_wanted(&changes).rows().clone())),
                None => {}
            }
        }
        self.tell_bad_records();
        match self.current.take() {
            Some(current) => {
                let rows = current.relation.snapshot()?.into_iter().next();
                Ok(rows.map(|rows| rows.slice(0, rows.num_rows().min(self.wanted))))
            }
            None => Ok(None),
        }
    }

    fn decode(&mut self, fetched: Fetched) -> Result<Option<Changes>> {
        match fetched {
            Fetched::End => {
                self.over = true;
                Ok(None)
            }
            Fetched::Rows(rows) => {
                self.advance(&rows.runs);
                Changes::inserts(rows.rows, rows.times).map(Some)
            }
            Fetched::Records(fetched) => {
                let Some(decoder) = &mut self.decoder else {
                    return Err(Error::internal("a source of records has no decoder"));
                };
                for index in 0..fetched.records.len() {
                    let record = fetched.records.get(index);
                    if let Err(fault) = decoder.push(&record) {
                        if let Some(outage) = fault.outage() {
                            return Err(outage.clone());
                        }
                        self.bad_records += 1;
                        self.first_fault.get_or_insert_with(|| {
                            format!("{}/{} offset {}: {fault}", record.topic, record.partition, record.position)
                        });
                    }
                }
                let changes = decoder.flush()?;
                self.advance(&fetched.runs);
                Ok(changes.map(Changes::timed))
            }
        }
    }

    /// The columns that were asked for, computed ones too.
    async fn compute(&mut self, mut changes: Changes) -> Result<Changes> {
        for step in &mut self.steps {
            let mut out = Output::default();
            step.on_changes(0, changes, &mut out).await?;
            changes = match out.take().pop() {
                Some(computed) => computed,
                None => {
                    return Changes::inserts(
                        RecordBatch::new_empty(Arc::clone(&self.schema)),
                        Vec::<i64>::new().into(),
                    );
                }
            };
        }
        Ok(changes)
    }

    fn advance(&mut self, runs: &[Run]) {
        for run in runs {
            if self.open_ends.get(&run.split).is_some_and(|end| run.next >= *end) {
                self.open_ends.remove(&run.split);
            }
        }
    }

    /// Ends of splits that the reader has passed without a record, as behind transaction markers.
    fn close_reached(&mut self) {
        for (split, position) in self.reader.positions() {
            if self.open_ends.get(&split).is_some_and(|end| position >= *end) {
                self.open_ends.remove(&split);
            }
        }
        if self.open_ends.is_empty() && !self.endless {
            self.over = true;
        }
    }

    /// At most the rows that are still wanted.
    fn take_wanted(&mut self, rows: &Changes) -> Changes {
        let taken = rows.slice(0, rows.num_rows().min(self.wanted));
        self.wanted -= taken.num_rows();
        if self.wanted == 0 && !self.over {
            self.stop_at_limit();
        }
        taken
    }

    fn stop_at_limit(&mut self) {
        self.over = true;
        if self.limited_by_setting {
            let (name, limit) = (&self.preview.table.name, self.preview.settings.preview_limit);
            let message = format!("the preview of {name} ended after {limit} rows; SET preview_limit to read more");
            self.preview.late.push(Notice::new("preview_limit", message));
        }
    }

    fn stop_at_timeout(&mut self) {
        self.over = true;
        let timeout = self.preview.settings.preview_timeout;
        let message = format!(
            "the preview of {} ended after {timeout:?}; SET preview_timeout to wait longer",
            self.preview.table.name
        );
        self.preview.late.push(Notice::new("preview_timeout", message));
    }

    fn tell_bad_records(&mut self) {
        if self.bad_records > 0 {
            let (count, table) = (self.bad_records, &self.preview.table.name);
            let fault = self.first_fault.take().unwrap_or_default();
            let message = match count {
                1 => format!("1 record of {table} could not be decoded and is left out, at {fault}"),
                _ => format!("{count} records of {table} could not be decoded and are left out, the first at {fault}"),
            };
            self.preview.late.push(Notice::new("bad_records", message));
            self.bad_records = 0;
        }
    }
}

//! One-shot `INSERT INTO table VALUES`: the rows go through the connector and are acknowledged before the statement ends.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::TimestampMicrosecondArray;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::dataframe::DataFrame;
use laminar_core::sink::Delivery;
use laminar_core::{Changes, Epoch, Error, PipelineId, Result, TaskId};
use laminar_engine::{Keep, RelationHandle};
use laminar_planner::settings::PipelineOptions;
use laminar_planner::statement::Insert;
use laminar_planner::{Changing, PipelineContext};

use crate::{Outcome, System, query};

/// How long the outside system may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn insert_values(system: &Arc<System>, insert: &Insert) -> Result<Outcome> {
    let catalog = system.catalog();
    // A transactional id would stay in the cluster for days; one statement's rows need none.
    let options = PipelineOptions { delivery: Some(Delivery::AtLeastOnce), ..PipelineOptions::default() };
    let retain = |schema, _: Changing| Ok(RelationHandle::new(schema, Keep::Last(1))?.operator());
    let ctx = PipelineContext {
        // One for all: file connectors keep a note for each pipeline that wrote to a place. Statements at once share
        // what is not published yet; without a committer nobody fences them.
        pipeline: PipelineId::new(format!("insert-{}", system.config.metastore.instance_id())),
        instance: system.config.metastore.instance_id().to_string(),
        options: &options,
        parallelism: 1,
        checkpoint_interval: system.config.defaults.checkpoint_interval,
        clock: Arc::clone(&system.config.clock),
        resolver: &system.values(&catalog),
        retain: &retain,
    };
    let planned = system.planner.plan_insert(&catalog.snapshot, insert, &ctx)?;
    let changes = rows(system, planned.rows, &planned.schema).await?;
    let sink = planned.sink.sink;
    let write = async {
        let task = TaskId { operator: "sink-0".into(), index: 0 };
        let mut writer = sink.open(&task).await?;
        writer.write(&changes).await?;
        writer.flush(Epoch(1)).await
    };
    tokio::time::timeout(PATIENCE, write).await.map_err(|_| {
        let message = format!("{} has not acknowledged the rows within {PATIENCE:?}", insert.table.value);
        Error::new(laminar_core::Code::Timeout, message).with_hint("some of them may have been written")
    })??;
    Ok(Outcome::done(format!("INSERT 0 {}", changes.num_rows())))
}

/// The rows, in the sink's columns, as of now.
async fn rows(system: &System, frame: DataFrame, schema: &SchemaRef) -> Result<Changes> {
    let batches = frame.collect().await.map_err(query::error)?;
    let rows = concat_batches(schema, &batches)?;
    let now = system.config.clock.now_micros();
    let times = TimestampMicrosecondArray::from_iter_values(std::iter::repeat_n(now, rows.num_rows()));
    Changes::inserts(rows, times)
}

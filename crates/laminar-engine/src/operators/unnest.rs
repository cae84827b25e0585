//! `unnest`: one row per element of a list, one column per field of a struct.
//!
//! The work is DataFusion's own `UnnestExec`, run over each batch. The event time and the kind of a row go along as two
//! extra columns at the end, so each output row has those of the row it came from. Holds no state.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int8Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::common::UnnestOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::unnest::{ListUnnest, UnnestExec};
use datafusion::physical_plan::{ExecutionPlan, collect};
use laminar_core::{ChangeKind, Changes, Error, Kinds, Result, TaskId};

use super::{evaluation_error, rows};
use crate::operator::{Operator, OperatorFactory, Output};

/// As DataFusion's logical `Unnest` node describes it; indices are of the input's columns.
#[derive(Clone, Debug)]
pub struct UnnestFactory {
    pub lists: Vec<ListUnnest>,
    pub structs: Vec<usize>,
    pub options: UnnestOptions,
    /// Schema of the output.
    pub schema: SchemaRef,
}

impl OperatorFactory for UnnestFactory {
    fn create(&self, _task: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Unnest { plan: self.clone(), context: Arc::new(TaskContext::default()) }))
    }
    fn fingerprint(&self) -> String {
        let lists = self.lists.iter().map(|l| format!("{}^{}", l.index_in_input_schema, l.depth));
        format!("unnest lists [{}] structs {:?}", lists.collect::<Vec<_>>().join(", "), self.structs)
    }
}

struct Unnest {
    plan: UnnestFactory,
    context: Arc<TaskContext>,
}

#[async_trait]
impl Operator for Unnest {
    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let with_extras = add_extras(&changes)?;
        let input = MemorySourceConfig::try_new_exec(&[vec![with_extras.clone()]], with_extras.schema(), None)
            .map_err(evaluation_error)?;
        let schema = append(&self.plan.schema, &extra_fields());
        let lists = self.plan.lists.clone();
        let exec = UnnestExec::new(input, lists, self.plan.structs.clone(), schema, self.plan.options.clone())
            .map_err(evaluation_error)?;
        let exec: Arc<dyn ExecutionPlan> = Arc::new(exec);
        let batches = collect(exec, Arc::clone(&self.context)).await.map_err(evaluation_error)?;
        for batch in batches {
            out.push(self.split_extras(&batch, changes.kinds().is_some())?);
        }
        Ok(())
    }
}

impl Unnest {
    fn split_extras(&self, batch: &RecordBatch, with_kinds: bool) -> Result<Changes> {
        let (own, extras) = batch.columns().split_at(batch.num_columns().saturating_sub(2));
        let lost = || Error::internal("unnest lost the event times");
        let times =
            extras.first().and_then(|a| a.as_any().downcast_ref::<TimestampMicrosecondArray>()).ok_or_else(lost)?;
        let codes = extras.get(1).and_then(|a| a.as_any().downcast_ref::<Int8Array>()).ok_or_else(lost)?;
        let kinds = with_kinds.then(|| codes.values().iter().map(|c| ChangeKind::from_code(*c)).collect::<Kinds>());
        let rows = rows::batch(&self.plan.schema, own.to_vec(), batch.num_rows())?;
        Changes::new(rows, times.clone(), kinds)
    }
}

fn extra_fields() -> [Field; 2] {
    let time = Field::new("__time", DataType::Timestamp(TimeUnit::Microsecond, None), false);
    [time, Field::new("__kind", DataType::Int8, false)]
}

fn append(schema: &Schema, extras: &[Field]) -> SchemaRef {
    let fields = schema.fields().iter().cloned().chain(extras.iter().cloned().map(Arc::new));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn add_extras(changes: &Changes) -> Result<RecordBatch> {
    let kinds: Int8Array = match changes.kinds() {
        Some(kinds) => kinds.iter().map(|k| k as i8).collect(),
        None => std::iter::repeat_n(0i8, changes.num_rows()).collect(),
    };
    let extras: [ArrayRef; 2] = [Arc::new(changes.times().clone()), Arc::new(kinds)];
    let columns = changes.rows().columns().iter().cloned().chain(extras).collect();
    Ok(RecordBatch::try_new(append(&changes.rows().schema(), &extra_fields()), columns)?)
}

//! `unnest`: one row per element of a list, one column per field of a struct.
//!
//! The work is DataFusion's own `UnnestExec`, run over each batch. The event time, the kind and the origin of a row go along as
//! three extra columns at the end, so each output row has those of the row it came from. Holds no state.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, UInt32Type};
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
            out.push(self.split_extras(&batch, &changes)?);
        }
        Ok(())
    }
}

impl Unnest {
    /// `from`: the rows that these come from.
    fn split_extras(&self, batch: &RecordBatch, from: &Changes) -> Result<Changes> {
        let (own, extras) = batch.columns().split_at(batch.num_columns().saturating_sub(EXTRAS));
        let lost = || Error::internal("unnest lost the event times");
        let times =
            extras.first().and_then(|a| a.as_any().downcast_ref::<TimestampMicrosecondArray>()).ok_or_else(lost)?;
        let codes = extras.get(1).and_then(|a| a.as_any().downcast_ref::<Int8Array>()).ok_or_else(lost)?;
        let kinds = from.kinds().map(|_| codes.values().iter().map(|c| ChangeKind::from_code(*c)).collect::<Kinds>());
        let rows = rows::batch(&self.plan.schema, own.to_vec(), batch.num_rows())?;
        let origins = from.origins().and_then(|_| extras.get(2)?.as_primitive_opt::<UInt32Type>().cloned());
        Changes::new(rows, times.clone(), kinds)?.with_origins(origins)
    }
}

const EXTRAS: usize = 3;

fn extra_fields() -> [Field; EXTRAS] {
    let time = Field::new("__time", DataType::Timestamp(TimeUnit::Microsecond, None), false);
    [time, Field::new("__kind", DataType::Int8, false), Field::new("__origin", DataType::UInt32, true)]
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
    let origins = changes.origins().map(|origins| Arc::new(origins.clone()) as ArrayRef);
    let origins = origins.unwrap_or_else(|| new_null_array(&DataType::UInt32, changes.num_rows()));
    let extras: [ArrayRef; EXTRAS] = [Arc::new(changes.times().clone()), Arc::new(kinds), origins];
    let columns = changes.rows().columns().iter().cloned().chain(extras).collect();
    Ok(RecordBatch::try_new(append(&changes.rows().schema(), &extra_fields()), columns)?)
}

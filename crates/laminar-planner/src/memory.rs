//! What one-off queries may take of the server's memory: one pool for all that run at a time.
//!
//! A pipeline's state is not under it: it would only fail again after every restart. What is counted is what queries hold
//! on to: sorts, joins, groups, windows. Nothing is spilled to disk: whoever waits for an answer wants to hear that the
//! question is too large, and files beside the checkpoints would be another thing to fill up. A single value is not counted:
//! its size is that of one batch.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;
use laminar_core::Result;

use crate::translate::translate;

/// Unless the server is told otherwise.
pub const DEFAULT_QUERY_MEMORY: usize = 1 << 30;

/// What one-off queries run in.
pub(crate) struct QueryRuntime(RwLock<Arc<RuntimeEnv>>);

impl QueryRuntime {
    pub fn new() -> Result<Self> {
        Ok(Self(RwLock::new(runtime(DEFAULT_QUERY_MEMORY)?)))
    }

    /// For the queries that begin from now on.
    pub fn limit(&self, bytes: usize) -> Result<()> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = runtime(bytes)?;
        Ok(())
    }

    pub fn current(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn runtime(bytes: usize) -> Result<Arc<RuntimeEnv>> {
    // Fair shares are for operators that spill; here the first who asks gets it.
    let pool = Arc::new(GreedyMemoryPool::new(bytes));
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let built = RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk).build_arc();
    built.map_err(translate)
}

/// Counts what a window over a whole partition gathers: DataFusion's operator does not.
#[derive(Debug)]
pub(crate) struct CountWindows;

impl PhysicalOptimizerRule for CountWindows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            if !plan.is::<WindowAggExec>() {
                return Ok(Transformed::no(plan));
            }
            let inputs = plan.children().into_iter().map(|input| Counted::over(Arc::clone(input))).collect();
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
            plan.replace_children(inputs, options).map(Transformed::yes)
        })
        .data()
    }
    fn name(&self) -> &str {
        "count_windows"
    }
    fn schema_check(&self) -> bool {
        true
    }
}

/// Hands batches on and counts them as held until the operator above lets go of the stream.
#[derive(Debug)]
struct Counted {
    input: Arc<dyn ExecutionPlan>,
}

impl Counted {
    fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input })
    }
}

impl DisplayAs for Counted {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

impl ExecutionPlan for Counted {
    fn name(&self) -> &str {
        "Counted"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> datafusion::common::Result<TreeNodeRecursion>,
    ) -> datafusion::common::Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        Ok(children.into_iter().next().map_or(self, Self::over))
    }
    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(
        &self,
        partition: usize,
        ctx: Arc<TaskContext>,
    ) -> datafusion::common::Result<SendableRecordBatchStream> {
        let held = MemoryConsumer::new("window").register(ctx.memory_pool());
        let batches = self.input.execute(partition, ctx)?.map(move |batch| {
            let batch = batch?;
            held.try_grow(batch.get_array_memory_size())?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

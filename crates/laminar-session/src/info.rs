//! What the system says about its pipelines, jobs and checkpoints: the resources of the REST API, in its own field names.
//!
//! Every type serialises as the answer does (snake_case; pipelines and jobs tell time in milliseconds since 1970 UTC).
//! System tables show the same values. The catalogue's resources are in `catalog_info`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A pipeline: a definition, and whether it should run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PipelineInfo {
    pub id: String,
    pub name: String,
    /// The statements it runs, as written; credentials in them masked.
    pub query: String,
    pub parallelism: usize,
    pub checkpoint_interval_micros: u64,
    /// State of its latest job, in lower case; `created` if it never had one.
    pub state: String,
    /// How it was asked to stop: `none` while it should run.
    pub stop: String,
    /// What can be done next: `stop`, `start`, or nothing while something is under way.
    pub action: Option<String>,
    /// The state in words, such as `Running` or `Stopping`.
    pub action_text: String,
    pub action_in_progress: bool,
    /// Milliseconds since 1970 UTC.
    pub created_at: i64,
    pub updated_at: i64,
    pub graph: Option<GraphInfo>,
    /// User-defined functions of the pipeline: none in this version.
    pub udfs: Vec<Value>,
    pub preview: bool,
    /// Tables it reads, by name.
    pub sources: Vec<String>,
    /// Tables it writes, by name.
    pub sinks: Vec<String>,
    /// Id of its latest job.
    pub job_id: Option<String>,
    /// Why its latest job failed.
    pub failure_message: Option<String>,
    /// What to do about the failure, where one can say.
    pub failure_hint: Option<String>,
}

/// The operators of a pipeline and how rows flow between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GraphInfo {
    /// In topological order.
    pub nodes: Vec<GraphNode>,
    pub edges: Vec<GraphEdge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GraphNode {
    /// Index of the node in the graph.
    pub node_id: usize,
    /// Stable id of the operator, as in metrics and checkpoints: `source-0`.
    pub operator: String,
    /// `source`, `operator` or `sink`.
    pub kind: String,
    pub description: String,
    pub parallelism: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GraphEdge {
    pub src_id: usize,
    pub dest_id: usize,
    /// `forward`: rows stay in their task; `hash`: rows of equal keys meet in one task.
    pub edge_type: String,
}

/// What `POST /pipelines` asks for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPipeline {
    pub name: String,
    /// A SELECT, an INSERT INTO … SELECT, or a script of CREATE TABLE, CREATE VIEW and INSERT INTO; tables and views of
    /// the script are local to it.
    pub query: String,
    #[serde(default)]
    pub parallelism: Option<usize>,
    #[serde(default, alias = "checkpointIntervalMicros")]
    pub checkpoint_interval_micros: Option<u64>,
    /// User-defined functions: refused while not empty.
    #[serde(default)]
    pub udfs: Vec<Value>,
}

/// What `PATCH /pipelines/{id}` asks for; absent fields stay.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelinePatch {
    /// A running pipeline stops with a checkpoint and goes on from it with the new number.
    #[serde(default)]
    pub parallelism: Option<usize>,
    #[serde(default, alias = "checkpointIntervalMicros")]
    pub checkpoint_interval_micros: Option<u64>,
    #[serde(default)]
    pub stop: Option<StopKind>,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// Do not stop: start it if it is stopped.
    None,
    /// Take a checkpoint, then stop.
    Checkpoint,
    /// The same as `checkpoint`.
    Graceful,
    /// Stop now; what came after the last checkpoint is read again at the next start.
    Immediate,
    /// The same as `immediate`.
    Force,
}

/// Where a restarted pipeline goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartFrom {
    /// At its latest checkpoint.
    #[default]
    Latest,
    Checkpoint(u64),
    /// At the beginning, as if it were new.
    Nothing,
}

/// One run of a pipeline.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobInfo {
    pub id: String,
    pub pipeline_id: String,
    pub pipeline_name: String,
    pub running_desired: bool,
    /// `Created`, `Scheduling`, `Running`, `Stopping`, `Stopped`, `Failed`, `Finished` or `Recovering`.
    pub state: String,
    /// 1 for the first job of a pipeline.
    pub run_id: u64,
    pub created_at: i64,
    pub start_time: Option<i64>,
    pub finish_time: Option<i64>,
    pub tasks: Option<usize>,
    /// Restarts after failures within this job.
    pub restarts: u64,
    pub failure_code: Option<String>,
    pub failure_message: Option<String>,
    /// What to do about the failure, where one can say.
    pub failure_hint: Option<String>,
    pub metrics: JobTotals,
}

/// Sums over a job's operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobTotals {
    /// Rows read by its sources.
    pub records_in: u64,
    /// Rows written by its sinks.
    pub records_out: u64,
    pub bytes_in: u64,
    /// Records that could not be decoded, and rows for which something could not be computed.
    pub errors: u64,
    /// Checkpoints that failed.
    pub warnings: u64,
}

/// `GET /jobs/{id}/metrics`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct JobMetricsInfo {
    #[serde(flatten)]
    pub totals: JobTotals,
    /// Rows read a second, since the job started.
    pub throughput: f64,
    /// Event time up to which the job's input is complete, µs since 1970 UTC.
    pub watermark: Option<i64>,
    pub operators: Vec<OperatorMetricsInfo>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OperatorMetricsInfo {
    pub operator_id: String,
    pub operator_name: String,
    /// `source`, `operator` or `sink`.
    pub kind: String,
    pub parallelism: u32,
    pub records_in: u64,
    pub records_out: u64,
    pub bytes_in: u64,
    pub batches: u64,
    pub errors: u64,
    pub watermark: Option<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckpointInfo {
    /// `<job id>-<epoch>`.
    pub id: String,
    pub job_id: String,
    pub pipeline_id: String,
    pub epoch: u64,
    /// `in_progress`, `completed` or `failed`.
    pub state: String,
    pub start_time: i64,
    pub finish_time: Option<i64>,
    pub size_bytes: Option<u64>,
    /// `filesystem`, `s3`, `gcs` or `azure`.
    pub backend: String,
    pub location: String,
    /// Next record to read per source and split, and the state's files.
    pub detail: Value,
}

/// Something that went wrong in a job: a bad record, a failed checkpoint, a failure.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobErrorInfo {
    pub id: String,
    pub job_id: String,
    pub timestamp: i64,
    /// `error` or `warning`.
    pub level: String,
    pub operator_id: Option<String>,
    pub message: String,
    pub details: Value,
    /// The record to blame, where there is one: its table, topic, partition and position, and the stage at which it failed.
    pub record: Option<Value>,
}

/// `POST /pipelines/validate_query`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ValidateResult {
    pub graph: Option<GraphInfo>,
    /// One line per error.
    pub errors: Vec<String>,
    /// The same errors with their codes and places.
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diagnostic {
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub field: Option<String>,
    pub position: Option<PositionInfo>,
}

/// A place in a statement's text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PositionInfo {
    pub line: u64,
    pub column: u64,
}

impl From<&laminar_core::Error> for Diagnostic {
    fn from(error: &laminar_core::Error) -> Self {
        Self {
            code: error.code().as_str().to_string(),
            message: error.message().to_string(),
            detail: error.detail().map(str::to_string),
            hint: error.hint().map(str::to_string),
            field: error.field().map(str::to_string),
            position: error.location().map(|l| PositionInfo { line: l.line, column: l.column }),
        }
    }
}

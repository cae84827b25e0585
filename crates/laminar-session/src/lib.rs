//! Runs one SQL statement against the running system.
//!
//! Every door (REST, psql, CLI) comes through here. `info`, `catalog_info` and `outcome` are what doors see.

mod catalog_info;
mod info;
mod outcome;
mod session;
mod system;

pub use catalog_info::{
    ConfigurationSchemas, ConnectionInfo, ConnectorInfo, FieldInfo, MetadataColumnInfo, NewConnection, NewTable, StageInfo,
    TableInfo, TableSchemaInfo, TestDetails, TestResult,
};
pub use info::{
    CheckpointInfo, Diagnostic, GraphEdge, GraphInfo, GraphNode, JobErrorInfo, JobInfo, JobMetricsInfo, JobTotals, NewPipeline,
    OperatorMetricsInfo, PipelineInfo, PipelinePatch, PositionInfo, RestartFrom, StopKind, ValidateResult,
};
pub use outcome::{LateNotices, Notice, Outcome};
pub use session::Session;
pub use system::{Defaults, System, SystemConfig};

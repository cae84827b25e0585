//! Runs one SQL statement against the running system.
//!
//! ```text
//!  door ──► Session::execute ──► change the catalogue (objects, lifecycle) ──► metastore, controller
//!    │            └────────────► answer (query, show, explain, subscribe)  ──► DataFusion, relations
//!    └────► System resources (resources/: what REST shows and does) ──► the same
//! ```
//!
//! Every door (REST, psql, CLI) comes through here, so a statement and its REST twin do the same thing.
//!
//! Reading order: `service` (the running system), `session` (statements), `catalog` (what is defined), `define` and `plan`
//! (text to graph), `lifecycle` and `keeper` (pipelines), `objects` (the rest of the catalogue), `query` and `preview` (SELECT),
//! `system/` (system tables), `resources/` and the `info` types (REST).

mod catalog;
mod catalog_info;
mod cluster_info;
mod connected;
mod dead_letters;
mod define;
mod explain;
mod infer;
mod info;
mod insert;
mod keeper;
mod lifecycle;
mod newest;
mod objects;
mod outcome;
mod plan;
mod preview;
mod query;
pub mod reference;
mod render;
mod replay;
mod resources;
mod service;
mod session;
mod settings;
mod show;
mod subscribe;
mod system;

pub use catalog_info::{
    ConfigurationSchemas, ConnectionInfo, ConnectorInfo, FieldInfo, MetadataColumnInfo, NewConnection, NewTable,
    StageInfo, TableInfo, TableSchemaInfo, TestDetails, TestResult,
};
pub use cluster_info::{GroupOffsetInfo, NewTopicInfo, ResetInfo, ResetOffsets};
pub use info::{
    CheckpointInfo, Diagnostic, GraphEdge, GraphInfo, GraphNode, JobErrorInfo, JobInfo, JobMetricsInfo, JobTotals,
    NewPipeline, OperatorMetricsInfo, PipelineInfo, PipelinePatch, PositionInfo, RestartFrom, StopKind, ValidateResult,
};
pub use outcome::{LateNotices, Notice, Outcome};
pub use service::{Defaults, System, SystemConfig};
pub use session::Session;

//! Runs a graph of tasks: operators, exchange, alignment, checkpoints, metrics.
//!
//! ```text
//!  Graph ─► plan of chains ─► tasks (one per chain and parallel index) ─► Job
//!                                │ barriers down, acks up
//!                                ▼
//!                        checkpoint coordinator ─► manifest ─► committers
//! ```
//!
//! The runner owns every loop: alignment, watermark merging, freezing, forwarding, limits and metrics stand once, in
//! `tasks/`, never in an operator or a connector. Nothing here knows SQL text, connector names, HTTP or metadata.
//!
//! Reading order: `graph` (what is run), `operator` (what an operator must do), `job` (the door), `tasks/` (the loops),
//! `checkpoint/` (the exactly-once protocol: `protocol` decides, `coordinator` acts), `ledger` (no row is lost on the way).

pub mod checkpoint;
pub mod crash;
pub mod graph;
pub mod job;
pub mod ledger;
pub mod metrics;
pub mod operator;
pub mod operators;
pub mod relation;
pub mod state_log;
mod tasks;

pub use graph::{BadDataPolicy, Edge, Exchange, Graph, LateRows, Node, NodeKind, RowTime, SinkNode, SourceNode};
pub use job::{BadRow, CheckpointSummary, Job, JobConfig, JobEvent, Restore, StopMode};
pub use ledger::{Counts, LedgerEntry};
pub use operator::{Operator, OperatorContext, OperatorFactory, Output, Snapshot};
pub use relation::{Keep, RelationHandle};
pub use state_log::StateLog;

//! Vocabulary and ports: what every other crate speaks.
//!
//! Rows travel as [`Changes`] inside [`Message`]s; connectors implement the [`source`] and [`sink`] traits, formats the
//! [`format`] traits. Nothing here does I/O, knows a runtime or names a connector.
//!
//! Reading order: `changes` (rows), `message` (all that travels between tasks), `source`, `sink`, `format` (the ports),
//! `connector` (how a connector presents itself), `health` (how an outside system does), `cluster` (what a broker tells of itself), `dead_letter` (records of no use, as
//! rows), `options` (SQL options to typed values), `error`, `sql_name`, `time`, `ids`.

pub mod changes;
pub mod cluster;
pub mod connector;
pub mod dead_letter;
pub mod error;
pub mod format;
pub mod health;
pub mod ids;
pub mod message;
pub mod options;
pub mod sink;
pub mod source;
pub mod sql_name;
pub mod table;
pub mod time;

pub use changes::{ChangeKind, Changes, Kinds};
pub use error::{Code, Error, ErrorKind, Location, Result, Retry};
pub use health::Health;
pub use ids::{Epoch, JobId, OperatorId, PipelineId, Position, SplitId, TaskId};
pub use message::{Barrier, Message, Watermark};
pub use options::Options;

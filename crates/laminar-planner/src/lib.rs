//! SQL text to checked statements and engine graphs.
//!
//! ```text
//! text ──parse──► Statement ──check──► definition (stored as JSON by the metastore)
//!                     └──────plan──► DataFusion logical plan ──lower──► engine Graph
//! ```
//!
//! Nothing here runs, stores or reaches out. Every error is a `laminar_core::Error` with the user's own identifiers and the
//! place in the script; [`diagnostic::render`] draws it.
//!
//! Reading order: `statement` (what a script says), `parse`, `parameters`, `planner` (what sessions call), `catalog`, `check` (CREATE),
//! `plan` (pipelines), `query` and `memory` (one-off), `tables` (names in FROM), `sql` (DataFusion as we use it), `diagnostic`.

mod advice;
pub mod catalog;
mod check;
pub mod diagnostic;
pub mod dialect;
mod emit;
mod functions;
mod known;
pub mod limits;
mod locate;
mod memory;
pub mod parameters;
pub mod parse;
mod places;
pub mod plan;
mod planner;
mod push_down;
mod query;
mod refuse;
pub mod resolver;
mod script;
pub mod settings;
mod sql;
mod stack;
pub mod statement;
mod tables;
mod temporal;
mod time_formats;
pub mod translate;
pub mod types;

pub use catalog::CatalogSnapshot;
pub use memory::DEFAULT_QUERY_MEMORY;
pub use parse::{mask, parse, parse_query};
pub use plan::PlannedPipeline;
pub use planner::{Changing, PipelineContext, Planner, RelationProviders, Retain};
pub use resolver::Resolver;
pub use statement::{Name, Parsed, Statement};
pub use types::SqlType;

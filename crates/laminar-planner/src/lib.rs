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
//! Reading order: `statement` (what a script says), `parse`, `limits`, `types`, `resolver` (secrets), `diagnostic`.

pub mod catalog;
pub mod diagnostic;
pub mod dialect;
pub mod limits;
pub mod parse;
pub mod resolver;
mod script;
mod functions;
mod locate;
pub mod settings;
mod sql;
pub mod statement;
pub mod translate;
pub mod types;

pub use catalog::CatalogSnapshot;
pub use parse::parse;
pub use resolver::Resolver;
pub use statement::{Parsed, Statement};

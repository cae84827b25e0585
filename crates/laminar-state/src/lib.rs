//! Checkpoint manifests and state files on an object store.
//!
//! ```text
//!  <url>/<pipeline>/manifests/00000000000000000042-9f2c4e….json    one per checkpoint: its table of contents
//!  <url>/<pipeline>/state/retain-1/00000000000000000042/0-42-….arrow  immutable pieces of operator state
//! ```
//!
//! A file, once written, never changes, and is durable when the call that wrote it returns. The manifest names each file
//! with its sha256; a reader verifies both before it trusts a byte.
//!
//! Reading order: `manifest` (what a checkpoint contains), `store` (how it is written, read and cleaned up).

mod manifest;
mod store;

pub use manifest::{Manifest, OperatorState, SourcePositions, StateFileRef};
pub use store::{CheckpointStore, ManifestRef, PipelineStore, Publish};

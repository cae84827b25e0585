//! The exactly-once protocol: the sink's own transaction is the commit record.
//!
//! ```text
//!  barrier N ─► tasks freeze, sinks flush ─► state files ─► manifest N ─► committers: marker N ─► release sinks ─► clean up
//! ```
//!
//! `protocol` decides what comes next and what a restart restores, without doing anything; `coordinator` does it;
//! `recovery` reads the facts that the decision needs.

pub mod coordinator;
pub(crate) mod pending;
pub mod protocol;
pub mod recovery;

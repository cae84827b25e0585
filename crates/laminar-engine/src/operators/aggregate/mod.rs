//! Aggregates: rows to one row a group.
//!
//! ```text
//!  rows ─► partial ─► exchange by keys ─► window     a group is emitted once, when the watermark closes its window
//!                                      └► updating   a group is emitted whenever it changes, as an update
//! ```
//!
//! `partial` combines rows where they are read, before they are exchanged: most rows never leave their task. It keeps
//! nothing over a barrier. What travels and what is kept are DataFusion's own partial states, one row a group, so every
//! aggregate function that DataFusion has works in all of them.
//!
//! Reading order: `table` (groups and their `accumulators`), `span` (which window a row is in), `partial` (with `runs`
//! for sessions), `window`, `early`, `session` and `updating` (which keep their rows in `slots`).

mod accumulators;
mod early;
mod partial;
mod runs;
mod session;
mod slots;
mod span;
mod table;
mod updating;
mod window;

pub use early::EarlyResultFactory;
pub use partial::PartialAggregateFactory;
pub use session::SessionAggregateFactory;
pub(super) use span::window_ends;
pub use span::{Span, WindowTime, window_fields};
pub use table::{AggregateCall, GroupBy};
pub use updating::UpdatingAggregateFactory;
pub use window::WindowAggregateFactory;

//! All that can travel between two tasks, in order.

use serde::{Deserialize, Serialize};

use crate::{Changes, Epoch};

/// One item of a channel between tasks.
// Rows are the usual case: boxing them would cost an allocation a batch to make the rare ones smaller.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Message {
    Changes(Changes),
    /// Promise: no later row of this input is older than this event time.
    Watermark(Watermark),
    /// Everything before belongs to the epoch; everything after to the next.
    Barrier(Barrier),
    /// The input is exhausted: its watermark is past every time, and nothing follows.
    End,
}

/// An event time in microseconds since 1970-01-01 UTC, or "this input is idle and holds nobody back".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watermark {
    At(i64),
    Idle,
}

/// Marks the end of an epoch in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    pub epoch: Epoch,
    /// The job stops once this epoch is committed: sources read nothing after the barrier.
    pub stop: bool,
}

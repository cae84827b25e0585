//! The ways in which each file is run; the expected text is the same in all.

use anyhow::Result;
use laminar_engine::crash::CrashPoints;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Parallelism 1.
    Plain,
    /// Parallelism 4.
    Parallel,
    /// The whole system stops (jobs with a checkpoint) and starts again after every statement.
    Restore,
    /// As `Restore`, and in each life of the system the first checkpoint dies after its manifest is published and before
    /// the sink's transaction commits it.
    Crash,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Plain, Mode::Parallel, Mode::Restore, Mode::Crash];

    pub(crate) fn parallelism(self) -> usize {
        if self == Mode::Parallel { 4 } else { 1 }
    }
    pub(crate) fn restarts(self) -> bool {
        matches!(self, Mode::Restore | Mode::Crash)
    }
    /// Armed anew for each life of the system.
    pub(crate) fn crash(self) -> Result<CrashPoints> {
        match self {
            Mode::Crash => Ok(CrashPoints::fail_at("before-commit", 1)?),
            _ => Ok(CrashPoints::default()),
        }
    }
}

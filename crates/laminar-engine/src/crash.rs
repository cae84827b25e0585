//! Named places where a test can make the job, or the whole process, die.
//!
//! Each step of the exactly-once protocol has a point before and after it; the crash tests arm each of them once. Unarmed,
//! a point costs one comparison.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use laminar_core::{Changes, Error, Result};

/// Every point, in the order in which a job meets them.
pub const POINTS: &[&str] = &[
    "recover-fenced",
    "recover-marker-read",
    "recover-restored",
    "barrier-injected",
    "task-frozen",
    "sinks-flushed",
    "state-written",
    "manifest-written",
    "before-commit",
    "after-commit",
    "before-release",
    "before-cleanup",
];

/// Places where a test can make a job lose a row in silence: the ledger must find out.
pub const LEAKS: &[&str] = &["source", "input", "operator", "edge"];

/// What is armed. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CrashPoints(Option<Arc<Mutex<HashMap<String, Armed>>>>);

#[derive(Debug)]
struct Armed {
    /// Passes left before it strikes.
    passes: u32,
    effect: Effect,
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    FailJob,
    AbortProcess,
    LoseRow,
}

impl CrashPoints {
    /// The job fails with an internal error at the `nth` (from 1) pass of `point`; once.
    pub fn fail_at(point: &str, nth: u32) -> Result<Self> {
        Self::armed(point, nth, Effect::FailJob)
    }

    /// The process aborts, as if killed, at the `nth` (from 1) pass of `point`.
    pub fn abort_at(point: &str, nth: u32) -> Result<Self> {
        Self::armed(point, nth, Effect::AbortProcess)
    }

    /// The `nth` (from 1) batch that passes `leak` lacks its last row from there on.
    pub fn lose_row_at(leak: &str, nth: u32) -> Result<Self> {
        Self::armed(leak, nth, Effect::LoseRow)
    }

    fn armed(point: &str, nth: u32, effect: Effect) -> Result<Self> {
        let known = if matches!(effect, Effect::LoseRow) { LEAKS } else { POINTS };
        if !known.contains(&point) {
            return Err(Error::internal(format!("no crash point {point}; there are {}", known.join(", "))));
        }
        let armed = Armed { passes: nth.saturating_sub(1), effect };
        Ok(Self(Some(Arc::new(Mutex::new([(point.to_string(), armed)].into())))))
    }

    /// Called by the engine at each point.
    pub fn hit(&self, point: &str) -> Result<()> {
        match self.strikes(point) {
            Some(Effect::FailJob) => Err(Error::internal(format!("crash point {point}"))),
            Some(Effect::AbortProcess) => std::process::abort(),
            Some(Effect::LoseRow) | None => Ok(()),
        }
    }

    /// Called by the engine for each batch that passes a leak.
    pub(crate) fn leak(&self, leak: &str, changes: Changes) -> Changes {
        match self.strikes(leak) {
            Some(Effect::LoseRow) => changes.slice(0, changes.num_rows().saturating_sub(1)),
            _ => changes,
        }
    }

    fn strikes(&self, point: &str) -> Option<Effect> {
        let mut armed = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = armed.get_mut(point)?;
        if waiting.passes > 0 {
            waiting.passes -= 1;
            return None;
        }
        armed.remove(point).map(|armed| armed.effect)
    }
}

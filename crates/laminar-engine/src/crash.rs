//! Named places where a test can make the job, or the whole process, die.
//!
//! Each step of the exactly-once protocol has a point before and after it; the crash tests arm each of them once. Unarmed,
//! a point costs one comparison.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use laminar_core::{Error, Result};

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

    fn armed(point: &str, nth: u32, effect: Effect) -> Result<Self> {
        if !POINTS.contains(&point) {
            return Err(Error::internal(format!("no crash point {point}; there are {}", POINTS.join(", "))));
        }
        let armed = Armed { passes: nth.saturating_sub(1), effect };
        Ok(Self(Some(Arc::new(Mutex::new([(point.to_string(), armed)].into())))))
    }

    /// Called by the engine at each point.
    pub fn hit(&self, point: &str) -> Result<()> {
        let Some(armed) = &self.0 else { return Ok(()) };
        let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
        match armed.get_mut(point) {
            None => Ok(()),
            Some(waiting) if waiting.passes > 0 => {
                waiting.passes -= 1;
                Ok(())
            }
            Some(Armed { effect, .. }) => {
                let effect = *effect;
                armed.remove(point);
                match effect {
                    Effect::FailJob => Err(Error::internal(format!("crash point {point}"))),
                    Effect::AbortProcess => std::process::abort(),
                }
            }
        }
    }
}

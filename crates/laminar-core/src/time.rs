//! The clock as a parameter, so that tests decide what time it is.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Wall-clock time. The only place in Laminar that asks the operating system is [`SystemClock`].
pub trait Clock: Send + Sync + Debug {
    /// Microseconds since 1970-01-01 UTC.
    fn now_micros(&self) -> i64;
    /// Milliseconds since 1970-01-01 UTC.
    fn now_millis(&self) -> i64 {
        self.now_micros() / 1_000
    }
}

pub type SharedClock = Arc<dyn Clock>;

#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that may
    fn now_micros(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at_micros(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }
    pub fn advance_micros(&self, by: i64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

//! Small things that every connector needs: test stages, and what a pipeline asks of a sink.

use laminar_core::connector::{SinkContext, TestStage};
use laminar_core::sink::Delivery;
use laminar_core::{Code, Error, Result};

/// Stages of a connection test, in order.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<TestStage>);

impl Stages {
    /// Adds a stage; returns whether it passed, so that the next may be tried.
    pub fn add(&mut self, stage: &str, result: Result<()>, message: &str) -> bool {
        let ok = result.is_ok();
        let message = result.err().map_or_else(|| message.to_string(), |error| error.to_string());
        self.0.push(TestStage { stage: stage.into(), ok, message });
        ok
    }
    pub fn done(self) -> Vec<TestStage> {
        self.0
    }
}

/// What a sink that can do both is to guarantee.
pub(crate) fn delivery(ctx: &SinkContext) -> Delivery {
    ctx.delivery.unwrap_or(Delivery::ExactlyOnce)
}

/// Refuses exactly-once for a sink that cannot: `connector` in messages.
pub(crate) fn only_at_least_once(connector: &str, ctx: &SinkContext) -> Result<()> {
    match ctx.delivery {
        Some(Delivery::ExactlyOnce) => {
            Err(Error::new(Code::ConflictingOptions, format!("connector {connector} cannot deliver exactly once"))
                .with_hint("use delivery = 'at_least_once', or another connector")
                .with_field("delivery"))
        }
        _ => Ok(()),
    }
}

/// The error for writing to a connector that only reads.
pub(crate) fn no_sink(connector: &str) -> Error {
    Error::new(Code::NotSupported, format!("connector {connector} cannot be written to"))
}

/// The error for reading a connector that only writes.
pub(crate) fn no_source(connector: &str) -> Error {
    Error::new(Code::NotSupported, format!("connector {connector} cannot be read"))
}

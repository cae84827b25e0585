//! Brings back pipelines that should run and have no job: because the metadata database was away when they were to start,
//! or because a stop took longer than the statement that asked for it waited.
//!
//! The rule: **a pipeline that is wanted has a job that has not been stopped.** A job that failed or finished is not brought
//! back; that is for its restart policy and its user. Who stops a wanted job for a moment holds `changing`.

use std::sync::Arc;
use std::time::Duration;

use laminar_controller::{FirstStart, Phase};
use laminar_core::Result;
use laminar_engine::job::Restore;
use laminar_metastore::DesiredState;

use crate::System;
use crate::catalog::Pipeline;

/// Between two looks, at what is in memory: a job may end, and the database come back, without telling anybody here.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two tries, at most, while they fail.
const MAX_PAUSE: Duration = Duration::from_secs(15);

impl System {
    /// Looks, for as long as the system lives.
    pub(crate) fn keep_running(self: &Arc<Self>) {
        let system = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                let Some(system) = system.upgrade().filter(|system| !system.is_closing()) else { return };
                pause = match system.bring_back().await {
                    Ok(()) => PAUSE,
                    Err(_) => (pause * 2).min(MAX_PAUSE),
                };
            }
        });
    }

    /// Errors: why the first of those that could not be brought back could not.
    async fn bring_back(self: &Arc<Self>) -> Result<()> {
        if !self.catalog().pipelines.values().any(|p| self.is_missing(p)) {
            return Ok(());
        }
        let _guard = self.changing.lock().await;
        let mut result = Ok(());
        for pipeline in self.catalog().pipelines.values().filter(|p| self.is_missing(p)) {
            match self.launch(pipeline, FirstStart::MayBeRetried, Restore::Latest).await {
                Ok(_) => tracing::info!(pipeline = %pipeline.name, "the pipeline is brought back"),
                Err(error) => {
                    tracing::warn!(pipeline = %pipeline.name, %error, "the pipeline should run and cannot be started yet");
                    result = result.and(Err(error));
                }
            }
        }
        result
    }

    fn is_missing(&self, pipeline: &Pipeline) -> bool {
        let phase = self.controller.latest(&pipeline.id).map(|job| job.status().phase);
        pipeline.desired == DesiredState::Running && phase.is_none_or(|phase| phase == Phase::Stopped)
    }
}

//! The life of a job: start, restart after failure, stop.
//!
//! ```text
//!  session ── start / stop ──► Controller ──► one driver per running pipeline ──► engine::Job
//!                                  ▲               │ events: transition::step decides, the driver acts
//!                                  └── status ─────┤
//!                                                  └──► Recorder ──► metastore (a cache; may be down)
//! ```
//!
//! Nothing here knows SQL or HTTP. A graph is planned anew at each launch by the [`GraphFactory`] the session gives.
//!
//! Reading order: `transition` (what follows what), `job` (what a job is told and tells), `driver` (the loop), `recorder`
//! (the cache in the metadata database), `service` (the door).

mod driver;
mod job;
mod recorder;
mod service;
pub mod transition;

pub use job::{GraphFactory, JobHandle, JobSpec, JobStatus};
pub use service::{Controller, ControllerConfig};
pub use transition::{FirstStart, OnFailure, Phase, RestartPolicy};

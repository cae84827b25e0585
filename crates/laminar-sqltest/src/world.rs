//! A whole system that a test can use, stop and start again: SQLite in a temporary folder, checkpoints beside it, the memory
//! connector inside the process.
//!
//! The memory connector's logs are the outside world: they outlive each life of the system.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use laminar_connectors::memory::MemoryLogs;
use laminar_connectors::{Registry, Surroundings};
use laminar_core::Error;
use laminar_core::time::{SharedClock, SystemClock};
use laminar_metastore::SecretKey;
use laminar_session::{Defaults, PipelineInfo, Session, System, SystemConfig};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::mode::Mode;

/// How long a pipeline may take to do what the test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The state of a pipeline has no event to wait for from outside: it is asked for, as a user would.
pub(crate) const POLL: Duration = Duration::from_millis(20);

pub struct World {
    mode: Mode,
    folder: TempDir,
    pub logs: MemoryLogs,
    registry: Arc<Registry>,
    key: SecretKey,
    pub(crate) system: Arc<System>,
    pub(crate) session: Session,
}

impl World {
    pub async fn start(mode: Mode) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let logs = MemoryLogs::default();
        let registry = Arc::new(Registry::with(Surroundings { memory: logs.clone(), ..Surroundings::default() }));
        let key = SecretKey::random()?;
        let system = open(mode, folder.path(), &registry, &key).await?;
        let session = system.session();
        Ok(Self { mode, folder, logs, registry, key, system, session })
    }

    /// Stops the system, jobs with a checkpoint, and starts it again on what it left.
    pub async fn restart(&mut self) -> Result<()> {
        self.system.shutdown().await;
        self.system = open(self.mode, self.folder.path(), &self.registry, &self.key).await?;
        self.session = self.system.session();
        self.settle().await
    }

    /// Waits until every pipeline that was resumed runs or has ended: its result is then what it was.
    async fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pipelines = self.system.pipelines().await?;
            let starting =
                pipelines.iter().find(|p| matches!(p.state.as_str(), "created" | "scheduling" | "recovering"));
            let Some(starting) = starting else { return Ok(()) };
            ensure!(Instant::now() < deadline, "pipeline {} is {}", starting.name, starting.state);
            tokio::time::sleep(POLL).await;
        }
    }

    pub async fn shutdown(&self) {
        self.system.shutdown().await;
    }

    /// Runs the statements; returns the rows of them all.
    pub async fn execute(&mut self, sql: &str) -> Result<Vec<RecordBatch>, Error> {
        drain(self.session.run_script(sql).await?).await
    }

    /// What the query answers, one line a row.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for batch in self.execute(sql).await? {
            rows.extend(lines(&batch)?);
        }
        Ok(rows)
    }

    /// Waits for the state and returns the job's id.
    pub async fn wait(&self, pipeline: &str, state: &str) -> Result<String> {
        let info = self.wait_for(pipeline, &[state], PATIENCE).await?;
        Ok(info.job_id.unwrap_or_default())
    }

    /// Waits until the pipeline is in one of the states.
    pub async fn wait_for(&self, pipeline: &str, states: &[&str], patience: Duration) -> Result<PipelineInfo> {
        let deadline = Instant::now() + patience;
        loop {
            let info = self.system.pipeline(pipeline).await?;
            if states.contains(&info.state.as_str()) {
                return Ok(info);
            }
            // It would recover, and panic again.
            let panicked = info.failure_message.as_deref().is_some_and(|message| message.contains("panicked"));
            let ended = ["failed", "stopped", "finished"].contains(&info.state.as_str());
            let over = ended || panicked || Instant::now() > deadline;
            let wanted = states.join(" or ");
            ensure!(!over, "pipeline {pipeline} is {}, not {wanted}: {:?}", info.state, info.failure_message);
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn open(mode: Mode, folder: &Path, registry: &Arc<Registry>, key: &SecretKey) -> Result<Arc<System>> {
    let clock: SharedClock = Arc::new(SystemClock);
    let url = format!("sqlite:{}", folder.join("laminar.db").display());
    let config = SystemConfig {
        metastore: laminar_metastore::connect(&url, key.clone(), Arc::clone(&clock)).await?,
        state_url: folder.join("state").display().to_string(),
        registry: Arc::clone(registry),
        clock,
        defaults: Defaults {
            parallelism: mode.parallelism(),
            checkpoint_interval: Duration::from_millis(50),
            preview_timeout: Duration::from_secs(3),
            ..Defaults::default()
        },
        environment: Default::default(),
        allow_env: false,
        crash: mode.crash()?,
    };
    Ok(System::start(config).await?)
}

async fn drain(outcomes: Vec<laminar_session::Outcome>) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    for outcome in outcomes {
        batches.extend(outcome.collect().await?);
    }
    Ok(batches)
}

/// One line a row: values between single blanks, `NULL`, `(empty)` for an empty text.
pub fn lines(batch: &RecordBatch) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let value = |column: &ArrayFormatter<'_>, row: usize| match column.value(row).to_string() {
        text if text.is_empty() => "(empty)".to_string(),
        text => text.replace('\n', "\\n"),
    };
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|c| value(c, row)).collect::<Vec<_>>().join(" ")).collect())
}

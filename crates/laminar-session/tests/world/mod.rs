//! A system for tests: SQLite and checkpoints in a temporary folder, the memory connector's logs in the test's hands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests: a failure is the test's

mod outage;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use laminar_connectors::memory::MemoryLogs;
use laminar_connectors::{Registry, Surroundings};
use laminar_core::time::{SharedClock, SystemClock};
use laminar_core::{Code, Error, JobId, PipelineId};
use laminar_engine::crash::CrashPoints;
use laminar_metastore::{NewJob, SecretKey};
use laminar_session::{Defaults, Notice, Outcome, Session, System, SystemConfig};
use outage::{Outage, Switch};
use tempfile::TempDir;

pub struct World {
    pub logs: MemoryLogs,
    pub system: Arc<System>,
    pub session: Session,
    pub database: Switch,
    pub folder: TempDir,
    registry: Arc<Registry>,
    key: SecretKey,
}

#[allow(dead_code)] // each test file uses its part
impl World {
    pub async fn new() -> Self {
        let logs = MemoryLogs::default();
        let registry = Arc::new(Registry::with(Surroundings { memory: logs.clone(), ..Surroundings::default() }));
        let folder = tempfile::tempdir().unwrap();
        let key = SecretKey::random().unwrap();
        let database = Switch::default();
        let system = open(&folder, &registry, &key, &database, CrashPoints::default()).await;
        let session = system.session();
        Self { logs, system, session, database, folder, registry, key }
    }

    /// Stops the system and starts another one over the same database, checkpoints and outside world.
    pub async fn restart(&mut self, crash: CrashPoints) {
        self.system.shutdown().await;
        self.system = open(&self.folder, &self.registry, &self.key, &self.database, crash).await;
        self.session = self.system.session();
    }

    /// Leaves a job of the pipeline as a server does that is killed.
    pub async fn leave_running_job(&self, pipeline: &str) {
        let pipeline_id = PipelineId::new(self.system.pipeline(pipeline).await.unwrap().id);
        let id = JobId::new("left");
        let url = format!("sqlite:{}", self.folder.path().join("laminar.db").display());
        let metastore = laminar_metastore::connect(&url, self.key.clone(), Arc::new(SystemClock)).await.unwrap();
        metastore.create_job(NewJob { id, pipeline_id, state: "Running".to_string() }).await.unwrap();
    }

    pub async fn run(&mut self, sql: &str) -> Vec<Outcome> {
        match self.session.run_script(sql).await {
            Ok(outcomes) => outcomes,
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    /// The code and message that the script fails with.
    pub async fn fails(&mut self, sql: &str) -> (Code, String) {
        let error = match self.session.run_script(sql).await {
            Ok(outcomes) => collect(outcomes).await.expect_err("the script should fail"),
            Err(error) => error,
        };
        (error.code(), error.message().to_string())
    }

    /// Rows of the last statement: values between blanks.
    pub async fn rows(&mut self, sql: &str) -> Vec<String> {
        let last = self.run(sql).await.pop().unwrap();
        text(&last.collect().await.unwrap())
    }

    pub async fn state(&self, pipeline: &str) -> String {
        self.system.pipeline(pipeline).await.unwrap().state
    }

    /// Waits, within limits, until the pipeline is in the state.
    pub async fn until(&self, pipeline: &str, state: &str) {
        let reached = async {
            while self.state(pipeline).await != state {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), reached).await.is_err() {
            panic!("{:?}", self.system.pipeline(pipeline).await);
        }
    }

    /// Waits, within limits, until the log has so many records.
    pub async fn records(&self, log: &str, count: usize) -> Vec<String> {
        let reached = self.logs.wait_for(log, count);
        if tokio::time::timeout(Duration::from_secs(20), reached).await.is_err() {
            panic!("{log} has {:?}", self.logs.records(log));
        }
        let mut records = self.logs.records(log);
        records.sort();
        records
    }
}

pub async fn collect(outcomes: Vec<Outcome>) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    for outcome in outcomes {
        batches.extend(outcome.collect().await?);
    }
    Ok(batches)
}

#[allow(dead_code)]
pub fn notices(outcome: &Outcome) -> Vec<String> {
    let (Outcome::Done { notices, .. } | Outcome::Rows { notices, .. }) = outcome;
    notices.iter().map(|Notice { code, .. }| code.clone()).collect()
}

pub fn text(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" "));
        }
    }
    lines
}

async fn open(
    folder: &TempDir,
    registry: &Arc<Registry>,
    key: &SecretKey,
    database: &Switch,
    crash: CrashPoints,
) -> Arc<System> {
    let clock: SharedClock = Arc::new(SystemClock);
    let url = format!("sqlite:{}", folder.path().join("laminar.db").display());
    let inner = laminar_metastore::connect(&url, key.clone(), Arc::clone(&clock)).await.unwrap();
    let config = SystemConfig {
        metastore: Arc::new(Outage { inner, switch: database.clone() }),
        state_url: folder.path().join("state").display().to_string(),
        registry: Arc::clone(registry),
        clock,
        defaults: Defaults {
            checkpoint_interval: Duration::from_millis(50),
            preview_timeout: Duration::from_millis(500),
            ..Defaults::default()
        },
        environment: [("HOME_TOWN".to_string(), "bern".to_string())].into(),
        allow_env: false,
        crash,
    };
    System::start(config).await.unwrap()
}

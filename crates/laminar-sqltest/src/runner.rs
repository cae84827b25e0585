//! Runs one `.slt` file in one mode, on a system of its own: SQLite in a temporary folder, checkpoints beside it, the
//! memory connector inside the process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
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
use crate::script::{self, Expected, Kind, Record};

/// How long a pipeline may take to do what the file waits for.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Runs the file; the error says which line failed and how.
pub async fn run_file(path: &Path, mode: Mode) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let records = script::parse(&text).with_context(|| path.display().to_string())?;
    let mut world = World::start(mode).await?;
    for record in &records {
        let result = world.run(record).await;
        result.with_context(|| format!("{}:{} in mode {mode:?}", path.display(), record.line))?;
        if mode.restarts() {
            world.restart().await?;
        }
    }
    world.system.shutdown().await;
    Ok(())
}

/// Writes what the queries answer at parallelism 1 into the file, for a person to read and accept.
pub async fn update_file(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let mut world = World::start(Mode::Plain).await?;
    let mut answers = Vec::new();
    for record in &script::parse(&text)? {
        match &record.kind {
            Kind::Query { sql, rowsort, eventually, rows } => {
                if *eventually {
                    world.query_eventually(sql, *rowsort, rows).await.ok();
                }
                answers.push(world.query(sql, *rowsort).await?);
            }
            _ => world.run(record).await.with_context(|| format!("{}:{}", path.display(), record.line))?,
        }
    }
    world.system.shutdown().await;
    std::fs::write(path, script::with_rows(&text, &answers))?;
    Ok(())
}

/// A system of its own, in a temporary folder.
pub struct World {
    mode: Mode,
    folder: TempDir,
    /// The memory connector's logs: the outside world, which outlives the system.
    logs: MemoryLogs,
    registry: Arc<Registry>,
    key: SecretKey,
    system: Arc<System>,
    session: Session,
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

    /// Runs a script; the rows of its queries.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        let outcomes = self.session.run_script(sql).await?;
        Ok(drain(outcomes).await?)
    }

    /// Ends a log of the memory connector: no rows follow.
    pub fn close(&self, log: &str) {
        self.logs.close(log);
    }

    /// Waits until the pipeline has read its inputs to their end.
    pub async fn finished(&self, pipeline: &str, patience: Duration) -> Result<()> {
        self.wait(pipeline, &["finished"], patience).await.map(drop)
    }

    /// Waits until the pipeline has begun to run; has it ended already?
    pub async fn runs(&self, pipeline: &str) -> Result<bool> {
        Ok(self.wait(pipeline, &["running", "finished"], PATIENCE).await?.state == "running")
    }

    pub async fn shutdown(self) {
        self.system.shutdown().await;
    }

    async fn restart(&mut self) -> Result<()> {
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

    async fn run(&mut self, record: &Record) -> Result<()> {
        match &record.kind {
            Kind::Statement { sql, expected } => self.statement(sql, expected).await,
            Kind::Query { sql, rowsort, eventually: false, rows } => {
                let actual = self.query(sql, *rowsort).await?;
                check_rows(&actual, rows, *rowsort)
            }
            Kind::Query { sql, rowsort, eventually: true, rows } => self.query_eventually(sql, *rowsort, rows).await,
            Kind::Close(logs) => {
                logs.iter().for_each(|log| self.close(log));
                Ok(())
            }
            Kind::WaitFinished(pipeline) => self.finished(pipeline, PATIENCE).await,
            Kind::WaitFailed(pipeline, code) => {
                let job = self.wait(pipeline, &["failed"], PATIENCE).await?.job_id.unwrap_or_default();
                let actual = self.system.job(&job).await?.failure_code.unwrap_or_default();
                ensure!(actual == *code, "the pipeline failed with {actual}, not {code}");
                Ok(())
            }
        }
    }

    async fn statement(&mut self, sql: &str, expected: &Expected) -> Result<()> {
        let result = match self.session.run_script(sql).await {
            // an error may come with the rows
            Ok(outcomes) => drain(outcomes).await,
            Err(error) => Err(error),
        };
        match (expected, result) {
            (Expected::Ok, Ok(_)) => Ok(()),
            (Expected::Ok, Err(error)) => bail!("{error:?}"),
            (Expected::Error { code, .. }, Ok(_)) => bail!("it should fail with {code}, and did not"),
            (Expected::Error { code, words }, Err(error)) => {
                let text = format!("{error:?}");
                ensure!(error.code().as_str() == code && text.contains(words), "it failed otherwise: {text}");
                Ok(())
            }
        }
    }

    async fn query(&mut self, sql: &str, rowsort: bool) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for batch in self.rows(sql).await? {
            rows.extend(lines(&batch)?);
        }
        if rowsort {
            rows.sort();
        }
        Ok(rows)
    }

    async fn query_eventually(&mut self, sql: &str, rowsort: bool, rows: &[String]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let actual = self.query(sql, rowsort).await?;
            match check_rows(&actual, rows, rowsort) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Waits until the pipeline is in one of the states.
    async fn wait(&self, pipeline: &str, states: &[&str], patience: Duration) -> Result<PipelineInfo> {
        let deadline = Instant::now() + patience;
        loop {
            let info = self.system.pipeline(pipeline).await?;
            if states.contains(&info.state.as_str()) {
                return Ok(info);
            }
            let over = ["failed", "stopped", "finished"].contains(&info.state.as_str()) || Instant::now() > deadline;
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
fn lines(batch: &RecordBatch) -> Result<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let value = |column: &ArrayFormatter<'_>, row: usize| match column.value(row).to_string() {
        text if text.is_empty() => "(empty)".to_string(),
        text => text.replace('\n', "\\n"),
    };
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|c| value(c, row)).collect::<Vec<_>>().join(" ")).collect())
}

fn check_rows(actual: &[String], expected: &[String], rowsort: bool) -> Result<()> {
    let mut expected = expected.to_vec();
    if rowsort {
        expected.sort();
    }
    ensure!(actual == expected, "expected:\n{}\nactual:\n{}", expected.join("\n"), actual.join("\n"));
    Ok(())
}

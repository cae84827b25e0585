//! Runs one `.slt` file in one mode, in a world of its own.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use crate::mode::Mode;
use crate::script::{self, Expected, Kind, Record};
use crate::world::{PATIENCE, POLL, World};

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
    world.shutdown().await;
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
    world.shutdown().await;
    std::fs::write(path, script::with_rows(&text, &answers))?;
    Ok(())
}

impl World {
    async fn run(&mut self, record: &Record) -> Result<()> {
        match &record.kind {
            Kind::Statement { sql, expected } => self.statement(sql, expected).await,
            Kind::Query { sql, rowsort, eventually: false, rows } => {
                let actual = self.query(sql, *rowsort).await?;
                check_rows(&actual, rows, *rowsort)
            }
            Kind::Query { sql, rowsort, eventually: true, rows } => self.query_eventually(sql, *rowsort, rows).await,
            Kind::Close(logs) => {
                logs.iter().for_each(|log| self.logs.close(log));
                Ok(())
            }
            Kind::WaitFinished(pipeline) => self.wait(pipeline, "finished").await.map(drop),
            Kind::WaitFailed(pipeline, code) => {
                let job = self.wait(pipeline, "failed").await?;
                let actual = self.system.job(&job).await?.failure_code.unwrap_or_default();
                ensure!(actual == *code, "the pipeline failed with {actual}, not {code}");
                Ok(())
            }
        }
    }

    async fn statement(&mut self, sql: &str, expected: &Expected) -> Result<()> {
        let result = self.execute(sql).await;
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
        let mut rows = self.rows(sql).await?;
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
}

fn check_rows(actual: &[String], expected: &[String], rowsort: bool) -> Result<()> {
    let mut expected = expected.to_vec();
    if rowsort {
        expected.sort();
    }
    ensure!(actual == expected, "expected:\n{}\nactual:\n{}", expected.join("\n"), actual.join("\n"));
    Ok(())
}

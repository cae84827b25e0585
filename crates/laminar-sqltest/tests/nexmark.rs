//! The queries of the Nexmark benchmark: what a pipeline makes of the stream is what DataFusion makes of all its rows.
//!
//! `nexmark/q*.sql` are the pipelines. A query with what only streams have, such as windows, has a second text `.batch.sql`; the
//! others are run as they are. A pipeline that is stopped and started on its way must come to the same. `LAMINAR_NEXMARK_EVENTS` makes the stream longer, `LAMINAR_NEXMARK_ONLY=q5` picks one query.

#![allow(clippy::expect_used)] // outside a #[test] function, but only called by them

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use laminar_sqltest::{Mode, World};

const QUERIES: usize = 23;
const EVENTS: u64 = 5_000;
/// Several batches of bids, so that groups change and windows close in between.
const BATCH_SIZE: u64 = 500;
/// A long stream takes long.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a pipeline is stopped on its way.
const STOPS: usize = 3;
const TABLES: [&str; 4] = ["person", "auction", "bid", "side_input"];
/// Every row of a result is kept.
const OPTIONS: &str = "retain_rows = 1000000000, checkpoint_interval = '1s'";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/nexmark")
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Rows, and how often each is there.
type Counts = BTreeMap<String, usize>;

/// A value as text: of a float nine digits, as sums are added up in another order.
fn values(column: &ArrayRef) -> Result<Vec<String>> {
    if let DataType::Float64 = column.data_type() {
        let floats = column.as_primitive::<Float64Type>();
        return Ok(floats.iter().map(|v| v.map_or("NULL".to_string(), |v| format!("{v:.8e}"))).collect());
    }
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    Ok((0..column.len()).map(|row| formatter.value(row).to_string()).collect())
}

fn counts(batches: &[RecordBatch]) -> Result<Counts> {
    let mut counts = Counts::new();
    for batch in batches {
        let columns = batch.columns().iter().map(values).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let row: Vec<&str> = columns.iter().filter_map(|c| c.get(row)).map(String::as_str).collect();
            *counts.entry(row.join(" | ")).or_default() += 1;
        }
    }
    Ok(counts)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Straight,
    /// With stops and starts in between.
    Halting,
}

/// The benchmark's tables as a pipeline reads them, and all their rows for DataFusion.
async fn tables(world: &mut World) -> Result<SessionContext> {
    let events = std::env::var("LAMINAR_NEXMARK_EVENTS").map_or(Ok(EVENTS), |events| events.parse())?;
    let script = text(&folder().join("tables.sql"))?;
    world
        .execute(&script.replace("$events", &events.to_string()).replace("$batch_size", &BATCH_SIZE.to_string()))
        .await?;
    world.logs.close("side_input");
    let batch = SessionContext::new();
    for table in TABLES {
        let rows = run(world, "all_rows", &format!("SELECT * FROM {table}"), Way::Straight).await?;
        let schema = rows.first().context("no rows")?.schema();
        batch.register_table(table, Arc::new(MemTable::try_new(schema, vec![rows])?))?;
    }
    Ok(batch)
}

/// What is left when a pipeline of this query has ended.
async fn run(world: &mut World, name: &str, query: &str, way: Way) -> Result<Vec<RecordBatch>> {
    world.execute(&format!("CREATE PIPELINE {name} WITH ({OPTIONS}) AS {query}")).await?;
    if way == Way::Halting {
        for _ in 0..STOPS {
            if world.wait_for(name, &["running", "finished"], PATIENCE).await?.state == "running" {
                world.execute(&format!("STOP PIPELINE {name} WITH CHECKPOINT; START PIPELINE {name}")).await?;
            }
        }
    }
    world.wait_for(name, &["finished"], PATIENCE).await?;
    let rows = world.execute(&format!("SELECT * FROM {name}")).await?;
    world.execute(&format!("DROP PIPELINE {name}")).await?;
    Ok(rows)
}

async fn check_query(world: &mut World, batch: &SessionContext, name: &str, way: Way) -> Result<()> {
    let query = text(&folder().join(format!("{name}.sql")))?;
    let alone = folder().join(format!("{name}.batch.sql"));
    let batch_query = if alone.exists() { text(&alone)? } else { query.clone() };
    let expected = counts(&batch.sql(&batch_query).await.context("the batch query")?.collect().await?)?;
    ensure!(!expected.is_empty(), "the batch query has no rows");
    let actual = counts(&run(world, name, &query, way).await?)?;
    let differing = |a: &Counts, b: &Counts| {
        let rows: Vec<_> =
            a.iter().filter(|(row, n)| b.get(*row) != Some(n)).map(|(r, n)| format!("{n} x {r}")).collect();
        format!("{} rows, such as\n{}", rows.len(), rows.iter().take(5).cloned().collect::<Vec<_>>().join("\n"))
    };
    ensure!(
        actual == expected,
        "missing {}\nnot expected {}",
        differing(&expected, &actual),
        differing(&actual, &expected)
    );
    Ok(())
}

/// Runs all queries, then reports all that failed.
async fn check(mode: Mode, way: Way) {
    let mut world = World::start(mode).await.expect("a system");
    let batch = tables(&mut world).await.expect("the tables");
    let only = std::env::var("LAMINAR_NEXMARK_ONLY").ok();
    let mut failures = Vec::new();
    for name in (0..QUERIES).map(|number| format!("q{number}")) {
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let started = Instant::now();
        if let Err(error) = check_query(&mut world, &batch, &name, way).await {
            failures.push(format!("{name}: {error:?}"));
        }
        println!("{name}: {} ms", started.elapsed().as_millis());
    }
    world.shutdown().await;
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_parallelism_one() {
    check(Mode::Plain, Way::Straight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_parallelism_four() {
    check(Mode::Parallel, Way::Straight).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_stops_on_the_way() {
    check(Mode::Parallel, Way::Halting).await;
}

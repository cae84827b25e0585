//! One set of rows and some queries: run by pipelines of one system, and by DataFusion; the results compared.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use laminar_core::Code;
use laminar_sqltest::{Mode, World, lines};
use proptest::prelude::*;

use crate::data::Table;
use crate::query::Generator;
use crate::relation::Relation;

/// Before a restart.
const READING: Duration = Duration::from_millis(50);

pub struct Case {
    pub a: Table,
    pub b: Table,
    pub setting: Setting,
    /// One per query.
    pub tapes: Vec<Vec<u8>>,
}

/// How the rows reach the pipelines.
#[derive(Clone, Debug)]
pub struct Setting {
    mode: Mode,
    parallelism: usize,
    partitions: usize,
    batch_size: usize,
    /// Each table comes in so many pieces, with a restart after each if the mode says so.
    chunks: usize,
}

impl Setting {
    pub fn any() -> impl Strategy<Value = Self> {
        let mode = prop_oneof![6 => Just(Mode::Plain), 2 => Just(Mode::Restore), 1 => Just(Mode::Crash)];
        let (parallelism, partitions) = (prop_oneof![Just(1_usize), Just(4)], prop_oneof![Just(1_usize), Just(3)]);
        let batch_size = prop_oneof![Just(1000_usize), Just(7), Just(1)];
        (mode, parallelism, partitions, batch_size, 1..4_usize).prop_map(
            |(mode, parallelism, partitions, batch_size, chunks)| Self {
                mode,
                parallelism,
                partitions,
                batch_size,
                chunks,
            },
        )
    }
}

#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub all: usize,
    pub refused: usize,
    /// The batch failed: the query itself has no answer.
    pub unanswered: usize,
    pub empty: usize,
}

#[derive(Default)]
pub struct Outcome {
    pub counts: Counts,
    /// Which query failed, and how.
    pub failures: Vec<(usize, String)>,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.empty += other.empty;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all, refused, unanswered, empty } = self;
        write!(f, "{all} queries, {refused} refused, {unanswered} that a batch cannot answer, {empty} without rows")
    }
}

struct Query {
    name: String,
    views: Vec<String>,
    relation: Relation,
}

impl Case {
    pub async fn run(&self) -> Result<Outcome> {
        let sizes = [("a", self.a.len()), ("b", self.b.len())];
        let query = |(i, tape): (usize, &Vec<u8>)| {
            let mut generator = Generator::new(tape, sizes, format!("p{i}"));
            let depth = 1 + generator.choices.below(3);
            let relation = generator.relation(depth);
            Query { name: format!("p{i}"), views: generator.views, relation }
        };
        let queries: Vec<Query> = self.tapes.iter().enumerate().map(query).collect();
        let mut outcome = Outcome::default();
        let mut world = World::start(self.setting.mode).await?;
        for (name, _) in sizes {
            world.execute(&self.create_table(name)).await?;
        }
        let mut running = Vec::new();
        for (i, query) in queries.iter().enumerate() {
            outcome.counts.all += 1;
            match create(&mut world, query, self.setting.parallelism).await {
                Ok(()) => running.push(i),
                Err(error) if error.code() == Code::NotSupported => {
                    outcome.counts.refused += 1;
                    if std::env::var("LAMINAR_SHOW").is_ok() {
                        eprintln!("refused: {error}\n{}", query.relation.sql.stream);
                    }
                }
                Err(error) => outcome.failures.push((i, self.failure(query, &format!("not created: {error:?}")))),
            }
        }
        self.feed(&mut world).await?;
        let batch = self.batch()?;
        for i in running {
            let query = &queries[i];
            let expected = match answer(&batch, query).await {
                Ok(rows) => rows,
                Err(error) => {
                    outcome.counts.unanswered += 1;
                    if std::env::var("LAMINAR_SHOW").is_ok() {
                        eprintln!("unanswered: {error}\n{}", query.relation.sql.batch);
                    }
                    continue;
                }
            };
            outcome.counts.empty += usize::from(expected.is_empty());
            match result(&mut world, query).await {
                Ok(actual) if actual == expected => {}
                Ok(actual) => {
                    let rows = |rows: &[String]| rows.join("\n  ");
                    let text = format!("the batch has\n  {}\nthe stream has\n  {}", rows(&expected), rows(&actual));
                    outcome.failures.push((i, self.failure(query, &text)));
                }
                Err(error) => outcome.failures.push((i, self.failure(query, &format!("{error:#}")))),
            }
        }
        world.shutdown().await;
        Ok(outcome)
    }

    fn create_table(&self, name: &str) -> String {
        let Setting { partitions, batch_size, .. } = self.setting;
        format!(
            "CREATE TABLE {name} (id BIGINT, k TEXT, v BIGINT, d DECIMAL(10, 2), at TIMESTAMP, \
             WATERMARK FOR at AS at - INTERVAL '5 seconds') \
             WITH (connector = 'memory', type = 'source', format = 'json', partitions = {partitions}, \
             batch_size = {batch_size})"
        )
    }

    async fn feed(&self, world: &mut World) -> Result<()> {
        let chunks = self.setting.chunks;
        let restarts = matches!(self.setting.mode, Mode::Restore | Mode::Crash);
        for chunk in 0..chunks {
            for (name, table) in [("a", &self.a), ("b", &self.b)] {
                world.logs.append_json(name, &table.json(chunk, chunks))?;
                if restarts && (name, chunk + 1) != ("b", chunks) {
                    // Some rows are read before the checkpoint, some after it: which is left to chance.
                    tokio::time::sleep(READING).await;
                    world.restart().await?;
                }
            }
        }
        world.logs.close("a");
        world.logs.close("b");
        Ok(())
    }

    fn batch(&self) -> Result<SessionContext> {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let ctx = SessionContext::new_with_config(config);
        for (name, table) in [("a", &self.a), ("b", &self.b)] {
            let rows = table.batch();
            ctx.register_table(name, Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))?;
        }
        Ok(ctx)
    }

    fn failure(&self, query: &Query, what: &str) -> String {
        let sql = &query.relation.sql;
        let (a, b) = (self.a.json(0, 1), self.b.json(0, 1));
        format!(
            "{what}\nstream: {} {}\nbatch: {}\n{:?}\na:\n{a}b:\n{b}",
            query.views.join(" "),
            sql.stream,
            sql.batch,
            self.setting
        )
    }
}

async fn create(world: &mut World, query: &Query, parallelism: usize) -> Result<(), laminar_core::Error> {
    for view in &query.views {
        world.execute(view).await?;
    }
    let (name, sql) = (&query.name, &query.relation.sql.stream);
    world.execute(&format!("CREATE PIPELINE {name} WITH (parallelism = {parallelism}) AS {sql}")).await.map(drop)
}

/// The stream's rows, once the pipeline has finished, in the order of their text.
async fn result(world: &mut World, query: &Query) -> Result<Vec<String>> {
    world.wait(&query.name, "finished").await?;
    let columns = query.relation.comparable().stream;
    let mut rows = world.rows(&format!("SELECT {columns} FROM {} AS result", query.name)).await?;
    rows.sort();
    Ok(rows)
}

/// The batch's.
async fn answer(ctx: &SessionContext, query: &Query) -> Result<Vec<String>> {
    let (columns, sql) = (query.relation.comparable().batch, &query.relation.sql.batch);
    let batches = ctx.sql(&format!("SELECT {columns} FROM ({sql}) AS result")).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(lines(batch).map_err(|error| anyhow!("{error}"))?);
    }
    rows.sort();
    Ok(rows)
}

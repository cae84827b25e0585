//! A stream's result is a batch's: random queries over random rows, run by pipelines and by DataFusion alone.
//!
//! ```text
//!  tape ─► query ─┬─ SQL of streams ─► pipelines of a whole system, rows in chunks, restarts between them ─┐
//!  rows ──────────┤                                                                                        ├─► equal?
//!                 └─ plain SQL ──────► DataFusion over tables in memory ───────────────────────────────────┘
//! ```
//!
//! The batch uses nothing of ours: windows are `date_bin` and intervals there. `LAMINAR_CASES` raises the number of queries,
//! `LAMINAR_SEED` chooses others. A failure prints the SQL, the rows and the seed, and then the same for the smallest case
//! that was found to fail.
//!
//! Reading order: `data`, `relation` and `choices`, `query` and its steps (`expression`, `windows`, `sessions`, `joins`, `over`), `case`
//! (both sides).

#![allow(clippy::expect_used)] // outside a #[test] function, but only called by them

mod case;
mod choices;
mod data;
mod expression;
mod joins;
mod over;
mod query;
mod relation;
mod sessions;
mod windows;

use std::time::{Duration, Instant};

use case::{Case, Counts, Setting};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// So many queries run in one system, over the same rows.
const QUERIES: usize = 16;
const DEFAULT_CASES: usize = 500;
/// A smaller failing case is looked for as long.
const SHRINKING: Duration = Duration::from_secs(60);

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn tape() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::num::u8::ANY, 10..120)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streams_result_is_a_batchs() {
    let (cases, first) = (number("LAMINAR_CASES", DEFAULT_CASES), number("LAMINAR_SEED", 1));
    let (started, mut counts, mut failures) = (Instant::now(), Counts::default(), Vec::new());
    for seed in first..first + cases.div_ceil(QUERIES) {
        let mut runner = runner(seed as u64);
        let world = (data::table(), data::table(), Setting::any());
        let world = world.new_tree(&mut runner).expect("rows");
        let tapes: Vec<_> = (0..QUERIES).map(|_| tape().new_tree(&mut runner).expect("a tape")).collect();
        let (a, b, setting) = world.current();
        let case = Case { a, b, setting, tapes: tapes.iter().map(ValueTree::current).collect() };
        let outcome = case.run().await.expect("a system that starts");
        counts.add(&outcome.counts);
        if let Some((index, failure)) = outcome.failures.into_iter().next() {
            let text = format!("seed {seed}, query {index}: {failure}");
            eprintln!("{text}\n");
            failures.push(text);
            if number("LAMINAR_SHRINK", 1) == 1 {
                failures.push(smallest(world, tapes.into_iter().nth(index).expect("the failed tape")).await);
            }
            if failures.len() >= number("LAMINAR_FAILURES", 2) {
                break;
            }
        }
    }
    eprintln!("{counts} in {} s", started.elapsed().as_secs());
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
    assert!(counts.refused * 10 < counts.all, "too many queries were refused: {counts}");
}

/// What the smallest case that still fails prints.
async fn smallest(
    mut world: impl ValueTree<Value = (data::Table, data::Table, Setting)>,
    mut tape: impl ValueTree<Value = Vec<u8>>,
) -> String {
    let (deadline, mut found) = (Instant::now() + SHRINKING, "it did not fail alone".to_string());
    // The query first, then the rows: each until it cannot be made simpler.
    for of_tape in [true, false, true] {
        let mut simplified = true;
        while simplified && Instant::now() < deadline {
            let (a, b, setting) = world.current();
            let case = Case { a, b, setting, tapes: vec![tape.current()] };
            let failure = case.run().await.expect("a system that starts").failures.into_iter().next();
            simplified = match (&failure, of_tape) {
                (Some(_), true) => tape.simplify(),
                (Some(_), false) => world.simplify(),
                (None, true) => tape.complicate(),
                (None, false) => world.complicate(),
            };
            if let Some((_, failure)) = failure {
                found = format!("a smaller case: {failure}");
            }
        }
    }
    found
}

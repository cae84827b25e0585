//! What the stateful operators cost on rows that are already decoded: rows a second of one core.
//!
//! `cargo bench --workspace --bench operators -- [join|aggregate]`. Time is the thread's own CPU time, as the machine may be
//! shared. Input is made before the clock runs; output is counted and dropped.

#![allow(clippy::expect_used)] // a failed benchmark panics

use std::fs;

use laminar_core::Changes;
use laminar_engine::operator::Output;

mod aggregate;
mod join;

pub(crate) const BATCH_ROWS: i64 = 8192;

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    println!("{:<58} {:>12} {:>10} {:>12}", "operators, decoded rows, one core", "M rows/s", "ns/row", "rows out");
    if wanted("aggregate") {
        aggregate::run();
    }
    if wanted("join") {
        join::run();
    }
}

/// Runs it and prints its line. It takes `rows_in` rows, and returns how many come out.
pub(crate) fn measure(name: &str, rows_in: i64, run: impl FnOnce() -> usize) {
    let before = cpu_nanos();
    let rows_out = run();
    let nanos = (cpu_nanos() - before) as f64 / rows_in as f64;
    println!("{name:<58} {:>12.2} {nanos:>10.0} {rows_out:>12}", 1e3 / nanos);
}

/// How many rows were pushed since the last call.
pub(crate) fn rows_of(out: &mut Output) -> usize {
    out.take().iter().map(Changes::num_rows).sum()
}

/// Scrambles a number (the finalizer of SplitMix64).
pub(crate) fn mixed(number: i64) -> i64 {
    let z = number as u64;
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as i64
}

/// CPU time of this thread: the first number that Linux tells of it.
fn cpu_nanos() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number")
}

//! Every `.slt` file in every mode. `LAMINAR_SLT_UPDATE=1` writes what the queries answer into the files instead;
//! `LAMINAR_SLT_ONLY=name` takes only the files with that in their name.

#![allow(clippy::expect_used)] // outside a #[test] function, but only called by them

use std::path::PathBuf;

use laminar_sqltest::{Mode, run_file, update_file};

fn files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let entries = std::fs::read_dir(folder).expect("the folder tests/slt");
    let mut files: Vec<_> =
        entries.map(|e| e.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "slt")).collect();
    let only = std::env::var("LAMINAR_SLT_ONLY").unwrap_or_default();
    files.retain(|file| file.to_string_lossy().contains(&only));
    files.sort();
    files
}

/// Runs all files, then reports all that failed.
async fn check(mode: Mode) {
    let mut failures = Vec::new();
    for file in files() {
        if let Err(error) = run_file(&file, mode).await {
            failures.push(format!("{error:#}"));
        }
    }
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_parallelism_one() {
    if std::env::var("LAMINAR_SLT_UPDATE").is_ok() {
        for file in files() {
            update_file(&file).await.expect("the file's statements run");
        }
    }
    check(Mode::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_parallelism_four() {
    check(Mode::Parallel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_restart_after_every_statement() {
    check(Mode::Restore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_crash_between_publication_and_commit() {
    check(Mode::Crash).await;
}

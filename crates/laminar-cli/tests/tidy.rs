//! The house rules that a machine can check: who may know whom, who owns which outside thing, and the shape of files.
//!
//! The crate graph is the picture of `docs/ARCHITECTURE.md`. A new edge is a decision: draw it there, say why in the
//! commit, then add it here.

// A test may fail by panicking; clippy excuses only the functions marked #[test].
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Crate → the crates of ours that it may use, lowest first.
const ALLOWED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("formats", &["core"]),
    ("connectors", &["core", "formats"]),
    ("state", &["core"]),
    ("engine", &["core", "state"]),
    ("metastore", &["core"]),
    ("planner", &["core", "formats", "connectors", "engine"]),
    ("controller", &["core", "state", "engine", "planner", "metastore"]),
    ("session", &["core", "formats", "connectors", "state", "engine", "planner", "metastore", "controller"]),
    // `planner` for splitting a script into statements and drawing errors
    ("api", &["core", "planner", "session"]),
    // it wires them; `engine` for the crash points, `planner` to split a script into statements
    ("cli", &["core", "connectors", "engine", "planner", "metastore", "session", "api"]),
    ("sqltest", &["core", "connectors", "engine", "planner", "metastore", "session"]),
];

/// Outside thing → the crates that may use its library, in tests too.
const OWNERS: &[(&str, &[&str])] = &[
    ("rdkafka", &["connectors"]),
    ("sqlx", &["metastore"]),
    ("object_store", &["state"]),
    ("axum", &["api"]),
    ("clap", &["cli"]),
    ("sqlparser", &["planner"]),
    // `sqltest` as the other side that a stream is compared with
    ("datafusion", &["engine", "planner", "session", "sqltest"]),
];

const MAX_LINES: usize = 800;

fn metadata() -> Metadata {
    MetadataCommand::new().no_deps().other_options(["--offline".to_string()]).exec().expect("cargo metadata")
}

fn short_name(package: &Package) -> &str {
    package.name.strip_prefix("laminar-").expect("a package of ours is named laminar-…")
}

/// Fails with all findings at once.
fn check(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn crates_know_only_what_the_picture_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut findings = Vec::new();
    for package in &metadata().packages {
        let name = short_name(package);
        let Some(allowed) = allowed.get(name) else {
            findings.push(format!("{name} is not in the picture: add it to ALLOWED and to docs/ARCHITECTURE.md"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            if let Some(other) = dependency.name.strip_prefix("laminar-")
                && !allowed.contains(&other)
            {
                findings.push(format!("{name} depends on {other}, which the picture does not allow"));
            }
        }
    }
    check(findings);
}

#[test]
fn the_picture_has_no_cycle() {
    let mut below = BTreeSet::new();
    for (name, uses) in ALLOWED {
        for used in *uses {
            assert!(below.contains(used), "{name} uses {used}, which stands above it");
        }
        below.insert(name);
    }
}

#[test]
fn each_outside_thing_has_one_owner() {
    let mut findings = Vec::new();
    for package in &metadata().packages {
        let name = short_name(package);
        for dependency in &package.dependencies {
            if let Some((library, owners)) = OWNERS.iter().find(|(library, _)| *library == dependency.name)
                && !owners.contains(&name)
            {
                findings.push(format!("{name} uses {library}; only {} may", owners.join(", ")));
            }
        }
    }
    check(findings);
}

#[test]
fn versions_stand_only_in_the_root_manifest() {
    let mut findings = Vec::new();
    for package in &metadata().packages {
        let text = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        for line in
            text.lines().filter(|line| line.contains("version = \"") || line.contains(" = \"") && is_version(line))
        {
            findings.push(format!("{}: {line}", package.manifest_path));
        }
    }
    check(findings);
}

/// `name = "1.2"`: a dependency with a version of its own.
fn is_version(line: &str) -> bool {
    let value = line.split_once(" = \"").map(|(_, value)| value.trim_start_matches(['^', '=', '~']));
    value.is_some_and(|value| value.starts_with(|c: char| c.is_ascii_digit()))
}

#[test]
fn every_source_file_says_what_it_is_and_is_short() {
    let metadata = metadata();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let folder = package.manifest_path.parent().expect("a manifest is in a folder");
        for file in files(folder.as_std_path(), "rs") {
            let text = std::fs::read_to_string(&file).expect("a readable file");
            let name = file.strip_prefix(metadata.workspace_root.as_std_path()).unwrap_or(&file).display();
            if !text.starts_with("//! ") {
                findings.push(format!("{name}: no header (//! what this is, and the rule that must stay true)"));
            }
            let lines = text.lines().count();
            if lines > MAX_LINES {
                findings.push(format!("{name}: {lines} lines; more than {MAX_LINES} want a seam"));
            }
        }
    }
    check(findings);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = metadata().workspace_root.into_std_path_buf();
    let pages =
        ["docs", "docker-compose", "postman-collections"].iter().flat_map(|folder| files(&root.join(folder), "md"));
    let mut findings = Vec::new();
    for page in pages.chain([root.join("README.md"), root.join("CHANGELOG.md")]) {
        let text = std::fs::read_to_string(&page).expect("a readable page");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = target.split('#').next().unwrap_or(target);
            if !page.parent().is_some_and(|folder| folder.join(path).exists()) {
                findings.push(format!("{}: {target} is not there", page.display()));
            }
        }
    }
    check(findings);
}

/// Rows of the seeds that concern Kafka, formats and bad data: letter, first, last.
const SEED_ROWS: &[(char, u32, u32)] =
    &[('T', 1, 49), ('L', 1, 73), ('E', 1, 65), ('B', 1, 46), ('K', 11, 26), ('K', 39, 46)];

#[test]
fn every_capability_of_the_seeds_has_a_status_and_a_proof() {
    let root = metadata().workspace_root.into_std_path_buf();
    let page = std::fs::read_to_string(root.join("docs/reference/seeds.md")).expect("a readable page");
    let mut missing: BTreeSet<String> = SEED_ROWS
        .iter()
        .flat_map(|(letter, first, last)| (*first..=*last).map(move |n| format!("{letter}{n:02}")))
        .collect();
    let mut findings = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, status, here, proof] = cells.as_slice() else {
            findings.push(format!("four cells wanted: {line}"));
            continue;
        };
        if !missing.remove(*id) {
            findings.push(format!("{id}: no such row, or there twice"));
        }
        match *status {
            "works" | "differs" if here.is_empty() => findings.push(format!("{id}: how is it written?")),
            "works" | "differs" => {
                findings.extend(proof_fault(&root, proof.trim_matches('`')).map(|f| format!("{id}: {f}")))
            }
            "none" if here.is_empty() => findings.push(format!("{id}: why not?")),
            "none" | "open" => {}
            other => findings.push(format!("{id}: no status {other}")),
        }
    }
    findings.extend(missing.into_iter().map(|id| format!("{id} is missing")));
    check(findings);
}

/// What is wrong with `file::test`, a file below `crates/laminar-`.
fn proof_fault(root: &Path, proof: &str) -> Option<String> {
    let (file, test) = proof.split_once("::").map_or((proof, None), |(file, test)| (file, Some(test)));
    let Ok(text) = std::fs::read_to_string(root.join(format!("crates/laminar-{file}"))) else {
        return Some(format!("no file {file}"));
    };
    let has = |test: &str| text.contains(&format!("fn {test}(")) || text.contains(&format!("def {test}("));
    test.filter(|test| !has(test)).map(|test| format!("{file} has no test {test}"))
}

/// All files below `folder` with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

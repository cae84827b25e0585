//! The pages of `docs/reference` are what the code says. `UPDATE_EXPECT=1 cargo test` rewrites them.
//!
//! ```text
//!  options structs ─► JSON schema ─┐
//!  codes!, system tables, clap ────┴─► one page of Markdown each ─► compared with the committed one
//! ```
//!
//! Only in tests: nothing of this is in the binary. The rule that must stay true: a fact stands in a doc comment or a
//! declaration, where it is used; here are only headings and what connects them. Examples are in `examples/`.
//!
//! Reading order: `pages` (what there is), `options` (a JSON schema as a table), `commands` (clap as tables).

// Made for tests, which may fail by panicking.
#![allow(clippy::expect_used)] // only tests are made of it

mod commands;
mod options;
mod pages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const COMMAND: &str = "UPDATE_EXPECT=1 cargo test -p laminar-cli --bin laminar reference";

/// A page: its path below `docs/reference`, without `.md`, and its text.
struct Page {
    path: String,
    title: String,
    /// One sentence: the page's first, and its line in the index.
    about: String,
    body: String,
}

impl Page {
    fn new(path: &str, title: &str, about: &str, body: impl AsRef<str>) -> Self {
        let body = body.as_ref().trim().to_string();
        Self { path: path.to_string(), title: title.to_string(), about: about.to_string(), body }
    }

    fn markdown(&self) -> String {
        let note = "<!-- Made from the code. Change it there; docs/CONTRIBUTING.md says how. -->";
        format!("{note}\n\n# {}\n\n{}\n\n{}\n", self.title, self.about, self.body)
    }
}

/// A table in Markdown.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(head.iter().map(ToString::to_string).collect());
    text.push_str(&format!("|{}\n", "---|".repeat(head.len())));
    rows.into_iter().for_each(|row| text.push_str(&line(row)));
    text
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Codes as a list in words: `` `a`, `b` or `c` ``.
fn any_of(names: &[String]) -> String {
    let codes: Vec<String> = names.iter().map(|n| code(n)).collect();
    match codes.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => codes.concat(),
    }
}

#[test]
fn reference_pages_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let file = |path: &str| folder.join(path).with_extension("md");
    let pages: BTreeMap<PathBuf, String> = pages::all().iter().map(|p| (file(&p.path), p.markdown())).collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        for stale in stored(&folder).iter().filter(|path| !pages.contains_key(*path)) {
            std::fs::remove_file(stale).expect("a page that can be removed");
        }
        for (path, text) in &pages {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder that can be made");
            std::fs::write(path, text).expect("a page that can be written");
        }
    }
    let is_current = |path: &PathBuf, text: &String| std::fs::read_to_string(path).is_ok_and(|stored| stored == *text);
    let old = pages.iter().filter(|(path, text)| !is_current(path, text)).map(|(path, _)| path.clone());
    let stale = stored(&folder).into_iter().filter(|path| !pages.contains_key(path));
    let wrong: Vec<String> = old.chain(stale).map(|path| path.display().to_string()).collect();
    assert!(wrong.is_empty(), "out of date; {COMMAND}\n{}", wrong.join("\n"));
}

/// The made pages that are there, sorted.
fn stored(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(stored(&path));
        } else if path.extension().is_some_and(|e| e == "md")
            && !pages::WRITTEN.iter().any(|(file, ..)| path.ends_with(file))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

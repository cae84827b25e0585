//! Damaged queries: words of the golden files' statements deleted, repeated, swapped and exchanged, with fixed seeds.
//!
//! Whatever comes of it, planning does not panic, and an error is the user's, with a place within the text. `LAMINAR_CASES`
//! damages each statement more often (20 times unless said), `LAMINAR_SEED` in other ways.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use common::Fixture;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};
use laminar_core::Code;
use laminar_core::error::ErrorKind;
use laminar_planner::{Statement, parse};

const CASES: u64 = 20;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Numbers that are the same in each run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

/// The statements of a golden file, in order.
fn statements(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let blocks =
        text.split("\n\n").map(|block| block.lines().skip_while(|line| line.starts_with('#') || line.is_empty()));
    let sql = blocks.filter_map(|mut block| {
        let head = block.next()?;
        let lines = block.take_while(|line| *line != "----").collect::<Vec<_>>().join("\n");
        (head == "statement ok" || head.starts_with("query")).then_some(lines)
    });
    sql.collect()
}

/// What kind of word it is; one can stand where another of its kind does.
fn kind(word: &str) -> u8 {
    match word.chars().next() {
        Some('\'') => 0,
        Some(c) if c.is_ascii_digit() => 1,
        Some(c) if c.is_lowercase() || c == '"' => 2,
        Some(c) if c.is_uppercase() => 3,
        _ => 4,
    }
}

/// The words with one or two mistakes; `others` are those of the whole file.
fn damaged(words: &[String], others: &[String], numbers: &mut Numbers) -> String {
    let mut words = words.to_vec();
    for _ in 0..1 + numbers.below(2) {
        if words.is_empty() {
            break;
        }
        let (one, other) = (numbers.below(words.len()), numbers.below(words.len()));
        match numbers.below(8) {
            0 => drop(words.remove(one)),
            1 => words.insert(other, words[one].clone()),
            2 => words.swap(one, other),
            _ => {
                let same: Vec<_> = others.iter().filter(|word| kind(word) == kind(&words[one])).collect();
                words[one].clone_from(same[numbers.below(same.len())]);
            }
        }
    }
    words.join(" ")
}

/// `Ok`: it is planned. Otherwise what is wrong with the error, if something is.
fn complaint(fixture: &mut Fixture, sql: &str) -> Result<(), Option<String>> {
    let plan = || parse(sql).and_then(|all| all.iter().try_for_each(|s| fixture.run(s).map(drop)));
    let error = match catch_unwind(AssertUnwindSafe(plan)) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => return Err(Some("it panics".to_string())),
    };
    if error.code() == Code::Internal || error.code().kind() == ErrorKind::Internal {
        return Err(Some(format!("not the user's error: {error:?}")));
    }
    let Some(at) = error.location() else { return Err(Some(format!("no place: {error:?}"))) };
    let line = usize::try_from(at.line).ok().and_then(|line| sql.lines().nth(line.checked_sub(1)?)).unwrap_or("");
    let within = at.column >= 1 && at.column <= line.chars().count() as u64 + 1;
    Err((!within).then(|| format!("a place outside of the text: {error:?}")))
}

fn words(sql: &str) -> Option<Vec<String>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().ok()?;
    let is_word =
        |token: &Token| !matches!(token, Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab));
    Some(tokens.iter().filter(|token| is_word(token)).map(ToString::to_string).collect())
}

#[test]
fn damaged_statements_are_planned_or_refused() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../laminar-sqltest/tests/slt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut tried, mut planned, mut complaints) = (0, 0, Vec::new());
    for file in files {
        let mut numbers = Numbers(number("LAMINAR_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut fixture = Fixture::new();
        let all = statements(&file);
        let others: Vec<_> = all.iter().filter_map(|sql| words(sql)).flatten().collect();
        for sql in all {
            let Some(words) = words(&sql).filter(|words| !words.is_empty()) else { continue };
            for _ in 0..number("LAMINAR_CASES", CASES) {
                let sql = damaged(&words, &others, &mut numbers);
                let catalog = fixture.catalog.clone();
                match complaint(&mut fixture, &sql) {
                    Ok(()) => planned += 1,
                    Err(None) => {}
                    Err(Some(complaint)) => complaints.push(format!("{}: {complaint}\n{sql}", file.display())),
                }
                fixture.catalog = catalog;
                tried += 1;
            }
            // what the file means, where this fixture has its connector
            let known = parse(&sql)
                .map(|all| all.into_iter().filter(|s| !matches!(s.statement, Statement::Drop(_))).collect::<Vec<_>>());
            let _ = known.and_then(|all| all.iter().try_for_each(|s| fixture.run(s).map(drop)));
        }
    }
    eprintln!("{tried} statements, {planned} of them planned");
    assert!(tried > 1_000 && planned * 10 > tried, "{planned} of {tried} statements mean something");
    assert!(complaints.is_empty(), "{} of {tried}:\n\n{}", complaints.len(), complaints.join("\n\n"));
}

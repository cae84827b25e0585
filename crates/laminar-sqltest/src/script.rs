//! `.slt` files: records separated by empty lines. Lines that begin with `#` between records are comments.

use anyhow::{Context, Result, bail};

/// One thing to do, and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Of its first line, from 1.
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Statement {
        sql: String,
        expected: Expected,
    },
    Query {
        sql: String,
        /// The rows' order does not count.
        rowsort: bool,
        /// Asked again until it answers as expected, for a while.
        eventually: bool,
        /// One line a row.
        rows: Vec<String>,
    },
    /// Nothing more comes into these logs of the memory connector.
    Close(Vec<String>),
    /// Until the pipeline's job is finished.
    WaitFinished(String),
    /// Until the pipeline's job has failed for good, with this code.
    WaitFailed(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Ok,
    /// The error's code, and words that its text (message, detail, hint, place) contains.
    Error {
        code: String,
        words: String,
    },
}

pub(crate) fn parse(text: &str) -> Result<Vec<Record>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut records = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if line.trim().is_empty() || line.starts_with('#') {
            at += 1;
            continue;
        }
        let end = (at..lines.len()).find(|i| lines.get(*i).is_some_and(|l| l.trim().is_empty())).unwrap_or(lines.len());
        let block = lines.get(at + 1..end).unwrap_or_default();
        let kind = parse_record(line, block).with_context(|| format!("line {}", at + 1))?;
        records.push(Record { line: at + 1, kind });
        at = end;
    }
    Ok(records)
}

fn parse_record(head: &str, block: &[&str]) -> Result<Kind> {
    let words: Vec<&str> = head.split_whitespace().collect();
    match words.as_slice() {
        ["statement", "ok"] => Ok(Kind::Statement { sql: block.join("\n"), expected: Expected::Ok }),
        ["statement", "error", code, words @ ..] => {
            let expected = Expected::Error { code: (*code).to_string(), words: words.join(" ") };
            Ok(Kind::Statement { sql: block.join("\n"), expected })
        }
        ["query", flags @ ..] => {
            if let Some(unknown) = flags.iter().find(|f| !["rowsort", "eventually"].contains(f)) {
                bail!("no flag {unknown}");
            }
            let dashes = block.iter().position(|l| *l == "----").context("a query needs a line ---- and its rows")?;
            let rows = block.iter().skip(dashes + 1).map(ToString::to_string).collect();
            let sql = block.get(..dashes).unwrap_or_default().join("\n");
            Ok(Kind::Query {
                sql,
                rowsort: flags.contains(&"rowsort"),
                eventually: flags.contains(&"eventually"),
                rows,
            })
        }
        ["close", logs @ ..] => Ok(Kind::Close(logs.iter().map(ToString::to_string).collect())),
        ["wait", "finished", pipeline] => Ok(Kind::WaitFinished((*pipeline).to_string())),
        ["wait", "failed", pipeline, code] => Ok(Kind::WaitFailed((*pipeline).to_string(), (*code).to_string())),
        _ => bail!("no such record: {head}"),
    }
}

/// The file's text with the rows of the queries replaced: `rows` has one entry per query, in order.
pub(crate) fn with_rows(text: &str, rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    let mut rows = rows.iter();
    let mut in_query = false;
    let mut skipping = false;
    for line in text.lines() {
        in_query = (in_query && !line.trim().is_empty()) || line.starts_with("query");
        if skipping && line.trim().is_empty() {
            skipping = false;
        }
        if skipping {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if in_query && line == "----" {
            rows.next().into_iter().flatten().for_each(|row| {
                out.push_str(row);
                out.push('\n');
            });
            skipping = true;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# about\nstatement ok\nCREATE\nTABLE t\n\nstatement error unknown_table no nowhere\nSELECT 1\n\nquery rowsort\nSELECT a\n----\n1 x\n2 y\n\nwait finished p\n";

    #[test]
    fn records_are_read() {
        let records = parse(TEXT).unwrap();
        assert_eq!(records.len(), 4);
        assert_eq!(records[0].kind, Kind::Statement { sql: "CREATE\nTABLE t".into(), expected: Expected::Ok });
        let expected = Expected::Error { code: "unknown_table".into(), words: "no nowhere".into() };
        assert_eq!(records[1].kind, Kind::Statement { sql: "SELECT 1".into(), expected });
        let rows = vec!["1 x".to_string(), "2 y".to_string()];
        assert_eq!(records[2].kind, Kind::Query { sql: "SELECT a".into(), rowsort: true, eventually: false, rows });
        assert_eq!(records[3], Record { line: 15, kind: Kind::WaitFinished("p".into()) });
    }

    #[test]
    fn rows_are_replaced_and_nothing_else() {
        let updated = with_rows(TEXT, &[vec!["9 z".to_string()]]);
        assert_eq!(updated, TEXT.replace("1 x\n2 y\n", "9 z\n"));
    }
}

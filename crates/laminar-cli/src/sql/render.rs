//! Answers as text: a table as psql draws it, one block per row (`\x`), JSON, NDJSON or CSV.
//!
//! Rows of a finite answer are held until it ends, so that columns fit; rows that have no end, and those beyond a
//! bound, are drawn as they come with the widths known then. Notices go to stderr: a redirected stdout holds rows only.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row as TableRow, Table, TableStyle, Width,
};
use laminar_api::encode::rows::ColumnInfo;
use serde_json::value::RawValue;

use super::client::{Piece, Row};
use crate::diagnostic::printable;

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns
    #[default]
    Table,
    /// One array of objects per statement
    Json,
    /// One object per line
    Ndjson,
    /// Comma-separated, with a header
    Csv,
}

/// Rows held for a table before it is drawn with the widths known by then.
const ROWS_HELD: usize = 10_000;

/// Writes answers to `out`, and notices to `err`.
pub struct Printer<O, E> {
    pub output: Output,
    /// One block per row instead of a table.
    pub expanded: bool,
    out: O,
    err: E,
    answer: Option<Answer>,
}

/// The statement whose rows are being written.
struct Answer {
    columns: Vec<ColumnInfo>,
    endless: bool,
    held: Vec<Row>,
    written: usize,
    /// Width of each column so far.
    widths: Vec<u16>,
}

impl<O: Write, E: Write> Printer<O, E> {
    pub fn new(output: Output, expanded: bool, out: O, err: E) -> Self {
        Self { output, expanded, out, err, answer: None }
    }

    pub fn piece(&mut self, piece: Piece) -> io::Result<()> {
        match piece {
            Piece::Columns { columns, endless } => {
                let usual = |column: &ColumnInfo| if endless { usual_width(&column.data_type) } else { 0 };
                let widths = columns.iter().map(usual).collect();
                self.answer = Some(Answer { columns, endless, held: Vec::new(), written: 0, widths });
                self.begin()
            }
            Piece::Rows(rows) => self.rows(rows),
            Piece::Notices(notices) => {
                for notice in notices {
                    writeln!(self.err, "NOTICE: {}", printable(&notice.message))?;
                }
                Ok(())
            }
            Piece::Done(done) => match self.finish()? {
                true => Ok(()),
                false if self.output == Output::Table => writeln!(self.out, "{}", done.tag),
                false => Ok(()),
            },
        }
    }

    /// Ends an answer of which no more comes. Rows that did come are shown; a table without any is not an answer.
    pub fn break_off(&mut self) -> io::Result<()> {
        let came = |answer: &Answer| answer.written > 0 || !answer.held.is_empty();
        if self.output == Output::Table && !self.answer.as_ref().is_some_and(came) {
            self.answer = None;
        }
        self.finish().map(drop)
    }

    /// Writes what is held. `false` if no rows were being written.
    pub fn finish(&mut self) -> io::Result<bool> {
        let Some(mut answer) = self.answer.take() else { return Ok(false) };
        match self.output {
            Output::Table => {
                let rows = std::mem::take(&mut answer.held);
                self.write_table(&mut answer, &rows)?;
                let rows = if answer.written == 1 { "row" } else { "rows" };
                writeln!(self.out, "({} {rows})", answer.written)?;
            }
            Output::Json if answer.written == 0 => writeln!(self.out, "[]")?,
            Output::Json => writeln!(self.out, "\n]")?,
            Output::Ndjson | Output::Csv => {}
        }
        self.out.flush()?;
        Ok(true)
    }

    fn begin(&mut self) -> io::Result<()> {
        let (Output::Csv, Some(answer)) = (self.output, &self.answer) else { return Ok(()) };
        let names: Vec<String> = answer.columns.iter().map(|c| csv_field(&c.name)).collect();
        writeln!(self.out, "{}", names.join(","))
    }

    fn rows(&mut self, rows: Vec<Row>) -> io::Result<()> {
        let Some(mut answer) = self.answer.take() else { return Ok(()) };
        match self.output {
            Output::Table => {
                answer.held.extend(rows);
                if answer.endless || answer.held.len() > ROWS_HELD || answer.written > 0 {
                    let rows = std::mem::take(&mut answer.held);
                    self.write_table(&mut answer, &rows)?;
                }
            }
            Output::Json | Output::Ndjson => {
                for row in &rows {
                    let before = match (self.output, answer.written) {
                        (Output::Ndjson, _) => "",
                        (_, 0) => "[\n",
                        _ => ",\n",
                    };
                    let after = if self.output == Output::Ndjson { "\n" } else { "" };
                    write!(self.out, "{before}{}{after}", object(&answer.columns, row))?;
                    answer.written += 1;
                }
            }
            Output::Csv => {
                for row in &rows {
                    let fields: Vec<String> =
                        row.iter().map(|value| text_of(value).map_or_else(String::new, |t| csv_field(&t))).collect();
                    writeln!(self.out, "{}", fields.join(","))?;
                    answer.written += 1;
                }
            }
        }
        if answer.endless {
            self.out.flush()?;
        }
        self.answer = Some(answer);
        Ok(())
    }

    fn write_table(&mut self, answer: &mut Answer, rows: &[Row]) -> io::Result<()> {
        if self.expanded {
            for row in rows {
                answer.written += 1;
                self.write_block(&answer.columns, row, answer.written)?;
            }
            return Ok(());
        }
        if answer.columns.is_empty() || (rows.is_empty() && answer.written > 0) {
            return Ok(());
        }
        let mut table = table(answer, rows);
        for (width, content) in answer.widths.iter_mut().zip(table.column_max_content_widths()) {
            *width = content.max(*width);
        }
        // The header is one line and the line below it another; a later part of the same answer has them already.
        let skip = if answer.written == 0 { 0 } else { 2 };
        table.set_content_arrangement(ContentArrangement::Disabled);
        for line in table.lines().skip(skip) {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        answer.written += rows.len();
        Ok(())
    }

    fn write_block(&mut self, columns: &[ColumnInfo], row: &Row, number: usize) -> io::Result<()> {
        let width = columns.iter().map(|c| c.name.chars().count()).max().unwrap_or_default();
        writeln!(self.out, "-[ {number} ]{}", "-".repeat(width.saturating_sub(number.to_string().len() + 4)))?;
        for (column, value) in columns.iter().zip(row) {
            let mut lines = cell_text(column, value);
            lines = lines.replace('\n', &format!("\n{} | ", " ".repeat(width)));
            writeln!(self.out, "{:<width$} | {lines}", printable(&column.name))?;
        }
        Ok(())
    }
}

/// As psql draws it: ` a | b` and `---+---`.
const PSQL: TableStyle = TableStyle::new()
    .header_lines(comfy_table::ContentLineStyle::none().junction('|'))
    .header_separator(comfy_table::LineStyle::none().fill('-').junction('+'))
    .content_lines(comfy_table::ContentLineStyle::none().junction('|'));

fn table(answer: &Answer, rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(PSQL);
    table.set_header(answer.columns.iter().map(|c| Cell::new(one_line(&c.name))).collect::<Vec<_>>());
    for row in rows {
        let cells = answer.columns.iter().zip(row).map(|(column, value)| Cell::new(cell_text(column, value)));
        table.add_row(TableRow::from(cells.collect::<Vec<_>>()));
    }
    for ((column, info), width) in table.column_iter_mut().zip(&answer.columns).zip(&answer.widths) {
        if is_number(&info.data_type) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        // The width of a column counts its padding, one on each side.
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width.saturating_add(2))));
    }
    table
}

/// Room for what may come, where later rows cannot be waited for.
fn usual_width(data_type: &str) -> u16 {
    match data_type {
        "TIMESTAMP" => 26,
        "BOOLEAN" => 5,
        number if is_number(number) => 8,
        _ => 12,
    }
}

fn is_number(data_type: &str) -> bool {
    let kinds = ["TINYINT", "SMALLINT", "INT", "BIGINT", "REAL", "DOUBLE", "DECIMAL", "FLOAT"];
    let name = data_type.split(['(', ' ']).next().unwrap_or_default();
    kinds.contains(&name) && !data_type.ends_with("[]")
}

/// A value as a person reads it.
fn cell_text(column: &ColumnInfo, value: &RawValue) -> String {
    let Some(text) = text_of(value) else { return "NULL".to_string() };
    let text = if column.data_type == "TIMESTAMP" { text.replacen('T', " ", 1) } else { text };
    text.split('\n').map(|line| printable(line).replace('\t', "    ")).collect::<Vec<_>>().join("\n")
}

fn one_line(text: &str) -> String {
    printable(text).replace('\t', " ")
}

/// The text of a JSON string, or the JSON of anything else; `None` for null.
fn text_of(value: &RawValue) -> Option<String> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'n') => None,
        Some(b'"') => Some(serde_json::from_str(raw).unwrap_or_else(|_| raw.to_string())),
        _ => Some(raw.to_string()),
    }
}

fn object(columns: &[ColumnInfo], row: &Row) -> String {
    let mut out = String::from("{");
    for (index, (column, value)) in columns.iter().zip(row).enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(column.name.as_str()).to_string());
        out.push(':');
        out.push_str(value.get());
    }
    out.push('}');
    out
}

/// RFC 4180.
fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.is_empty() {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use laminar_api::encode::Done;

    use super::*;

    fn column(name: &str, data_type: &str) -> ColumnInfo {
        ColumnInfo { name: name.into(), data_type: data_type.into() }
    }

    fn rows(json: &str) -> Piece {
        Piece::Rows(serde_json::from_str(json).unwrap())
    }

    fn print(output: Output, expanded: bool, endless: bool, parts: &[&str]) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(output, expanded, &mut out, io::sink());
        let columns = vec![column("id", "BIGINT"), column("name", "TEXT"), column("at", "TIMESTAMP")];
        printer.piece(Piece::Columns { columns, endless }).unwrap();
        for part in parts {
            printer.piece(rows(part)).unwrap();
        }
        printer.piece(Piece::Done(Done { tag: "SELECT".into(), setting: None })).unwrap();
        String::from_utf8(out).unwrap()
    }

    const TWO: &str = r#"[[1,"Ann\u001b[31m","2026-01-01T00:00:00"],[200,null,null]]"#;

    #[test]
    fn tables_look_like_psqls() {
        let expected = "
  id | name          | at
-----+---------------+---------------------
   1 | Ann\\u{1b}[31m | 2026-01-01 00:00:00
 200 | NULL          | NULL
(2 rows)
";
        assert_eq!(format!("\n{}", print(Output::Table, false, false, &[TWO])), expected);
    }

    #[test]
    fn rows_without_an_end_keep_their_columns() {
        // Later rows may be wider than the first ones, so each type has a width from the start.
        let expected = "
       id | name         | at
----------+--------------+----------------------------
        1 | Ann          | NULL
       22 | B            | NULL
(2 rows)
";
        let printed = print(Output::Table, false, true, &[r#"[[1,"Ann",null]]"#, r#"[[22,"B",null]]"#]);
        assert_eq!(format!("\n{printed}"), expected);
    }

    #[test]
    fn an_empty_answer_still_has_its_header() {
        assert_eq!(print(Output::Table, false, false, &[]), " id | name | at\n----+------+----\n(0 rows)\n");
        assert_eq!(print(Output::Json, false, false, &[]), "[]\n");
    }

    #[test]
    fn an_answer_that_breaks_off_shows_what_came() {
        let mut out = Vec::new();
        for parts in [&[][..], &["[[1]]"]] {
            let mut printer = Printer::new(Output::Table, false, &mut out, io::sink());
            printer.piece(Piece::Columns { columns: vec![column("n", "BIGINT")], endless: false }).unwrap();
            for part in parts {
                printer.piece(rows(part)).unwrap();
            }
            printer.break_off().unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), " n\n---\n 1\n(1 row)\n");
    }

    #[test]
    fn expanded_rows_are_blocks() {
        let expected = "-[ 1 ]\nid   | 1\nname | two\n     | lines\nat   | NULL\n(1 row)\n";
        assert_eq!(print(Output::Table, true, false, &[r#"[[1,"two\nlines",null]]"#]), expected);
    }

    #[test]
    fn machine_formats() {
        let part = r#"[[1,"a,\"b\"",null],[2,"",null]]"#;
        assert_eq!(print(Output::Csv, false, false, &[part]), "id,name,at\n1,\"a,\"\"b\"\"\",\n2,\"\",\n");
        assert_eq!(
            print(Output::Ndjson, false, false, &[part]),
            "{\"id\":1,\"name\":\"a,\\\"b\\\"\",\"at\":null}\n{\"id\":2,\"name\":\"\",\"at\":null}\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&print(Output::Json, false, false, &[part, "[[3,null,null]]"])).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_statement_without_rows_shows_its_tag() {
        let mut out = Vec::new();
        let mut printer = Printer::new(Output::Table, false, &mut out, io::sink());
        printer.piece(Piece::Done(Done { tag: "CREATE TABLE".into(), setting: None })).unwrap();
        assert_eq!(out, b"CREATE TABLE\n");
    }
}

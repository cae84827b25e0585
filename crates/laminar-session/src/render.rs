//! Definitions to canonical SQL: what SHOW CREATE answers, and what is stored for objects that REST made.

use std::fmt::Write;

use laminar_core::Options;
use laminar_planner::catalog::{ColumnDef, ConnectionDef, TableDef, ViewDef};

use crate::resources::hides;

/// Whether credentials are shown.
#[derive(Clone, Copy)]
pub(crate) enum Secrets<'a> {
    Shown,
    /// Options with these names, and those that look like credentials, are shown as `****`.
    Masked(&'a [String]),
}

pub(crate) fn connection(def: &ConnectionDef, secrets: Secrets<'_>) -> String {
    let options = options(&def.options, secrets);
    let head = format!("CREATE CONNECTION {} TO {}", identifier(&def.name), identifier(&def.connector));
    if options.is_empty() { head } else { format!("{head} (\n{}\n)", options.join(",\n")) }
}

pub(crate) fn table(def: &TableDef, secrets: Secrets<'_>) -> String {
    let mut lines: Vec<String> = def.columns.iter().map(column).collect();
    if let Some(watermark) = &def.watermark {
        let name = identifier(&watermark.column);
        let delay = watermark.delay.as_micros();
        let expr = if delay == 0 { String::new() } else { format!(" AS {name} - INTERVAL '{}'", interval(delay)) };
        lines.push(format!("  WATERMARK FOR {name}{expr}"));
    }
    if !def.primary_key.is_empty() {
        let key: Vec<_> = def.primary_key.iter().map(|k| identifier(k)).collect();
        lines.push(format!("  PRIMARY KEY ({})", key.join(", ")));
    }
    let mut sql = format!("CREATE TABLE {}", identifier(&def.name));
    if !lines.is_empty() {
        let _ = write!(sql, " (\n{}\n)", lines.join(",\n"));
    }
    let options = options(&def.options, secrets);
    let _ = write!(sql, " WITH (\n{}\n)", options.join(",\n"));
    sql
}

/// So many microseconds in the largest unit of which they are a whole number.
fn interval(micros: u128) -> String {
    const UNITS: [(u128, &str); 4] =
        [(3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second"), (1_000, "millisecond")];
    let (size, unit) = UNITS.into_iter().find(|(size, _)| micros.is_multiple_of(*size)).unwrap_or((1, "microsecond"));
    let count = micros / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

pub(crate) fn view(def: &ViewDef) -> String {
    let columns: Vec<_> = def.columns.iter().map(|c| identifier(c)).collect();
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    format!("CREATE VIEW {}{columns} AS\n{}", identifier(&def.name), def.query)
}

fn column(column: &ColumnDef) -> String {
    let mut line = format!("  {} {}", identifier(&column.name), column.sql_type);
    if !column.nullable {
        line.push_str(" NOT NULL");
    }
    if let Some(default) = &column.default {
        let _ = write!(line, " DEFAULT {default}");
    }
    if let Some(generated) = &column.generated {
        let _ = write!(line, " GENERATED ALWAYS AS ({generated})");
    }
    if let Some(metadata) = &column.metadata {
        let _ = write!(line, " METADATA FROM {}", literal(metadata));
    }
    line
}

fn options(options: &Options, secrets: Secrets<'_>) -> Vec<String> {
    let line = |e: &laminar_core::options::OptionEntry| {
        let hidden = matches!(secrets, Secrets::Masked(names) if hides(&e.key, &e.value, names));
        format!("  {} = {}", identifier(&e.key), if hidden { "'****'".to_string() } else { literal(&e.value) })
    };
    options.iter().map(line).collect()
}

/// Bare where that means the same: lower-case letters, digits and `_`.
pub(crate) fn identifier(name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    if bare { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_reads_as_a_person_writes_it() {
        for (micros, text) in [
            (5_000_000, "5 seconds"),
            (3_600_000_000, "1 hour"),
            (5_400_000_000, "90 minutes"),
            (250_000, "250 milliseconds"),
            (7, "7 microseconds"),
        ] {
            assert_eq!(interval(micros), text);
        }
    }

    #[test]
    fn a_connection_reads_as_it_was_written_without_its_password() {
        let def = ConnectionDef {
            name: "Prod".to_string(),
            connector: "kafka".to_string(),
            options: Options::from_pairs([("bootstrap_servers", "h:1"), ("sasl.password", "it's"), ("note", "it's")]),
        };
        let expected = "CREATE CONNECTION \"Prod\" TO kafka (\n  bootstrap_servers = 'h:1',\n  \"sasl.password\" = '****',\n  note = 'it''s'\n)";
        assert_eq!(connection(&def, Secrets::Masked(&[])), expected);
        assert!(connection(&def, Secrets::Shown).contains("'it''s',"));
    }
}

//! The shell's own commands: what psql users type, as the SQL or the setting that they mean.

/// What a line that begins with `\` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meta {
    Quit,
    Help,
    /// Toggle one block per row.
    Expanded,
    /// Toggle showing times.
    Timing,
    /// Run the statements of a file.
    Include(String),
    ConnectionInfo,
    /// The same as these statements.
    Sql(String),
    Unknown(String),
}

pub const HELP: &str = r"
  \d [NAME]      tables, views and pipelines; or the columns of one
  \dt \dv \dp    tables, views, pipelines
  \dc \dC        connections, connectors
  \dj \ds \df    jobs, secrets, functions
  \x             one block per row, on or off
  \timing        show how long each answer took, on or off
  \i FILE        run the statements of a file
  \conninfo      which server this is
  \? \q          this help; quit (also Ctrl-D)

  A statement ends with a semicolon and may have several lines. Ctrl-C ends an answer, or clears the line.
  SUBSCRIBE TO a_pipeline; follows its rows. EXPLAIN statement; shows what would run.
";

/// What can stand after FROM.
const RELATIONS: &str = "SELECT name, 'table' AS kind, connector AS detail FROM system.tables \
     UNION ALL SELECT name, 'view', '' FROM system.views \
     UNION ALL SELECT name, 'pipeline', state FROM system.pipelines ORDER BY name;";

/// Is the line one of the shell's commands, and not SQL?
pub fn is_command(line: &str) -> bool {
    line.trim_start().starts_with('\\') || plain_word(line).is_some()
}

/// What a newcomer types, as in psql.
fn plain_word(line: &str) -> Option<&'static str> {
    match line.trim().trim_end_matches(';').trim_end().to_ascii_lowercase().as_str() {
        "help" => Some("\\?"),
        "quit" | "exit" => Some("\\q"),
        _ => None,
    }
}

pub fn parse(line: &str) -> Meta {
    let line = plain_word(line).unwrap_or(line).trim().trim_end_matches(';').trim_end();
    let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    let show = |what: &str| Meta::Sql(format!("SHOW {what};"));
    match (command, argument) {
        ("\\q" | "\\quit", "") => Meta::Quit,
        ("\\?" | "\\h" | "\\help", _) => Meta::Help,
        ("\\x", "") => Meta::Expanded,
        ("\\timing", "") => Meta::Timing,
        ("\\conninfo", "") => Meta::ConnectionInfo,
        ("\\i", file) if !file.is_empty() => Meta::Include(file.to_string()),
        ("\\d", "") => Meta::Sql(RELATIONS.to_string()),
        ("\\d", name) => Meta::Sql(format!("DESCRIBE {name};")),
        ("\\dt", "") => show("TABLES"),
        ("\\dv", "") => show("VIEWS"),
        ("\\dp", "") => show("PIPELINES"),
        ("\\dc", "") => show("CONNECTIONS"),
        ("\\dC", "") => show("CONNECTORS"),
        ("\\dj", "") => show("JOBS"),
        ("\\ds", "") => show("SECRETS"),
        ("\\df", "") => show("FUNCTIONS"),
        _ => Meta::Unknown(line.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(parse("\\q"), Meta::Quit);
        assert_eq!(parse(" \\d  orders ;"), Meta::Sql("DESCRIBE orders;".into()));
        assert_eq!(parse("\\dp"), Meta::Sql("SHOW PIPELINES;".into()));
        assert_eq!(parse("\\i a b.sql"), Meta::Include("a b.sql".into()));
        assert_eq!(parse("\\nope"), Meta::Unknown("\\nope".into()));
        assert_eq!(parse("\\x on"), Meta::Unknown("\\x on".into()));
        assert_eq!((parse("help"), parse("Exit;")), (Meta::Help, Meta::Quit));
        for (line, command) in [(" \\d", true), ("quit ", true), ("help me", false), ("SELECT 1;", false)] {
            assert_eq!(is_command(line), command, "{line}");
        }
    }
}

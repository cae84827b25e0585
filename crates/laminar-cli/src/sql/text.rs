//! What a client must understand of SQL text: where it comes from, and where a statement ends. Everything else is the server's.

use std::path::Path;

use anyhow::Context;

/// Name and text of a script; `-` is stdin. Without the byte order mark that some editors put first.
pub fn read_script(file: &Path) -> anyhow::Result<(String, String)> {
    let (name, text) = if file.as_os_str() == "-" {
        ("stdin".to_string(), std::io::read_to_string(std::io::stdin()))
    } else {
        (file.display().to_string(), std::fs::read_to_string(file))
    };
    let text = text.with_context(|| name.clone())?;
    Ok((name, text.trim_start_matches('\u{feff}').to_string()))
}

/// Is there nothing more to come before the text can be sent: does it end with `;` outside of quotes, comments and
/// `BEGIN … END`?
pub fn is_complete(text: &str) -> bool {
    let mut scan = Scan::default();
    scan.run(text);
    scan.ended
}

/// Is there any statement at all, or only white space and comments?
pub fn is_blank(text: &str) -> bool {
    let mut scan = Scan::default();
    scan.run(text);
    !scan.seen
}

#[derive(Default)]
struct Scan {
    /// The last thing outside of comments was a `;` that ends a statement.
    ended: bool,
    /// There was something outside of comments.
    seen: bool,
    /// Open `BEGIN` and `CASE`.
    depth: usize,
    previous_word: String,
}

impl Scan {
    fn run(&mut self, text: &str) {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = match first {
                '-' if rest.starts_with("--") => after(rest, rest.find('\n').map(|end| end + 1)),
                '/' if rest.starts_with("/*") => match comment_end(rest) {
                    Some(end) => after(rest, Some(end)),
                    None => {
                        self.token();
                        return;
                    }
                },
                '\'' | '"' => {
                    self.token();
                    let Some(end) = quote_end(rest, first) else { return };
                    after(rest, Some(end))
                }
                ';' => {
                    self.seen = true;
                    self.ended = self.depth == 0;
                    self.previous_word.clear();
                    after(rest, Some(1))
                }
                c if c.is_alphanumeric() || c == '_' => {
                    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                    let (word, tail) = rest.split_at(end);
                    self.word(&word.to_ascii_uppercase());
                    tail
                }
                c if c.is_whitespace() => after(rest, Some(c.len_utf8())),
                c => {
                    self.token();
                    self.previous_word = c.to_string();
                    after(rest, Some(c.len_utf8()))
                }
            };
        }
    }

    fn token(&mut self) {
        self.seen = true;
        self.ended = false;
        self.previous_word.clear();
    }

    fn word(&mut self, word: &str) {
        let previous = std::mem::take(&mut self.previous_word);
        self.token();
        match word {
            "BEGIN" if previous == "AS" => self.depth += 1,
            "CASE" if previous != "." => self.depth += 1,
            "END" if previous != "." => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.previous_word = word.to_string();
    }
}

fn after(text: &str, end: Option<usize>) -> &str {
    end.and_then(|end| text.get(end..)).unwrap_or_default()
}

/// Index after the closing quote of a text that begins with one; a doubled quote is part of the text.
fn quote_end(text: &str, quote: char) -> Option<usize> {
    let mut from = 1;
    loop {
        let end = from + text.get(from..)?.find(quote)? + 1;
        if !text.get(end..)?.starts_with(quote) {
            return Some(end);
        }
        from = end + 1;
    }
}

/// Index after the end of a comment, which may hold others.
fn comment_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons() {
        for complete in [
            "SELECT 1;",
            "SELECT 1; -- done",
            "SELECT ';';  /* x */ ",
            "CREATE PIPELINE p AS BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;",
            "SELECT CASE WHEN a THEN 1 END, w.end FROM t;",
            "SELECT 'it''s', \"a;b\";",
            "/* a /* b */ ; */ SELECT 1;",
            "SELECT 'ü';",
        ] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in [
            "SELECT 1",
            "SELECT ';",
            "SELECT 1 -- ;",
            "SELECT 1 /* ;",
            "SELECT 'it'';",
            "CREATE PIPELINE p AS BEGIN INSERT INTO a SELECT 1;",
            "SELECT 1; SELECT 2",
            "",
        ] {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_a_script() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}SELECT '\u{feff}';").unwrap();
        assert_eq!(read_script(file.path()).unwrap().1, "SELECT '\u{feff}';");
    }

    #[test]
    fn comments_are_blank() {
        assert!(is_blank("  -- x\n /* y */ "));
        assert!(!is_blank("x"));
        assert!(!is_blank("''"));
    }
}

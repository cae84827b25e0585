//! An error as a person reads it: drawn by the planner, whether it comes from this process or from a server.
//!
//! ```text
//! orders.sql:3:8: error[unknown_column]: there is no column amout
//!  --> line 3, column 8
//!   |
//! 3 | SELECT amout FROM orders
//!   |        ^
//!   = hint: did you mean amount?
//! ```

use laminar_api::error::ErrorInfo;
use laminar_core::{Code, Error, Location};

/// A text in which an error may have its place.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A file's path; `None` for what was typed.
    pub name: Option<&'a str>,
    pub text: &'a str,
}

/// A failure already drawn with the text it is about.
#[derive(Debug)]
pub struct ShownError(pub String);

impl std::fmt::Display for ShownError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ShownError {}

/// Several lines, without a line break at the end.
pub fn render(error: &Error, source: Option<Source<'_>>) -> String {
    let drawn = laminar_planner::diagnostic::render(error, source.map_or("", |source| source.text));
    let place = match (source.and_then(|source| source.name), error.location()) {
        (Some(name), Some(at)) => format!("{name}:{}:{}: ", at.line, at.column),
        (Some(name), None) => format!("{name}: "),
        (None, _) => String::new(),
    };
    let lines: Vec<String> = drawn.trim_end().lines().map(printable).collect();
    format!("{}{}", printable(&place), lines.join("\n"))
}

/// The same for an error that a server sent.
pub fn render_info(info: &ErrorInfo, source: Option<Source<'_>>) -> String {
    match Code::ALL.iter().find(|code| code.as_str() == info.code) {
        Some(code) => render(&error_of(*code, info), source),
        None => printable(&format!("error[{}]: {}", info.code, info.message)), // of a newer server
    }
}

fn error_of(code: Code, info: &ErrorInfo) -> Error {
    let details = &info.details;
    let mut error =
        Error::new(code, &info.message).at(details.position.map(|p| Location { line: p.line, column: p.column }));
    if let Some(detail) = &details.detail {
        error = error.with_detail(detail);
    }
    if let Some(hint) = &details.hint {
        error = error.with_hint(hint);
    }
    error
}

/// Prints why a command failed.
pub fn print_failure(failure: &anyhow::Error) {
    match failure.downcast_ref::<Error>() {
        Some(error) => eprintln!("{}", render(error, None)),
        None if failure.is::<ShownError>() => eprintln!("{failure}"),
        None => eprintln!("error: {failure:#}"),
    }
}

/// Without characters that would steer the terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use laminar_api::error::ErrorBody;

    use super::*;

    #[test]
    fn a_servers_error_is_drawn_like_our_own() {
        let error = Error::new(Code::UnknownColumn, "there is no column amout")
            .at(Location { line: 2, column: 8 })
            .with_hint("did you mean amount?");
        let source = Some(Source { name: Some("a.sql"), text: "-- first\nSELECT amout FROM orders;\n" });
        let drawn = render(&error, source);
        assert!(drawn.starts_with("a.sql:2:8: error[unknown_column]: there is no column amout\n"), "{drawn}");
        assert!(drawn.contains("2 | SELECT amout FROM orders;\n  |        ^\n"), "{drawn}");
        assert_eq!(render_info(&ErrorBody::new(&error).error, source), drawn);
    }

    #[test]
    fn a_code_of_a_newer_server_is_still_shown() {
        let mut info = ErrorBody::new(&Error::internal("x")).error;
        info.code = "from_the_future".to_string();
        assert_eq!(render_info(&info, None), "error[from_the_future]: x");
    }

    #[test]
    fn terminal_sequences_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\tc"), "a\\u{1b}[2Jb\tc");
    }
}

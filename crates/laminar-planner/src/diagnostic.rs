//! An error as a person reads it: what, where, the line, a caret, what to do.
//!
//! ```text
//! error[unknown_option]: connector kafka has no option topik
//!  --> line 3, column 5
//!   |
//! 3 |     topik = 'orders',
//!   |     ^
//!   = hint: did you mean topic?
//! ```

use std::fmt::Write;

use laminar_core::{Error, Location};

use crate::script::Script;

/// Longest piece of a line that is shown, in characters.
const MAX_LINE: usize = 160;

/// The error's text, with the line of the script it points at if it has a place.
pub fn render(error: &Error, script: &str) -> String {
    let mut out = format!("error[{}]: {}\n", error.code(), error.message());
    let place = error.location();
    let line = place.and_then(|at| Script::new(script).line(at.line).map(|line| (at, line)));
    let width = place.map_or(1, |at| at.line.to_string().len());
    // writing to a String cannot fail
    if let Some((at, line)) = line {
        let _ = write_line(&mut out, at, line, width);
    }
    if let Some(detail) = error.detail() {
        let _ = writeln!(out, "{:width$} = detail: {detail}", "");
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(out, "{:width$} = hint: {hint}", "");
    }
    out
}

fn write_line(out: &mut String, at: Location, line: &str, width: usize) -> std::fmt::Result {
    let column = (at.column as usize).saturating_sub(1);
    // a long line is cut so that the place stays in sight
    let from = if line.chars().count() > MAX_LINE { column.saturating_sub(MAX_LINE / 2) } else { 0 };
    let shown: String = line.chars().skip(from).take(MAX_LINE).collect();
    let indent: String = shown.chars().take(column - from).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    writeln!(out, "{:width$}--> line {}, column {}", "", at.line, at.column)?;
    writeln!(out, "{:width$} |", "")?;
    writeln!(out, "{:width$} | {shown}", at.line)?;
    writeln!(out, "{:width$} | {indent}^", "")
}

#[cfg(test)]
mod tests {
    use laminar_core::Code;

    use super::*;

    #[test]
    fn the_place_is_drawn() {
        let error = Error::new(Code::UnknownOption, "connector kafka has no option topik")
            .with_hint("did you mean topic?")
            .at(Location { line: 2, column: 3 });
        let expected = "\
error[unknown_option]: connector kafka has no option topik
 --> line 2, column 3
  |
2 |   topik = 'ä'
  |   ^
  = hint: did you mean topic?
";
        assert_eq!(render(&error, "CREATE CONNECTION c TO kafka (\n  topik = 'ä'\n);"), expected);
    }

    #[test]
    fn an_error_without_a_place_is_one_line() {
        assert_eq!(render(&Error::new(Code::Internal, "lost"), "SELECT 1"), "error[internal]: lost\n");
    }
}

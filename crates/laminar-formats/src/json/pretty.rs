//! Compact JSON over several lines, as `json.pretty` asks for.

use crate::json::scan::find_stop;

/// Appends `compact`, which is valid JSON, with each field and item on its own line, indented by two spaces a level.
pub(crate) fn write_indented(out: &mut Vec<u8>, compact: &[u8]) {
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = compact.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let end = end_of_string(compact, at);
                out.extend_from_slice(compact.get(at - 1..end).unwrap_or_default());
                at = end;
            }
            b'{' | b'[' => {
                out.push(*byte);
                let close = next_token(compact, at);
                if let Some(closing @ (b'}' | b']')) = compact.get(close) {
                    out.push(*closing);
                    at = close + 1;
                } else {
                    depth += 1;
                    new_line(out, depth);
                }
            }
            b'}' | b']' => {
                depth -= 1;
                new_line(out, depth);
                out.push(*byte);
            }
            b',' => {
                out.push(b',');
                new_line(out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b' ' | b'\t' | b'\n' | b'\r' => {}
            other => out.push(*other),
        }
    }
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', 2 * depth));
}

fn next_token(compact: &[u8], mut at: usize) -> usize {
    while compact.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The index after the closing quote of the string whose content starts at `at`.
fn end_of_string(compact: &[u8], mut at: usize) -> usize {
    loop {
        at = find_stop(compact, at).at;
        match compact.get(at) {
            Some(b'\\') => at += 2,
            _ => return (at + 1).min(compact.len()),
        }
    }
}

//! Formats of times, as `date_format` and `to_timestamp` take them: strftime's. A literal without any `%` is one of another
//! system: it would come out as it is, for every row, and is refused where it stands.
//!
//! ```text
//! to_char(at, '%Y-%m-%d')   2024-01-02
//! to_char(at, 'yyyy-MM-dd') yyyy-MM-dd
//! ```

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, Value, ValueWithSpan, Visit,
    visit_expressions,
};
use laminar_core::{Code, Error, Result};

use crate::places::last_name;
use crate::script::location;

/// Functions whose second and later arguments are formats.
const FUNCTIONS: &[&str] = &[
    "date_format",
    "to_char",
    "to_date",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
];

const LETTERS: &[(&str, &str)] = &[
    ("yyyy", "%Y"),
    ("MM", "%m"),
    ("dd", "%d"),
    ("HH24", "%H"),
    ("HH", "%H"),
    ("mm", "%M"),
    ("MI", "%M"),
    ("ss", "%S"),
    ("YYYY", "%Y"),
    ("DD", "%d"),
    ("mi", "%M"),
    ("SS", "%S"),
];

/// Errors: `invalid_value` for a literal format that has no `%`, at it.
pub(crate) fn check(ast: &impl Visit) -> Result<()> {
    let found = visit_expressions(ast, |expr| match expr {
        Expr::Function(function) => foreign(function).map_or(ControlFlow::Continue(()), ControlFlow::Break),
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn foreign(function: &Function) -> Option<Error> {
    let name = last_name(&function.name);
    let FunctionArguments::List(list) = &function.args else { return None };
    if !FUNCTIONS.contains(&name.as_str()) {
        return None;
    }
    let (text, at) = list.args.iter().skip(1).find_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(
            expr @ Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }),
        )) if !text.contains('%') => Some((text, expr.span())),
        _ => None,
    })?;
    let error = Error::new(Code::InvalidValue, format!("'{text}' is no format of {name}(): it has no %"));
    let hint = format!("formats are strftime's, such as '{}'", translated(text));
    Some(error.with_hint(hint).at(location(at.start)))
}

/// The format as strftime writes it, as far as its letters are those of Java or PostgreSQL; else one to go by.
fn translated(text: &str) -> String {
    let format = LETTERS.iter().fold(text.to_string(), |format, (letters, ours)| format.replace(letters, ours));
    let mut rest = format.clone();
    LETTERS.iter().for_each(|(_, ours)| rest = rest.replace(ours, ""));
    match format.contains('%') && !rest.contains(|c: char| c.is_alphanumeric()) {
        true => format,
        false => "%Y-%m-%d %H:%M:%S".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn formats_of_other_systems_are_translated_where_that_is_sure() {
        for (theirs, ours) in [
            ("yyyy-MM-dd", "%Y-%m-%d"),
            ("yyyy-MM-dd HH:mm:ss", "%Y-%m-%d %H:%M:%S"),
            ("YYYY/MM/DD HH24:MI:SS", "%Y/%m/%d %H:%M:%S"),
            ("EEE, d MMM", "%Y-%m-%d %H:%M:%S"),
            ("day", "%Y-%m-%d %H:%M:%S"),
            ("", "%Y-%m-%d %H:%M:%S"),
        ] {
            assert_eq!(translated(theirs), ours, "{theirs}");
        }
    }
}

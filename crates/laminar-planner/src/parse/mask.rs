//! A script as others may see it: values of options that are credentials become `'****'`, all else stays as written.

use laminar_core::{Error, Location, Options, Result};

use super::{Cursor, options, parse};
use crate::dialect::LaminarDialect;
use crate::stack::grown;
use crate::statement::Statement;

/// The script without the values that `hides(key, value)` names. Errors: those of [`parse`].
pub fn mask(script: &str, hides: impl Fn(&str, &str) -> bool) -> Result<String> {
    let mut places: Vec<Location> = Vec::new();
    for parsed in parse(script)? {
        let hidden = options_of(&parsed.statement).into_iter().flat_map(Options::iter);
        places.extend(hidden.filter(|e| hides(&e.key, &e.value)).filter_map(|e| e.location));
    }
    grown(|| replace_values(script, &places))
}

fn options_of(statement: &Statement) -> Option<&Options> {
    match statement {
        Statement::CreateConnection(create) => Some(&create.options),
        Statement::CreateTable(create) => Some(&create.options),
        Statement::CreatePipeline(create) => Some(&create.options),
        _ => None,
    }
}

/// `places`, in the script's order, are where the options' keys stand.
fn replace_values(script: &str, places: &[Location]) -> Result<String> {
    let dialect = LaminarDialect::new(script);
    let mut cursor = Cursor::new(script, &dialect)?;
    let mut masked = String::new();
    let mut shown = Location { line: 1, column: 1 };
    for place in places {
        while cursor.here() != *place {
            if cursor.at_end() {
                return Err(Error::internal("an option is not where it was"));
            }
            cursor.sql.advance_token();
        }
        let key = options::key(&mut cursor)?;
        cursor.sql.advance_token(); // = or ==
        masked.push_str(cursor.text_before(shown));
        masked.push_str("'****'");
        options::value(&mut cursor, &key)?;
        shown = cursor.behind();
    }
    while !cursor.at_end() {
        cursor.sql.advance_token();
    }
    masked.push_str(cursor.text_before(shown));
    Ok(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(script: &str, expected: &str) {
        let hides = |key: &str, value: &str| key.contains("password") && !value.starts_with("${");
        assert_eq!(mask(script, hides).unwrap(), expected);
    }

    #[test]
    fn values_are_replaced_where_they_stand_and_nowhere_else() {
        check("SELECT 'password', x -- é\nFROM t;\n", "SELECT 'password', x -- é\nFROM t;\n");
        check(
            "-- ö\nCREATE TABLE t (n INT)\nWITH (a = 'pw', 'sasl.password' = 'p''w' , b.password == $$pw$$);\nINSERT INTO o SELECT 'pw' FROM t",
            "-- ö\nCREATE TABLE t (n INT)\nWITH (a = 'pw', 'sasl.password' = '****' , b.password == '****');\nINSERT INTO o SELECT 'pw' FROM t",
        );
        for value in ["E'p\\nw'", "-12", "12s", "word", "INTERVAL '1' day", "['a', 'b']"] {
            check(
                &format!("CREATE TABLE t WITH (password = {value}); SELECT 1"),
                "CREATE TABLE t WITH (password = '****'); SELECT 1",
            );
        }
        let reference = "CREATE TABLE t WITH (password = '${secret:x}'); SELECT 1";
        check(reference, reference);
    }
}

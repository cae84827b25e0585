//! Text to statements: our own grammar over sqlparser's tokens; queries, expressions and types are sqlparser's.
//!
//! The whole script is cut into tokens once, so every place is a place in the script. The limits are checked on the tokens
//! before the parser sees them. The first error ends the script: nothing of it runs.
//!
//! `cursor` (the token stream), `statement` (which statement it is), `create`, `table`, `pipeline`, `options`, `elsewhere` (what other systems
//! write), `mask` (a text as others may see it).

mod create;
mod cursor;
mod elsewhere;
mod mask;
mod options;
mod pipeline;
mod statement;
mod table;

use datafusion::sql::sqlparser::ast::Ident;
use laminar_core::{Location, Result};

pub(crate) use self::cursor::Cursor;
pub use self::mask::mask;
pub(crate) use self::statement::quote_name;
use crate::dialect::LaminarDialect;
use crate::stack::grown;
use crate::statement::{Parsed, SqlExpr, SqlQuery};

/// The statements of a script, in order. Empty statements and comments are left out.
///
/// Errors: `syntax_error`, `statement_too_complex`, `not_supported`, `invalid_name`, `conflicting_options`; each has its
/// place in the script.
pub fn parse(script: &str) -> Result<Vec<Parsed>> {
    grown(|| parse_all(script)).map_err(|error| elsewhere::advised(error, script))
}

fn parse_all(script: &str) -> Result<Vec<Parsed>> {
    let dialect = LaminarDialect::new(script);
    let mut cursor = Cursor::new(script, &dialect)?;
    let mut statements = Vec::new();
    loop {
        while cursor.take_semicolon() {}
        if cursor.at_end() {
            return Ok(statements);
        }
        statements.push(statement::parse(&mut cursor)?);
        if !cursor.at_end() && !cursor.take_semicolon() {
            return Err(cursor.unexpected("a semicolon or the end of the statement"));
        }
    }
}

/// A query that stands alone, as a stored view's.
pub fn parse_query(text: &str) -> Result<SqlQuery> {
    let dialect = LaminarDialect::new(text);
    let mut cursor = Cursor::new(text, &dialect)?;
    let query = cursor.query()?;
    while cursor.take_semicolon() {}
    if cursor.at_end() { Ok(query) } else { Err(cursor.unexpected("the end of the query")) }
}

/// An expression that stands alone, as a stored column's default.
pub fn parse_expr(text: &str) -> Result<SqlExpr> {
    let dialect = LaminarDialect::new(text);
    let mut cursor = Cursor::new(text, &dialect)?;
    let expr = cursor.expr()?;
    if cursor.at_end() { Ok(expr) } else { Err(cursor.unexpected("the end of the expression")) }
}

/// An identifier as it counts: unquoted ones in lower case.
pub(crate) fn identifier_text(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_lowercase(),
        Some(_) => ident.value.clone(),
    }
}

/// Where an identifier stands.
pub(crate) fn identifier_location(ident: &Ident) -> Option<Location> {
    crate::script::location(ident.span.start)
}

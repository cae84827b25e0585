//! Values for `$1`, `$2`, …: put into the syntax tree as the literals they stand for, so they mean what they would mean if
//! they were written there, but are never read as SQL.
//!
//! Only what runs once takes them: SELECT and INSERT … VALUES. Definitions are kept as text.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, UnaryOperator, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::tokenizer::Span;
use laminar_core::{Code, Error, Result};

use crate::script::location;
use crate::statement::{Parsed, SqlQuery, Statement};

/// What a `$n` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    Null,
    Boolean(bool),
    /// As it is written in SQL.
    Number(String),
    Text(String),
}

impl Parameter {
    fn literal(&self, span: Span) -> Expr {
        let value = |value: Value| Expr::Value(value.with_span(span));
        match self {
            Self::Null => value(Value::Null),
            Self::Boolean(is) => value(Value::Boolean(*is)),
            Self::Text(text) => value(Value::SingleQuotedString(text.clone())),
            Self::Number(number) => match number.strip_prefix('-') {
                None => value(Value::Number(number.clone(), false)),
                // SQL's numbers have no sign
                Some(digits) => {
                    let digits = Box::new(value(Value::Number(digits.to_string(), false)));
                    Expr::UnaryOp { op: UnaryOperator::Minus, expr: digits }
                }
            },
        }
    }
}

/// Puts the values into the script's one-off queries. Errors: `invalid_request` for a `$n` without a value, at its place,
/// and for a value without a `$n`.
pub fn bind(script: &mut [Parsed], parameters: &[Parameter]) -> Result<()> {
    let mut used = vec![false; parameters.len()];
    for parsed in script {
        match &mut parsed.statement {
            Statement::Query(query) => bind_query(query, parameters, &mut used)?,
            Statement::InsertValues(insert) => bind_query(&mut insert.query, parameters, &mut used)?,
            _ => {}
        }
    }
    match used.iter().position(|used| !used) {
        None => Ok(()),
        Some(index) => Err(wrong(format!("no SELECT or INSERT … VALUES of the query has a ${}", index + 1))),
    }
}

fn bind_query(query: &mut SqlQuery, parameters: &[Parameter], used: &mut [bool]) -> Result<()> {
    let start = query.start;
    let bound = visit_expressions_mut(query.ast.as_mut(), |expr| {
        let Expr::Value(literal) = expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &literal.value else { return ControlFlow::Continue(()) };
        let index = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()).and_then(|n| n.checked_sub(1));
        let Some((index, parameter)) = index.and_then(|index| Some((index, parameters.get(index)?))) else {
            let error = wrong(format!("there is no value for {name}")).at(location(literal.span.start)).at(start);
            return ControlFlow::Break(error.with_hint("the values of $1, $2, … are the elements of params"));
        };
        *expr = parameter.literal(literal.span);
        used[index] = true;
        ControlFlow::Continue(())
    });
    match bound {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn wrong(message: String) -> Error {
    Error::new(Code::InvalidRequest, message).with_field("params")
}

//! What a person probably meant by a name that is no column: text without its quotes, or a query without its FROM.
//!
//! Only hints, and the place where one is missing; never another code or message.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, Query, SetExpr, Visit, Visitor};
use laminar_core::{Code, Error, Location};

use crate::parse::{identifier_location, identifier_text};
use crate::statement::SqlQuery;
use crate::translate::NO_COLUMN;

/// The error with the place of the name and a better hint, if it is about an unknown column of `query`.
pub(crate) fn on(error: Error, query: &SqlQuery) -> Error {
    let Some(name) = error.message().strip_prefix(NO_COLUMN).filter(|_| error.code() == Code::UnknownColumn) else {
        return error;
    };
    let mut search = Search { name: name.to_string(), at: error.location(), found: None, is_text: false };
    let _ = query.ast.visit(&mut search);
    let Some(ident) = search.found else { return error };
    let without_from = matches!(query.ast.body.as_ref(), SetExpr::Select(select) if select.from.is_empty());
    let advice = if search.is_text || ident.quote_style.is_some() {
        format!("text goes in single quotes: '{}'", ident.value)
    } else if without_from {
        "the query has no FROM: SELECT … FROM table".to_string()
    } else {
        return error.at(identifier_location(&ident));
    };
    let hint = match error.hint() {
        Some(near) if near.starts_with("did you mean") => near.to_string(),
        Some(hint) => format!("{hint}; {advice}"),
        None => advice,
    };
    error.at(identifier_location(&ident)).with_hint(hint)
}

/// Looks for the first identifier of this name, at this place if the place is known.
struct Search {
    name: String,
    at: Option<Location>,
    found: Option<Ident>,
    /// Does it stand where a text is likely?
    is_text: bool,
}

impl Search {
    fn is_it(&self, ident: &Ident) -> bool {
        identifier_text(ident) == self.name && (self.at.is_none() || self.at == identifier_location(ident))
    }

    fn take(&mut self, exprs: &[&Expr], is_text: bool) {
        for expr in exprs {
            if let Expr::Identifier(ident) = expr
                && self.found.is_none()
                && self.is_it(ident)
            {
                (self.found, self.is_text) = (Some(ident.clone()), is_text);
            }
        }
    }
}

impl Visitor for Search {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let SetExpr::Values(values) = query.body.as_ref() {
            values.rows.iter().for_each(|row| self.take(&row.content.iter().collect::<Vec<_>>(), true));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        use BinaryOperator::{Eq, NotEq};
        match expr {
            Expr::BinaryOp { right, op: Eq | NotEq, .. } => self.take(&[right.as_ref()], true),
            Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => self.take(&[pattern.as_ref()], true),
            Expr::InList { list, .. } => self.take(&list.iter().collect::<Vec<_>>(), true),
            Expr::Identifier(_) => self.take(&[expr], false),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

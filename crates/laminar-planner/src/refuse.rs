//! What a stream cannot do in this version, refused on the syntax tree: there every construct still has its place.
//!
//! Everything here runs in a one-off query, which is bounded.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, GroupByExpr, LimitClause, Query, Select, SetExpr, SetOperator, SetQuantifier,
    Spanned, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use laminar_core::{Code, Error, Location, Result};

use crate::script::location;
use crate::sql::SqlContext;
use crate::statement::{SqlExpr, SqlQuery};

const NO_LIMIT: &str = "a pipeline goes on for ever, and has no first rows: say which by ORDER BY … LIMIT n, or give a preview its field `limit`";

/// Refuses what no stream can answer. What depends on the meaning of columns is refused by the lowering. Errors:
/// `not_supported`, at the construct.
pub(crate) fn query(sql: &SqlContext, query: &SqlQuery) -> Result<()> {
    let mut refuse = Refuse { sql, groups: true, fallback: query.start };
    match query.ast.visit(&mut refuse) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Refuses aggregates, windows and subqueries in a column's expression.
pub(crate) fn expression(sql: &SqlContext, expr: &SqlExpr) -> Result<()> {
    let mut refuse = Refuse { sql, groups: false, fallback: expr.start };
    match expr.ast.visit(&mut refuse) {
        ControlFlow::Break(error) => Err(error.with_hint("a column is computed from the columns of its row")),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Refuse<'a> {
    sql: &'a SqlContext,
    /// Rows may be grouped: in a query, not in a column's expression.
    groups: bool,
    fallback: Location,
}

type Flow = ControlFlow<Error>;

impl Refuse<'_> {
    fn refuse(&self, what: &str, at: Span) -> Flow {
        let at = location(at.start).unwrap_or(self.fallback);
        let message = format!("{what} in a pipeline is not supported in this version");
        ControlFlow::Break(Error::new(Code::NotSupported, message).at(at))
    }

    fn body(&self, body: &SetExpr) -> Flow {
        match body {
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                self.body(left)?;
                self.body(right)?;
                match (op, set_quantifier) {
                    (SetOperator::Minus, _) => {
                        self.refuse("MINUS", right.span()).map_break(|e| e.with_hint("write EXCEPT"))
                    }
                    (_, SetQuantifier::AllByName | SetQuantifier::ByName | SetQuantifier::DistinctByName) => {
                        self.refuse(&format!("{op} BY NAME"), right.span())
                    }
                    _ => ControlFlow::Continue(()),
                }
            }
            SetExpr::Values(values) => {
                let at = values.rows.first().and_then(|row| row.content.first()).map_or(Span::empty(), Spanned::span);
                self.refuse("VALUES", at)
            }
            SetExpr::Select(_) | SetExpr::Query(_) => ControlFlow::Continue(()),
            other => self.refuse("this kind of query", other.span()),
        }
    }

    fn function(&self, function: &Function) -> Flow {
        let name = function.name.to_string().to_lowercase();
        let at = function.name.span();
        if function.over.is_some() && !self.groups {
            return self.refuse("OVER", at);
        }
        let aggregate = function.filter.is_some() || self.sql.is_aggregate(&name);
        if aggregate && !self.groups {
            return self.refuse(&format!("aggregate {name}()"), at);
        }
        if matches!(function.args, FunctionArguments::Subquery(_)) {
            return self.refuse("a subquery", at);
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Refuse<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        if let Some(with) = query.with.as_ref().filter(|with| with.recursive) {
            return self.refuse("WITH RECURSIVE", with.span());
        }
        self.body(&query.body)?;
        match (&query.order_by, &query.limit_clause) {
            (Some(order_by), None) => self.refuse("ORDER BY without LIMIT", order_by.span()).map_break(|error| {
                error.with_hint("rows come out as they come; ORDER BY … LIMIT n keeps the first n of all")
            }),
            (None, Some(limit)) => {
                let span = match limit {
                    LimitClause::LimitOffset { limit, offset, .. } => limit
                        .as_ref()
                        .map(Spanned::span)
                        .or(offset.as_ref().map(|o| o.value.span()))
                        .unwrap_or(Span::empty()),
                    LimitClause::OffsetCommaLimit { offset, .. } => offset.span(),
                };
                self.refuse("LIMIT without ORDER BY", span).map_break(|error| error.with_hint(NO_LIMIT))
            }
            _ => ControlFlow::Continue(()),
        }?;
        if query.fetch.is_some() {
            return self.refuse("FETCH", query.body.span()).map_break(|error| error.with_hint(NO_LIMIT));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let token = select.select_token.0.span;
        if matches!(select.group_by, GroupByExpr::All(_)) {
            return self.refuse("GROUP BY ALL", token);
        }
        if select.from.is_empty() {
            return self
                .refuse("a SELECT without FROM", token)
                .map_break(|e| e.with_hint("say what it reads: FROM table"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            // What `temporal` does not understand, it refuses.
            TableFactor::Table { args: None, sample: None, .. } => ControlFlow::Continue(()),
            TableFactor::Derived { lateral: false, .. } | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            other => self.refuse("this kind of table expression", other.span()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Subquery(query) if !self.groups => self.refuse("a subquery in an expression", query.span()),
            Expr::Exists { subquery, .. } if !self.groups => self.refuse("EXISTS", subquery.span()),
            Expr::InSubquery { subquery, .. } if !self.groups => self.refuse("IN (SELECT …)", subquery.span()),
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } if matches!(**right, Expr::Subquery(_)) => {
                self.refuse("a subquery in an expression", right.span())
            }
            Expr::Function(function) => self.function(function),
            _ => ControlFlow::Continue(()),
        }
    }
}

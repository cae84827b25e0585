//! What a stream cannot do in this version, refused on the syntax tree: there every construct still has its place.
//!
//! Everything here runs in a one-off query, which is bounded.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, FunctionArguments, GroupByExpr, LimitClause, Query, Select, SetExpr, SetOperator,
    SetQuantifier, Spanned, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use laminar_core::{Code, Error, Location, Result};

use crate::script::location;
use crate::sql::SqlContext;
use crate::statement::{SqlExpr, SqlQuery};

const WHAT_WORKS: &str = "a pipeline can filter, compute columns, aggregate by windows, UNION ALL and unnest; a SELECT of its own can do all of SQL";

const NO_LIMIT: &str =
    "a pipeline goes on for ever; the first rows are for a SELECT of its own, or a preview with its field `limit`";

/// Refuses a query that is not a stream of this version. Errors: `not_supported`, at the construct.
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
        ControlFlow::Break(Error::new(Code::NotSupported, message).with_hint(WHAT_WORKS).at(at))
    }

    fn body(&self, body: &SetExpr) -> Flow {
        match body {
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                self.body(left)?;
                self.body(right)?;
                match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => ControlFlow::Continue(()),
                    (SetOperator::Union, SetQuantifier::AllByName) => self.refuse("UNION ALL BY NAME", right.span()),
                    (SetOperator::Union, _) => self
                        .refuse("UNION (which removes duplicates)", right.span())
                        .map_break(|error| error.with_hint("write UNION ALL")),
                    (other, _) => self.refuse(&other.to_string(), right.span()),
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
        if function.over.is_some() {
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
        if let Some(order_by) = &query.order_by {
            return self.refuse("ORDER BY", order_by.span());
        }
        if let Some(limit) = &query.limit_clause {
            let span = match limit {
                LimitClause::LimitOffset { limit, offset, .. } => limit
                    .as_ref()
                    .map(Spanned::span)
                    .or(offset.as_ref().map(|o| o.value.span()))
                    .unwrap_or(Span::empty()),
                LimitClause::OffsetCommaLimit { offset, .. } => offset.span(),
            };
            return self.refuse("LIMIT", span).map_break(|error| error.with_hint(NO_LIMIT));
        }
        if query.fetch.is_some() {
            return self.refuse("FETCH", query.body.span()).map_break(|error| error.with_hint(NO_LIMIT));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let token = select.select_token.0.span;
        match &select.distinct {
            None | Some(Distinct::All) => {}
            Some(_) => return self.refuse("DISTINCT", token),
        }
        if matches!(select.group_by, GroupByExpr::All(_)) {
            return self.refuse("GROUP BY ALL", token);
        }
        if let Some(qualify) = &select.qualify {
            return self.refuse("QUALIFY", qualify.span());
        }
        match select.from.as_slice() {
            [] => {
                self.refuse("a SELECT without FROM", token).map_break(|e| e.with_hint("say what it reads: FROM table"))
            }
            [only] => match only.joins.first() {
                Some(join) => self.refuse("a join", join.relation.span()),
                None => ControlFlow::Continue(()),
            },
            [_, second, ..] => self.refuse("a join", second.span()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::Table { args: None, sample: None, version: None, .. } => ControlFlow::Continue(()),
            TableFactor::Derived { lateral: false, .. } => ControlFlow::Continue(()),
            other => self.refuse("this kind of table expression", other.span()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Subquery(query) => self.refuse("a subquery in an expression", query.span()),
            Expr::Exists { subquery, .. } => self.refuse("EXISTS", subquery.span()),
            Expr::InSubquery { subquery, .. } => self.refuse("IN (SELECT …)", subquery.span()),
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } if matches!(**right, Expr::Subquery(_)) => {
                self.refuse("a subquery in an expression", right.span())
            }
            Expr::Function(function) => self.function(function),
            _ => ControlFlow::Continue(()),
        }
    }
}

//! What a stream cannot do in this version, refused on the syntax tree: there every construct still has its place.
//!
//! Everything here runs in a one-off query, which is bounded.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Function, FunctionArguments, GroupByExpr, JoinConstraint, JoinOperator, LimitClause, Query, Select,
    SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor, Visit, Visitor, WindowFrame, WindowFrameBound,
    WindowSpec, WindowType, visit_expressions,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use laminar_core::{Code, Error, Location, Result};

use crate::functions::table_windows::TableWindow;
use crate::functions::watermark;
use crate::functions::windows::{self, WindowKind};
use crate::places::{constraint, last_name, span_of};
use crate::script::location;
use crate::sql::SqlContext;
use crate::statement::{SqlExpr, SqlQuery};

const NO_LIMIT: &str = "a pipeline goes on for ever, and has no first rows: say which by ORDER BY … LIMIT n, or give a preview its field `limit`";
const NO_ORDER: &str = "rows come out as they come; ORDER BY … LIMIT n keeps the first n of all";
const NO_TABLE: &str = "a pipeline reads tables: write the rows to one, and join it";

/// Refuses what no stream can answer. What depends on the meaning of columns is refused by the lowering. Errors:
/// `not_supported`, and `invalid_value` for windows of no size; at the construct.
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

/// Refuses set operations that count equal rows, in any query: DataFusion's plans for them do not. Errors: `not_supported`.
pub(crate) fn counting(query: &ast::Query) -> Result<()> {
    let found = query.visit(&mut Counting);
    let ControlFlow::Break((op, at)) = found else { return Ok(()) };
    Err(Error::new(Code::NotSupported, format!("{op} ALL is not supported"))
        .with_hint(format!(
            "number equal rows on both sides, and write {op}: SELECT a, row_number() OVER (PARTITION BY a ORDER BY a) AS n FROM …"
        ))
        .at(location(at.start)))
}

struct Counting;

impl Visitor for Counting {
    type Break = (SetOperator, Span);

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        counted(&query.body)
    }
}

fn counted(body: &SetExpr) -> ControlFlow<(SetOperator, Span)> {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return ControlFlow::Continue(()) };
    counted(left)?;
    counted(right)?;
    match (op, set_quantifier) {
        (SetOperator::Intersect | SetOperator::Except, SetQuantifier::All) => ControlFlow::Break((*op, right.span())),
        _ => ControlFlow::Continue(()),
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
    fn refuse(&self, what: &str, hint: &str, at: Span) -> Flow {
        let message = format!("{what} in a pipeline is not supported in this version");
        let error = Error::new(Code::NotSupported, message).with_hint(hint);
        ControlFlow::Break(error.at(location(at.start).unwrap_or(self.fallback)))
    }

    fn body(&self, body: &SetExpr) -> Flow {
        match body {
            SetExpr::SetOperation { op, set_quantifier, left, right } => {
                self.body(left)?;
                self.body(right)?;
                match (op, set_quantifier) {
                    (SetOperator::Minus, _) => self.refuse("MINUS", "write EXCEPT", right.span()),
                    (_, SetQuantifier::AllByName | SetQuantifier::ByName | SetQuantifier::DistinctByName) => {
                        let hint = format!("list the columns of both in one order, and write {op} without BY NAME");
                        self.refuse(&format!("{op} BY NAME"), &hint, right.span())
                    }
                    _ => ControlFlow::Continue(()),
                }
            }
            SetExpr::Values(values) => {
                let at = values.rows.first().and_then(|row| row.content.first()).map_or(Span::empty(), Spanned::span);
                self.refuse("VALUES", NO_TABLE, at)
            }
            SetExpr::Select(_) | SetExpr::Query(_) => ControlFlow::Continue(()),
            other => self.refuse("this kind of query", "write SELECT … FROM table", other.span()),
        }
    }

    fn function(&self, function: &Function) -> Flow {
        let name = last_name(&function.name);
        let at = function.name.span();
        if !self.groups {
            if function.over.is_some() {
                return self.refuse("OVER", "", at);
            }
            if name == watermark::NAME {
                return self.refuse("current_watermark() in a column's expression", "", at);
            }
            if function.filter.is_some() || self.sql.is_aggregate(&name) {
                return self.refuse(&format!("aggregate {name}()"), "", at);
            }
        }
        if matches!(function.args, FunctionArguments::Subquery(_)) {
            return self.refuse("a subquery as an argument", "join the subquery, and use its column", at);
        }
        if let Some(WindowType::WindowSpec(WindowSpec { window_frame: Some(frame), .. })) = &function.over
            && ends_before_it_starts(frame)
        {
            let hint = "the first end of BETWEEN is the earlier one: ROWS BETWEEN 1 PRECEDING AND CURRENT ROW";
            return self.refuse("a frame that ends before it starts", hint, at);
        }
        if let Some(kind) = windows::called(&name)
            && let Err(error) = self.sizes(kind, function)
        {
            return ControlFlow::Break(error.at(location(at.start).unwrap_or(self.fallback)));
        }
        ControlFlow::Continue(())
    }

    /// Windows have sizes, where those are literals.
    fn sizes(&self, kind: WindowKind, function: &Function) -> Result<()> {
        let FunctionArguments::List(list) = &function.args else { return Ok(()) };
        let literals = list.args.iter().filter_map(windows::interval_of);
        let sizes = literals.map(|expr| self.sql.constant(expr)).collect::<Option<Vec<_>>>().unwrap_or_default();
        windows::check_sizes(kind, &sizes)
    }

    /// Where rows are chosen or grouped there is nothing to be OVER yet.
    fn without_over(&self, expr: &Expr, clause: &str) -> Flow {
        let mut search = FindOver(None);
        let _ = expr.visit(&mut search);
        match search.0 {
            Some(at) => {
                let hint = "compute it in a subquery: SELECT … FROM (SELECT …, … OVER (…) AS n FROM …) WHERE n …";
                self.refuse(&format!("OVER in {clause}"), hint, at)
            }
            None => ControlFlow::Continue(()),
        }
    }

    /// Where rows are being joined there is no event time of theirs yet.
    fn with_times(&self, condition: &Expr) -> Flow {
        let found = visit_expressions(condition, |expr| match expr {
            Expr::Function(function) if windows::is_without_time(function) => ControlFlow::Break(function.name.span()),
            _ => ControlFlow::Continue(()),
        });
        match found {
            ControlFlow::Break(at) => {
                let hint = "say of which time: tumble(a.time, size)";
                self.refuse("tumble(size) in the condition of a join", hint, at)
            }
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
        }
    }
}

/// The first function with OVER that is not in a subquery.
struct FindOver(Option<Span>);

impl Visitor for FindOver {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if function.over.is_some() => {
                self.0 = Some(function.name.span());
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Refuse<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        if let Some(with) = query.with.as_ref().filter(|with| with.recursive) {
            let hint = "join the table to itself once for each step, or write the steps back to a table that the pipeline reads";
            return self.refuse("WITH RECURSIVE", hint, with.span());
        }
        self.body(&query.body)?;
        match (&query.order_by, &query.limit_clause) {
            (Some(order_by), None) => self.refuse("ORDER BY without LIMIT", NO_ORDER, order_by.span()),
            (Some(_), Some(limit @ LimitClause::LimitOffset { limit: None, offset: Some(_), .. })) => {
                self.refuse("OFFSET without LIMIT", NO_ORDER, limit_span(limit))
            }
            (None, Some(limit)) => self.refuse("LIMIT without ORDER BY", NO_LIMIT, limit_span(limit)),
            _ => ControlFlow::Continue(()),
        }?;
        if let Some(fetch) = &query.fetch {
            let at = fetch.quantity.as_ref().map_or(query.body.span(), Spanned::span);
            return self.refuse("FETCH", "write ORDER BY … LIMIT n", at);
        }
        if !query.locks.is_empty() || query.for_clause.is_some() {
            return self.refuse(
                "FOR … at the end of a query",
                "leave it out: rows of a stream are not locked",
                query.body.span(),
            );
        }
        if query.settings.is_some() || query.format_clause.is_some() {
            let hint = "options of a pipeline stand before AS: CREATE PIPELINE p WITH (…) AS …";
            return self.refuse("SETTINGS or FORMAT", hint, query.body.span());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let token = select.select_token.0.span;
        if matches!(select.group_by, GroupByExpr::All(_)) {
            return self.refuse("GROUP BY ALL", "list the columns: GROUP BY a, b", token);
        }
        if select.from.is_empty() {
            return self.refuse("a SELECT without FROM", "say what it reads: FROM table", token);
        }
        if let Some(into) = &select.into {
            return self.refuse("SELECT INTO", "write INSERT INTO table SELECT …", into.name.span());
        }
        if let GroupByExpr::Expressions(keys, _) = &select.group_by {
            keys.iter().try_for_each(|key| self.without_over(key, "GROUP BY"))?;
        }
        select.selection.iter().try_for_each(|condition| self.without_over(condition, "WHERE"))?;
        let joins = || select.from.iter().flat_map(|from| &from.joins);
        if select.from.len() > 1 || joins().next().is_some() {
            let of_join = joins().filter_map(|join| match constraint(&join.join_operator) {
                Some(JoinConstraint::On(on)) => Some(on),
                _ => None,
            });
            of_join.chain(&select.selection).try_for_each(|condition| self.with_times(condition))?;
        }
        for join in joins() {
            if let JoinOperator::AsOf { .. } = join.join_operator {
                let hint = "join on the times: ON a.k = b.k AND b.at BETWEEN a.at - INTERVAL '1 hour' AND a.at";
                return self.refuse("ASOF JOIN", hint, span_of(&join.relation));
            }
            if let Some(JoinConstraint::None) = constraint(&join.join_operator)
                && !matches!(join.join_operator, JoinOperator::CrossJoin(_))
            {
                let hint =
                    "say which rows belong together: JOIN b ON a.id = b.id; every row with every other is CROSS JOIN";
                return self.refuse("JOIN without ON or USING", hint, span_of(&join.relation));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match TableWindow::of(factor) {
            Ok(None) => {}
            Ok(Some(window)) => {
                let sizes = window.sizes.iter().map(|size| self.sql.constant(size)).collect::<Option<Vec<_>>>();
                return match windows::check_sizes(window.kind, &sizes.unwrap_or_default()) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break(error.at(location(factor.span().start))),
                };
            }
            Err(error) => return ControlFlow::Break(error),
        }
        let (what, hint) = match factor {
            // What `temporal` does not understand, it refuses.
            TableFactor::Table { args: None, sample: None, .. } => return ControlFlow::Continue(()),
            TableFactor::Derived { lateral: false, .. } | TableFactor::NestedJoin { .. } => {
                return ControlFlow::Continue(());
            }
            TableFactor::Derived { .. } => ("LATERAL", "join the subquery: JOIN (SELECT …) AS name ON …"),
            TableFactor::Table { sample: Some(_), .. } => ("TABLESAMPLE", "filter by a hash: WHERE hash(id) % 10 = 0"),
            TableFactor::UNNEST { .. } => {
                ("UNNEST in FROM", "write it in the SELECT list: SELECT unnest(list) AS element")
            }
            TableFactor::Pivot { .. } => {
                ("PIVOT", "write one aggregate for each column: sum(x) FILTER (WHERE kind = 'a') AS a")
            }
            TableFactor::Unpivot { .. } => ("UNPIVOT", "write UNION ALL of one SELECT for each column"),
            TableFactor::Table { .. } | TableFactor::Function { .. } | TableFactor::TableFunction { .. } => (
                "a table function",
                "FROM takes tables, views, subqueries and windows: FROM TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '1 minute')",
            ),
            _ => ("this kind of table expression", "FROM takes tables, views, subqueries and joins of them"),
        };
        self.refuse(what, hint, span_of(factor))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Subquery(query) if !self.groups => self.refuse("a subquery in an expression", "", query.span()),
            Expr::Exists { subquery, .. } if !self.groups => self.refuse("EXISTS", "", subquery.span()),
            Expr::InSubquery { subquery, .. } if !self.groups => self.refuse("IN (SELECT …)", "", subquery.span()),
            Expr::AnyOp { right, .. } if matches!(**right, Expr::Subquery(_)) => {
                let hint = "write x IN (SELECT …) for =, else compare with (SELECT min(…) …) or (SELECT max(…) …)";
                self.refuse("ANY (SELECT …)", hint, right.span())
            }
            Expr::AllOp { right, .. } if matches!(**right, Expr::Subquery(_)) => {
                let hint =
                    "compare with (SELECT min(…) …) or (SELECT max(…) …), or write NOT EXISTS (SELECT … WHERE …)";
                self.refuse("ALL (SELECT …)", hint, right.span())
            }
            Expr::Function(function) => self.function(function),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn ends_before_it_starts(frame: &WindowFrame) -> bool {
    use WindowFrameBound::{CurrentRow, Following, Preceding};
    let end = frame.end_bound.as_ref().unwrap_or(&CurrentRow);
    matches!(
        (&frame.start_bound, end),
        (Following(_), CurrentRow | Preceding(_))
            | (CurrentRow, Preceding(_))
            | (Following(None), _)
            | (_, Preceding(None))
    )
}

fn limit_span(limit: &LimitClause) -> Span {
    match limit {
        LimitClause::LimitOffset { limit, offset, .. } => {
            limit.as_ref().map(Spanned::span).or(offset.as_ref().map(|o| o.value.span())).unwrap_or(Span::empty())
        }
        LimitClause::OffsetCommaLimit { offset, .. } => offset.span(),
    }
}

//! The place of an error that came without one: the first part of the query that fails when it stands alone.
//!
//! The query is planned again with one SELECT item, one join, only its WHERE … at a time, inner queries first. Done only when
//! there is an error to show.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, GroupByExpr, JoinConstraint, Query, Select, SelectItem, SetExpr, Spanned, TableWithJoins, Value, Visit,
    Visitor, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use laminar_core::Location;

use crate::places::constraint;
use crate::script::location;
use crate::statement::SqlQuery;

/// More queries than that inside one another are not tried: planning each takes its time.
const MAX_QUERIES: usize = 50;

/// `fails`: does this variant of the query have the error? The place is in the script, as all places of the query are.
pub(crate) fn first_failing(query: &SqlQuery, fails: impl Fn(&Query) -> bool) -> Option<Location> {
    let mut queries = Queries(Vec::new());
    // the visitor never breaks
    let _: ControlFlow<()> = query.ast.visit(&mut queries);
    let with = &query.ast.with;
    queries.0.into_iter().take(MAX_QUERIES).find_map(|mut inner| {
        if inner.with.is_none() {
            inner.with = with.as_ref().and_then(|with| seen_by(&inner, with));
        }
        let ends = (inner.order_by.take(), inner.limit_clause.take());
        let found = in_body(&inner.body.clone(), &mut inner, &fails);
        found.or_else(|| {
            let whole = Query { order_by: ends.0.clone(), limit_clause: ends.1.clone(), ..inner };
            let span = ends.0.as_ref().map(Spanned::span).filter(|_| fails(&whole))?;
            location(span.start)
        })
    })
}

/// The named queries that an inner one may read: those before it, if it is one of them.
fn seen_by(inner: &Query, with: &With) -> Option<With> {
    let own = with.cte_tables.iter().position(|named| *named.query == *inner);
    let count = own.unwrap_or(with.cte_tables.len());
    let before = with.cte_tables.get(..count).unwrap_or_default().to_vec();
    (!before.is_empty()).then(|| With { cte_tables: before, ..with.clone() })
}

/// All queries in a query, the inner ones first, itself last.
struct Queries(Vec<Query>);

impl Visitor for Queries {
    type Break = ();

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.0.push(query.clone());
        ControlFlow::Continue(())
    }
}

fn in_body(body: &SetExpr, query: &mut Query, fails: &dyn Fn(&Query) -> bool) -> Option<Location> {
    let mut is_wrong = |body: SetExpr| {
        *query.body = body;
        fails(query)
    };
    match body {
        SetExpr::Select(select) => in_select(select, &mut |select| is_wrong(SetExpr::Select(Box::new(select)))),
        SetExpr::SetOperation { left, right, .. } => {
            let found = in_body(left, query, fails).or_else(|| in_body(right, query, fails));
            found.or_else(|| {
                *query.body = body.clone();
                fails(query).then(|| location(right.span().start)).flatten()
            })
        }
        // a visited query of its own
        _ => None,
    }
}

fn in_select(select: &Select, is_wrong: &mut dyn FnMut(Select) -> bool) -> Option<Location> {
    let null = SelectItem::UnnamedExpr(Expr::Value(Value::Null.into()));
    let bare = Select {
        projection: vec![null.clone()],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        having: None,
        qualify: None,
        selection: None,
        distinct: None,
        ..select.clone()
    };
    if is_wrong(bare.clone()) {
        return first_wrong_join(&bare, is_wrong);
    }
    let mut place = |select: Select, span: Span| is_wrong(select).then(|| location(span.start)).flatten();
    if let Some(condition) = &select.selection {
        let only = Select { selection: Some(condition.clone()), ..bare.clone() };
        if let Some(found) = place(only, condition.span()) {
            return Some(found);
        }
    }
    if let GroupByExpr::Expressions(keys, _) = &select.group_by {
        for key in keys {
            let alone = Select { projection: vec![SelectItem::UnnamedExpr(key.clone())], ..bare.clone() };
            let group_by = GroupByExpr::Expressions(vec![key.clone()], vec![]);
            let only_key = Select { projection: select.projection.clone(), group_by, ..bare.clone() };
            if let Some(found) = place(alone, key.span()).or_else(|| place(only_key, key.span())) {
                return Some(found);
            }
        }
    }
    for item in &select.projection {
        let only = Select { projection: vec![item.clone()], ..bare.clone() };
        if let Some(found) = place(only, item.span()) {
            return Some(found);
        }
    }
    let having = select.having.as_ref()?;
    let only = Select {
        projection: vec![null],
        group_by: select.group_by.clone(),
        having: Some(having.clone()),
        ..bare.clone()
    };
    place(only, having.span())
}

/// The condition of the first join with which the FROM of the SELECT fails.
fn first_wrong_join(bare: &Select, is_wrong: &mut dyn FnMut(Select) -> bool) -> Option<Location> {
    for (i, from) in bare.from.iter().enumerate() {
        for (j, join) in from.joins.iter().enumerate() {
            let mut before = bare.from.get(..i).unwrap_or_default().to_vec();
            let joins = from.joins.get(..=j).unwrap_or_default().to_vec();
            before.push(TableWithJoins { relation: from.relation.clone(), joins });
            if is_wrong(Select { from: before, ..bare.clone() }) {
                let span = match constraint(&join.join_operator) {
                    Some(JoinConstraint::On(on)) => on.span(),
                    Some(JoinConstraint::Using(names)) => names.first().map_or(Span::empty(), ast::ObjectName::span),
                    _ => join.relation.span(),
                };
                return location(span.start);
            }
        }
    }
    None
}

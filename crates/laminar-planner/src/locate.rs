//! The place of an error that came without one: the first expression of the query that fails when it stands alone.
//!
//! The query is planned again with one SELECT item, or only its WHERE, at a time. Done only when there is an error to show.

use datafusion::sql::sqlparser::ast::{self, Expr, GroupByExpr, SelectItem, SetExpr, Spanned, Value};
use laminar_core::Location;

use crate::script::location;
use crate::statement::SqlQuery;

/// `fails`: does this variant of the query have the error? The place is in the script, as all places of the query are.
pub(crate) fn first_failing(query: &SqlQuery, fails: impl Fn(&ast::Query) -> bool) -> Option<Location> {
    let mut alone = query.ast.as_ref().clone();
    alone.order_by = None;
    alone.limit_clause = None;
    search(&alone.body.clone(), &mut alone, &fails, &mut |query, body| *query.body = body)
}

type Put<'a> = &'a mut dyn FnMut(&mut ast::Query, SetExpr);

fn search(
    body: &SetExpr,
    query: &mut ast::Query,
    fails: &dyn Fn(&ast::Query) -> bool,
    put: Put<'_>,
) -> Option<Location> {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            search(left, query, fails, put).or_else(|| search(right, query, fails, put))
        }
        SetExpr::Select(select) => {
            let bare = ast::Select {
                group_by: GroupByExpr::Expressions(vec![], vec![]),
                having: None,
                selection: None,
                distinct: None,
                ..select.as_ref().clone()
            };
            let mut try_one = |select: ast::Select, span: datafusion::sql::sqlparser::tokenizer::Span| {
                put(query, SetExpr::Select(Box::new(select)));
                let found = fails(query);
                found.then(|| location(span.start)).flatten()
            };
            let null = SelectItem::UnnamedExpr(Expr::Value(Value::Null.into()));
            if let Some(selection) = &select.selection {
                let only = ast::Select { projection: vec![null], selection: Some(selection.clone()), ..bare.clone() };
                if let Some(found) = try_one(only, selection.span()) {
                    return Some(found);
                }
            }
            select.projection.iter().find_map(|item| {
                let only = ast::Select { projection: vec![item.clone()], ..bare.clone() };
                try_one(only, item.span())
            })
        }
        _ => None,
    }
}

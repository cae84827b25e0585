//! Where the constructs of a query stand. Optimised plans have no places: what lowering or a rule refuses is looked for here.
//!
//! A construct is found by its kind and its words, since a plan's node still has the names and literals of the SQL it came from:
//!
//! ```text
//! Join: a.id = b.id, a.at < b.at     ─►  of all JOINs the one whose ON shares most words: id, at, …
//! ```

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::logical_expr::{JoinType, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    self, Distinct, Expr, GroupByExpr, JoinConstraint, JoinOperator, LimitClause, ObjectName, Query, Select, SetExpr,
    Spanned, TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use laminar_core::{Error, Location};

use crate::script::location;
use crate::statement::SqlQuery;

/// The constructs of one statement's queries, in the order of the text.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<Construct>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of a function.
    Call,
    /// Of a function with OVER.
    Over,
    GroupBy,
    Distinct,
    Join,
    /// INTERSECT, EXCEPT.
    SetOperation,
    /// EXISTS and IN with a subquery.
    Membership,
    NotIn,
    Subquery,
    Limit,
    /// A name in FROM.
    Table,
}

#[derive(Debug)]
struct Construct {
    kind: Kind,
    words: BTreeSet<String>,
    at: Location,
}

impl Places {
    pub fn of(query: &SqlQuery) -> Self {
        let mut places = Self::default();
        // the visitor never breaks
        let _: ControlFlow<()> = query.ast.visit(&mut places);
        places
    }

    /// The construct that the plan's topmost node was made from.
    pub fn of_node(&self, plan: &LogicalPlan) -> Option<Location> {
        let text = plan.expressions().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let kinds: &[Kind] = match plan {
            LogicalPlan::Window(_) => &[Kind::Over],
            LogicalPlan::Aggregate(_) => &[Kind::GroupBy, Kind::Distinct, Kind::Call],
            LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => &[Kind::Limit],
            LogicalPlan::Unnest(_) => &[Kind::Call],
            LogicalPlan::Join(join) if join.null_aware => &[Kind::NotIn],
            LogicalPlan::Join(join) => match join.join_type {
                JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => &[Kind::Join, Kind::Subquery],
                _ => &[Kind::Membership, Kind::NotIn, Kind::SetOperation],
            },
            _ => &[],
        };
        kinds.iter().find_map(|kind| self.nearest(*kind, &text))
    }

    /// The function call that the message begins with, as in `hop(…) outside of GROUP BY`.
    pub fn of_call_in(&self, error: &Error) -> Option<Location> {
        let message = error.message();
        let end = message.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(message.len());
        let name = message.get(..end).filter(|name| !name.is_empty())?;
        // `hop_start(…)` is a call of hop
        let is_named =
            |c: &&Construct| ["(", "_start(", "_end("].iter().any(|end| c.words.contains(&format!("{name}{end}")));
        let calls = self.0.iter().filter(|c| c.kind == Kind::Call).filter(is_named);
        best(calls, &words(message))
    }

    /// The subquery, used as a value, that this plan was made from.
    pub fn of_subquery(&self, plan: &str) -> Option<Location> {
        self.nearest(Kind::Subquery, plan)
    }

    /// Where the first of these names stands in FROM.
    pub fn of_table<'n>(&self, mut names: impl Iterator<Item = &'n String>) -> Option<Location> {
        names.find_map(|name| {
            let named = |c: &&Construct| c.kind == Kind::Table && c.words.contains(name);
            self.0.iter().find(named).map(|c| c.at)
        })
    }

    fn nearest(&self, kind: Kind, text: &str) -> Option<Location> {
        best(self.0.iter().filter(|c| c.kind == kind), &words(text))
    }

    fn add(&mut self, kind: Kind, span: Span, text: &str) {
        if let Some(at) = location(span.start) {
            self.0.push(Construct { kind, words: words(text), at });
        }
    }
}

/// The first of those that share most words with the text.
fn best<'a>(found: impl Iterator<Item = &'a Construct>, words: &BTreeSet<String>) -> Option<Location> {
    let mut best: Option<(usize, Location)> = None;
    for construct in found {
        let shared = construct.words.intersection(words).count();
        if best.is_none_or(|(most, _)| shared > most) {
            best = Some((shared, construct.at));
        }
    }
    best.map(|(_, at)| at)
}

fn words(text: &str) -> BTreeSet<String> {
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    text.split(is_end).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

impl Visitor for Places {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                let parts = limit.iter().chain(offset.as_ref().map(|o| &o.value));
                let text = parts.clone().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                if let Some(first) = parts.into_iter().next() {
                    self.add(Kind::Limit, first.span(), &text);
                }
            }
            Some(LimitClause::OffsetCommaLimit { offset, .. }) => {
                self.add(Kind::Limit, offset.span(), &offset.to_string());
            }
            None => {}
        }
        if let SetExpr::SetOperation { right, .. } = query.body.as_ref() {
            self.add(Kind::SetOperation, right.span(), &right.to_string());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if let GroupByExpr::Expressions(keys, _) = &select.group_by
            && let Some(first) = keys.first()
        {
            let text = format!("{} {}", select.group_by, select.projection.iter().map(text).collect::<String>());
            let span = match first {
                // these have no place of their own
                Expr::GroupingSets(sets) | Expr::Rollup(sets) | Expr::Cube(sets) => {
                    sets.iter().flatten().next().map_or(Span::empty(), Spanned::span)
                }
                other => other.span(),
            };
            self.add(Kind::GroupBy, span, &text);
        }
        if let Some(Distinct::Distinct | Distinct::On(_)) = &select.distinct {
            let text = select.projection.iter().map(text).collect::<String>();
            self.add(Kind::Distinct, select.select_token.0.span, &text);
        }
        for from in &select.from {
            for join in &from.joins {
                let text = match constraint(&join.join_operator) {
                    Some(JoinConstraint::On(on)) => on.to_string(),
                    Some(JoinConstraint::Using(names)) => {
                        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                    }
                    _ => String::new(),
                };
                self.add(Kind::Join, span_of(&join.relation), &text);
            }
        }
        // `FROM a, b WHERE …`
        for (i, from) in select.from.iter().enumerate().skip(1) {
            let condition = select.selection.as_ref().filter(|_| i > 0).map(ToString::to_string);
            self.add(Kind::Join, span_of(&from.relation), &condition.unwrap_or_default());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, .. } = factor {
            self.add(Kind::Table, name.span(), &name.to_string());
        }
        // TUMBLE(TABLE t, …)
        let called = match factor {
            TableFactor::Table { name, args: Some(_), .. } => Some(name),
            TableFactor::TableFunction { expr: Expr::Function(function), .. } => Some(&function.name),
            _ => None,
        };
        if let Some(name) = called {
            self.add(Kind::Call, name.span(), &format!("{factor}"));
            if let Some(call) = self.0.last_mut().filter(|c| c.kind == Kind::Call) {
                call.words.insert(format!("{}(", last_name(name)));
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                let (span, text) = (function.name.span(), expr.to_string());
                self.add(Kind::Call, span, &text);
                if let Some(call) = self.0.last_mut().filter(|c| c.kind == Kind::Call) {
                    call.words.insert(format!("{}(", last_name(&function.name)));
                }
                if function.over.is_some() {
                    self.add(Kind::Over, span, &text);
                }
            }
            Expr::InSubquery { expr: of, negated, .. } => {
                let kind = if *negated { Kind::NotIn } else { Kind::Membership };
                self.add(kind, of.span(), &expr.to_string());
            }
            Expr::Exists { subquery, .. } => self.add(Kind::Membership, subquery.span(), &expr.to_string()),
            Expr::Subquery(query) => self.add(Kind::Subquery, query.span(), &expr.to_string()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn text(item: &ast::SelectItem) -> String {
    format!("{item} ")
}

/// The last part of a function's name, in lower case.
pub(crate) fn last_name(name: &ObjectName) -> String {
    name.0.last().map(ToString::to_string).unwrap_or_default().to_lowercase()
}

/// Of a relation in FROM: a subquery's is that of what it selects.
pub(crate) fn span_of(factor: &TableFactor) -> Span {
    match factor {
        TableFactor::Derived { subquery, .. } => subquery.span(),
        TableFactor::NestedJoin { table_with_joins, .. } => span_of(&table_with_joins.relation),
        other => other.span(),
    }
}

/// What a join is ON or USING; `None` for those that have neither.
pub(crate) fn constraint(join: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator::*;
    match join {
        Join(c) | Inner(c) | Left(c) | LeftOuter(c) | Right(c) | RightOuter(c) | FullOuter(c) | CrossJoin(c)
        | Semi(c) | LeftSemi(c) | RightSemi(c) | Anti(c) | LeftAnti(c) | RightAnti(c) => Some(c),
        _ => None,
    }
}

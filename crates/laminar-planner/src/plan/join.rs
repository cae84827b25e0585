//! Joins to operators.
//!
//! A join of rows that only come (never change) and can match only within some time of each other is final: rows leave its
//! state when the watermark has passed that time, and an outer row comes out then. Any other join keeps its rows, and an outer
//! or anti join takes back what a later match makes wrong.
//!
//! ```text
//!  ON a.window = b.window                                     within the window's size
//!  ON … AND b.at BETWEEN a.at - INTERVAL '1' HOUR AND a.at    within 0 … 1 hour
//! ```

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Join, Operator};
use datafusion::physical_expr::PhysicalExpr;
use laminar_core::{Code, Error, Result};
use laminar_engine::graph::{Exchange, NodeKind};
use laminar_engine::operators::{JoinFactory, JoinKind, OuterRows, TimeBounds};

use super::explain;
use super::facts::{Facts, TimeFact};
use super::lower::{Lowering, Stage, compile};
use crate::functions::windows::micros_of;
use crate::translate::translate;

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<Stage> {
        let kind = kind(join)?;
        let left = self.stage(&join.left)?;
        let left = self.sealed(left)?;
        let right = self.stage(&join.right)?;
        let right = self.sealed(right)?;
        let appends = !left.facts.updating && !right.facts.updating;
        let bounds = if appends { bounds(join, &left, &right)? } else { None };
        let left_keys = keys(self, join.on.iter().map(|(l, _)| l), &left)?;
        let right_keys = keys(self, join.on.iter().map(|(_, r)| r), &right)?;
        let both = left.schema.join(&right.schema).map_err(translate)?;
        let filter = join.filter.as_ref().map(|f| compile(self.planner, f, &both)).transpose()?;
        let schema: SchemaRef = Arc::new(join.schema.as_arrow().clone());
        let factory = JoinFactory {
            kind,
            left_keys: left_keys.clone(),
            right_keys: right_keys.clone(),
            null_equals_null: join.null_equality == NullEquality::NullEqualsNull,
            filter,
            left_schema: self.schema_of(left.node),
            right_schema: self.schema_of(right.node),
            schema: Arc::clone(&schema),
            bounds,
            ttl_micros: self.ttl_micros(),
            emit: if bounds.is_some() { OuterRows::WhenExpired } else { OuterRows::AtOnce },
        };
        self.waits |= bounds.is_some();
        let facts = facts(join, kind, &left, &right, bounds)?;
        let node = self.add("join", shown(join, bounds), NodeKind::Operator(Arc::new(factory)), schema);
        self.connect_by(left.node, node, 0, Exchange::Hash(left_keys));
        self.connect_by(right.node, node, 1, Exchange::Hash(right_keys));
        Ok(self.all_of(node, Arc::clone(&join.schema), facts))
    }
}

fn keys<'e>(
    lowering: &Lowering<'_>,
    exprs: impl Iterator<Item = &'e Expr>,
    side: &Stage,
) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    exprs.map(|e| compile(lowering.planner, e, &side.schema)).collect()
}

fn kind(join: &Join) -> Result<JoinKind> {
    let refused = |what: &str, hint: &str| {
        Err(Error::new(Code::NotSupported, format!("{what} in a pipeline is not supported in this version"))
            .with_hint(hint))
    };
    if join.null_aware {
        return refused("NOT IN (SELECT …)", "write NOT EXISTS (SELECT … WHERE …), which has no surprises with NULL");
    }
    Ok(match join.join_type {
        JoinType::Inner => JoinKind::Inner,
        JoinType::Left => JoinKind::Left,
        JoinType::Right => JoinKind::Right,
        JoinType::Full => JoinKind::Full,
        JoinType::LeftSemi => JoinKind::LeftSemi,
        JoinType::LeftAnti => JoinKind::LeftAnti,
        JoinType::RightSemi => JoinKind::RightSemi,
        JoinType::RightAnti => JoinKind::RightAnti,
        JoinType::LeftMark | JoinType::RightMark => {
            return refused(
                "EXISTS or IN (SELECT …) inside OR, CASE or SELECT",
                "use it as a condition of WHERE, joined by AND",
            );
        }
    })
}

fn facts(join: &Join, kind: JoinKind, left: &Stage, right: &Stage, bounds: Option<TimeBounds>) -> Result<Facts> {
    let appends = !left.facts.updating && !right.facts.updating;
    let only_adds = matches!(kind, JoinKind::Inner | JoinKind::LeftSemi | JoinKind::RightSemi);
    let mut columns = vec![TimeFact::Nothing; join.schema.fields().len()];
    // A pair comes with the later of its rows, and a row without a match when none can come any more. So a window is still
    // open only if a match is in the same one, and there is a match.
    if appends && only_adds && bounds.is_some() {
        let width = left.schema.fields().len();
        for (l, r) in &join.on {
            let fact = left.facts.of(l, &left.schema)?;
            let same = matches!(
                (fact, right.facts.of(r, &right.schema)?),
                (TimeFact::Window { .. }, TimeFact::Window { .. }) | (TimeFact::WindowEnd, TimeFact::WindowEnd)
            );
            let place = |expr: &Expr, side: &Stage| expr.try_as_col().and_then(|c| side_of(c, &side.schema));
            let (l, r) = (place(l, left), place(r, right));
            let places = match kind {
                JoinKind::LeftSemi => [l, None],
                JoinKind::RightSemi => [r, None],
                _ => [l, r.map(|r| width + r)],
            };
            for place in places.into_iter().flatten().filter(|_| same) {
                if let Some(column) = columns.get_mut(place) {
                    *column = fact;
                }
            }
        }
    }
    Ok(Facts { updating: !appends || !(only_adds || bounds.is_some()), by_arrival: false, columns })
}

/// How far the event times of rows that match can be apart.
fn bounds(join: &Join, left: &Stage, right: &Stage) -> Result<Option<TimeBounds>> {
    let mut found = TimeBounds { lower: i64::MIN, upper: i64::MAX };
    for (l, r) in &join.on {
        let facts = (left.facts.of(l, &left.schema)?, right.facts.of(r, &right.schema)?);
        let apart = match facts {
            (TimeFact::Window { size: a }, TimeFact::Window { size: b })
            | (TimeFact::WindowStart { size: a }, TimeFact::WindowStart { size: b }) => a.max(b).unwrap_or(0),
            (TimeFact::WindowEnd, TimeFact::WindowEnd) | (TimeFact::Event, TimeFact::Event) => 0,
            _ => continue,
        };
        found = TimeBounds { lower: found.lower.max(-apart), upper: found.upper.min(apart) };
    }
    let conditions = join.filter.as_ref().map(split_conjunction).unwrap_or_default();
    for condition in conditions {
        for (low, op, high) in comparisons(condition) {
            // low <= high, both an event time plus a constant.
            let (Some(a), Some(b)) = (timed(low, left, right)?, timed(high, left, right)?) else { continue };
            let distance = b.1.saturating_sub(a.1);
            match (a.0, b.0) {
                // left.time + x <= right.time + y
                (Of::Left, Of::Right) => found.upper = found.upper.min(distance),
                (Of::Right, Of::Left) => found.lower = found.lower.max(distance.saturating_neg()),
                _ => continue,
            }
            if op == Operator::Eq {
                let (lower, upper) = match a.0 {
                    Of::Left => (distance, distance),
                    Of::Right => (distance.saturating_neg(), distance.saturating_neg()),
                };
                found = TimeBounds { lower: found.lower.max(lower), upper: found.upper.min(upper) };
            }
        }
    }
    // One side alone bounds only the other's rows: both must go some time.
    Ok((found.lower > i64::MIN && found.upper < i64::MAX).then_some(found))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Left,
    Right,
}

/// The comparisons in the condition as (smaller, operator, larger).
fn comparisons(condition: &Expr) -> Vec<(&Expr, Operator, &Expr)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::LtEq | Operator::Lt | Operator::Eq => vec![(left, *op, right)],
            Operator::GtEq | Operator::Gt => vec![(right, *op, left)],
            _ => vec![],
        },
        Expr::Between(between) if !between.negated => {
            vec![(&between.low, Operator::LtEq, &between.expr), (&between.expr, Operator::LtEq, &between.high)]
        }
        _ => vec![],
    }
}

/// The expression as an event time of one side plus µs.
fn timed(expr: &Expr, left: &Stage, right: &Stage) -> Result<Option<(Of, i64)>> {
    Ok(match expr {
        Expr::Column(column) => {
            let is_time = |side: &Stage| {
                side_of(column, &side.schema).map(|i| side.facts.columns.get(i) == Some(&TimeFact::Event))
            };
            match (is_time(left), is_time(right)) {
                (Some(true), _) => Some((Of::Left, 0)),
                (None, Some(true)) => Some((Of::Right, 0)),
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left: base, op, right: interval }) => {
            let Expr::Literal(interval, _) = interval.as_ref() else { return Ok(None) };
            let (Some((of, at)), Some(micros)) = (timed(base, left, right)?, micros_of(interval)) else {
                return Ok(None);
            };
            match op {
                Operator::Plus => Some((of, at.saturating_add(micros))),
                Operator::Minus => Some((of, at.saturating_sub(micros))),
                _ => None,
            }
        }
        _ => None,
    })
}

fn side_of(column: &datafusion::common::Column, schema: &DFSchema) -> Option<usize> {
    schema.maybe_index_of_column(column)
}

fn shown(join: &Join, bounds: Option<TimeBounds>) -> String {
    let mut conditions: Vec<String> =
        join.on.iter().map(|(l, r)| format!("{} = {}", explain::expression(l), explain::expression(r))).collect();
    conditions.extend(join.filter.iter().map(explain::expression));
    let on = if conditions.is_empty() { "everything".to_string() } else { format!("on {}", conditions.join(" AND ")) };
    let seconds = |micros: i64| format!("{} s", micros as f64 / 1e6);
    let within = bounds.map(|b| format!(", {} to {} apart", seconds(b.lower), seconds(b.upper))).unwrap_or_default();
    format!("{} join {on}{within}", join.join_type.to_string().to_lowercase())
}

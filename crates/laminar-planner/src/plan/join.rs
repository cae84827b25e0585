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
use super::repeatable;
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
            ttl_micros: [&left, &right].map(|side| self.ttl_micros_of(&side.facts)),
            emit: if bounds.is_some() { OuterRows::WhenExpired } else { OuterRows::AtOnce },
        };
        if !appends {
            join.on.iter().flat_map(|(l, r)| [l, r]).chain(&join.filter).try_for_each(repeatable::check)?;
        }
        let facts = facts(join, kind, &left, &right, bounds)?;
        let node = self.add("join", shown(join, bounds), NodeKind::Operator(Arc::new(factory)), schema);
        if bounds.is_some() {
            self.waiting.insert(node);
        }
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
                (TimeFact::Window { .. }, TimeFact::Window { .. })
                    | (TimeFact::WindowEnd { .. }, TimeFact::WindowEnd { .. })
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
    // A row of a stream is forgotten some time, and its pairs stay.
    let lasting = left.facts.lasting && right.facts.lasting;
    Ok(Facts { updating: !appends || !(only_adds || bounds.is_some()), lasting, by_arrival: false, columns })
}

/// How far the event times of rows that match can be apart.
fn bounds(join: &Join, left: &Stage, right: &Stage) -> Result<Option<TimeBounds>> {
    let mut found = TimeBounds { lower: i64::MIN, upper: i64::MAX };
    for (l, r) in &join.on {
        let facts = (left.facts.of(l, &left.schema)?, right.facts.of(r, &right.schema)?);
        let apart = match facts {
            (TimeFact::Window { size: a }, TimeFact::Window { size: b })
            | (TimeFact::WindowStart { size: a }, TimeFact::WindowStart { size: b }) => a.max(b).unwrap_or(0),
            (TimeFact::WindowEnd { .. }, TimeFact::WindowEnd { .. }) | (TimeFact::Event, TimeFact::Event) => 0,
            _ => {
                if let (Some(a), Some(b)) = (timed(l, left, right)?, timed(r, left, right)?) {
                    narrow(&mut found, &a, &b);
                    narrow(&mut found, &b, &a);
                }
                continue;
            }
        };
        found = TimeBounds { lower: found.lower.max(-apart), upper: found.upper.min(apart) };
    }
    let conditions = join.filter.as_ref().map(split_conjunction).unwrap_or_default();
    for condition in conditions {
        for (low, op, high) in comparisons(condition) {
            let (Some(a), Some(b)) = (timed(low, left, right)?, timed(high, left, right)?) else { continue };
            narrow(&mut found, &a, &b);
            if op == Operator::Eq {
                narrow(&mut found, &b, &a);
            }
        }
    }
    // One side alone bounds only the other's rows: both must go some time.
    Ok((found.lower > i64::MIN && found.upper < i64::MAX).then_some(found))
}

/// What `low <= high` says of the event times.
fn narrow(found: &mut TimeBounds, low: &Timed, high: &Timed) {
    // low.time + low.least <= low's value <= high's value <= high.time + high.most
    let distance = high.most.saturating_sub(low.least);
    match (low.of, high.of) {
        (Of::Left, Of::Right) => found.upper = found.upper.min(distance),
        (Of::Right, Of::Left) => found.lower = found.lower.max(distance.saturating_neg()),
        _ => {}
    }
}

/// An expression that follows the event time of one side: its value is that time plus `least` to `most` µs.
struct Timed {
    of: Of,
    least: i64,
    most: i64,
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

/// The expression as one that follows the event time of a side.
fn timed(expr: &Expr, left: &Stage, right: &Stage) -> Result<Option<Timed>> {
    if let Expr::BinaryExpr(BinaryExpr { left: base, op: op @ (Operator::Plus | Operator::Minus), right: interval }) =
        expr
    {
        let Expr::Literal(interval, _) = interval.as_ref() else { return Ok(None) };
        let (Some(time), Some(micros)) = (timed(base, left, right)?, micros_of(interval)) else { return Ok(None) };
        let micros = if *op == Operator::Plus { micros } else { micros.saturating_neg() };
        let (least, most) = (time.least.saturating_add(micros), time.most.saturating_add(micros));
        return Ok(Some(Timed { least, most, ..time }));
    }
    let of_side = |side: &Stage, of: Of| -> Result<Option<Timed>> {
        let is_own = |column: &&datafusion::common::Column| side_of(column, &side.schema).is_some();
        if !expr.column_refs().iter().all(is_own) {
            return Ok(None);
        }
        Ok(match side.facts.of(expr, &side.schema)? {
            TimeFact::Event => Some(Timed { of, least: 0, most: 0 }),
            // The time is from the window's start up to its last moment.
            TimeFact::WindowStart { size: Some(size) } => Some(Timed { of, least: 1 - size, most: 0 }),
            TimeFact::WindowEnd { size: Some(size) } => Some(Timed { of, least: 1, most: size }),
            _ => None,
        })
    };
    match of_side(left, Of::Left)? {
        Some(time) => Ok(Some(time)),
        None => of_side(right, Of::Right),
    }
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

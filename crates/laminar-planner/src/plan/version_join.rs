//! Joins with the versions of a table to operators.
//!
//! The time is the event time of the left rows: only that tells when all versions up to it are here. The condition holds the
//! whole primary key of the table, by which versions are kept; what is left of it is asked of the row that was found.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::JoinType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::physical_expr::PhysicalExpr;
use laminar_core::{Code, Error, Result};
use laminar_engine::graph::{Exchange, NodeKind};
use laminar_engine::operators::{TemporalJoinFactory, Unmatched};

use super::explain;
use super::facts::{Facts, TimeFact};
use super::lower::{Lowering, Stage, compile};
use crate::functions::clock::is_processing_time;
use crate::tables::StreamSource;
use crate::temporal::VersionJoin;
use crate::translate::translate;

impl Lowering<'_> {
    pub(super) fn version_join(&mut self, join: &VersionJoin) -> Result<Stage> {
        self.version_join_of(join).map_err(|error| error.at(join.versioned.location()))
    }

    fn version_join_of(&mut self, join: &VersionJoin) -> Result<Stage> {
        let left = self.stage(&join.left)?;
        let left = self.sealed(left)?;
        let right = self.stage(&join.right)?;
        let right = self.sealed(right)?;
        self.check_versions(join, &left, &right)?;
        let (keys, rest) = keys_and_rest(join, &right)?;
        let left_keys = self.compiled(keys.iter().map(|(left, _)| left), &left)?;
        let right_keys = self.compiled(keys.iter().map(|(_, right)| right), &right)?;
        let both = left.schema.join(&right.schema).map_err(translate)?;
        let filter = conjunction(rest).map(|rest| compile(self.planner, &rest, &both)).transpose()?;
        let schema: SchemaRef = Arc::new(join.schema.as_arrow().clone());
        let factory = TemporalJoinFactory {
            unmatched: if join.kind == JoinType::Left { Unmatched::Emit } else { Unmatched::Drop },
            left_keys: left_keys.clone(),
            right_keys: right_keys.clone(),
            filter,
            left_schema: self.schema_of(left.node),
            right_schema: self.schema_of(right.node),
            schema: Arc::clone(&schema),
            ttl_micros: self.chosen_ttl_micros(),
        };
        let mut facts = Facts::inserts(join.schema.fields().len());
        facts.by_arrival = left.facts.by_arrival;
        facts.columns.splice(..left.facts.columns.len(), left.facts.columns.iter().copied());
        let node = self.add("versions", shown(join), NodeKind::Operator(Arc::new(factory)), schema);
        self.waiting.insert(node);
        self.connect_by(left.node, node, 0, Exchange::Hash(left_keys));
        self.connect_by(right.node, node, 1, Exchange::Hash(right_keys));
        Ok(self.all_of(node, Arc::clone(&join.schema), facts))
    }

    fn compiled<'e>(&self, exprs: impl Iterator<Item = &'e Expr>, side: &Stage) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        exprs.map(|expr| compile(self.planner, expr, &side.schema)).collect()
    }

    fn check_versions(&self, join: &VersionJoin, left: &Stage, right: &Stage) -> Result<()> {
        let refused = |message: String| Err(Error::new(Code::NotSupported, message));
        let table = &join.versioned.table;
        if left.facts.updating {
            return refused(format!(
                "rows that may change later cannot be joined FOR SYSTEM_TIME with versions of {table}"
            ))
            .map_err(|error| error.with_hint("join the rows with their versions first, then aggregate"));
        }
        if left.facts.of(&join.time, &left.schema)? != TimeFact::Event {
            let time = explain::expression(&join.time);
            let message =
                format!("FOR SYSTEM_TIME AS OF {time}, which is not the event time of the rows before the join");
            return refused(message).map_err(|error| {
                error.with_hint(match is_processing_time(&join.time) {
                    true => {
                        "in CREATE TABLE, declare a column arrived TIMESTAMP GENERATED ALWAYS AS (PROCTIME()) and \
                         WATERMARK FOR arrived, and write AS OF arrived"
                    }
                    false => "write the column of its table's WATERMARK FOR",
                })
            });
        }
        if !is_table(table, &join.right) {
            return refused(format!("FOR SYSTEM_TIME AS OF of {table}, which is not read as a table here"));
        }
        if right.facts.updating && self.is_timed_by_value(table) {
            let message =
                format!("the changes of table {table} are timed by a column of its rows, not by when they changed");
            return refused(message).map_err(|error| {
                error.with_hint("leave WATERMARK FOR out: the event time of a change is then that of its record")
            });
        }
        Ok(())
    }
}

/// Does the plan read the table, and nothing else?
fn is_table(table: &str, plan: &LogicalPlan) -> bool {
    let mut only_reads = true;
    let visited = plan.apply(|node| {
        only_reads &= match node {
            LogicalPlan::TableScan(scan) => {
                scan.source.downcast_ref::<StreamSource>().is_some_and(|stream| stream.table == table)
            }
            LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) => true,
            _ => false,
        };
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok() && only_reads
}

/// A left expression and the right one that it equals.
type Pair = (Expr, Expr);

/// For each column of the primary key what it equals, as (left, right); and what else must hold.
fn keys_and_rest(join: &VersionJoin, right: &Stage) -> Result<(Vec<Pair>, Vec<Expr>)> {
    let mut rest = join.conditions.clone();
    let mut keys = Vec::new();
    for key in &join.versioned.primary_key {
        let found = rest.iter().position(|condition| equal(condition, key, right).is_some());
        let Some(pair) = found.and_then(|at| equal(&rest.remove(at), key, right)) else {
            let all = join.versioned.primary_key.join(", ");
            let message =
                format!("the join with versions of {} does not say what its key {key} equals", join.versioned.table);
            return Err(Error::new(Code::NotSupported, message)
                .with_hint(format!("ON … = … for each column of its PRIMARY KEY ({all}), joined by AND")));
        };
        keys.push(pair);
    }
    Ok((keys, rest))
}

/// The condition as (left, right), if it says what the key equals.
fn equal(condition: &Expr, key: &str, right: &Stage) -> Option<Pair> {
    let Expr::BinaryExpr(BinaryExpr { left: one, op: Operator::Eq, right: other }) = condition else { return None };
    let of_right = |expr: &Expr| expr.column_refs().iter().any(|c| right.schema.maybe_index_of_column(c).is_some());
    match (one.as_ref(), other.as_ref()) {
        (a, b) if is_column(b, key, right) && !of_right(a) => Some((a.clone(), b.clone())),
        (a, b) if is_column(a, key, right) && !of_right(b) => Some((b.clone(), a.clone())),
        _ => None,
    }
}

/// Is it this column of the side, in whatever type?
fn is_column(expr: &Expr, name: &str, side: &Stage) -> bool {
    match expr {
        Expr::Cast(cast) => is_column(&cast.expr, name, side),
        Expr::Column(column) => column.name == name && side.schema.maybe_index_of_column(column).is_some(),
        _ => false,
    }
}

fn shown(join: &VersionJoin) -> String {
    let conditions: Vec<String> = join.conditions.iter().map(explain::expression).collect();
    let kind = join.kind.to_string().to_lowercase();
    let (table, time) = (&join.versioned.table, explain::expression(&join.time));
    format!("{kind} join with {table} as of {time}, on {}", conditions.join(" AND "))
}

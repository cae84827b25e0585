//! Which partitions a pipeline reads: `WHERE _kafka_partition = 0` need not fetch the others.
//!
//! ```text
//!  Filter: _kafka_partition IN (0, 3) AND price > 10     conditions about the partition alone
//!    TableScan: events                                   tried on each number from 0 on: {0, 3, what is beyond}
//! ```
//!
//! The filter stays in the plan, so this is only ever a saving. A table that is scanned several times is read once, and the
//! union counts; a scan without a condition needs them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Volatility};
use laminar_core::Result;
use laminar_core::connector::PartitionSet;

use super::Step;
use super::lower::compile;
use crate::catalog::{CatalogSnapshot, TableDef};
use crate::planner::Planner;
use crate::tables::StreamSource;
use crate::translate::translate;

/// Conditions are tried on the partitions below this number; those above are always read.
const TRIED: i32 = 10_000;

/// Metadata key of the column that is the partition.
const PARTITION: &str = "partition";

/// The partitions that are wanted of each table; a table is absent if all are.
pub(super) fn wanted(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    steps: &[Step<'_>],
) -> Result<BTreeMap<String, PartitionSet>> {
    let mut scans: BTreeMap<String, Vec<Option<PartitionSet>>> = BTreeMap::new();
    let mut total: BTreeMap<String, usize> = BTreeMap::new();
    for step in steps {
        narrow(planner, catalog, &step.plan, &[], &mut scans)?;
        let counted = step.plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Some(stream) = scan.source.downcast_ref::<StreamSource>()
            {
                *total.entry(stream.table.clone()).or_default() += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        });
        counted.map_err(translate)?;
    }
    let mut wanted = BTreeMap::new();
    for (table, sets) in scans {
        // One that was not seen, as in a subquery, may need them all.
        let is_complete = total.get(&table) == Some(&sets.len());
        let sets: Option<Vec<PartitionSet>> = sets.into_iter().collect();
        let union = sets.filter(|_| is_complete).and_then(|sets| sets.into_iter().reduce(|a, b| a.union(&b)));
        wanted.extend(union.filter(|set| !set.is_everything()).map(|set| (table, set)));
    }
    Ok(wanted)
}

/// Finds the scans below `plan`, and the conditions right above each.
fn narrow(
    planner: &Planner,
    catalog: &CatalogSnapshot,
    plan: &LogicalPlan,
    conditions: &[&Expr],
    scans: &mut BTreeMap<String, Vec<Option<PartitionSet>>>,
) -> Result<()> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let mut all = conditions.to_vec();
            all.extend(split_conjunction(&filter.predicate));
            narrow(planner, catalog, &filter.input, &all, scans)
        }
        LogicalPlan::TableScan(scan) => {
            if let Some(stream) = scan.source.downcast_ref::<StreamSource>() {
                let table = catalog.tables.get(&stream.table);
                let set = table.map(|table| partitions(planner, table, scan, conditions)).transpose()?.flatten();
                scans.entry(stream.table.clone()).or_default().push(set);
            }
            Ok(())
        }
        other => other.inputs().into_iter().try_for_each(|input| narrow(planner, catalog, input, &[], scans)),
    }
}

/// The partitions for which all conditions hold that are about nothing else.
fn partitions(
    planner: &Planner,
    table: &TableDef,
    scan: &TableScan,
    conditions: &[&Expr],
) -> Result<Option<PartitionSet>> {
    let Some(column) = table.columns.iter().find(|c| c.metadata.as_deref() == Some(PARTITION)) else { return Ok(None) };
    let about = conditions.iter().filter(|condition| {
        let columns = condition.column_refs();
        !columns.is_empty() && columns.iter().all(|c| c.name == column.name) && is_repeatable(condition)
    });
    let Some(condition) = conjunction(about.map(|condition| (*condition).clone())) else { return Ok(None) };
    let field = column.sql_type.field(&column.name, column.nullable);
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..TRIED));
    let Ok(numbers) = cast(&numbers, field.data_type()) else { return Ok(None) };
    let schema = Arc::new(Schema::new(vec![field]));
    let qualified = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema).map_err(translate)?;
    // The plan says what is wrong with it.
    let Ok(compiled) = compile(planner, &condition, &qualified) else { return Ok(None) };
    let rows = RecordBatch::try_new(schema, vec![numbers])?;
    // What cannot be computed for some number is computed for the rows, where it fails if it must.
    let Ok(Ok(held)) = compiled.evaluate(&rows).map(|value| value.into_array(rows.num_rows())) else { return Ok(None) };
    if held.data_type() != &DataType::Boolean {
        return Ok(None);
    }
    Ok(Some(PartitionSet::new(held.as_boolean().iter().map(|held| held == Some(true)).collect())))
}

fn is_repeatable(expr: &Expr) -> bool {
    let varies = expr.exists(|part| {
        Ok(match part {
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => true,
            _ => false,
        })
    });
    matches!(varies, Ok(false))
}

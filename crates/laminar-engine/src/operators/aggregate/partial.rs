//! Combines the rows of one task by pane and key before they are exchanged.
//!
//! Accepts insert-only rows. Emits partial states, one row a group: the pane (its start; for given windows the window's
//! end), the keys, the states. They are pushed before the watermark leaves their pane, at a barrier, and when there are many:
//! so nothing is kept over a barrier, and the operator behind sees every row of a window before it closes.
//!
//! All that the query computes of a row is computed before the row is added to its group, so a row of which something cannot be
//! computed leaves no trace here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::is_not_null;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit};
use async_trait::async_trait;
use laminar_core::{Changes, Result, TaskId, Watermark};

use super::accumulators::{Evaluated, is_given};
use super::runs;
use super::span::{Span, WindowTime, floor, window_ends};
use super::table::{GroupBy, GroupTable};
use crate::operator::{Operator, OperatorFactory, Output};
use crate::operators::rows::evaluate;

/// Groups that are combined before they are pushed.
const MAX_GROUPS: usize = 32_768;

#[derive(Clone, Debug)]
pub struct PartialAggregateFactory {
    pub span: Span,
    /// For [`Span::Given`] the column of windows.
    pub time: WindowTime,
    pub group_by: GroupBy,
    /// [`PartialAggregateFactory::schema_of`] the group-by.
    pub schema: SchemaRef,
}

impl PartialAggregateFactory {
    /// Columns of the states that are emitted: the pane, the keys, the states.
    pub fn schema_of(group_by: &GroupBy) -> Result<SchemaRef> {
        group_by.state_schema(&[pane_field()])
    }

    /// The same for [`Span::Session`]: first and last time instead of the pane.
    pub fn session_schema_of(group_by: &GroupBy) -> Result<SchemaRef> {
        runs::state_schema(group_by)
    }
}

pub(super) fn pane_field() -> FieldRef {
    Arc::new(Field::new("pane", DataType::Timestamp(TimeUnit::Microsecond, None), true))
}

impl OperatorFactory for PartialAggregateFactory {
    fn create(&self, _task: &TaskId) -> Result<Box<dyn Operator>> {
        let table = self.table()?;
        let (plan, first_pane, last_time) = (self.clone(), i64::MAX, i64::MIN);
        Ok(Box::new(PartialAggregate { plan, table, first_pane, last_time, adding: false }))
    }

    fn fingerprint(&self) -> String {
        format!("partial {:?} {:?} {}", self.span, self.time, self.group_by.fingerprint())
    }
}

impl PartialAggregateFactory {
    fn table(&self) -> Result<GroupTable> {
        let fields = std::iter::once(pane_field()).chain(self.group_by.key_fields.iter().cloned());
        GroupTable::new(&fields.collect::<Vec<_>>(), &self.group_by.calls)
    }
}

struct PartialAggregate {
    plan: PartialAggregateFactory,
    table: GroupTable,
    /// Smallest pane in the table.
    first_pane: i64,
    /// Of the last batch, without windows.
    last_time: i64,
    /// Rows are added to their groups, or that has failed.
    adding: bool,
}

/// What is computed of the rows of a batch that have a pane, before they are added.
struct Computed {
    first_pane: i64,
    /// The pane first.
    keys: Vec<ArrayRef>,
    evaluated: Evaluated,
    rows: usize,
}

impl PartialAggregate {
    /// The pane of each row, and the rows without those that have none.
    fn panes(&self, changes: &Changes) -> Result<(TimestampMicrosecondArray, Option<RecordBatch>)> {
        let (span, rows) = (self.plan.span, changes.rows());
        if span == Span::Unbounded {
            return Ok((TimestampMicrosecondArray::from_value(0, rows.num_rows()), None));
        }
        let (times, pane) = match (span, &self.plan.time) {
            (Span::Given, WindowTime::Column(windows)) => (window_ends(&evaluate(windows, rows)?)?, None),
            (Span::Given, WindowTime::Event) => {
                return Err(laminar_core::Error::internal("given windows without their column"));
            }
            (span, time) => (time.of(changes)?, Some(span.pane())),
        };
        let (times, kept) = match times.null_count() {
            0 => (times, None),
            _ => {
                let kept = arrow::compute::filter_record_batch(rows, &is_not_null(&times)?)?;
                (times.iter().flatten().collect::<Vec<i64>>().into(), Some(kept))
            }
        };
        Ok((pane.map_or_else(|| times.clone(), |pane| panes_of(&times, pane)), kept))
    }

    fn compute(&self, changes: &Changes) -> Result<Computed> {
        let (panes, kept) = self.panes(changes)?;
        let rows = kept.as_ref().unwrap_or(changes.rows());
        let first_pane = panes.values().iter().copied().fold(i64::MAX, i64::min);
        let mut keys: Vec<ArrayRef> = vec![Arc::new(panes)];
        keys.extend(self.plan.group_by.evaluate_keys(rows)?);
        Ok(Computed { first_pane, keys, evaluated: self.table.evaluate(rows)?, rows: rows.num_rows() })
    }

    /// The sessions of one batch. They may go on in the next one, so nothing is held back.
    fn push_sessions(&self, changes: &Changes, gap: i64, out: &mut Output) -> Result<()> {
        let times = self.plan.time.of(changes)?;
        let present = is_not_null(&times)?;
        let rows = arrow::compute::filter_record_batch(changes.rows(), &present)?;
        let times: TimestampMicrosecondArray = times.iter().flatten().collect::<Vec<i64>>().into();
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let keys = self.plan.group_by.evaluate_keys(&rows)?;
        let states = runs::combine(&self.plan.group_by, &keys, &times, &rows, gap, &self.plan.schema)?;
        let lasts =
            states.columns().get(1).and_then(|c| c.as_any().downcast_ref::<TimestampMicrosecondArray>()).cloned();
        let lasts = lasts.ok_or_else(|| laminar_core::Error::internal("session states without times"))?;
        out.push(Changes::inserts(states, lasts)?);
        Ok(())
    }

    fn push_states(&mut self, out: &mut Output) -> Result<()> {
        if self.table.is_empty() {
            return Ok(());
        }
        let columns = self.table.take_states()?;
        self.table = self.plan.table()?;
        self.first_pane = i64::MAX;
        let rows = RecordBatch::try_new(Arc::clone(&self.plan.schema), columns)?;
        let times = match rows.column(0).as_any().downcast_ref::<TimestampMicrosecondArray>() {
            Some(panes) if self.plan.span == Span::Unbounded => panes.unary(|_| self.last_time),
            // The last moment of the pane: never behind the watermark.
            Some(panes) if self.plan.span == Span::Given => panes.unary(|end| end.saturating_sub(1)),
            Some(panes) => panes.unary(|start| start.saturating_add(self.plan.span.pane() - 1)),
            None => return Err(laminar_core::Error::internal("a pane is no timestamp")),
        };
        out.push(Changes::inserts(rows, times)?);
        Ok(())
    }
}

fn panes_of(times: &TimestampMicrosecondArray, pane: i64) -> TimestampMicrosecondArray {
    // Most rows are in the pane of the row before: a division for each would cost more than the grouping.
    let mut start = i64::MAX;
    let starts = times.values().iter().map(|time| {
        if *time < start || time.wrapping_sub(start) >= pane {
            start = floor(*time, pane);
        }
        start
    });
    TimestampMicrosecondArray::from_iter_values(starts)
}

#[async_trait]
impl Operator for PartialAggregate {
    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        if let Span::Session { gap } = self.plan.span {
            return self.push_sessions(&changes, gap, out);
        }
        let Computed { first_pane, keys, evaluated, rows } = self.compute(&changes)?;
        if rows == 0 {
            return Ok(());
        }
        self.adding = true;
        self.first_pane = self.first_pane.min(first_pane);
        self.table.update(&keys, &evaluated, rows)?;
        if self.plan.span == Span::Unbounded {
            // Nothing closes such a group: what is combined is one batch.
            self.last_time = changes.times().values().iter().copied().max().unwrap_or(i64::MIN);
            self.push_states(out)?;
        } else if self.table.len() >= MAX_GROUPS {
            self.push_states(out)?;
        }
        self.adding = false;
        Ok(())
    }

    fn may_reject(&self) -> bool {
        let time = matches!(&self.plan.time, WindowTime::Column(time) if !is_given(time));
        time || self.table.compute() || !self.plan.group_by.keys.iter().all(is_given)
    }

    fn can_retry(&self) -> bool {
        self.may_reject() && !self.adding
    }

    fn check(&self, changes: &Changes) -> Result<()> {
        match self.plan.span {
            Span::Session { gap } => self.push_sessions(changes, gap, &mut Output::default()),
            _ => self.compute(changes).map(drop),
        }
    }

    async fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<()> {
        let closes_at = match self.plan.span {
            Span::Given => self.first_pane,
            span => self.first_pane.saturating_add(span.pane()),
        };
        match watermark {
            Watermark::At(time) if time >= closes_at => self.push_states(out),
            // The others no longer wait for this task: their windows may close at once.
            Watermark::Idle => self.push_states(out),
            Watermark::At(_) => Ok(()),
        }
    }

    async fn on_barrier(&mut self, out: &mut Output) -> Result<()> {
        self.push_states(out)
    }

    async fn on_end(&mut self, out: &mut Output) -> Result<()> {
        self.push_states(out)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{Int64Type, Schema};
    use datafusion::functions_aggregate::sum::sum_udaf;
    use datafusion::logical_expr::Operator as BinaryOperator;
    use datafusion::physical_expr::PhysicalExpr;
    use datafusion::physical_expr::aggregate::AggregateExprBuilder;
    use datafusion::physical_expr::expressions::{binary, col, lit};
    use laminar_core::{Code, OperatorId};

    use super::super::table::AggregateCall;
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn input() -> SchemaRef {
        Arc::new(Schema::new(["k", "v"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
    }

    /// `sum(100 / v) [FILTER (WHERE v <> 0)] GROUP BY k / v`, or by `k`.
    fn operator(span: Span, by_quotient: bool, filters: bool) -> Box<dyn Operator> {
        let schema = input();
        let column = |name: &str| col(name, &schema).unwrap();
        let over_v = |dividend| binary(dividend, BinaryOperator::Divide, column("v"), &schema).unwrap();
        let sum = AggregateExprBuilder::new(sum_udaf(), vec![over_v(lit(100i64))]).schema(schema.clone()).alias("s");
        let filter: Arc<dyn PhysicalExpr> = binary(column("v"), BinaryOperator::NotEq, lit(0i64), &schema).unwrap();
        let group_by = GroupBy {
            keys: vec![if by_quotient { over_v(column("k")) } else { column("k") }],
            key_fields: vec![Arc::new(Field::new("k", DataType::Int64, true))],
            calls: vec![AggregateCall { function: Arc::new(sum.build().unwrap()), filter: filters.then_some(filter) }],
        };
        let schema = match span {
            Span::Session { .. } => PartialAggregateFactory::session_schema_of(&group_by).unwrap(),
            _ => PartialAggregateFactory::schema_of(&group_by).unwrap(),
        };
        let task = TaskId { operator: OperatorId::new("partial-1"), index: 0 };
        PartialAggregateFactory { span, time: WindowTime::Event, group_by, schema }.create(&task).unwrap()
    }

    fn changes(rows: &[(i64, i64)]) -> Changes {
        let columns = [rows.iter().map(|(k, _)| *k).collect::<Int64Array>(), rows.iter().map(|(_, v)| *v).collect()];
        let columns = columns.map(|column| Arc::new(column) as ArrayRef).to_vec();
        let times = TimestampMicrosecondArray::from_value(SECOND, rows.len());
        Changes::inserts(RecordBatch::try_new(input(), columns).unwrap(), times).unwrap()
    }

    /// Sum of the sums that came out.
    fn total(out: &mut Output) -> i64 {
        let sums = out.take().into_iter().map(|changes| {
            let last = changes.rows().columns().last().unwrap().clone();
            last.as_primitive::<Int64Type>().iter().flatten().sum::<i64>()
        });
        sums.sum()
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_computed_leaves_no_trace() {
        let tumble = Span::Tumble { size: 10 * SECOND };
        for span in [Span::Unbounded, tumble, Span::Session { gap: SECOND }] {
            for by_quotient in [false, true] {
                let (mut operator, mut out) = (operator(span, by_quotient, false), Output::default());
                assert!(operator.may_reject());
                operator.on_changes(0, changes(&[(1, 1), (2, 2)]), &mut out).await.unwrap();
                let error = operator.on_changes(0, changes(&[(1, 4), (1, 0), (3, 5)]), &mut out).await.unwrap_err();
                assert_eq!(error.code(), Code::InvalidValue);
                assert!(operator.can_retry());
                assert!(operator.check(&changes(&[(1, 0)])).is_err());
                operator.check(&changes(&[(1, 4)])).unwrap();
                operator.on_changes(0, changes(&[(1, 4), (3, 5)]), &mut out).await.unwrap();
                operator.on_end(&mut out).await.unwrap();
                assert_eq!(total(&mut out), 100 + 50 + 25 + 20, "{span:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_filter_leaves_out_need_not_be_computable() {
        let (mut operator, mut out) = (operator(Span::Unbounded, false, true), Output::default());
        operator.on_changes(0, changes(&[(1, 0), (1, 4), (1, 0), (3, 5)]), &mut out).await.unwrap();
        assert_eq!(total(&mut out), 25 + 20);
    }
}

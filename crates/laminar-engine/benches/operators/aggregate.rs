//! GROUP BY: in windows, and without one.
//!
//! A row is a key, a value and a time; the time advances by 10 µs a row. Rows are combined, then merged, as in a pipeline
//! of one instance.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use futures::executor::block_on;
use laminar_core::{Changes, TaskId, Watermark};
use laminar_engine::operator::{Operator, OperatorFactory, Output};
use laminar_engine::operators::aggregate::{
    AggregateCall, GroupBy, PartialAggregateFactory, SessionAggregateFactory, Span, UpdatingAggregateFactory,
    WindowAggregateFactory, WindowTime, window_fields,
};

use crate::{BATCH_ROWS, measure, mixed, rows_of};

const BATCHES: i64 = 500;
const STEP_MICROS: i64 = 10;
const SECOND_MICROS: i64 = 1_000_000;

pub(crate) fn run() {
    let tumble = Span::Tumble { size: 10 * SECOND_MICROS };
    let hop = Span::Hop { slide: SECOND_MICROS, size: 600 * SECOND_MICROS };
    let session = Span::Session { gap: SECOND_MICROS };
    for (name, span, keys) in [
        ("tumble 10 s, count and sum, 1,000 keys", tumble, 1_000),
        ("tumble 10 s, count and sum, 1 M keys", tumble, 1_000_000),
        ("hop 1 s of 10 min, count and sum, 1,000 keys", hop, 1_000),
        ("session 1 s, count and sum, 1,000 keys", session, 1_000),
        ("session 1 s, count and sum, 1 M keys", session, 1_000_000),
        ("updating, count and sum, 1,000 keys", Span::Unbounded, 1_000),
        ("updating, count and sum, 1 M keys", Span::Unbounded, 1_000_000),
    ] {
        let [partial, last] = operators(span);
        let inputs: Vec<_> = (0..BATCHES).map(|number| batch(number, keys)).collect();
        measure(name, BATCH_ROWS * BATCHES, || grouped(partial, last, inputs));
    }
}

fn grouped(mut partial: Box<dyn Operator>, mut last: Box<dyn Operator>, inputs: Vec<Changes>) -> usize {
    let (mut between, mut out) = (Output::default(), Output::default());
    let mut rows_out = 0;
    for (i, changes) in inputs.into_iter().enumerate() {
        block_on(partial.on_changes(0, changes, &mut between)).expect("rows are combined");
        let watermark = Watermark::At((i as i64 + 1) * BATCH_ROWS * STEP_MICROS);
        block_on(partial.on_watermark(watermark, &mut between)).expect("states are pushed");
        for states in between.take() {
            block_on(last.on_changes(0, states, &mut out)).expect("states are merged");
        }
        block_on(last.on_watermark(watermark, &mut out)).expect("windows close");
        rows_out += rows_of(&mut out);
    }
    rows_out
}

fn batch(number: i64, keys: i64) -> Changes {
    let numbers = || number * BATCH_ROWS..(number + 1) * BATCH_ROWS;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers().map(|row| mixed(row).rem_euclid(keys)))),
        Arc::new(Int64Array::from_iter_values(numbers())),
    ];
    let times = TimestampMicrosecondArray::from_iter_values(numbers().map(|row| row * STEP_MICROS));
    Changes::inserts(RecordBatch::try_new(input(), columns).expect("columns fit"), times).expect("times fit")
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Int64, true)]))
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

/// Combines, then merges: `SELECT k, count(v), sum(v) … GROUP BY k, window`.
fn operators(span: Span) -> [Box<dyn Operator>; 2] {
    let call = |name: &str, function| {
        let built = AggregateExprBuilder::new(function, vec![column("v", 1)]).schema(input()).alias(name).build();
        AggregateCall { function: Arc::new(built.expect("an aggregate")), filter: None }
    };
    let key: FieldRef = Arc::new(Field::new("k", DataType::Int64, true));
    let group_by = GroupBy {
        keys: vec![column("k", 0)],
        key_fields: vec![Arc::clone(&key)],
        calls: vec![call("count", count_udaf()), call("sum", sum_udaf())],
    };
    let state_schema = match span {
        Span::Session { .. } => PartialAggregateFactory::session_schema_of(&group_by),
        _ => PartialAggregateFactory::schema_of(&group_by),
    };
    let state_schema = state_schema.expect("states");
    let partial = PartialAggregateFactory {
        span,
        time: WindowTime::Event,
        group_by: group_by.clone(),
        schema: Arc::clone(&state_schema),
    };
    let results = group_by.calls.iter().map(|call| call.function.field());
    let window: FieldRef = Arc::new(Field::new("window", DataType::Struct(window_fields()), false));
    let windowed = span != Span::Unbounded;
    let fields = std::iter::once(key).chain(Some(window).filter(|_| windowed)).chain(results);
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let task = TaskId { operator: "aggregate-1".into(), index: 0 };
    let last = match span {
        Span::Unbounded => UpdatingAggregateFactory { group_by, state_schema, schema, ttl_micros: None }.create(&task),
        Span::Session { gap } => {
            SessionAggregateFactory { gap, group_by, window_at: 1, state_schema, schema }.create(&task)
        }
        span => WindowAggregateFactory { span, group_by, window_at: Some(1), state_schema, schema }.create(&task),
    };
    [partial.create(&task).expect("a partial aggregate"), last.expect("an aggregate")]
}

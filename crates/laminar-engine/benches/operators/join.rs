//! An interval join of two streams of inserts, about one match a row.
//!
//! A row is a key, a value and a time; keys are ever new, so the join also expires rows and forgets keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use futures::executor::block_on;
use laminar_core::{Changes, TaskId, Watermark};
use laminar_engine::operator::{Operator, OperatorFactory, Output};
use laminar_engine::operators::{JoinFactory, JoinKind, OuterRows, TimeBounds};

use crate::{BATCH_ROWS, measure, mixed, rows_of};

const BATCHES: i64 = 250;
const STEP_MICROS: i64 = 1_000;
const SECOND_MICROS: i64 = 1_000_000;

pub(crate) fn run() {
    for (name, kind, filtered) in [
        ("interval join, inner", JoinKind::Inner, false),
        ("interval join, inner, with a filter", JoinKind::Inner, true),
        ("interval join, left, with a filter", JoinKind::Left, true),
    ] {
        let join = factory(kind, filtered).create(&TaskId { operator: "join-1".into(), index: 0 });
        let inputs: Vec<_> = (0..BATCHES).map(|i| [batch(i, 0), batch(i, 3)]).collect();
        measure(name, 2 * BATCH_ROWS * BATCHES, || joined(join.expect("a join"), inputs));
    }
}

fn joined(mut join: Box<dyn Operator>, inputs: Vec<[Changes; 2]>) -> usize {
    let mut out = Output::default();
    let mut out_rows = 0;
    for (i, sides) in inputs.into_iter().enumerate() {
        for (input, changes) in sides.into_iter().enumerate() {
            block_on(join.on_changes(input, changes, &mut out)).expect("rows are joined");
        }
        let watermark = Watermark::At((i as i64 * BATCH_ROWS) * STEP_MICROS);
        block_on(join.on_watermark(watermark, &mut out)).expect("rows expire");
        out_rows += rows_of(&mut out);
    }
    out_rows
}

/// Keys are the row's number, mixed up; those of the other side come a little later.
fn batch(number: i64, late_rows: i64) -> Changes {
    let numbers = || (number * BATCH_ROWS..(number + 1) * BATCH_ROWS).map(move |row| row - late_rows);
    let times = || TimestampMicrosecondArray::from_iter_values(numbers().map(|row| (row + late_rows) * STEP_MICROS));
    let keys = Int64Array::from_iter_values(numbers().map(mixed));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(keys), Arc::new(Int64Array::from_iter_values(numbers())), Arc::new(times())];
    Changes::inserts(RecordBatch::try_new(schema(1), columns).expect("columns fit"), times()).expect("times fit")
}

fn schema(sides: usize) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields = [("k", DataType::Int64), ("v", DataType::Int64), ("t", time)];
    let fields = (0..sides).flat_map(|_| fields.clone()).map(|(name, of)| Field::new(name, of, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn factory(kind: JoinKind, filtered: bool) -> JoinFactory {
    let column = |name: &str, index| Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>;
    let filter = Arc::new(BinaryExpr::new(column("t", 2), Op::LtEq, column("t", 5))) as Arc<dyn PhysicalExpr>;
    JoinFactory {
        kind,
        left_keys: vec![column("k", 0)],
        right_keys: vec![column("k", 0)],
        null_equals_null: false,
        filter: Some(filter).filter(|_| filtered),
        left_schema: schema(1),
        right_schema: schema(1),
        schema: schema(2),
        bounds: Some(TimeBounds { lower: -10 * SECOND_MICROS, upper: 10 * SECOND_MICROS }),
        ttl_micros: [None; 2],
        emit: OuterRows::WhenExpired,
    }
}

//! Rows of the tables `a` and `b`: small domains, so that keys collide; times that collide with the ends of windows; NULLs.
//!
//! A row comes up to 5 s after its time, and the tables' watermark waits as long: no row is late, in whatever order the
//! partitions are read.

use std::sync::Arc;

use arrow::array::{Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;
/// 2024-01-01T00:00:00, in µs.
const START: i64 = 1_704_067_200 * SECOND;

#[derive(Clone, Debug)]
pub struct Row {
    id: i64,
    k: Option<&'static str>,
    v: Option<i64>,
    /// Hundredths.
    d: Option<i64>,
    /// µs after [`START`].
    at: i64,
    /// µs between its time and its coming.
    delay: i64,
}

/// In the order in which they come.
#[derive(Clone, Debug)]
pub struct Table(Vec<Row>);

pub fn table() -> impl Strategy<Value = Table> {
    let text = proptest::option::weighted(0.85, proptest::sample::select(vec!["x", "y", "z"]));
    let number = proptest::option::weighted(0.85, -2..5_i64);
    let decimal = proptest::option::weighted(0.85, (-3..6_i64).prop_map(|quarters| quarters * 25));
    let fraction = prop_oneof![6 => Just(0), 1 => Just(SECOND / 2), 1 => Just(SECOND - 1)];
    let time = (prop_oneof![0..12_i64, 0..60_i64], fraction).prop_map(|(seconds, rest)| seconds * SECOND + rest);
    let delay = (0..=5_i64).prop_map(|seconds| seconds * SECOND);
    let row = (0..6_i64, text, number, decimal, time, delay);
    let row = row.prop_map(|(id, k, v, d, at, delay)| Row { id, k, v, d, at, delay });
    let rows = prop_oneof![
        1 => proptest::collection::vec(row.clone(), 0..3),
        6 => proptest::collection::vec(row.clone(), 5..30),
        2 => proptest::collection::vec(row, 30..60),
    ];
    rows.prop_map(|mut rows| {
        rows.sort_by_key(|row| row.at + row.delay);
        Table(rows)
    })
}

impl Table {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One JSON object a line; the `part`-th of `parts` pieces.
    pub fn json(&self, part: usize, parts: usize) -> String {
        let bounds = (self.len() * part / parts, self.len() * (part + 1) / parts);
        let text = |row: &Row| {
            let k = row.k.map_or("null".to_string(), |k| format!("\"{k}\""));
            let v = row.v.map_or("null".to_string(), |v| v.to_string());
            let d = row.d.map_or("null".to_string(), |d| format!("\"{}\"", decimal(d)));
            format!("{{\"id\":{},\"k\":{k},\"v\":{v},\"d\":{d},\"at\":\"{}\"}}\n", row.id, time(row.at))
        };
        self.0[bounds.0..bounds.1].iter().map(text).collect()
    }

    pub fn batch(&self) -> RecordBatch {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("k", DataType::Utf8, true),
            Field::new("v", DataType::Int64, true),
            Field::new("d", DataType::Decimal128(10, 2), true),
            Field::new("at", time, true),
        ]);
        let decimals = self.0.iter().map(|r| r.d.map(i128::from)).collect::<Decimal128Array>();
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(self.0.iter().map(|r| Some(r.id)).collect::<Int64Array>()),
            Arc::new(self.0.iter().map(|r| r.k).collect::<StringArray>()),
            Arc::new(self.0.iter().map(|r| r.v).collect::<Int64Array>()),
            Arc::new(decimals.with_precision_and_scale(10, 2).expect("small decimals")),
            Arc::new(self.0.iter().map(|r| Some(START + r.at)).collect::<TimestampMicrosecondArray>()),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).expect("columns of the schema")
    }
}

fn decimal(hundredths: i64) -> String {
    let sign = if hundredths < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths.abs() / 100, hundredths.abs() % 100)
}

fn time(micros: i64) -> String {
    let seconds = micros / SECOND;
    format!("2024-01-01T00:{:02}:{:02}.{:06}", seconds / 60, seconds % 60, micros % SECOND)
}

//! Sources that make their rows: shards, positions and pace; what is in a row is the connector's.
//!
//! Shard `shard-k` of n makes the rows `j = 0, 1, 2 …` of its own; a position is the next `j`. A row depends on shard and
//! `j` alone, so a checkpoint resumes exactly. Over the whole source the row has the number `j × n + k`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use laminar_core::format::Decoder;
use laminar_core::source::{BatchLimit, Fetched, FetchedRows, Run, Source, SourceReader, SplitStart};
use laminar_core::{Code, Error, Position, Result, SplitId};
use tokio::time::Instant;

/// Rows made at once, however large the limit.
const MAX_ROWS: usize = 65_536;
pub const MAX_SHARDS: u32 = 1024;

/// Makes rows.
pub trait Rows: Send + Sync {
    /// The rows `indices` of `shard`: the projected columns, and each row's event time.
    fn make(&self, shard: u32, indices: Range<u64>) -> Result<(RecordBatch, TimestampMicrosecondArray)>;
}

/// How many rows there are, and how fast they come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    pub shards: u32,
    /// Rows of the whole source; `None`: without end.
    pub rows: Option<u64>,
    /// Rows a second of the whole source; `None`: as fast as they are taken.
    pub rate: Option<f64>,
}

impl Plan {
    /// Errors: `invalid_option`, naming the option that holds the value.
    pub fn new(subject: &str, shards: u32, rows: Option<u64>, rate: Option<f64>, rate_option: &str) -> Result<Self> {
        let refuse = |option: &str, value: String, expected: &str| {
            Err(Error::new(Code::InvalidOption, format!("option {option} of {subject} cannot be '{value}'"))
                .with_detail(format!("expected {expected}"))
                .with_field(option))
        };
        if !(1..=MAX_SHARDS).contains(&shards) {
            return refuse("shards", shards.to_string(), &format!("1 to {MAX_SHARDS}"));
        }
        if let Some(rate) = rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return refuse(rate_option, rate.to_string(), "a number above 0");
        }
        Ok(Self { shards, rows, rate })
    }

    /// How many rows the shard makes.
    fn rows_of(&self, shard: u32) -> Option<u64> {
        let (n, k) = (u64::from(self.shards), u64::from(shard));
        self.rows.map(|rows| rows / n + u64::from(k < rows % n))
    }
}

/// The option `start_time`, an RFC 3339 time, as µs since 1970 UTC. Errors: `invalid_option`.
pub fn start_micros(subject: &str, text: &str) -> Result<i64> {
    let parsed = DateTime::parse_from_rfc3339(text).map_err(|e| {
        Error::new(Code::InvalidOption, format!("option start_time of {subject} cannot be '{text}'"))
            .with_detail(format!("expected a time such as 2024-01-31T23:59:59Z: {e}"))
            .with_field("start_time")
    })?;
    Ok(parsed.with_timezone(&Utc).timestamp_micros())
}

/// Scrambles 64 bits: the finalizer of SplitMix64 (Steele, Lea, Flood 2014). What is random in a row is drawn from its
/// number with this.
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The source over [`Rows`].
pub struct Generator {
    plan: Plan,
    rows: Arc<dyn Rows>,
}

impl Generator {
    pub fn new(plan: Plan, rows: Arc<dyn Rows>) -> Self {
        Self { plan, rows }
    }

    fn shard(&self, split: &SplitId) -> Result<u32> {
        let number = split.as_str().strip_prefix("shard-").and_then(|text| text.parse().ok());
        number.filter(|shard| *shard < self.plan.shards).ok_or_else(|| {
            let message = format!("the checkpoint has {split}, the table has {} shards", self.plan.shards);
            Error::new(Code::CheckpointMismatch, message).with_field("shards")
        })
    }
}

#[async_trait]
impl Source for Generator {
    async fn discover(&self) -> Result<Vec<SplitId>> {
        Ok((0..self.plan.shards).map(|shard| SplitId::new(format!("shard-{shard}"))).collect())
    }

    async fn open(&self, splits: Vec<SplitStart>) -> Result<Box<dyn SourceReader>> {
        let open = |start: SplitStart| {
            let number = self.shard(&start.split)?;
            let next = start.at.or_zero().0;
            Ok(Shard { split: start.split, number, next, end: self.plan.rows_of(number).unwrap_or(u64::MAX) })
        };
        let shards: Vec<Shard> = splits.into_iter().map(open).collect::<Result<_>>()?;
        let share = shards.len() as f64 / f64::from(self.plan.shards);
        let pace = self.plan.rate.map(|rate| Pace { start: Instant::now(), rate: rate * share, made: 0 });
        Ok(Box::new(Reader { shards, pace, rows: self.rows.clone() }))
    }

    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>> {
        Ok(None)
    }

    async fn ends(&self, splits: &[SplitId]) -> Result<Vec<Option<Position>>> {
        splits.iter().map(|split| Ok(self.plan.rows_of(self.shard(split)?).map(Position))).collect()
    }
}

struct Shard {
    split: SplitId,
    number: u32,
    next: u64,
    end: u64,
}

struct Pace {
    start: Instant,
    rate: f64,
    made: u64,
}

impl Pace {
    /// Waits until at least one row is due; returns how many are.
    async fn due(&self) -> u64 {
        loop {
            match self.due_after(self.start.elapsed()) {
                Ok(rows) => return rows,
                // A tick at least: timers are no finer.
                Err(wait) => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
            }
        }
    }

    /// How many rows are due, or how long until the next one is. Row number i is due i / rate after the start.
    fn due_after(&self, elapsed: Duration) -> Result<u64, Duration> {
        let due = (elapsed.as_secs_f64() * self.rate) as u64 + 1;
        if due > self.made {
            return Ok(due - self.made);
        }
        let next = Duration::try_from_secs_f64(self.made as f64 / self.rate).unwrap_or(Duration::MAX);
        Err(next.saturating_sub(elapsed))
    }
}

struct Reader {
    shards: Vec<Shard>,
    pace: Option<Pace>,
    rows: Arc<dyn Rows>,
}

#[async_trait]
impl SourceReader for Reader {
    async fn next(&mut self, limit: BatchLimit) -> Result<Fetched> {
        // Generators never wait for anything outside: give other tasks their turn.
        tokio::task::consume_budget().await;
        // The shard that is furthest behind, so that they advance together.
        let shard = self.shards.iter_mut().filter(|s| s.next < s.end).min_by_key(|s| s.next);
        let Some(shard) = shard else { return Ok(Fetched::End) };
        let due = match &self.pace {
            Some(pace) => pace.due().await,
            None => u64::MAX,
        };
        let count = due.min(limit.rows.clamp(1, MAX_ROWS) as u64).min(shard.end - shard.next);
        let (rows, times) = self.rows.make(shard.number, shard.next..shard.next + count)?;
        shard.next += count;
        if let Some(pace) = &mut self.pace {
            pace.made += count;
        }
        let runs = vec![Run { split: shard.split.clone(), count: rows.num_rows(), next: Position(shard.next) }];
        Ok(Fetched::Rows(FetchedRows { rows, times, runs }))
    }

    fn positions(&self) -> Vec<(SplitId, Position)> {
        self.shards.iter().map(|s| (s.split.clone(), Position(s.next))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(shards: u32, rows: Option<u64>, rate: Option<f64>) -> Plan {
        Plan::new("connector x", shards, rows, rate, "rate").unwrap()
    }

    #[test]
    fn rows_are_shared_out() {
        let per_shard = |shards, rows| -> Vec<u64> {
            (0..shards).map(|k| plan(shards, Some(rows), None).rows_of(k).unwrap()).collect()
        };
        let check = |shards, rows, expected: &[u64]| assert_eq!(per_shard(shards, rows), expected);
        check(1, 5, &[5]);
        check(3, 5, &[2, 2, 1]);
        check(3, 0, &[0, 0, 0]);
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        for (shards, rate) in [(0, None), (MAX_SHARDS + 1, None), (1, Some(0.0)), (1, Some(-1.0)), (1, Some(f64::NAN))]
        {
            let error = Plan::new("connector x", shards, None, rate, "rate").unwrap_err();
            assert_eq!(error.code(), Code::InvalidOption);
        }
    }

    #[test]
    fn rows_come_at_the_rate_and_catch_up() {
        let check = |made, millis, expected: Result<u64, u64>| {
            let pace = Pace { start: Instant::now(), rate: 500.0, made };
            let due = pace.due_after(Duration::from_millis(millis)).map_err(|wait| wait.as_millis() as u64);
            assert_eq!(due, expected, "{made} rows after {millis} ms");
        };
        check(0, 0, Ok(1));
        check(1, 0, Err(2));
        check(1, 1, Err(1));
        check(1, 2, Ok(1));
        check(1, 1000, Ok(500));
        check(501, 1000, Err(2));
        check(501, 61_000, Ok(30_000));
        let never = Pace { start: Instant::now(), rate: 1e-300, made: 1 };
        assert!(never.due_after(Duration::from_secs(1)).unwrap_err() > Duration::from_secs(1 << 40));
    }
}

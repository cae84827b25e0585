//! How many records a source hands over at a time: options that every source of records has.
//!
//! The planner reads them from a table's options with [`BatchOptions::of`]; a connector that calls
//! [`Options::split_known`] leaves them out of its own.

use std::time::Duration;

use laminar_core::source::BatchLimit;
use laminar_core::{Code, Error, Options, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of record values in one batch, whatever `batch_size` says: 8 readers then hold at most 32 MiB.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Kafka's own name for `batch_size`.
const MAX_POLL_RECORDS: &str = "max.poll.records";

/// Size and age of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchOptions {
    /// Most records in one batch. A batch is handed on as soon as nothing more is at hand, so this only matters under load.
    /// Kafka's name for it, `max.poll.records`, works in `kafka`.
    #[serde(default = "default_size")]
    pub batch_size: u32,
    /// Longest time in milliseconds that a row waits for its batch to fill. Rows that nothing follows do not wait.
    #[serde(default = "default_timeout_ms")]
    pub batch_timeout_ms: u64,
}

fn default_size() -> u32 {
    1000
}

fn default_timeout_ms() -> u64 {
    1000
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { batch_size: default_size(), batch_timeout_ms: default_timeout_ms() }
    }
}

impl BatchOptions {
    /// Reads the two options from a table's merged options and ignores the others. `max.poll.records` is `batch_size` too.
    ///
    /// Errors: `invalid_option`; `conflicting_options` if both names are given and differ.
    pub fn of(options: &Options) -> Result<Self> {
        let (mut ours, _) = options.split_known::<Self>();
        if let Some(alias) = options.entry(MAX_POLL_RECORDS) {
            match ours.entry("batch_size") {
                Some(entry) if entry.value.trim() != alias.value.trim() => {
                    return Err(Error::new(Code::ConflictingOptions, "batch_size and max.poll.records differ")
                        .with_detail(format!("{} and {}", entry.value, alias.value))
                        .with_field(MAX_POLL_RECORDS)
                        .at(alias.location));
                }
                Some(_) => {}
                None => ours.set(laminar_core::options::OptionEntry { key: "batch_size".into(), ..alias.clone() }),
            }
        }
        let batch: Self = ours.parse("a source")?;
        if batch.batch_size == 0 {
            let location = ours.entry("batch_size").and_then(|e| e.location);
            return Err(Error::new(Code::InvalidOption, "option batch_size of a source cannot be '0'")
                .with_detail("expected at least 1")
                .with_field("batch_size")
                .at(location));
        }
        Ok(batch)
    }

    /// As the source's reader wants it.
    pub fn limit(&self) -> BatchLimit {
        BatchLimit { rows: usize::try_from(self.batch_size).unwrap_or(usize::MAX), bytes: MAX_BATCH_BYTES }
    }

    /// `batch_timeout_ms` as a duration.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.batch_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: Result<(u32, u64), &str>) {
        let batch = BatchOptions::of(&Options::from_pairs(pairs.iter().copied()));
        let actual = batch.map(|b| (b.batch_size, b.batch_timeout_ms)).map_err(|e| e.code().as_str());
        assert_eq!(actual, expected, "{pairs:?}");
    }

    #[test]
    fn reads_its_own_options_only() {
        check(&[], Ok((1000, 1000)));
        check(&[("topic", "a"), ("batch_size", "10"), ("batch_timeout_ms", "5")], Ok((10, 5)));
        check(&[("max.poll.records", "500")], Ok((500, 1000)));
        check(&[("max.poll.records", "500"), ("batch_size", "500")], Ok((500, 1000)));
        check(&[("max.poll.records", "500"), ("batch_size", "501")], Err("conflicting_options"));
        check(&[("batch_size", "0")], Err("invalid_option"));
        check(&[("batch_size", "many")], Err("invalid_option"));
    }
}

//! Splits that are far ahead of others in event time wait for them, so that what waits for the watermark does not grow with a
//! backfill.
//!
//! ```text
//!  split a  ───────────────────────●            paused: more than the drift ahead of b
//!  split b  ────────●                           the slowest: read
//!  split c  ──●  idle or ended                  does not count
//! ```
//!
//! All tasks of a source share one [`Drift`]. The slowest split that counts is never paused, and one that has nothing to read
//! stops counting, so somebody can always be read. A split without a row yet is the slowest: nobody knows what will come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use laminar_core::SplitId;
use tokio::sync::watch;

/// Where the splits of a source stand, over all its tasks.
#[derive(Debug)]
pub(crate) struct Drift {
    max_micros: i64,
    /// Of those that count.
    splits: Mutex<BTreeMap<SplitId, i64>>,
    slowest: watch::Sender<Option<i64>>,
}

/// One split, as its task sees it.
#[derive(Debug)]
pub(crate) struct SplitProgress {
    /// `None` before the first row.
    pub watermark: Option<i64>,
    /// It is neither idle nor at its end.
    pub counts: bool,
}

impl Drift {
    pub(crate) fn new(max: Duration) -> Self {
        let max_micros = i64::try_from(max.as_micros()).unwrap_or(i64::MAX);
        Self { max_micros, splits: Mutex::default(), slowest: watch::Sender::new(None) }
    }

    /// Splits that tasks will report; until then they are the slowest.
    pub(crate) fn expect(&self, splits: impl IntoIterator<Item = SplitId>) {
        let splits = splits.into_iter().map(|split| (split, SplitProgress { watermark: None, counts: true }));
        self.report(&splits.collect());
    }

    fn report(&self, splits: &BTreeMap<SplitId, SplitProgress>) {
        let mut all = self.splits.lock().unwrap_or_else(PoisonError::into_inner);
        for (split, progress) in splits {
            match progress.counts {
                true => all.insert(split.clone(), progress.watermark.unwrap_or(i64::MIN)),
                false => all.remove(split),
            };
        }
        let slowest = all.values().min().copied();
        self.slowest.send_if_modified(|last| std::mem::replace(last, slowest) != slowest);
    }
}

/// One task's part: which of its splits are paused.
pub(crate) struct Pace {
    drift: Arc<Drift>,
    slowest: watch::Receiver<Option<i64>>,
    paused: BTreeSet<SplitId>,
}

impl Pace {
    pub(crate) fn new(drift: Arc<Drift>) -> Self {
        let slowest = drift.slowest.subscribe();
        Self { drift, slowest, paused: BTreeSet::new() }
    }

    pub(crate) fn paused(&self) -> &BTreeSet<SplitId> {
        &self.paused
    }

    /// Splits that this task will report from now on.
    pub(crate) fn expect(&self, splits: impl IntoIterator<Item = SplitId>) {
        self.drift.expect(splits);
    }

    /// Waits until the slowest split has moved. Cancel-safe.
    pub(crate) async fn moved(&mut self) {
        if self.slowest.changed().await.is_err() {
            // The sender is in `drift`.
            std::future::pending().await
        }
    }

    /// Tells the other tasks where this one's splits stand; true if other splits are paused than before.
    ///
    /// A split that was paused goes on when it is at most half of the drift ahead: pausing drops what was fetched in advance,
    /// so it must not happen with each batch.
    pub(crate) fn update(&mut self, splits: &BTreeMap<SplitId, SplitProgress>) -> bool {
        self.drift.report(splits);
        let slowest = *self.slowest.borrow_and_update();
        let is_ahead = |(split, progress): &(&SplitId, &SplitProgress)| {
            let max = self.drift.max_micros;
            let allowed = if self.paused.contains(*split) { max / 2 } else { max };
            let ahead = |slowest: i64| progress.watermark.is_some_and(|w| w.saturating_sub(slowest) > allowed);
            progress.counts && slowest.is_some_and(ahead)
        };
        let paused = splits.iter().filter(is_ahead).map(|(split, _)| split.clone()).collect();
        std::mem::replace(&mut self.paused, paused) != self.paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(of: &[(&str, Option<i64>, bool)]) -> BTreeMap<SplitId, SplitProgress> {
        let split = |(id, watermark, counts): &(&str, Option<i64>, bool)| {
            (SplitId::from(*id), SplitProgress { watermark: *watermark, counts: *counts })
        };
        of.iter().map(split).collect()
    }

    fn paused(pace: &Pace) -> Vec<&str> {
        pace.paused().iter().map(SplitId::as_str).collect()
    }

    #[test]
    fn splits_wait_for_the_slowest_of_all_tasks() {
        let drift = Arc::new(Drift::new(Duration::from_micros(100)));
        let (mut one, mut two) = (Pace::new(Arc::clone(&drift)), Pace::new(drift));
        two.update(&splits(&[("c", Some(10), true)]));
        assert!(one.update(&splits(&[("a", Some(111), true), ("b", Some(110), true)])));
        assert_eq!(paused(&one), ["a"]);
        // Half of the drift is the way back.
        two.update(&splits(&[("c", Some(50), true)]));
        assert!(!one.update(&splits(&[("a", Some(111), true), ("b", Some(110), true)])));
        two.update(&splits(&[("c", Some(61), true)]));
        assert!(one.update(&splits(&[("a", Some(111), true), ("b", Some(110), true)])));
        assert_eq!(paused(&one), [""; 0]);
    }

    #[test]
    fn a_split_without_a_row_holds_the_others_until_it_is_idle() {
        let mut pace = Pace::new(Arc::new(Drift::new(Duration::from_micros(100))));
        pace.update(&splits(&[("a", Some(0), true), ("b", None, true)]));
        assert_eq!(paused(&pace), ["a"]);
        pace.update(&splits(&[("a", Some(0), true), ("b", None, false)]));
        assert_eq!(paused(&pace), [""; 0]);
    }
}

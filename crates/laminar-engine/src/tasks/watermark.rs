//! Event time of a source's splits, and the merge over inputs.
//!
//! A watermark is kept per split and never goes back; the minimum over the splits that are not idle counts. With one
//! watermark a task, a partition that is read faster in a replay would make the rows of the others late.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::{Array, TimestampMicrosecondArray};
use laminar_core::{SplitId, Watermark};
use tokio::time::Instant;

use super::drift::SplitProgress;

/// As a watermark: rows may come, and nothing is known of their times.
pub(crate) const UNKNOWN: i64 = i64::MIN;

/// The watermarks of the splits that one source task reads.
pub(crate) struct SplitWatermarks {
    delay_micros: i64,
    idle_timeout: Duration,
    splits: BTreeMap<SplitId, SplitTime>,
    emitted: Option<Watermark>,
    /// The last one that was a time.
    last: Option<i64>,
}

struct SplitTime {
    /// Largest event time seen, less the delay; `None` before the first row.
    watermark: Option<i64>,
    last_row: Instant,
}

impl SplitTime {
    fn is_idle(&self, timeout: Duration, caught_up: bool, now: Instant) -> bool {
        caught_up && now.duration_since(self.last_row) >= timeout
    }
}

impl SplitWatermarks {
    pub(crate) fn new(
        splits: impl IntoIterator<Item = SplitId>,
        restored: &BTreeMap<SplitId, i64>,
        delay: Duration,
        idle_timeout: Duration,
        now: Instant,
    ) -> Self {
        let time =
            |split: SplitId| (split.clone(), SplitTime { watermark: restored.get(&split).copied(), last_row: now });
        let delay_micros = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        Self { delay_micros, idle_timeout, splits: splits.into_iter().map(time).collect(), emitted: None, last: None }
    }

    /// One more split, without a row yet: it holds the watermark where it is until it has one, or is idle.
    pub(crate) fn add(&mut self, split: SplitId, now: Instant) {
        self.splits.entry(split).or_insert(SplitTime { watermark: None, last_row: now });
    }

    /// The split had rows with these event times, µs. Calls `each` with the place of each, whether it is behind the split's
    /// watermark, and that watermark, as the rows before it left it. A row without a time is behind, and moves nothing.
    pub(crate) fn observe(
        &mut self,
        split: &SplitId,
        times: &TimestampMicrosecondArray,
        now: Instant,
        mut each: impl FnMut(usize, bool, Option<i64>),
    ) {
        let Some(split) = self.splits.get_mut(split).filter(|_| !times.is_empty()) else { return };
        split.last_row = now;
        let mut watermark = split.watermark.unwrap_or(i64::MIN);
        let so_far = |watermark| Some(watermark).filter(|w| *w != i64::MIN);
        for (row, time) in times.values().iter().enumerate() {
            let has_time = times.is_valid(row);
            each(row, *time < watermark || !has_time, so_far(watermark));
            if has_time {
                watermark = watermark.max(time.saturating_sub(self.delay_micros));
            }
        }
        split.watermark = so_far(watermark);
    }

    /// Of rows that are timed by their arrival: the time of those that come now, which is every split's watermark too. It is the
    /// clock's, unless that was put back.
    pub(crate) fn arrive(&mut self, clock_micros: i64, now: Instant) -> i64 {
        let time = self.splits.values().filter_map(|split| split.watermark).fold(clock_micros, i64::max);
        for split in self.splits.values_mut() {
            (split.watermark, split.last_row) = (Some(time), now);
        }
        time
    }

    /// The watermark to send, if it is not the one sent last. `caught_up`: the reader has nothing at hand, so a silent
    /// split is silent outside and not only waiting to be read.
    pub(crate) fn advance(&mut self, caught_up: bool, now: Instant) -> Option<Watermark> {
        let idle_timeout = self.idle_timeout;
        let active = |t: &&SplitTime| !t.is_idle(idle_timeout, caught_up, now);
        let mut active = self.splits.values().filter(active).peekable();
        let next = match active.peek() {
            None => Watermark::Idle,
            // A split without a row yet holds the others back: nobody knows what will come.
            Some(_) => Watermark::At(active.map(|t| t.watermark).min().flatten().unwrap_or(UNKNOWN)),
        };
        go_on(next, &mut self.emitted, &mut self.last)
    }

    /// Splits that nobody reads now are not silent.
    pub(crate) fn touch(&mut self, splits: &BTreeSet<SplitId>, now: Instant) {
        for split in splits {
            if let Some(time) = self.splits.get_mut(split) {
                time.last_row = now;
            }
        }
    }

    /// Where each split stands; `ended` ones and those that are idle do not count.
    pub(crate) fn progress(
        &self,
        ended: &[SplitId],
        caught_up: bool,
        now: Instant,
    ) -> BTreeMap<SplitId, SplitProgress> {
        let of = |(split, t): (&SplitId, &SplitTime)| {
            let counts = !ended.contains(split) && !t.is_idle(self.idle_timeout, caught_up, now);
            (split.clone(), SplitProgress { watermark: t.watermark, counts })
        };
        self.splits.iter().map(of).collect()
    }

    /// For the manifest.
    pub(crate) fn by_split(&self) -> BTreeMap<SplitId, i64> {
        self.splits.iter().filter_map(|(split, t)| Some((split.clone(), t.watermark?))).collect()
    }
}

/// The watermarks of a task's inputs: the minimum of those that are neither idle nor at their end, never going back.
pub(crate) struct MergedWatermark {
    inputs: Vec<Option<Watermark>>,
    emitted: Option<Watermark>,
    /// The last one that was a time.
    last: Option<i64>,
}

impl MergedWatermark {
    /// `last` is that of the restored checkpoint: what follows does not go back behind it.
    pub(crate) fn restored(inputs: usize, last: Option<i64>) -> Self {
        Self { inputs: vec![None; inputs], emitted: last.map(Watermark::At), last }
    }

    /// The last that was sent on and is a time.
    pub(crate) fn last(&self) -> Option<i64> {
        self.last
    }

    /// The watermark to send on, if it changed. An input that has ended is as good as idle.
    pub(crate) fn update(&mut self, input: usize, watermark: Watermark) -> Option<Watermark> {
        *self.inputs.get_mut(input)? = Some(watermark);
        let mut times = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            match input {
                None => return None,
                Some(Watermark::Idle) => {}
                Some(Watermark::At(time)) => times.push(*time),
            }
        }
        let next = times.into_iter().min().map_or(Watermark::Idle, Watermark::At);
        go_on(next, &mut self.emitted, &mut self.last)
    }
}

/// What to send of a watermark: not what was sent last, and never a time before the `last` one. One that would go back is that
/// time again, as it also says that its sender is not idle any more: others are to wait for it.
fn go_on(next: Watermark, emitted: &mut Option<Watermark>, last: &mut Option<i64>) -> Option<Watermark> {
    let next = match next {
        Watermark::At(time) => Watermark::At(last.map_or(time, |last| time.max(last))),
        Watermark::Idle => Watermark::Idle,
    };
    let says_nothing = emitted.is_none() && next == Watermark::At(UNKNOWN);
    if says_nothing || *emitted == Some(next) {
        return None;
    }
    if let Watermark::At(time) = next
        && time != UNKNOWN
    {
        *last = Some(time);
    }
    *emitted = Some(next);
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_slowest_split_counts_and_nothing_goes_back() {
        let start = Instant::now();
        let splits = ["a", "b"].map(SplitId::from);
        let delay = Duration::from_micros(5);
        let mut times = SplitWatermarks::new(splits.clone(), &BTreeMap::new(), delay, Duration::from_secs(30), start);
        times.observe(&splits[0], &vec![100].into(), start, |_, _, _| {});
        assert_eq!(times.advance(true, start), None);
        times.observe(&splits[1], &vec![50].into(), start, |_, _, _| {});
        assert_eq!(times.advance(true, start), Some(Watermark::At(45)));
        times.observe(&splits[1], &vec![20].into(), start, |_, _, _| {});
        assert_eq!(times.advance(true, start), None);
        let later = start + Duration::from_secs(31);
        times.observe(&splits[0], &vec![200].into(), later, |_, _, _| {});
        assert_eq!(times.advance(false, later), None, "b may only be waiting to be read");
        assert_eq!(times.advance(true, later), Some(Watermark::At(195)));
    }

    #[tokio::test]
    async fn a_row_without_a_time_is_late_and_moves_nothing() {
        let start = Instant::now();
        let split = SplitId::from("a");
        let delay = Duration::ZERO;
        let mut times = SplitWatermarks::new([split.clone()], &BTreeMap::new(), delay, Duration::from_secs(30), start);
        let mut late = Vec::new();
        times.observe(&split, &vec![None].into(), start, |_, is_late, watermark| late.push((is_late, watermark)));
        assert_eq!(times.advance(true, start), None, "nothing is known of the time");
        let rows = vec![Some(100), None, Some(90)].into();
        times.observe(&split, &rows, start, |_, is_late, watermark| late.push((is_late, watermark)));
        assert_eq!(late, [(true, None), (false, None), (true, Some(100)), (true, Some(100))]);
        assert_eq!(times.advance(true, start), Some(Watermark::At(100)));
    }

    #[tokio::test]
    async fn a_split_that_appears_holds_the_watermark_and_never_pulls_it_back() {
        let (start, none) = (Instant::now(), Duration::ZERO);
        let (old, new) = (SplitId::from("old"), SplitId::from("new"));
        let mut times = SplitWatermarks::new([old.clone()], &BTreeMap::new(), none, Duration::from_secs(30), start);
        times.observe(&old, &vec![100].into(), start, |_, _, _| {});
        assert_eq!(times.advance(true, start), Some(Watermark::At(100)));
        times.add(new.clone(), start);
        times.observe(&old, &vec![200].into(), start, |_, _, _| {});
        assert_eq!(times.advance(true, start), None, "what comes in the new one may be older than 200");
        times.observe(&new, &vec![50].into(), start, |_, _, _| {});
        assert_eq!(times.advance(true, start), None, "not back to 50");
        times.observe(&new, &vec![150].into(), start, |_, _, _| {});
        assert_eq!(times.advance(true, start), Some(Watermark::At(150)));
    }

    #[tokio::test]
    async fn who_wakes_up_with_old_rows_is_waited_for_again() {
        let start = Instant::now();
        let split = SplitId::from("a");
        let idle = Duration::from_secs(30);
        let mut times = SplitWatermarks::new([split.clone()], &BTreeMap::new(), Duration::ZERO, idle, start);
        times.observe(&split, &vec![100].into(), start, |_, _, _| {});
        assert_eq!(times.advance(true, start), Some(Watermark::At(100)));
        let later = start + idle;
        assert_eq!(times.advance(true, later), Some(Watermark::Idle));
        times.observe(&split, &vec![50].into(), later, |_, _, _| {});
        assert_eq!(times.advance(true, later), Some(Watermark::At(100)), "not idle, and not back to 50");
        // The next stage has heard of 100 before it was restored.
        let mut merged = MergedWatermark::restored(1, Some(100));
        assert_eq!(merged.update(0, Watermark::Idle), Some(Watermark::Idle));
        assert_eq!(merged.update(0, Watermark::At(UNKNOWN)), Some(Watermark::At(100)));
    }

    #[tokio::test]
    async fn a_task_that_gets_its_first_split_is_waited_for() {
        let start = Instant::now();
        let mut times = SplitWatermarks::new([], &BTreeMap::new(), Duration::ZERO, Duration::from_secs(30), start);
        let mut merged = MergedWatermark::restored(2, None);
        assert_eq!(merged.update(0, Watermark::At(10)), None);
        assert_eq!(merged.update(1, times.advance(true, start).unwrap()), Some(Watermark::At(10)));
        times.add("new".into(), start);
        assert_eq!(merged.update(1, times.advance(true, start).unwrap()), None);
        assert_eq!(merged.update(0, Watermark::At(20)), None, "the new split's rows may be older");
        times.observe(&"new".into(), &vec![15].into(), start, |_, _, _| {});
        assert_eq!(merged.update(1, times.advance(true, start).unwrap()), Some(Watermark::At(15)));
    }

    #[tokio::test]
    async fn processing_time_goes_on_without_rows_but_never_back() {
        let (start, none) = (Instant::now(), Duration::ZERO);
        let splits = ["a", "b"].map(SplitId::from);
        let restored = BTreeMap::from([(splits[1].clone(), 70)]);
        let mut times = SplitWatermarks::new(splits.clone(), &restored, none, Duration::from_secs(30), start);
        assert_eq!(times.arrive(50, start), 70, "the clock was put back since the checkpoint");
        assert_eq!(times.advance(true, start), Some(Watermark::At(70)));
        let later = start + Duration::from_secs(60);
        assert_eq!(times.arrive(90, later), 90);
        assert_eq!(times.advance(true, later), Some(Watermark::At(90)), "never idle");
        times.observe(&splits[0], &vec![90].into(), later, |_, late, _| assert!(!late));
    }

    #[test]
    fn an_idle_input_holds_nobody_back() {
        let mut merged = MergedWatermark::restored(2, None);
        assert_eq!(merged.update(0, Watermark::At(10)), None);
        assert_eq!(merged.update(1, Watermark::Idle), Some(Watermark::At(10)));
        assert_eq!(merged.update(1, Watermark::At(4)), None);
        assert_eq!(merged.update(1, Watermark::At(12)), None);
        assert_eq!(merged.update(0, Watermark::At(20)), Some(Watermark::At(12)));
    }
}

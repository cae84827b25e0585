//! The life of a job as a pure function: no clock, no I/O, no randomness.
//!
//! ```text
//!              Start                Started
//!   Created ─────────► Scheduling ─────────► Running ── Finished ──► Finished
//!                        │   ▲                │   │
//!                        │   └── RetryDue ──┐ │   └── Stop ──► Stopping ── Stopped ──► Stopped
//!                        └── Failed ──► Recovering ◄── Failed
//!                                           └── too often, or for good ──► Failed
//! ```
//!
//! Rules that hold for every sequence of events (the property tests below): a final phase is never left; an engine job is
//! launched only when none runs; a stop that was asked for always ends the job; a fenced job never comes back; no more
//! than `max_restarts` restarts happen within `window`.

use std::collections::VecDeque;
use std::time::Duration;

use laminar_core::Retry;
use laminar_engine::job::StopMode;
use serde::{Deserialize, Serialize};

/// Where a job stands, as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Asked for, not yet begun.
    Created,
    /// Being planned, recovered and opened.
    Scheduling,
    Running,
    /// Told to stop; its last checkpoint may be under way.
    Stopping,
    /// Waiting before it starts again after a failure.
    Recovering,
    Stopped,
    Failed,
    /// Its input ended and everything is written.
    Finished,
}

impl Phase {
    pub const ALL: [Phase; 8] = [
        Phase::Created,
        Phase::Scheduling,
        Phase::Running,
        Phase::Stopping,
        Phase::Recovering,
        Phase::Stopped,
        Phase::Failed,
        Phase::Finished,
    ];

    pub fn is_final(self) -> bool {
        matches!(self, Phase::Stopped | Phase::Failed | Phase::Finished)
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Created => "Created",
            Phase::Scheduling => "Scheduling",
            Phase::Running => "Running",
            Phase::Stopping => "Stopping",
            Phase::Recovering => "Recovering",
            Phase::Stopped => "Stopped",
            Phase::Failed => "Failed",
            Phase::Finished => "Finished",
        }
    }
    pub fn parse(text: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}

/// A job's phase and what its next step depends on besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobState {
    pub phase: Phase,
    /// Restarts since the job was created.
    pub restarts: u64,
    /// When the failures within the window happened, oldest first, µs.
    failures: VecDeque<i64>,
    /// It has run at least once: from then on a failure to start is retried even if the first had to succeed.
    has_run: bool,
}

impl JobState {
    pub fn new() -> Self {
        Self { phase: Phase::Created, restarts: 0, failures: VecDeque::new(), has_run: false }
    }
}

impl Default for JobState {
    fn default() -> Self {
        Self::new()
    }
}

/// What a job does when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    pub on_failure: OnFailure,
    /// Restarts allowed within `window`; one more failure ends the job.
    pub max_restarts: u32,
    pub window: Duration,
    /// Wait before the first restart; doubles with each failure within the window, up to `backoff_max`.
    pub backoff_initial: Duration,
    pub backoff_max: Duration,
    /// Must the first start succeed? A statement that creates a pipeline says so, to report the error instead.
    pub first_start: FirstStart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Start again from the latest checkpoint.
    Restart,
    /// Stay failed until somebody restarts it.
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStart {
    MustSucceed,
    MayBeRetried,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            on_failure: OnFailure::Restart,
            max_restarts: 20,
            window: Duration::from_secs(600),
            backoff_initial: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            first_start: FirstStart::MayBeRetried,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Start,
    /// The engine runs: splits are assigned, state is restored.
    Started,
    Stop(StopMode),
    /// The engine ended because it was told to.
    Stopped,
    /// The engine ended because its input did.
    Finished,
    /// The start failed, or the running engine did.
    Failed {
        retry: Retry,
        at_micros: i64,
    },
    /// The wait before a restart is over.
    RetryDue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Plan the graph and start an engine job.
    Launch,
    /// Give up a launch that is under way.
    AbandonLaunch,
    StopEngine(StopMode),
    /// Wait this long (the driver adds jitter), then feed `RetryDue`.
    RetryAfter(Duration),
    /// The job is over: its phase is final.
    End,
}

/// What follows when `event` happens to a job in `state`. An event that has no meaning in a phase changes nothing: events
/// may cross (a stop and a failure, say).
pub fn step(mut state: JobState, event: Event, policy: &RestartPolicy) -> (JobState, Vec<Action>) {
    use Phase::*;
    let (phase, actions) = match (state.phase, event) {
        (Created, Event::Start) => (Scheduling, vec![Action::Launch]),
        (Created, Event::Stop(_)) => (Stopped, vec![Action::End]),

        (Scheduling, Event::Started) => {
            state.has_run = true;
            (Running, vec![])
        }
        (Scheduling, Event::Stop(_)) => (Stopped, vec![Action::AbandonLaunch, Action::End]),
        (Scheduling | Running, Event::Failed { retry, at_micros }) => {
            after_failure(&mut state, retry, at_micros, policy)
        }
        // an engine may end before the driver has seen it start
        (Scheduling | Running, Event::Finished) => (Finished, vec![Action::End]),

        (Running, Event::Stop(mode)) => (Stopping, vec![Action::StopEngine(mode)]),
        // the engine may stop by itself only because we told it to; believe it
        (Running | Stopping, Event::Stopped) => (Stopped, vec![Action::End]),

        // a second stop may be more urgent than the first
        (Stopping, Event::Stop(mode)) => (Stopping, vec![Action::StopEngine(mode)]),
        (Stopping, Event::Finished) => (Finished, vec![Action::End]),
        // it was to end, and it has: without a last checkpoint, so the next start goes on from the one before
        (Stopping, Event::Failed { .. }) => (Stopped, vec![Action::End]),

        (Recovering, Event::RetryDue) => {
            state.restarts += 1;
            (Scheduling, vec![Action::Launch])
        }
        (Recovering, Event::Stop(_)) => (Stopped, vec![Action::End]),

        (phase, _) => (phase, vec![]),
    };
    state.phase = phase;
    (state, actions)
}

fn after_failure(state: &mut JobState, retry: Retry, at_micros: i64, policy: &RestartPolicy) -> (Phase, Vec<Action>) {
    let window = i64::try_from(policy.window.as_micros()).unwrap_or(i64::MAX);
    while state.failures.front().is_some_and(|first| at_micros.saturating_sub(*first) > window) {
        state.failures.pop_front();
    }
    let restarts = state.failures.len();
    state.failures.push_back(at_micros);
    let for_good = retry == Retry::Never
        || policy.on_failure == OnFailure::Fail
        || (policy.first_start == FirstStart::MustSucceed && !state.has_run)
        || restarts >= policy.max_restarts as usize;
    if for_good {
        return (Phase::Failed, vec![Action::End]);
    }
    (Phase::Recovering, vec![Action::RetryAfter(backoff(policy, restarts))])
}

/// `backoff_initial · 2^earlier`, at most `backoff_max`.
fn backoff(policy: &RestartPolicy, earlier: usize) -> Duration {
    let factor = 1u32.checked_shl(u32::try_from(earlier).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
    policy.backoff_initial.saturating_mul(factor).min(policy.backoff_max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRYABLE: Event = Event::Failed { retry: Retry::Backoff, at_micros: 0 };
    const FENCED: Event = Event::Failed { retry: Retry::Never, at_micros: 0 };

    /// Feeds the events and returns the phases passed through and the last step's actions.
    fn check(policy: &RestartPolicy, events: &[Event], phases: &[Phase], last: &[Action]) {
        let mut state = JobState::new();
        let mut seen = Vec::new();
        let mut actions = Vec::new();
        for event in events {
            (state, actions) = step(state, event.clone(), policy);
            seen.push(state.phase);
        }
        assert_eq!(seen, phases);
        assert_eq!(actions, last);
    }

    #[test]
    fn an_ordinary_life() {
        use Phase::*;
        let events = [Event::Start, Event::Started, Event::Stop(StopMode::Checkpoint), Event::Stopped];
        check(&RestartPolicy::default(), &events, &[Scheduling, Running, Stopping, Stopped], &[Action::End]);
    }

    #[test]
    fn a_fault_that_may_pass_is_retried_and_a_fenced_job_is_not() {
        use Phase::*;
        let policy = RestartPolicy::default();
        check(
            &policy,
            &[Event::Start, Event::Started, RETRYABLE, Event::RetryDue],
            &[Scheduling, Running, Recovering, Scheduling],
            &[Action::Launch],
        );
        check(&policy, &[Event::Start, Event::Started, FENCED], &[Scheduling, Running, Failed], &[Action::End]);
    }

    #[test]
    fn the_first_start_of_a_new_pipeline_is_not_retried() {
        use Phase::*;
        let policy = RestartPolicy { first_start: FirstStart::MustSucceed, ..RestartPolicy::default() };
        check(&policy, &[Event::Start, RETRYABLE], &[Scheduling, Failed], &[Action::End]);
        check(
            &policy,
            &[Event::Start, Event::Started, RETRYABLE],
            &[Scheduling, Running, Recovering],
            &[Action::RetryAfter(policy.backoff_initial)],
        );
    }

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let policy = RestartPolicy { backoff_max: Duration::from_secs(1), ..RestartPolicy::default() };
        let waits: Vec<_> = [0, 1, 2, 3, 40].map(|n| backoff(&policy, n).as_millis()).to_vec();
        assert_eq!(waits, [250, 500, 1000, 1000, 1000]);
    }

    #[test]
    fn old_failures_are_forgiven() {
        let policy = RestartPolicy { max_restarts: 1, window: Duration::from_secs(1), ..RestartPolicy::default() };
        let fail = |at_micros| Event::Failed { retry: Retry::Backoff, at_micros };
        let mut state = JobState::new();
        for event in [Event::Start, Event::Started, fail(0), Event::RetryDue, Event::Started, fail(5_000_000)] {
            (state, _) = step(state, event, &policy);
        }
        assert_eq!(state.phase, Phase::Recovering);
        for event in [Event::RetryDue, Event::Started, fail(5_500_000)] {
            (state, _) = step(state, event, &policy);
        }
        assert_eq!(state.phase, Phase::Failed);
    }

    fn event() -> impl Strategy<Value = Event> {
        let failed = (any::<bool>(), 0i64..20_000_000).prop_map(|(again, at_micros)| Event::Failed {
            retry: if again { Retry::Backoff } else { Retry::Never },
            at_micros,
        });
        prop_oneof![
            Just(Event::Start),
            Just(Event::Started),
            Just(Event::Stop(StopMode::Checkpoint)),
            Just(Event::Stop(StopMode::Immediate)),
            Just(Event::Stopped),
            Just(Event::Finished),
            Just(Event::RetryDue),
            failed,
        ]
    }

    proptest! {
        #[test]
        fn the_rules_hold_for_every_sequence(events in prop::collection::vec(event(), 0..40), max_restarts in 0u32..4) {
            let policy = RestartPolicy { max_restarts, window: Duration::from_secs(3_600), ..RestartPolicy::default() };
            let mut state = JobState::new();
            let mut ends = 0;
            let mut restarts = 0;
            for event in events {
                let before = state.clone();
                let (after, actions) = step(state, event.clone(), &policy);
                if before.phase.is_final() {
                    prop_assert_eq!(&after, &before);
                    prop_assert!(actions.is_empty());
                }
                if actions.contains(&Action::Launch) {
                    prop_assert!(matches!(before.phase, Phase::Created | Phase::Recovering), "an engine job may run in {:?}", before.phase);
                    restarts += u32::from(before.phase == Phase::Recovering);
                }
                if matches!(event, Event::Stop(_)) {
                    prop_assert!(after.phase.is_final() || after.phase == Phase::Stopping);
                }
                if before.phase == Phase::Stopping {
                    prop_assert!(after.phase.is_final() || after.phase == Phase::Stopping, "a stop was forgotten");
                }
                if matches!(event, Event::Failed { retry: Retry::Never, .. }) {
                    prop_assert!(after.phase != Phase::Recovering || before.phase == Phase::Recovering);
                }
                ends += actions.iter().filter(|a| **a == Action::End).count();
                prop_assert_eq!(ends, usize::from(after.phase.is_final()));
                state = after;
            }
            prop_assert!(restarts <= max_restarts);
        }

        #[test]
        fn phases_are_read_as_they_are_written(index in 0usize..8) {
            let phase = Phase::ALL[index];
            prop_assert_eq!(Phase::parse(phase.as_str()), Some(phase));
        }
    }
}

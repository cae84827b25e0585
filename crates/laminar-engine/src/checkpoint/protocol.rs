//! What happens next in a checkpoint, and what a restart restores: pure decisions, no I/O, no clock.
//!
//! ```text
//!  Idle ──begin──► Collecting ──all tasks frozen──► Persisting ──manifest durable──► Committing 0, 1, … ──► Idle
//!        inject barrier          write files, manifest          commit marker each              release, clean up
//!                   │                      │
//!                   ▼ given up             ▼ given up
//!                Draining ──all tasks frozen──► Idle, with the next number
//! ```
//!
//! An epoch that is given up becomes part of the next one: the sinks write on into the same transaction, and the next
//! manifest has what the tasks froze for both (ADR 14).
//! From the first commit on nothing can be given up any more: nobody knows how a commit ended that did not return.
//!
//! Committers commit one after the other. A crash between two of them leaves one marker at N and the other at N-1: the
//! restart restores N-1, replays exactly to the positions of N, and mutes the sinks that already have N.
//!
//! The tests at the end of this file run the protocol against a model of the outside world, crash it after every action,
//! recover, and count every row.

use std::collections::BTreeSet;

use laminar_core::sink::Marker;
use laminar_core::{Barrier, Code, Epoch, Error, Result, TaskId};

/// What the driver must do now, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the barrier into every source.
    Inject(Barrier),
    /// Write all state files, then the manifest. Answer with [`Protocol::manifest_durable`].
    Persist(Epoch),
    /// Commit the marker through this committer. Answer with [`Protocol::committed`].
    Commit { committer: usize, epoch: Epoch },
    /// The epoch is done: sinks may write the next one, sources may acknowledge.
    Release(Epoch),
    /// The epoch will not be committed by itself: sinks write on, what was frozen for it is kept for the next.
    GiveUp(Epoch),
    /// Delete what no restart needs any more.
    CleanUp(Epoch),
    /// The job has stopped: this was its last epoch.
    Stopped(Epoch),
}

#[derive(Debug)]
enum Phase {
    Idle,
    Collecting {
        barrier: Barrier,
        missing: BTreeSet<TaskId>,
    },
    /// Given up, and its barrier is still on its way to these.
    Draining {
        epoch: Epoch,
        missing: BTreeSet<TaskId>,
    },
    Persisting {
        barrier: Barrier,
    },
    Committing {
        barrier: Barrier,
        next: usize,
    },
    Stopped,
}

/// One job's checkpoints, one at a time.
#[derive(Debug)]
pub struct Protocol {
    tasks: BTreeSet<TaskId>,
    /// Per committer: the epoch it already has; smaller and equal epochs are not committed again.
    ahead: Vec<Epoch>,
    last: Epoch,
    /// The number of the next barrier.
    next: Epoch,
    /// This epoch must be committed by itself, with exactly its positions.
    required: Option<Epoch>,
    phase: Phase,
}

impl Protocol {
    /// `last`: the restored epoch. `ahead`: per committer, the epoch of its marker (0 if it has none).
    pub fn new(tasks: BTreeSet<TaskId>, ahead: Vec<Epoch>, last: Epoch) -> Self {
        Self { tasks, ahead, last, next: last.next(), required: None, phase: Phase::Idle }
    }

    /// The first epoch is this one and cannot be given up: it pins where the sources start, or it is replayed for the
    /// committers that lack it.
    #[must_use]
    pub fn starting_with(mut self, epoch: Epoch) -> Self {
        (self.next, self.required) = (epoch, Some(epoch));
        self
    }

    /// The last epoch that is done.
    pub fn last(&self) -> Epoch {
        self.last
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Starts the next epoch; nothing if one is under way or the job has stopped.
    pub fn begin(&mut self, stop: bool) -> Vec<Action> {
        if !self.is_idle() {
            return vec![];
        }
        let barrier = Barrier { epoch: self.next, stop };
        self.phase = Phase::Collecting { barrier, missing: self.tasks.clone() };
        vec![Action::Inject(barrier)]
    }

    /// A task froze its state and its sinks have flushed.
    pub fn frozen(&mut self, task: &TaskId, epoch: Epoch) -> Result<Vec<Action>> {
        let (barrier, missing) = match &mut self.phase {
            Phase::Collecting { barrier, missing } => (barrier, missing),
            Phase::Draining { epoch: given_up, missing } if *given_up == epoch => {
                if !missing.remove(task) {
                    return Err(unexpected("froze", epoch, &self.phase));
                }
                if missing.is_empty() {
                    self.phase = Phase::Idle;
                }
                return Ok(vec![]);
            }
            _ => return Err(unexpected("froze", epoch, &self.phase)),
        };
        if barrier.epoch != epoch || !missing.remove(task) {
            return Err(unexpected("froze", epoch, &self.phase));
        }
        if !missing.is_empty() {
            return Ok(vec![]);
        }
        self.phase = Phase::Persisting { barrier: *barrier };
        Ok(vec![Action::Persist(epoch)])
    }

    /// All state files of the epoch and its manifest are durable.
    pub fn manifest_durable(&mut self, epoch: Epoch) -> Result<Vec<Action>> {
        match self.phase {
            Phase::Persisting { barrier } if barrier.epoch == epoch => Ok(self.commit_from(0, barrier)),
            _ => Err(unexpected("made a manifest durable", epoch, &self.phase)),
        }
    }

    /// The committer's marker of the epoch is visible.
    pub fn committed(&mut self, committer: usize, epoch: Epoch) -> Result<Vec<Action>> {
        match self.phase {
            Phase::Committing { barrier, next } if barrier.epoch == epoch && next == committer => {
                Ok(self.commit_from(committer + 1, barrier))
            }
            _ => Err(unexpected("committed", epoch, &self.phase)),
        }
    }

    /// The epoch under way will not be done in time. `None` if it must be, or may already be visible: then only a restart
    /// helps. Also `None` while one that was given up before is on its way.
    pub fn give_up(&mut self) -> Option<Vec<Action>> {
        let (barrier, missing) = match &self.phase {
            Phase::Collecting { barrier, missing } => (barrier, missing.clone()),
            Phase::Persisting { barrier } => (barrier, BTreeSet::new()),
            _ => return None,
        };
        let epoch = barrier.epoch;
        if barrier.stop || self.required == Some(epoch) {
            return None;
        }
        self.next = epoch.next();
        self.phase = if missing.is_empty() { Phase::Idle } else { Phase::Draining { epoch, missing } };
        Some(vec![Action::GiveUp(epoch)])
    }

    /// An epoch is under way of which nothing can be visible yet.
    pub fn is_undecided(&self) -> bool {
        matches!(self.phase, Phase::Collecting { .. } | Phase::Persisting { .. })
    }

    /// The epoch was given up, and some task has not seen its barrier yet.
    pub fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    fn commit_from(&mut self, first: usize, barrier: Barrier) -> Vec<Action> {
        let epoch = barrier.epoch;
        let behind = self.ahead.iter().enumerate().skip(first).find(|(_, has)| **has < epoch);
        if let Some((committer, _)) = behind {
            self.phase = Phase::Committing { barrier, next: committer };
            return vec![Action::Commit { committer, epoch }];
        }
        self.last = epoch;
        self.next = epoch.next();
        self.phase = if barrier.stop { Phase::Stopped } else { Phase::Idle };
        let mut actions = vec![Action::Release(epoch), Action::CleanUp(epoch)];
        if barrier.stop {
            actions.push(Action::Stopped(epoch));
        }
        actions
    }
}

fn unexpected(what: &str, epoch: Epoch, phase: &Phase) -> Error {
    Error::internal(format!("a task {what} epoch {epoch} while the checkpoint was {phase:?}"))
}

/// What a restart begins from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing was ever committed: sources start as configured.
    Fresh,
    /// Some committers have the first epoch and others nothing. It has no rows (its barrier comes before the first read), so
    /// it is made again, from the positions in its manifest, for those that lack it.
    First {
        /// sha256 of its manifest.
        digest: String,
    },
    /// From the manifest of this epoch.
    From {
        epoch: Epoch,
        /// sha256 of its manifest.
        digest: String,
        /// Set if some committers already have the epoch after it: read exactly to that epoch's positions, with their sinks
        /// muted. It is the marker to take the positions from.
        replay: Option<Marker>,
    },
}

/// Decides from the committers' markers, in their order. Every committer of a pipeline is at the last epoch or at the one
/// that was committed before it.
///
/// Errors with `checkpoint_mismatch` if the markers cannot come from one pipeline's protocol, as when a sink was added
/// to a pipeline that had run without it.
pub fn decide(markers: &[Option<Marker>]) -> Result<Start> {
    let newest = markers.iter().flatten().max_by_key(|m| m.epoch);
    let Some(newest) = newest else { return Ok(Start::Fresh) };
    let behind: Vec<_> = markers.iter().filter(|m| m.as_ref().is_none_or(|m| m.epoch < newest.epoch)).collect();
    let Some(first_behind) = behind.first() else {
        return Ok(Start::From { epoch: newest.epoch, digest: newest.manifest_digest.clone(), replay: None });
    };
    match first_behind {
        None if newest.epoch == Epoch(1) && behind.iter().all(|m| m.is_none()) => {
            Ok(Start::First { digest: newest.manifest_digest.clone() })
        }
        Some(older) if behind.iter().all(|m| m.as_ref() == Some(older)) && older.epoch == newest.previous() => {
            Ok(Start::From { epoch: older.epoch, digest: older.manifest_digest.clone(), replay: Some(newest.clone()) })
        }
        _ => Err(Error::new(
            Code::CheckpointMismatch,
            format!("the sinks of this pipeline are at epochs that do not fit together (newest {})", newest.epoch),
        )
        .with_detail(
            markers
                .iter()
                .map(|m| m.as_ref().map_or("none".into(), |m| m.epoch.to_string()))
                .collect::<Vec<_>>()
                .join(", "),
        )
        .with_hint("a sink, or a place for dead letters, was added, or its markers were deleted; RESTART PIPELINE … FROM CHECKPOINT n goes on \
             and may repeat rows; IGNORING STATE starts anew")),
    }
}

/// What is left when the manifest that `decide` named is damaged: the one before it, replayed to this one's positions
/// with every sink muted. `None` if a replay is needed already: two epochs cannot be rebuilt.
pub fn rebuild_from_previous(start: &Start, markers: &[Option<Marker>]) -> Option<(Epoch, Marker)> {
    let Start::From { epoch, replay: None, .. } = start else { return None };
    let marker = markers.iter().flatten().find(|m| m.epoch == *epoch)?;
    let previous = marker.previous();
    (previous > Epoch(0) && markers.iter().all(|m| m.is_some())).then(|| (previous, marker.clone()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use laminar_core::{OperatorId, Position, SplitId};

    use super::*;

    /// The outside world: one source of numbered rows, committers with transactions, a manifest store. Manifests are
    /// candidates: only a marker makes one count.
    #[derive(Clone, Default)]
    struct World {
        visible: Vec<Vec<u64>>,
        markers: Vec<Option<Marker>>,
        manifests: BTreeMap<(Epoch, String), u64>,
        writes: u32,
    }

    /// One run of the engine against the world; lost with the crash.
    struct Run {
        protocol: Protocol,
        position: u64,
        open: Vec<Vec<u64>>,
        muted: Vec<Epoch>,
        digest: String,
        at_barrier: u64,
        replay_to: Option<u64>,
        /// The manifest that was committed last.
        kept: Option<(Epoch, String)>,
        attempts: u32,
        committed_to: u64,
    }

    /// Which checkpoints of a run are given up, and when: one bit each, the first lowest.
    #[derive(Clone, Copy, Debug, Default)]
    struct Slow {
        collecting: u32,
        persisting: u32,
    }

    impl Slow {
        fn has(bits: u32, attempt: u32) -> bool {
            bits.checked_shr(attempt).is_some_and(|bits| bits & 1 == 1)
        }
    }

    fn task() -> TaskId {
        TaskId { operator: "source-0".into(), index: 0 }
    }

    fn marker(epoch: Epoch, digest: &str, position: u64) -> Marker {
        let splits: BTreeMap<SplitId, Position> = [("s".into(), Position(position))].into();
        let positions: BTreeMap<OperatorId, _> = [("source-0".into(), splits)].into();
        Marker { version: 1, epoch, manifest_digest: digest.into(), positions, watermark: None, previous: None }
    }

    fn position_of(marker: &Marker) -> u64 {
        marker.positions[&"source-0".into()][&"s".into()].0
    }

    impl World {
        fn new(committers: usize) -> Self {
            Self { visible: vec![vec![]; committers], markers: vec![None; committers], ..Self::default() }
        }

        fn start(&self, damaged: bool) -> Run {
            let start = decide(&self.markers).unwrap();
            let rebuilt = if damaged { rebuild_from_previous(&start, &self.markers) } else { None };
            let at = |epoch: Epoch, digest: Option<&str>| {
                let found: Vec<_> =
                    self.manifests.iter().filter(|((e, d), _)| *e == epoch && digest.is_none_or(|x| x == d)).collect();
                let (key, position) = *found.last().unwrap();
                (*position, Some(key.clone()))
            };
            let (last, (position, kept), replay) = match (&rebuilt, &start) {
                (Some((epoch, to)), _) => (*epoch, at(*epoch, None), Some(to)),
                (None, Start::Fresh) => (Epoch(0), (0, None), None),
                (None, Start::First { digest }) => (Epoch(0), at(Epoch(1), Some(digest)), None),
                (None, Start::From { epoch, digest, replay }) => (*epoch, at(*epoch, Some(digest)), replay.as_ref()),
            };
            let protocol = |ahead: &[Epoch]| {
                let protocol = Protocol::new([task()].into(), ahead.to_vec(), last);
                match replay {
                    Some(marker) => protocol.starting_with(marker.epoch),
                    None if last == Epoch(0) => protocol.starting_with(Epoch(1)),
                    None => protocol,
                }
            };
            let ahead: Vec<_> = self.markers.iter().map(|m| m.as_ref().map_or(Epoch(0), |m| m.epoch)).collect();
            Run {
                protocol: protocol(&ahead),
                position,
                open: vec![vec![]; self.markers.len()],
                muted: ahead.iter().map(|a| if *a > last && replay.is_some() { *a } else { Epoch(0) }).collect(),
                digest: String::new(),
                at_barrier: 0,
                replay_to: replay.map(position_of),
                kept,
                attempts: 0,
                committed_to: 0,
            }
        }
    }

    /// Runs epochs until `rows` are through or `budget` actions are spent. True: through.
    fn run(world: &mut World, rows: u64, budget: &mut u32, damaged: bool, slow: Slow) -> bool {
        let mut run = world.start(damaged);
        let mut first = run.protocol.last() == Epoch(0);
        loop {
            let until = match run.replay_to.take() {
                Some(position) => position,
                None if first => run.position,
                None => (run.position + 3).min(rows),
            };
            first = false;
            while run.position < until {
                for (committer, open) in run.open.iter_mut().enumerate() {
                    if run.protocol.last().next() > run.muted[committer] {
                        open.push(run.position);
                    }
                }
                run.position += 1;
            }
            let mut actions: std::collections::VecDeque<_> = run.protocol.begin(false).into();
            while let Some(action) = actions.pop_front() {
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                actions.extend(perform(world, &mut run, action, slow));
            }
            if run.committed_to == rows {
                return true;
            }
        }
    }

    fn perform(world: &mut World, run: &mut Run, action: Action, slow: Slow) -> Vec<Action> {
        match action {
            Action::Inject(barrier) => {
                run.at_barrier = run.position;
                run.attempts += 1;
                let given_up = Slow::has(slow.collecting, run.attempts - 1).then(|| run.protocol.give_up()).flatten();
                let frozen = run.protocol.frozen(&task(), barrier.epoch).unwrap();
                given_up.unwrap_or(frozen)
            }
            Action::Persist(epoch) => {
                world.writes += 1;
                run.digest = format!("d{}", world.writes);
                world.manifests.insert((epoch, run.digest.clone()), run.at_barrier);
                let given_up = Slow::has(slow.persisting, run.attempts - 1).then(|| run.protocol.give_up()).flatten();
                given_up.unwrap_or_else(|| run.protocol.manifest_durable(epoch).unwrap())
            }
            Action::Commit { committer, epoch } => {
                world.visible[committer].append(&mut run.open[committer]);
                let previous = Some(run.protocol.last());
                world.markers[committer] = Some(Marker { previous, ..marker(epoch, &run.digest, run.at_barrier) });
                run.protocol.committed(committer, epoch).unwrap()
            }
            Action::Release(_) => {
                run.committed_to = run.at_barrier;
                vec![]
            }
            Action::GiveUp(_) => vec![],
            Action::CleanUp(epoch) => {
                let newest = Some((epoch, run.digest.clone()));
                let kept = std::mem::replace(&mut run.kept, newest.clone());
                world.manifests.retain(|key, _| [&newest, &kept].into_iter().flatten().any(|k| k == key));
                vec![]
            }
            Action::Stopped(_) => unreachable!("the model never stops a job"),
        }
    }

    #[test]
    fn one_crash_at_every_action_loses_and_repeats_nothing() {
        for committers in 1..=3 {
            for crash_after in 0..60 {
                let mut world = World::new(committers);
                run(&mut world, 20, &mut { crash_after }, false, Slow::default());
                assert!(
                    run(&mut world, 20, &mut 10_000, false, Slow::default()),
                    "{committers} committers, crash after {crash_after}"
                );
                for visible in &world.visible {
                    assert_eq!(
                        *visible,
                        (0..20).collect::<Vec<_>>(),
                        "{committers} committers, crash after {crash_after}"
                    );
                }
            }
        }
    }

    #[test]
    fn two_crashes_in_any_two_places_lose_and_repeat_nothing() {
        for committers in 1..=2 {
            for first in 0..40 {
                for second in 0..40 {
                    let mut world = World::new(committers);
                    run(&mut world, 15, &mut { first }, false, Slow::default());
                    run(&mut world, 15, &mut { second }, false, Slow::default());
                    assert!(run(&mut world, 15, &mut 10_000, false, Slow::default()));
                    for visible in &world.visible {
                        assert_eq!(
                            *visible,
                            (0..15).collect::<Vec<_>>(),
                            "{committers} committers, crashes {first} {second}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_damaged_manifest_is_rebuilt_from_the_one_before_with_sinks_muted() {
        for crash_after in 14..60 {
            let mut world = World::new(1);
            run(&mut world, 20, &mut { crash_after }, false, Slow::default());
            assert!(run(&mut world, 20, &mut 10_000, true, Slow::default()), "crash after {crash_after}");
            assert_eq!(world.visible[0], (0..20).collect::<Vec<_>>(), "crash after {crash_after}");
        }
    }

    /// Checkpoints that are given up, in every pattern of five, around a crash at every action.
    #[test]
    fn epochs_that_are_given_up_lose_and_repeat_nothing() {
        for committers in 1..=2 {
            for pattern in 0..243_u32 {
                let mut slow = Slow::default();
                for attempt in 0..5 {
                    match pattern / 3_u32.pow(attempt) % 3 {
                        1 => slow.collecting |= 1 << attempt,
                        2 => slow.persisting |= 1 << attempt,
                        _ => {}
                    }
                }
                for crash_after in 0..40 {
                    let mut world = World::new(committers);
                    run(&mut world, 15, &mut { crash_after }, false, slow);
                    let at = format!("{committers} committers, {slow:?}, crash after {crash_after}");
                    assert!(run(&mut world, 15, &mut 10_000, crash_after % 2 == 1, slow), "{at}");
                    for visible in &world.visible {
                        assert_eq!(*visible, (0..15).collect::<Vec<_>>(), "{at}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_must_be_done_is_not_given_up() {
        let protocol = || Protocol::new([task()].into(), vec![Epoch(0)], Epoch(3));
        let mut stopping = protocol();
        stopping.begin(true);
        assert_eq!(stopping.give_up(), None, "its sources have ended");
        let mut replaying = protocol().starting_with(Epoch(5));
        assert_eq!(replaying.begin(false), [Action::Inject(Barrier { epoch: Epoch(5), stop: false })]);
        assert_eq!(replaying.give_up(), None, "others have exactly this epoch");
        let mut committing = protocol();
        committing.begin(false);
        committing.frozen(&task(), Epoch(4)).unwrap();
        committing.manifest_durable(Epoch(4)).unwrap();
        assert_eq!(committing.give_up(), None, "it may be visible");
    }

    #[test]
    fn a_given_up_barrier_must_be_through_before_the_next() {
        let mut protocol = Protocol::new([task()].into(), vec![], Epoch(3));
        protocol.begin(false);
        assert_eq!(protocol.give_up(), Some(vec![Action::GiveUp(Epoch(4))]));
        assert!(protocol.is_draining() && protocol.begin(false).is_empty());
        assert_eq!(protocol.frozen(&task(), Epoch(4)).unwrap(), []);
        assert_eq!(protocol.begin(false), [Action::Inject(Barrier { epoch: Epoch(5), stop: false })]);
    }

    #[test]
    fn markers_of_another_life_are_refused() {
        let at = |epoch| Some(marker(Epoch(epoch), "d", epoch));
        assert_eq!(decide(&[at(5), at(3)]).unwrap_err().code(), Code::CheckpointMismatch);
        assert_eq!(decide(&[at(5), None]).unwrap_err().code(), Code::CheckpointMismatch);
    }

    #[test]
    fn a_task_that_freezes_twice_is_a_fault() {
        let mut protocol = Protocol::new([task()].into(), vec![], Epoch(0));
        protocol.begin(false);
        protocol.frozen(&task(), Epoch(1)).unwrap();
        assert_eq!(protocol.frozen(&task(), Epoch(1)).unwrap_err().code(), Code::Internal);
    }
}

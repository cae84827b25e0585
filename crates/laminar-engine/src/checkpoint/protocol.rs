//! What happens next in a checkpoint, and what a restart restores: pure decisions, no I/O, no clock.
//!
//! ```text
//!  Idle ──begin──► Collecting ──all tasks frozen──► Persisting ──manifest durable──► Committing 0, 1, … ──► Idle
//!        inject barrier          write files, manifest          commit marker each              release, clean up
//! ```
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
    /// Delete what no restart needs any more.
    CleanUp(Epoch),
    /// The job has stopped: this was its last epoch.
    Stopped(Epoch),
}

#[derive(Debug)]
enum Phase {
    Idle,
    Collecting { barrier: Barrier, missing: BTreeSet<TaskId> },
    Persisting { barrier: Barrier },
    Committing { barrier: Barrier, next: usize },
    Stopped,
}

/// One job's checkpoints, one at a time.
#[derive(Debug)]
pub struct Protocol {
    tasks: BTreeSet<TaskId>,
    /// Per committer: the epoch it already has; smaller and equal epochs are not committed again.
    ahead: Vec<Epoch>,
    last: Epoch,
    phase: Phase,
}

impl Protocol {
    /// `last`: the restored epoch. `ahead`: per committer, the epoch of its marker (0 if it has none).
    pub fn new(tasks: BTreeSet<TaskId>, ahead: Vec<Epoch>, last: Epoch) -> Self {
        Self { tasks, ahead, last, phase: Phase::Idle }
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
        let barrier = Barrier { epoch: self.last.next(), stop };
        self.phase = Phase::Collecting { barrier, missing: self.tasks.clone() };
        vec![Action::Inject(barrier)]
    }

    /// A task froze its state and its sinks have flushed.
    pub fn frozen(&mut self, task: &TaskId, epoch: Epoch) -> Result<Vec<Action>> {
        let Phase::Collecting { barrier, missing } = &mut self.phase else {
            return Err(unexpected("froze", epoch, &self.phase));
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

    fn commit_from(&mut self, first: usize, barrier: Barrier) -> Vec<Action> {
        let epoch = barrier.epoch;
        let behind = self.ahead.iter().enumerate().skip(first).find(|(_, has)| **has < epoch);
        if let Some((committer, _)) = behind {
            self.phase = Phase::Committing { barrier, next: committer };
            return vec![Action::Commit { committer, epoch }];
        }
        self.last = epoch;
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
        /// Set if some committers already have the next epoch: read exactly to that epoch's positions, with their sinks
        /// muted. It is the marker to take the positions from.
        replay: Option<Marker>,
    },
}

/// Decides from the committers' markers, in their order. Every committer of a pipeline is at the last epoch or one before.
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
        Some(older) if behind.iter().all(|m| m.as_ref() == Some(older)) && older.epoch.next() == newest.epoch => {
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
        .with_hint("a sink was added or its markers were deleted; RESTART PIPELINE … IGNORING STATE starts anew")),
    }
}

/// What is left when the manifest that `decide` named is damaged: the one before it, replayed to this one's positions
/// with every sink muted. `None` if a replay is needed already: two epochs cannot be rebuilt.
pub fn rebuild_from_previous(start: &Start, markers: &[Option<Marker>]) -> Option<(Epoch, Marker)> {
    let Start::From { epoch, replay: None, .. } = start else { return None };
    let marker = markers.iter().flatten().find(|m| m.epoch == *epoch)?;
    (epoch.0 > 1 && markers.iter().all(|m| m.is_some())).then(|| (Epoch(epoch.0 - 1), marker.clone()))
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
    }

    fn task() -> TaskId {
        TaskId { operator: "source-0".into(), index: 0 }
    }

    fn marker(epoch: Epoch, digest: &str, position: u64) -> Marker {
        let splits: BTreeMap<SplitId, Position> = [("s".into(), Position(position))].into();
        let positions: BTreeMap<OperatorId, _> = [("source-0".into(), splits)].into();
        Marker { version: 1, epoch, manifest_digest: digest.into(), positions, watermark: None }
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
                *found.last().unwrap().1
            };
            let (last, position, replay) = match (&rebuilt, &start) {
                (Some((epoch, to)), _) => (*epoch, at(*epoch, None), Some(position_of(to))),
                (None, Start::Fresh) => (Epoch(0), 0, None),
                (None, Start::First { digest }) => (Epoch(0), at(Epoch(1), Some(digest)), None),
                (None, Start::From { epoch, digest, replay }) => {
                    (*epoch, at(*epoch, Some(digest)), replay.as_ref().map(position_of))
                }
            };
            let ahead: Vec<_> = self.markers.iter().map(|m| m.as_ref().map_or(Epoch(0), |m| m.epoch)).collect();
            Run {
                protocol: Protocol::new([task()].into(), ahead.clone(), last),
                position,
                open: vec![vec![]; self.markers.len()],
                muted: ahead.iter().map(|a| if *a > last && replay.is_some() { *a } else { Epoch(0) }).collect(),
                digest: String::new(),
                at_barrier: 0,
                replay_to: replay,
            }
        }
    }

    /// Runs epochs until `rows` are through or `budget` actions are spent. True: through.
    fn run(world: &mut World, rows: u64, budget: &mut u32, damaged: bool) -> bool {
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
                match action {
                    Action::Inject(barrier) => {
                        run.at_barrier = run.position;
                        actions.extend(run.protocol.frozen(&task(), barrier.epoch).unwrap());
                    }
                    Action::Persist(epoch) => {
                        world.writes += 1;
                        run.digest = format!("d{}", world.writes);
                        world.manifests.insert((epoch, run.digest.clone()), run.at_barrier);
                        actions.extend(run.protocol.manifest_durable(epoch).unwrap());
                    }
                    Action::Commit { committer, epoch } => {
                        world.visible[committer].append(&mut run.open[committer]);
                        world.markers[committer] = Some(marker(epoch, &run.digest, run.at_barrier));
                        actions.extend(run.protocol.committed(committer, epoch).unwrap());
                    }
                    Action::Release(_) => {}
                    Action::CleanUp(epoch) => {
                        let digest = run.digest.clone();
                        world.manifests.retain(|(e, d), _| (*e == epoch && *d == digest) || e.next() == epoch);
                    }
                    Action::Stopped(_) => unreachable!("the model never stops a job"),
                }
            }
            if run.position == rows {
                return true;
            }
        }
    }

    #[test]
    fn one_crash_at_every_action_loses_and_repeats_nothing() {
        for committers in 1..=3 {
            for crash_after in 0..60 {
                let mut world = World::new(committers);
                run(&mut world, 20, &mut { crash_after }, false);
                assert!(run(&mut world, 20, &mut 10_000, false), "{committers} committers, crash after {crash_after}");
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
                    run(&mut world, 15, &mut { first }, false);
                    run(&mut world, 15, &mut { second }, false);
                    assert!(run(&mut world, 15, &mut 10_000, false));
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
            run(&mut world, 20, &mut { crash_after }, false);
            assert!(run(&mut world, 20, &mut 10_000, true), "crash after {crash_after}");
            assert_eq!(world.visible[0], (0..20).collect::<Vec<_>>(), "crash after {crash_after}");
        }
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

//! Looks for splits that appear while a job runs, and gives each to one task of its source.
//!
//! ```text
//!  source.discover() ──► unknown splits ──► the task with the fewest ──► its reader, between two batches
//! ```
//!
//! The rule that must stay true: a split has one task, and a new one begins at its beginning. Until a checkpoint has its
//! position, a restart finds it anew and begins there again, and nothing of what was read of it is outside; afterwards it is
//! like any other. So no record is lost or read twice, wherever the job dies.
//!
//! An outside system that does not answer is asked again later: the splits that are read need no answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use laminar_core::source::{Source, SplitStart, StartAt};
use laminar_core::{Code, Error, Result, SplitId};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use super::Command;

/// The splits of a source that some task reads, and what tells each from an earlier one of the same name. Shared with the
/// tasks: one that cannot take a split gives it back.
#[derive(Clone, Default)]
pub(crate) struct KnownSplits(Arc<Mutex<BTreeMap<SplitId, Known>>>);

#[derive(Clone)]
struct Known {
    /// Index of the task that reads it.
    task: usize,
    generation: Option<String>,
}

impl KnownSplits {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SplitId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, split: SplitId, task: usize, generation: Option<String>) {
        self.lock().insert(split, Known { task, generation });
    }

    /// Nobody reads them after all.
    pub(crate) fn give_back(&self, splits: &[SplitStart]) {
        let mut known = self.lock();
        splits.iter().for_each(|start| drop(known.remove(&start.split)));
    }

    fn all(&self) -> Vec<SplitId> {
        self.lock().keys().cloned().collect()
    }

    fn unknown(&self, found: Vec<SplitId>) -> Vec<SplitId> {
        let known = self.lock();
        found.into_iter().filter(|split| !known.contains_key(split)).collect()
    }

    /// A split whose generation is not the one that is read.
    fn replaced(&self, now: &BTreeMap<SplitId, String>) -> Option<SplitId> {
        let known = self.lock();
        let other = |(split, known): &(&SplitId, &Known)| {
            known.generation.as_ref().zip(now.get(*split)).is_some_and(|(before, now)| before != now)
        };
        known.iter().find(other).map(|(split, _)| split.clone())
    }

    /// Chooses a task for each split, those with the fewest first, and remembers it.
    fn assign(
        &self,
        splits: Vec<SplitId>,
        tasks: usize,
        generations: &BTreeMap<SplitId, String>,
    ) -> BTreeMap<usize, Vec<SplitId>> {
        let mut known = self.lock();
        let mut load = vec![0_usize; tasks];
        for of in known.values() {
            load.get_mut(of.task).into_iter().for_each(|count| *count += 1);
        }
        let mut assigned: BTreeMap<usize, Vec<SplitId>> = BTreeMap::new();
        for split in splits {
            let least = load.iter().enumerate().max_by_key(|(task, count)| (Reverse(**count), Reverse(*task)));
            let Some((task, _)) = least else { continue };
            load.get_mut(task).into_iter().for_each(|count| *count += 1);
            known.insert(split.clone(), Known { task, generation: generations.get(&split).cloned() });
            assigned.entry(task).or_default().push(split);
        }
        assigned
    }
}

/// Watches one source of a job.
pub(crate) struct Discovery {
    pub table: String,
    pub source: Arc<dyn Source>,
    pub period: Duration,
    pub known: KnownSplits,
    /// Of the source's tasks, in the order of their indices.
    pub tasks: Vec<mpsc::Sender<Command>>,
}

impl Discovery {
    /// Runs until the tasks end. Errors if a split is gone that must not be missed, or is not the one any more that the job
    /// reads: what its positions mean is decided at a restart.
    pub(crate) async fn run(self) -> Result<()> {
        let mut ticks = interval_at(Instant::now() + self.period, self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_answered = true;
        loop {
            tokio::select! {
                () = self.ended() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let found = tokio::select! {
                () = self.ended() => return Ok(()),
                found = self.look() => found,
            };
            match found {
                Ok(Found::Nothing) => is_answered = true,
                Ok(Found::Gone(error)) => return Err(error),
                Err(error) => {
                    if std::mem::replace(&mut is_answered, false) {
                        warn!(table = self.table, %error, "new splits cannot be looked for; trying again");
                    }
                }
            }
        }
    }

    /// The job stops: its tasks take no more commands.
    async fn ended(&self) {
        match self.tasks.first() {
            Some(task) => task.closed().await,
            None => std::future::pending().await,
        }
    }

    /// Gives the new splits to tasks.
    async fn look(&self) -> Result<Found> {
        match self.source.generations(&self.known.all()).await {
            Ok(now) => {
                if let Some(split) = self.known.replaced(&now) {
                    let message = format!("split {split} of table {} was deleted and created again", self.table);
                    return Ok(Found::Gone(Error::new(Code::ConnectorError, message)));
                }
            }
            Err(error) if error.code() == Code::UnknownTopic => return Ok(Found::Gone(error)),
            Err(error) => return Err(error),
        }
        let found = self.source.discover().await?;
        let new = self.known.unknown(found);
        let generations = self.source.generations(&new).await?;
        for (task, splits) in self.known.assign(new, self.tasks.len(), &generations) {
            info!(table = self.table, task, ?splits, "new splits are read");
            let start = |split: &SplitId| SplitStart { split: split.clone(), at: StartAt::Beginning };
            let starts = splits.iter().map(start).collect();
            let generations = splits.into_iter().filter_map(|s| generations.get(&s).cloned().map(|g| (s, g))).collect();
            if let Some(task) = self.tasks.get(task) {
                // A task that is gone ends the job, which says why.
                let _ = task.send(Command::Add { splits: starts, generations }).await;
            }
        }
        Ok(Found::Nothing)
    }
}

enum Found {
    /// Or new splits, which have their tasks now.
    Nothing,
    /// A split that is read is gone, or is another one now.
    Gone(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(names: &[&str]) -> Vec<SplitId> {
        names.iter().map(|name| SplitId::from(*name)).collect()
    }

    #[test]
    fn new_splits_go_to_the_tasks_with_the_fewest() {
        let known = KnownSplits::default();
        for (split, task) in [("a", 0), ("b", 1), ("c", 0)] {
            known.insert(split.into(), task, None);
        }
        let new = known.unknown(splits(&["a", "d", "b", "e", "f", "g"]));
        assert_eq!(new, splits(&["d", "e", "f", "g"]));
        let assigned = known.assign(new, 3, &BTreeMap::new());
        assert_eq!(assigned, [(1, splits(&["e"])), (2, splits(&["d", "f"])), (0, splits(&["g"]))].into());
        assert_eq!(known.unknown(splits(&["a", "g"])), []);
    }

    #[test]
    fn a_split_that_was_given_back_is_new_again() {
        let known = KnownSplits::default();
        known.assign(splits(&["a"]), 1, &BTreeMap::new());
        known.give_back(&[SplitStart { split: "a".into(), at: StartAt::Beginning }]);
        assert_eq!(known.unknown(splits(&["a"])), splits(&["a"]));
    }

    #[test]
    fn another_generation_is_another_split() {
        let known = KnownSplits::default();
        known.insert("a".into(), 0, Some("1".into()));
        known.insert("b".into(), 0, None);
        let now = |a: &str| BTreeMap::from([(SplitId::from("a"), a.to_string()), ("b".into(), "7".into())]);
        assert_eq!(known.replaced(&now("1")), None);
        assert_eq!(known.replaced(&now("2")), Some("a".into()));
        assert_eq!(known.replaced(&BTreeMap::new()), None);
    }
}

//! What tasks froze that no durable manifest has yet.
//!
//! An operator says what changed since its last snapshot, whether or not that one became part of a checkpoint. So what was
//! frozen for an epoch that is given up is kept here, and written with the next:
//!
//! ```text
//!  epoch 4, given up   + 0of1-4                    pending: 0of1-4
//!  epoch 5             + 0of1-5, - 0of1-1          pending: 0of1-4, 0of1-5, - 0of1-1     ─► manifest 5
//! ```

use std::collections::{BTreeMap, BTreeSet};

use laminar_core::OperatorId;

use crate::operator::{Snapshot, StateFile};

/// Of all operators. A file's name is used once: one that was removed does not come again.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingState(BTreeMap<OperatorId, Pending>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    pub add: Vec<StateFile>,
    pub remove: BTreeSet<String>,
}

impl PendingState {
    /// Adds what one instance of the operator froze. Instances may come in any order, each in its own.
    pub(crate) fn add(&mut self, operator: OperatorId, snapshot: Snapshot) {
        let pending = self.0.entry(operator).or_default();
        pending.remove.extend(snapshot.remove);
        pending.add.extend(snapshot.add);
        let removed = &pending.remove;
        pending.add.retain(|file| !removed.contains(&file.name));
    }

    pub(crate) fn into_operators(self) -> impl Iterator<Item = (OperatorId, Pending)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(add: &[&str], remove: &[&str]) -> Snapshot {
        let file = |name: &&str| StateFile { name: (*name).to_string(), rows: vec![] };
        Snapshot { add: add.iter().map(file).collect(), remove: remove.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn what_was_replaced_before_it_was_written_is_not_written() {
        let mut pending = PendingState::default();
        pending.add("a-1".into(), snapshot(&["0of1-4"], &[]));
        pending.add("a-1".into(), snapshot(&["0of1-5"], &["0of1-1", "0of1-4"]));
        // Of another instance, which may be told of a removal before its own file comes.
        pending.add("a-1".into(), snapshot(&[], &["1-4"]));
        pending.add("a-1".into(), snapshot(&["1-4"], &[]));
        let of: Vec<_> = pending.into_operators().map(|(_, p)| p).collect();
        let names: Vec<_> = of[0].add.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["0of1-5"]);
        assert!(of[0].remove.contains("0of1-1"), "it is in an earlier manifest");
    }
}

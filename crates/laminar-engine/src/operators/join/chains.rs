//! Doubly linked chains of stored rows, one a group: rows with equal keys, or rows that are equal in all columns.
//!
//! The links are in the rows' chunks, so a row leaves its chain in constant time wherever it is in it. The newest is first.

use super::super::groups::NO_GROUP;
use super::chunk::{Chunk, Chunks, Link, REMOVED, RowId};

/// Which of a row's links.
pub(super) type LinkOf = fn(&mut Chunk, usize) -> Option<&mut Link>;

/// The first row of each group's chain.
#[derive(Default)]
pub(super) struct Chains {
    pub heads: Vec<RowId>,
    /// Groups that have a row.
    pub occupied: usize,
}

impl Chains {
    /// Puts the row first in the group's chain.
    pub(super) fn push(&mut self, chunks: &mut Chunks, link: LinkOf, at: RowId, group: usize) {
        let Some(head) = self.heads.get_mut(group) else {
            // No chain: the row matches nothing.
            chunks.link(link, at, |link| *link = Link { prev: RowId::NONE, next: RowId::NONE, group: NO_GROUP });
            return;
        };
        let next = std::mem::replace(head, at);
        chunks.link(link, at, |link| *link = Link { prev: RowId::NONE, next, group: group as u32 });
        if next == RowId::NONE {
            self.occupied += 1;
        } else {
            chunks.link(link, next, |link| link.prev = at);
        }
    }

    /// Takes the row out of its chain.
    pub(super) fn remove(&mut self, chunks: &mut Chunks, link: LinkOf, at: RowId) {
        let mut old = Link::default();
        chunks.link(link, at, |link| {
            old = *link;
            link.group = REMOVED;
        });
        if old.next != RowId::NONE {
            chunks.link(link, old.next, |link| link.prev = old.prev);
        }
        if old.prev != RowId::NONE {
            chunks.link(link, old.prev, |link| link.next = old.next);
        } else if let Some(head) = self.heads.get_mut(old.group as usize) {
            *head = old.next;
            if old.next == RowId::NONE {
                self.occupied -= 1;
            }
        }
    }

    /// The row's neighbours find it in its new place.
    pub(super) fn relocate(&mut self, chunks: &mut Chunks, link: LinkOf, from: RowId, to: RowId) {
        let mut old = Link::default();
        chunks.link(link, from, |link| old = *link);
        chunks.link(link, to, |link| *link = old);
        if old.next != RowId::NONE {
            chunks.link(link, old.next, |link| link.prev = to);
        }
        if old.prev != RowId::NONE {
            chunks.link(link, old.prev, |link| link.next = to);
        } else if let Some(head) = self.heads.get_mut(old.group as usize) {
            *head = to;
        }
    }

    /// Follows the groups to their new numbers; those that have none are empty.
    pub(super) fn renumber(&mut self, numbers: &[u32], group_count: usize) {
        let mut heads = vec![RowId::NONE; group_count];
        for (head, number) in self.heads.iter().zip(numbers) {
            if let Some(place) = heads.get_mut(*number as usize) {
                *place = *head;
            }
        }
        self.heads = heads;
    }
}

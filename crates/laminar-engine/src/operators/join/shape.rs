//! What a kind of join emits, in terms that do not name the kinds.
//!
//! ```text
//!              pairs   left rows alone   right rows alone
//!  inner       yes     never             never
//!  left        yes     if unmatched      never
//!  full        yes     if unmatched      if unmatched
//!  left semi   no      if matched        never
//!  left anti   no      if unmatched      never
//! ```

use super::sides::{Side, Sides};

/// Which rows a join has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    LeftSemi,
    LeftAnti,
    RightSemi,
    RightAnti,
}

/// When a row is emitted that has no match: NULL-padded, or of an anti join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OuterRows {
    /// With the row; a match that comes later retracts it.
    AtOnce,
    /// When no match can come any more, so that nothing is ever retracted. Needs time bounds, and inputs of inserts alone.
    WhenExpired,
}

/// When a side's row is emitted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Never,
    Unmatched,
    Matched,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Rows that match are emitted together.
    pub pairs: bool,
    pub shows: Sides<Shows>,
    /// Unmatched rows are emitted when they expire.
    pub when_expired: bool,
}

impl Shape {
    pub(super) fn new(kind: JoinKind, emit: OuterRows) -> Self {
        use Shows::{Matched, Never, Unmatched};
        let (pairs, left, right) = match kind {
            JoinKind::Inner => (true, Never, Never),
            JoinKind::Left => (true, Unmatched, Never),
            JoinKind::Right => (true, Never, Unmatched),
            JoinKind::Full => (true, Unmatched, Unmatched),
            JoinKind::LeftSemi => (false, Matched, Never),
            JoinKind::LeftAnti => (false, Unmatched, Never),
            JoinKind::RightSemi => (false, Never, Matched),
            JoinKind::RightAnti => (false, Never, Unmatched),
        };
        Self { pairs, shows: Sides { left, right }, when_expired: emit == OuterRows::WhenExpired }
    }

    /// Does it matter how many matches a row has?
    pub(super) fn counts(self) -> bool {
        Side::BOTH.iter().any(|side| *self.shows.of(*side) != Shows::Never)
    }

    /// Does the output have the side's columns?
    pub(super) fn has_columns_of(self, side: Side) -> bool {
        self.pairs || *self.shows.of(side) != Shows::Never
    }

    /// May the output have NULLs in place of the side's columns?
    pub(super) fn pads(self, side: Side) -> bool {
        self.pairs && *self.shows.of(side.other()) == Shows::Unmatched
    }

    /// Nothing follows from a second match of the side's rows.
    pub(super) fn first_match_only(self, side: Side) -> bool {
        self.when_expired && !self.pairs && *self.shows.of(side) != Shows::Never
    }

    /// Are unmatched rows of the side emitted when they expire?
    pub(super) fn emits_expired(self, side: Side) -> bool {
        self.when_expired && *self.shows.of(side) == Shows::Unmatched
    }
}

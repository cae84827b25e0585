//! Room for recursion: parsing and planning run on a stack of their own.
//!
//! DataFusion and sqlparser recurse to the depth of an expression, and a debug build needs more than 5 KB a level. The
//! limits of `limits` bound the depth; here is the stack that the deepest allowed statement needs, with room to spare,
//! whatever thread the caller is on. Memory is only touched as deep as the recursion goes.

/// Less than this left: take a new stack. More than any worker thread has, so that planning always has the same.
const ENOUGH: usize = 16 << 20;
const SIZE: usize = 32 << 20;

/// Runs `work` where a statement within the limits cannot overflow the stack. Same thread, so thread-local state holds.
pub(crate) fn grown<R>(work: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(ENOUGH, SIZE, work)
}

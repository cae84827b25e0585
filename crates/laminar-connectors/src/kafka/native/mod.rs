//! The only unsafe code of this crate: librdkafka's batch calls, which the safe wrapper does not have.
//!
//! One record at a time through the safe wrapper costs about twice what the batch calls do, in both directions. Here are
//! `fetch` (many records at once, as librdkafka holds them), `produce` (many rows in one call, reports counted in bulk,
//! and a few transactional calls that only the C interface offers); `topics`, `token` and `groups` have calls of that kind,
//! those of the admin interface through `question`.
//!
//! Invariants that make it sound:
//! - whatever librdkafka handed out (a message, a queue, a topic handle) keeps the client that made it alive and is given
//!   back before the client is destroyed;
//! - librdkafka's functions may be called from any thread; a message is used by one thread at a time.
#![allow(unsafe_code)]

mod fetch;
mod groups;
mod produce;
mod question;
mod token;
mod topics;

use std::ffi::{CStr, c_char};

use laminar_core::Position;

pub(super) use fetch::{FetchQueue, News};
pub(super) use groups::{Committed, committed, rights};
pub(super) use produce::{Refused, Reports, Topic, TransactionError, commit_transaction, flush, send_offsets, serve};
pub(super) use token::{AnyClient, set_token};
pub(super) use topics::{TopicId, topic_ids};

/// An offset as a position; the offsets of records are never negative.
pub(super) fn position(offset: i64) -> Position {
    Position(u64::try_from(offset).unwrap_or(0))
}

/// SAFETY: `start` is null or a C string.
unsafe fn text(start: *const c_char) -> String {
    if start.is_null() { String::new() } else { unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned() }
}

//! The REST API from outside, one binary: `resources` is what works, `bad_requests` what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed test panics

mod bad_requests;
mod resources;
mod support;

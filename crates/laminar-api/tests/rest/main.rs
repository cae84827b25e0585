//! The REST API from outside, one binary: `resources` is what works, `bad_requests` what is refused.

mod bad_requests;
mod resources;
mod support;

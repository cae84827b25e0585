//! The Kafka connector against a real Apache Kafka: LAMINAR_TEST_KAFKA says where it is.
//!
//! What was written or committed is always judged by a client of its own, made directly from librdkafka's wrapper, never by
//! the code under test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod admin;
mod buffer;
mod cluster;
mod dead_letters;
mod dev_broker;
mod fields;
mod growth;
mod security;
mod sink;
mod source;
mod support;
mod transaction;
mod two_clusters;

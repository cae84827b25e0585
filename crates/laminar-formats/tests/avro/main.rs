//! Avro: what each type of a writer's schema makes of each column, both ways, with apache-avro as the other side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod damage;
mod debezium;
mod encoder;
mod evolution;
mod framed;
mod hostile;
mod oracle;
mod support;
mod values;

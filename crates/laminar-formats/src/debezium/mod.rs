//! `debezium_json`: one change a record, in the envelope of Debezium.
//!
//! ```text
//!  {"before": null,    "after": {"id":1,…}, "op": "c"}     insert          ("r", a snapshot's row, is one too)
//!  {"before": {…},     "after": {…},        "op": "u"}     update before, update after
//!  {"before": {…},     "after": null,       "op": "d"}     delete
//! ```
//!
//! The envelope may stand in `{"schema": …, "payload": …}`; what else is in it is not read. A tombstone, which Debezium
//! writes after a delete for Kafka's compaction, is no row.
//!
//! The rule: every change carries the whole row that it takes away, so that whoever follows can take it away without having kept
//! it. A record that does not is a bad record.

mod decode;
mod encode;
mod envelope;

pub(crate) use decode::DebeziumDecoder;
pub(crate) use encode::DebeziumEncoder;

//! JSON: one object a record.
//!
//! ```text
//!  decode   a message ─► object (which field is next) ─► column (a value into Arrow's buffers) ─┐
//!                           ▲  scan, string, number, skip: the grammar over bytes               │ nested: lists, structs,
//!                           └───────────────────────────────────────────────────────────────────┘ maps of columns
//!  encode   rows ─► write (a value's text) ─► out (bytes with room behind them), one object a row
//! ```
//!
//! Decoding is one pass over the message with no tree in between and no copy of the message. All of a message is checked,
//! also what no column reads: whether it is well-formed never depends on the query.

pub(crate) mod column;
mod decode;
mod encode;
mod framed;
pub(crate) mod nested;
pub(crate) mod number;
mod object;
pub(crate) mod out;
mod pretty;
pub(crate) mod scalar;
pub(crate) mod scan;
mod simd;
pub(crate) mod skip;
mod string;
mod temporal;
pub(crate) mod text;
mod types;
pub(crate) mod value;
pub(crate) mod write;

pub(crate) use decode::{JsonDecoder, Unstructured, not_an_object};
pub(crate) use encode::{JsonEncoder, can_write, refuse_changes};
pub(crate) use framed::{FramedDecoder, FramedEncoder};
pub(crate) use types::check_column;

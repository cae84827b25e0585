//! Golden streaming SQL tests: `.slt` files (SQL in, rows out) and the harness that runs each in several modes.
//!
//! ```text
//!  statement ok                      wait finished p           query rowsort
//!  CREATE TABLE t (…) WITH (…)                                 SELECT a, b FROM t
//!                                                              ----
//!  statement error unknown_table                               1 x
//!  SELECT * FROM nowhere                                       2 NULL
//! ```
//!
//! The rule: one expected text for all modes. A file that passes at parallelism 1 must pass at 4, with a restart of the
//! whole system after each statement, and with a crash between a checkpoint's publication and its commit.
//!
//! Reading order: `script` (the files), `mode`, `world` (the system under test), `runner`.

mod mode;
mod runner;
mod script;
mod world;

pub use mode::Mode;
pub use runner::{run_file, update_file};
pub use world::{World, lines};

//! Any bytes as CSV records: what is accepted is written and read back the same. See `tests/csv_fuzz`.
#![no_main]

#[path = "../../tests/csv_fuzz/mod.rs"]
mod csv_fuzz;

libfuzzer_sys::fuzz_target!(|entropy: &[u8]| csv_fuzz::check(entropy));

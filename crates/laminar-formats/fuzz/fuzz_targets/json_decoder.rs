//! Any bytes as a table and messages: our decoder and serde_json must agree. See `tests/oracle`.
#![no_main]

#[path = "../../tests/oracle/mod.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|entropy: &[u8]| oracle::check(entropy));

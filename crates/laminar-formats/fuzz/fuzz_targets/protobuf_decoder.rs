//! Any bytes as messages: our decoder and prost-reflect must agree, and what is read is written again. See `tests/protobuf_oracle`.
#![no_main]

#[path = "../../tests/protobuf_oracle/mod.rs"]
mod protobuf_oracle;

libfuzzer_sys::fuzz_target!(|entropy: &[u8]| protobuf_oracle::check(entropy));

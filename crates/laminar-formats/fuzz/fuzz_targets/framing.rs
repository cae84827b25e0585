//! Any bytes as framed records, envelopes and tombstones' keys, of Confluent's registry and of Glue's. See `tests/framing_fuzz`.
#![no_main]

#[path = "../../tests/framing_fuzz/mod.rs"]
mod framing_fuzz;

thread_local! {
    static JUDGE: std::cell::RefCell<framing_fuzz::Judge> = framing_fuzz::Judge::new().into();
}

libfuzzer_sys::fuzz_target!(|entropy: &[u8]| JUDGE.with_borrow_mut(|judge| judge.check(entropy)));

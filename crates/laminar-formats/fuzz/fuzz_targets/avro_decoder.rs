//! Any bytes as records, framed and plain: nothing panics, nothing is left behind, what is read whole is read in part. See
//! `tests/avro/damage.rs`.
#![no_main]

#[path = "../../tests/avro/support.rs"]
#[allow(dead_code)]
mod support;

#[path = "../../tests/avro/damage.rs"]
mod damage;

thread_local! {
    static JUDGE: std::cell::RefCell<damage::Judge> = damage::Judge::new().into();
}

libfuzzer_sys::fuzz_target!(|record: &[u8]| {
    JUDGE.with_borrow_mut(|judge| judge.check(record));
});

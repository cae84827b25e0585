//! The body of the fuzz target `framing` over random seeds, so that it runs where libFuzzer does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod framing_fuzz;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

#[test]
fn the_fuzz_target_holds_on_random_input() {
    let mut judge = framing_fuzz::Judge::new();
    let seeds = std::env::var("LAMINAR_FUZZ_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000);
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let mut entropy = vec![0; 2 + seed as usize % 60];
        random.fill_bytes(&mut entropy);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge.check(&entropy)));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

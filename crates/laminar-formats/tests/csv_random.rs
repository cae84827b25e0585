//! The body of the fuzz target `csv_decoder` over random seeds, so that it runs where cargo-fuzz does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod csv_fuzz;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

#[test]
fn the_fuzz_target_holds_on_random_input() {
    let seeds = std::env::var("LAMINAR_FUZZ_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let mut entropy = vec![0; 8 + seed as usize % 300];
        random.fill_bytes(&mut entropy);
        let outcome = std::panic::catch_unwind(|| csv_fuzz::check(&entropy));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

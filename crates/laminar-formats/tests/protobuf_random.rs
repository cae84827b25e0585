//! The Protobuf decoder and encoder agree with prost-reflect about everything: see `protobuf_oracle`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod protobuf_oracle;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// The body of the fuzz target over random seeds, so that it runs where cargo-fuzz does not.
#[test]
fn the_fuzz_target_holds_on_random_input() {
    let seeds = std::env::var("LAMINAR_FUZZ_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4_000);
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let mut entropy = vec![0; 32 + seed as usize % 1500];
        random.fill_bytes(&mut entropy);
        let outcome = std::panic::catch_unwind(|| protobuf_oracle::check(&entropy));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn decoding_agrees_with_prost_reflect(entropy in prop::collection::vec(any::<u8>(), 0..600)) {
        protobuf_oracle::check(&entropy);
    }
}

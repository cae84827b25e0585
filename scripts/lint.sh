#!/usr/bin/env bash
# Format and lints of every crate; any warning is an error.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
own_target
cd "$root"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

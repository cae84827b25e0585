#!/usr/bin/env bash
# Every test. The real parts are started already and named by LAMINAR_TEST_KAFKA and LAMINAR_TEST_POSTGRES
# (`make test` does both). Runs everything even if something fails; the exit status says whether all of it passed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
own_target
[ -n "${LAMINAR_TEST_KAFKA:-}" ] && [ -n "${LAMINAR_TEST_POSTGRES:-}" ] || die "run this by 'make test', or inside 'scripts/parts.sh run'"
cd "$root"
status=0
cargo test --workspace --locked --no-fail-fast || status=$?
scripts/e2e.sh || status=$?
SEED=1 scripts/fuzz.sh 60 || status=$?
exit "$status"

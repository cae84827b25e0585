#!/usr/bin/env bash
# The tests that drive the real binary from outside, in crates/laminar-cli/tests/e2e: kills, zombies, a lost database,
# each judged by a reader that shares no code with the engine. Arguments go to pytest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
own_target
[ -n "${LAMINAR_TEST_KAFKA:-}" ] && [ -n "${LAMINAR_TEST_POSTGRES:-}" ] || die "run this by 'make e2e', or inside 'scripts/parts.sh run'"
cd "$root"
tests=crates/laminar-cli/tests/e2e
python=$(python_environment "$tests/requirements.txt")
LAMINAR_NODE_PACKAGES=$(node_packages "$tests/newman" "$python")
export LAMINAR_NODE_PACKAGES
cargo build --quiet --locked -p laminar-cli
export LAMINAR_BINARY="$CARGO_TARGET_DIR/debug/laminar" PYTHONDONTWRITEBYTECODE=1
# Folders of tests that passed go away; those of the last failures stay, to look into.
exec "$python" -m pytest -p no:cacheprovider -o tmp_path_retention_policy=failed -o tmp_path_retention_count=1 "$tests" "$@"

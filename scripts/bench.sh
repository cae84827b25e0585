#!/usr/bin/env bash
# The benchmarks, with release builds: the JSON decoder beside other libraries, then the pipeline beside librdkafka alone.
# ROWS_JSON and ROWS_KAFKA change how many rows (10 M and 2 M). Do nothing else on the machine meanwhile.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ -n "${LAMINAR_TEST_KAFKA:-}" ] || die "run this by 'make bench', or inside 'scripts/parts.sh run'"
cd "$root"
tests=crates/laminar-cli/tests/e2e
python=$(python_environment "$tests/requirements.txt")

say "building (release)"
cargo build --quiet --release --locked -p laminar-cli
cargo bench --quiet --locked -p laminar-formats --bench json -- "${ROWS_JSON:-10000000}"
loop=$(cargo bench --quiet --locked -p laminar-connectors --bench kafka_loop --no-run --message-format json |
  sed -n 's/.*"executable":"\([^"]*kafka_loop[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$loop" ] || die "the yardstick kafka_loop was not built"
export LAMINAR_BINARY="$CARGO_TARGET_DIR/release/laminar" PYTHONDONTWRITEBYTECODE=1
"$python" "$tests/bench_pipeline.py" "${ROWS_KAFKA:-2000000}" "$loop"

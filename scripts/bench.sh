#!/usr/bin/env bash
# The benchmarks, with release builds. Do nothing else on the machine meanwhile.
#
#   scripts/bench.sh           the JSON decoder beside other libraries, the operators on decoded rows, the pipeline beside librdkafka
#                              alone, windows beside the bare decode. Needs a broker: `make bench`. ROWS_JSON and ROWS_KAFKA change
#                              how many rows (10 M and 2 M)
#   scripts/bench.sh nexmark   the queries of Nexmark; EVENTS changes how many events (500,000)
#   scripts/bench.sh soak      queries whose state must not grow; MINUTES changes how long (10)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
own_target
what=${1:-kafka}
[ "$what" != kafka ] || [ -n "${LAMINAR_TEST_KAFKA:-}" ] || die "run this by 'make bench', or inside 'scripts/parts.sh run'"
cd "$root"
tests=crates/laminar-cli/tests/e2e
python=$(python_environment "$tests/requirements.txt")

say "building (release)"
# One call for all of them: another choice of packages would be another choice of features, hence another build of DataFusion.
benches=()
[ "$what" != kafka ] || benches=(json operators kafka_loop kafka_latency)
built=$(cargo build --release --locked --workspace --bin laminar "${benches[@]/#/--bench=}" --message-format json-render-diagnostics)
executable() { # executable NAME: prints the path of what was built
  sed -n 's/.*"executable":"\([^"]*\/'"$1"'\(-[0-9a-f]*\)\{0,1\}\)".*/\1/p' <<<"$built" | tail -n 1
}
export PYTHONDONTWRITEBYTECODE=1 LAMINAR_BINARY
LAMINAR_BINARY=$(executable laminar)
case $what in
  kafka)
    "$(executable json)" "${ROWS_JSON:-10000000}"
    "$(executable operators)"
    export KAFKA_LOOP KAFKA_LATENCY
    KAFKA_LOOP=$(executable kafka_loop) KAFKA_LATENCY=$(executable kafka_latency)
    "$python" "$tests/bench_pipeline.py" "${ROWS_KAFKA:-2000000}"
    "$python" "$tests/bench_streaming.py" "${ROWS_KAFKA:-2000000}"
    ;;
  nexmark) "$python" "$tests/bench_nexmark.py" "${EVENTS:-500000}" ;;
  soak) "$python" "$tests/soak.py" "${MINUTES:-10}" ;;
  *) die "no benchmark $what: kafka, nexmark or soak" ;;
esac

#!/usr/bin/env bash
# Fuzzes the decoders with libFuzzer: coverage-guided, on the stable compiler, without a sanitizer (there is no unsafe code of ours).
#
#   scripts/fuzz.sh SECONDS [TARGET…]    each target for so long, all of them by default
#   RUNS=100000000 scripts/fuzz.sh 0     the bar of a release: 1e8 inputs each, however long it takes
#   SEED=1 scripts/fuzz.sh SECONDS       from nothing and the same way each time, as `make test` does it: a change is judged, not the luck
#
# What reaches new code is kept in the cache folder, so each run begins where the last one ended; and so is an input that fails, which
# fails again until it is mended. `scripts/fuzz.sh replay TARGET FILE` runs it alone.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fuzz="$root/crates/laminar-formats/fuzz"
kept="$LAMINAR_CACHE/fuzz"
target=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
own_target
flags="--cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do flags+=" -Cllvm-args=-sanitizer-coverage-$flag"; done

(cd "$fuzz" && RUSTFLAGS="$flags" cargo build --release --locked --target "$target")
run() { "$CARGO_TARGET_DIR/$target/release/$1" -rss_limit_mb=2048 -timeout=25 -max_len=4096 -artifact_prefix="$kept/$1/" "${@:2}"; }

if [ "${1:-}" = replay ]; then
  run "$2" "$3"
  exit
fi
seconds=${1:?for how many seconds? (0: until RUNS)}
shift
[ $# -gt 0 ] || mapfile -t targets < <(cd "$fuzz/fuzz_targets" && printf '%s\n' *.rs | sed 's/\.rs$//')
[ $# -eq 0 ] || targets=("$@")
fuzz_one() {
  local log="$kept/$1.log"
  mkdir -p "$kept/$1"
  local corpus=("$kept/$1")
  [ -z "${SEED:-}" ] || corpus=("-seed=$SEED")
  if run "$1" -max_total_time="$seconds" -runs="${RUNS:--1}" -print_final_stats=1 "${corpus[@]}" >"$log" 2>&1; then
    echo "$1: $(sed -n 's/^Done \(.*\)/\1/p' "$log"), $(sed -n 's/^#.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1) places reached, no failure"
  else
    tail -n 40 "$log"
    echo "$1: FAILED; its whole output is in $log"
    return 1
  fi
}
status=0
# Two at a time, the cores of the smallest machine that this is made for.
for ((i = 0; i < ${#targets[@]}; i += 2)); do
  fuzz_one "${targets[i]}" & first=$!
  if [ -n "${targets[i + 1]:-}" ]; then fuzz_one "${targets[i + 1]}" || status=1; fi
  wait "$first" || status=1
done
exit "$status"

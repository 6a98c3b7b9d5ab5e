#!/usr/bin/env bash
# Builds and runs the C++ tests under AddressSanitizer with UndefinedBehaviorSanitizer, then under
# ThreadSanitizer; optionally fuzzes. Needs what tests/run.sh installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source deploy/setup.sh

usage() {
  cat <<'EOF'
Usage: bash tests/sanitize.sh [asan] [tsan] [fuzz [SECONDS [TARGET...]]]

Without arguments: asan, then tsan.

  asan   every C++ test, preset asan
  tsan   every C++ test, preset tsan
  fuzz   each TARGET (default: all) for SECONDS (default 60), preset fuzz; needs the packages
         clang-14 and libclang-rt-14-dev. New inputs go to build/fuzz/corpus/TARGET, inputs that
         fail to build/fuzz/TARGET-*. Add what was fixed to tests/fuzz/corpus/TARGET.
EOF
}

run_preset() {
  say "Building with the preset $1"
  build_preset "$1"
  say "Testing with the preset $1"
  ctest --preset "$1" -j "$(nproc)"
}

fuzz() {
  local seconds=${1:-60} targets=("${@:2}") source target
  build_preset fuzz
  if [[ ${#targets[@]} -eq 0 ]]; then
    for source in tests/fuzz/*_fuzz.cc; do
      target=${source##*/}
      targets+=("${target%_fuzz.cc}")
    done
  fi
  for target in "${targets[@]}"; do
    say "Fuzzing $target for $seconds s"
    mkdir -p "build/fuzz/corpus/$target"
    "build/fuzz/bin/fuzz_$target" -max_total_time="$seconds" -max_len=8192 -timeout=25 \
      -dict=tests/fuzz/json.dict -artifact_prefix="build/fuzz/$target-" -verbosity=0 \
      -print_final_stats=1 "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target"
  done
}

[[ $# -gt 0 ]] || set -- asan tsan
while [[ $# -gt 0 ]]; do
  case $1 in
    asan | tsan) run_preset "$1"; shift ;;
    fuzz) fuzz "${@:2}"; exit 0 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "sanitize.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
  esac
done

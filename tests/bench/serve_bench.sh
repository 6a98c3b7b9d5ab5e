#!/usr/bin/env bash
# Prints the daemon's serving figures as one table: gRPC against the engine alone at 32 streams, a
# long prompt beside them, the idle daemon's processor time and its resident memory. Every figure is
# a median over rounds. Engine and gRPC take turns, and a round's ratio is gRPC's rate over the mean
# of the engine's before and after it, so that other load on the machine meets both. Fails when a
# Delta carried more than one token in any round.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bin=build/cpu/bin
bench=build/cpu/tests/serve_bench
model=models/demo
streams=32
rounds=5
seconds=5
idle_seconds=10
long_prompt=50000

usage() {
  cat <<USAGE
Usage: bash tests/bench/serve_bench.sh [--rounds N] [--seconds N] [--long-prompt TOKENS]

Build first: cmake --preset cpu && cmake --build --preset cpu --target based-server serve_bench
USAGE
}

while [[ $# -gt 0 ]]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --long-prompt) long_prompt=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "serve_bench.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done

log=$(mktemp)
results=$(mktemp)
"$bin/based-server" --model "$model" --backend cpu --slots 64 --listen 127.0.0.1:0 \
  --http_listen "" --metrics_listen 127.0.0.1:0 2>"$log" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; rm -f "$log" "$results" "$results.pairs"' EXIT

for _ in $(seq 100); do
  grep -q event=ready "$log" && break
  sleep 0.1
done
ready=$(grep event=ready "$log") || { echo "serve_bench.sh: the daemon did not start" >&2; exit 1; }
field() { sed -nE "s/.* $1=([^ ]+).*/\1/p" <<<"$ready"; }

# Ticks of user and system time.
ticks() { sed 's/.*) //' "/proc/$pid/stat" | awk '{print $12 + $13}'; }
resident_mb() { awk '/^VmRSS/ {printf "%.1f", $2 / 1024}' "/proc/$pid/status"; }
# Figure $2 of the lines that begin with $1, in order; their median.
sorted() { grep "^$1 " "$results" | grep -oE " $2=[^ ]+" | cut -d= -f2 | sort -g; }
median() { sorted "$1" "$2" | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

sleep 1
before=$(ticks)
sleep "$idle_seconds"
idle=$(awk -v t="$(($(ticks) - before))" -v s="$idle_seconds" -v hz="$(getconf CLK_TCK)" \
  'BEGIN {printf "%.2f", 100 * t / hz / s}')
rss_idle=$(resident_mb)

echo "load before: $(cut -d' ' -f1-3 /proc/loadavg) on $(nproc) cores"
common=(--streams "$streams" --seconds "$seconds")
run_engine() { echo "engine $("$bench" --engine --model "$model" "${common[@]}")"; }
{
  run_engine
  for _ in $(seq "$rounds"); do
    echo "grpc $("$bench" --address "$(field grpc)" --server_pid "$pid" "${common[@]}")"
    run_engine
  done
} >>"$results"
# "pair ratio=R" of every round.
awk '{split($2, rate, "=")}
  $1 == "engine" {if (served) printf "pair ratio=%.4f\n", 2 * served / (before + rate[2])
                  before = rate[2]; served = 0}
  $1 == "grpc" {served = rate[2]}' "$results" >"$results.pairs"
cat "$results.pairs" >>"$results"
long_rounds=$(((rounds + 1) / 2))
for _ in $(seq "$long_rounds"); do
  echo "long $("$bench" --address "$(field grpc)" --server_pid "$pid" "${common[@]}" \
    --long_prompt "$long_prompt")"
done >>"$results"
rss_load=$(resident_mb)
echo "load after:  $(cut -d' ' -f1-3 /proc/loadavg)"

fixed_mb=$(awk -v w="$(field weight_bytes)" -v p="$(field pool_bytes)" \
  'BEGIN {printf "%.1f", (w + p) / 1048576}')
row() { printf '%-38s %14s   %s\n' "$1" "$2" "$3"; }
ratio() { awk -v a="$1" -v b="$2" -v f="$3" 'BEGIN {printf f, a / b}'; }
engine_rate=$(median engine tokens_per_s)
grpc_rate=$(median grpc tokens_per_s)
echo
row "figure (median of $rounds)" value goal
row "engine alone, $streams streams, tokens/s" "$engine_rate" ""
row "gRPC, $streams streams, tokens/s" "$grpc_rate" ""
row "gRPC / engine (median of pairs)" "$(median pair ratio)" "at least 0.90"
row "gRPC / engine, least and most" \
  "$(sorted pair ratio | head -1) to $(sorted pair ratio | tail -1)" ""
row "tokens per Delta, most" "$(sorted grpc tokens_per_delta | tail -1)" "1"
row "engine, processor us/token" "$(median engine processor_us_per_token)" ""
row "daemon, processor us/token" "$(median grpc processor_us_per_token)" ""
row "its client, processor us/token" "$(median grpc client_us_per_token)" ""
row "gRPC TTFT p50 / p99, ms" "$(median grpc ttft_p50_ms) / $(median grpc ttft_p99_ms)" ""
row "gRPC ITL p50 / p99, ms" "$(median grpc itl_p50_ms) / $(median grpc itl_p99_ms)" ""
row "ITL p99 before long prompt, ms" "$(median long itl_p99_before_ms)" ""
row "ITL p99 during $long_prompt tokens, ms" "$(median long itl_p99_during_ms)" ""
row "during / before (median of ratios)" "$(median long ratio)" "at most 2"
row "long prompt, s" "$(median long long_prompt_s)" ""
row "idle daemon, % of a core" "$idle" "under 1"
row "resident MB idle" "$rss_idle" "at most $(ratio "$fixed_mb" 1 %.0f) + 60"
row "resident MB after the load" "$rss_load" "at most $(ratio "$fixed_mb" 1 %.0f) + 60"

[[ $(sorted grpc tokens_per_delta | tail -1) == 1.000 ]] ||
  { echo "serve_bench.sh: Deltas carried more than one token" >&2; exit 1; }

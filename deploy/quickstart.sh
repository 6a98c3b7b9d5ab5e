#!/usr/bin/env bash
# From a bare Debian 12 machine to English streaming over gRPC, in one command.
set -euo pipefail
started=$EPOCHREALTIME
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source deploy/setup.sh

usage() {
  cat <<'EOF'
Usage: bash deploy/quickstart.sh [--once] [--prompt TEXT] [--max_tokens N]
                                 [--listen ADDR] [--http_listen ADDR]
                                 [--metrics_listen ADDR]

Installs the Debian packages that are missing (as root or through sudo), builds the
daemon, starts it with the demo model on the CPU and streams one completion.
Then it keeps serving until Ctrl-C.

  --once                 stop after the completion
  --prompt TEXT          what to continue
  --max_tokens N         tokens to generate (default 120)
  --listen ADDR          gRPC address (default 127.0.0.1:7433)
  --http_listen ADDR     HTTP address (default 127.0.0.1:7480)
  --metrics_listen ADDR  metrics address (default 127.0.0.1:7490)
EOF
}

prompt="Elizabeth looked out of the window and"
max_tokens=120
listen=127.0.0.1:7433
http=127.0.0.1:7480
metrics=127.0.0.1:7490
once=false
while [[ $# -gt 0 ]]; do
  case $1 in
    --once) once=true; shift ;;
    --prompt | --max_tokens | --listen | --http_listen | --metrics_listen)
      [[ $# -ge 2 ]] || { echo "quickstart: $1 needs a value" >&2; exit 2; }
      case $1 in
        --prompt) prompt=$2 ;;
        --max_tokens) max_tokens=$2 ;;
        --listen) listen=$2 ;;
        --http_listen) http=$2 ;;
        --metrics_listen) metrics=$2 ;;
      esac
      shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "quickstart: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done

install_packages
build_preset cpu based-server based >build.log 2>&1 || { cat build.log >&2; rm -f build.log; exit 1; }
rm -f build.log
link_binaries cpu

log=$(mktemp)
build/bin/based-server --model models/demo --backend cpu --listen "$listen" \
  --http_listen "$http" --metrics_listen "$metrics" 2>"$log" &
daemon=$!
cleanup() {
  kill -TERM "$daemon" 2>/dev/null || true
  wait "$daemon" 2>/dev/null || true
  rm -f "$log"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

for _ in $(seq 1200); do
  grep -q 'ready' "$log" && break
  kill -0 "$daemon" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.05
done
grep -q 'ready' "$log" || { cat "$log" >&2; say "The daemon was not ready within a minute"; exit 1; }

printf '\n%s' "$prompt"
first=
exec 3< <(build/bin/based generate --address "$listen" --prompt "$prompt" \
  --max_tokens "$max_tokens" --temperature 0.8 --top_p 0.95)
completion=$!
while IFS= read -r -N1 character <&3; do
  [[ -n $first ]] || first=$EPOCHREALTIME
  printf '%s' "$character"
done
exec 3<&-
wait "$completion" || { say "The completion failed"; cat "$log" >&2; exit 1; }
[[ -n $first ]] || { say "No text came"; exit 1; }
printf '\n\nfirst_token_s=%s\n' "$(awk -v a="$started" -v b="$first" 'BEGIN { printf "%.2f", b - a }')"
$once && exit 0

cat <<EOF

gRPC     $listen
HTTP     http://$http/v1
metrics  http://$metrics/metrics

Three things to try next, in another terminal:
  build/bin/based generate --prompt "The sea was calm when" --temperature 0.7 --seed 1
  build/bin/based info
  curl -s http://$metrics/metrics | grep based_state_slots

Ctrl-C stops the daemon.
EOF
wait "$daemon"

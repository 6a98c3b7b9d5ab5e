#!/usr/bin/env bash
# Runs every GPU test and benchmark on a machine with a GPU and prints a table.
#
#   deploy/gpu_check.sh [BIN_DIR] [PART...]
#
# BIN_DIR   holds the binaries (default build/cuda/tests), and lib/ beside them if they were carried
# PART      any of: tests verify faults sanitize decode phase mixed invariant plain position prefill
#           kernels serve open daemon overload constraints start (default: all)
# TOKENIZER folder of a tokenizer of up to 50,257 ids, for constraints (default: left out)
# RATES     requests a second, for open (default: 105 115, what an H100 80GB can serve)
# OUT       folder for full logs (default: a temporary one)
# SERVER    the daemon, for faults, daemon and overload (default: based-server beside or above BIN_DIR)
# CLIENT    `based`, for verify (default: likewise)
# Run from the root of the source tree (verify reads tests/golden, faults serves models/demo).
# Exit status 1 when a test failed or nothing could run.
set -u
bin=${1:-build/cuda/tests}
shift || true
parts=${*:-tests verify faults sanitize decode phase mixed invariant plain position prefill \
  kernels serve open daemon overload constraints start}
beside() {  # a program of the daemon's folder
  local dir
  for dir in "$bin" "$bin/.." "$bin/../bin"; do
    [ -x "$dir/$1" ] && echo "$dir/$1" && return
  done
}
server=${SERVER:-$(beside based-server)}
client=${CLIENT:-$(beside based)}
model=synthetic:based-1b
out=${OUT:-$(mktemp -d)}
status=0

# The CUDA libraries may lie in the toolkit or in Python's nvidia packages.
find_library() {
  ldconfig -p | awk -v name="$1" '$1 == name { print $NF; exit }'
  find /usr/local/cuda*/ /usr/lib /opt -name "$1" -not -path '*/stubs/*' 2>/dev/null | head -n 1
}
paths=$bin/lib
for library in libcudart.so.13 libcublasLt.so.13; do
  found=$(find_library "$library" | head -n 1)
  [ -n "$found" ] && paths=$paths:$(dirname "$found")
done
export LD_LIBRARY_PATH=$paths${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || exit 1

run_test() {  # NAME BINARY ARGUMENTS...
  local name=$1
  shift
  local log=$out/$name.log
  "$@" >"$log" 2>&1
  local code=$?
  local summary
  summary=$(grep -E '^\[  (PASSED|FAILED|SKIPPED) ' "$log" | head -n 12 | tr '\n' ' ')
  printf '%-28s exit %d  %s\n' "$name" "$code" "$summary"
  if [ $code -ne 0 ]; then
    status=1
    grep -E -A4 'Failure|ERROR|error' "$log" | head -n "${LINES_OF_FAILURE:-40}"
  fi
}

kernel_table() {  # NAME BENCH ARGUMENTS...: time and bytes of every kernel between profiler marks
  local name=$1
  shift
  ncu --clock-control none --profile-from-start off --csv \
    --metrics gpu__time_duration.sum,dram__bytes.sum "$@" >"$out/$name.csv" 2>"$out/$name.err"
  python3 - "$out/$name.csv" "$name" <<'PY'
import csv, re, sys
rows = list(csv.reader(open(sys.argv[1])))
start = next((i for i, r in enumerate(rows) if r and r[0] == "ID"), None)
if start is None:
    print(sys.argv[2], "no profile"); sys.exit()
head = rows[start]; table = {}
for r in rows[start + 1:]:
    row = dict(zip(head, r))
    name = re.sub(r"<unnamed>::|\(.*", "", row["Kernel Name"]).replace("void ", "")
    name = name.split("<")[0].split("::")[-1]
    entry = table.setdefault(name, [set(), 0.0, 0.0])
    value = float(row["Metric Value"].replace(",", ""))
    unit = row["Metric Unit"]
    entry[0].add(row["ID"])
    if "time" in row["Metric Name"]:
        entry[1] += value * {"ns": 1e-6, "nsecond": 1e-6, "us": 1e-3, "usecond": 1e-3, "ms": 1, "msecond": 1}[unit]
    else:
        entry[2] += value * {"byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}[unit]
total = sum(e[1] for e in table.values())
print(f"## {sys.argv[2]}: {total:.3f} ms in kernels")
for name, (ids, ms, size) in sorted(table.items(), key=lambda kv: -kv[1][1]):
    print(f"  {name[:58]:58} {len(ids):4} launches {ms:9.3f} ms {100*ms/total:5.1f}% {size/ms/1e6 if ms else 0:8.0f} GB/s DRAM")
PY
}

to_bf16() {  # FROM TO: a copy of a checkpoint with its fp32 weights rounded
  mkdir -p "$2"
  cp "$1/config.json" "$2/"
  python3 - "$1/model.safetensors" "$2/model.safetensors" <<'PY'
import array, json, struct, sys
raw = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + size])
blob = b""
for name, tensor in head.items():
    if name == "__metadata__":
        continue
    begin, end = tensor["data_offsets"]
    part = raw[8 + size + begin:8 + size + end]
    if tensor["dtype"] == "F32":
        bits = array.array("I", part)
        part = array.array("H", [(b + 0x7FFF + (b >> 16 & 1)) >> 16 for b in bits]).tobytes()
        tensor["dtype"] = "BF16"
    tensor["data_offsets"] = [len(blob), len(blob) + len(part)]
    blob += part
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + blob)
PY
}

# Starts the daemon in the background; sets $pid once it is ready, and needs its ARGUMENTS to say
# --listen 127.0.0.1:7433.
start_daemon() {
  "$@" --backend cuda --listen 127.0.0.1:7433 --metrics_listen 127.0.0.1:0 2>"$out/daemon.log" &
  pid=$!
  local i
  for i in $(seq 150); do
    grep -q event=ready "$out/daemon.log" && return 0
    sleep 0.2
  done
  tail -n 3 "$out/daemon.log"
  status=1
  return 1
}

# A daemon whose device fails must end its streams with UNAVAILABLE and itself with 1.
check_fault() {
  LD_PRELOAD=$bin/libcuda_trap_preload.so start_daemon "$server" --model models/demo || return
  timeout 30 "$bin/serve_bench" --streams 16 --warmup 2 --seconds 2 >"$out/fault_client.log" 2>&1 &
  local load=$!
  sleep 1
  kill -USR2 "$pid"
  wait "$pid"
  local code=$?
  wait $load
  local heard
  heard=$(grep -c 'UNAVAILABLE: the device failed' "$out/fault_client.log")
  echo "device fault: daemon exit $code (expected 1), clients told $heard (expected 1)"
  if [ $code -ne 1 ] || [ "$heard" -ne 1 ]; then status=1; fi
}

check_no_device() {
  CUDA_VISIBLE_DEVICES='' timeout 20 "$server" --backend cuda --model models/demo
  local code=$?
  echo "no device: exit $code (expected 1)"
  [ $code -eq 1 ] || status=1
}

# The client's processors are apart from the daemon's.
serve_daemon() {
  local cores half
  cores=$(nproc)
  half=$((cores * 9 / 16))
  start_daemon taskset -c "0-$((half - 1))" "$server" --model $model --slots 1152 || return
  local interval
  for interval in 0 25; do
    echo "delta_interval_ms=$interval"
    taskset -c "$half-$((cores - 1))" "$bin/serve_bench" --connections 8 --server_pid "$pid" \
      --streams 1024 --max_tokens 1024 --warmup 4 --seconds 8 --delta_interval_ms $interval ||
      status=1
  done
  kill "$pid"
  wait "$pid"
}

# Open loops of 256 tokens in and 512 out: at 0.8 of what the daemon can serve, and at three times
# all of it.
overload_daemon() {
  local cores half capacity share before after
  cores=$(nproc)
  half=$((cores * 9 / 16))
  start_daemon taskset -c "0-$((half - 1))" "$server" --model $model --slots 1152 \
    --max_queue 1152 || return
  local client=(taskset -c "$half-$((cores - 1))")
  local load=("${client[@]}" "$bin/overload_load" --connections 8 --prompt_tokens 256
    --max_tokens 512)
  capacity=$("${client[@]}" "$bin/serve_bench" --connections 8 --streams 1152 --prompt_tokens 256 \
    --max_tokens 512 --warmup 10 --seconds 8 | sed -n 's/.*tokens_per_s=\([0-9]*\).*/\1/p')
  echo "capacity: ${capacity:?no figure} tokens/s"
  for share in 0.8 3; do
    before=$(awk '/VmRSS/ { print $2 }' "/proc/$pid/status")
    echo "$share of capacity: $("${load[@]}" --warmup 14 --seconds 10 \
      --rate "$(awk -v c="$capacity" -v s=$share 'BEGIN { print c * s / 512 }')")"
    after=$(awk '/VmRSS/ { print $2 }' "/proc/$pid/status")
    echo "  resident kB before and after: $before $after"
  done
  echo "refusals within the daemon, us: $(sed -n \
    's/.*code=RESOURCE_EXHAUSTED.* total_us=\([0-9]*\).*/\1/p' "$out/daemon.log" | sort -n |
    awk '{ v[NR] = $1 } END { print "p50", v[int((NR + 1) / 2)], "p99", v[int(NR * 0.99)], "max", v[NR] }')"
  kill "$pid"
  wait "$pid"
}

# Streams under constraints against free ones, there and back: texts that leave a choice at nearly
# every token, and records, most of whose text is forced. "early": every draw waits for the one
# before it.
constrained_streams() {
  local item='{"type":"object","required":["name","age","tags"],"additionalProperties":false'
  item+=',"properties":{"name":{"type":"string","maxLength":200},"age":{"type":"integer"}'
  item+=',"seen":{"type":["boolean","null"]},"tags":{"type":"array","items":{"type":"string"}}}}'
  local schema='{"type":"array","minItems":20000,"maxItems":20000,"items":'$item'}'
  local regex='([A-Z][a-z]+(,? [a-z]+)*[.!?] )+'
  local record field streams kind
  for field in temperature_celsius humidity_percent wind_direction_degrees station_elevation; do
    record+='"'$field'":{"type":"integer","minimum":0,"maximum":400},'
  done
  record='{"type":"object","additionalProperties":false,"required":["temperature_celsius",
    "humidity_percent","wind_direction_degrees","station_elevation"],"properties":{'${record%,}'}}'
  record='{"type":"array","minItems":20000,"maxItems":20000,"items":'$record'}'
  for streams in 32 1024; do
    for kind in free schema early_schema record early_record regex \
      regex early_record record early_schema schema free; do
      local flags=()
      case $kind in
        *schema) flags=(--json_schema "$schema") ;;
        *record) flags=(--json_schema "$record") ;;
        regex) flags=(--regex "$regex") ;;
      esac
      [[ $kind == early_* ]] && flags+=(--late_rules=false)
      echo "$streams streams, $kind: $("$bin/serve_bench" --engine --backend cuda --model $model \
        --tokenizer "$TOKENIZER" --slots 1152 --streams $streams --temperature 1 --warmup 3 \
        --seconds 3 "${flags[@]}" | tr '\n' ' ')" || status=1
    done
  done
}

on_engine() {  # ARGUMENTS...
  "$bin/serve_bench" --engine --backend cuda --model $model --slots 1152 --streams 1024 "$@" ||
    status=1
}

for part in $parts; do
  echo "== $part"
  case $part in
    tests)
      run_test op_suite "$bin/backend_test" '--gtest_filter=*cuda*'
      run_test fast_paths "$bin/cuda_fast_path_test"
      run_test model_properties "$bin/model_properties_test" '--gtest_filter=*cuda*'
      run_test completions "$bin/completion_backends_test" '--gtest_filter=*cuda*'
      run_test constraints "$bin/constrained_completions_test" '--gtest_filter=*cuda*'
      run_test sessions "$bin/sessions_test"
      for test in cuda_sample_test cuda_golden_test cuda_pipeline_test cuda_limits_test \
        cuda_late_rules_test cuda_fault_test; do
        [ -x "$bin/$test" ] && run_test "$test" "$bin/$test"
      done
      ;;
    verify)
      for fixture in tiny-a tiny-b; do
        golden=tests/golden/$fixture/golden.safetensors
        rounded=$out/$fixture-bf16
        to_bf16 "tests/golden/$fixture" "$rounded"
        echo "$fixture, fp32 weights"
        "$client" verify --backend cuda --model "tests/golden/$fixture" --golden "$golden" \
          --tolerance 1e-4 || status=1
        echo "$fixture, bf16 weights"
        "$client" verify --backend cuda --model "$rounded" --golden "$golden" || status=1
        rm -r "$rounded"
      done
      ;;
    faults)
      check_no_device
      check_fault
      ;;
    sanitize)
      # A test asks for more memory than there is: that call's error is expected.
      memcheck=(timeout "${SANITIZE_SECONDS:-180}" compute-sanitizer --tool memcheck
        --error-exitcode 9 --report-api-errors no)
      run_test memcheck_op_suite "${memcheck[@]}" "$bin/backend_test" '--gtest_filter=*cuda*'
      run_test memcheck_fast_paths "${memcheck[@]}" "$bin/cuda_fast_path_test" \
        '--gtest_filter=*RandomHistories*:*Gemv*:*Graphs*'
      run_test memcheck_pipeline "${memcheck[@]}" "$bin/cuda_pipeline_test"
      run_test memcheck_sampling "${memcheck[@]}" "$bin/cuda_sample_test" '--gtest_filter=CudaSample*'
      # Without cuBLASLt, whose Hopper kernels racecheck cannot follow.
      run_test racecheck_kernels timeout "${SANITIZE_SECONDS:-180}" compute-sanitizer \
        --tool racecheck --error-exitcode 9 "$bin/cuda_run_kernels"
      tail -n 1 "$out/racecheck_kernels.log"
      ;;
    decode) "$bin/cuda_bench" decode 1 128 256 1024 4096 || status=1 ;;
    phase)
      nvidia-smi --query-gpu=clocks.sm,power.draw,clocks_event_reasons.active --format=csv,noheader \
        -lms 100 >"$out/clocks.log" &
      for option in --steps=1000 --plain --steps=1000; do
        "$bin/cuda_bench" $option --steps=1000 decode 1024 || status=1
      done
      # Alone, each after a rest, steps stay below the card's power limit.
      "$bin/cuda_bench" --rest=15 --steps=500 decode 1024 || status=1
      kill $!
      sort "$out/clocks.log" | uniq -c | sort -rn | head -n 12
      ;;
    mixed)
      "$bin/cuda_bench" mixed 1024 0 64 256 512 1024 2048 || status=1
      "$bin/cuda_bench" mixed 256 0 64 256 512 1024 || status=1
      ;;
    serve) on_engine --max_tokens 1024 --prompt_tokens 16 --warmup 4 --seconds 8 ;;
    open)
      for rate in ${RATES:-105 115}; do
        on_engine --rate $rate --max_tokens 512 --prompt_tokens 512 --warmup 6 --seconds 10
      done
      ;;
    daemon) serve_daemon ;;
    overload) overload_daemon ;;
    constraints)
      if [ -n "${TOKENIZER:-}" ]; then constrained_streams; else echo "no TOKENIZER: left out"; fi
      ;;
    start)
      checkpoint=$(mktemp -d)
      python3 tests/bench/start_bench.py --make "$checkpoint" &&
        BASED_BIN_DIR=$(dirname "$server") python3 tests/bench/start_bench.py \
          --model "$checkpoint" -- --backend=cuda || status=1
      rm -r "$checkpoint"
      ;;
    invariant) "$bin/cuda_bench" --invariant decode 128 1024 || status=1 ;;
    plain) "$bin/cuda_bench" --plain decode 1024 || status=1 ;;
    position) "$bin/cuda_bench" position 256 || status=1 ;;
    prefill)
      "$bin/cuda_bench" prefill 8 2048 8192 || status=1
      "$bin/cuda_bench" prefill 4 8192 8192 || status=1
      ;;
    kernels)
      kernel_table decode_1024 "$bin/cuda_bench" step 1024
      kernel_table plain_1024 "$bin/cuda_bench" --plain step 1024
      kernel_table decode_1 "$bin/cuda_bench" step 1
      kernel_table prefill_4096 "$bin/cuda_bench" prefill_step 8 4096
      kernel_table taylor_4x8192 "$bin/cuda_bench" taylor 4 8192
      kernel_table taylor_32x2048 "$bin/cuda_bench" taylor 32 2048
      ;;
    *) echo "unknown part $part"; status=1 ;;
  esac
done
exit $status

#!/usr/bin/env bash
# Runs every GPU test and benchmark on a machine with a GPU and prints a table.
#
#   deploy/gpu_check.sh [BIN_DIR] [PART...]
#
# BIN_DIR   holds the binaries (default build/cuda/tests), and lib/ beside them if they were carried
# PART      any of: tests sanitize decode invariant plain position prefill kernels (default: all)
# OUT       folder for full logs (default: a temporary one)
# Exit status 1 when a test failed or nothing could run.
set -u
bin=${1:-build/cuda/tests}
shift || true
parts=${*:-tests sanitize decode invariant plain position prefill kernels}
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

for part in $parts; do
  echo "== $part"
  case $part in
    tests)
      run_test op_suite "$bin/backend_test" '--gtest_filter=*cuda*'
      run_test fast_paths "$bin/cuda_fast_path_test"
      [ -x "$bin/cuda_golden_test" ] && run_test golden "$bin/cuda_golden_test"
      run_test sampling "$bin/cuda_sample_test"
      run_test model_properties "$bin/model_properties_test" '--gtest_filter=*cuda*'
      run_test completions "$bin/completion_backends_test" '--gtest_filter=*cuda*'
      ;;
    sanitize)
      # A test asks for more memory than there is: that call's error is expected.
      memcheck=(timeout "${SANITIZE_SECONDS:-180}" compute-sanitizer --tool memcheck
        --error-exitcode 9 --report-api-errors no)
      run_test memcheck_op_suite "${memcheck[@]}" "$bin/backend_test" '--gtest_filter=*cuda*'
      run_test memcheck_fast_paths "${memcheck[@]}" "$bin/cuda_fast_path_test" \
        '--gtest_filter=*RandomHistories*:*Gemv*'
      run_test memcheck_sampling "${memcheck[@]}" "$bin/cuda_sample_test" '--gtest_filter=CudaSample*'
      # Without cuBLASLt, whose Hopper kernels racecheck cannot follow.
      run_test racecheck_kernels timeout "${SANITIZE_SECONDS:-180}" compute-sanitizer \
        --tool racecheck --error-exitcode 9 "$bin/cuda_run_kernels"
      tail -n 1 "$out/racecheck_kernels.log"
      ;;
    decode) "$bin/cuda_bench" decode 1 128 256 1024 4096 || status=1 ;;
    invariant) "$bin/cuda_bench" --invariant decode 128 1024 || status=1 ;;
    plain) "$bin/cuda_bench" --plain decode 1024 || status=1 ;;
    position) "$bin/cuda_bench" position 256 || status=1 ;;
    prefill)
      "$bin/cuda_bench" prefill 8 2048 8192 || status=1
      "$bin/cuda_bench" prefill 4 8192 8192 || status=1
      ;;
    kernels)
      kernel_table decode_1024 "$bin/cuda_bench" step 1024
      kernel_table decode_1 "$bin/cuda_bench" step 1
      kernel_table prefill_4096 "$bin/cuda_bench" prefill_step 8 4096
      kernel_table taylor_4x8192 "$bin/cuda_bench" taylor 4 8192
      kernel_table taylor_32x2048 "$bin/cuda_bench" taylor 32 2048
      ;;
    *) echo "unknown part $part"; status=1 ;;
  esac
done
exit $status

"""The capacity planner against this machine: tokens per second and inter-token latency of the
engine at several loads, predicted by `based plan --machine measured` and measured by serve_bench, in
turns, so that other load on the machine meets both.

    python3 tests/bench/plan_bench.py [--streams 1 8 32] [--threads N] [--rounds 5] [--seconds 3]

Prints a line per round and, per load, the medians and the median of the rounds' own ratios; then, for
tests/client/plan_measured.tsv, a row per load of its round of median ratio, with the limits measured in
that round. Build first: cmake --build --preset cpu --target based serve_bench
"""

import argparse
import json
import math
import os
import pathlib
import re
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "cpu"


def output_of(*command):
    return subprocess.run(list(map(str, command)), cwd=ROOT, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def read_speed(plan, streams):
    """Bytes a second at the load's working set, as client/plan_machine.cc interpolates them."""
    reads = plan["machine"]["reads"]
    size = plan["weight_bytes"] + streams * plan["slot_bytes"]["total"]
    size = min(max(size, reads[0]["working_set"]), reads[-1]["working_set"])
    for low, high in zip(reads, reads[1:]):
        if size <= high["working_set"]:
            at = math.log(size / low["working_set"]) / math.log(
                high["working_set"] / low["working_set"])
            return low["bytes_per_second"] + at * (
                high["bytes_per_second"] - low["bytes_per_second"])


def predicted(model, streams, threads):
    """Tokens per second, seconds between the tokens of a stream, and the limits they come from."""
    plan = json.loads(output_of(BUILD / "bin" / "based", "plan", "--model", model,
                                "--machine=measured", f"--threads={threads}",
                                f"--streams={streams}", "--json"))
    load = plan["load"]["based"]
    return (load["tokens_per_second"], load["itl_seconds"], read_speed(plan, streams),
            plan["machine"]["flops_per_second"])


def measured(model, streams, threads, seconds):
    line = output_of(BUILD / "tests" / "serve_bench", "--engine", "--model", model,
                     f"--threads={threads}", f"--streams={streams}", f"--seconds={seconds}")
    fields = dict(re.findall(r"(\w+)=([\d.]+)", line))
    return float(fields["tokens_per_s"]), float(fields["itl_p50_ms"]) / 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/demo")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=0, help="0: one per core")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    rounds = {streams: [] for streams in arguments.streams}
    for number in range(arguments.rounds):
        for streams, seen in rounds.items():
            before = predicted(arguments.model, streams, arguments.threads)
            rate, itl = measured(arguments.model, streams, arguments.threads, arguments.seconds)
            after = predicted(arguments.model, streams, arguments.threads)
            guess = [(a + b) / 2 for a, b in zip(before, after)]
            seen.append((guess[0], rate, guess[1], itl, guess[2], guess[3]))
            print(f"round={number} streams={streams} load={os.getloadavg()[0]:.2f} "
                  f"predicted_tokens_per_s={guess[0]:.0f} measured_tokens_per_s={rate:.0f} "
                  f"ratio={guess[0] / rate:.3f}", flush=True)
    for streams, seen in rounds.items():
        guess, rate, guess_itl, itl = [statistics.median(column) for column in zip(*seen)][:4]
        print(f"streams={streams} predicted_tokens_per_s={guess:.0f} "
              f"measured_tokens_per_s={rate:.0f} predicted_itl_ms={1e3 * guess_itl:.3f} "
              f"measured_itl_p50_ms={1e3 * itl:.3f} "
              f"ratio={statistics.median(row[0] / row[1] for row in seen):.3f}")
    for streams, seen in rounds.items():
        _, rate, _, _, read, flops = sorted(seen, key=lambda row: row[0] / row[1])[len(seen) // 2]
        print(f"engine\t{read:.4g},{flops:.4g}\t{arguments.model}\t{streams}\t0\t{rate:.0f}\t"
              f"plan_bench.py, the median of {len(seen)} rounds by ratio")


if __name__ == "__main__":
    main()

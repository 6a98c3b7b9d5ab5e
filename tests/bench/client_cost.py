"""What `based bench` itself takes of a processor, and how many tokens a second it could bear.

    python3 tests/bench/client_cost.py [--bin build/bin] [--instant build/cpu/tests/instant_server]
        [--streams 1024] [--seconds 5] [--rounds 3]

Closed loops of so many streams, 64 tokens each: on a server that has every token ready (gRPC alone),
and on a daemon with the demo model, over gRPC and over HTTP. Prints the medians of output tokens/s
and of processor time per token (user and system, all threads), the client's and the daemon's, and the
tokens/s that one core of client would bear at that cost. Other work on the machine bears on the
first alone.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import threading
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start_instant(program):
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().split()[1]


def start_daemon(binaries, streams):
    process = subprocess.Popen(
        [binaries / "based-server", f"--model={ROOT / 'models' / 'demo'}", "--backend=cpu",
         f"--slots={streams}", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
         "--http_listen=127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "event=ready" in line:
            break
    else:
        raise SystemExit("the daemon did not start")
    # What it logs of calls that end is read, so that it never waits.
    threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
    addresses = (re.search(rf" {name}=(\S+)", line).group(1)
                 for name in ("grpc", "http", "metrics"))
    return process, *addresses


def use_of(process, metrics):
    """Processor seconds of a daemon, and the tokens that it has made."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return seconds, float(re.search(r"^based_generated_tokens_total (\S+)", text, re.M).group(1))


def bench(options, way):
    """Tokens/s, and us of client per token."""
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "bench.json"
        subprocess.run(
            [options.bin / "based", "bench", way, f"--concurrency={options.streams}",
             "--prompt_length=4", "--output_length=64", "--warmup=2",
             f"--duration={options.seconds}", f"--output={output}"],
            check=True, stdout=subprocess.DEVNULL)
        report = json.loads(output.read_text())
    if report["errors"]:
        raise SystemExit(f"{way}: {report['errors']}")
    return [report[key] for key in ("output_tokens_per_s", "client_us_per_token")]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--instant", type=pathlib.Path,
                        default=ROOT / "build" / "cpu" / "tests" / "instant_server")
    parser.add_argument("--streams", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    instant, instant_address = start_instant(options.instant)
    daemon, grpc_address, http_address, metrics = start_daemon(options.bin, options.streams)
    ways = {"instant server, gRPC": f"--address={instant_address}",
            "daemon, gRPC": f"--address={grpc_address}",
            "daemon, HTTP": f"--http=http://{http_address}"}
    figures = {name: [] for name in ways}
    try:
        for _ in range(options.rounds):
            for name, way in ways.items():
                seconds, tokens = use_of(daemon, metrics)
                figures[name].append(bench(options, way))
                seconds_after, tokens_after = use_of(daemon, metrics)
                made = tokens_after - tokens
                cost = 1e6 * (seconds_after - seconds) / made if made else 0
                figures[name][-1].append(cost)
    finally:
        instant.kill()
        daemon.kill()
    print(f"{options.streams} streams       tokens/s  us/token of client  of daemon  a core of client")
    for name in ways:
        rate, client, daemon_cost = (statistics.median(of) for of in zip(*figures[name]))
        print(f"{name:20}{rate:10,.0f}{client:20.2f}{daemon_cost:11.1f}{1e6 / client:18,.0f}")


if __name__ == "__main__":
    main()

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
import pathlib
import statistics
import subprocess
import tempfile

from http_cost import MODELS, ROOT, metric, processor_seconds, start


def start_instant(program):
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().split()[1]


def use_of(process, metrics):
    """Processor seconds of a daemon, and the tokens that it has made."""
    return processor_seconds(process.pid), metric(metrics, "based_generated_tokens_total")


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
    daemon, addresses = start(options.bin, MODELS["demo"], options.streams)
    ways = {"instant server, gRPC": f"--address={instant_address}",
            "daemon, gRPC": f"--address={addresses['grpc']}",
            "daemon, HTTP": f"--http=http://{addresses['http']}"}
    figures = {name: [] for name in ways}
    try:
        for _ in range(options.rounds):
            for name, way in ways.items():
                seconds, tokens = use_of(daemon, addresses["metrics"])
                figures[name].append(bench(options, way))
                seconds_after, tokens_after = use_of(daemon, addresses["metrics"])
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

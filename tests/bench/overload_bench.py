"""The daemon under more load than it can serve; prints a table of measured figures and bounds.

    BASED_BUILD_DIR=build/cpu python3 tests/bench/overload_bench.py [--only ROW] [--seconds N]

The daemon is tests/bench/timed_server.cc, whose steps take programmed time: client and model then do
not fight for the same cores. Needs the targets timed_server and overload_load, and what
tests/e2e/requirements.txt names. Exit status 1 when a bound is broken. Connects and disconnects are
in hostile_clients.py.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BASED_BUILD_DIR", ROOT / "build" / "cpu"))
os.environ.setdefault("BASED_BIN_DIR", str(BUILD / "bin"))
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

# A step: 8 ms, 0.1 ms per sequence, 0.02 ms per prompt token. 64 slots, so at most 64 tokens in
# 14.4 ms, of which prompts take their part.
STEP = {"BASED_TIMED_FIXED_US": "8000", "BASED_TIMED_DECODE_US": "100",
        "BASED_TIMED_PREFILL_US": "20", "BASED_TIMED_ROWS": "512"}
SHAPE = ["--prompt_tokens=64", "--max_tokens=64"]
MIB = 1 << 20


class Load:
    """One client process; its figures by name."""

    def __init__(self, daemon, rate, seconds, warmup, *flags):
        self.process = subprocess.Popen(
            [BUILD / "tests" / "overload_load", f"--address={daemon.address}", f"--rate={rate}",
             f"--seconds={seconds}", f"--warmup={warmup}", *SHAPE, *flags],
            stdout=subprocess.PIPE, text=True)

    def figures(self):
        output, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0
        return {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", output)}


class Table:
    def __init__(self):
        self.failed = False

    def row(self, name, value, bound="", good=True):
        self.failed |= not good
        mark = "    " if not bound else "ok  " if good else "FAIL"
        print(f"{mark} {name:52} {value:>16}   {bound}", flush=True)


def resident(daemon):
    statm = pathlib.Path(f"/proc/{daemon.process.pid}/statm").read_text()
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def start(*flags, sequences=64):
    """The daemon with 64 slots, unless `flags` say otherwise, and so many sequences in a step."""
    from conftest import TINY, Daemon

    environment = {**os.environ, **STEP, "BASED_TIMED_SPANS": str(sequences)}
    return Daemon(f"--model={TINY}", "--slots=64", *flags,
                  program=BUILD / "tests" / "timed_server", environment=environment)


def capacity_of(seconds):
    """Tokens per second when the queue is never empty and nothing is refused."""
    daemon = start()
    figures = Load(daemon, 100, seconds, 5).figures()
    daemon.stop()
    return figures["tokens_per_s"]


def below_capacity(table, options, capacity):
    daemon = start()
    figures = Load(daemon, 0.8 * capacity / 64, options.seconds, 5).figures()
    daemon.stop()
    p50, p99 = figures["itl_p50_ms"], figures["itl_p99_ms"]
    table.row("0.8 of capacity: tokens/s", f"{figures['tokens_per_s']:.0f}")
    table.row("0.8 of capacity: TTFT p50 / p99, ms",
              f"{figures['ttft_p50_ms']:.1f} / {figures['ttft_p99_ms']:.1f}")
    table.row("0.8 of capacity: ITL p50 / p99, ms", f"{p50:.2f} / {p99:.2f}",
              "p99 at most 2 x p50", p99 <= 2 * p50)


def above_capacity(table, options, capacity):
    daemon = start("--max_queue=128")
    Load(daemon, 3 * capacity / 64, 5, 5, "--seed=2").figures()
    before = resident(daemon)
    figures = Load(daemon, 3 * capacity / 64, options.seconds, 5).figures()
    after = resident(daemon)
    preempted = daemon.metric("based_preemptions_total")
    daemon.stop()
    rate = figures["tokens_per_s"]
    table.row("3 x capacity: tokens/s", f"{rate:.0f}", "within 5% of capacity",
              rate >= 0.95 * capacity)
    table.row("3 x capacity: requests sent / refused",
              f"{figures['sent']:.0f} / {figures['refused']:.0f}", "", figures["refused"] > 0)
    table.row("3 x capacity: refusal p50 / p99, ms",
              f"{figures['refusal_p50_ms']:.2f} / {figures['refusal_p99_ms']:.2f}")
    table.row("3 x capacity: slowest refusal, ms", f"{figures['refusal_max_ms']:.2f}",
              "at most 5", figures["refusal_max_ms"] <= 5)
    table.row("3 x capacity: resident MB before / after",
              f"{before / MIB:.1f} / {after / MIB:.1f}", "4 MB more at most",
              after - before <= 4 * MIB)
    table.row("3 x capacity: ITL p50 / p99, ms",
              f"{figures['itl_p50_ms']:.2f} / {figures['itl_p99_ms']:.2f}")
    table.row("preemptions", f"{preempted:.0f}", "none", preempted == 0)


def greedy_tenant(table, options, capacity):
    """TTFT of a tenant that asks for a fifth of capacity beside one that asks for a half, or for
    four times all there is."""
    p99 = {}
    access = tempfile.NamedTemporaryFile("w", suffix=".json")
    json.dump({"tenants": [{"name": "polite"}, {"name": "other"}]}, access)
    access.flush()
    for name, share in (("fair", 0.5), ("greedy", 4)):
        daemon = start("--max_queue=256", f"--access_file={access.name}")
        other = Load(daemon, share * capacity / 64, options.seconds, 6, "--tenant=other",
                     "--seed=3")
        polite = Load(daemon, 0.2 * capacity / 64, options.seconds, 6, "--tenant=polite").figures()
        other.figures()
        parks, refused = daemon.metric("based_parks_total"), polite["refused"]
        daemon.stop()
        p99[name] = polite["ttft_p99_ms"]
        table.row(f"polite tenant beside a {name} one: TTFT p50 / p99, ms",
                  f"{polite['ttft_p50_ms']:.1f} / {polite['ttft_p99_ms']:.1f}")
        table.row("  of it refused, parks by the other", f"{refused:.0f}, {parks:.0f}",
                  "none refused", refused == 0)
    table.row("TTFT p99 beside greedy / beside fair", f"{p99['greedy'] / p99['fair']:.2f}",
              "at most 1.2", p99["greedy"] <= 1.2 * p99["fair"])


def batch_work(table, options, capacity):
    figures = {}
    for name in ("alone", "beside batch work"):
        daemon = start("--max_queue=1000")
        load = None
        if name != "alone":
            load = Load(daemon, 0.6 * capacity / 64, options.seconds, 6, "--batch", "--seed=4")
        interactive = Load(daemon, 0.5 * capacity / 64, options.seconds, 6).figures()
        figures[name] = interactive["ttft_p99_ms"]
        total = interactive["tokens_per_s"] + (load.figures()["tokens_per_s"] if load else 0)
        parks = daemon.metric("based_parks_total")
        daemon.stop()
        table.row(f"interactive {name}: TTFT p99, ms", f"{interactive['ttft_p99_ms']:.1f}")
        table.row("  tokens/s together, parks", f"{total:.0f}, {parks:.0f}")
    step = 8 + 0.1 * 64 + 0.02 * 512
    table.row("TTFT p99 that batch work adds, ms",
              f"{figures['beside batch work'] - figures['alone']:.1f}",
              f"a step at most ({step:.1f})",
              figures["beside batch work"] - figures["alone"] <= step)


def long_prompt(table, options, _):
    """100,000 tokens among 64 streams."""
    target = 20
    daemon = start("--slots=65", f"--itl_target_ms={target}", sequences=128)
    output = subprocess.run(
        [BUILD / "tests" / "serve_bench", f"--address={daemon.address}", "--streams=64",
         "--connections=4", "--max_tokens=10000", "--seconds=5", "--long_prompt=100000"],
        capture_output=True, text=True, check=True, timeout=600).stdout
    daemon.stop()
    figures = {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", output)}
    table.row("ITL p99 of 64 streams alone, ms", f"{figures['itl_p99_before_ms']:.2f}")
    table.row(f"ITL p99 beside 100k tokens, target {target} ms",
              f"{figures['itl_p99_during_ms']:.2f}", f"at most {2 * target}",
              figures["itl_p99_during_ms"] <= 2 * target)
    table.row("time of the 100k tokens, s", f"{figures['long_prompt_s']:.1f}")


def watch(address, count, ready, end):
    """Opens `count` health Watch streams over 25 connections and holds them."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async def hold():
        channels = [grpc.aio.insecure_channel(address, options=[("grpc.channel_number", i)])
                    for i in range(25)]
        calls = [health_pb2_grpc.HealthStub(channels[i % 25]).Watch(
            health_pb2.HealthCheckRequest()) for i in range(count)]
        for call in calls:
            first = await call.read()
            assert first.status == health_pb2.HealthCheckResponse.SERVING
        ready.release()
        await asyncio.get_running_loop().run_in_executor(None, end.wait)
        os._exit(0)  # a client that dies with its calls open, as the daemon meets them

    asyncio.run(hold())


def watches(table, options, _):
    count, processes = 10_000, 4
    daemon = start()
    before = resident(daemon)
    context = multiprocessing.get_context("spawn")
    ready, end = context.Semaphore(0), context.Event()
    clients = [context.Process(target=watch,
                               args=(daemon.address, count // processes, ready, end))
               for _ in range(processes)]
    for client in clients:
        client.start()
    opened = all(ready.acquire(timeout=120) for _ in clients)
    held = resident(daemon)
    end.set()
    for client in clients:
        client.join(60)
    daemon.stop()
    table.row(f"{count} health watches: resident MB before / with",
              f"{before / MIB:.0f} / {held / MIB:.0f}", "under 200", opened and held < 200 * MIB)


ROWS = {"below": below_capacity, "above": above_capacity, "greedy": greedy_tenant,
        "batch": batch_work, "long": long_prompt, "watches": watches}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help=f"comma-separated, of {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--capacity", type=float, default=0,
                        help="tokens per second as measured before; 0: measure it")
    options = parser.parse_args()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    names = options.only.split(",") if options.only else list(ROWS)
    table = Table()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    capacity = options.capacity
    if capacity == 0 and set(names) - {"long", "watches"}:
        capacity = capacity_of(options.seconds)
        table.row("capacity: tokens/s of 64 slots with work always waiting", f"{capacity:.0f}")
    for name in names:
        ROWS[name](table, options, capacity)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a token costs the daemon's processor when it goes out over HTTP, as against gRPC.

    python3 tests/bench/http_cost.py [--bin build/bin] [--streams 200] [--seconds 8] [--rounds 3]

Starts a daemon per model and, in turn, holds so many streams open over gRPC on one connection
(`based bench`), over gRPC on a connection per stream (as HTTP has it), over HTTP (sockets that are
read and not parsed), and over gRPC with 4,096 tokens to a message, which is nearly the engine alone.
Prints the daemon's own processor time per token of each (/proc/PID/stat: user and system, all
threads; clients do not count), the median of the rounds, and HTTP's over gRPC's.
"""

import argparse
import json
import os
import pathlib
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {"tiny-a": ROOT / "tests" / "golden" / "tiny-a", "demo": ROOT / "models" / "demo"}
TOKENS = 1_000_000  # of a stream: none ends while it is measured
SETTLE_S = 2.0
TICKS = os.sysconf("SC_CLK_TCK")


def start(binaries, model, slots, *flags):
    """A daemon that is ready, and its addresses by name."""
    process = subprocess.Popen(
        [binaries / "based-server", f"--model={model}", "--backend=cpu", f"--slots={slots}",
         "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", "--http_listen=127.0.0.1:0",
         *flags], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "event=ready" in line:
            break
    else:
        raise SystemExit("the daemon did not start")
    # What it logs of calls that end is read, so that it never waits.
    threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
    names = {name: re.search(rf" {name}=(\S+)", line).group(1)
             for name in ("grpc", "http", "metrics")}
    return process, names


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def metric(address, series):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith(series + " "):
                return float(line.split()[-1])
    raise KeyError(series)


class GrpcClient:
    """`based bench`: C++, all streams in one process."""

    def __init__(self, binaries, addresses, streams, connections):
        self.process = subprocess.Popen(
            [binaries / "based", "bench", f"--address={addresses['grpc']}",
             f"--concurrency={streams}", f"--connections={connections}", "--prompt_length=4",
             f"--output_length={TOKENS}", "--warmup=0", "--duration=600"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self):
        self.process.kill()
        self.process.wait()


class WideGrpcClient:
    """Streams whose messages hold thousands of tokens."""

    def __init__(self, addresses, streams, stubs):
        import grpc

        completion, services = stubs
        self.channel = grpc.insecure_channel(addresses["grpc"])
        message = completion.GenerateRequest()
        message.token_ids.ids.extend([1, 2, 3, 4])
        message.stop.max_tokens = TOKENS
        message.stop.ignore_eos = True
        message.output.tokens_per_message = 4096
        message.output.text = False
        message.output.token_ids = True
        stub = services.CompletionServiceStub(self.channel)
        self.calls = [stub.Generate(message) for _ in range(streams)]
        for call in self.calls:
            threading.Thread(target=self._drain, args=(call,), daemon=True).start()

    @staticmethod
    def _drain(call):
        import grpc

        try:
            for _ in call:
                pass
        except grpc.RpcError:
            pass

    def close(self):
        for call in self.calls:
            call.cancel()
        self.channel.close()


class HttpClient:
    """Sockets whose events are read and thrown away, but for counting them."""

    def __init__(self, addresses, streams):
        self.events = 0
        self.reads = 0
        self.closing = False
        host, port = addresses["http"].split(":")
        body = json.dumps({"prompt": [1, 2, 3, 4], "max_tokens": TOKENS, "stream": True,
                           "ignore_eos": True, "seed": 1}).encode()
        head = (b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body))
        self.links = []
        self.poll = select.epoll()
        for _ in range(streams):
            link = socket.create_connection((host, int(port)))
            link.sendall(head + body)
            link.setblocking(False)
            self.links.append(link)
            self.poll.register(link.fileno(), select.EPOLLIN)
        self.by_number = {link.fileno(): link for link in self.links}
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        buffer = bytearray(1 << 16)
        while not self.closing:
            for number, _ in self.poll.poll(0.1):
                count = self.by_number[number].recv_into(buffer)
                self.reads += 1
                self.events += buffer.count(b"data: {", 0, count)

    def close(self):
        self.closing = True
        self.thread.join()
        for link in self.links:
            link.close()


def measure(process, addresses, client, seconds, streams):
    """(microseconds per token, tokens per second, events per token of HTTP) once all streams run."""
    end = time.monotonic() + 30
    while metric(addresses["metrics"], 'based_state_slots{state="active"}') < streams:
        if time.monotonic() > end:
            raise SystemExit("the streams did not begin")
        time.sleep(0.1)
    time.sleep(SETTLE_S)
    tokens = metric(addresses["metrics"], "based_generated_tokens_total")
    events = getattr(client, "events", 0)
    busy, began = processor_seconds(process.pid), time.monotonic()
    time.sleep(seconds)
    busy, took = processor_seconds(process.pid) - busy, time.monotonic() - began
    tokens = metric(addresses["metrics"], "based_generated_tokens_total") - tokens
    events = getattr(client, "events", 0) - events
    return busy / tokens * 1e6, tokens / took, events / tokens


def wait_until_idle(addresses):
    while metric(addresses["metrics"], 'based_state_slots{state="active"}') > 0:
        time.sleep(0.05)


def stubs_of(folder):
    from grpc_tools import protoc

    files = [str(path) for path in sorted((ROOT / "proto" / "based" / "v1").glob("*.proto"))]
    if protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}",
                    f"--grpc_python_out={folder}", *files]) != 0:
        raise SystemExit("protoc failed")
    sys.path.insert(0, folder)
    from based.v1 import completion_pb2, completion_pb2_grpc

    return completion_pb2, completion_pb2_grpc


def compare(name, arguments, stubs):
    process, addresses = start(arguments.bin, MODELS[name], arguments.streams, "--threads=1")
    clients = {
        "grpc, 1 connection": lambda: GrpcClient(arguments.bin, addresses, arguments.streams, 1),
        "grpc, a connection each": lambda: GrpcClient(arguments.bin, addresses, arguments.streams,
                                                      arguments.streams),
        "http": lambda: HttpClient(addresses, arguments.streams),
        "engine alone": lambda: WideGrpcClient(addresses, arguments.streams, stubs),
    }
    figures = {label: [] for label in clients}
    try:
        for _ in range(arguments.rounds):
            for label, make in clients.items():
                client = make()
                figures[label].append(measure(process, addresses, client, arguments.seconds,
                                              arguments.streams))
                client.close()
                wait_until_idle(addresses)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    cost = {}
    for label, rounds in figures.items():
        cost[label] = statistics.median(figure[0] for figure in rounds)
        rate = statistics.median(figure[1] for figure in rounds)
        each = ", ".join(f"{figure[0]:.2f}" for figure in rounds)
        events = f", {rounds[0][2]:.3f} events per token" if label == "http" else ""
        print(f"{name}: {label}: {cost[label]:.2f} us per token ({each}), {rate:,.0f} tokens/s"
              f"{events}", flush=True)
    for label in ("grpc, 1 connection", "grpc, a connection each"):
        print(f"{name}: http / ({label}): {cost['http'] / cost[label]:.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stubs = stubs_of(folder)
        for name in arguments.models:
            compare(name, arguments, stubs)


if __name__ == "__main__":
    main()

"""Clients that mean harm, at full size, against a daemon of their own; prints a table.

    BASED_BIN_DIR=build/cpu/bin python3 tests/bench/hostile_clients.py [--quick] [--only ROW]

Needs what tests/e2e/requirements.txt names and a descriptor limit above 10,100. Exit status 1 when a
row fails. tests/e2e/test_hostile.py runs the same functions, smaller.
"""

import argparse
import os
import pathlib
import resource
import socket
import struct
import sys
import tempfile
import threading
import time

import grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # and empty SETTINGS
MIB = 1 << 20
# What a daemon may keep after a flood: pools of allocator and gRPC, not a share of every client.
RSS_SLACK = 64 * MIB


class State:
    """What a daemon holds. Idle threads of gRPC come and go: their number is not exact."""

    def __init__(self, daemon):
        proc = pathlib.Path(f"/proc/{daemon.process.pid}")
        self.descriptors = len(os.listdir(proc / "fd"))
        self.threads = len(os.listdir(proc / "task"))
        self.rss = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.streams = daemon.metric("based_streams_open")
        self.slots = daemon.metric('based_state_slots{state="active"}')

    def is_back_to(self, before):
        return (
            self.descriptors <= before.descriptors + 4
            and self.threads <= before.threads + 8
            and self.rss <= before.rss + RSS_SLACK
            and self.streams == 0
            and self.slots == 0
        )

    def __str__(self):
        return (
            f"{self.descriptors} descriptors, {self.threads} threads, {self.rss / MIB:.0f} MiB, "
            f"{self.streams:.0f} streams, {self.slots:.0f} slots"
        )


def wait_back(daemon, before, limit_s=60):
    """Waits until the daemon holds what it held; raises with both states if it does not."""
    end = time.monotonic() + limit_s
    while not (state := State(daemon)).is_back_to(before):
        if time.monotonic() > end:
            raise AssertionError(f"before: {before}; after: {state}")
        time.sleep(0.2)
    return f"before: {before}; after: {state}"


def request_of(proto, max_tokens):
    request = proto.completion.GenerateRequest(token_ids=proto.completion.TokenIds(ids=[1, 2]))
    request.stop.max_tokens = max_tokens
    request.stop.ignore_eos = True
    return request


def check_serves(daemon, proto):
    """A well-behaved client gets its ten tokens."""
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        last = list(stub.Generate(request_of(proto, 10), timeout=30, wait_for_ready=True))[-1]
    assert last.done.usage.generated_tokens == 10


def load_streams(daemon, proto):
    """Eight connections of eight streams: gRPC's executor grows to two threads a core, to stay."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(daemon.address, options=own) for _ in range(8)]
    stubs = [proto.completion_grpc.CompletionServiceStub(channel) for channel in channels]
    streams = [stub.Generate(request_of(proto, 300), timeout=60) for stub in stubs * 8]
    for stream in streams:
        assert list(stream)[-1].done.usage.generated_tokens == 300
    for channel in channels:
        channel.close()


def connect(daemon):
    host, port = daemon.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def ended(connection, limit_s):
    """Whether the server has closed the connection; what it sends before is read."""
    connection.settimeout(limit_s)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def silent_connections(daemon, proto, count, handshake_s=None):
    """Connections that send nothing; with `handshake_s`, waits for the server to close them."""
    check_serves(daemon, proto)
    before = State(daemon)
    connections = [connect(daemon) for _ in range(count)]
    end = time.monotonic() + 10
    # A descriptor of the client before may have been counted and be closed by now.
    while (held := State(daemon)).descriptors < before.descriptors + count - 4:
        assert time.monotonic() < end, f"{count} connections, but the daemon holds {held}"
        time.sleep(0.05)
    check_serves(daemon, proto)
    closed = ""
    if handshake_s is not None:
        start = time.monotonic()
        for connection in connections:
            assert ended(connection, max(0.01, start + handshake_s - time.monotonic()))
        closed = f"closed by the server after {time.monotonic() - start:.0f} s; "
    for connection in connections:
        connection.close()
    return f"held: {held}; {closed}{wait_back(daemon, before)}"


def above_the_limit(daemon, proto, limit, more=None):
    """`more` connections (as many again) than --max_connections: closed at once, streams go on."""
    check_serves(daemon, proto)
    before = State(daemon)
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        running = stub.Generate(request_of(proto, 1_000_000))
        next(running)
        more = more or limit
        connections = [connect(daemon) for _ in range(limit + more)]
        # Those that the daemon keeps were the first.
        refused = sum(ended(connection, 0.005) for connection in connections[-2 * more :])
        held = State(daemon)
        next(running)
        for connection in connections:
            connection.close()
        running.cancel()
    assert held.descriptors <= before.descriptors + limit + 8, str(held)
    assert refused >= more // 2, f"{refused} of {limit + more} connections were closed"
    time.sleep(1)  # the next count of connections
    check_serves(daemon, proto)
    return f"{refused} of {limit + more} closed at once; {wait_back(daemon, before)}"


def slow_readers(daemon, proto, count):
    """Streams whose client never reads again: ended, and another client never notices."""
    check_serves(daemon, proto)
    before = State(daemon)
    ended_before = daemon.metric('based_cancellations_total{cause="slow_reader"}')
    # A small window fills soon.
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    channels = [grpc.insecure_channel(daemon.address, options=options) for _ in range(count)]
    calls = []
    for channel in channels:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        calls.append(stub.Generate(request_of(proto, 1_000_000)))
        next(calls[-1])
    check_serves(daemon, proto)
    daemon.wait_for_metric("based_streams_open", 0, 180)
    slow = daemon.metric('based_cancellations_total{cause="slow_reader"}') - ended_before
    codes = set()
    for call in calls:
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            codes.add(error.code().name)
    for channel in channels:
        channel.close()
    assert codes <= {"RESOURCE_EXHAUSTED", "CANCELLED"}, codes
    return f"{slow:.0f} of {count} for their queue, {sorted(codes)}; {wait_back(daemon, before)}"


def half_open(daemon, proto, count, limit_s):
    """Connections that speak HTTP/2 once and then never answer a ping: closed by keepalive."""
    before = State(daemon)
    connections = [connect(daemon) for _ in range(count)]
    for connection in connections:
        connection.sendall(PREFACE)
    start = time.monotonic()
    for connection in connections:
        left = max(0.01, start + limit_s - time.monotonic())
        assert ended(connection, left), f"still open after {limit_s} s"
    took = time.monotonic() - start
    for connection in connections:
        connection.close()
    check_serves(daemon, proto)
    return f"closed by the server after {took:.0f} s; {wait_back(daemon, before)}"


def oversized_message(daemon, proto):
    """One byte too many is refused with the limit's name."""
    before = State(daemon)
    request = proto.completion.GenerateRequest(text=b"x" * (16 * MIB + 1))
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        for _ in range(4):
            try:
                list(stub.Generate(request, timeout=60))
                raise AssertionError("an oversized message was taken")
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error
                assert str(16 * MIB) in error.details(), error.details()
                details = error.details()
    check_serves(daemon, proto)
    return f"'{details}'; {wait_back(daemon, before)}"


def churn(daemon, proto, per_second, seconds):
    """Connects and disconnects: at once, after the preface, and with a reset."""
    check_serves(daemon, proto)
    before = State(daemon)
    start = time.monotonic()
    reset = struct.pack("ii", 1, 0)
    count = per_second * seconds
    for i in range(count):
        time.sleep(max(0.0, start + i / per_second - time.monotonic()))
        with connect(daemon) as connection:
            if i % 3 != 0:
                connection.sendall(PREFACE)
            if i % 3 == 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    took = time.monotonic() - start
    check_serves(daemon, proto)
    return f"{count / took:.0f}/s for {took:.0f} s; {wait_back(daemon, before)}"


def requests_churn(daemon, proto, threads, seconds):
    """Clients that ask for much and go at once, each on a new connection."""
    check_serves(daemon, proto)
    before = State(daemon)
    end = time.monotonic() + seconds
    calls = []

    def leave():
        made = 0
        while time.monotonic() < end:
            with daemon.channel() as channel:
                stub = proto.completion_grpc.CompletionServiceStub(channel)
                call = stub.Generate(request_of(proto, 1_000_000))
                if made % 2:
                    next(call)
                call.cancel()
            made += 1
        calls.append(made)

    workers = [threading.Thread(target=leave) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    states = wait_back(daemon, before)
    check_serves(daemon, proto)
    return f"{sum(calls)} calls; {states}"


def stubs():
    """The wire contract's modules."""
    from grpc_tools import protoc

    out = tempfile.mkdtemp()
    files = [str(path) for path in sorted((ROOT / "proto" / "based" / "v1").glob("*.proto"))]
    arguments = [f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    assert protoc.main(["protoc", *arguments]) == 0
    sys.path.insert(0, out)
    from based.v1 import completion_pb2, completion_pb2_grpc

    class Modules:
        completion = completion_pb2
        completion_grpc = completion_pb2_grpc

    return Modules


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    options = parser.parse_args()
    from conftest import TINY, Daemon

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    proto = stubs()
    part = 10 if options.quick else 1
    silent = 10_000 // part
    limit = silent + 100
    rows = [
        ("silent connections", lambda d: silent_connections(d, proto, silent, handshake_s=40)),
        ("above --max_connections", lambda d: above_the_limit(d, proto, limit, 1000 // part)),
        ("slow readers", lambda d: slow_readers(d, proto, 64 // part)),
        ("half-open connections", lambda d: half_open(d, proto, 1000 // part, 120)),
        ("oversized messages", lambda d: oversized_message(d, proto)),
        ("connects and disconnects", lambda d: churn(d, proto, 1000, 60 // part)),
        ("calls that leave at once", lambda d: requests_churn(d, proto, 8, 20 // part)),
    ]
    failed = False
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    # One daemon lives through all of it. Its slots are more than the slow readers: another client
    # whom they kept waiting would be refused for a deadline that the queue cannot meet.
    daemon = Daemon(f"--model={TINY}", "--backend=cpu", "--slots=80", "--stream_queue=4",
                    "--write_timeout_ms=3000", f"--max_connections={limit}")
    load_streams(daemon, proto)
    start = State(daemon)
    for name, run in rows:
        if options.only not in name:
            continue
        try:
            print(f"pass  {name:26} {run(daemon)}", flush=True)
        except Exception as error:  # a row that breaks is a row that fails
            failed = True
            print(f"FAIL  {name:26} {type(error).__name__}: {error}", flush=True)
    try:
        print(f"pass  {'all of them':26} {wait_back(daemon, start)}")
    except AssertionError as error:
        failed = True
        print(f"FAIL  {'all of them':26} {error}")
    if daemon.stop() != 0:
        failed = True
        print("FAIL  the daemon did not stop cleanly")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

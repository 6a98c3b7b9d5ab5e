"""Attacks on the wire: each leaves the daemon serving others, and holding what it held."""

import gzip
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import grpc
import pytest

from certificates import Authority
from conftest import BIN, ROOT, TINY
from raw_http2 import (CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM,
                       SETTINGS, Connection, call_headers, frame, literal, message)
from test_access import generate, new_key, tls_channel, write_access

sys.path.insert(0, str(ROOT / "tests" / "bench"))
from hostile_clients import State, check_serves, request_of, wait_back  # noqa: E402

MIB = 1 << 20


@pytest.fixture(scope="module")
def daemon(start_daemon):
    return start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=16",
                        "--max_streams_per_connection=100")


@pytest.fixture(autouse=True)
def nothing_is_left(request, proto):
    """Every attack on the shared daemon must leave it as it was."""
    if "daemon" not in request.fixturenames:
        yield
        return
    daemon = request.getfixturevalue("daemon")
    check_serves(daemon, proto)
    before = State(daemon)
    yield
    wait_back(daemon, before)
    check_serves(daemon, proto)


def small(proto):
    return request_of(proto, 2).SerializeToString()


def test_the_raw_client_is_understood(daemon, proto):
    with Connection(daemon) as connection:
        connection.call(1, small(proto))
        assert b"grpc-status" in connection.end_of(1)


def test_header_bombs(daemon, proto):
    # More than --max_header_bytes in one field, in many, and in frames that never end.
    with Connection(daemon) as connection:
        block = call_headers(extra=[("x-bomb", "a" * 15000), ("x-bomb2", "b" * 15000)])
        connection.send(frame(HEADERS, 0, 1, block[:16000]),
                        frame(CONTINUATION, END_HEADERS, 1, block[16000:]),
                        frame(DATA, END_STREAM, 1, message(small(proto))))
        end = connection.end_of(1)
        assert b"grpc-status\x010" not in end
    with Connection(daemon) as connection:
        connection.call(1, small(proto), extra=[(f"x-{i}", "v") for i in range(700)])
        assert b"grpc-status\x010" not in connection.end_of(1)
    with daemon.channel() as channel, pytest.raises(grpc.RpcError) as error:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        list(stub.Generate(request_of(proto, 2), metadata=[("x-bomb", "a" * 30000)]))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def tls_context():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


@pytest.fixture(scope="module")
def tls_daemon(start_daemon, tmp_path_factory):
    cert, key = Authority(tmp_path_factory.mktemp("tls")).issue("server")
    return start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=16",
                        "--max_streams_per_connection=100", f"--tls_cert={cert}",
                        f"--tls_key={key}")


MANNERS = {"polite": {}, "early": {"polite": False}, "never": {"acknowledges": False}}


@pytest.fixture(params=["plain", "tls"])
def knock(request, daemon, tls_daemon, tls_context):
    """(daemon, opens a raw connection to it)"""
    if request.param == "plain":
        return daemon, lambda **how: Connection(daemon, **how)
    return tls_daemon, lambda **how: Connection(tls_daemon, tls=tls_context, **how)


@pytest.mark.parametrize("manners", MANNERS)
def test_headers_that_never_end_are_cut(knock, manners):
    """1,000 MB in CONTINUATION frames, were they taken: none of them ends the header block."""
    attacked, connect = knock
    before = State(attacked).rss
    with connect(**MANNERS[manners]) as connection:
        connection.send(frame(HEADERS, 0, 1, call_headers()))
        with pytest.raises((ConnectionError, ssl.SSLError)):
            for _ in range(62_500):
                connection.send(frame(CONTINUATION, 0, 1, literal("x-more", "c" * 16000)))
        assert State(attacked).rss < before + 16 * MIB
    assert any("event=headers_too_large" in line for line in attacked.lines)


@pytest.mark.parametrize("manners", ["early", "never"])
def test_nobody_gets_more_for_not_acknowledging_the_settings(knock, manners):
    """Limits of gRPC that hold only then: on headers (one of 4,000 bytes, 4,000 times in each block)
    and on streams."""
    attacked, connect = knock
    entry = b"\x40" + literal("x-big", "z" * 3900)[1:]
    before = State(attacked).rss
    for first, more in ((call_headers() + entry, call_headers() + b"\xbe" * 4000),
                        (call_headers(), call_headers())):
        with connect(**MANNERS[manners]) as connection:
            connection.send(frame(HEADERS, END_HEADERS, 1, first))
            with pytest.raises((ConnectionError, ssl.SSLError)):
                for stream in range(3, 100_000, 2):
                    connection.send(frame(HEADERS, END_HEADERS, stream, more))
            assert State(attacked).rss < before + 64 * MIB


def test_reflection_holds_few_threads(daemon):
    """Its calls, which need no key, hold a thread each."""
    before = State(daemon).threads
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    connections = [Connection(daemon) for _ in range(5)]
    for connection in connections:
        for stream in range(1, 160, 2):
            connection.send(frame(HEADERS, END_HEADERS, stream, call_headers(path)))
    # More than may be under way are refused.
    assert connections[-1].end_of(159) != b"closed"
    assert State(daemon).threads < before + 40
    for connection in connections:
        connection.close()


def test_an_hpack_bomb_does_not_grow_the_daemon(daemon, proto):
    """One entry of 4,000 bytes in the table, then references to it: 16,000-fold in one frame."""
    with Connection(daemon) as connection:
        entry = b"\x40" + literal("x-big", "z" * 3900)[1:]
        before = State(daemon).rss
        try:
            for stream in range(1, 400, 2):
                connection.send(frame(HEADERS, END_HEADERS, stream,
                                      call_headers() + (entry if stream == 1 else b"") +
                                      b"\xbe" * 15000))
        except ConnectionError:
            pass
        assert State(daemon).rss < before + 64 * MIB


def test_reset_flood(daemon, proto):
    """Calls opened and reset at once, far more than the limit of streams: CVE-2023-44487."""
    payload = message(small(proto))
    with Connection(daemon) as connection:
        drain = threading.Thread(target=lambda: list(connection.frames()))
        drain.start()
        try:
            for batch in range(200):
                frames = []
                for i in range(50):
                    stream = 1 + 2 * (50 * batch + i)
                    frames += [frame(HEADERS, END_HEADERS, stream, call_headers()),
                               frame(DATA, END_STREAM, stream, payload),
                               frame(RST_STREAM, 0, stream, b"\0\0\0\x08")]
                connection.send(*frames)
        except ConnectionError:
            pass
        check_serves(daemon, proto)
        connection.socket.shutdown(socket.SHUT_RDWR)
        drain.join()


def test_streams_above_the_limit_of_a_connection(daemon, proto):
    endless = request_of(proto, 1_000_000).SerializeToString()
    with Connection(daemon) as connection:
        try:
            for stream in range(1, 2 * 300, 2):
                connection.call(stream, endless)
        except ConnectionError:
            pass  # cut for it
        time.sleep(0.5)
        assert daemon.metric("based_streams_open") <= 100


@pytest.mark.parametrize("frames", [
    frame(PING, 0, 0, b"12345678") * 20000,
    frame(SETTINGS, 0, 0) * 20000,
    b"\xff" * 100_000,
    frame(DATA, 0, 7, b"x" * 1000) * 100,
    frame(HEADERS, END_HEADERS, 1, b"\xff" * 500),
    b"GET / HTTP/1.1\r\n\r\n" * 100,
], ids=["pings", "settings", "noise", "data of no stream", "broken HPACK", "HTTP/1"])
def test_floods_and_noise(daemon, frames):
    with Connection(daemon) as connection:
        try:
            connection.send(frames)
            connection.socket.settimeout(0.5)
            while connection.socket.recv(1 << 16):
                pass
        except (ConnectionError, TimeoutError):
            pass


def test_deeply_nested_messages(daemon, proto):
    """Unknown groups in groups: the parser's limit ends it, not the stack."""
    for depth in (99, 100_000):
        nested = b"\xa3\x06" * depth + b"\xa4\x06" * depth  # field 100, start and end of a group
        with Connection(daemon) as connection:
            connection.call(1, small(proto) + nested)
            end = connection.end_of(1)
            assert end not in (b"closed",)
    # Half a message, a lying length, and the wrong wire type.
    for payload in (small(proto)[:-1], b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 100):
        with Connection(daemon) as connection:
            connection.call(1, payload)
            assert connection.end_of(1) != b"closed"


def test_unknown_compression(daemon, proto):
    with Connection(daemon) as connection:
        # gRPC takes what it does not know for uncompressed: it is no message then.
        connection.call(1, b"\xff\x06\x00\x00sNaPpY", extra=[("grpc-encoding", "snappy")],
                        compressed=1)
        assert b"grpc-status\x010" not in connection.end_of(1)
        # And one that says gzip and is none.
        connection.call(3, b"no gzip", extra=[("grpc-encoding", "gzip")], compressed=1)
        connection.end_of(3)
        # A bomb: 64 MiB of zeros in 64 KiB.
        connection.call(5, gzip.compress(bytes(64 * MIB)), extra=[("grpc-encoding", "gzip")],
                        compressed=1)
        connection.end_of(5)


def test_deadlines_of_nothing_and_of_a_year(daemon, proto):
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        for seconds in (365 * 86400, 100 * 365 * 86400):
            assert list(stub.Generate(request_of(proto, 2), timeout=seconds))
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(request_of(proto, 1_000_000), timeout=0))
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    for timeout in ("0S", "0n", "1n"):
        with Connection(daemon) as connection:
            connection.call(1, request_of(proto, 1_000_000).SerializeToString(),
                            extra=[("grpc-timeout", timeout)])
            end = connection.end_of(1)
            assert end == b"reset" or b"4" in end
    # Nonsense is no deadline, or an error: either way the call ends.
    for timeout in ("99999999H", "-1S", "1x", "", "9" * 5000 + "S"):
        with Connection(daemon) as connection:
            connection.call(1, small(proto), extra=[("grpc-timeout", timeout)])
            connection.end_of(1)


# --- logs


def lines_of(daemon, request_id, limit_s=10):
    end = time.monotonic() + limit_s
    while not (found := [x for x in list(daemon.lines) if request_id in x]):
        assert time.monotonic() < end, request_id
        time.sleep(0.02)
    return found


def test_nothing_a_client_sends_forges_a_log_line(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--log_format=text")
    forged = "x\nlevel=error event=forged \x1b[31m\r\u2028"
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        for field in ("model", "tenant"):
            request = request_of(proto, 2)
            setattr(request, field, forged)
            try:
                list(stub.Generate(request, metadata=[("x-request-id", f"forged-{field}")]))
            except grpc.RpcError:
                pass  # whether it is refused is another test's business
            assert len(lines_of(daemon, f"forged-{field}")) == 1
    for name in ("x-request-id", "traceparent", "authorization", "user-agent"):
        for value in (b"x\nevent=forged", b"x\r\nevent=forged", b"\x1b[31mevent=forged", b"\x00"):
            with Connection(daemon) as connection:
                connection.call(1, small(proto), extra=[(name, value)])
                connection.end_of(1)
    assert daemon.stop() == 0
    for line in daemon.lines:
        assert line.startswith("time=") and line.endswith("\n")
        assert all(" " <= c < "\x7f" for c in line[:-1]), line
        assert " event=forged" not in line.split(" ")[2]


def test_one_line_per_request_with_timings_and_trace(proto):
    process = subprocess.Popen(
        [BIN / "based-server", f"--model={TINY}", "--backend=reference", "--listen=127.0.0.1:0",
         "--metrics_listen=127.0.0.1:0", "--http_listen=127.0.0.1:0", "--log_format=json"],
        stderr=subprocess.PIPE, text=True)
    events = []
    for line in process.stderr:
        events.append(json.loads(line))
        if events[-1]["event"] == "ready":
            break
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with grpc.insecure_channel(events[-1]["grpc"]) as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        traced = ("traceparent", f"00-{trace}-{parent}-01")
        list(stub.Generate(request_of(proto, 3), metadata=[("x-request-id", "mine"), traced]))
        score = proto.completion.ScoreRequest()
        pair = score.pairs.add()
        pair.context_ids.ids[:] = [1, 2]
        pair.continuation_ids.ids[:] = [3]
        for model in ("", "another"):
            score.model = model
            try:
                stub.Score(score, metadata=[("x-request-id", f"score{model}"), traced])
            except grpc.RpcError as error:
                assert (model, error.code()) == ("another", grpc.StatusCode.NOT_FOUND)
    process.send_signal(signal.SIGTERM)
    events += [json.loads(line) for line in process.stderr]
    assert process.wait(20) == 0
    [event] = [event for event in events if event["event"] == "generate"]
    assert event["request_id"] == "mine" and event["code"] == "OK"
    assert event["trace_id"] == trace and event["parent_id"] == parent
    assert event["finish_reason"] == "max_tokens" and event["generated_tokens"] == 3
    assert event["total_us"] >= event["prefill_us"] + event["decode_us"] > 0
    scored = {e["request_id"]: e for e in events if e["event"] == "score"}
    assert {name: e["code"] for name, e in scored.items()} == {"score": "OK",
                                                               "scoreanother": "NOT_FOUND"}
    assert all(e["trace_id"] == trace and e["pairs"] == 1 for e in scored.values())
    # The requests' own lines may come after the signal.
    life = [e["event"] for e in events if e["event"] not in ("generate", "score")]
    assert life == ["listening", "ready", "draining", "stopped"]


# --- keys and TLS under attack


def test_key_guessing_beside_an_honest_client(start_daemon, proto, tmp_path):
    key, entry = new_key(tenant="a")
    path = tmp_path / "access.json"
    write_access(path, [entry])
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", f"--access_file={path}")
    stop, guesses = threading.Event(), []

    def guess():
        with daemon.channel() as channel:
            while not stop.is_set():
                try:
                    generate(channel, proto, f"based_{len(guesses):043d}")
                    guesses.append("in")
                except grpc.RpcError as error:
                    guesses.append(error.code())

    thread = threading.Thread(target=guess)
    thread.start()
    with daemon.channel() as channel:
        for _ in range(50):
            assert generate(channel, proto, key) == 2
    stop.set()
    thread.join()
    assert len(guesses) > 20 and set(guesses) == {grpc.StatusCode.UNAUTHENTICATED}


def test_handshakes_that_never_end(start_daemon, proto, tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", f"--tls_cert={cert}",
                          f"--tls_key={key}")
    host, port = daemon.address.rsplit(":", 1)
    stuck = []
    for i in range(200):
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall([b"", b"\x16\x03\x01", b"\x16\x03\x01\x40\x00" + b"\1" * 100][i % 3])
        stuck.append(connection)
    with tls_channel(daemon, authority) as channel:
        assert generate(channel, proto) == 2
    for connection in stuck:
        connection.close()

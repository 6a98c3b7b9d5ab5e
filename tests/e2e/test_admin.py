"""AdminService, the debug pages, and the daemon's states from load to exit."""

import json
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from conftest import BIN, DEMO, ROOT, TINY
from raw_http2 import DATA, END_STREAM, GOAWAY, HEADERS, Connection
from test_access import code_of, generate, new_key, wait_for_line, write_access

sys.path.insert(0, str(ROOT / "tests" / "bench"))
import start_bench  # noqa: E402

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def admin_proto(proto):
    from based.v1 import admin_pb2, admin_pb2_grpc

    class Modules:
        pb = admin_pb2
        rpc = admin_pb2_grpc

    return Modules


def address_of(daemon, name):
    line = next(line for line in daemon.lines if "event=ready" in line)
    return line.split(f" {name}=")[1].split()[0]


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def keys():
    return {"admin": new_key(tenant="a", permissions="admin"), "user": new_key(tenant="a")}


@pytest.fixture(scope="module")
def daemon(start_daemon, keys, tmp_path_factory):
    path = tmp_path_factory.mktemp("admin") / "access.json"
    write_access(path, [entry for _, entry in keys.values()])
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", f"--access_file={path}",
                          "--admin_listen=127.0.0.1:0", "--slots=2")
    daemon.access = path
    return daemon


def running(stub, proto, key, request_id):
    request = proto.completion.GenerateRequest(token_ids=proto.completion.TokenIds(ids=[1, 2]))
    request.stop.max_tokens, request.stop.ignore_eos = 1_000_000, True
    # Without a deadline: one that the queue cannot meet is refused at once.
    return stub.Generate(request, metadata=[("authorization", f"Bearer {key}"),
                                            ("x-request-id", request_id)])


def test_status_limits_reload_and_profile(daemon, proto, admin_proto, keys):
    key = [("authorization", f"Bearer {keys['admin'][0]}")]
    pb = admin_proto.pb
    with grpc.insecure_channel(address_of(daemon, "admin")) as channel, daemon.channel() as main:
        admin = admin_proto.rpc.AdminServiceStub(channel)
        completion = proto.completion_grpc.CompletionServiceStub(main)
        calls = []
        for i in range(3):
            calls.append(running(completion, proto, keys["user"][0], f"live-{i}"))
            if i < 2:  # Started and a Delta; the third waits for a slot
                next(calls[i])
                next(calls[i])
        end = time.monotonic() + 10
        while len((status := admin.GetStatus(pb.GetStatusRequest(), metadata=key)).requests) < 3:
            assert time.monotonic() < end
        assert status.state == pb.STATE_READY and status.slots_total == 2
        assert status.slots_active == 2 and status.queued_requests == 1
        phases = {request.request_id: request.phase for request in status.requests}
        assert phases == {"live-0": "decode", "live-1": "decode", "live-2": "queued"}
        assert all(request.tenant == "a" and request.age_s > 0 for request in status.requests)
        assert {tenant.name for tenant in status.tenants} == {"a", "b"}

        view = json.loads(daemon.get("/debug.json"))
        assert {request["request_id"] for request in view["requests"]} == set(phases)
        assert view["state"] == "ready" and view["slots"]["free"] == 0
        assert "live-2" in daemon.get("/debug") and "<script" not in daemon.get("/debug")

        profile = admin.Profile(pb.ProfileRequest(window_s=60), metadata=key)
        assert profile.steps > 0 and profile.sequences > 0
        named = {phase.name: phase for phase in profile.phases}
        assert set(named) == {"plan", "launch", "collect", "commit", "step"}
        assert 0 < named["step"].p50_us <= named["step"].p99_us <= named["step"].max_us
        for call in calls:
            call.cancel()

        limits = pb.TenantLimits(name="a", weight=3, max_concurrent=7)
        admin.SetLimits(pb.SetLimitsRequest(limits=limits), metadata=key)
        status = admin.GetStatus(pb.GetStatusRequest(), metadata=key)
        assert [t.weight for t in status.tenants if t.name == "a"] == [3]
        bad = pb.SetLimitsRequest(limits=pb.TenantLimits(name="a", weight=-1))
        assert code_of(admin.SetLimits, bad, metadata=key) == grpc.StatusCode.INVALID_ARGUMENT
        unknown = pb.SetLimitsRequest(limits=pb.TenantLimits(name="nobody"))
        assert code_of(admin.SetLimits, unknown, metadata=key) == grpc.StatusCode.NOT_FOUND

        admin.ReloadAccess(pb.ReloadAccessRequest(), metadata=key)
        status = admin.GetStatus(pb.GetStatusRequest(), metadata=key)
        assert [t.weight for t in status.tenants if t.name == "a"] == [1]
        good = daemon.access.read_text()
        daemon.access.write_text("{}x")
        code = code_of(admin.ReloadAccess, pb.ReloadAccessRequest(), metadata=key)
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        daemon.access.write_text(good)
        wait_for_line(daemon, "event=admin", "method=SetLimits", "code=OK")


def test_admin_asks_for_the_permission(daemon, admin_proto, keys):
    pb = admin_proto.pb
    with grpc.insecure_channel(address_of(daemon, "admin")) as channel:
        admin = admin_proto.rpc.AdminServiceStub(channel)
        for call, message in ((admin.GetStatus, pb.GetStatusRequest()),
                              (admin.ReloadAccess, pb.ReloadAccessRequest()),
                              (admin.SetLimits, pb.SetLimitsRequest()),
                              (admin.Drain, pb.DrainRequest()),
                              (admin.Profile, pb.ProfileRequest())):
            assert code_of(call, message) == grpc.StatusCode.UNAUTHENTICATED
            user = [("authorization", f"Bearer {keys['user'][0]}")]
            assert code_of(call, message, metadata=user) == grpc.StatusCode.PERMISSION_DENIED


def services_at(address):
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        reply = next(stub.ServerReflectionInfo(iter([request])))
        return {service.name for service in reply.list_services_response.service}


def test_admin_and_channelz_are_on_their_own_address_alone(daemon):
    admin = services_at(address_of(daemon, "admin"))
    assert {"based.v1.AdminService", "grpc.channelz.v1.Channelz"} <= admin
    assert "based.v1.CompletionService" not in admin
    main = services_at(daemon.address)
    assert not {"based.v1.AdminService", "grpc.channelz.v1.Channelz"} & main


def test_clients_do_not_keep_the_operator_out(start_daemon, admin_proto):
    """More connections of clients, and more of the operator in turn, than AdminService takes at a
    time."""
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--admin_listen=127.0.0.1:0")
    host, port = daemon.address.rsplit(":", 1)
    clients = [socket.create_connection((host, int(port)), timeout=10) for _ in range(80)]
    for i in range(100):
        with grpc.insecure_channel(address_of(daemon, "admin"),
                                   options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            admin = admin_proto.rpc.AdminServiceStub(channel)
            # The connections that have gone are counted every half second.
            status = admin.GetStatus(admin_proto.pb.GetStatusRequest(), wait_for_ready=True,
                                     timeout=30)
            assert status.state == admin_proto.pb.STATE_READY
            if i == 0:  # channelz: the servers of the process, a message of its own
                servers = channel.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
                assert len(servers(b"", timeout=10)) > 10
    for client in clients:
        client.close()


def test_debug_pages_take_only_get(daemon):
    request = urllib.request.Request(f"http://{daemon.metrics_address}/debug", method="POST")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)
    assert error.value.code == 405


def test_drain_ends_the_daemon(start_daemon, admin_proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--admin_listen=127.0.0.1:0")
    with grpc.insecure_channel(address_of(daemon, "admin")) as channel:
        admin_proto.rpc.AdminServiceStub(channel).Drain(admin_proto.pb.DrainRequest())
    assert daemon.wait() == 0
    assert any("event=stopped" in line and "complete=true" in line for line in daemon.lines)


# --- states


def start_raw(*flags):
    return subprocess.Popen([BIN / "based-server", "--metrics_listen=", "--http_listen=", *flags],
                            stderr=subprocess.PIPE, text=True)


def test_health_says_not_serving_while_the_model_loads(proto):
    """Watched from the first moment: NOT_SERVING, then SERVING, and calls say why."""
    address = f"127.0.0.1:{free_port()}"
    process = start_raw(f"--model={DEMO}", "--backend=cpu", f"--listen={address}")
    assert "event=listening" in process.stderr.readline()
    states, codes = [], set()
    with grpc.insecure_channel(address) as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        request = proto.completion.GenerateRequest(text=b"a")
        request.stop.max_tokens = 1
        for reply in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
            states.append(reply.status)
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                break
            try:
                list(stub.Generate(request))
            except grpc.RpcError as error:
                codes.add((error.code(), error.details()))
        assert list(stub.Generate(request))
    assert states[-1] == health_pb2.HealthCheckResponse.SERVING
    assert set(states[:-1]) <= {NOT_SERVING}
    assert codes <= {(grpc.StatusCode.UNAVAILABLE, "the model is loading")}
    process.terminate()
    assert process.wait(20) == 0


def test_sigterm_while_loading_ends_at_once(tmp_path):
    start_bench.make(tmp_path, d_model=1024, sparse=True)  # takes long enough to load
    process = start_raw(f"--model={tmp_path}", "--backend=cpu", "--slots=1",
                        "--listen=127.0.0.1:0")
    assert "event=listening" in process.stderr.readline()
    process.terminate()
    assert process.wait(20) == 0
    assert "event=ready" not in process.stderr.read()


def test_grace_takes_requests_while_health_says_no(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--drain_grace_ms=2000")
    states = queue.Queue()
    with daemon.channel() as channel:

        def watch():
            try:
                for reply in health_pb2_grpc.HealthStub(channel).Watch(
                        health_pb2.HealthCheckRequest()):
                    states.put(reply.status)
            except grpc.RpcError:
                pass  # the server went away

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert states.get(timeout=10) != NOT_SERVING
        daemon.signal(signal.SIGTERM)
        assert states.get(timeout=10) == NOT_SERVING
        assert generate(channel, proto) == 2
        assert daemon.wait() == 0
        watcher.join(10)
    assert any("event=draining" in line and "grace_ms=2000" in line for line in daemon.lines)


def test_a_second_signal_stops_now(start_daemon):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--drain_grace_ms=60000")
    daemon.signal(signal.SIGTERM)
    wait_for_line(daemon, "event=draining")
    daemon.signal(signal.SIGINT)
    assert daemon.wait(10) == 1


def test_connections_are_told_when_the_daemon_goes(start_daemon, proto):
    """GOAWAY as it comes over the wire: first for every stream there may be, then with the last one
    that was taken, and the connection ends; not before what runs has ended."""
    daemon = start_daemon(f"--model={TINY}", "--backend=reference")
    request = proto.completion.GenerateRequest(token_ids=proto.completion.TokenIds(ids=[1, 2]))
    request.stop.max_tokens, request.stop.ignore_eos = 300, True
    with Connection(daemon) as idle, Connection(daemon) as busy:
        busy.call(1, request.SerializeToString())
        next(one for one in busy.frames() if one[0] == DATA)
        daemon.signal(signal.SIGTERM)
        for connection, last_stream in ((idle, 0), (busy, 1)):
            heard = [(kind, payload) for kind, flags, _, payload in connection.frames()
                     if kind == GOAWAY or kind == HEADERS and flags & END_STREAM]
            no_error = struct.pack(">I", 0)
            goaways = [payload[:8] for kind, payload in heard if kind == GOAWAY]
            assert goaways == [struct.pack(">I", 0x7FFFFFFF) + no_error,
                               struct.pack(">I", last_stream) + no_error]
            if connection is busy:
                assert heard[0][0] == HEADERS
        assert daemon.wait() == 0


def test_old_connections_are_asked_to_close_and_calls_go_on(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--max_connection_age_s=1")
    with daemon.channel() as channel:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert generate(channel, proto) == 2
            time.sleep(0.1)
    ports = {line.split(" peer=")[1].split()[0] for line in daemon.lines if " peer=" in line}
    assert len(ports) > 1

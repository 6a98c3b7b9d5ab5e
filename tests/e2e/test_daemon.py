"""The daemon's life: start, health, drain, and what it refuses to start with."""

import json
import os
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import urllib.error

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from conftest import BIN, DEMO, ROOT, TINY, run_based, run_server

SERVICE = "based.v1.CompletionService"


def endless(proto):
    request = proto.completion.GenerateRequest(token_ids=proto.completion.TokenIds(ids=[1, 2]))
    request.stop.max_tokens = 1_000_000
    request.stop.ignore_eos = True
    return request


def test_health_and_reflection(tiny):
    with tiny.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        reply = next(reflection.ServerReflectionInfo(iter([request])))
        names = {service.name for service in reply.list_services_response.service}
    assert {SERVICE, "based.v1.ModelService", "based.v1.TokenizerService",
            "grpc.health.v1.Health"} <= names


def test_metrics_and_probes(tiny):
    metrics = tiny.get("/metrics")
    for series in (
        'based_state_slots{state="free"}',
        "based_state_slot_bytes",
        "based_state_pool_bytes",
        "based_queued_requests",
        "based_queued_tokens",
        "based_predicted_wait_seconds",
        "based_parks_total",
        "based_resumes_total",
        'based_tenant_tokens_total{tenant=""}',
        'based_requests_total{code="OK",finish_reason="max_tokens"}',
        'based_requests_total{code="CANCELLED",finish_reason="none"}',
        'based_rejections_total{code="INVALID_ARGUMENT",reason="request"}',
        'based_cancellations_total{cause="client"}',
        "based_preemptions_total",
        'based_time_to_first_token_seconds_bucket{priority="interactive",le="0.0001"}',
        'based_inter_token_latency_seconds_count{priority="batch"}',
        "based_step_seconds_count",
        'based_step_tokens_count{phase="prefill"}',
        "based_process_resident_memory_bytes",
    ):
        assert "\n" + series + " " in metrics, series
    assert tiny.metric("based_preemptions_total") == 0
    assert tiny.get("/healthz") == "ok\n"
    assert "/metrics" in tiny.get("/")
    with pytest.raises(urllib.error.HTTPError) as error:
        tiny.get("/nothing")
    assert error.value.code == 404


def test_a_request_that_holds_its_messages_back_decodes(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=2")
    request = proto.completion.GenerateRequest(token_ids=proto.completion.TokenIds(ids=[1, 2, 3]))
    request.stop.max_tokens = 1_000_000
    request.stop.ignore_eos = True
    request.output.tokens_per_message = 65_536
    with daemon.channel() as channel:
        call = proto.completion_grpc.CompletionServiceStub(channel).Generate(request)
        daemon.wait_for_metric('based_live_requests{phase="decode"}', 1)
        shown, = json.loads(daemon.get("/debug.json"))["requests"]
        assert shown["phase"] == "decode" and shown["generated_tokens"] == 0
        call.cancel()


def test_a_name_that_is_no_text_is_refused():
    # Clients could not name it, and no scrape with it could be read.
    refused = run_server(f"--model={TINY}", os.fsdecode(b"--model_name=caf\xe9"), "--listen=127.0.0.1:0",
                         "--metrics_listen=", "--http_listen=")
    assert refused.returncode == 1, refused.stderr
    assert "the model's name is 'caf\\xe9'; expected UTF-8" in refused.stderr


def test_model_and_capacity(tiny, proto):
    with tiny.channel() as channel:
        stub = proto.model_grpc.ModelServiceStub(channel)
        model = stub.GetModel(proto.model.GetModelRequest())
        capacity = stub.GetCapacity(proto.model.GetCapacityRequest())
    assert model.name == "tiny-a" and model.vocab_size == 61 and len(model.layers) == 6
    assert model.parameters == 415_936 and not model.has_tokenizer
    assert capacity.slots_total == 64 == capacity.slots_active + capacity.slots_free
    assert capacity.pool_bytes == 64 * capacity.slot_bytes


def test_sigterm_tells_watchers_lets_streams_go_on_then_cuts_them(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--drain_timeout_ms=1500")
    statuses = queue.Queue()
    with daemon.channel() as channel:

        def watch():
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                for reply in stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
                    statuses.put(reply.status)
            except grpc.RpcError:
                pass  # the server went away

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert statuses.get(timeout=10) == health_pb2.HealthCheckResponse.SERVING
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        running = stub.Generate(endless(proto))
        next(running)
        daemon.signal(signal.SIGTERM)
        assert statuses.get(timeout=10) == health_pb2.HealthCheckResponse.NOT_SERVING
        next(running)
        with pytest.raises(grpc.RpcError) as error:
            for _ in running:
                pass
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert daemon.wait() == 0
        watcher.join(10)
    assert any("event=stopped" in line and "complete=false" in line for line in daemon.lines)


def test_sigterm_lets_short_streams_finish(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference")
    request = endless(proto)
    request.stop.max_tokens = 300
    with daemon.channel() as channel:
        call = proto.completion_grpc.CompletionServiceStub(channel).Generate(request)
        next(call)
        daemon.signal(signal.SIGTERM)
        assert list(call)[-1].done.usage.generated_tokens == 300
    assert daemon.wait() == 0


def test_a_log_that_nobody_reads_any_more_is_no_reason_to_end(proto):
    process = subprocess.Popen(
        [BIN / "based-server", f"--model={TINY}", "--backend=reference", "--listen=127.0.0.1:0",
         "--metrics_listen=", "--http_listen="], stderr=subprocess.PIPE, text=True)
    ready = next(line for line in process.stderr if "event=ready" in line)
    process.stderr.close()
    request = endless(proto)
    request.stop.max_tokens = 2
    with grpc.insecure_channel(re.search(r" grpc=(\S+)", ready).group(1)) as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        for _ in range(2):  # the first writes a line to nobody
            assert list(stub.Generate(request))[-1].done.usage.generated_tokens == 2
    process.terminate()
    assert process.wait(30) == 0


def test_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag, other in (("listen", "metrics_listen"), ("metrics_listen", "listen")):
            ended = run_server(f"--model={TINY}", "--backend=reference", f"--{flag}={address}",
                               f"--{other}=127.0.0.1:0")
            assert ended.returncode == 1
            assert address in ended.stderr and f"--{flag}" in ended.stderr
            assert ended.stderr.count("\n") == 1


def test_two_daemons_do_not_share_a_port(tiny):
    ended = run_server(f"--model={TINY}", "--backend=reference", f"--listen={tiny.address}",
                       "--metrics_listen=127.0.0.1:0")
    assert ended.returncode == 1
    assert tiny.address in ended.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--slots=many"],
        ["--slots=0"],
        ["--memory_budget=lots"],
        ["--backend=tpu"],
        ["--listen=7433"],
        ["--metrics_listen=127.0.0.1:99999"],
        ["--threads=-1"],
        ["--threads=x"],
        ["--log_level=loud"],
        ["--no_such_flag"],
        ["stray"],
        ["--max_queue"],
        ["--log_format=xml"],
        ["--admin_listen=7434"],
        ["--tls_cert=server.pem"],
        ["--tls_client_ca=ca.pem"],
        ["--drain_grace_ms=-1"],
        ["--max_header_bytes=1"],
        ["--keepalive_time_ms=0"],
        ["--max_connection_age_s=-1"],
    ],
)
def test_wrong_flags_end_with_status_2(flags):
    ended = run_server(*flags)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert flags[0].split("=")[0].lstrip("-") in ended.stderr


def test_help_and_version():
    for flag in ("--slots", "--memory_budget", "--listen"):
        assert flag in run_server("--help").stdout
    assert run_server("--version").stdout.startswith("based-server ")
    assert "perplexity" in run_based("--help").stdout
    assert "--top_p" in run_based("generate", "--help").stdout


def test_no_memory_for_one_slot():
    ended = run_server(f"--model={TINY}", "--backend=reference", "--memory_budget=1000")
    assert ended.returncode == 1
    assert "1000" in ended.stderr


@pytest.fixture()
def copy(tmp_path):
    """A copy of the tiny checkpoint to spoil."""
    target = tmp_path / "model"
    shutil.copytree(TINY, target)
    return target


def edit_config(path, change):
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))


def edit_header(path, change):
    """Rewrites the JSON header of model.safetensors, and leaves the data as it is."""
    data = (path / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def truncate(path):
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[: len(data) // 2])


def nan_weights(path):
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-4:] = struct.pack("<f", float("nan"))
    (path / "model.safetensors").write_bytes(bytes(data))


def first_weight(header):
    return next(value for name, value in header.items() if name != "__metadata__")


SPOILERS = {
    "no config": lambda p: (p / "config.json").unlink(),
    "config is no JSON": lambda p: (p / "config.json").write_text("{"),
    "field missing": lambda p: edit_config(p, lambda c: c.pop("n_embd")),
    "field of the wrong type": lambda p: edit_config(p, lambda c: c.update(n_embd="64")),
    "no weights": lambda p: (p / "model.safetensors").unlink(),
    "truncated": truncate,
    "length of header lies": lambda p: (p / "model.safetensors").write_bytes(b"\xff" * 64),
    "NaN weights": nan_weights,
    "wrong dtype": lambda p: edit_header(p, lambda h: first_weight(h).update(dtype="I32")),
    "offsets past the end": lambda p: edit_header(
        p, lambda h: first_weight(h).update(data_offsets=[0, 1 << 40])
    ),
    "overlapping": lambda p: edit_header(
        p, lambda h: [v.update(data_offsets=[0, v["data_offsets"][1] - v["data_offsets"][0]])
                      for n, v in h.items() if n != "__metadata__"]
    ),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_bad_model_directories_are_refused(copy, name):
    SPOILERS[name](copy)
    ended = run_server(f"--model={copy}", "--backend=reference", "--listen=127.0.0.1:0",
                       "--metrics_listen=127.0.0.1:0")
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("based-server: ")
    assert str(copy) in ended.stderr


def test_tokenizer_that_disagrees_with_the_vocabulary():
    if not (DEMO / "tokenizer.json").exists():
        pytest.fail("models/demo is missing: the repository ships it")
    ended = run_server(f"--model={TINY}", f"--tokenizer={DEMO}", "--backend=reference")
    assert ended.returncode == 1
    assert "61" in ended.stderr


@pytest.mark.parametrize("fixture", ["tiny-a", "tiny-b"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_verify_on_the_golden_fixtures(tmp_path, fixture, backend):
    model = ROOT / "tests" / "golden" / fixture
    dump = tmp_path / "logits.safetensors"
    ended = run_based("verify", "--model", model, "--golden", model / "golden.safetensors",
                      "--backend", backend, "--dump", dump)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    last = ended.stdout.splitlines()[-1]
    assert last.startswith("rel_err=") and last.endswith("greedy_match=256/256")
    assert dump.exists()


def test_verify_fails_on_spoilt_weights(copy):
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-4:] = struct.pack("<f", 3.0)
    (copy / "model.safetensors").write_bytes(bytes(data))
    ended = run_based("verify", "--model", copy, "--golden", copy / "golden.safetensors",
                      "--backend", "reference")
    assert ended.returncode == 1
    assert "rel_err" in ended.stderr

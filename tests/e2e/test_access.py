"""Keys, certificates and who may listen where."""

import json
import os
import shutil
import signal
import socket
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certificates import Authority
from conftest import TINY, Daemon, run_based, run_server


def request_of(proto, max_tokens=2, tenant=""):
    request = proto.completion.GenerateRequest(
        token_ids=proto.completion.TokenIds(ids=[1, 2]), tenant=tenant)
    request.stop.max_tokens = max_tokens
    return request


def new_key(**entry):
    """(key, its entry for the access file), made by `based keygen`."""
    flags = [f"--{name}={value}" for name, value in entry.items()]
    ended = run_based("keygen", *flags)
    assert ended.returncode == 0, ended.stderr
    key, line = ended.stdout.splitlines()
    return key, json.loads(line)


def write_access(path, entries, tenants=("a", "b")):
    path.write_text(json.dumps({"tenants": [{"name": name} for name in tenants], "keys": entries}))
    path.chmod(0o600)


def generate(channel, proto, key=None, **fields):
    """The number of tokens generated; raises grpc.RpcError."""
    metadata = [] if key is None else [("authorization", f"Bearer {key}")]
    stub = proto.completion_grpc.CompletionServiceStub(channel)
    call = stub.Generate(request_of(proto, **fields), metadata=metadata, timeout=20)
    return list(call)[-1].done.usage.generated_tokens


def code_of(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **options)
    return error.value.code()


def wait_for_line(daemon, *parts, limit_s=10):
    end = time.monotonic() + limit_s
    while not (found := [x for x in list(daemon.lines) if all(part in x for part in parts)]):
        assert time.monotonic() < end, f"no line with {parts}:\n" + "".join(daemon.lines)
        time.sleep(0.02)
    return found[-1]


@pytest.fixture(scope="module")
def keys():
    return {
        "a": new_key(tenant="a"),
        "b": new_key(tenant="b", permissions="generate,admin"),
        "sessions": new_key(tenant="a", permissions="sessions"),
        "old": new_key(tenant="a", expires="2001-01-01T00:00:00Z", comment="left"),
    }


@pytest.fixture(scope="module")
def guarded(start_daemon, keys, tmp_path_factory):
    path = tmp_path_factory.mktemp("access") / "access.json"
    write_access(path, [entry for _, entry in keys.values()])
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", f"--access_file={path}")
    daemon.access = path
    return daemon


def test_keys_are_asked_for_and_all_wrong_ones_get_one_answer(guarded, proto, keys):
    with guarded.channel() as channel:
        assert generate(channel, proto, keys["a"][0]) == 2
        answers = set()
        for key in (None, "guess", "", keys["a"][0] + "x", keys["a"][1]["sha256"],
                    keys["old"][0]):
            with pytest.raises(grpc.RpcError) as error:
                generate(channel, proto, key)
            answers.add((error.value.code(), error.value.details()))
        assert len(answers) == 1
        assert answers.pop()[0] == grpc.StatusCode.UNAUTHENTICATED
        # Probes need no key.
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == 1
    for reason in ("missing", "unknown", 'expired: left'):
        wait_for_line(guarded, "event=access_denied", reason)
    assert not any(keys["a"][0] in line or "guess" in line for line in guarded.lines)
    refused = 'based_rejections_total{code="UNAUTHENTICATED",reason="credentials"}'
    assert guarded.metric(refused) == 6


def test_every_service_asks(guarded, proto, keys):
    with guarded.channel() as channel:
        model = proto.model_grpc.ModelServiceStub(channel)
        text = proto.tokenizer_grpc.TokenizerServiceStub(channel)
        score = proto.completion.ScoreRequest()
        completion = proto.completion_grpc.CompletionServiceStub(channel)
        for call, message in (
            (model.GetModel, proto.model.GetModelRequest()),
            (model.GetCapacity, proto.model.GetCapacityRequest()),
            (text.Tokenize, proto.tokenizer.TokenizeRequest(text=b"a")),
            (text.Detokenize, proto.tokenizer.DetokenizeRequest(ids=[1])),
            (completion.Score, score),
        ):
            assert code_of(call, message) == grpc.StatusCode.UNAUTHENTICATED
        metadata = [("authorization", f"Bearer {keys['a'][0]}")]
        assert model.GetModel(proto.model.GetModelRequest(), metadata=metadata).name == "tiny-a"


def test_permissions_and_tenants(guarded, proto, keys):
    with guarded.channel() as channel:
        denied = grpc.StatusCode.PERMISSION_DENIED
        assert code_of(generate, channel, proto, keys["sessions"][0]) == denied
        generate(channel, proto, keys["b"][0])
        wait_for_line(guarded, "event=generate", "tenant=b", "code=OK")
        assert code_of(generate, channel, proto, keys["a"][0], tenant="b") == denied
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        metadata = [("authorization", f"Bearer {keys['a'][0]}"), ("x-tenant", "b")]
        call = stub.Generate(request_of(proto), metadata=metadata)
        assert code_of(list, call) == denied


def test_the_command_sends_its_key(guarded, keys, tmp_path):
    file = tmp_path / "key"
    file.write_text(keys["a"][0] + "\n")
    common = ["info", "--address", guarded.address]
    assert run_based(*common, "--api_key", keys["a"][0]).returncode == 0
    assert run_based(*common, "--api_key_file", file).returncode == 0
    environment = {**os.environ, "BASED_API_KEY": keys["a"][0]}
    assert run_based(*common, env=environment).returncode == 0
    refused = run_based(*common)
    assert refused.returncode == 1 and "UNAUTHENTICATED" in refused.stderr
    missing = run_based(*common, "--api_key_file", tmp_path / "nothing")
    assert missing.returncode == 1 and "nothing" in missing.stderr


def test_sighup_reloads_keys_and_a_bad_file_changes_nothing(start_daemon, proto, keys, tmp_path):
    path = tmp_path / "access.json"
    write_access(path, [keys["a"][1]])
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", f"--access_file={path}")
    with daemon.channel() as channel:
        generate(channel, proto, keys["a"][0])
        path.write_text('{"keys": [{"sha256": "x"}]}')
        daemon.signal(signal.SIGHUP)
        assert "keys[0].sha256" in wait_for_line(daemon, "event=reload_failed")
        generate(channel, proto, keys["a"][0])
        write_access(path, [keys["b"][1]])
        daemon.signal(signal.SIGHUP)
        wait_for_line(daemon, "event=reload ")
        unauthenticated = grpc.StatusCode.UNAUTHENTICATED
        assert code_of(generate, channel, proto, keys["a"][0]) == unauthenticated
        generate(channel, proto, keys["b"][0])
        # A file that asks for no keys does not open the daemon to everybody.
        path.write_text('{"tenants": [{"name": "b"}]}')
        daemon.signal(signal.SIGHUP)
        wait_for_line(daemon, "event=reload_failed", "keys is missing")
        assert code_of(generate, channel, proto) == unauthenticated
    assert daemon.stop() == 0


@pytest.mark.parametrize("text, place", [
    ("{", "line 1"), ('{"keys": []}', "keys"), ('{"tenants": [{"name": "a", "wait": 1}]}', "wait"),
])
def test_a_bad_access_file_is_refused_at_start(tmp_path, text, place):
    path = tmp_path / "access.json"
    path.write_text(text)
    ended = run_server(f"--model={TINY}", f"--access_file={path}", "--listen=127.0.0.1:0",
                       "--metrics_listen=")
    assert ended.returncode == 1
    assert str(path) in ended.stderr and place in ended.stderr
    assert ended.stderr.count("\n") == 1


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_daemon(start_daemon, authority):
    cert, key = authority.issue("server")
    return start_daemon(f"--model={TINY}", "--backend=reference", f"--tls_cert={cert}",
                        f"--tls_key={key}", f"--tls_client_ca={authority.cert}")


def tls_channel(daemon, ca, client=None):
    cert, key = client or (None, None)
    credentials = grpc.ssl_channel_credentials(
        ca.cert.read_bytes(), key and key.read_bytes(), cert and cert.read_bytes())
    return grpc.secure_channel(daemon.address, credentials)


def test_mutual_tls(tls_daemon, authority, proto):
    client = authority.issue("client")
    with tls_channel(tls_daemon, authority, client) as channel:
        assert generate(channel, proto) == 2
    ended = run_based("info", "--address", tls_daemon.address, "--tls_ca", authority.cert,
                      "--tls_cert", client[0], "--tls_key", client[1])
    assert ended.returncode == 0, ended.stderr


def test_bad_certificates_do_not_get_in(tls_daemon, authority, proto, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    attempts = {
        "none": (authority, None),
        "of another authority": (authority, stranger.issue("client")),
        "expired": (authority, authority.issue("expired", days=-1)),
        "a server that is not trusted": (stranger, authority.issue("client2")),
    }
    for name, (ca, client) in attempts.items():
        with tls_channel(tls_daemon, ca, client) as channel:
            assert code_of(generate, channel, proto) == grpc.StatusCode.UNAVAILABLE, name
    with tls_daemon.channel() as plain:
        assert code_of(generate, plain, proto) == grpc.StatusCode.UNAVAILABLE
    with tls_channel(tls_daemon, authority, authority.issue("client3")) as channel:
        assert generate(channel, proto) == 2


def serial_of(daemon):
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, port = daemon.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        with context.wrap_socket(raw) as secured:
            return secured.getpeercert(binary_form=True)


def test_certificates_are_replaced_while_it_runs(start_daemon, authority, proto, tmp_path):
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"

    def install(issued):
        shutil.copy(issued[0], cert)
        shutil.copy(issued[1], key)

    install(authority.issue("first"))
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", f"--tls_cert={cert}",
                          f"--tls_key={key}")
    first = serial_of(daemon)
    with tls_channel(daemon, authority) as running:
        assert generate(running, proto) == 2
        # A pair that does not fit changes nothing.
        shutil.copy(authority.issue("second")[0], cert)
        daemon.signal(signal.SIGHUP)
        assert "not the private key" in wait_for_line(daemon, "event=reload_failed")
        assert serial_of(daemon) == first
        install(authority.issue("third"))
        daemon.signal(signal.SIGHUP)
        wait_for_line(daemon, "event=reload ", "what=certificates")
        assert serial_of(daemon) != first
        assert generate(running, proto) == 2
    # Without a signal, within the seconds of a tick.
    third = serial_of(daemon)
    install(authority.issue("fourth"))
    end = time.monotonic() + 20
    while serial_of(daemon) == third:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert daemon.stop() == 0


@pytest.mark.parametrize("spoil, said", [
    (lambda cert, key, other: (cert, other[1]), "not the private key"),
    (lambda cert, key, other: (key, key), "no certificate"),
    (lambda cert, key, other: (cert, cert), "no private key"),
    (lambda cert, key, other: (cert, "/nowhere/x"), "/nowhere/x"),
])
def test_bad_certificate_files_are_refused_at_start(authority, spoil, said):
    cert, key = spoil(*authority.issue("good"), authority.issue("other"))
    ended = run_server(f"--model={TINY}", f"--tls_cert={cert}", f"--tls_key={key}",
                       "--listen=127.0.0.1:0", "--metrics_listen=")
    assert ended.returncode == 1
    assert said in ended.stderr and ended.stderr.count("\n") == 1


def test_an_expired_certificate_is_refused_at_start(authority):
    cert, key = authority.issue("gone", days=-1)
    ended = run_server(f"--model={TINY}", f"--tls_cert={cert}", f"--tls_key={key}",
                       "--listen=127.0.0.1:0", "--metrics_listen=")
    assert ended.returncode == 1 and "expired" in ended.stderr


# --- where it may listen


def test_beyond_loopback_needs_guards_or_the_flag(authority, keys, tmp_path):
    path = tmp_path / "access.json"
    write_access(path, [keys["a"][1]])
    cert, key = authority.issue("listen")
    tls = [f"--tls_cert={cert}", f"--tls_key={key}"]
    for flags in ([], [f"--access_file={path}"], tls):
        ended = run_server(f"--model={TINY}", "--listen=0.0.0.0:0", "--metrics_listen=", *flags)
        assert ended.returncode == 1
        assert "--listen" in ended.stderr and "--insecure_listen" in ended.stderr
        assert ended.stderr.count("\n") == 1
    common = ["--listen=0.0.0.0:0", f"--model={TINY}", "--backend=reference"]
    for flags in ([*tls, f"--access_file={path}"], [*tls, f"--tls_client_ca={authority.cert}"]):
        daemon = Daemon(*flags, *common)
        assert daemon.stop() == 0
        assert not any("event=insecure_listen" in line for line in daemon.lines)
    daemon = Daemon(*common[1:])  # loopback alone
    assert daemon.stop() == 0
    assert not any("event=insecure_listen" in line for line in daemon.lines)
    for open_flag in ("listen", "http_listen", "admin_listen"):
        addresses = ["--listen=127.0.0.1:0", "--admin_listen=127.0.0.1:0"]
        daemon = Daemon("--insecure_listen", *common[1:], *addresses, f"--{open_flag}=0.0.0.0:0")
        assert daemon.stop() == 0
        warned = [line for line in daemon.lines if "level=warning event=insecure_listen" in line]
        assert len(warned) == 1 and f" flag={open_flag} " in warned[0]

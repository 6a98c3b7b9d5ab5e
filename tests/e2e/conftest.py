"""Starts the real daemon for end-to-end tests. Stubs are made from proto/ at test time."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("BASED_BIN_DIR", ROOT / "build" / "bin"))
TINY = ROOT / "tests" / "golden" / "tiny-a"
DEMO = ROOT / "models" / "demo"
START_LIMIT_S = 60


@pytest.fixture(scope="session")
def proto(tmp_path_factory):
    """Modules generated from the wire contract, as any Python client would make them."""
    from grpc_tools import protoc

    out = tmp_path_factory.mktemp("stubs")
    files = [str(path) for path in sorted((ROOT / "proto" / "based" / "v1").glob("*.proto"))]
    code = protoc.main(
        ["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}", *files]
    )
    assert code == 0
    sys.path.insert(0, str(out))
    from based.v1 import batch_pb2, batch_pb2_grpc
    from based.v1 import completion_pb2, completion_pb2_grpc, model_pb2, model_pb2_grpc
    from based.v1 import session_pb2, session_pb2_grpc, tokenizer_pb2, tokenizer_pb2_grpc

    class Modules:
        batch = batch_pb2
        batch_grpc = batch_pb2_grpc
        completion = completion_pb2
        completion_grpc = completion_pb2_grpc
        model = model_pb2
        model_grpc = model_pb2_grpc
        session = session_pb2
        session_grpc = session_pb2_grpc
        tokenizer = tokenizer_pb2
        tokenizer_grpc = tokenizer_pb2_grpc

    return Modules


class Daemon:
    """One based-server process on free ports."""

    def __init__(self, *flags, program=BIN / "based-server", environment=None):
        self.process = subprocess.Popen(
            [program, "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
             "--http_listen=127.0.0.1:0", *flags],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_LIMIT_S):
            self.process.kill()
            raise RuntimeError("not ready:\n" + "".join(self.lines))
        if self.process.poll() is not None:
            raise RuntimeError("did not start:\n" + "".join(self.lines))
        ready = next(line for line in self.lines if "event=ready" in line)
        self.address = re.search(r" grpc=(\S+)", ready).group(1)
        self.http_address = re.search(r" http=(\S+)", ready).group(1)
        self.metrics_address = re.search(r" metrics=(\S+)", ready).group(1)

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if "event=ready" in line:
                self._ready.set()
        self.process.wait()
        self._ready.set()

    def channel(self):
        return grpc.insecure_channel(self.address)

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.metrics_address}{path}", timeout=10) as reply:
            return reply.read().decode()

    def metric(self, series):
        """Value of one series, spelled as /metrics prints it."""
        for line in self.get("/metrics").splitlines():
            if line.startswith(series + " "):
                return float(line.split()[-1])
        raise KeyError(series)

    def wait_for_metric(self, series, value, limit_s=30):
        end = time.monotonic() + limit_s
        while self.metric(series) != value:
            assert time.monotonic() < end, f"{series} is {self.metric(series)}, not {value}"
            time.sleep(0.05)

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, limit_s=30):
        """Waits for the process to end by itself; returns the exit status."""
        try:
            code = self.process.wait(limit_s)
        finally:
            self.process.kill()
        self._reader.join(10)
        return code


@pytest.fixture(scope="session")
def start_daemon():
    """Makes daemons that are stopped when the session ends."""
    daemons = []

    def start(*flags, environment=None):
        daemons.append(Daemon(*flags, environment=environment))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.stop()


@pytest.fixture(scope="session")
def tiny(start_daemon):
    """The tiny random checkpoint: token ids only, 61 ids, on the reference backend."""
    return start_daemon(f"--model={TINY}", "--backend=reference", "--slots=64")


@pytest.fixture(scope="session")
def demo(start_daemon):
    """The demo model with its tokenizer on the CPU."""
    if not (DEMO / "model.safetensors").exists():
        pytest.fail("models/demo is missing: the repository ships it")
    return start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=64")


def run_based(*arguments, **options):
    """Runs the `based` command to its end."""
    return subprocess.run(
        [BIN / "based", *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def run_server(*flags):
    """Runs a daemon that is expected to end by itself."""
    return subprocess.run(
        [BIN / "based-server", "--http_listen=", *map(str, flags)], capture_output=True, text=True, timeout=60
    )

"""What a service manager hears over NOTIFY_SOCKET, as systemd's Type=notify reads it."""

import os
import signal
import socket
import time
import urllib.request

import pytest

from conftest import TINY, Daemon

LIMIT_S = 30


class Manager:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(LIMIT_S)
        self.environment = dict(os.environ, NOTIFY_SOCKET=str(path))

    def wait_for(self, begin):
        """The next message that begins so, and the messages before it."""
        before, end = [], time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            message = self.socket.recv(4096).decode()
            if message.startswith(begin):
                return message, before
            before.append(message)
        pytest.fail(f"no {begin!r}, but {before}")


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


def test_a_life_as_systemd_hears_it(manager):
    manager.environment["WATCHDOG_USEC"] = "800000"
    daemon = Daemon(f"--model={TINY}", "--backend=reference", "--slots=4",
                    environment=manager.environment)
    try:
        ready, before = manager.wait_for("READY=1")
        # It serves from then on, not only soon.
        with urllib.request.urlopen(f"http://{daemon.metrics_address}/healthz", timeout=10) as reply:
            assert reply.status == 200
        assert before == [f"STATUS=loading {TINY}"]
        assert ready == "READY=1\nSTATUS=serving tiny-a: 0 of 4 slots in use, 0 queued"
        manager.wait_for("WATCHDOG=1")
        manager.wait_for("WATCHDOG=1")
        daemon.signal(signal.SIGHUP)
        reloading, _ = manager.wait_for("RELOADING=1")
        name, value = reloading.split("\n")[1].split("=")
        assert name == "MONOTONIC_USEC"
        assert abs(int(value) / 1e6 - time.clock_gettime(time.CLOCK_MONOTONIC)) < LIMIT_S
        manager.wait_for("READY=1")
        daemon.signal(signal.SIGTERM)
        stopping, _ = manager.wait_for("STOPPING=1")
        assert stopping == "STOPPING=1\nSTATUS=draining"
        assert daemon.wait() == 0
    finally:
        daemon.process.kill()


def test_a_model_that_cannot_be_loaded_is_never_ready(manager, tmp_path):
    with pytest.raises(RuntimeError, match="did not start"):
        Daemon(f"--model={tmp_path}", "--backend=reference", environment=manager.environment)
    manager.socket.setblocking(False)
    messages = []
    try:
        while True:
            messages.append(manager.socket.recv(4096).decode())
    except BlockingIOError:
        pass
    assert messages == [f"STATUS=loading {tmp_path}"]

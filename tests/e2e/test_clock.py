"""A wall clock that is set while the daemon runs: durations, deadlines and metrics stay what they
are. Debian's libfaketime gives one process a clock of its own."""

import glob
import json
import os
import re
import time

import grpc
import pytest

from conftest import TINY, Daemon

DAY_S = 86_400
LIMIT_S = 30


class Clock:
    """The daemon's wall clock, off by as many seconds as the file says; the steady one is left."""

    def __init__(self, folder):
        libraries = sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("libfaketime is not installed")
        self.file = folder / "clock"
        self.set(0)
        self.environment = dict(
            os.environ, LD_PRELOAD=libraries[0], FAKETIME_TIMESTAMP_FILE=str(self.file),
            FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1")

    def set(self, offset_s):
        other = self.file.with_suffix(".new")
        other.write_text(f"{offset_s:+d}\n")
        other.rename(self.file)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


@pytest.fixture
def daemon(clock):
    daemon = Daemon(f"--model={TINY}", "--backend=reference", "--slots=4",
                    environment=clock.environment)
    yield daemon
    assert daemon.stop() == 0


def stream(daemon, proto, max_tokens, timeout):
    request = proto.completion.GenerateRequest(token_ids=proto.completion.TokenIds(ids=[1, 2]))
    request.stop.max_tokens = max_tokens
    request.stop.ignore_eos = True
    request.output.token_ids = True
    return proto.completion_grpc.CompletionServiceStub(daemon.channel()).Generate(
        request, timeout=timeout)


def last_log_time(daemon):
    return re.match(r"time=(\S+)Z", daemon.lines[-1]).group(1)


def sums_of_seconds(daemon):
    return {line.split()[0]: float(line.split()[1]) for line in daemon.get("/metrics").splitlines()
            if re.match(r"based_\w+_seconds_(sum|total)\b", line)}


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_jump_moves_neither_durations_nor_deadlines(clock, daemon, proto, jump_s):
    running = stream(daemon, proto, 1_000_000, LIMIT_S)
    while not next(running).HasField("delta"):
        pass
    before = last_log_time(daemon)
    clock.set(jump_s)
    # The clock has jumped for the daemon: its log says so.
    list(stream(daemon, proto, 3, LIMIT_S))
    end = time.monotonic() + LIMIT_S
    while (last_log_time(daemon) > before) != (jump_s > 0) or last_log_time(daemon) == before:
        assert time.monotonic() < end, daemon.lines[-1]
        time.sleep(0.02)

    # What ran goes on, a client that leaves has cancelled and was not late, and a deadline of a
    # second after the jump is a second.
    assert next(running).HasField("delta")
    running.cancel()
    daemon.wait_for_metric('based_cancellations_total{cause="client"}', 1)
    assert daemon.metric('based_cancellations_total{cause="deadline"}') == 0
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as error:
        list(stream(daemon, proto, 1_000_000, 1))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begin >= 0.9
    daemon.wait_for_metric('based_cancellations_total{cause="deadline"}', 1)

    assert all(0 <= value < 600 for value in sums_of_seconds(daemon).values())
    view = json.loads(daemon.get("/debug.json"))
    assert 0 < view["uptime_s"] < 600
    assert view["ended"] and all(0 <= ended["total_s"] < 600 and 0 <= ended["ago_s"] < 600
                                 for ended in view["ended"])
    assert daemon.metric("based_predicted_wait_seconds") < 600

"""Clients that mean harm, in small: tests/bench/hostile_clients.py runs the same at full size."""

import sys

import pytest

from conftest import ROOT, TINY

sys.path.insert(0, str(ROOT / "tests" / "bench"))
import hostile_clients  # noqa: E402


@pytest.fixture(scope="module")
def daemon(start_daemon):
    return start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=16", "--max_connections=500",
                        "--stream_queue=2", "--write_timeout_ms=1000")


def test_silent_connections(daemon, proto):
    hostile_clients.silent_connections(daemon, proto, 300)


def test_connections_above_the_limit_are_closed_and_the_rest_goes_on(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=4", "--max_connections=60")
    hostile_clients.above_the_limit(daemon, proto, 60)


def test_slow_readers_are_ended_and_leave_nothing(daemon, proto):
    hostile_clients.slow_readers(daemon, proto, 8)


def test_half_open_connections_are_closed(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=4",
                          "--keepalive_time_ms=1000", "--keepalive_timeout_ms=1000")
    hostile_clients.half_open(daemon, proto, 50, 30)


def test_oversized_message_names_the_limit(daemon, proto):
    hostile_clients.oversized_message(daemon, proto)


def test_connects_and_disconnects(daemon, proto):
    hostile_clients.churn(daemon, proto, 300, 3)


def test_calls_that_leave_at_once(daemon, proto):
    hostile_clients.requests_churn(daemon, proto, 4, 3)

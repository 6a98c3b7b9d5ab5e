"""`based bench` against real daemons: what it counts, not how fast they are."""

import hashlib
import json
import os
import signal
import subprocess
import time

import grpc
import pytest
from conftest import BIN, TINY, run_based
from test_batch import moody  # noqa: F401, a fixture

SHORT = ["--warmup=0", "--duration=60", "--prompt_length=uniform:2,9", "--output_length=4"]
FINISHED = 'based_e2e_request_seconds_count{priority="interactive"}'
both_ways = pytest.mark.parametrize("way", ["grpc", "http"])


def flag_of(daemon, way):
    return f"--http=http://{daemon.http_address}" if way == "http" else f"--address={daemon.address}"


def bench(daemon, tmp_path, *flags, way="grpc", **options):
    output = tmp_path / "bench.json"
    done = run_based("bench", flag_of(daemon, way), f"--output={output}", *flags, **options)
    return done, json.loads(output.read_text()) if output.exists() else None


@both_ways
def test_closed_loop_counts_requests_and_tokens(tiny, tmp_path, way):
    page = tmp_path / "bench.html"
    two = ["--connections=2"] if way == "grpc" else []
    done, report = bench(tiny, tmp_path, *SHORT, "--requests=50", "--concurrency=8",
                         "--prefixes=2", "--prefix_length=5", f"--html={page}", *two, way=way)
    assert done.returncode == 0, done.stderr
    assert "throughput" in done.stdout and "p99.9" in done.stdout
    assert report["requests"] == report["ok"] == 50
    assert report["output_tokens"] == 200
    assert 50 * 7 <= report["prompt_tokens"] <= 50 * 14
    assert report["ttft_ms"]["count"] == report["e2e_ms"]["count"] == 50
    # A stalled reader gets several tokens in one message, which is one gap less.
    assert 0 < report["itl_ms"]["count"] <= 150
    assert 0 < report["ttft_ms"]["p50"] <= report["ttft_ms"]["p99"] <= report["e2e_ms"]["max"]
    assert report["client_us_per_token"] > 0 and report["errors"] == {}
    served = {"grpc": "tiny-a on reference", "http": "tiny-a"}[way]
    assert report["settings"]["served"].startswith(served)
    text = page.read_text()
    assert text.count("<svg") == 4 and "src=" not in text
    assert text.count("://") == (2 if way == "http" else 0)  # the settings tell where the load went
    assert sorted(tmp_path.iterdir()) == [page, tmp_path / "bench.json"]


@both_ways
def test_open_loop_and_trace(tiny, tmp_path, way):
    done, report = bench(tiny, tmp_path, *SHORT, "--rate=200", "--arrivals=fixed",
                         "--requests=40", "--goodput=ttft:60000", way=way)
    assert done.returncode == 0, done.stderr
    assert report["ok"] == 40 and report["good_share"] == 1 and report["keeps_limits"]
    assert 39 / 200 <= report["seconds"] < 60
    assert abs(report["output_tokens_per_s"] * report["seconds"] - 160) < 1e-6
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(
        json.dumps({"arrival_s": i / 50, "prompt_tokens": 3, "output_tokens": 1 + i}) + "\n"
        for i in range(5)))
    done, report = bench(tiny, tmp_path, "--warmup=0", f"--trace={trace}", way=way)
    assert report["requests"] == 5 and report["output_tokens"] == 15
    assert report["prompt_tokens"] == 15


def test_latency_counts_from_the_intended_time(moody, tmp_path):  # noqa: F811
    """A stall of the server shows in every request that was due meanwhile."""
    def stall(context, request, number):
        if number <= 8:  # as many as the server has threads
            time.sleep(1)

    done, report = bench(moody(stall), tmp_path, "--warmup=0", "--rate=100",
                         "--arrivals=fixed", "--requests=60", "--duration=60")
    assert done.returncode == 0, done.stderr
    assert report["ok"] == 60
    assert report["e2e_ms"]["p50"] > 500


@both_ways
def test_a_stall_of_the_client_shows_in_what_it_sent_late(tiny, tmp_path, way):
    """Stopped for a second at 50 requests/s: half of that second's are late by half of it or more."""
    output = tmp_path / "bench.json"
    before = tiny.metric(FINISHED)
    process = subprocess.Popen(
        [BIN / "based", "bench", flag_of(tiny, way), f"--output={output}", "--warmup=0", "--rate=50",
         "--arrivals=fixed", "--requests=400", "--duration=60", "--prompt_length=2",
         "--output_length=1"], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while tiny.metric(FINISHED) < before + 5:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    process.send_signal(signal.SIGCONT)
    assert process.wait(120) == 0
    report = json.loads(output.read_text())
    assert report["ok"] == 400
    # 25 of 400; of what was measured from the sending, at most the few under way would be as late.
    for name in ("ttft_ms", "e2e_ms", "sent_late_ms"):
        assert report[name]["p99"] >= 500, name


def test_errors_by_code(moody, tmp_path):  # noqa: F811
    def refuse(context, request, number):
        if number % 2:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    done, report = bench(moody(refuse), tmp_path, "--warmup=0", "--requests=20",
                         "--concurrency=1", "--goodput=e2e:60000")
    assert done.returncode == 0, done.stderr
    assert report["errors"] == {"RESOURCE_EXHAUSTED": 10}
    assert report["good_share"] == 0.5 and not report["keeps_limits"]
    assert "first error    RESOURCE_EXHAUSTED: full" in done.stdout


@pytest.mark.parametrize("way, name", [("grpc", "RESOURCE_EXHAUSTED"),
                                       ("http", "429 rate_limit_exceeded")])
def test_a_full_daemon_is_an_error_by_its_name(start_daemon, tmp_path, way, name):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=1", "--max_queue=1")
    done, report = bench(daemon, tmp_path, *SHORT, "--requests=40", "--concurrency=8", way=way)
    assert done.returncode == 0, done.stderr
    assert list(report["errors"]) == [name]
    assert report["ok"] > 0 and report["ok"] + report["errors"][name] == 40
    assert f"first error    {name}: " in done.stdout


def test_keys_over_http(start_daemon, tmp_path):
    access = tmp_path / "access.json"
    keys = [{"permissions": [permission], "sha256": hashlib.sha256(permission.encode()).hexdigest()}
            for permission in ("generate", "admin")]
    access.write_text(json.dumps({"keys": keys}))
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", f"--access_file={access}")

    def run(key):
        environment = {**os.environ, "BASED_API_KEY": key}
        return bench(daemon, tmp_path, *SHORT, "--requests=4", way="http", env=environment)

    for key in ("", "wrong"):
        done, report = run(key)
        assert done.returncode == 1 and report is None
        assert "401 invalid_api_key" in done.stderr and daemon.http_address in done.stderr
    done, report = run("admin")
    assert report["errors"] == {"403 permission_denied": 4}
    assert done.returncode == 1 and "every request failed, 4 of 4; the first: 403" in done.stderr
    assert run("generate")[1]["ok"] == 4


@both_ways
def test_a_daemon_that_goes_midway(start_daemon, tmp_path, way):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=4")
    output = tmp_path / "bench.json"
    process = subprocess.Popen(
        [BIN / "based", "bench", flag_of(daemon, way), f"--output={output}", "--warmup=0",
         "--rate=50", "--arrivals=fixed", "--requests=200", "--duration=60", "--prompt_length=2",
         "--output_length=4", "--timeout=20"], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while daemon.metric(FINISHED) < 5:
        assert time.monotonic() < end
        time.sleep(0.01)
    daemon.process.kill()
    assert process.wait(120) == 0
    report = json.loads(output.read_text())
    assert report["ok"] >= 5 and set(report["errors"]) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert report["errors"]["UNAVAILABLE"] > 0
    assert report["ok"] + sum(report["errors"].values()) == 200


def test_an_answer_over_http_ends_with_the_timeout(tiny, tmp_path):
    done, report = bench(tiny, tmp_path, "--warmup=0", "--requests=2", "--concurrency=2",
                         "--output_length=1000000", "--prompt_length=2", "--timeout=0.5", way="http")
    assert done.returncode == 1
    assert "based: every request failed, 2 of 2; the first: " in done.stderr
    assert report["ok"] == 0 and sum(report["errors"].values()) == 2
    assert set(report["errors"]) <= {"DEADLINE_EXCEEDED", "200 deadline_exceeded",
                                     "504 deadline_exceeded"}


def test_a_report_that_cannot_be_written_is_known_before_the_load(tiny, tmp_path):
    for flag in ("--output", "--html"):
        done = run_based("bench", f"--address={tiny.address}", f"{flag}={tmp_path}/no/file",
                         "--duration=1000")
        assert done.returncode == 1 and "no/file.new: No such file" in done.stderr


def test_an_older_report_stays_when_the_run_is_cut(tiny, tmp_path):
    output = tmp_path / "bench.json"
    output.write_text("older")
    process = subprocess.Popen([BIN / "based", "bench", f"--address={tiny.address}",
                                f"--output={output}", "--duration=1000"])
    end = time.monotonic() + 60
    while not (tmp_path / "bench.json.new").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.wait(60)
    assert output.read_text() == "older"


@both_ways
def test_sweep_reports_its_steps(tiny, tmp_path, way):
    done, report = bench(tiny, tmp_path, "--warmup=0", "--duration=0.2", "--sweep",
                         "--rate=20", "--prompt_length=2", "--output_length=2",
                         "--goodput=ttft:0.0001", "--refinements=1", way=way)
    assert done.returncode == 0, done.stderr
    assert "none that was tried" in done.stdout  # nothing is that fast
    rates = [step["rate"] for step in report["sweep"]]
    assert rates == sorted(rates) and rates[-1] == 20 and rates[-2] == 10


def test_wrong_flags_are_usage_errors(tiny):
    for flags in (["--prompt_length=0"], ["--goodput=speed:1"], ["--sweep"], ["--arrivals=never"],
                  ["--rate=-1"], ["word"]):
        assert run_based("bench", f"--address={tiny.address}", *flags).returncode == 2, flags
    for flag in ("--address=127.0.0.1:1", "--http=http://127.0.0.1:1"):
        gone = run_based("bench", flag, "--timeout=1")
        assert gone.returncode == 1 and "127.0.0.1:1" in gone.stderr


def test_wrong_flags_of_http(tiny, tmp_path):
    for url in ("", "127.0.0.1:7480", "http://", "http://a:x", "http://a/v1"):
        done = run_based("bench", f"--http={url}")
        assert done.returncode == 2 and f"--http is '{url}'; expected http://" in done.stderr, url
    secure = run_based("bench", f"--http=https://{tiny.http_address}")
    assert secure.returncode == 2 and "TLS" in secure.stderr
    for flag in ("--address=127.0.0.1:1", "--connections=2", "--tls", "--tls_ca=/dev/null"):
        done = run_based("bench", flag_of(tiny, "http"), flag)
        name = flag.split("=")[0]
        assert done.returncode == 2 and f"{name} is of gRPC" in done.stderr, flag
    # What answers there speaks gRPC, not HTTP/1.1.
    other = run_based("bench", f"--http=http://{tiny.address}", "--timeout=5")
    assert other.returncode == 1 and tiny.address in other.stderr

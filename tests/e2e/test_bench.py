"""`based bench` against real daemons: what it counts, not how fast they are."""

import json
import time

import grpc
from conftest import run_based
from test_batch import moody  # noqa: F401, a fixture

SHORT = ["--warmup=0", "--duration=60", "--prompt_length=uniform:2,9", "--output_length=4"]


def bench(address, tmp_path, *flags):
    output = tmp_path / "bench.json"
    done = run_based("bench", f"--address={address}", f"--output={output}", *flags)
    return done, json.loads(output.read_text()) if output.exists() else None


def test_closed_loop_counts_requests_and_tokens(tiny, tmp_path):
    page = tmp_path / "bench.html"
    done, report = bench(tiny.address, tmp_path, *SHORT, "--requests=50", "--concurrency=8",
                         "--prefixes=2", "--prefix_length=5", f"--html={page}", "--connections=2")
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
    assert report["settings"]["served"].startswith("tiny-a on reference")
    text = page.read_text()
    assert text.count("<svg") == 4 and "://" not in text and "src=" not in text


def test_open_loop_and_trace(tiny, tmp_path):
    done, report = bench(tiny.address, tmp_path, *SHORT, "--rate=200", "--arrivals=fixed",
                         "--requests=40", "--goodput=ttft:60000")
    assert done.returncode == 0, done.stderr
    assert report["ok"] == 40 and report["good_share"] == 1 and report["keeps_limits"]
    assert 39 / 200 <= report["seconds"] < 60
    assert abs(report["output_tokens_per_s"] * report["seconds"] - 160) < 1e-6
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(
        json.dumps({"arrival_s": i / 50, "prompt_tokens": 3, "output_tokens": 1 + i}) + "\n"
        for i in range(5)))
    done, report = bench(tiny.address, tmp_path, "--warmup=0", f"--trace={trace}")
    assert report["requests"] == 5 and report["output_tokens"] == 15
    assert report["prompt_tokens"] == 15


def test_latency_counts_from_the_intended_time(moody, tmp_path):  # noqa: F811
    """A stall of the server shows in every request that was due meanwhile."""
    def stall(context, request, number):
        if number <= 8:  # as many as the server has threads
            time.sleep(1)

    done, report = bench(moody(stall).address, tmp_path, "--warmup=0", "--rate=100",
                         "--arrivals=fixed", "--requests=60", "--duration=60")
    assert done.returncode == 0, done.stderr
    assert report["ok"] == 60
    assert report["e2e_ms"]["p50"] > 500


def test_errors_by_code(moody, tmp_path):  # noqa: F811
    def refuse(context, request, number):
        if number % 2:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    done, report = bench(moody(refuse).address, tmp_path, "--warmup=0", "--requests=20",
                         "--concurrency=1", "--goodput=e2e:60000")
    assert done.returncode == 0, done.stderr
    assert report["errors"] == {"RESOURCE_EXHAUSTED": 10}
    assert report["good_share"] == 0.5 and not report["keeps_limits"]
    assert "first error    RESOURCE_EXHAUSTED: full" in done.stdout


def test_sweep_reports_its_steps(tiny, tmp_path):
    done, report = bench(tiny.address, tmp_path, "--warmup=0", "--duration=0.2", "--sweep",
                         "--rate=20", "--prompt_length=2", "--output_length=2",
                         "--goodput=ttft:0.0001", "--refinements=1")
    assert done.returncode == 0, done.stderr
    assert "none that was tried" in done.stdout  # nothing is that fast
    rates = [step["rate"] for step in report["sweep"]]
    assert rates == sorted(rates) and rates[-1] == 20 and rates[-2] == 10


def test_wrong_flags_are_usage_errors(tiny):
    for flags in (["--prompt_length=0"], ["--goodput=speed:1"], ["--sweep"], ["--arrivals=never"],
                  ["--rate=-1"], ["word"]):
        assert run_based("bench", f"--address={tiny.address}", *flags).returncode == 2, flags
    gone = run_based("bench", "--address=127.0.0.1:1", "--timeout=1")
    assert gone.returncode == 1 and "127.0.0.1:1" in gone.stderr

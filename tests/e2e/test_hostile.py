"""Clients that mean harm, in small: tests/bench/hostile_clients.py runs the same at full size."""

import json
import sys

import grpc
import pytest

from conftest import DEMO, ROOT, TINY, run_based
from raw_http2 import Connection

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


def test_single_answers_that_nobody_takes_are_cut(start_daemon, proto):
    """Calls of one answer, with a window of no bytes for it; then one that reads gets it all."""
    daemon = start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=4", "--write_timeout_ms=300")
    text = proto.tokenizer.TokenizeRequest(text=b" the sea" * 2000)
    score = proto.completion.ScoreRequest(token_logprobs=True)
    pair = score.pairs.add()
    pair.context_ids.ids[:], pair.continuation_ids.ids[:] = [1], [2] * 2000
    before = hostile_clients.State(daemon)
    for path, request in (("/based.v1.TokenizerService/Tokenize", text),
                          ("/based.v1.CompletionService/Score", score)):
        with Connection(daemon, window=0) as connection:
            connection.call(1, request.SerializeToString(), path=path)
            assert connection.end_of(1) != b"closed"
    lines = [line for line in daemon.lines if "event=write_timeout" in line]
    assert len(lines) == 2 and all("request_id=" in line for line in lines)
    with daemon.channel() as channel:
        tokens = proto.tokenizer_grpc.TokenizerServiceStub(channel).Tokenize(text)
        scores = proto.completion_grpc.CompletionServiceStub(channel).Score(score)
        assert len(tokens.ids) >= 4000 and len(scores.scores) == 1
    hostile_clients.wait_back(daemon, before)
    assert sum("event=write_timeout" in line for line in daemon.lines) == 2


def test_lists_that_nobody_takes_are_cut(start_daemon, proto, tmp_path):
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=4", "--write_timeout_ms=300",
                          "--session_memory=64MiB", f"--batch_dir={tmp_path / 'jobs'}")
    names = [f"{i:0128}" for i in range(50)]
    line = json.dumps({"custom_id": "a", "url": "/v1/completions",
                       "body": {"prompt": [1], "max_tokens": 1}}).encode()
    with daemon.channel() as channel:
        completion = proto.completion_grpc.CompletionServiceStub(channel)
        batches = proto.batch_grpc.BatchServiceStub(channel)
        for name in names:
            request = proto.completion.GenerateRequest(
                token_ids=proto.completion.TokenIds(ids=[1]),
                stop=proto.completion.StopConditions(max_tokens=1),
                state=proto.completion.StateOptions(session=name, create_session=True))
            list(completion.Generate(request, timeout=30))
            batches.CreateBatch(
                iter([proto.batch.CreateBatchRequest(id=name, lines=line, last=True)]), timeout=30)
        before = hostile_clients.State(daemon)
        lists = (("Session", "sessions", proto.session.ListSessionsRequest(),
                  proto.session_grpc.SessionServiceStub(channel).ListSessions),
                 ("Batch", "batches", proto.batch.ListBatchesRequest(), batches.ListBatches))
        for service, field, request, call in lists:
            with Connection(daemon, window=0) as connection:
                connection.call(1, request.SerializeToString(),
                                path=f"/based.v1.{service}Service/List{field.capitalize()}")
                assert connection.end_of(1) != b"closed"
            assert len(getattr(call(request), field)) == len(names)
        assert sum("event=write_timeout" in line for line in daemon.lines) == 2
    hostile_clients.wait_back(daemon, before)


def test_a_reader_of_results_that_takes_nothing_is_cut(start_daemon, proto, tmp_path):
    daemon = start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=8", "--write_timeout_ms=500",
                          f"--batch_dir={tmp_path / 'jobs'}")
    body = {"prompt": "The sea", "max_tokens": 100, "ignore_eos": True, "logprobs": 5}
    source = tmp_path / "in.jsonl"
    source.write_text("".join(
        json.dumps({"custom_id": f"r{i}", "url": "/v1/completions", "body": body}) + "\n"
        for i in range(40)))
    at = f"--address={daemon.address}"
    assert run_based("jobs", "submit", source, "--id=long", at).returncode == 0
    assert run_based("jobs", "fetch", "long", tmp_path / "out.jsonl", at).returncode == 0
    assert (tmp_path / "out.jsonl").stat().st_size > 256 << 10  # more than windows hold
    calls = daemon.metric("based_stream_write_stall_seconds_count")
    longest = daemon.metric("based_stream_write_stall_seconds_sum")
    # A small window fills soon.
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(daemon.address, options=options) as channel:
        call = proto.batch_grpc.BatchServiceStub(channel).StreamResults(
            proto.batch.StreamResultsRequest(id="long"))
        daemon.wait_for_metric("based_stream_write_stall_seconds_count", calls + 1)
        assert daemon.metric("based_stream_write_stall_seconds_sum") >= longest + 0.5
        assert any("event=write_timeout" in line and "id=long" in line for line in daemon.lines)
        with pytest.raises(grpc.RpcError) as cut:
            for _ in call:
                pass
        assert cut.value.code() == grpc.StatusCode.CANCELLED
    # Its place is free, and another reads on.
    again = tmp_path / "again.jsonl"
    assert run_based("jobs", "fetch", "long", again, at).returncode == 0
    assert again.read_bytes() == (tmp_path / "out.jsonl").read_bytes()

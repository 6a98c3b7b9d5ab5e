"""More asked of the daemon than it can give: deadlines, tenants, and batch work that makes room."""

import json
import time

import grpc
import pytest
from conftest import DEMO, TINY


def request_of(proto, max_tokens, **fields):
    request = proto.completion.GenerateRequest(
        token_ids=proto.completion.TokenIds(ids=[1, 2]), **fields)
    request.stop.max_tokens = max_tokens
    request.stop.ignore_eos = True
    request.sampling.seed = 5
    request.output.token_ids = True
    return request


def batch_request_of(proto, max_tokens, **fields):
    """Of few messages: nobody may read them."""
    request = request_of(proto, max_tokens, priority=proto.completion.PRIORITY_BATCH, **fields)
    request.output.tokens_per_message = 65536
    return request


def tokens_of(responses):
    return [token for response in responses for token in response.delta.token_ids]


@pytest.fixture
def single(start_daemon):
    """One slot on the CPU."""
    return start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=1")


def test_batch_work_makes_room_and_goes_on_where_it_was(single, proto):
    with single.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        expected = tokens_of(stub.Generate(request_of(proto, 20000), timeout=60))
        batch = stub.Generate(
            request_of(proto, 20000, priority=proto.completion.PRIORITY_BATCH), timeout=120)
        tokens = tokens_of([next(batch) for _ in range(5)])
        interactive = tokens_of(stub.Generate(request_of(proto, 10), timeout=30))
        assert interactive == expected[:10]
        assert tokens + tokens_of(batch) == expected
    assert single.metric("based_parks_total") >= 1
    assert single.metric("based_resumes_total") == single.metric("based_parks_total")
    assert single.metric("based_preemptions_total") == 0
    assert single.metric("based_parked_sequences") == 0


def test_reserved_slots_are_for_interactive_requests(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=4",
                          "--reserved_interactive_slots=1")
    active = 'based_state_slots{state="active"}'
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        # Completions of one request as those of several: all but the reserved slot.
        for requests, n in ((5, 1), (2, 4)):
            batch = [stub.Generate(batch_request_of(proto, 1_000_000, n=n))
                     for _ in range(requests)]
            daemon.wait_for_metric(active, 3)
            # And no more than those.
            tokens = daemon.metric("based_generated_tokens_total") + 100
            while daemon.metric("based_generated_tokens_total") < tokens:
                assert daemon.metric(active) == 3
            started, *rest = stub.Generate(request_of(proto, 10), timeout=30)
            assert started.started.predicted_wait_ms == 0
            assert len(tokens_of(rest)) == 10
            assert daemon.metric("based_parks_total") == 0
            for call in batch:
                call.cancel()
            daemon.wait_for_metric(active, 0)


def test_batch_work_takes_few_rows_beside_interactive_requests(start_daemon, proto):
    daemon = start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=32")
    deferred = "based_batch_rows_deferred_total"
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        expected = tokens_of(stub.Generate(batch_request_of(proto, 400), timeout=60))
        watched = stub.Generate(batch_request_of(proto, 400), timeout=300)
        batch = [stub.Generate(batch_request_of(proto, 1_000_000)) for _ in range(30)]
        daemon.wait_for_metric('based_state_slots{state="active"}', 31)
        assert daemon.metric(deferred) == 0
        # A step of 32 rows takes some ten times as long as one of the interactive row: of 31 batch
        # rows a few may go with it, each in its turn.
        assert tokens_of(stub.Generate(request_of(proto, 400), timeout=300)) == expected
        assert daemon.metric(deferred) > 400 * 31 / 2
        for call in batch:
            call.cancel()
        assert tokens_of(watched) == expected


def test_a_deadline_that_cannot_be_met_is_refused_at_once(single, proto):
    with single.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        endless = stub.Generate(request_of(proto, 1_000_000))
        for _ in range(20):
            next(endless)
        begin = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(request_of(proto, 1), timeout=5))
        assert time.monotonic() - begin < 4
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "cannot be met" in error.value.details()
        endless.cancel()
    assert single.metric('based_rejections_total{code="DEADLINE_EXCEEDED",reason="deadline"}') == 1


def test_started_says_how_long_the_wait_is_thought_to_be(single, proto):
    with single.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        endless = stub.Generate(request_of(proto, 1_000_000))
        assert next(endless).started.predicted_wait_ms == 0
        for _ in range(20):
            next(endless)
        queued = stub.Generate(request_of(proto, 1))
        assert next(queued).started.predicted_wait_ms > 1000
        endless.cancel()
        assert len(tokens_of(queued)) == 1


def test_a_tenant_has_its_limits_and_others_do_not(start_daemon, proto, tmp_path):
    access = tmp_path / "access.json"
    access.write_text(json.dumps(
        {"tenants": [{"name": "acme", "requests_per_second": 1, "weight": 2}]}))
    access.chmod(0o600)
    daemon = start_daemon(
        f"--model={TINY}", "--backend=cpu", "--slots=4", f"--access_file={access}")
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        list(stub.Generate(request_of(proto, 2, tenant="acme"), timeout=30))
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(request_of(proto, 2, tenant="acme"), timeout=30))
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(error.value.trailing_metadata())
        assert 0 < int(trailers["grpc-retry-pushback-ms"]) <= 1000
        list(stub.Generate(request_of(proto, 2), timeout=30))
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(request_of(proto, 2, tenant="nobody"), timeout=30))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        # The call's metadata names a tenant as well as the message does.
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(request_of(proto, 2), metadata=[("x-tenant", "nobody")], timeout=30))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "'nobody'" in error.value.details()
        time.sleep(1)  # what the tenant may ask for has come again
        list(stub.Generate(request_of(proto, 2), metadata=[("x-tenant", "acme")], timeout=30))
    assert daemon.metric('based_tenant_requests_total{result="admitted",tenant="acme"}') == 2
    assert daemon.metric('based_tenant_requests_total{result="refused",tenant="acme"}') == 1
    assert daemon.metric('based_tenant_tokens_total{tenant="acme"}') >= 3

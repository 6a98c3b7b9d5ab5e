"""Completions from a client that knows nothing but the proto."""

import re
import threading
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def ids_request(proto, ids=(1, 2, 3), **stop):
    request = proto.completion.GenerateRequest(token_ids=proto.completion.TokenIds(ids=ids))
    request.stop.max_tokens = stop.pop("max_tokens", 8)
    for name, value in stop.items():
        setattr(request.stop, name, value)
    return request


def generate(daemon, proto, request, **call):
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        return list(stub.Generate(request, timeout=60, **call))


def generated_ids(messages):
    return [i for m in messages if m.HasField("delta") for i in m.delta.token_ids]


def test_stream_is_started_deltas_done(tiny, proto):
    messages = generate(tiny, proto, ids_request(proto, max_tokens=12, ignore_eos=True))
    assert messages[0].HasField("started")
    assert messages[0].started.prompt_tokens == 3
    assert messages[0].started.request_id
    assert all(m.HasField("delta") for m in messages[1:-1])
    done = messages[-1].done
    assert done.finish_reason == proto.completion.FINISH_REASON_MAX_TOKENS
    assert done.usage.generated_tokens == 12 == len(generated_ids(messages))
    assert done.timings.prefill_us > 0


def test_request_id_of_the_client_is_kept(tiny, proto):
    messages = generate(
        tiny, proto, ids_request(proto), metadata=[("x-request-id", "my-own-id.7")]
    )
    assert messages[0].started.request_id == "my-own-id.7"


def test_same_seed_same_tokens(tiny, proto):
    request = ids_request(proto, max_tokens=32, ignore_eos=True)
    request.sampling.temperature = 1.5
    first = generate(tiny, proto, request)
    request.sampling.seed = first[0].started.seed
    again = generate(tiny, proto, request)
    assert generated_ids(first) == generated_ids(again)
    request.sampling.seed += 1
    assert generated_ids(generate(tiny, proto, request)) != generated_ids(first)


def test_stop_token_is_named_and_left_out(tiny, proto):
    request = ids_request(proto, max_tokens=32, ignore_eos=True)
    request.sampling.temperature = 0
    ids = generated_ids(generate(tiny, proto, request))
    request.stop.token_ids.append(ids[5])
    messages = generate(tiny, proto, request)
    done = messages[-1].done
    assert done.finish_reason == proto.completion.FINISH_REASON_STOP_TOKEN
    assert done.stop_token_id == ids[5]
    assert generated_ids(messages) == ids[: ids.index(ids[5])]


def test_deadline_ends_the_call(tiny, proto):
    request = ids_request(proto, max_tokens=1_000_000, ignore_eos=True)
    with tiny.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(request, timeout=0.5, metadata=[("x-request-id", "cut-late")]))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    tiny.wait_for_metric('based_state_slots{state="active"}', 0)
    end = time.monotonic() + 10
    while not (said := [line for line in tiny.lines
                        if "event=generate" in line and "request_id=cut-late" in line]):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert " peer=ipv4:127.0.0.1:" in said[0]
    # It says where the time went, as of a call that ends well.
    us = {name: int(value) for name, value in re.findall(r" (\w+)_us=(\d+)", said[0])}
    assert 0 < us["queue"] + us["prefill"] + us["decode"] <= us["total"], said[0]


def test_two_hundred_streams_half_of_them_cut(tiny, proto):
    finished, failures = [], []

    def stream(index, channel):
        cut = index % 2 == 1
        request = ids_request(
            proto, ids=(1 + index % 50, 2), max_tokens=1_000_000 if cut else 20, ignore_eos=True
        )
        # Without a deadline: behind so many long requests, one could be refused for it.
        call = proto.completion_grpc.CompletionServiceStub(channel).Generate(request)
        try:
            for count, message in enumerate(call):
                if cut and count == 3:
                    call.cancel()
                if message.HasField("done"):
                    finished.append(message.done.usage.generated_tokens)
        except grpc.RpcError as error:
            if not (cut and error.code() == grpc.StatusCode.CANCELLED):
                failures.append(error)

    with tiny.channel() as channel:
        threads = [threading.Thread(target=stream, args=(i, channel), daemon=True)
                   for i in range(200)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 120
        for thread in threads:
            thread.join(max(0, end - time.monotonic()))
            assert not thread.is_alive()
    assert failures == []
    assert finished == [20] * 100
    tiny.wait_for_metric('based_state_slots{state="active"}', 0)
    tiny.wait_for_metric("based_streams_open", 0)
    assert tiny.metric("based_queued_requests") == 0


def set_field(**fields):
    def change(request):
        for path, value in fields.items():
            target = request
            *parents, leaf = path.split("__")
            for parent in parents:
                target = getattr(target, parent)
            if isinstance(value, list):
                getattr(target, leaf).extend(value)
            else:
                setattr(target, leaf, value)

    return change


BAD_REQUESTS = {
    "negative id": ("token_ids.ids", set_field(token_ids__ids=[-1])),
    "id out of range": ("token_ids.ids", set_field(token_ids__ids=[61])),
    "NaN temperature": ("sampling.temperature", set_field(sampling__temperature=float("nan"))),
    "negative temperature": ("sampling.temperature", set_field(sampling__temperature=-1)),
    "infinite temperature": ("sampling.temperature", set_field(sampling__temperature=float("inf"))),
    "negative top_k": ("sampling.top_k", set_field(sampling__top_k=-1)),
    "zero top_p": ("sampling.top_p", set_field(sampling__top_p=0)),
    "NaN top_p": ("sampling.top_p", set_field(sampling__top_p=float("nan"))),
    "min_p over 1": ("sampling.min_p", set_field(sampling__min_p=1.5)),
    "max_tokens 0": ("stop.max_tokens", set_field(stop__max_tokens=0)),
    "stop id out of range": ("stop.token_ids", set_field(stop__token_ids=[61])),
    "17 stop strings": ("stop.strings", set_field(stop__strings=[b"x"] * 17)),
    "empty stop string": ("stop.strings", set_field(stop__strings=[b""])),
    "n 0": ("n", set_field(n=0)),
    "best_of 65": ("best_of", set_field(best_of=65)),
    "no such priority": ("priority", set_field(priority=9)),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_request_names_its_field(tiny, proto, name):
    field, change = BAD_REQUESTS[name]
    request = ids_request(proto)
    change(request)
    with pytest.raises(grpc.RpcError) as error:
        generate(tiny, proto, request)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith(field)
    assert "expected" in error.value.details()
    violation = error_details_pb2.BadRequest()
    details = rpc_status.from_call(error.value).details
    assert any(d.Is(violation.DESCRIPTOR) and d.Unpack(violation) for d in details)
    assert violation.field_violations[0].field.startswith(field)


def test_prompt_over_the_limit(tiny, proto):
    request = ids_request(proto, ids=[1] * 1_000_001)
    with pytest.raises(grpc.RpcError) as error:
        generate(tiny, proto, request)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "1000001" in error.value.details() and "1000000" in error.value.details()


def test_no_prompt(tiny, proto):
    with pytest.raises(grpc.RpcError) as error:
        generate(tiny, proto, proto.completion.GenerateRequest())
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_model(tiny, proto):
    request = ids_request(proto)
    request.model = "gpt"
    with pytest.raises(grpc.RpcError) as error:
        generate(tiny, proto, request)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    assert "'gpt'" in error.value.details() and "'tiny-a'" in error.value.details()


def test_text_without_a_tokenizer(tiny, proto):
    with pytest.raises(grpc.RpcError) as error:
        generate(tiny, proto, proto.completion.GenerateRequest(text=b"hello"))
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    "field,change",
    [
        ("state.snapshot", set_field(state__snapshot="s")),
    ],
)
def test_fields_that_are_not_served(tiny, proto, field, change):
    request = ids_request(proto)
    change(request)
    with pytest.raises(grpc.RpcError) as error:
        generate(tiny, proto, request)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert error.value.details().startswith(field)


def test_full_queue_says_when_to_retry(start_daemon, proto):
    from conftest import TINY

    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=1", "--max_queue=1")
    endless = ids_request(proto, max_tokens=1_000_000, ignore_eos=True)
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        running = stub.Generate(endless)
        for _ in range(4):  # until the cost of a step is known
            next(running)
        waiting = stub.Generate(endless)
        daemon.wait_for_metric("based_queued_requests", 1)
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(endless, timeout=30))
        running.cancel()
        waiting.cancel()
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    # The wait as predicted: a million tokens and more are ahead, so it is the most that is asked.
    assert ("grpc-retry-pushback-ms", "60000") in error.value.trailing_metadata()
    retry = error_details_pb2.RetryInfo()
    details = rpc_status.from_call(error.value).details
    assert any(d.Is(retry.DESCRIPTOR) and d.Unpack(retry) for d in details)
    assert retry.retry_delay.seconds == 60
    daemon.wait_for_metric('based_state_slots{state="active"}', 0)
    assert daemon.metric('based_rejections_total{code="RESOURCE_EXHAUSTED",reason="queue_full"}') == 1


def test_slow_reader_hurts_only_itself(start_daemon, proto):
    """A client that stops reading is ended; another one meanwhile finishes."""
    from conftest import TINY

    daemon = start_daemon(
        f"--model={TINY}", "--backend=cpu", "--slots=4", "--stream_queue=2"
    )
    with daemon.channel() as slow, daemon.channel() as quick:
        endless = ids_request(proto, max_tokens=1_000_000, ignore_eos=True)
        call = proto.completion_grpc.CompletionServiceStub(slow).Generate(endless)
        next(call)
        generate(daemon, proto, ids_request(proto, max_tokens=20, ignore_eos=True))
        # Python's client reads only what is asked for: the stream's queue fills.
        daemon.wait_for_metric('based_cancellations_total{cause="slow_reader"}', 1, 120)
        generate(daemon, proto, ids_request(proto, max_tokens=20, ignore_eos=True))
        end = time.monotonic() + 60
        with pytest.raises(grpc.RpcError) as error:
            while time.monotonic() < end:
                next(call)
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

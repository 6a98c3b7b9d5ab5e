"""The OpenAI-compatible gateway, through the official client and through plain HTTP."""

import asyncio
import json
import urllib.error
import urllib.request

import openai
import pytest

from conftest import DEMO

PROMPT = "Elizabeth looked out of the window and"
OPTIONS = {"model": "demo", "max_tokens": 24, "temperature": 0.8, "seed": 5}


@pytest.fixture(scope="module")
def client(demo):
    return openai.OpenAI(base_url=f"http://{demo.http_address}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def text(demo, proto):
    """What gRPC answers for the same request."""
    request = proto.completion.GenerateRequest(text=PROMPT.encode())
    request.sampling.temperature, request.sampling.seed = 0.8, 5
    request.stop.max_tokens = 24
    with demo.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        return "".join(reply.delta.text for reply in stub.Generate(request, timeout=60))


def test_completion_equals_grpc(client, text):
    answer = client.completions.create(prompt=PROMPT, **OPTIONS)
    assert answer.choices[0].text == text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 24


def test_stream_equals_grpc(client, text):
    chunks = list(client.completions.create(prompt=PROMPT, stream=True,
                                            stream_options={"include_usage": True}, **OPTIONS))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == text
    assert chunks[-1].usage.completion_tokens == 24


def test_async_chat_stream_equals_the_whole_answer(demo, client):
    messages = [{"role": "user", "content": "Who is at the window?"}]
    whole = client.chat.completions.create(messages=messages, **OPTIONS)

    async def collect():
        async with openai.AsyncOpenAI(base_url=f"http://{demo.http_address}/v1",
                                      api_key="none") as running:
            stream = await running.chat.completions.create(messages=messages, stream=True,
                                                           **OPTIONS)
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    assert asyncio.run(collect()) == whole.choices[0].message.content != ""


def test_errors_are_openais(client):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(prompt="x", model="demo", temperature=-1)
    with pytest.raises(openai.NotFoundError):
        client.completions.create(prompt="x", model="another")
    assert [model.id for model in client.models.list()] == ["demo"]


def test_a_client_that_leaves_frees_its_slot(demo, client):
    stream = client.completions.create(prompt=PROMPT, model="demo", max_tokens=900_000,
                                       stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    assert demo.metric('based_state_slots{state="active"}') >= 1
    stream.close()
    demo.wait_for_metric('based_state_slots{state="active"}', 0)


@pytest.mark.parametrize("body, content_type, code", [
    (b"{", "application/json", 400),
    (b'{"prompt": "\xff"}', "application/json", 400),
    (b"[" * 5000, "application/json", 400),
    (b"{}", "text/plain", 415),
    (json.dumps({"prompt": "x", "stream_options": {"include_usage": True}}).encode(),
     "application/json", 400),
])
def test_bad_bodies(demo, body, content_type, code):
    request = urllib.request.Request(f"http://{demo.http_address}/v1/completions", body,
                                     {"Content-Type": content_type})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)
    assert error.value.code == code
    assert json.load(error.value)["error"]["message"]


def test_keys_are_asked_for(start_daemon, tmp_path):
    import hashlib

    access = tmp_path / "access.json"
    access.write_text(json.dumps({
        "tenants": [{"name": "a"}],
        "keys": [{"sha256": hashlib.sha256(b"k" * 40).hexdigest(), "tenant": "a",
                  "permissions": ["generate"]}]}))
    daemon = start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=4",
                          f"--access_file={access}")
    base = f"http://{daemon.http_address}/v1"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=base, api_key="wrong", max_retries=0).models.list()
    right = openai.OpenAI(base_url=base, api_key="k" * 40, max_retries=0)
    assert right.completions.create(prompt="x", model="demo", max_tokens=2).choices[0].text
    with urllib.request.urlopen(f"http://{daemon.http_address}/health", timeout=10) as reply:
        assert reply.status == 200
    assert daemon.metric('based_tenant_tokens_total{tenant="a"}') >= 2

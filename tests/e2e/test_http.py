"""The HTTP API as its clients see it: the official openai package, curl, and clients that mean harm."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc
import openai
import pytest

from conftest import DEMO, TINY
from test_access import wait_for_line

PROMPT = "It was a dark night and"


def client_of(daemon, **options):
    options = {"api_key": "none", "max_retries": 0, "timeout": 60, **options}
    return openai.OpenAI(base_url=f"http://{daemon.http_address}/v1", **options)


@pytest.fixture
def client(demo):
    with client_of(demo) as made:
        yield made


def post(daemon, path, body, **headers):
    """(status, headers, body) of one POST; `body` as bytes, or anything JSON can say."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{daemon.http_address}{path}", data,
        {"content-type": "application/json",
         **{name.replace("_", "-"): value for name, value in headers.items()}})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.headers, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


def over_grpc(daemon, proto, **sampling):
    """What Generate says to PROMPT, as one text."""
    message = proto.completion.GenerateRequest(text=PROMPT.encode())
    message.stop.max_tokens = sampling.pop("max_tokens")
    for name, value in sampling.items():
        setattr(message.sampling, name, value)
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        return "".join(m.delta.text for m in stub.Generate(message, timeout=60))


# --- the openai package


@pytest.mark.parametrize("sampling", [
    {"temperature": 0.0, "max_tokens": 40},
    {"temperature": 0.9, "top_p": 0.9, "seed": 11, "max_tokens": 60},
])
def test_whole_and_streamed_text_equal_grpcs(demo, proto, client, sampling):
    expected = over_grpc(demo, proto, **sampling)
    whole = client.completions.create(model="demo", prompt=PROMPT, **sampling)
    assert whole.choices[0].text == expected
    assert whole.usage.completion_tokens == sampling["max_tokens"]
    assert whole.choices[0].finish_reason == "length"
    stream = client.completions.create(model="demo", prompt=PROMPT, stream=True,
                                       stream_options={"include_usage": True}, **sampling)
    chunks = list(stream)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == expected
    assert chunks[-1].usage == whole.usage
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"


def test_async_streams_side_by_side(demo, proto):
    async def one(client, seed):
        stream = await client.completions.create(model="demo", prompt=PROMPT, seed=seed,
                                                 max_tokens=30, stream=True)
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"http://{demo.http_address}/v1", api_key="none",
                                      max_retries=0) as client:
            return await asyncio.gather(*(one(client, seed) for seed in range(8)))

    texts = asyncio.run(all_of_them())
    assert texts == [over_grpc(demo, proto, seed=seed, max_tokens=30) for seed in range(8)]
    assert len(set(texts)) > 1


def test_chat(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    whole = client.chat.completions.create(model="demo", messages=messages, max_tokens=20, seed=3,
                                           logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.role == "assistant"
    logprobs = whole.choices[0].logprobs.content
    assert len(logprobs) == whole.usage.completion_tokens
    assert len(logprobs[0].top_logprobs) == 2
    spelled = b"".join(bytes(token.bytes) for token in logprobs).decode(errors="replace")
    assert spelled.startswith(whole.choices[0].message.content)
    with client.chat.completions.create(model="demo", messages=messages, max_tokens=20, seed=3,
                                        stream=True) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == whole.choices[0].message.content


def test_many_prompts_and_choices(demo, proto, client):
    reply = client.completions.create(model="demo", prompt=[PROMPT, "The sea"], n=2, seed=5,
                                      max_tokens=12)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.choices[0].text == over_grpc(demo, proto, seed=5, max_tokens=12)
    # Completion i draws with seed + i.
    assert reply.choices[1].text == over_grpc(demo, proto, seed=6, max_tokens=12)
    ids = post(demo, "/tokenize", {"prompt": PROMPT})[2]["tokens"]
    by_ids = client.completions.create(model="demo", prompt=[ids], seed=5, max_tokens=12)
    assert by_ids.choices[0].text == reply.choices[0].text


def test_legacy_logprobs_with_echo(client):
    reply = client.completions.create(model="demo", prompt=PROMPT, max_tokens=6, logprobs=2,
                                      echo=True, temperature=0)
    choice = reply.choices[0]
    assert choice.text.startswith(PROMPT)
    assert "".join(choice.logprobs.tokens) == choice.text
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])
    for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset):
        assert choice.text[offset:].startswith(token)
    streamed = list(client.completions.create(model="demo", prompt=PROMPT, max_tokens=6,
                                              logprobs=2, echo=True, temperature=0, stream=True))
    assert "".join(c.choices[0].text for c in streamed) == choice.text
    tokens = [t for c in streamed if c.choices[0].logprobs for t in c.choices[0].logprobs.tokens]
    assert tokens == choice.logprobs.tokens


def test_stops_and_rules(demo, client):
    whole = client.completions.create(model="demo", prompt=PROMPT, max_tokens=30,
                                      temperature=0).choices[0].text
    stop = whole.split()[4]
    cut = client.completions.create(model="demo", prompt=PROMPT, max_tokens=30, temperature=0,
                                    stop=stop).choices[0]
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop" and cut.stop_reason == stop
    only = client.completions.create(model="demo", prompt=PROMPT, max_tokens=5,
                                     extra_body={"allowed_token_ids": [40]}).choices[0].text
    assert only == post(demo, "/detokenize", {"tokens": [40] * 5})[2]["prompt"]
    forced = client.completions.create(model="demo", prompt=PROMPT, max_tokens=4,
                                       temperature=0, logit_bias={"40": 100}).choices[0].text
    assert forced == only[: len(only) * 4 // 5]


def test_models_and_tokenizer(demo, client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"
    text = "Caf\u00e9 \U0001f600 and \"quotes\"\n"
    tokens = post(demo, "/tokenize", {"prompt": text})[2]
    assert tokens["count"] == len(tokens["tokens"])
    assert post(demo, "/detokenize", {"tokens": tokens["tokens"]})[2]["prompt"] == text


def test_errors_are_the_packages(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="gpt-9", prompt="x")
    assert error.value.code == "model_not_found" and error.value.param == "model"
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="demo", prompt="x", top_p=2)
    assert error.value.param == "top_p" and "expected a number in (0, 1]" in error.value.message
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="demo", input="x")
    assert "embeddings are not served" in error.value.message
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "x"}],
                                       tools=[{"type": "function", "function": {"name": "f"}}])
    assert error.value.param == "tools"


# --- bad input


@pytest.mark.parametrize("body, param, part", [
    (b'{"prompt": "x', None, "byte"),
    (b'{"prompt": "x\xff"}', None, "not UTF-8 at byte 13"),
    (b"[1]", None, "expected a JSON object"),
    (b"", None, "byte"),
    (b'{"prompt":' + b"[" * 5000 + b"]" * 5000 + b"}", None, "deeper than 64"),
    ({}, "prompt", "prompt is not set"),
    ({"prompt": "x", "max_tokens": 0}, "max_tokens", "max_tokens is 0"),
    ({"prompt": "x", "max_tokens": "many"}, "max_tokens", "expected an integer"),
    ({"prompt": [99999]}, "prompt", "prompt[0] is 99999"),
    ({"prompt": "x", "stream_options": {}}, "stream_options", "only where stream is true"),
    ({"prompt": "x", "stream": True, "best_of": 2}, "best_of", "best_of is 2"),
    ({"prompt": "x", "suffix": "y"}, "suffix", "does not serve it"),
    ({"prompt": "x", "response_format": {"type": "yaml"}}, "response_format", "yaml"),
    ({"prompt": "x", "stop": ["a"] * 17}, "stop", "stop is 17 strings long"),
])
def test_bad_bodies_are_named(demo, body, param, part):
    status, _, reply = post(demo, "/v1/completions", body)
    assert status == 400
    assert reply["error"]["param"] == param
    assert part in reply["error"]["message"]


def test_wrong_type_unknown_fields_and_urls(demo):
    assert post(demo, "/v1/completions", {"prompt": "x"}, content_type="text/plain")[0] == 415
    status, headers, _ = post(demo, "/v1/completions", {"prompt": "x", "max_tokens": 1, "zoo": 1})
    assert status == 200 and headers["x-based-ignored-fields"] == "zoo"
    assert post(demo, "/v2/completions", {})[0] == 404


def test_curl(demo):
    def curl(*arguments, data=None):
        return subprocess.run(
            ["curl", "-sS", "--max-time", "30", "-w", "\n%{http_code}", *arguments], input=data,
            capture_output=True, check=True).stdout.decode()

    base = f"http://{demo.http_address}"
    assert curl(f"{base}/health").endswith('{"status":"ok"}\n200')
    kind = ("-H", "content-type: application/json")
    stream = curl("-N", *kind, "-d", json.dumps({"prompt": PROMPT, "max_tokens": 4,
                                                 "stream": True}), f"{base}/v1/completions")
    events = stream.rsplit("\n", 1)[0].strip().split("\n\n")
    assert events[-1] == "data: [DONE]" and len(events) == 6
    # curl waits for "100 Continue" before a large body.
    large = json.dumps({"prompt": "a " * 800_000}).encode()
    assert curl(*kind, "--data-binary", "@-", f"{base}/tokenize", data=large).endswith("200")
    too_large = curl(*kind, "--data-binary", "@-", f"{base}/tokenize", data=b" " * (17 << 20))
    assert too_large.endswith("413") and "request_too_large" in too_large


# --- clients that leave, and daemons that do


def begin_stream(daemon, max_tokens=100_000, **fields):
    """A socket on which a stream has begun."""
    body = json.dumps({"prompt": [1, 2, 3], "max_tokens": max_tokens, "stream": True,
                       "ignore_eos": True, **fields})
    host, port = daemon.http_address.split(":")
    link = socket.create_connection((host, int(port)), timeout=30)
    link.sendall(f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                 f"content-length: {len(body)}\r\n\r\n{body}".encode())
    return link


def test_client_that_leaves_frees_its_slot(start_daemon):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=2")
    links = [begin_stream(daemon) for _ in range(2)]
    for link in links:
        assert link.recv(100).startswith(b"HTTP/1.1 200")
    daemon.wait_for_metric('based_state_slots{state="active"}', 2)
    for link in links:
        link.close()
    daemon.wait_for_metric('based_state_slots{state="active"}', 0)
    daemon.wait_for_metric("based_streams_open", 0)
    said = [line for line in daemon.lines if "event=http " in line and "status=499" in line]
    assert len(said) == 2
    for line in said:  # where the time went, whether or not a token had come
        us = {name: int(value) for name, value in re.findall(r" (\w+)_us=(\d+)", line)}
        assert 0 < us["queue"] + us["prefill"] + us["decode"] <= us["total"], line


def test_slow_reader_is_ended(start_daemon):
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=2", "--stream_queue=8",
                          "--write_timeout_ms=1000")
    with begin_stream(daemon, max_tokens=1_000_000) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        daemon.wait_for_metric('based_cancellations_total{cause="slow_reader"}', 1)
        daemon.wait_for_metric('based_state_slots{state="active"}', 0)
        daemon.wait_for_metric("based_streams_open", 0)


def test_full_queue_says_when_to_try_again(start_daemon):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=1", "--max_queue=1")
    with begin_stream(daemon) as running:
        assert running.recv(100).startswith(b"HTTP/1.1 200")
        with begin_stream(daemon):
            daemon.wait_for_metric("based_queued_requests", 1)
            status, headers, body = post(daemon, "/v1/completions", {"prompt": [1]})
            assert status == 429 and int(headers["retry-after"]) >= 1
            with client_of(daemon) as client, pytest.raises(openai.RateLimitError):
                client.completions.create(model="tiny-a", prompt=[1])
    assert body["error"]["code"] == "rate_limit_exceeded"


def test_deadline_in_the_queue(start_daemon):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=1")
    with begin_stream(daemon) as running:
        assert running.recv(100).startswith(b"HTTP/1.1 200")
        status, _, body = post(daemon, "/v1/completions", {"prompt": [1]},
                               x_request_timeout_ms="300")
    assert status in (429, 504), body


def test_drain_ends_streams_and_refuses_the_rest(start_daemon):
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=2",
                          "--drain_timeout_ms=20000")
    with client_of(daemon) as client:
        stream = client.completions.create(model="tiny-a", prompt=[1, 2, 3], max_tokens=400,
                                           stream=True, extra_body={"ignore_eos": True})
        chunks = [next(stream)]
        daemon.signal(signal.SIGTERM)
        end = time.monotonic() + 10
        status = 200
        while status == 200 and time.monotonic() < end:
            try:
                status, headers, _ = post(daemon, "/v1/completions", {"prompt": [1],
                                                                      "max_tokens": 1})
            except (ConnectionError, urllib.error.URLError):
                break  # it was quicker
        else:
            assert status == 503 and int(headers["retry-after"]) >= 1
        chunks += list(stream)
    ids = [i for c in chunks for i in getattr(c.choices[0], "token_ids", None) or []]
    assert len(ids) == 400
    assert chunks[-1].choices[0].finish_reason == "length"
    assert daemon.wait() == 0


def test_ids_without_a_tokenizer_equal_grpcs(tiny, proto):
    message = proto.completion.GenerateRequest()
    message.token_ids.ids.extend([1, 2, 3])
    message.sampling.seed = 4
    message.stop.max_tokens = 50
    with tiny.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        expected = [i for m in stub.Generate(message, timeout=60) for i in m.delta.token_ids]
    _, _, body = post(tiny, "/v1/completions", {"prompt": [1, 2, 3], "seed": 4, "max_tokens": 50})
    assert body["choices"][0]["token_ids"] == expected
    assert post(tiny, "/v1/chat/completions",
                {"messages": [{"role": "user", "content": "x"}]})[0] == 400


CHATML = """\
{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('No role ' ~ message.role) }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + eos_token + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""


@pytest.fixture
def model_with_template(tmp_path):
    """Makes the demo model's folder over, with a chat template."""
    for path in DEMO.iterdir():
        (tmp_path / path.name).symlink_to(path)

    def bring(template):
        config = {"chat_template": template, "eos_token": {"content": "<|endoftext|>"}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return tmp_path

    return bring


def test_model_that_brings_a_template(start_daemon, model_with_template):
    messages = [{"role": "user", "content": " h\u00e9 \n"}, {"role": "assistant", "content": "x<|im_end|>"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    prompt = ("<|im_start|>user\nh\u00e9<|endoftext|>\n<|im_start|>assistant\nx<|im_end|><|endoftext|>\n"
              "<|im_start|>user\nab<|endoftext|>\n<|im_start|>assistant\n")
    daemon = start_daemon(f"--model={model_with_template(CHATML)}", "--backend=cpu", "--slots=4")
    status, _, tokens = post(daemon, "/tokenize", {"messages": messages})
    assert status == 200
    assert tokens == post(daemon, "/tokenize", {"prompt": prompt})[2]
    assert post(daemon, "/detokenize", {"tokens": tokens["tokens"]})[2]["prompt"] == prompt
    with client_of(daemon) as client:
        model = client.models.list().data[0].id
        reply = client.chat.completions.create(model=model, messages=messages, max_tokens=3)
        assert reply.usage.prompt_tokens == tokens["count"]
        with pytest.raises(openai.BadRequestError, match="chat template: No role tool"):
            client.chat.completions.create(
                model=model, messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}])
    plain = post(daemon, "/tokenize", {"messages": messages, "add_generation_prompt": False})[2]
    assert tokens["tokens"][:plain["count"]] == plain["tokens"] and plain["count"] < tokens["count"]


def test_template_that_is_not_supported(start_daemon, model_with_template):
    folder = model_with_template("\n{{ messages | wordwrap }}")
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    what = "chat_template of tokenizer_config.json: line 2: the filter 'wordwrap' is not supported"
    daemon = start_daemon(f"--model={folder}", "--backend=cpu", "--slots=4")
    status, _, reply = post(daemon, "/v1/chat/completions", body)
    assert status == 400 and what in reply["error"]["message"]
    assert post(daemon, "/v1/completions", {"prompt": "x", "max_tokens": 1})[0] == 200
    assert any("level=warning" in line and "event=chat_template" in line and "line 2" in line
               for line in daemon.lines)
    assert daemon.stop() == 0
    plain = start_daemon(f"--model={folder}", "--backend=cpu", "--slots=4",
                         "--http_chat_template=plain")
    assert post(plain, "/v1/chat/completions", body)[0] == 200


def test_keys(start_daemon, tmp_path):
    import hashlib

    access = tmp_path / "access.json"
    digest = hashlib.sha256(b"based-good").hexdigest()
    access.write_text(json.dumps({"tenants": [{"name": "acme"}], "keys": [
        {"sha256": digest, "tenant": "acme", "permissions": ["generate"]}]}))
    access.chmod(0o600)
    daemon = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=2",
                          f"--access_file={access}")
    with client_of(daemon, api_key="based-bad") as client:
        with pytest.raises(openai.AuthenticationError):
            client.completions.create(model="tiny-a", prompt=[1])
    with client_of(daemon, api_key="based-good") as client:
        assert client.completions.create(model="tiny-a", prompt=[1], max_tokens=2).usage
    # The line follows the answer.
    wait_for_line(daemon, "event=http ", "tenant=acme")


def test_addresses_beyond_this_machine_need_a_word(start_daemon):
    from conftest import run_server

    ended = run_server(f"--model={TINY}", "--backend=reference", "--listen=127.0.0.1:0",
                       "--metrics_listen=", "--http_listen=0.0.0.0:0")
    assert ended.returncode == 1
    assert "--http_listen" in ended.stderr and "--insecure_listen" in ended.stderr


def test_slow_headers_are_cut_and_others_served(tiny):
    """Connections that send nothing, or never end a header, hold up nobody."""
    host, port = tiny.http_address.split(":")
    links = [socket.create_connection((host, int(port))) for _ in range(200)]
    for link in links[:100]:
        link.sendall(b"POST /v1/completions HTTP/1.1\r\ncontent-le")
    results = []
    threads = [threading.Thread(target=lambda: results.append(
        post(tiny, "/v1/completions", {"prompt": [1], "max_tokens": 3})[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [200] * 8
    for link in links:
        link.close()


def test_grpc_and_http_share_the_engine(tiny, proto):
    """The same counters, whatever the way in."""
    before = tiny.metric("based_generated_tokens_total")
    post(tiny, "/v1/completions", {"prompt": [1], "max_tokens": 7, "ignore_eos": True})
    message = proto.completion.GenerateRequest()
    message.token_ids.ids.append(1)
    message.stop.max_tokens = 5
    message.stop.ignore_eos = True
    with grpc.insecure_channel(tiny.address) as channel:
        list(proto.completion_grpc.CompletionServiceStub(channel).Generate(message, timeout=60))
    tiny.wait_for_metric("based_generated_tokens_total", before + 12)

"""client/python, installed as a user would install it, against real daemons."""

import asyncio
import re
import shutil
import subprocess
import sys

import grpc
import pytest
from conftest import ROOT
from test_batch import moody  # noqa: F401, a fixture


@pytest.fixture(scope="session")
def based_client(proto, tmp_path_factory):
    """The package, built by pip from a copy: building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("python-client")
    source, target = folder / "client" / "python", folder / "installed"
    shutil.copytree(ROOT / "client" / "python", source,
                    ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    shutil.copytree(ROOT / "proto", folder / "proto")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps",
                    "--no-build-isolation", "--disable-pip-version-check", "--target", target,
                    source], check=True, timeout=120)
    for module in ("completion_pb2.py", "completion_pb2.pyi", "completion_pb2_grpc.py"):
        assert (target / "based" / "v1" / module).exists()
    assert (target / "based_client" / "py.typed").exists()
    sys.path.append(str(target))
    import based_client

    return based_client


@pytest.fixture
def client(based_client, demo):
    with based_client.Client(demo.address) as made:
        yield made


def test_generate_and_stream_agree(client):
    fields = {"max_tokens": 12, "temperature": 0.8, "seed": 7, "ignore_eos": True}
    whole = client.generate("The sea was", request_id="from-python", **fields)
    assert whole.request_id == "from-python" and whole.seed == 7
    assert whole.generated_tokens == 12 and whole.choices[0].finish_reason == "max_tokens"
    assert whole.prompt_tokens > 1 and whole.prefill_s > 0
    stream = client.stream("The sea was", **fields)
    chunks = list(stream)
    assert len(chunks) > 1
    assert "".join(chunk.text for chunk in chunks) == whole.text == stream.result.text != ""


def test_a_chat(client, demo):
    messages = [{"role": "user", "content": "A ship?"}]
    reply = client.generate(messages, max_tokens=8, temperature=0)
    text = "### User:\nA ship?\n\n### Assistant:\n"
    assert reply.prompt_tokens == len(client.tokenize(text))
    assert reply.text == client.generate(text, max_tokens=8, temperature=0, stop=["\n### "]).text


def test_ids_several_completions_and_logprobs(client):
    result = client.generate(client.tokenize("Whale ahoy"), n=2, max_tokens=3, token_ids=True,
                             logprobs=True, top_logprobs=2, prompt_logprobs=True, ignore_eos=True)
    assert [choice.index for choice in result.choices] == [0, 1]
    assert [choice.seed - result.seed for choice in result.choices] in ([0, 1], [0, 1 - 2**64])
    for choice in result.choices:
        assert len(choice.token_ids) == len(choice.logprobs) == 3
        assert choice.logprobs[0].token_id == choice.token_ids[0]
        assert len(choice.logprobs[0].alternatives) == 2
    assert len(result.prompt_logprobs) == result.prompt_tokens - 1


def test_stops_biases_and_raw_requests(based_client, client, proto):
    text = client.generate("The sea was", temperature=0, max_tokens=20).text
    stopped = client.generate("The sea was", temperature=0, max_tokens=20, stop=text[5:8])
    assert stopped.choices[0].finish_reason == "stop_string"
    assert stopped.choices[0].stop_string == text[5:8] and text.startswith(stopped.text)
    request = based_client.make_request(b"x", logit_bias={65: 100.0}, max_tokens=2, temperature=0)
    assert client.generate(request, token_ids=True).token_ids == [65, 65]
    urgent = based_client.make_request("x", priority="batch", tenant="t")
    assert urgent.priority == proto.completion.PRIORITY_BATCH and urgent.tenant == "t"
    empty = based_client.make_request([])
    assert empty.WhichOneof("prompt") == "token_ids"


@pytest.mark.parametrize("kind,value,whole", [
    ("choice", ["yes", "no"], r"yes|no"),
    ("regex", "[a-c]{3}", r"[a-c]{3}"),
    ("grammar", 'root ::= "x" [0-9]', r"x[0-9]"),
    ("json_schema", {"enum": ["a", 7]}, r'"a"|7'),
    ("json_schema", '{"type": "boolean"}', r"true|false"),
])
def test_constraints(client, kind, value, whole):
    result = client.generate("It is ", max_tokens=20, seed=5, **{kind: value})
    assert re.fullmatch(whole, result.text)
    assert result.choices[0].finish_reason == "constraint"


def test_constraints_and_output_become_their_fields(based_client, client):
    make = based_client.make_request
    assert make("x", json=True).constraint.json
    assert make("x", json_schema=True).constraint.json_schema == "true"
    assert make(make("x", regex="a"), json=True).constraint.WhichOneof("kind") == "json"
    assert make(make("x", regex="a"), n=2).constraint.regex == "a"
    assert make("x", choice=[]).constraint.WhichOneof("kind") == "choice"
    assert not make("x").HasField("constraint") and not make("x").output.HasField("text")
    with pytest.raises(ValueError, match="regex and grammar are given; expected one"):
        make("x", regex="a", grammar="root ::= [a]")
    with pytest.raises(ValueError, match="choice is 'yes'; expected a list"):
        make("x", choice="yes")
    silent = client.generate("The sea was", text=False, token_ids=True, max_tokens=4, seed=1,
                             ignore_eos=True)
    assert silent.text == "" and len(silent.token_ids) == 4


def test_score_tokenize_and_models(client):
    ids = client.tokenize("Whale ahoy")
    assert client.detokenize(ids) == "Whale ahoy"
    scores = client.score([("The sea", " was"), ("The sea", " qqq")], token_logprobs=True)
    assert scores[0].logprob > scores[1].logprob
    assert len(scores[0].token_logprobs) == scores[0].tokens
    assert client.score([(ids[:1], ids[1:])])[0].tokens == len(ids) - 1
    assert client.model().name == "demo" and client.model().vocab_size > 100
    assert client.capacity().slots_total == 64


def test_errors_name_code_and_field(based_client, client):
    with pytest.raises(based_client.BasedError) as error:
        client.generate("x", top_p=2.0)
    assert error.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.field == "sampling.top_p" and error.value.retry_after is None
    with pytest.raises(based_client.BasedError) as error:
        client.generate("x", max_tokens=1_000_000, ignore_eos=True, timeout=0.3)
    assert error.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_leaving_a_stream_ends_the_request(client, demo):
    with client.stream("x", max_tokens=1_000_000, ignore_eos=True) as stream:
        for count, _ in enumerate(stream):
            if count == 3:
                break
    demo.wait_for_metric('based_state_slots{state="active"}', 0)


def test_sessions(based_client, client):
    chat = client.new_session()
    fields = {"max_tokens": 6, "seed": 4, "ignore_eos": True, "token_ids": True}
    first = chat.generate("The sea was", **fields)
    assert first.reused_tokens == 0 and first.session_tokens == chat.tokens > 6
    stream = chat.stream(" calm", **fields)
    text = "".join(chunk.text for chunk in stream)
    second = stream.result
    assert second.text == text and second.reused_tokens == first.session_tokens - 1
    whole = client.tokenize("The sea was") + first.token_ids + client.tokenize(" calm")
    assert client.generate(whole, **fields).token_ids == second.token_ids
    copy = chat.fork("python-copy")
    assert copy.generate([3], **fields).token_ids == chat.generate([3], **fields).token_ids
    assert copy.tokens == chat.tokens == client.session_info(chat.id).tokens
    assert {chat.id, "python-copy"} <= {info.id for info in client.sessions()}
    # Elsewhere it has gone on: what is said on the old footing is refused, until one looks.
    client.session(copy.id).generate("x", **fields)
    with pytest.raises(based_client.BasedError) as error:
        copy.generate("y", **fields)
    assert error.value.code == grpc.StatusCode.FAILED_PRECONDITION
    assert copy.refresh().tokens == copy.tokens
    copy.generate("y", **fields)
    for session in (chat, copy):
        session.delete()
    with pytest.raises(based_client.BasedError) as error:
        client.session(chat.id)
    assert error.value.code == grpc.StatusCode.NOT_FOUND


def test_async_sessions(based_client, demo):
    async def run():
        async with based_client.AsyncClient(demo.address) as client:
            chat = client.new_session()
            fields = {"max_tokens": 5, "seed": 2, "ignore_eos": True}
            await chat.generate("One", **fields)
            async with chat.stream("x", max_tokens=1_000_000, ignore_eos=True) as cut:
                async for _ in cut:
                    break
            before = chat.tokens
            # Tried again until the daemon has ended the call that was left.
            copy = await chat.fork()
            assert copy.tokens == chat.tokens == before
            pair = await asyncio.gather(chat.generate(" two", **fields),
                                        copy.generate(" two", **fields))
            assert pair[0].text == pair[1].text
            again = await client.session(chat.id)
            assert again.tokens == chat.tokens == (await chat.refresh()).tokens
            for session in (chat, copy):
                await session.delete()
            assert chat.id not in {info.id for info in await client.sessions()}

    asyncio.run(run())


def test_async_client(based_client, demo):
    async def run():
        async with based_client.AsyncClient(demo.address) as client:
            prompts = [f"Chapter {i}" for i in range(20)]
            results = await asyncio.gather(
                *(client.generate(p, max_tokens=5, ignore_eos=True) for p in prompts))
            assert all(result.generated_tokens == 5 for result in results)
            stream = client.stream("The sea", max_tokens=6, ignore_eos=True)
            text = "".join([chunk.text async for chunk in stream])
            assert text == stream.result.text != ""
            async with client.stream("x", max_tokens=1_000_000, ignore_eos=True) as cut:
                async for _ in cut:
                    break
            ids = await client.tokenize("Whale ahoy")
            assert await client.detokenize(ids) == "Whale ahoy"
            assert (await client.score([("The sea", " was")]))[0].tokens >= 1
            assert (await client.model()).name == "demo"
            assert (await client.capacity()).slots_total == 64
            with pytest.raises(based_client.BasedError) as error:
                await client.generate("x", top_k=-1)
            assert error.value.field == "sampling.top_k"

    asyncio.run(run())
    demo.wait_for_metric('based_state_slots{state="active"}', 0)


def refuse_first(context, request, number):
    if number == 1:
        context.set_trailing_metadata([("grpc-retry-pushback-ms", "300")])
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


def test_pushback_is_obeyed(based_client, moody):  # noqa: F811
    server = moody(refuse_first)
    with based_client.Client(server.address) as client:
        assert client.generate("x").text == "ok"
    assert server.calls[1][0] - server.calls[0][0] >= 0.3

    async def run(address):
        async with based_client.AsyncClient(address) as client:
            return (await client.generate("x")).text

    server = moody(refuse_first)
    assert asyncio.run(run(server.address)) == "ok"
    assert server.calls[1][0] - server.calls[0][0] >= 0.3


def test_retries_end(based_client, moody):  # noqa: F811
    def refuse(context, request, number):
        context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    server = moody(refuse)
    policy = based_client.RetryPolicy(attempts=3, first_wait_s=0.01)
    with based_client.Client(server.address, retry=policy) as client:
        with pytest.raises(based_client.BasedError) as error:
            client.generate("x")
    assert error.value.code == grpc.StatusCode.UNAVAILABLE and len(server.calls) == 3

    def slow_reader(context, request, number):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the reader is too slow")

    server = moody(slow_reader)
    with based_client.Client(server.address) as client:
        with pytest.raises(based_client.BasedError):
            client.generate("x")
    assert len(server.calls) == 1


def test_key_goes_with_every_call(based_client, moody, monkeypatch):  # noqa: F811
    seen = []

    def note(context, request, number):
        seen.append(dict(context.invocation_metadata()).get("authorization"))

    server = moody(note)
    monkeypatch.setenv("BASED_API_KEY", "from-environment")
    for key in (None, "given", ""):
        with based_client.Client(server.address, api_key=key) as client:
            client.generate("x")
    assert seen == ["Bearer from-environment", "Bearer given", None]


def test_half_a_tls_identity_is_refused(based_client):
    with pytest.raises(ValueError, match="go together"):
        based_client.Client("localhost:1", tls=based_client.Tls(certificate=b"x"))

"""Text through the demo model's tokenizer."""

import json

import grpc
import pytest
from tokenizers import Tokenizer

from conftest import DEMO, run_based


def stream(daemon, proto, request):
    with daemon.channel() as channel:
        return list(proto.completion_grpc.CompletionServiceStub(channel).Generate(request, timeout=60))


def text_of(messages):
    return "".join(m.delta.text for m in messages if m.HasField("delta"))


def request(proto, text=b"It was a dark night and", max_tokens=40):
    message = proto.completion.GenerateRequest(text=text)
    message.stop.max_tokens = max_tokens
    message.sampling.temperature = 0
    return message


def test_text_is_the_decoded_ids(demo, proto):
    message = request(proto)
    message.output.token_ids = True
    messages = stream(demo, proto, message)
    ids = [i for m in messages if m.HasField("delta") for i in m.delta.token_ids]
    reference = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    assert text_of(messages) == reference.decode(ids)
    assert len(text_of(messages).split()) > 5


def test_stop_string_is_left_out(demo, proto):
    whole = text_of(stream(demo, proto, request(proto)))
    stop = whole.split()[4]
    message = request(proto)
    message.stop.strings.append(stop.encode())
    messages = stream(demo, proto, message)
    done = messages[-1].done
    assert done.finish_reason == proto.completion.FINISH_REASON_STOP_STRING
    assert done.stop_string == stop.encode()
    assert text_of(messages) == whole[: whole.index(stop)]


def test_bytes_that_are_not_utf8(demo, proto):
    with pytest.raises(grpc.RpcError) as error:
        stream(demo, proto, request(proto, text=b"abc\xff\xfe"))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith("text is not UTF-8 at byte 3")


def test_tokenizer_service_agrees_with_the_library(demo, proto):
    reference = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    text = "The sea was calm; caf\u00e9 \u4f60\u597d \U0001f600\n\n  done."
    with demo.channel() as channel:
        stub = proto.tokenizer_grpc.TokenizerServiceStub(channel)
        ids = list(stub.Tokenize(proto.tokenizer.TokenizeRequest(text=text.encode())).ids)
        assert ids == reference.encode(text, add_special_tokens=False).ids
        reply = stub.Detokenize(proto.tokenizer.DetokenizeRequest(ids=ids))
        assert reply.text == text
        with pytest.raises(grpc.RpcError) as error:
            stub.Detokenize(proto.tokenizer.DetokenizeRequest(ids=[1_000_000]))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith("ids[0] is 1000000")


def test_command_streams_and_fails_clearly(demo):
    good = run_based("generate", "--address", demo.address, "--prompt", "Once upon a time",
                     "--max_tokens", 20, "--temperature", 0, "--stats")
    assert good.returncode == 0, good.stderr
    assert len(good.stdout.split()) > 3
    assert "generated_tokens=20" in good.stderr
    # An echoed prompt is no token of the completions.
    several = run_based("generate", "--address", demo.address, "--prompt", "Once", "--echo",
                        "--n", 3, "--max_tokens", 40, "--ignore_eos", "--stats", "--json")
    stats = dict(field.split("=") for field in several.stderr.split())
    done = [line["done"] for line in map(json.loads, several.stdout.splitlines())
            if "done" in line]
    first = [int(d["timings"]["queue_us"]) + int(d["timings"]["prefill_us"]) for d in done]
    last = [begin + int(d["timings"]["decode_us"]) for begin, d in zip(first, done)]
    assert stats["generated_tokens"] == "120"
    assert stats["finish_reason"] == "max_tokens,max_tokens,max_tokens"
    assert float(stats["first_token_s"]) == pytest.approx(1e-6 * min(first), abs=6e-4)
    assert float(stats["tokens_per_s"]) == pytest.approx(
        1e6 * 119 / (max(last) - min(first)), rel=1e-2)
    piped = run_based("generate", "--address", demo.address, "--max_tokens", 20,
                      "--temperature", 0, input="Once upon a time\n")
    assert piped.stdout == good.stdout
    bad = run_based("generate", "--address", demo.address, "--prompt", "x", "--temperature", -1)
    assert bad.returncode == 1
    assert bad.stderr.startswith("based: INVALID_ARGUMENT: sampling.temperature is -1")
    assert bad.stderr.count("\n") == 1
    usage = run_based("generate", "--temperatur", 1)
    assert usage.returncode == 2
    assert usage.stderr.count("\n") == 1
    for seconds in ("-1", "nan", "1e30"):
        usage = run_based("generate", "--prompt", "x", "--timeout", seconds)
        assert usage.returncode == 2
        assert usage.stderr.startswith(f"based: --timeout is {float(seconds):g}; expected seconds in")


def test_info_and_tokenize(demo):
    info = run_based("info", "--address", demo.address)
    assert info.returncode == 0
    assert "slots" in info.stdout and "64, 0 active, 64 free" in info.stdout
    remote = run_based("tokenize", "--address", demo.address, "--text", "hello there")
    local = run_based("tokenize", "--tokenizer", DEMO, "--text", "hello there")
    assert remote.returncode == local.returncode == 0
    assert remote.stdout == local.stdout
    back = run_based("tokenize", "--tokenizer", DEMO, "--ids", remote.stdout.strip())
    assert back.stdout == "hello there\n"

"""Options of completions, and scores, over the wire against real models."""

import json
import lzma
import math
import re
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from conftest import DEMO, ROOT, TINY, run_based


def stub_of(daemon, proto):
    return proto.completion_grpc.CompletionServiceStub(daemon.channel())


def ids_request(proto, ids=(1, 2, 3), max_tokens=8, **fields):
    request = proto.completion.GenerateRequest(
        token_ids=proto.completion.TokenIds(ids=ids), **fields
    )
    request.stop.max_tokens = max_tokens
    request.stop.ignore_eos = True
    request.sampling.seed = 5
    return request


def generate(daemon, proto, request):
    return list(stub_of(daemon, proto).Generate(request, timeout=60))


def choices(messages):
    """Ids of each completion, and its Done."""
    ids, done = {}, {}
    for message in messages:
        if message.HasField("delta"):
            assert message.delta.index not in done
            ids.setdefault(message.delta.index, []).extend(message.delta.token_ids)
        if message.HasField("done"):
            done[message.done.index] = message.done
    return ids, done


def test_n_completions_are_those_of_their_seeds(tiny, proto):
    ids, done = choices(generate(tiny, proto, ids_request(proto, n=6)))
    assert sorted(ids) == sorted(done) == list(range(6))
    for index in range(6):
        request = ids_request(proto)
        request.sampling.seed += index
        alone, _ = choices(generate(tiny, proto, request))
        assert ids[index] == alone[0]
        assert done[index].usage.generated_tokens == 8


def test_best_of_returns_the_most_likely(tiny, proto):
    request = ids_request(proto, n=8)
    request.output.logprobs = True
    _, every = choices(generate(tiny, proto, request))
    likely = sorted((d.cumulative_logprob for d in every.values()), reverse=True)
    ids, best = choices(generate(tiny, proto, ids_request(proto, n=2, best_of=8)))
    assert [best[i].cumulative_logprob for i in range(2)] == likely[:2]
    # Each says with which seed it is had alone.
    assert [d.seed for i, d in sorted(every.items())] == list(range(5, 13))
    for index, done in best.items():
        assert done.cumulative_logprob == every[done.seed - 5].cumulative_logprob
        request = ids_request(proto)
        request.sampling.seed = done.seed
        assert choices(generate(tiny, proto, request))[0][0] == ids[index]


def test_logprobs_of_prompt_and_output_agree_with_score(tiny, proto):
    request = ids_request(proto)
    request.output.logprobs = True
    request.output.prompt_logprobs = True
    request.output.top_logprobs = 3
    messages = generate(tiny, proto, request)
    prompt = [t for m in messages for t in m.delta.prompt_logprobs]
    output = [t for m in messages for t in m.delta.logprobs]
    assert [t.token_id for t in prompt] == [2, 3]
    assert len(output) == 8
    for token in prompt + output:
        assert len(token.alternatives) == 3
        assert token.alternatives[0].logprob >= token.alternatives[2].logprob
        assert token.logprob <= token.alternatives[0].logprob
    pair = proto.completion.ScorePair()
    pair.context_ids.ids.append(1)
    pair.continuation_ids.ids.extend([2, 3] + [t.token_id for t in output])
    reply = stub_of(tiny, proto).Score(
        proto.completion.ScoreRequest(pairs=[pair], token_logprobs=True)
    )
    scores = [t.logprob for t in reply.scores[0].token_logprobs]
    assert scores == [t.logprob for t in prompt + output]
    assert math.isclose(reply.scores[0].logprob, sum(scores), rel_tol=1e-5)
    assert reply.scores[0].tokens == 10


def test_greedy_continuation_scores_as_greedy(tiny, proto):
    request = ids_request(proto)
    request.sampling.temperature = 0
    ids, _ = choices(generate(tiny, proto, request))
    pairs = []
    for wrong in (False, True):
        pair = proto.completion.ScorePair()
        pair.context_ids.ids.extend([1, 2, 3])
        pair.continuation_ids.ids.extend(ids[0])
        if wrong:
            pair.continuation_ids.ids[4] = (ids[0][4] + 1) % 61
        pairs.append(pair)
    reply = stub_of(tiny, proto).Score(proto.completion.ScoreRequest(pairs=pairs))
    assert [s.is_greedy for s in reply.scores] == [True, False]


def test_whitespace_between_context_and_continuation_is_scored_with_what_follows(demo, proto):
    """As evaluation harnesses have it: the context may end in what the next token begins with."""
    def score(context, continuation):
        pair = proto.completion.ScorePair(context=context, continuation=continuation)
        request = proto.completion.ScoreRequest(pairs=[pair], token_logprobs=True)
        return stub_of(demo, proto).Score(request).scores[0]

    for context, continuation in ((b"The capital of France is", b" Paris, a city"),
                                  (b"It was\n", b"\nlate")):
        whole = context + continuation
        inner = len(context) + len(continuation) - len(continuation.lstrip())
        assert score(whole[:inner], whole[inner:]) == score(context.rstrip(),
                                                            whole[len(context.rstrip()):])
    with pytest.raises(grpc.RpcError) as refused:
        score(b"It was lat", b"")
    assert "continuation has no tokens" in refused.value.details()
    both = proto.completion.ScorePair(context=b"It", continuation_ids={"ids": [1]})
    with pytest.raises(grpc.RpcError) as refused:
        stub_of(demo, proto).Score(proto.completion.ScoreRequest(pairs=[both]))
    assert "pairs[0] is set as text and as ids" in refused.value.details()


def test_no_delta_outgrows_what_clients_take(tiny, proto):
    """gRPC's default is 4 MiB: many logprobs go out before they were due."""
    for shape in ({"tokens_per_message": 65536}, {"delta_interval_ms": 60000}, {}):
        request = ids_request(proto, best_of=1 if shape else 2)
        request.stop.max_tokens = 3000
        request.stop.ignore_eos = True
        request.output.logprobs = True
        request.output.top_logprobs = 20
        for name, value in shape.items():
            setattr(request.output, name, value)
        messages = generate(tiny, proto, request)
        deltas = [m.delta for m in messages if m.HasField("delta")]
        assert sum(len(d.logprobs) for d in deltas) == 3000
        assert max(m.ByteSize() for m in messages) < 1 << 20
        assert len(deltas) == 4  # of 16,384 alternatives and chosen tokens, 21 for each token


def test_hundreds_of_pairs_in_one_call(tiny, proto):
    pairs = []
    for i in range(300):
        pair = proto.completion.ScorePair()
        pair.context_ids.ids.extend([1 + i % 50, 2])
        pair.continuation_ids.ids.append(3)
        pairs.append(pair)
    reply = stub_of(tiny, proto).Score(proto.completion.ScoreRequest(pairs=pairs))
    assert len(reply.scores) == 300
    assert all(s.logprob == reply.scores[i % 50].logprob for i, s in enumerate(reply.scores))


def score_pair(proto, context, continuation):
    ids = proto.completion.TokenIds
    return proto.completion.ScorePair(
        context_ids=ids(ids=context), continuation_ids=ids(ids=continuation)
    )


def test_pairs_of_one_context_compute_it_once(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=5", "--token_budget=32")
    contexts = [[i, *range(1, 60)] for i in (7, 8)]
    pairs = [score_pair(proto, contexts[i % 2], [i, i + 1, i + 2]) for i in range(20)]
    counter = "based_prompt_tokens_total"

    def score(pairs):
        request = proto.completion.ScoreRequest(pairs=pairs, token_logprobs=True)
        return stub_of(daemon, proto).Score(request, timeout=60).scores

    before = daemon.metric(counter)
    together = score(pairs)
    # The context's last token is fed to every pair, the last of a continuation to none.
    daemon.wait_for_metric(counter, before + 2 * 59 + 20 * 3)
    alone = [score([pair])[0] for pair in pairs]
    daemon.wait_for_metric(counter, before + 2 * 59 + 20 * 3 + 20 * (59 + 3))
    assert list(together) == alone


def test_what_texts_begin_with_in_common_is_computed_once(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=4", "--token_budget=32")

    def score(pairs):
        request = proto.completion.ScoreRequest(pairs=pairs, token_logprobs=True)
        reply = stub_of(daemon, proto).Score(request, timeout=60)
        return list(reply.scores), reply.usage

    context = list(range(60))
    # Contexts of 61 tokens, 60 of them in common: the first is computed, and of the others the
    # token where they leave it and their own.
    last_differs = [score_pair(proto, [*context, i], [5]) for i in range(8)]
    # Continuations that begin alike, one of which is another's beginning, and one given twice.
    tail = [9, 8, 7, 6, 5, 4, 3, 2, 1]
    branching = [
        score_pair(proto, context, [*tail, 1, 1]),
        score_pair(proto, context, tail),
        score_pair(proto, [*context, *tail], [2, 2, 2]),
        score_pair(proto, context[:40], [0, 0]),
        score_pair(proto, context, [*tail, 1, 1]),
    ]
    for pairs, computed in [(last_differs, 61 + 7 * 2),
                            (branching, 41 + (1 + 20 + 10) + 3)]:
        together, usage = score(pairs)
        assert usage.computed_tokens == computed
        alone = [score([pair]) for pair in pairs]
        assert together == [scores[0] for scores, _ in alone]
        assert usage.tokens == sum(own.tokens for _, own in alone)
        assert all(own.computed_tokens == own.tokens - 1 for _, own in alone)


@pytest.mark.parametrize(
    "pair, expected",
    [
        (([1], [61]), "pairs[1].continuation_ids.ids[0] is 61; expected a token id in [0, 61)"),
        (([-1], [6]), "pairs[1].context_ids.ids[0] is -1; expected a token id in [0, 61)"),
        (([1], []), "pairs[1].continuation has no tokens"),
    ],
)
def test_a_wrong_pair_is_named(tiny, proto, pair, expected):
    pairs = [score_pair(proto, [1], [2]), score_pair(proto, *pair)]
    with pytest.raises(grpc.RpcError) as error:
        stub_of(tiny, proto).Score(proto.completion.ScoreRequest(pairs=pairs))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert expected in error.value.details()


@pytest.mark.parametrize(
    "spoil, expected",
    [
        (lambda r: r.MergeFrom(type(r)(n=65)), "n is 65"),
        (lambda r: r.MergeFrom(type(r)(n=3, best_of=2)), "best_of is 2; expected"),
        (lambda r: setattr(r.stop, "min_tokens", 9), "stop.min_tokens is 9"),
        (lambda r: r.sampling.logit_bias.update({61: 1.0}), "sampling.logit_bias"),
    ],
)
def test_contradictions_are_invalid_arguments(tiny, proto, spoil, expected):
    request = ids_request(proto)
    spoil(request)
    with pytest.raises(grpc.RpcError) as error:
        generate(tiny, proto, request)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert expected in error.value.details()


def test_rules_that_leave_no_token_are_named(demo, proto):
    tokenizer = proto.tokenizer_grpc.TokenizerServiceStub(demo.channel())
    ids = tokenizer.Tokenize(proto.tokenizer.TokenizeRequest(text=b"x")).ids
    request = proto.completion.GenerateRequest(text=b"hello")
    request.sampling.allowed_token_ids.extend(ids)
    for word, code, reason, expected in [
        (b"x", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD",
         "sampling.allowed_token_ids and sampling.bad_words leave no token for the first draw"),
        # Only the second draw is left without one.
        (b"xx", grpc.StatusCode.FAILED_PRECONDITION, "NO_TOKEN_LEFT",
         "sampling.allowed_token_ids and sampling.bad_words together exclude all"),
    ]:
        request.sampling.bad_words[:] = [word]
        # What a word is banned by is the tokenizer's spelling of it.
        spelled = tokenizer.Tokenize(proto.tokenizer.TokenizeRequest(text=word)).ids
        assert list(spelled) == list(ids) * len(word)
        with pytest.raises(grpc.RpcError) as error:
            generate(demo, proto, request)
        assert error.value.code() == code
        assert expected in error.value.details()
        info = error_details_pb2.ErrorInfo()
        assert rpc_status.from_call(error.value).details[0].Unpack(info)
        assert info.reason == reason


# Of the first bytes of the text, whole paragraphs: what the training script prints for them,
#   models/train_demo.py --score models/demo --valid FILE
EXCERPT_BYTES, EXCERPT_BITS = 65_346, 1.264781


def test_bits_per_byte_through_the_daemon_are_those_of_the_training_script(demo, tmp_path):
    text = lzma.decompress((ROOT / "models" / "valid.txt.xz").read_bytes())
    assert len(text) == 2_374_022  # the model card's
    excerpt = tmp_path / "excerpt.txt"
    excerpt.write_bytes(text[:EXCERPT_BYTES])
    done = run_based("perplexity", f"--address={demo.address}", f"--file={excerpt}")
    assert done.returncode == 0, done.stderr
    assert f"bytes={EXCERPT_BYTES} windows=17 " in done.stdout
    bits = float(re.search(r"bits_per_byte=(\S+)", done.stdout).group(1))
    # Four digits of the perplexity per byte, 2.403, and of its logarithm.
    assert f"{bits:.4f}" == f"{EXCERPT_BITS:.4f}"
    assert f"{2 ** bits:.3f}" == f"{2 ** EXCERPT_BITS:.3f}"


def test_perplexity_through_the_daemon_is_that_of_this_process(demo, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("It was a dark night, and the old house stood silent. " * 120)
    figures = []
    for where in (f"--model={DEMO}", f"--address={demo.address}"):
        done = run_based("perplexity", where, f"--file={text}", "--window=128")
        assert done.returncode == 0, done.stderr
        assert "windows=13" in done.stdout
        figures.append(float(re.search(r"bits_per_byte=(\S+)", done.stdout).group(1)))
    assert math.isclose(figures[0], figures[1], abs_tol=2e-6)


def test_timings_are_true_of_a_prompt_in_chunks(start_daemon, proto):
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=2", "--token_budget=16")
    computed = daemon.metric("based_prompt_tokens_total")
    begin = time.monotonic()
    request = ids_request(proto, ids=[1 + i % 50 for i in range(500)], max_tokens=30)
    _, done = choices(generate(daemon, proto, request))
    elapsed_us = 1e6 * (time.monotonic() - begin)
    timings = done[0].timings
    assert timings.prefill_tokens == 500
    assert timings.decode_tokens == 29
    assert timings.prefill_us > 0 and timings.decode_us > 0
    assert timings.queue_us + timings.prefill_us + timings.decode_us <= elapsed_us
    daemon.wait_for_metric("based_prompt_tokens_total", computed + 500)


def test_generate_command_takes_many_options_at_once(demo):
    done = run_based(
        "generate", f"--address={demo.address}", "--prompt=Once upon a time", "--max_tokens=8",
        "--n=2", "--best_of=3", "--repetition_penalty=1.2", "--presence_penalty=0.1",
        "--frequency_penalty=0.1", "--typical_p=0.9", "--logit_bias=5:-1", "--bad_words=the",
        "--min_tokens=2", "--include_stop", "--echo", "--tokens_per_message=4", "--seed=3",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("[0] Once upon a time")
    assert any(line.startswith("[1] Once upon a time") for line in lines)


# Options of a completion that differ in kind, for the daemon and the process alike.
SAME = [
    ["--prompt=Once upon a time", "--max_tokens=24", "--seed=11", "--temperature=0.9"],
    ["--prompt=The old house", "--max_tokens=16", "--n=3", "--best_of=5", "--seed=3", "--top_k=40"],
    ["--prompt=My dear", "--max_tokens=12", "--seed=5", "--json", "--token_ids", "--logprobs",
     "--prompt_logprobs", "--top_logprobs=2", "--repetition_penalty=1.3", "--tokens_per_message=5"],
    ["--prompt_token_ids=17,4,250", "--max_tokens=20", "--seed=8", "--stop= the", "--token_ids",
     "--bad_words=and", "--logit_bias=5:-1", "--typical_p=0.9", "--echo"],
]


@pytest.mark.parametrize("flags", SAME)
def test_local_generation_is_that_of_the_daemon(demo, flags):
    def run(*where):
        done = run_based("generate", *where, *flags)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        if "--json" not in flags:
            return sorted(lines) if "--n=3" in flags else lines
        messages = []
        for message in map(json.loads, lines):
            # A daemon merges what a reader has not taken yet.
            delta = message.get("delta")
            if delta and messages and "delta" in messages[-1]:
                for field in ("text", "token_ids", "logprobs", "prompt_logprobs"):
                    messages[-1]["delta"][field] += delta[field]
                continue
            messages.append(message)
            message.get("started", {}).pop("request_id", None)
            for time_us in ("queue_us", "prefill_us", "decode_us"):
                message.get("done", {}).get("timings", {}).pop(time_us, None)
        return messages

    local = run("--local", f"--model={DEMO}", "--backend=cpu")
    assert local == run(f"--address={demo.address}")
    assert len(str(local)) > 40


def test_local_and_a_daemon_are_not_asked_for_together():
    both = run_based("generate", "--local", f"--model={DEMO}", "--address=127.0.0.1:1", "--prompt=a")
    assert both.returncode == 2
    assert "--address names one" in both.stderr


def test_local_errors_are_those_of_the_daemon(demo):
    flags = ["--prompt=a", "--min_tokens=9", "--max_tokens=5"]
    local = run_based("generate", "--local", f"--model={DEMO}", *flags)
    remote = run_based("generate", f"--address={demo.address}", *flags)
    assert local.returncode == remote.returncode == 1
    assert local.stderr == remote.stderr
    assert "stop.min_tokens is 9" in local.stderr

"""`based batch` against real daemons, and against one that refuses, fails and goes away."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
import pytest
from conftest import BIN, DEMO, ROOT, run_based


def completion(name, prompt="The sea", **body):
    body = {"prompt": prompt, "max_tokens": 6, "temperature": 0, **body}
    return {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def batch(daemon, *arguments, **options):
    address = daemon if isinstance(daemon, str) else daemon.address
    return run_based("batch", *arguments, f"--address={address}", **options)


def test_every_form_and_errors_in_place(demo, tmp_path):
    chat = {"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user", "content": "Hello €"}], "max_tokens": 4}}
    lines = [
        completion("a", n=2, model="demo"),
        chat,
        {"prompt": "plain", "max_tokens": 3},
        completion("bad", temperature=-5),
        completion("b", prompt=[5, 6, 7]),
    ]
    source, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    done = batch(demo, source, output)
    assert done.returncode == 0, done.stderr
    assert "1 of 5 lines have an error" in done.stderr
    a, chatted, plain, bad, b = read_lines(output)
    assert [a["custom_id"], chatted["custom_id"], bad["custom_id"], b["custom_id"]] == [
        "a", "chat", "bad", "b"]
    body = a["response"]["body"]
    assert a["error"] is None and a["response"]["status_code"] == 200
    assert body["object"] == "text_completion" and body["model"] == "demo"
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["choices"][0]["text"] and body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 12
    message = chatted["response"]["body"]["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert plain["line"] == 3 and plain["text"] and plain["usage"]["completion_tokens"] == 3
    assert bad["response"] is None and bad["error"]["code"] == "INVALID_ARGUMENT"
    assert bad["error"]["message"].startswith("temperature is -5")
    assert len({line["id"] for line in read_lines(output)}) == 5
    again = batch(demo, source, output)
    assert again.returncode == 0 and "complete" in again.stderr
    assert read_lines(output)[0] == a


def test_shards_put_together_are_the_whole(demo, tmp_path):
    lines = [completion(f"r{i}", prompt=f"Chapter {i}", max_tokens=1 + i % 9) for i in range(31)]
    source = write_lines(tmp_path / "in.jsonl", lines)
    texts = []
    for i in range(3):
        output = tmp_path / f"out-{i}.jsonl"
        assert batch(demo, source, output, f"--shard={i}/3").returncode == 0
        texts += [(r["custom_id"], r["response"]["body"]["choices"]) for r in read_lines(output)]
    whole = tmp_path / "whole.jsonl"
    assert batch(demo, source, whole).returncode == 0
    assert texts == [(r["custom_id"], r["response"]["body"]["choices"]) for r in read_lines(whole)]
    refused = batch(demo, source, whole, "--shard=1/3")
    assert refused.returncode == 1 and "is not the output of" in refused.stderr
    assert batch(demo, source, whole, "--shard=3/3").returncode == 2


def test_a_bad_input_is_refused_before_anything_is_sent(tmp_path):
    lines = [completion("a"), completion("a"), {"custom_id": "c", "url": "/v1/x", "body": {}}]
    source, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    done = batch("127.0.0.1:1", source, output)
    assert done.returncode == 1
    assert f"{source}:2: custom_id" in done.stderr and f"{source}:3: url" in done.stderr
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("line, fault", [
    (b"{broken", ":2: not JSON"),
    (b'{"prompt": "\xff"}', ":2: not UTF-8 at byte 12"),
    (json.dumps(completion("b", model="other")).encode(), ':2: model is "other", expected "demo"'),
    (json.dumps(completion("b", stream=True)).encode(), ":2: stream is true"),
    (json.dumps(completion("b", stream_options={"include_usage": True})).encode(),
     ":2: stream_options is"),
    (b'{"prompt": "' + b"a" * (16 << 20) + b'"}', ":2: longer than 16777216 bytes"),
], ids=["json", "utf8", "model", "stream", "stream_options", "long"])
def test_bad_lines_are_named(tmp_path, line, fault):
    source = tmp_path / "in.jsonl"
    source.write_bytes(json.dumps(completion("a", model="demo")).encode() + b"\n" + line + b"\n")
    done = batch("127.0.0.1:1", source, tmp_path / "out.jsonl")
    assert done.returncode == 1 and fault in done.stderr, done.stderr[:300]
    assert list(tmp_path.iterdir()) == [source]


def test_another_model_than_the_served_one(demo, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [completion("a", model="gpt-4o-mini")])
    refused = batch(demo, source, tmp_path / "out.jsonl")
    assert refused.returncode == 1 and "'gpt-4o-mini'" in refused.stderr
    assert batch(demo, source, tmp_path / "out.jsonl", "--model=demo").returncode == 0


def test_unwritable_output_and_output_of_another_job(demo, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [completion("a")])
    missing = batch(demo, source, tmp_path / "no" / "out.jsonl")
    assert missing.returncode == 1 and "no/out.jsonl.partial: No such file" in missing.stderr
    output = tmp_path / "out.jsonl"
    assert batch(demo, source, output).returncode == 0
    other = write_lines(tmp_path / "other.jsonl", [completion("a", prompt="else")])
    refused = batch(demo, other, output)
    assert refused.returncode == 1 and "is not the output of" in refused.stderr


def test_an_output_that_is_no_file_is_refused_before_anything_is_sent(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [completion("a")])
    (tmp_path / "folder").mkdir()
    for output in ("/dev/full", "/dev/stdout", tmp_path / "folder"):
        done = batch("127.0.0.1:1", source, output)
        assert done.returncode == 1, output
        assert f"{output} is no regular file; expected a name for the output" in done.stderr


def test_ignored_fields_are_told(demo, tmp_path):
    lines = [completion("a", service_tier="flex", store=True, user="u", metadata=None),
             {**completion("b", store=False), "max_tokens": 3}, {"prompt": "plain", "no": 1}]
    source = write_lines(tmp_path / "in.jsonl", lines)
    done = batch(demo, source, tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "ignored" in line]
    assert told == [
        f'based: "{name}" means nothing in a batch and is ignored, on {lines}'
        for name, lines in (("max_tokens", "1 line"), ("no", "1 line"),
                            ("service_tier", "1 line"), ("store", "2 lines"))]
    known = write_lines(tmp_path / "known.jsonl", [completion("a", top_k=3, stop=["x"], user="u")])
    done = batch(demo, known, tmp_path / "known-out.jsonl")
    assert done.returncode == 0 and "ignored" not in done.stderr


def test_a_full_disk_keeps_what_was_written(demo, tmp_path):
    lines = [completion(f"r{i}", prompt=f"Chapter {i}") for i in range(60)]
    source, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"

    def limit_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    full = batch(demo, source, output, preexec_fn=limit_files)
    assert full.returncode == 1
    assert "cannot write" in full.stderr and "the same command goes on" in full.stderr
    done = batch(demo, source, output)
    assert done.returncode == 0 and "going on after" in done.stderr
    assert [r["custom_id"] for r in read_lines(output)] == [f"r{i}" for i in range(60)]


def test_kills_lose_and_repeat_nothing():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "bench" / "batch_kills.py", "--kills=8", "--lines=150"],
        env={**os.environ, "BASED_BIN_DIR": str(BIN)}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "lost=0 repeated=0" in done.stdout


def test_the_daemon_goes_away_and_comes_back(start_daemon, tmp_path):
    first = start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=4")
    lines = [completion(f"r{i}", prompt=f"Chapter {i}", max_tokens=40) for i in range(200)]
    source, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    process = subprocess.Popen([BIN / "based", "batch", source, output,
                                f"--address={first.address}", "--daemon_wait=60"],
                               stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out.jsonl.partial").exists() or len(
            (tmp_path / "out.jsonl.partial").read_text().splitlines()) < 20:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    first.signal(signal.SIGKILL)
    first.wait()
    start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=4", f"--listen={first.address}")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    results = read_lines(output)
    assert [r["custom_id"] for r in results] == [f"r{i}" for i in range(200)]
    assert all(r["error"] is None for r in results)


def moody_server(proto, behave):
    """A daemon of its own, whose Generate first does what a test says."""
    pb = proto.completion

    class Moody(proto.completion_grpc.CompletionServiceServicer,
                proto.model_grpc.ModelServiceServicer):
        def __init__(self):
            self.calls, self.priorities, self.lock = [], set(), threading.Lock()
            self.server = grpc.server(futures.ThreadPoolExecutor(8))
            proto.completion_grpc.add_CompletionServiceServicer_to_server(self, self.server)
            proto.model_grpc.add_ModelServiceServicer_to_server(self, self.server)
            self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
            self.server.start()

        def GetModel(self, request, context):
            return proto.model.GetModelResponse(name="moody", digest="d", vocab_size=61)

        def GetCapacity(self, request, context):
            return proto.model.GetCapacityResponse(slots_total=4, max_queue=4)

        def Generate(self, request, context):
            with self.lock:
                self.calls.append((time.monotonic(), request.text.decode()))
                self.priorities.add(request.priority)
                number = len(self.calls)
            behave(context, request, number)
            yield pb.GenerateResponse(started=pb.Started(request_id="x"))
            yield pb.GenerateResponse(delta=pb.Delta(text="ok", token_ids=[1]))
            yield pb.GenerateResponse(done=pb.Done(finish_reason=pb.FINISH_REASON_MAX_TOKENS))

    return Moody()


@pytest.fixture
def moody(proto):
    made = []

    def make(behave):
        made.append(moody_server(proto, behave))
        return made[-1]

    yield make
    for server in made:
        server.server.stop(0)


def test_pushback_is_obeyed(moody, tmp_path):
    def behave(context, request, number):
        if number == 1:
            context.set_trailing_metadata([("grpc-retry-pushback-ms", "700")])
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    server = moody(behave)
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "one"}])
    done = batch(server, source, tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    (first, _), (second, _) = server.calls
    assert second - first >= 0.7
    assert read_lines(tmp_path / "out.jsonl")[0]["text"] == "ok"


@pytest.mark.parametrize("flags, priority", [([], 2), (["--interactive"], 1)])
def test_batches_let_interactive_requests_go_first(moody, tmp_path, flags, priority):
    server = moody(lambda *_: None)
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "one"}])
    assert batch(server, source, tmp_path / "out.jsonl", *flags).returncode == 0
    assert server.priorities == {priority}


def test_a_line_that_always_fails_ends_as_an_error(moody, tmp_path):
    def behave(context, request, number):
        if request.text == b"poison":
            context.abort(grpc.StatusCode.INTERNAL, "no luck")

    server = moody(behave)
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": p} for p in ("a", "poison", "b")])
    done = batch(server, source, tmp_path / "out.jsonl", "--attempts=3")
    assert done.returncode == 0, done.stderr
    results = read_lines(tmp_path / "out.jsonl")
    assert [r.get("text") for r in results] == ["ok", None, "ok"]
    assert results[1]["error"] == {"code": "INTERNAL", "message": "no luck (3 attempts)"}
    assert [text for _, text in server.calls].count("poison") == 3


def test_a_batch_whose_every_line_fails_is_a_failure(demo, tmp_path):
    lines = [completion("a", temperature=-1), completion("b", max_tokens=0)]
    source, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    for flags in ([], ["--quiet"]):  # the second time it is complete
        done = batch(demo, source, output, *flags)
        assert done.returncode == 1
        assert f"based: all 2 lines have an error in place of a result, see {output}" in done.stderr
        assert [line["error"]["code"] for line in read_lines(output)] == ["INVALID_ARGUMENT"] * 2
    assert "Exit status:\n  0 when OUTPUT" in run_based("batch", "--help").stdout
    nothing = tmp_path / "none.jsonl"
    nothing.write_text("\n")
    assert batch(demo, nothing, tmp_path / "none-out.jsonl").returncode == 0


def test_a_refused_key_ends_the_run_at_once(moody, tmp_path):
    def behave(context, request, number):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such key")

    source = write_lines(tmp_path / "in.jsonl", [{"prompt": str(i)} for i in range(50)])
    server = moody(behave)
    done = batch(server, source, tmp_path / "out.jsonl")
    assert done.returncode == 1 and "no such key" in done.stderr
    assert len(server.calls) < 50


def test_a_daemon_that_stays_away_is_given_up(moody, tmp_path):
    def behave(context, request, number):
        context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "a"}])
    done = batch(moody(behave), source, tmp_path / "out.jsonl", "--daemon_wait=2")
    assert done.returncode == 1 and "has taken nothing for 2 s" in done.stderr
    assert "holds 0 of 1 lines" in done.stderr
    nobody = batch("127.0.0.1:1", source, tmp_path / "else.jsonl", "--daemon_wait=1")
    assert nobody.returncode == 1 and "127.0.0.1:1" in nobody.stderr


def test_the_job_of_kubernetes_gives_flags_that_exist():
    import kubernetes_validate
    import yaml

    job = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "batch" / "job.yaml").read_text())
    kubernetes_validate.validate(job, "1.30", strict=True)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:2] == ["based", "batch"]
    flags = [argument.partition("=") for argument in command if argument.startswith("--")]
    help_text = run_based("batch", "--help").stdout
    assert all(f"{name} " in help_text for name, _, _ in flags)
    shard = dict((name, value) for name, _, value in flags)["--shard"]
    assert int(shard.split("/")[1]) == job["spec"]["completions"] == job["spec"]["parallelism"]

"""Batch jobs that the daemon runs by itself: through `based jobs` and through BatchService."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import grpc
import pytest
from conftest import BIN, DEMO, ROOT, TINY, run_based

FLAGS = (f"--model={DEMO}", "--backend=cpu")


def completion(name, prompt="The sea", url="/v1/completions", **body):
    body = {"prompt": prompt, "max_tokens": 6, "temperature": 0, **body}
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def jobs(daemon, *arguments, key=None):
    environment = {**os.environ, "BASED_API_KEY": key} if key else None
    return run_based("jobs", *arguments, f"--address={daemon.address}", env=environment)


def shown(daemon, name, *arguments, key=None):
    done = jobs(daemon, "show", name, "--json", *arguments, key=key)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_until(daemon, name, holds, limit_s=60):
    end = time.monotonic() + limit_s
    while not holds(job := shown(daemon, name)):
        assert time.monotonic() < end, job
        time.sleep(0.05)
    return job


@pytest.fixture(scope="module")
def keeper(start_daemon, tmp_path_factory):
    return start_daemon(*FLAGS, "--slots=8", f"--batch_dir={tmp_path_factory.mktemp('jobs')}")


@pytest.fixture
def service(keeper, proto):
    with keeper.channel() as channel:
        yield proto.batch_grpc.BatchServiceStub(channel)


def create(service, proto, lines, name="", piece=7, **fields):
    """CreateBatch with a text in pieces of a few bytes."""
    text = lines.encode() if isinstance(lines, str) else lines
    messages = [proto.batch.CreateBatchRequest(lines=text[i:i + piece])
                for i in range(0, max(len(text), 1), piece)]
    messages[0].id = name
    messages[-1].last = True
    return service.CreateBatch(iter(messages), **fields)


def code_of(call, *arguments, **fields):
    with pytest.raises(grpc.RpcError) as caught:
        reply = call(*arguments, **fields)
        if hasattr(reply, "__iter__"):
            list(reply)
    return caught.value.code(), caught.value.details()


def test_every_form_as_based_batch_answers_it(keeper, tmp_path):
    chat = {"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user", "content": "Hello €"}], "max_tokens": 4,
                     "temperature": 0}}
    lines = [completion("a", n=2, model="demo"), chat, {"prompt": "plain", "max_tokens": 3, "seed": 4},
             completion("bad", temperature=-5), completion("b", prompt=[5, 6, 7]),
             completion("stop", include_stop=True, max_tokens=40, stop=["e"])]
    source, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    assert jobs(keeper, "submit", source, "--id=forms").returncode == 0
    fetched = jobs(keeper, "fetch", "forms", output)
    assert fetched.returncode == 0 and "1 of 6 lines have an error" in fetched.stderr, fetched.stderr
    client = tmp_path / "client.jsonl"
    assert run_based("batch", source, client, f"--address={keeper.address}").returncode == 0

    def core(result):
        """What both ways in must answer alike."""
        body = result.get("response") and result["response"]["body"]
        choices = [{key: choice[key] for key in ("text", "message", "finish_reason")
                    if key in choice} for choice in body["choices"]] if body else None
        return (result["id"], result.get("custom_id"), result.get("text"), result["error"], choices,
                body and (body["object"], body["model"], body["usage"]))

    assert [core(line) for line in read_lines(output)] == [core(line) for line in read_lines(client)]
    assert read_lines(output)[0]["response"]["status_code"] == 200
    again = jobs(keeper, "fetch", "forms", output)
    assert again.returncode == 1 and "is there; name another file" in again.stderr


def test_logprobs_and_many_prompts_are_served(keeper, tmp_path):
    lines = [completion("l", logprobs=2), completion("p", prompt=["one", "two"])]
    assert jobs(keeper, "submit", write_lines(tmp_path / "in", lines), "--id=logprobs").returncode == 0
    assert jobs(keeper, "fetch", "logprobs", tmp_path / "out").returncode == 0
    with_logprobs, two = read_lines(tmp_path / "out")
    choice = with_logprobs["response"]["body"]["choices"][0]
    assert len(choice["logprobs"]["tokens"]) == 6
    assert [c["index"] for c in two["response"]["body"]["choices"]] == [0, 1]


SHIP = {"type": "object", "properties": {"sunk": {"type": "boolean"}, "built": {"enum": [1812, 1851]}},
        "required": ["sunk", "built"], "additionalProperties": False}


def test_structured_output_in_both_ways_in(keeper, tmp_path):
    form = {"type": "json_schema", "json_schema": {"name": "ship", "schema": SHIP}}
    chat = {"messages": [{"role": "user", "content": "A ship?"}], "max_tokens": 60, "seed": 1}
    lines = [completion("schema", max_tokens=60, response_format=form),
             {"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions",
              "body": {**chat, "response_format": form}},
             {"prompt": "Yes or no:", "guided_choice": ["yes", "no"]},
             completion("broken", guided_regex="(")]
    source = write_lines(tmp_path / "in.jsonl", lines)
    assert jobs(keeper, "submit", source, "--id=structured").returncode == 0
    assert jobs(keeper, "fetch", "structured", tmp_path / "job.jsonl").returncode == 0
    assert run_based("batch", source, tmp_path / "batch.jsonl",
                     f"--address={keeper.address}").returncode == 0
    for output in ("job.jsonl", "batch.jsonl"):
        schema, chatted, choice, broken = read_lines(tmp_path / output)
        for text in (schema["response"]["body"]["choices"][0]["text"],
                     chatted["response"]["body"]["choices"][0]["message"]["content"]):
            ship = json.loads(text)
            # The keys come in the order of the schema.
            assert list(ship) == ["sunk", "built"] and ship["built"] in (1812, 1851), text
        assert choice["text"] in ("yes", "no") and choice["finish_reason"] == "stop"
        assert broken["error"]["code"] == "INVALID_ARGUMENT", broken


def test_a_job_whose_every_line_fails_is_a_failure(keeper, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [completion("a", temperature=-1)])
    assert jobs(keeper, "submit", source, "--id=all-fail").returncode == 0
    done = jobs(keeper, "fetch", "all-fail", tmp_path / "out.jsonl")
    assert done.returncode == 1 and "the only line has an error in place of a result" in done.stderr
    assert len(read_lines(tmp_path / "out.jsonl")) == 1


def test_ignored_fields_are_listed(keeper, tmp_path):
    line = {**completion("a", service_tier="flex", store=True), "x": 1}
    source = write_lines(tmp_path / "in.jsonl", [line])
    done = jobs(keeper, "submit", source, "--id=ignored")
    assert 'are ignored: "service_tier", "store", "x"' in done.stderr
    assert shown(keeper, "ignored")["ignored_fields"] == ["service_tier", "store", "x"]


def test_show_list_cancel_delete(keeper, tmp_path):
    lines = [completion(f"r{i}", max_tokens=400, ignore_eos=True) for i in range(200)]
    source = write_lines(tmp_path / "in.jsonl", lines)
    assert jobs(keeper, "submit", source, "--id=long").returncode == 0
    second = write_lines(tmp_path / "second.jsonl", [completion("x")])
    assert jobs(keeper, "submit", second, "--id=next").returncode == 0
    wait_until(keeper, "long", lambda job: int(job["finished"]) >= 3)
    running = shown(keeper, "long")
    assert running["state"] == "BATCH_STATE_RUNNING" and 0 < int(running["in_flight"]) <= 12
    assert shown(keeper, "next")["state"] == "BATCH_STATE_QUEUED"
    cancelled = jobs(keeper, "cancel", "long")
    assert cancelled.returncode == 0 and "cancelled" in cancelled.stdout
    # The next one of the tenant takes its place.
    wait_until(keeper, "next", lambda job: job["state"] == "BATCH_STATE_COMPLETED")
    keeper.wait_for_metric('based_batch_jobs{state="running"}', 0)
    output = tmp_path / "out.jsonl"
    assert jobs(keeper, "fetch", "long", output).returncode == 0
    names = [line["custom_id"] for line in read_lines(output)]
    assert 3 <= len(names) < 200 and names == sorted(names, key=lambda name: int(name[1:]))
    assert int(shown(keeper, "long")["finished"]) == len(names)
    listed = jobs(keeper, "list").stdout
    assert "long" in listed and "next" in listed
    assert jobs(keeper, "delete", "long").returncode == 0
    gone = jobs(keeper, "show", "long")
    assert gone.returncode == 1 and "NOT_FOUND: there is no batch job 'long'" in gone.stderr


def test_a_running_job_can_be_deleted(keeper, tmp_path, service, proto):
    lines = [completion(f"r{i}", max_tokens=400, ignore_eos=True) for i in range(200)]
    assert jobs(keeper, "submit", write_lines(tmp_path / "in", lines), "--id=doomed").returncode == 0
    wait_until(keeper, "doomed", lambda job: int(job["in_flight"]) > 0)
    follower = service.StreamResults(proto.batch.StreamResultsRequest(id="doomed", follow=True))
    assert jobs(keeper, "delete", "doomed").returncode == 0
    with pytest.raises(grpc.RpcError) as ended:
        list(follower)
    assert ended.value.code() == grpc.StatusCode.NOT_FOUND
    keeper.wait_for_metric("based_batch_lines_in_flight", 0)


def test_results_stream_in_order_and_go_on_from_anywhere(keeper, service, proto, tmp_path):
    lines = [completion(f"r{i}", max_tokens=1 + i % 7) for i in range(60)]
    text = "\n\n".join(json.dumps(line) for line in lines)  # empty lines, and no break at the end
    assert create(service, proto, text, "stream", piece=100).lines == 60
    follow = proto.batch.StreamResultsRequest(id="stream", follow=True)
    got, nexts = b"", [0]
    for message in service.StreamResults(follow):
        assert message.next - nexts[-1] == message.lines.count(b"\n") > 0
        got += message.lines
        nexts.append(message.next)
    assert [json.loads(line)["custom_id"] for line in got.splitlines()] == [f"r{i}" for i in range(60)]
    whole = got.splitlines(keepends=True)
    for first in (0, 1, 59, 60):
        request = proto.batch.StreamResultsRequest(id="stream", first=first)
        assert b"".join(m.lines for m in service.StreamResults(request)) == b"".join(whole[first:])
    for first in (-1, 61):
        request = proto.batch.StreamResultsRequest(id="stream", first=first)
        assert code_of(service.StreamResults, request)[0] == grpc.StatusCode.OUT_OF_RANGE


@pytest.mark.parametrize("text, expected", [
    ("", "the input holds no line"),
    ("\n \n", "the input holds no line"),
    ("{broken", "input:1: not JSON"),
    ('{"prompt": "a"}\n[1]\n', "input:2:"),
    (b'{"prompt": "\xff"}\n', "input:1: not UTF-8 at byte 12 of the line"),
    (json.dumps(completion("a")) + "\n" + json.dumps(completion("a")),
     'input:2: custom_id is "a", as on line 1'),
    (json.dumps(completion("a", url="/v1/embeddings")), 'input:1: url is "/v1/embeddings"'),
    (json.dumps({"custom_id": "a", "url": "/v1/completions"}), "input:1: body is missing"),
    (json.dumps(completion("a", model="gpt-4o")), "input:1: model is 'gpt-4o'"),
    (json.dumps(completion("a", stream=True)), "input:1: stream is true; expected false"),
    (json.dumps(completion("a", stream_options={"include_usage": True})),
     "input:1: stream_options is set"),
    (json.dumps(completion("a", suffix="x")), 'input:1: suffix is "x"'),
    (json.dumps(completion("a", max_tokens="many")), "input:1: max_tokens is"),
    ("broken\n" * 30, "30 faults, the first of them:\ninput:1: not JSON"),
])
def test_bad_input_is_refused_by_line(keeper, service, proto, text, expected):
    code, details = code_of(create, service, proto, text, "bad")
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert expected in details
    assert code_of(service.GetBatch, proto.batch.GetBatchRequest(id="bad"))[0] == \
        grpc.StatusCode.NOT_FOUND


def test_a_line_over_the_limit(keeper, service, proto):
    line = json.dumps({"prompt": "a" * (16 << 20)})
    code, details = code_of(create, service, proto, line, "wide", piece=1 << 20)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "longer than 16777216 bytes" in details


def test_senders_have_bounded_places(keeper, service, proto):
    """Inputs that come at the same time: the ninth of one tenant is told when to try again."""
    begun, held = threading.Semaphore(0), threading.Event()

    def endless(name):
        yield proto.batch.CreateBatchRequest(id=name, lines=b"\n")
        begun.release()
        held.wait(60)

    calls = [service.CreateBatch.future(endless(f"slow-{i}")) for i in range(8)]
    for _ in calls:
        assert begun.acquire(timeout=30)

    def refused():
        with pytest.raises(grpc.RpcError) as caught:
            create(service, proto, "broken", "ninth")
        return caught.value if "8 calls that send" in caught.value.details() else None

    end = time.monotonic() + 30
    while not (failure := refused()):
        assert time.monotonic() < end
    assert failure.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-retry-pushback-ms" in dict(failure.trailing_metadata())
    for call in calls:
        call.cancel()
    held.set()
    end = time.monotonic() + 30
    while refused():
        assert time.monotonic() < end


def test_bad_calls(keeper, service, proto):
    pb = proto.batch
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    for name in ("a/b", "x" * 129, "ä"):
        assert code_of(create, service, proto, '{"prompt":"a"}', name)[0] == invalid
        assert code_of(service.GetBatch, pb.GetBatchRequest(id=name))[0] == invalid
        assert code_of(service.DeleteBatch, pb.DeleteBatchRequest(id=name))[0] == invalid
    # Not a path out of the folder.
    assert create(service, proto, '{"prompt":"a"}', "..").id == ".."
    assert code_of(create, service, proto, '{"prompt":"a"}', "..")[0] == \
        grpc.StatusCode.ALREADY_EXISTS
    code, details = code_of(create, service, proto, " " * (1 << 21), "big", piece=1 << 21)
    assert code == invalid and "lines is 2097152 bytes long" in details
    cut = iter([pb.CreateBatchRequest(id="cut", lines=b'{"prompt":"a"}\n')])
    code, details = code_of(service.CreateBatch, cut)
    assert code == invalid and "without a message that sets last" in details
    assert code_of(service.GetBatch, pb.GetBatchRequest(id="cut"))[0] == grpc.StatusCode.NOT_FOUND
    assert code_of(service.ListBatches, pb.ListBatchesRequest(page_size=-1))[0] == invalid


def test_pages(keeper, service, proto):
    pb = proto.batch
    for i in range(5):
        create(service, proto, '{"prompt":"a","max_tokens":1}', f"page-{i}")
    names, token = [], ""
    while True:
        reply = service.ListBatches(pb.ListBatchesRequest(page_size=2, page_token=token))
        assert len(reply.batches) <= 2
        names += [batch.id for batch in reply.batches]
        token = reply.next_page_token
        if not token:
            break
    assert names == sorted(set(names)) and {f"page-{i}" for i in range(5)} <= set(names)


def test_a_daemon_without_a_folder_says_which_flag(demo, proto):
    done = jobs(demo, "list")
    assert done.returncode == 1 and "FAILED_PRECONDITION" in done.stderr
    assert "--batch_dir" in done.stderr


def test_two_daemons_cannot_share_a_folder(start_daemon, tmp_path):
    start_daemon(*FLAGS, "--slots=2", f"--batch_dir={tmp_path}")
    second = subprocess.run([BIN / "based-server", *FLAGS, "--listen=127.0.0.1:0", "--http_listen=",
                             "--metrics_listen=", f"--batch_dir={tmp_path}"],
                            capture_output=True, text=True, timeout=60)
    assert second.returncode == 1 and "another process works on" in second.stderr


def test_limits(start_daemon, proto, tmp_path):
    daemon = start_daemon(*FLAGS, "--slots=2", f"--batch_dir={tmp_path}", "--batch_jobs=2",
                          "--batch_lines=5", "--batch_input_bytes=4K", "--batch_disk=6000")
    with daemon.channel() as channel:
        service = proto.batch_grpc.BatchServiceStub(channel)
        exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
        line = '{"prompt":"a","max_tokens":1}\n'
        code, details = code_of(create, service, proto, line * 6, "lines")
        assert code == exhausted and "--batch_lines" in details
        code, details = code_of(create, service, proto, " " * 4097, "bytes", piece=1000)
        assert code == exhausted and "4096 bytes" in details
        create(service, proto, line, "one")
        create(service, proto, line, "two")
        with pytest.raises(grpc.RpcError) as caught:
            create(service, proto, line, "three")
        assert caught.value.code() == exhausted and "--batch_jobs" in caught.value.details()
        # It holds until jobs are deleted: nobody is asked to try again.
        assert "grpc-retry-pushback-ms" not in dict(caught.value.trailing_metadata())
        # Results that take the rest of the disk: jobs wait, until one is deleted.
        service.DeleteBatch(proto.batch.DeleteBatchRequest(id="one"))
        big = json.dumps({"prompt": "a " * 1500, "echo": True, "max_tokens": 1}) + "\n"
        create(service, proto, big, "big", piece=4000)
        wait_until(daemon, "big", lambda job: job["ended_ms"] != "0")
        service.DeleteBatch(proto.batch.DeleteBatchRequest(id="two"))
        code, details = code_of(create, service, proto, line, "four")
        assert code == exhausted and "--batch_disk" in details
        service.DeleteBatch(proto.batch.DeleteBatchRequest(id="big"))
        create(service, proto, line, "four")


def test_tenants_and_permissions(start_daemon, proto, tmp_path):
    keys, entries = {}, []
    for name, tenant, permissions in [("a", "a", "generate,batches"), ("b", "b", "generate,batches"),
                                      ("plain", "a", "generate"), ("reader", "a", "batches")]:
        made = run_based("keygen", f"--tenant={tenant}", f"--permissions={permissions}")
        keys[name], entry = made.stdout.split("\n", 1)
        entries.append(json.loads(entry))
    access = tmp_path / "access.json"
    access.write_text(json.dumps({"tenants": [{"name": "a"}, {"name": "b"}], "keys": entries}))
    access.chmod(0o600)
    folder = tmp_path / "jobs"
    daemon = start_daemon(*FLAGS, "--slots=4", f"--batch_dir={folder}", f"--access_file={access}")
    source = write_lines(tmp_path / "in.jsonl", [completion("x")])
    for tenant in ("a", "b"):
        assert jobs(daemon, "submit", source, "--id=same", key=keys[tenant]).returncode == 0
        assert jobs(daemon, "fetch", "same", tmp_path / tenant, key=keys[tenant]).returncode == 0
    assert jobs(daemon, "submit", source, "--id=mine", key=keys["a"]).returncode == 0
    for verb in ("show", "cancel", "delete"):
        assert "NOT_FOUND" in jobs(daemon, verb, "mine", key=keys["b"]).stderr
    assert "mine" not in jobs(daemon, "list", key=keys["b"]).stdout
    assert "PERMISSION_DENIED" in jobs(daemon, "list", "--tenant=a", key=keys["b"]).stderr
    assert "PERMISSION_DENIED" in jobs(daemon, "list", key=keys["plain"]).stderr
    assert "mine" in jobs(daemon, "list", key=keys["reader"]).stdout
    assert "PERMISSION_DENIED" in jobs(daemon, "submit", source, key=keys["reader"]).stderr
    assert "UNAUTHENTICATED" in jobs(daemon, "list", key="based_nobody").stderr
    # A tenant that goes: its jobs wait, and say so; they go on when it is back.
    lines = [completion(f"r{i}", max_tokens=200, ignore_eos=True) for i in range(60)]
    assert jobs(daemon, "submit", write_lines(tmp_path / "long", lines), "--id=long",
                key=keys["b"]).returncode == 0
    without = {"tenants": [{"name": "a"}], "keys": [e for e in entries if e["tenant"] == "a"]}
    whole = access.read_text()
    access.write_text(json.dumps(without))
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_metric("based_batch_lines_in_flight", 0)
    access.write_text(whole)
    daemon.signal(signal.SIGHUP)
    output = tmp_path / "long.out"
    assert jobs(daemon, "fetch", "long", output, key=keys["b"]).returncode == 0
    assert [line["error"] for line in read_lines(output)] == [None] * 60


def test_interactive_requests_go_first(keeper, tmp_path):
    lines = [completion(f"r{i}", max_tokens=300, ignore_eos=True) for i in range(100)]
    assert jobs(keeper, "submit", write_lines(tmp_path / "in", lines), "--id=low").returncode == 0
    wait_until(keeper, "low", lambda job: int(job["in_flight"]) >= 8)
    parked = keeper.metric("based_parks_total")
    deferred = keeper.metric("based_batch_rows_deferred_total")
    done = run_based("generate", "--prompt=Hello", "--max_tokens=20", f"--address={keeper.address}")
    assert done.returncode == 0
    # All slots were held by lines of the job: one made room, without losing anything.
    assert keeper.metric("based_parks_total") > parked
    # And the others had fewer rows beside it.
    assert keeper.metric("based_batch_rows_deferred_total") > deferred
    assert jobs(keeper, "delete", "low").returncode == 0


def test_a_full_disk_loses_nothing(start_daemon, tmp_path):
    daemon = start_daemon(*FLAGS, "--slots=8", f"--batch_dir={tmp_path / 'jobs'}")
    lines = [completion(f"r{i}", prompt=f"Chapter {i}") for i in range(80)]
    source = write_lines(tmp_path / "in.jsonl", lines)
    limit = source.stat().st_size + 1000
    pid = daemon.process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    assert jobs(daemon, "submit", source, "--id=full").returncode == 0
    stuck = wait_until(daemon, "full", lambda job: "cannot write" in job["message"])
    assert stuck["state"] == "BATCH_STATE_RUNNING" and 0 < int(stuck["finished"]) < 80
    end = time.monotonic() + 30
    while daemon.metric("based_batch_write_errors_total") == 0:
        assert time.monotonic() < end
        time.sleep(0.1)
    # It takes calls all the same, and refuses inputs that would not fit.
    refused = jobs(daemon, "submit", write_lines(tmp_path / "more", lines * 3 + [completion("z")]))
    assert refused.returncode == 1
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    output = tmp_path / "out.jsonl"
    assert jobs(daemon, "fetch", "full", output).returncode == 0
    assert [r["custom_id"] for r in read_lines(output)] == [f"r{i}" for i in range(80)]
    assert shown(daemon, "full")["message"] == ""


def test_jobs_go_on_after_a_drain_and_a_kill(start_daemon, tmp_path):
    flags = (*FLAGS, "--slots=4", f"--batch_dir={tmp_path / 'jobs'}")
    daemon = start_daemon(*flags)
    lines = [completion(f"r{i}", prompt=f"Chapter {i}", max_tokens=40) for i in range(150)]
    source, output = write_lines(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    assert jobs(daemon, "submit", source, "--id=lasting").returncode == 0
    fetch = subprocess.Popen([BIN / "based", "jobs", "fetch", "lasting", output,
                              f"--address={daemon.address}", "--daemon_wait=60"],
                             stderr=subprocess.PIPE, text=True)
    finished = 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        job = wait_until(daemon, "lasting", lambda job: int(job["finished"]) >= finished + 10)
        finished = int(job["finished"])
        daemon.signal(number)
        daemon.wait()
        daemon = start_daemon(*flags, f"--listen={daemon.address}")
        job = wait_until(daemon, "lasting", lambda job: job["state"] != "BATCH_STATE_QUEUED")
        assert int(job["finished"]) >= finished
    _, said = fetch.communicate(timeout=120)
    assert fetch.returncode == 0, said
    results = read_lines(output)
    assert [r["custom_id"] for r in results] == [f"r{i}" for i in range(150)]
    assert all(r["error"] is None for r in results)


def test_another_model_holds_the_job_back(start_daemon, tmp_path):
    folder = f"--batch_dir={tmp_path / 'jobs'}"
    daemon = start_daemon(*FLAGS, "--slots=4", folder)
    lines = [completion(f"r{i}", max_tokens=200, ignore_eos=True) for i in range(50)]
    assert jobs(daemon, "submit", write_lines(tmp_path / "in", lines), "--id=held").returncode == 0
    daemon.stop()
    other = start_daemon(f"--model={TINY}", "--backend=reference", "--slots=4", folder)
    held = wait_until(other, "held", lambda job: job["message"] != "")
    assert held["state"] == "BATCH_STATE_QUEUED" and "was made for the model demo" in held["message"]
    cancelled = jobs(other, "cancel", "held")
    assert cancelled.returncode == 0
    assert jobs(other, "fetch", "held", tmp_path / "out").returncode == 0


def test_old_jobs_are_removed(start_daemon, tmp_path):
    daemon = start_daemon(*FLAGS, "--slots=4", f"--batch_dir={tmp_path / 'jobs'}", "--batch_keep_s=1")
    source = write_lines(tmp_path / "in.jsonl", [completion("a")])
    assert jobs(daemon, "submit", source, "--id=old").returncode == 0
    end = time.monotonic() + 30
    while "old" in jobs(daemon, "list").stdout:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert list((tmp_path / "jobs" / "jobs").iterdir()) == []


def test_kills_lose_and_repeat_nothing():
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "bench" / "job_kills.py", "--kills=6", "--lines=150"],
        env={**os.environ, "BASED_BIN_DIR": str(BIN)}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "lost=0 repeated=0" in done.stdout

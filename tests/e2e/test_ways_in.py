"""One line of a batch means the same whichever way it goes in: over HTTP, as a job of the daemon, and
through `based batch`."""

import json

import grpc
import pytest
from conftest import DEMO, run_based
from test_batch import moody  # noqa: F401, a fixture
from test_http import CHATML, model_with_template, post  # noqa: F401, a fixture
from test_jobs import jobs, read_lines, write_lines

MESSAGES = [{"role": "user", "content": "A ship, captain?"},
            {"role": "assistant", "content": "Aye <|endoftext|> aye"},
            {"role": "user", "content": [{"type": "text", "text": " Which "}, {"type": "text", "text": "one?"}]}]


def chat(name, messages=MESSAGES, **body):
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions",
            "body": {"messages": messages, "max_tokens": 24, "temperature": 0, **body}}


def completion(name, prompt="The sea", **body):
    return {"custom_id": name, "method": "POST", "url": "/v1/completions",
            "body": {"prompt": prompt, "max_tokens": 6, "temperature": 0, **body}}


def three_ways(daemon, folder, lines):
    """What the lines get: bodies or errors over HTTP, then results of a job and of `based batch`."""
    source = write_lines(folder / "ways.jsonl", lines)
    over_http = [post(daemon, line["url"], line["body"])[2] for line in lines]
    assert jobs(daemon, "submit", source, f"--id={folder.name}").returncode == 0
    assert jobs(daemon, "fetch", folder.name, folder / "job.jsonl").returncode == 0
    done = run_based("batch", source, folder / "batch.jsonl", f"--address={daemon.address}")
    assert done.returncode == 0, done.stderr
    return over_http, read_lines(folder / "job.jsonl"), read_lines(folder / "batch.jsonl")


def same_bodies(daemon, folder, lines):
    """The bodies, which are the same three times but for their ids and times."""
    over_http, job, batch = three_ways(daemon, folder, lines)
    assert [line["custom_id"] for line in job] == [line["custom_id"] for line in batch]
    bodies = []
    for one, *others in zip(over_http, job, batch):
        three = [one] + [other["response"]["body"] for other in others]
        assert [list(body) for body in three] == [list(one)] * 3
        for body in three:
            assert body.pop("id").startswith(("chatcmpl-", "cmpl-")) and body.pop("created") > 0
        assert three[1] == three[0] and three[2] == three[0]
        bodies.append(one)
    return bodies


def prompt_tokens(daemon, messages, **fields):
    status, _, answer = post(daemon, "/tokenize", {"messages": messages, **fields})
    assert status == 200, answer
    return answer["count"]


LINES = [chat("plain"), chat("two", n=2, seed=3, temperature=0.9), chat("stopped", stop="e"),
         chat("ids", return_token_ids=True), chat("open", add_generation_prompt=False),
         chat("kept", stop=["a", "e"], include_stop_str_in_output=True),
         chat("default", max_tokens=None, seed=1), chat("token", stop_token_ids=[46, 12, 13]),
         completion("text"), completion("echo", echo=True, return_token_ids=True),
         completion("of ids", prompt=[5, 6, 7]), completion("one", prompt=["The sea"])]


def test_with_the_plain_template(start_daemon, tmp_path):
    daemon = start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=4",
                          f"--batch_dir={tmp_path / 'jobs'}")
    (tmp_path / "plain").mkdir()
    bodies = same_bodies(daemon, tmp_path / "plain", LINES)
    count = prompt_tokens(daemon, MESSAGES)
    assert bodies[0]["usage"]["prompt_tokens"] == count
    assert bodies[4]["usage"]["prompt_tokens"] == prompt_tokens(
        daemon, MESSAGES, add_generation_prompt=False) < count
    assert len(bodies[3]["choices"][0]["token_ids"]) == bodies[3]["usage"]["completion_tokens"]
    assert len(bodies[9]["choices"][0]["token_ids"]) == 6
    assert bodies[2]["choices"][0]["stop_reason"] == "e"


def test_with_the_checkpoints_template(start_daemon, model_with_template, tmp_path):  # noqa: F811
    template = CHATML + "{{ mood }}"
    daemon = start_daemon(f"--model={model_with_template(template)}", "--backend=cpu", "--slots=4",
                          f"--batch_dir={tmp_path / 'jobs'}")
    (tmp_path / "own").mkdir()
    lines = LINES + [chat("moody", chat_template_kwargs={"mood": "Sadly, "})]
    bodies = same_bodies(daemon, tmp_path / "own", lines)
    # <|endoftext|> in a content is the token, as it is in the template.
    assert bodies[0]["usage"]["prompt_tokens"] == prompt_tokens(daemon, MESSAGES)
    assert bodies[-1]["usage"]["prompt_tokens"] == prompt_tokens(
        daemon, MESSAGES, chat_template_kwargs={"mood": "Sadly, "})
    assert bodies[-1]["usage"]["prompt_tokens"] > bodies[0]["usage"]["prompt_tokens"]


FAULTS = {
    "temperature": (completion("a", temperature=-5), "temperature is -5"),
    "max_tokens": (completion("a", max_tokens=0), "max_tokens is 0"),
    "chat-max_tokens": (chat("a", max_tokens=0), "max_tokens is 0"),
    "max_completion_tokens": (chat("a", max_tokens=None, max_completion_tokens=0),
                              "max_completion_tokens is 0"),
    "min_tokens": (completion("a", min_tokens=9), "min_tokens is 9; expected a number in [0, 6] (max_tokens)"),
    "stop": (completion("a", stop=""), "stop is 0 bytes long"),
    "stops": (completion("a", stop=["x", ""]), "stop[1] is 0 bytes long"),
    "ids": (completion("a", prompt=[1, 99999999]), "prompt[1] is 99999999"),
    "list-of-ids": (completion("a", prompt=[[1, 99999999]]), "prompt[0][1] is 99999999"),
    "regex": (completion("a", guided_regex="("), "guided_regex"),
    "schema": (completion("a", structured_outputs={"json": {"type": "nothing"}}),
               "structured_outputs.json"),
}


@pytest.fixture(scope="module")
def plain(start_daemon, tmp_path_factory):
    return start_daemon(f"--model={DEMO}", "--backend=cpu", "--slots=4",
                        f"--batch_dir={tmp_path_factory.mktemp('jobs')}")


def test_errors_name_what_was_sent(plain, tmp_path):
    lines = [{**line, "custom_id": name} for name, (line, _) in FAULTS.items()] + [completion("sound")]
    over_http, job, batch = three_ways(plain, tmp_path, lines)
    for (name, (_, message)), one, other, third in zip(FAULTS.items(), over_http, job, batch):
        assert one["error"]["message"].startswith(message), name
        assert message.startswith(one["error"]["param"]), name
        assert other["error"] == third["error"], name
        assert other["error"]["message"] == one["error"]["message"], name
        assert other["error"]["code"] == "INVALID_ARGUMENT"
        assert other["response"] is None and third["response"] is None


def test_errors_of_one_of_several_prompts(plain):
    fault = post(plain, "/v1/completions", {"prompt": [[1], [99999999]]})[2]["error"]
    assert fault["message"].startswith("prompt[1][0] is 99999999") and fault["param"] == "prompt"


def test_a_template_that_refuses_is_an_error_of_the_line(start_daemon, model_with_template, tmp_path):  # noqa: F811
    daemon = start_daemon(f"--model={model_with_template(CHATML)}", "--backend=cpu", "--slots=4")
    lines = [chat("good"), chat("bad", [{"role": "tool", "content": "x"}]),
             chat("given", chat_template_kwargs={"messages": []})]
    source = write_lines(tmp_path / "in.jsonl", lines)
    done = run_based("batch", source, tmp_path / "out.jsonl", f"--address={daemon.address}")
    assert done.returncode == 0, done.stderr
    good, bad, given = read_lines(tmp_path / "out.jsonl")
    assert good["error"] is None
    assert bad["error"] == {"code": "INVALID_ARGUMENT", "message":
                            "messages are refused by the model's chat template: No role tool"}
    assert given["error"]["message"].startswith("chat_template_kwargs.messages is set")
    assert post(daemon, "/v1/chat/completions", lines[1]["body"])[2]["error"]["message"] == \
        bad["error"]["message"]


def test_a_daemon_that_does_not_render_chats_is_named(moody, tmp_path):  # noqa: F811
    server = moody(lambda *_: None)
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "x"}, chat("a")])
    done = run_based("batch", source, tmp_path / "out.jsonl", f"--address={server.address}")
    assert done.returncode == 1 and not server.calls
    assert f"{source}:2: the daemon is of version" in done.stderr
    assert "does not take chats from `based batch`" in done.stderr


def test_generate_takes_messages(plain, proto, tmp_path):
    """The same chat through `based generate`, and with what goes with no chat."""
    expected = post(plain, "/v1/chat/completions", chat("a")["body"])[2]
    done = run_based("generate", f"--messages={json.dumps(MESSAGES)}", "--max_tokens=24",
                     "--temperature=0", f"--address={plain.address}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == expected["choices"][0]["message"]["content"].rstrip("\n")
    both = run_based("generate", "--messages=[]", "--text=a", f"--address={plain.address}")
    assert both.returncode == 2 and "more than one prompt" in both.stderr
    request = proto.completion.GenerateRequest()
    request.chat.messages = '[{"role": "user"}]'
    with plain.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Generate(request, timeout=60))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("chat.messages[0].content is null")

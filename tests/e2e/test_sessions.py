"""Conversations that the daemon keeps: exactness, who may see them, what drops them."""

import json
import time

import grpc
import pytest
from conftest import TINY, run_based
from test_access import new_key, wait_for_line, write_access


class Caller:
    """Calls of one key (or none) at one daemon."""

    def __init__(self, daemon, proto, key=None):
        self.proto = proto
        self.channel = daemon.channel()
        self.metadata = [] if key is None else [("authorization", f"Bearer {key}")]
        self.completions = proto.completion_grpc.CompletionServiceStub(self.channel)
        self.service = proto.session_grpc.SessionServiceStub(self.channel)

    def request(self, ids, session=None, create=False, max_tokens=5, **state):
        request = self.proto.completion.GenerateRequest()
        request.token_ids.ids.extend(ids)
        request.token_ids.SetInParent()
        request.sampling.seed = 3
        request.stop.max_tokens = max_tokens
        request.stop.ignore_eos = True
        if session is not None:
            request.state.session = session
            request.state.create_session = create
            for name, value in state.items():
                setattr(request.state, name, value)
        return request

    def stream(self, *arguments, **options):
        return self.completions.Generate(self.request(*arguments, **options),
                                         metadata=self.metadata, timeout=60)

    def say(self, *arguments, **options):
        """(Started, the ids, Done)."""
        started, ids, done = None, [], None
        for message in self.stream(*arguments, **options):
            if message.HasField("started"):
                started = message.started
            elif message.HasField("done"):
                done = message.done
            else:
                ids += message.delta.token_ids
        return started, ids, done

    def call(self, name, **fields):
        pb = self.proto.session
        method = {"Get": "GetSession", "List": "ListSessions", "Fork": "ForkSession",
                  "Delete": "DeleteSession"}[name]
        request = getattr(pb, f"{method}Request")(**fields)
        return getattr(self.service, method)(request, metadata=self.metadata, timeout=20)

    def listed(self):
        return [session.id for session in self.call("List").sessions]


def failure(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **options)
    return error.value


def code(call, *arguments, **options):
    return failure(call, *arguments, **options).code()


@pytest.fixture(scope="module")
def daemon(start_daemon):
    return start_daemon(f"--model={TINY}", "--backend=cpu", "--slots=4")


@pytest.fixture
def caller(daemon, proto):
    made = Caller(daemon, proto)
    yield made
    for session in made.listed():
        made.call("Delete", id=session)
    made.channel.close()


def test_a_conversation_is_as_one_request(caller):
    history, prompts = [], [[1, 2, 3], [4], [5, 6]]
    for turn, prompt in enumerate(prompts):
        started, ids, done = caller.say(prompt, "chat", turn == 0, session_tokens=len(history))
        assert ids == caller.say(history + prompt)[1]
        assert started.prompt_tokens == len(history + prompt)
        assert started.reused_tokens == max(0, len(history) - 1)
        history += prompt + ids
        assert done.session_tokens == len(history) and done.usage.reused_tokens == started.reused_tokens
    session = caller.call("Get", id="chat")
    assert session.tokens == len(history) and not session.busy and session.bytes > 1000
    # Said twice by mistake: refused, and nothing has changed.
    again = failure(caller.say, [5, 6], "chat", session_tokens=len(history) - 7)
    assert again.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert f"holds {len(history)} tokens" in again.details()
    copy = caller.call("Fork", id="chat", new_id="copy")
    assert copy.tokens == len(history)
    expected = caller.say(history + [9])[1]
    assert caller.say([9], "copy")[1] == caller.say([9], "chat")[1] == expected
    assert caller.listed() == ["chat", "copy"]
    page = caller.call("List", page_size=1)
    assert [s.id for s in page.sessions] == ["chat"] and page.next_page_token == "chat"
    rest = caller.call("List", page_size=1, page_token="chat")
    assert [s.id for s in rest.sessions] == ["copy"] and rest.next_page_token == ""


def test_refusals(caller, daemon):
    absent = failure(caller.say, [1], "absent")
    assert absent.code() == grpc.StatusCode.NOT_FOUND and "state.create_session" in absent.details()
    caller.say([1], "here", True)
    assert code(caller.say, [1], "here", True) == grpc.StatusCode.ALREADY_EXISTS
    assert code(caller.call, "Fork", id="here", new_id="here") == grpc.StatusCode.ALREADY_EXISTS
    for bad in ("", "a b", "x" * 129, "a\nevent=stopped code=OK", "é"):
        assert code(caller.call, "Get", id=bad) == grpc.StatusCode.INVALID_ARGUMENT
        if bad:
            error = failure(caller.say, [1], bad, True)
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert error.details().startswith("state.session is ")
    assert not any(line.startswith("event=stopped") for line in daemon.lines)
    several = caller.request([1], "here")
    several.n = 2
    assert code(lambda: list(caller.completions.Generate(several))) == \
        grpc.StatusCode.INVALID_ARGUMENT
    assert code(caller.call, "List", page_size=-1) == grpc.StatusCode.INVALID_ARGUMENT
    assert caller.listed() == ["here"]


def test_one_call_at_a_time(caller, daemon):
    _, _, done = caller.say([1, 2], "chat", True)
    endless = caller.stream([3], "chat", max_tokens=1_000_000)
    next(endless), next(endless)
    assert code(caller.say, [4], "chat") == grpc.StatusCode.ABORTED
    assert code(caller.call, "Delete", id="chat") == grpc.StatusCode.ABORTED
    assert code(caller.call, "Fork", id="chat", new_id="x") == grpc.StatusCode.ABORTED
    assert caller.call("Get", id="chat").busy
    # The slot that it holds is on the debug page.
    live = json.loads(daemon.get("/debug.json"))["requests"]
    assert [len(request["slots"]) for request in live] == [1]
    endless.cancel()
    end = time.monotonic() + 20
    while caller.call("Get", id="chat").busy:
        assert time.monotonic() < end
        time.sleep(0.02)
    # As it was before the call that was cut.
    assert caller.call("Get", id="chat").tokens == done.session_tokens
    caller.say([4], "chat", session_tokens=done.session_tokens)


def test_a_first_call_that_fails_makes_no_session(caller):
    endless = caller.stream([3], "new", True, max_tokens=1_000_000)
    next(endless)
    endless.cancel()
    end = time.monotonic() + 20
    while caller.listed():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_tenants_and_permissions(start_daemon, proto, tmp_path):
    keys = {"a": new_key(tenant="a", permissions="generate,sessions"),
            "b": new_key(tenant="b", permissions="generate,sessions"),
            "plain": new_key(tenant="a"),
            "sessions": new_key(tenant="a", permissions="sessions")}
    path = tmp_path / "access.json"
    write_access(path, [entry for _, entry in keys.values()])
    daemon = start_daemon(f"--model={TINY}", "--backend=cpu", f"--access_file={path}")
    a, b, plain, only = (Caller(daemon, proto, keys[name][0])
                         for name in ("a", "b", "plain", "sessions"))
    a.say([1, 2], "secret", True)
    # Another tenant's session and none at all: the same words, but for the id.
    for name, call in (("say", lambda id: b.say([1], id)),
                       ("get", lambda id: b.call("Get", id=id)),
                       ("fork", lambda id: b.call("Fork", id=id, new_id="mine")),
                       ("delete", lambda id: b.call("Delete", id=id))):
        theirs, none = failure(call, "secret"), failure(call, "absent")
        assert theirs.code() == none.code() == grpc.StatusCode.NOT_FOUND, name
        assert theirs.details() == none.details().replace("absent", "secret")
    assert b.listed() == [] and a.listed() == ["secret"]
    b.say([9], "secret", True)
    assert a.call("Get", id="secret").tokens == 7 and b.call("Get", id="secret").tokens == 6
    assert code(b.call, "Get", id="secret", tenant="a") == grpc.StatusCode.PERMISSION_DENIED
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert code(plain.say, [1], "secret") == code(plain.say, [1], "new", True) == denied
    assert code(plain.call, "List") == code(plain.call, "Get", id="secret") == denied
    wait_for_line(daemon, "event=access_denied", "permission sessions")
    plain.say([1])
    assert only.listed() == ["secret"] and code(only.say, [1], "secret") == denied
    nobody = Caller(daemon, proto)
    assert code(nobody.call, "List") == grpc.StatusCode.UNAUTHENTICATED
    only.call("Delete", id="secret")
    assert a.listed() == [] and b.listed() == ["secret"]


def test_memory_idleness_and_restarts(start_daemon, proto, caller):
    caller.say([1], "probe", True)
    size = caller.call("Get", id="probe").bytes
    flags = (f"--model={TINY}", "--backend=cpu")
    small = start_daemon(*flags, f"--session_memory={2 * size}")
    full = Caller(small, proto)
    for name in ("a", "b"):
        full.say([1], name, True)
    full.say([2], "a")
    full.say([1], "c", True)
    assert full.listed() == ["a", "c"]
    assert code(full.say, [1], "b") == grpc.StatusCode.NOT_FOUND
    assert small.metric("based_sessions") == 2
    assert small.metric("based_session_bytes") == small.metric("based_session_limit_bytes") == 2 * size
    assert small.metric('based_session_evictions_total{cause="memory"}') == 1
    assert small.metric("based_session_resumes_total") == 1
    assert small.stop() == 0
    # Another daemon knows nothing of them, and says what to do.
    brief = start_daemon(*flags, "--session_idle_s=1", "--max_sessions_per_tenant=1")
    after = Caller(brief, proto)
    lost = failure(after.say, [1], "a")
    assert lost.code() == grpc.StatusCode.NOT_FOUND
    assert "started anew" in lost.details() and "the whole conversation" in lost.details()
    after.say([1], "a", True)
    after.say([1], "b", True)
    assert "a" not in after.listed()
    brief.wait_for_metric("based_sessions", 0)
    assert brief.metric('based_session_evictions_total{cause="idle"}') >= 1
    off = Caller(start_daemon(*flags, "--session_memory=0"), proto)
    assert code(off.say, [1], "a", True) == grpc.StatusCode.FAILED_PRECONDITION
    assert code(off.call, "Get", id="a") == grpc.StatusCode.FAILED_PRECONDITION
    assert off.listed() == []


def test_the_command(demo):
    address = f"--address={demo.address}"

    def based(*arguments, status=0):
        ended = run_based(*arguments, address)
        assert ended.returncode == status, ended.stderr
        return ended

    flags = ("--max_tokens=4", "--seed=1", "--ignore_eos")
    based("generate", "--session=cli", "--create_session", "--prompt", "The sea", *flags)
    based("generate", "--session=cli", "--prompt", " was", *flags)
    assert "cli " in based("session", "list").stdout
    tokens = json.loads(based("session", "show", "cli", "--json").stdout)["tokens"]
    assert int(tokens) > 8
    fork = json.loads(based("session", "fork", "cli", "cli-2", "--json").stdout)
    assert fork["id"] == "cli-2" and fork["tokens"] == tokens
    for name in ("cli", "cli-2"):
        based("session", "delete", name)
    assert "NOT_FOUND" in based("session", "show", "cli", status=1).stderr
    assert "cli" not in based("session", "list").stdout
    based("session", "fork", "cli", status=2)

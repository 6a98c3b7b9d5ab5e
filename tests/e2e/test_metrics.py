"""Every series of a live daemon moves when it should.

One daemon is given every kind of load while a scraper reads /metrics all the time. A series that no
load moved fails the test: give it a load below, or name it with its reason.
"""

import contextlib
import http.client
import json
import signal
import socket
import threading
import time

import grpc
import pytest

from conftest import DEMO
from test_access import new_key, wait_for_line

LIMIT_S = 30
SESSION_IDLE_S = 5
# Set once; they hold a value from the start.
CONSTANT = {
    "based_build_info", "based_state_layout_info", "based_state_slot_bytes",
    "based_state_pool_bytes", "based_weight_bytes", "based_workspace_bytes", "based_load_seconds",
    "based_process_start_time_seconds", "based_process_max_fds", "based_session_limit_bytes",
    "based_batch_disk_limit_bytes", "based_park_limit_bytes",
}
# Cannot move here; where they are shown to.
ELSEWHERE = {
    "based_preemptions_total": "0 by construction",
    'based_steps_total{launch="graph"}': "CUDA; server_metrics_test",
    "based_padded_tokens_total": "CUDA; server_metrics_test",
    "based_nonfinite_requests_total": "weights are checked to be finite; engine_engine_test",
    'based_requests_total{code="INTERNAL",finish_reason="none"}': "server_test",
    'based_requests_total{code="UNAVAILABLE",finish_reason="none"}':
        "server_daemon_test; a daemon that cuts its requests is about to go",
    'based_cancellations_total{cause="drain"}': "likewise; server_metrics_test",
    "based_batch_write_errors_total": "test_jobs.py, on a full disk",
    'based_rejections_total{code="INTERNAL",reason="internal"}': "server_metrics_test",
    'based_rejections_total{code="UNIMPLEMENTED",reason="request"}': "server_metrics_test",
}
FOREIGN = "based_gpu_"  # only where there is a driver


def family(series):
    return series.partition("{")[0]


def read(text):
    """{series: value}; of a histogram only its count."""
    series, histograms = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE") and line.endswith(" histogram"):
            histograms.add(line.split()[2])
        elif line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            base = family(name)
            stem = base.rpartition("_")[0]
            if stem in histograms and not base.endswith("_count"):
                continue
            series[name] = float(value)
    return series


class Scraper(threading.Thread):
    """Least and largest value of every series, from its start on."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.least, self.largest = {}, {}
        self._target, self._ended = daemon, threading.Event()
        self.look()
        self.start()

    def look(self):
        for name, value in read(self._target.get("/metrics")).items():
            self.least[name] = min(value, self.least.get(name, value))
            self.largest[name] = max(value, self.largest.get(name, value))

    def run(self):
        while not self._ended.wait(0.03):
            try:
                self.look()
            except OSError:  # a busy machine's timeout, or the daemon has gone
                continue

    def stop(self):
        self._ended.set()
        self.join()

    def moved(self, name):
        return self.largest[name] > self.least[name]

    def wait_for(self, name):
        end = time.monotonic() + LIMIT_S
        while not self.moved(name):
            assert time.monotonic() < end, f"{name} does not move"
            time.sleep(0.02)


class Loads:
    def __init__(self, daemon, proto, keys, scraper):
        self.daemon, self.proto, self.keys, self.scraper = daemon, proto, keys, scraper
        self.channels = []
        self.stub = self.new_stub()

    def new_stub(self):
        self.channels.append(self.daemon.channel())
        return self.proto.completion_grpc.CompletionServiceStub(self.channels[-1])

    def call(self, max_tokens=4, key="a", timeout=LIMIT_S, stub=None, stop=None, sampling=None,
             output=None, **fields):
        if "token_ids" not in fields and "text" not in fields:
            fields["token_ids"] = self.proto.completion.TokenIds(ids=[1, 2, 3])
        request = self.proto.completion.GenerateRequest(**fields)
        request.stop.max_tokens = max_tokens
        request.stop.ignore_eos = True
        request.output.token_ids = True
        for name, value in (stop or {}).items():
            if isinstance(value, list):
                getattr(request.stop, name).extend(value)
            else:
                setattr(request.stop, name, value)
        if sampling:
            sampling(request.sampling)
        if output:
            output(request.output)
        metadata = [("authorization", f"Bearer {self.keys[key]}")] if key else []
        return (stub or self.stub).Generate(request, metadata=metadata, timeout=timeout)

    def endless(self, **options):
        """A stream that has begun and is read, in few messages: Python is slow, the queue short."""
        few = dict(output=lambda output: setattr(output, "tokens_per_message", 100))
        stream = self.call(max_tokens=100_000, **{**few, **options})
        while not next(stream).HasField("delta"):
            pass

        def read():
            with contextlib.suppress(grpc.RpcError):
                for _ in stream:
                    pass

        threading.Thread(target=read, daemon=True).start()
        return stream

    def code(self, **options):
        with pytest.raises(grpc.RpcError) as error:
            list(self.call(**options))
        return error.value.code().name

    def endings(self):
        def always(token):
            return lambda sampling: sampling.logit_bias.__setitem__(token, 100)

        list(self.call(max_tokens=20))
        list(self.call(text=b"The sea was", max_tokens=2000, stop={"strings": [b"e"]}))
        list(self.call(sampling=always(7), stop={"token_ids": [7]}))
        list(self.call(sampling=always(0), stop={"ignore_eos": False}))
        # On a busy machine a short queue may end it first.
        end = time.monotonic() + LIMIT_S
        while self.code(max_tokens=100_000, timeout=1) != "DEADLINE_EXCEEDED":
            assert time.monotonic() < end
        self.endless().cancel()

    def long_prompt(self):
        ids = self.proto.completion.TokenIds(ids=[1 + i % 4000 for i in range(8000)])
        list(self.call(token_ids=ids, max_tokens=2))

    def refusals(self):
        assert self.code(sampling=lambda s: setattr(s, "temperature", -1)) == "INVALID_ARGUMENT"
        assert self.code(model="other") == "NOT_FOUND"
        assert self.code(key=None) == "UNAUTHENTICATED"
        assert self.code(key="idle") == "PERMISSION_DENIED"
        list(self.call(key="few"))
        assert self.code(key="few") == "RESOURCE_EXHAUSTED"
        list(self.call(key="short", max_tokens=60))
        assert self.code(key="short", max_tokens=60) == "RESOURCE_EXHAUSTED"
        one = self.endless(key="narrow")
        assert self.code(key="narrow") == "RESOURCE_EXHAUSTED"
        one.cancel()

    def queue(self):
        running = [self.endless() for _ in range(2)]
        self.scraper.wait_for("based_predicted_wait_seconds")
        # Less than half of what a slot will take, on a fast machine too.
        timeout = min(0.5, self.daemon.metric("based_predicted_wait_seconds") / 4)
        assert self.code(timeout=timeout, max_tokens=100) == "DEADLINE_EXCEEDED"
        waiting = [self.call(max_tokens=100_000)]
        self.scraper.wait_for("based_queued_requests")
        assert self.code(max_tokens=900_000) == "RESOURCE_EXHAUSTED"  # tokens
        waiting.append(self.call())
        end = time.monotonic() + LIMIT_S
        while self.daemon.metric("based_queued_requests") < 2:
            assert time.monotonic() < end
        assert self.code() == "RESOURCE_EXHAUSTED"
        for stream in running + waiting:
            stream.cancel()

    def parking(self):
        batch = self.proto.completion.PRIORITY_BATCH
        running = [self.endless(priority=batch) for _ in range(2)]
        interactive = self.endless()
        self.scraper.wait_for("based_parked_sequences")
        interactive.cancel()
        self.scraper.wait_for("based_resumes_total")
        for stream in running:
            stream.cancel()

    def slow_reader(self):
        """More messages of an echoed prompt than the stream's queue holds, and nobody reads them."""
        ids = self.proto.completion.TokenIds(ids=[1 + i % 4000 for i in range(200_000)])
        stream = self.call(stub=self.new_stub(), token_ids=ids, timeout=None,
                           output=lambda output: setattr(output, "echo", True))
        self.scraper.wait_for('based_cancellations_total{cause="slow_reader"}')
        stream.cancel()

    def sessions(self):
        """Room for three of them; one that nobody uses is dropped after SESSION_IDLE_S."""
        def say(session, max_tokens=4, **state):
            options = self.proto.completion.StateOptions(session=session, **state)
            return dict(key="talker", state=options, max_tokens=max_tokens)

        for session in "bcde":
            list(self.call(**say(session, create_session=True)))
        self.scraper.wait_for('based_session_evictions_total{cause="memory"}')
        assert self.code(**say("b")) == "NOT_FOUND"
        list(self.call(**say("e")))
        assert self.code(**say("e", session_tokens=1)) == "FAILED_PRECONDITION"
        assert self.code(**say("e", create_session=True)) == "ALREADY_EXISTS"
        one = self.call(**say("e", max_tokens=100_000))
        next(one)
        assert self.code(**say("e")) == "ABORTED"
        one.cancel()
        self.scraper.wait_for('based_session_evictions_total{cause="idle"}')

    def http_status(self, path):
        host, port = self.daemon.http_address.rsplit(":", 1)
        link = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.keys['a']}"}
        link.request("POST", path, json.dumps({"prompt": [1], "max_tokens": 2}), headers)
        reply = link.getresponse()
        reply.read()
        link.close()
        return reply.status

    def structured(self):
        """A constraint twice, one that is none, and text that it leaves no choice of."""
        def regex(text):
            return dict(constraint=self.proto.completion.Constraint(regex=text), max_tokens=100)

        for _ in range(2):
            list(self.call(**regex("[ab] the whale swam slowly towards the harbour [0-9]")))
        assert self.code(**regex("(")) == "INVALID_ARGUMENT"
        self.scraper.wait_for("based_forced_tokens_total")
        self.scraper.wait_for('based_requests_total{code="OK",finish_reason="constraint"}')

    def batches(self):
        """A job that is cancelled, and one behind it that ends with a result and an error."""
        pb = self.proto.batch
        stub = self.proto.batch_grpc.BatchServiceStub(self.channels[-1])
        metadata = [("authorization", f"Bearer {self.keys['batcher']}")]
        long = json.dumps({"prompt": "a", "max_tokens": 100_000, "ignore_eos": True}) + "\n"
        short = "".join(json.dumps({"prompt": "a", "max_tokens": 2, "ignore_eos": True,
                                    "temperature": t}) + "\n" for t in (1, -5))
        for name, lines in (("long", long * 9), ("short", short)):
            request = pb.CreateBatchRequest(id=name, lines=lines.encode(), last=True)
            stub.CreateBatch(iter([request]), metadata=metadata, timeout=LIMIT_S)
        for state in ("running", "queued"):
            self.scraper.wait_for(f'based_batch_jobs{{state="{state}"}}')
        for name in ("lines_in_flight", "waiting_lines", "disk_bytes"):
            self.scraper.wait_for(f"based_batch_{name}")
        stub.CancelBatch(pb.CancelBatchRequest(id="long"), metadata=metadata, timeout=LIMIT_S)
        for state in ("cancelled", "completed"):
            self.scraper.wait_for(f'based_batch_jobs{{state="{state}"}}')
        for outcome in ("result", "error"):
            self.scraper.wait_for(f'based_batch_lines_total{{outcome="{outcome}"}}')

    def over_http(self):
        assert self.http_status("/v1/completions") == 200
        assert self.http_status("/v1/nothing") == 404
        host, port = self.daemon.http_address.rsplit(":", 1)
        with socket.create_connection((host, int(port))):  # its timer runs while there are any
            self.scraper.wait_for("based_http_loop_lag_seconds_count")

    def drain(self):
        stream = self.endless()
        self.daemon.signal(signal.SIGTERM)
        wait_for_line(self.daemon, "event=draining")
        assert self.http_status("/v1/completions") == 503
        assert self.code() == "UNAVAILABLE"
        self.scraper.wait_for('based_rejections_total{code="UNAVAILABLE",reason="unavailable"}')
        self.scraper.wait_for('based_http_responses_total{code="5xx"}')
        stream.cancel()


def start(start_daemon, tmp_path):
    tenants = [{"name": "a"}, {"name": "few", "requests_per_second": 0.01},
               {"name": "short", "tokens_per_second": 1}, {"name": "narrow", "max_concurrent": 1}]
    made = {name: new_key(tenant=name) for name in ("a", "few", "short", "narrow")}
    made["idle"] = new_key(tenant="a", permissions="sessions")
    made["talker"] = new_key(tenant="a", permissions="generate,sessions")
    made["batcher"] = new_key(tenant="a", permissions="generate,batches")
    access = tmp_path / "access.json"
    access.write_text(json.dumps(
        {"tenants": tenants, "keys": [entry for _, entry in made.values()]}))
    access.chmod(0o600)
    daemon = start_daemon(
        f"--model={DEMO}", "--backend=cpu", "--slots=2", "--max_queue=2",
        "--max_queue_tokens=300000", "--stream_queue=2", f"--access_file={access}",
        "--drain_timeout_ms=5000", "--session_memory=3500000",
        f"--session_idle_s={SESSION_IDLE_S}", f"--batch_dir={tmp_path / 'jobs'}")
    return daemon, {name: key for name, (key, _) in made.items()}


def test_every_series_moves_when_it_should(start_daemon, proto, tmp_path):
    daemon, keys = start(start_daemon, tmp_path)
    scraper = Scraper(daemon)
    loads = Loads(daemon, proto, keys, scraper)
    try:
        for load in (loads.endings, loads.long_prompt, loads.refusals, loads.structured,
                     loads.queue, loads.parking, loads.slow_reader, loads.sessions,
                     loads.batches, loads.over_http, loads.drain):
            # What the last one has cancelled is gone.
            for phase in ("queued", "prefill", "decode"):
                daemon.wait_for_metric(f'based_live_requests{{phase="{phase}"}}', 0)
            begin = time.monotonic()
            load()
            print(f"{load.__name__}: {time.monotonic() - begin:.1f} s")
        scraper.stop()
        assert daemon.wait() == 0
    finally:
        for channel in loads.channels:
            channel.close()
        daemon.process.kill()
    still = [name for name in sorted(scraper.least)
             if not scraper.moved(name) and name not in ELSEWHERE
             and family(name) not in CONSTANT and not name.startswith(FOREIGN)
             # Tenants that were given nothing.
             and not ('tenant="' in name and 'tenant="a"' not in name)]
    assert not still, ("no load moved these series; add a load to tests/e2e/test_metrics.py, or the "
                       "series with its reason to ELSEWHERE:\n  " + "\n  ".join(still))
    for name in CONSTANT:
        values = [value for series, value in scraper.least.items() if family(series) == name]
        assert values and all(value > 0 for value in values), name
    surprises = [name for name in ELSEWHERE if name not in scraper.least]
    assert not surprises, f"named in ELSEWHERE and no series: {surprises}"

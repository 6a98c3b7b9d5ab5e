"""The Ray Data example as a user runs it: one machine, several daemons, one of them killed."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import DEMO, ROOT
from test_batch import read_lines, write_lines
from test_python_client import based_client  # noqa: F401, a fixture

EXAMPLE = ROOT / "client" / "python" / "examples" / "ray_batch.py"
FLAGS = (f"--model={DEMO}", "--backend=cpu", "--slots=8", "--threads=1")
LIMIT_S = 240


@pytest.fixture
def start_example(based_client, tmp_path):  # noqa: F811
    """Starts the example on some lines; nothing of it is left when the test ends."""
    installed = os.path.dirname(os.path.dirname(based_client.__file__))
    processes = []

    def start(lines, daemons, *flags):
        source = write_lines(tmp_path / "in.jsonl", lines)
        environment = {**os.environ, "PYTHONPATH": installed}
        environment.pop("RAY_ADDRESS", None)
        with open(tmp_path / "said", "w") as said:
            processes.append(subprocess.Popen(
                [sys.executable, EXAMPLE, source, tmp_path / "out",
                 "--daemons=" + ",".join(daemon.address for daemon in daemons), *flags],
                env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True))
        return processes[-1]

    yield start
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def results(process, tmp_path):
    """Rows of the output in the order of its files' names."""
    assert process.wait(LIMIT_S) == 0, (tmp_path / "said").read_text()[-4000:]
    return [row for path in sorted((tmp_path / "out").iterdir()) for row in read_lines(path)]


def test_every_line_once_in_order_over_all_daemons(start_daemon, start_example, tmp_path):
    daemons = [start_daemon(*FLAGS) for _ in range(3)]
    lines = [{"prompt": f"Chapter {i}", "number": i} for i in range(800)]
    process = start_example(lines, daemons, "--max_tokens=32", "--rows_per_block=20")
    rows = results(process, tmp_path)
    assert [(row["number"], row["prompt"]) for row in rows] == [
        (line["number"], line["prompt"]) for line in lines]
    assert all(row["error"] == "" and row["generated_tokens"] >= 1 for row in rows)
    spread = collections.Counter(row["daemon"] for row in rows)
    assert set(spread) == {daemon.address for daemon in daemons}
    assert min(spread.values()) >= 20
    # What a daemon says it has done is what the rows say.
    for daemon in daemons:
        tokens = sum(row["generated_tokens"] for row in rows if row["daemon"] == daemon.address)
        assert daemon.metric("based_generated_tokens_total") == tokens
    again = start_example(lines, daemons)
    assert again.wait(LIMIT_S) != 0 and "exist" in (tmp_path / "said").read_text()


def test_a_daemon_that_is_killed_loses_no_line(start_daemon, start_example, tmp_path):
    daemons = [start_daemon(*FLAGS) for _ in range(2)]
    lines = [{"prompt": f"Chapter {i}", "number": i} for i in range(240)]
    process = start_example(lines, daemons, "--max_tokens=60", "--rows_per_block=20")
    end = time.monotonic() + LIMIT_S
    while daemons[1].metric("based_generated_tokens_total") < 500:
        assert process.poll() is None and time.monotonic() < end, (tmp_path / "said").read_text()
        time.sleep(0.05)
    assert daemons[1].metric('based_state_slots{state="active"}') > 0
    daemons[1].signal(signal.SIGKILL)
    daemons[1].wait()
    rows = results(process, tmp_path)
    assert [row["number"] for row in rows] == list(range(240))
    assert [row["error"] for row in rows] == [""] * 240
    by_survivor = sum(row["daemon"] == daemons[0].address for row in rows)
    assert by_survivor > 120  # more than its half


def test_errors_stand_in_their_rows(start_daemon, start_example, tmp_path):
    daemon = start_daemon(*FLAGS)
    lines = [{"prompt": "a" if i != 3 else ""} for i in range(6)]
    process = start_example(lines, [daemon], "--max_tokens=-5", "--rows_per_block=2")
    rows = results(process, tmp_path)
    assert len(rows) == 6
    for row in rows:
        assert json.dumps(row["error"]).startswith('"INVALID_ARGUMENT: stop.max_tokens is -5')

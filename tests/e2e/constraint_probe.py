"""Asks the program constraint_probe (beside $BASED_BIN_DIR, in `tests`) about constraints."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Probe:
    """One running probe. A text matches or does not; members are random texts that match."""

    def __init__(self):
        binaries = pathlib.Path(os.environ.get("BASED_BIN_DIR", ROOT / "build" / "bin"))
        program = binaries.resolve().parent / "tests" / "constraint_probe"
        assert program.exists(), f"{program} is not built: run tests/run.sh"
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        self._process.stdin.close()
        assert self._process.wait(timeout=10) == 0

    def ask(self, kind, text="", **question):
        line = json.dumps({"kind": kind, "text": text, **question})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the probe died of {line}"
        return json.loads(answer)

"""Kills the daemon at random moments of a batch job until it has been killed N times.

Each round makes one job in BatchService and starts the daemon again after every kill -9, until the
job has ended. The results must then be those of a job that nothing disturbed: every line once, in
order. Prints one line of figures; exit status 1 when a line is lost, repeated or different. Build
first: cmake --build --preset cpu --target based based-server
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from batch_kills import answers, parse_arguments, start_daemon, write_input


class Jobs:
    """`based jobs` against whatever daemon runs."""

    def __init__(self, bin_dir, folder):
        self.bin_dir, self.folder = bin_dir, folder
        self.daemon = self.address = None

    def start(self):
        with open(self.folder / "daemon.log", "w") as log:
            self.daemon, self.address = start_daemon(
                self.bin_dir, log, f"--batch_dir={self.folder / 'jobs'}")

    def kill(self):
        self.daemon.kill()
        self.daemon.wait(30)

    def call(self, *arguments):
        done = subprocess.run([self.bin_dir / "based", "jobs", *map(str, arguments), "--quiet",
                               f"--address={self.address}"],
                              capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout

    def ended(self, name):
        return json.loads(self.call("show", name, "--json"))["ended_ms"] != "0"

    def wait_for_end(self, name, limit_s):
        """False when `limit_s` has passed before."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self.ended(name):
                return True
            time.sleep(0.02)
        return False


def main():
    arguments = parse_arguments(__doc__)
    rng = random.Random(arguments.seed)
    kills = rounds = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        jobs = Jobs(pathlib.Path(arguments.bin), folder)
        jobs.start()
        try:
            write_input(folder / "in.jsonl", arguments.lines, rng)
            begin = time.monotonic()
            jobs.call("submit", folder / "in.jsonl", "--id=alone")
            jobs.call("fetch", "alone", folder / "alone.jsonl")
            alone_s = time.monotonic() - begin
            expected = answers(folder / "alone.jsonl")
            assert [name for name, _, _ in expected] == [f"line-{i}"
                                                         for i in range(arguments.lines)]
            while kills < arguments.kills:
                rounds += 1
                name = f"round-{rounds}"
                jobs.call("submit", folder / "in.jsonl", f"--id={name}")
                while not jobs.wait_for_end(name, rng.uniform(0, alone_s * rng.choice([0.1, 0.5]))):
                    jobs.kill()
                    kills += 1
                    jobs.start()
                # The end is on the disk before the results are merged: also there it may fall.
                if rng.random() < 0.5:
                    jobs.kill()
                    kills += 1
                    jobs.start()
                output = folder / f"{name}.jsonl"
                jobs.call("fetch", name, output)
                if answers(output) != expected:
                    print("lines lost, repeated or different", file=sys.stderr)
                    return 1
                jobs.call("delete", name)
        finally:
            jobs.daemon.terminate()
            jobs.daemon.wait(30)
        left = [path.name for path in (folder / "jobs" / "jobs").iterdir()]
    if len(left) != 1:
        print(f"files left behind: {left}", file=sys.stderr)
        return 1
    print(f"kills={kills} jobs={rounds} lines={arguments.lines} alone_s={alone_s:.2f} "
          "lost=0 repeated=0")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Kills `based batch` at random moments until it has been killed N times, and checks every output.

Each round runs one batch: kill -9 after a random time, start again, until a run ends by itself. The
output must then hold every line of the input exactly once, in order, with the text that an
undisturbed run gave. Prints one line of figures; exit status 1 when a line is lost, repeated or
different. Build first: cmake --build --preset cpu --target based based-server
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_LIMIT_S = 60
RUN_LIMIT_S = 120
TORN = re.compile(r"cut (\d+) bytes of a torn record")


def start_daemon(bin_dir, log, *flags):
    process = subprocess.Popen(
        [bin_dir / "based-server", f"--model={ROOT / 'tests/golden/tiny-a'}", "--backend=cpu",
         "--slots=16", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
         "--http_listen=", *flags], stderr=log)
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        ready = re.search(r" grpc=(\S+)", pathlib.Path(log.name).read_text())
        if ready:
            return process, ready.group(1)
        time.sleep(0.05)
    process.kill()
    raise RuntimeError("the daemon did not start:\n" + pathlib.Path(log.name).read_text())


def write_input(path, lines, rng):
    with open(path, "w") as file:
        for i in range(lines):
            ids = [rng.randrange(60) for _ in range(rng.randint(1, 12))]
            body = {"prompt": ids, "max_tokens": rng.randint(1, 60), "seed": i, "ignore_eos": True}
            if i % 50 == 49:
                body["temperature"] = -1  # the daemon refuses it: an error in place of a result
            file.write(json.dumps({"custom_id": f"line-{i}", "method": "POST",
                                   "url": "/v1/completions", "body": body}) + "\n")


def answers(path):
    """What must not depend on kills: ids in order, texts or errors."""
    read = []
    for line in path.read_text().splitlines():
        result = json.loads(line)
        choices = result["response"] and result["response"]["body"]["choices"]
        read.append((result["custom_id"], json.dumps(choices), json.dumps(result["error"])))
    return read


def run_killed(command, rng, longest_s, counts):
    """One start; True when the batch ended by itself."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        process.wait(rng.uniform(0, longest_s) if longest_s else RUN_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
    said = process.communicate()[1]
    counts["torn"] += bool(TORN.search(said))
    if process.returncode < 0:
        counts["kills"] += 1
        return False
    if process.returncode != 0:
        raise RuntimeError(said)
    return True


def parse_arguments(doc):
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--lines", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bin", type=pathlib.Path,
                        default=os.environ.get("BASED_BIN_DIR", ROOT / "build" / "bin"))
    return parser.parse_args()


def main():
    arguments = parse_arguments(__doc__)
    rng = random.Random(arguments.seed)
    counts = {"kills": 0, "torn": 0, "batches": 0, "restarts_complete": 0}
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/daemon.log", "w") as log:
        folder = pathlib.Path(folder)
        daemon, address = start_daemon(pathlib.Path(arguments.bin), log)
        try:
            write_input(folder / "in.jsonl", arguments.lines, rng)
            output = folder / "out.jsonl"
            command = [pathlib.Path(arguments.bin) / "based", "batch", folder / "in.jsonl", output,
                       f"--address={address}"]
            begin = time.monotonic()
            assert run_killed(command, rng, 0, counts)
            alone_s = time.monotonic() - begin
            expected = answers(output)
            assert [name for name, _, _ in expected] == [f"line-{i}"
                                                         for i in range(arguments.lines)]
            while counts["kills"] < arguments.kills:
                output.unlink()
                counts["batches"] += 1
                # Kills fall anywhere: before the first result, between any two, while merging.
                while not run_killed(command, rng, alone_s * rng.choice([0.1, 0.5, 1.1]), counts):
                    counts["restarts_complete"] += output.exists()
                if answers(output) != expected:
                    print("lines lost, repeated or different", file=sys.stderr)
                    return 1
                if list(folder.glob("out.jsonl.*")):
                    print("files left behind", file=sys.stderr)
                    return 1
        finally:
            daemon.terminate()
            daemon.wait(30)
    print(" ".join(f"{name}={value}" for name, value in counts.items()),
          f"lines={arguments.lines} alone_s={alone_s:.2f} lost=0 repeated=0")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A batch of many short prompts against the engine alone, and how busy the slots were.

Runs `based batch` on a daemon, and before and after it `serve_bench --engine` with the same model,
slots and lengths: a machine's speed drifts. Prints one line: tokens per second of all three, the
batch's over the mean of the others, and the share of slots that were in use (sampled four times a
second) until 98% of the lines had ended.
Build first: cmake --build --preset cpu --target based based-server serve_bench
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_LIMIT_S = 60
SAMPLE_S = 0.25
IDS = 60


def start_daemon(build, slots, log):
    process = subprocess.Popen(
        [build / "bin" / "based-server", f"--model={ROOT / 'models/demo'}", "--backend=cpu",
         f"--slots={slots}", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
         "--http_listen="], stderr=log)
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        text = pathlib.Path(log.name).read_text()
        if "event=ready" in text:
            return (process, *(re.search(rf" {name}=(\S+)", text).group(1)
                               for name in ("grpc", "metrics")))
        time.sleep(0.05)
    process.kill()
    raise RuntimeError("the daemon did not start")


class Sampler(threading.Thread):
    """Slots in use, and completions so far, over time."""

    def __init__(self, metrics):
        super().__init__(daemon=True)
        self.url, self.samples, self.stop = f"http://{metrics}/metrics", [], False

    def run(self):
        active = re.compile(r'^based_state_slots\{state="active"\} (\S+)', re.M)
        while not self.stop:
            text = urllib.request.urlopen(self.url, timeout=10).read().decode()
            self.samples.append((time.monotonic(), float(active.search(text).group(1))))
            time.sleep(SAMPLE_S)


def engine_rate(arguments):
    """Tokens per second of the engine alone."""
    bench = subprocess.run(
        [arguments.build / "tests" / "serve_bench", "--engine", f"--model={ROOT / 'models/demo'}",
         f"--slots={arguments.slots}", f"--streams={arguments.slots}",
         f"--prompt_tokens={arguments.prompt_tokens}", f"--max_tokens={arguments.max_tokens}",
         "--spread=0.5",
         f"--seconds={arguments.engine_seconds}"], capture_output=True, text=True, check=True)
    return float(re.search(r"tokens_per_s=(\S+)", bench.stdout).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--prompt_tokens", type=int, default=16, help="mean; half to one and a half")
    parser.add_argument("--max_tokens", type=int, default=16, help="mean; half to one and a half")
    parser.add_argument("--engine_seconds", type=float, default=8)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "cpu")
    arguments = parser.parse_args()
    rng = random.Random(1)
    engines = [engine_rate(arguments)]
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/daemon.log", "w") as log:
        folder = pathlib.Path(folder)
        tokens = 0
        with open(folder / "in.jsonl", "w") as file:
            for i in range(arguments.lines):
                prompt = [rng.randrange(IDS) for _ in range(rng.randint(
                    arguments.prompt_tokens // 2, arguments.prompt_tokens * 3 // 2))]
                output = rng.randint(arguments.max_tokens // 2, arguments.max_tokens * 3 // 2)
                tokens += output
                file.write(json.dumps({"prompt": prompt, "max_tokens": output, "temperature": 0,
                                       "ignore_eos": True}) + "\n")
        daemon, address, metrics = start_daemon(arguments.build, arguments.slots, log)
        try:
            sampler = Sampler(metrics)
            sampler.start()
            begin = time.monotonic()
            batch = subprocess.Popen([arguments.build / "bin" / "based", "batch",
                                      folder / "in.jsonl", folder / "out.jsonl",
                                      f"--address={address}"], stderr=subprocess.PIPE, text=True)
            # The moment when 98% have ended: each record of the checkpoint is one line.
            partial, ended, offset, late = folder / "out.jsonl.partial", -1, 0, None
            while batch.poll() is None:
                if partial.exists() and late is None:
                    with open(partial, "rb") as file:
                        file.seek(offset)
                        added = file.read()
                    offset += len(added)
                    ended += added.count(b"\n")
                    if ended >= 0.98 * arguments.lines:
                        late = time.monotonic()
                time.sleep(SAMPLE_S)
            end = time.monotonic()
            sampler.stop = True
            sampler.join(15)
            assert batch.returncode == 0, batch.stderr.read()
            results = [json.loads(line) for line in open(folder / "out.jsonl")]
        finally:
            daemon.terminate()
            daemon.wait(30)
    assert len(results) == arguments.lines
    assert sum(result["usage"]["completion_tokens"] for result in results) == tokens
    first = next(when for when, active in sampler.samples if active > 0)
    used = [active / arguments.slots for when, active in sampler.samples
            if first + 0.2 <= when <= (late or end)]
    rate = tokens / (end - begin)
    engines.append(engine_rate(arguments))
    engine = sum(engines) / len(engines)
    print(f"lines={arguments.lines} slots={arguments.slots} "
          f"engine_tokens_per_s={engines[0]:.0f},{engines[1]:.0f} "
          f"batch_tokens_per_s={rate:.0f} ratio={rate / engine:.3f} "
          f"slots_busy={sum(used) / len(used):.4f} samples={len(used)} batch_s={end - begin:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

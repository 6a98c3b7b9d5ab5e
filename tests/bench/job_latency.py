"""What a job of BatchService that fills every slot does to one interactive stream.

    python3 tests/bench/job_latency.py [--slots 64 1024] [--seconds 4] [--rounds 3]

Prints the stream's inter-token latency alone and beside the job, and the daemon's tokens per second,
for each number of slots. Build first: cmake --build --preset cpu --target based based-server
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

from http_cost import MODELS, ROOT, metric, start

TOKENS = 400


class Daemon:
    def __init__(self, bin_dir, folder, slots):
        self.bin_dir, self.folder = bin_dir, folder
        self.process, self.addresses = start(bin_dir, MODELS["demo"], slots,
                                             f"--batch_dir={folder / 'jobs'}")

    def metric(self, series):
        return metric(self.addresses["metrics"], series)

    def call(self, *arguments):
        subprocess.run([self.bin_dir / "based", *arguments, f"--address={self.addresses['grpc']}"],
                       check=True, stdout=subprocess.DEVNULL, timeout=300)

    def submit(self, lines):
        path = self.folder / "in.jsonl"
        path.write_text("".join(
            json.dumps({"prompt": f"Chapter {i}. The", "max_tokens": TOKENS, "ignore_eos": True,
                        "seed": i}) + "\n" for i in range(lines)))
        self.call("jobs", "submit", path, "--id=job", "--quiet")

    def wait_for_full(self, slots):
        end = time.monotonic() + 120
        while self.metric('based_state_slots{state="active"}') < slots:
            if time.monotonic() > end:
                raise RuntimeError("the job did not fill the slots within 120 s")
            time.sleep(0.1)

    def stop(self):
        self.process.kill()
        self.process.wait(30)


def stream(daemon, seconds):
    """p50 and p99 inter-token latency in ms, and the daemon's tokens per second meanwhile."""
    report = daemon.folder / "bench.json"
    before, begin = daemon.metric("based_generated_tokens_total"), time.monotonic()
    daemon.call("bench", "--concurrency=1", "--prompt_length=8", f"--output_length={TOKENS}",
                f"--duration={seconds}", "--warmup=1", f"--output={report}")
    tokens = daemon.metric("based_generated_tokens_total") - before
    itl = json.loads(report.read_text())["itl_ms"]
    return itl["p50"], itl["p99"], tokens / (time.monotonic() - begin)


def measure(bin_dir, slots, options):
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(bin_dir, pathlib.Path(folder), slots)
        try:
            show = "slots={} {:6} itl_p50_ms={:.3f} itl_p99_ms={:.3f} tokens_per_s={:.0f}"
            for _ in range(options.rounds):
                print(show.format(slots, "alone", *stream(daemon, options.seconds)), flush=True)
            daemon.submit(4 * slots + 2000)
            daemon.wait_for_full(slots)
            begin, before = time.monotonic(), daemon.metric("based_generated_tokens_total")
            time.sleep(options.seconds)
            rate = ((daemon.metric("based_generated_tokens_total") - before)
                    / (time.monotonic() - begin))
            print(f"slots={slots} job alone tokens_per_s={rate:.0f}", flush=True)
            for _ in range(options.rounds):
                print(show.format(slots, "beside", *stream(daemon, options.seconds)), flush=True)
        finally:
            daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin_dir", type=pathlib.Path, default=ROOT / "build" / "cpu" / "bin")
    parser.add_argument("--slots", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for slots in options.slots:
        measure(options.bin_dir, slots, options)


if __name__ == "__main__":
    main()

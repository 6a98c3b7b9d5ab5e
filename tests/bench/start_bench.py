"""How long a daemon takes from its start to its first token, with the page cache warm and cold.

    BASED_BIN_DIR=build/cpu/bin python3 tests/bench/start_bench.py [--model DIR] [--runs N]
    python3 tests/bench/start_bench.py --make DIR      # writes a 2.7 GB checkpoint first

Cold: the kernel is asked to drop the weights' pages before each start (posix_fadvise), which it may
not do in full where another process maps them. The token is heard by `based generate`. Needs numpy.
"""

import argparse
import json
import os
import pathlib
import re
import struct
import subprocess
import threading
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("BASED_BIN_DIR", ROOT / "build" / "bin"))
# The shape of the released 1.3B checkpoints.
D_MODEL, LAYERS, VOCABULARY, HEADS, FEATURES = 1792, 36, 50264, 16, 16
BLOCK_BYTES = 64 << 20
LINEAR, WINDOW = [1, 6, 11, 16, 21, 27, 33], [2, 7, 12, 17, 22, 28, 34]


def tensors(d):
    yield "transformer.embeddings.word_embeddings.weight", (VOCABULARY, d)
    yield "transformer.ln_f.weight", (d,)
    for layer in range(LAYERS):
        prefix = f"transformer.layers.{layer}."
        yield prefix + "norm1.weight", (d,)
        yield prefix + "norm2.weight", (d,)
        yield prefix + "mlp.fc1.weight", (4 * d, d)
        yield prefix + "mlp.fc2.weight", (d, 2 * d)
        mixer = prefix + "mixer."
        if layer in LINEAR:
            yield mixer + "proj_q.weight", (HEADS * FEATURES, d)
            yield mixer + "proj_k.weight", (HEADS * FEATURES, d)
            yield mixer + "proj_v.weight", (d, d)
            yield mixer + "out_proj.weight", (d, d)
        elif layer in WINDOW:
            yield mixer + "Wqkv.weight", (3 * d, d)
            yield mixer + "out_proj.weight", (d, d)
        else:
            yield mixer + "in_proj.weight", (4 * d, d)
            yield mixer + "in_proj.bias", (4 * d,)
            yield mixer + "conv.conv.weight", (2 * d, 1, 3)
            yield mixer + "out_proj.weight", (d, 2 * d)
            yield mixer + "out_proj.bias", (d,)


def make(folder, d_model=D_MODEL, sparse=False):
    """Weights are noise of about the usual size, or zeros that take no room on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((ROOT / "tests" / "golden" / "tiny-a" / "config.json").read_text())
    config.update(n_embd=d_model, n_layer=LAYERS, n_head=HEADS, n_inner=2 * d_model,
                  vocab_size=50257, bos_token_id=50256, eos_token_id=50256,
                  alt_mixer_layers=LINEAR, alt_mixer_2_layers=WINDOW)
    config["alt_mixer"]["num_heads"] = config["alt_mixer_2"]["num_heads"] = HEADS
    config["alt_mixer_2"]["window_size"] = 256
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, shape in tensors(d_model):
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = numpy.random.default_rng(7)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if sparse:
            file.truncate(file.tell() + end)
            end = 0
        while end > 0:
            block = generator.normal(0, 0.02, min(end, BLOCK_BYTES) // 2).astype(numpy.float32)
            file.write((block.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes())
            end -= 2 * len(block)
        file.flush()
        os.fsync(file.fileno())


def weights_of(model):
    return sorted(model.glob("*.safetensors"))


def drop(model):
    for path in weights_of(model):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(model):
    for path in weights_of(model):
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass


def run(model, flags):
    """Seconds from the start until it listens, is ready and has sent a first token; and of phases."""
    start = time.monotonic()
    process = subprocess.Popen(
        [BIN / "based-server", f"--model={model}", "--listen=127.0.0.1:0", "--metrics_listen=",
         "--http_listen=", *flags], stderr=subprocess.PIPE, text=True)
    times = {}
    for line in process.stderr:
        event = re.search(r"event=(\S+)", line)
        if event is None:
            raise SystemExit(line)
        times[event.group(1)] = time.monotonic() - start
        if event.group(1) == "ready":
            address = re.search(r" grpc=(\S+)", line).group(1)
            phases = {name: float(re.search(rf" {name}_s=(\S+)", line).group(1))
                      for name in ("read", "compile")}
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()
    subprocess.run([BIN / "based", "generate", f"--address={address}", "--prompt_token_ids=1,2,3",
                    "--max_tokens=1", "--token_ids"], check=True, capture_output=True)
    times["first token"] = time.monotonic() - start
    process.terminate()
    process.wait()
    return times, phases


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models" / "demo")
    parser.add_argument("--make", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("flags", nargs="*", help="of the daemon, after --")
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.make)
        return
    size = sum(path.stat().st_size for path in weights_of(arguments.model))
    print(f"{arguments.model.name}: {size / 1e9:.3f} GB")
    for name, prepare in (("warm", warm), ("cold", drop)):
        for _ in range(arguments.runs):
            prepare(arguments.model)
            times, phases = run(arguments.model, arguments.flags)
            print(f"{name}: " + ", ".join(f"{event} at {at:.3f} s" for event, at in times.items()) +
                  f"; weights read and checked in {phases['read']:.3f} s, "
                  f"{size / 1e9 / phases['read']:.2f} GB/s; compiled in {phases['compile']:.3f} s",
                  flush=True)


if __name__ == "__main__":
    main()

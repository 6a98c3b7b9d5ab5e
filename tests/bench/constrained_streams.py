#!/usr/bin/env python3
"""Inter-token latency of constrained streams against free ones, over a vocabulary of 50,257 ids.

Trains the vocabulary on a text, puts it under the demo model's layers with random embeddings (or
takes --model synthetic:based-1b on a GPU), and runs serve_bench in pairs, free and constrained in
turn. Texts of the constraint never end by themselves, and leave a choice at nearly every token.

    build/venv/bin/python tests/bench/constrained_streams.py --text valid.txt
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import struct
import subprocess
import tempfile

import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SIZE = 50257
END_OF_TEXT = "<|endoftext|>"
SCHEMA = json.dumps({
    "type": "array", "minItems": 20000, "maxItems": 20000,
    "items": {"type": "object", "required": ["name", "age", "tags"], "additionalProperties": False,
              "properties": {"name": {"type": "string", "maxLength": 200},
                             "age": {"type": "integer"}, "seen": {"type": ["boolean", "null"]},
                             "tags": {"type": "array", "items": {"type": "string"}}}},
})
REGEX = "([A-Z][a-z]+(,? [a-z]+)*[.!?] )+"


def train(text, folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train([str(text)], trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer.get_vocab_size()


def widen(source, folder, size):
    """The model of `source` with `size` ids and random embeddings."""
    config = json.loads((source / "config.json").read_text())
    config["vocab_size"] = size
    (folder / "config.json").write_text(json.dumps(config))
    raw = (source / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    rows = -(-size // config["pad_vocab_size_multiple"]) * config["pad_vocab_size_multiple"]
    parts, at = [], 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        part = raw[begin:end]
        if tensor["shape"][0] == json.loads((source / "config.json").read_text())["vocab_size"]:
            tensor["shape"][0] = rows
            values = numpy.random.default_rng(1).normal(0, 0.02, tensor["shape"])
            part = (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        tensor["data_offsets"] = [at, at + len(part)]
        at += len(part)
        parts.append(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(parts))


def run(command):
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", output)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text", type=pathlib.Path, help="trains the vocabulary")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="folder of a trained one instead")
    parser.add_argument("--model", default="", help="default: the demo model's layers")
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/cpu/tests")
    args = parser.parse_args()
    if (args.text is None) == (args.tokenizer is None):
        parser.error("expected one of --text and --tokenizer")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        size = SIZE
        if args.text is not None:
            size = train(args.text, folder)
        else:
            os.symlink(args.tokenizer.resolve() / "tokenizer.json", folder / "tokenizer.json")
        if not args.model:
            widen(ROOT / "models/demo", folder, size)
        command = [args.bin / "serve_bench", "--engine", "--backend", args.backend,
                   "--model", args.model or folder, "--tokenizer", folder,
                   "--streams", str(args.streams), "--temperature", "1",
                   "--seconds", str(args.seconds), "--warmup", "2"]
        kinds = {"free": [], "schema": ["--json_schema", SCHEMA], "regex": ["--regex", REGEX]}
        figures = {kind: [] for kind in kinds}
        for pair in range(args.pairs):
            for kind in list(kinds) if pair % 2 == 0 else reversed(kinds):
                figures[kind].append(run(command + kinds[kind]))
                print(f"{kind:7}", *(f"{name}={value:g}" for name, value in figures[kind][-1].items()
                                     if name.startswith(("itl", "tokens"))), flush=True)
        for kind in ("schema", "regex"):
            ratios = [other["itl_p50_ms"] / free["itl_p50_ms"]
                      for other, free in zip(figures[kind], figures["free"])]
            print(f"{kind}: itl_p50 against free ones, median of {len(ratios)} pairs: "
                  f"{statistics.median(ratios):.3f} (all: {[round(r, 3) for r in ratios]})")


if __name__ == "__main__":
    main()

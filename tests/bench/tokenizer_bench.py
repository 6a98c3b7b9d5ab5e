"""Times our tokenizer and Hugging Face `tokenizers`, one thread each, on the same text.

  python3 tests/bench/tokenizer_bench.py (--tokenizer DIR | --train SIZE) --text FILE [--repeats 5]

--train makes GPT-2's pair of files, vocab.json and merges.txt, with a vocabulary of so many tokens
learnt from the text itself.

Prints MB/s (10^6 bytes of UTF-8 per second) of the fastest of the repeats, for the text as one
string and as Hugging Face is fastest with: one encode per line. Ids must be equal. tokenize_file is
looked for in --bin (default build/cpu/bin).
"""

import argparse
import os
import pathlib
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
# noqa: E402 below: they read the variable above
from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
END_OF_TEXT = "<|endoftext|>"


def seconds_of(encode, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        encode()
        times.append(time.perf_counter() - start)
    return min(times)


def hugging_face(folder):
    """What the files of a folder mean to Hugging Face."""
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    files = (str(folder / name) for name in ("vocab.json", "merges.txt"))
    tokenizer = Tokenizer(models.BPE.from_file(*files))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def train(text, size):
    """A folder with the pair of files."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END_OF_TEXT],
                                  initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.read_text().splitlines(keepends=True), trainer)
    folder = tempfile.mkdtemp()
    tokenizer.model.save(folder)
    return pathlib.Path(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tokenizer", type=pathlib.Path)
    source.add_argument("--train", type=int, metavar="SIZE")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/cpu/tests")
    args = parser.parse_args()

    folder = args.tokenizer or train(args.text, args.train)
    command = [args.bin / "tokenize_file", folder, args.text]
    run = lambda *extra: subprocess.run(  # noqa: E731
        [*command, *extra], check=True, capture_output=True, text=True
    ).stdout.split()
    theirs = hugging_face(folder)
    text = args.text.read_bytes().decode()
    lines = text.splitlines(keepends=True)

    equal = [int(line) for line in run()] == theirs.encode(text, add_special_tokens=False).ids
    ours = min(float(line) for line in run(str(args.repeats)))
    whole = seconds_of(lambda: theirs.encode(text, add_special_tokens=False), args.repeats)
    by_line = seconds_of(
        lambda: [theirs.encode(line, add_special_tokens=False) for line in lines], args.repeats
    )
    megabytes = args.text.stat().st_size / 1e6
    print(f"vocabulary={theirs.get_vocab_size()} megabytes={megabytes:.2f} ids_equal={equal}")
    print(f"based_mb_s={megabytes / ours:.1f}")
    print(f"huggingface_mb_s={megabytes / whole:.1f} huggingface_by_line_mb_s={megabytes / by_line:.1f}")
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()

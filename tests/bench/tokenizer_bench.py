"""Times our tokenizer and Hugging Face `tokenizers`, one thread each, on the same text.

  python3 tests/bench/tokenizer_bench.py --tokenizer DIR --text FILE [--repeats 5]

Prints MB/s (10^6 bytes of UTF-8 per second) of the fastest of the repeats, for the text as one
string and as Hugging Face is fastest with: one encode per line. Ids must be equal. tokenize_file is
looked for in --bin (default build/cpu/bin).
"""

import argparse
import os
import pathlib
import subprocess
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402  (reads the variable above)

ROOT = pathlib.Path(__file__).resolve().parents[2]


def seconds_of(encode, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        encode()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/cpu/tests")
    args = parser.parse_args()

    command = [args.bin / "tokenize_file", args.tokenizer, args.text]
    run = lambda *extra: subprocess.run(  # noqa: E731
        [*command, *extra], check=True, capture_output=True, text=True
    ).stdout.split()
    theirs = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
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

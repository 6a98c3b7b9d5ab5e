"""Writes tokenizer.json and cases.json: what Hugging Face `tokenizers` says about tricky strings.

The tokenizer is trained on the LICENSE file of this repository. cases.json holds variants of it: a
JSON merge patch (RFC 7386) to apply to tokenizer.json and (text, ids) pairs of the patched one.
Usage: python3 make_fixture.py
"""

import json
import pathlib
import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
LICENSE = HERE.parents[2] / "LICENSE"
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXTS = [
    "",
    " ",
    "a",
    "The Work and such Derivative Works in Source or Object form.",
    "  leading, trailing  ",
    "tabs\tand\nnew\r\nlines \n\n end",
    "it's IT'S we'll they'Ve don't 'tis o'clock",
    "1234567890 12 3,456.78",
    "naïve café déjà vu Ünïcödé",
    "日本語のテキスト 中文 한국어",
    "عربي ١٢٣ हिन्दी १२३",
    "emoji 👩‍👩‍👧‍👦 🇫🇷 ✨!?",
    "\u0000\u0001\u007f\u0080\u0085\u00a0\u1680\u180e\u2000\u2028\u202f\u3000\ufeff\U0010ffff",
    "a\u180eb \u180e \u0085c\u001cd",
    # Letters, digits and marks that Unicode 15 and 16 added.
    "x\u0897y \U0001e4d0\U0001e4f3 \U00016d70 \U0002ebf0 \ua7cb1\U00010d40\U00010d41 \U0001fae9!",
    "<|endoftext|>",
    "before<|endoftext|>after <|endoftext|> <|endoftext|><|endoftext|>",
    "<|endoftext|<|endoftext|>|> <|end",
    "x [MASK] y[MASK]  [MASK]\n z",
    "word words sword word-word _word word wordé éword word1 a\u0301word",
    "ab abc abcd xabcdx xab",
    "ſ'ſ 'K K",
    "a" * 101,
    "ab" * 53,
    " " * 60 + "x" + "\n" * 55,
    "license" * 15,
]

SPECIAL = {"id": 0, "content": "<|endoftext|>", "single_word": False, "lstrip": False,
           "rstrip": False, "normalized": False, "special": True}  # fmt: skip


def added(token_id, content, **flags):
    return {**SPECIAL, "id": token_id, "content": content, "special": False, **flags}


def variants(size):
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": False}  # fmt: skip

    def sequence(pattern, behavior="Isolated", invert=False):
        split = {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
        return {"pre_tokenizer": {"type": "Sequence", "add_prefix_space": None,
                                  "trim_offsets": None, "use_regex": None,
                                  "pretokenizers": [split, byte_level]}}  # fmt: skip

    yield "plain", {}
    yield "prefix space", {"pre_tokenizer": {"add_prefix_space": True}}
    yield "no regex", {"pre_tokenizer": {"use_regex": False}}
    yield "cl100k", sequence({"Regex": CL100K})
    yield "o200k", sequence({"Regex": O200K})
    yield "literal", sequence({"String": " "})
    yield "matches only", sequence({"Regex": r"\p{L}+|\d|[\S]"}, "Removed", True)
    yield "not a letter", sequence({"Regex": r"\P{L}+"})
    yield "ignore merges", {"model": {"ignore_merges": True, "merges": []}}
    yield "added", {
        "added_tokens": [
            SPECIAL,
            added(size, "[MASK]", lstrip=True, rstrip=True, special=True),
            added(size + 1, "word", single_word=True, normalized=True),
            added(size + 2, "abc"),
            added(size + 3, "abcd"),
            added(size + 4, "xab", normalized=True),
            added(size + 5, "日"),
        ]
    }
    no_vowels = {letter: None for letter in "aeiou"}
    for fuse in (False, True):
        yield f"unknown, fuse {fuse}", {
            "model": {"unk_token": "!", "fuse_unk": fuse, "vocab": no_vowels, "merges": []}
        }
    yield "bytes missing", {"model": {"vocab": no_vowels, "merges": []}}


def merge_patch(target, patch):
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def random_text(rng):
    def character():
        kind = rng.random()
        if kind < 0.4:
            return chr(rng.randrange(32, 127))
        if kind < 0.6:
            return rng.choice(" \n\t\r\u00a0\u3000")
        code = rng.randrange(0x20000 if kind < 0.9 else 0x110000)
        return "" if 0xD800 <= code < 0xE000 else chr(code)

    return "".join(character() for _ in range(120))


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(LICENSE)], trainer)
    base = json.loads(tokenizer.to_str())
    (HERE / "tokenizer.json").write_text(json.dumps(base, separators=(",", ":")))

    rng = random.Random(1)
    texts = TEXTS + [random_text(rng) for _ in range(2)]
    cases = []
    for name, patch in variants(tokenizer.get_vocab_size()):
        patched = Tokenizer.from_str(json.dumps(merge_patch(base, patch)))
        ids = [patched.encode(text, add_special_tokens=False).ids for text in texts]
        cases.append({"name": name, "patch": patch, "ids": ids})
    document = {"texts": texts, "variants": cases}
    (HERE / "cases.json").write_text(json.dumps(document, separators=(",", ":")))


if __name__ == "__main__":
    main()

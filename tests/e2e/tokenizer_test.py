"""Ids of our tokenizer against Hugging Face `tokenizers`: the repository's text, random Unicode.

Runs the program tokenize_file, found in `tests` beside $BASED_BIN_DIR (default build/bin).
"""

import json
import lzma
import os
import pathlib
import random
import subprocess

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo" / "tokenizer.json"
END_OF_TEXT = "<|endoftext|>"
CONTENTS = ("<w>", "[M]", "w\u00f6rd", "\u00e9\u00e9", "a b", "a b c", "\n\n")

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenize_file():
    binaries = pathlib.Path(os.environ.get("BASED_BIN_DIR", ROOT / "build" / "bin"))
    program = binaries.resolve().parent / "tests" / "tokenize_file"
    assert program.exists(), f"{program} is not built: run tests/run.sh"
    return program


def repository_text():
    files = sorted(
        path
        for folder in ("client", "engine", "kernels", "proto", "server", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".cc", ".h", ".proto", ".py")
    )
    return "".join(path.read_text() for path in [ROOT / "LICENSE", *files])


def random_character(rng):
    """A scalar value; whitespace, ASCII and the lower planes more often than their share."""
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(" \n\r\t   \x85\xa0\u1680\u180e\u2003\u2028\u202f\u3000\u200b\ufeff\x1c")
    if kind < 0.5:
        return chr(rng.randrange(32, 127))
    code = rng.randrange((0x300, 0x3000, 0x20000, 0x110000)[int(kind * 8) - 4])
    return "" if 0xD800 <= code < 0xE000 else chr(code)


def random_unicode(size_bytes, seed):
    rng = random.Random(seed)
    words = ["'s", "'RE", "'ll", "'\u017f", " the", "ing", "1234", END_OF_TEXT, "<|end", "<w>", "[M]", "w\u00f6rd", "a b c", "  "]
    pieces, size = [], 0
    while size < size_bytes:
        piece = rng.choice(words) if rng.random() < 0.1 else random_character(rng)
        pieces.append(piece)
        size += len(piece.encode())
    return "".join(pieces)


def every_scalar_value():
    return "".join(chr(c) + " a"[c % 2] for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def book_text():
    """The text that the demo model was validated on."""
    return lzma.decompress((ROOT / "models" / "valid.txt.xz").read_bytes()).decode()


def train(pre_tokenizer, lines, vocab_size=3000):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def split_then_bytes(pattern):
    from tokenizers import Regex

    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])


PRE_TOKENIZERS = {
    "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "prefix_space": lambda: pre_tokenizers.ByteLevel(add_prefix_space=True),
    "cl100k": lambda: split_then_bytes(CL100K),
    "o200k": lambda: split_then_bytes(O200K),
}


def hugging_face(folder):
    """What the files of a folder mean to Hugging Face."""
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    files = (str(folder / name) for name in ("vocab.json", "merges.txt"))
    tokenizer = Tokenizer(models.BPE.from_file(*files))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS["gpt2"]()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


@pytest.fixture(scope="module",
                params=[*PRE_TOKENIZERS, "vocab_and_merges", "added_tokens", "demo"])
def folder(request, tmp_path_factory):
    """A folder with the files under test."""
    path = tmp_path_factory.mktemp(request.param)
    if request.param == "vocab_and_merges":
        # As many tokens as GPT-2 has.
        lines = (repository_text() + book_text()).splitlines(keepends=True)
        trained = train(PRE_TOKENIZERS["gpt2"](), lines, vocab_size=50_257)
        assert trained.get_vocab_size() == 50_257
        trained.model.save(str(path))
        return path
    if request.param == "demo":
        if not DEMO.exists():
            pytest.skip("the demo model is not in this tree")
        return DEMO.parent
    pre_tokenizer = PRE_TOKENIZERS.get(request.param, PRE_TOKENIZERS["gpt2"])()
    trained = train(pre_tokenizer, repository_text().splitlines(keepends=True))
    document = json.loads(trained.to_str())
    if request.param == "added_tokens":
        rng = random.Random(5)
        size = len(document["model"]["vocab"])
        for token_id, content in enumerate(CONTENTS, start=size):
            flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
            token = {flag: rng.random() < 0.5 for flag in flags}
            document["added_tokens"].append({"id": token_id, "content": content, **token})
    (path / "tokenizer.json").write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda: random_unicode(1_200_000, seed=1), id="random_unicode"),
        pytest.param(every_scalar_value, id="every_scalar_value"),
        pytest.param(repository_text, id="repository"),
        pytest.param(book_text, id="books"),
    ],
)
def test_ids_equal_hugging_face(folder, text, tmp_path):
    text = text()
    file = tmp_path / "text"
    file.write_bytes(text.encode())
    result = subprocess.run([tokenize_file(), folder, file], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ours = [int(line) for line in result.stdout.split()]
    theirs = hugging_face(folder).encode(text, add_special_tokens=False).ids
    if ours != theirs:
        at = next(i for i, (a, b) in enumerate(zip(ours + [-1], theirs + [-1])) if a != b)
        pytest.fail(f"token {at}: ours {ours[at : at + 8]}, expected {theirs[at : at + 8]}")

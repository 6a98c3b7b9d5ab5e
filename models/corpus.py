"""Text in, token ids out: reads the corpus, trains the byte-level BPE, encodes.

Token ids are uint16: the vocabulary must stay below 65,536.
"""

import lzma
import pathlib
import re

import numpy as np
import tokenizers

END_OF_TEXT = "<|endoftext|>"

# A piece of the GPT-2 pattern always begins at a space between two letters, so text cut there
# encodes to the same ids as the whole.
_SAFE_CUT = re.compile(r"[A-Za-z](?= [A-Za-z])")
_CHUNK_CHARS = 1 << 20


def read_text(path: pathlib.Path) -> str:
    """Reads UTF-8 text, unpacking `.xz`; line ends stay as they are in the file."""
    raw = path.read_bytes()
    return (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")


def train_tokenizer(text: str, vocab_size: int) -> tokenizers.Tokenizer:
    """Trains a GPT-2 style byte-level BPE of exactly `vocab_size` ids; end of text is id 0."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_chunks(text), trainer=trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(
            f"the text yields {tokenizer.get_vocab_size()} tokens, {vocab_size} wanted"
        )
    return tokenizer


def encode(tokenizer: tokenizers.Tokenizer, text: str) -> np.ndarray:
    """Encodes `text` without special tokens to uint16 ids, the same ids as in one piece."""
    encodings = tokenizer.encode_batch(list(_chunks(text)), add_special_tokens=False)
    parts = [np.asarray(e.ids, dtype=np.uint16) for e in encodings]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16)


def _chunks(text: str):
    begin = 0
    while begin < len(text):
        cut = _SAFE_CUT.search(text, begin + _CHUNK_CHARS)
        end = cut.end() if cut else len(text)
        yield text[begin:end]
        begin = end

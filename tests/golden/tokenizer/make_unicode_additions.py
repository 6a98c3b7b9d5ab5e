"""Prints engine/unicode_additions.inc: what Hugging Face's regex engine knows beyond Unicode 14.

Needs `tokenizers` and a Python whose unicodedata is Unicode 14 (3.11). Usage:
  python3 make_unicode_additions.py > ../../../engine/unicode_additions.inc
"""

import unicodedata

from tokenizers import Regex, pre_tokenizers

CATEGORIES = (
    "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
)
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def members(category):
    """Code points that \\p{category} matches in tokenizers."""
    split = pre_tokenizers.Split(Regex(r"\p{%s}" % category), "removed", invert=True)
    for start in range(0, len(SCALARS), 20000):
        text = "".join(map(chr, SCALARS[start : start + 20000]))
        for piece, _ in split.pre_tokenize_str(text):
            yield ord(piece)


def main():
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    added = sorted(
        (code, category)
        for category in CATEGORIES
        for code in members(category)
        if unicodedata.category(chr(code)) != category
    )
    ranges = []
    for code, category in added:
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == category:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, category])
    print("// Written by tests/golden/tokenizer/make_unicode_additions.py: {first, last, category}.")
    for first, last, category in ranges:
        print('{0x%04X, 0x%04X, "%s"},' % (first, last, category))


if __name__ == "__main__":
    main()

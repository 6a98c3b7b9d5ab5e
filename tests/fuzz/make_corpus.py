"""Writes the hand-made part of corpus/<target>/: one sound input of each kind and hostile variants.

Run from anywhere: python3 tests/fuzz/make_corpus.py. The files are committed; inputs that fuzzing
found lie beside them under names that this script does not write.
"""

import json
import random
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"


def write(target: str, name: str, content: bytes | str) -> None:
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)


def changed(document: dict, **fields) -> str:
    return json.dumps({**document, **fields})


def safetensors(header: dict | str, data: bytes, length: int | None = None) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# A model of every mixer, 4 wide, as small as the format allows.
CONFIG = {
    "n_embd": 4, "n_layer": 3, "n_head": 1, "vocab_size": 5, "pad_vocab_size_multiple": 4,
    "layer_norm_epsilon": 1e-5, "activation_function": "swiglu", "rms_norm": True,
    "rotary_emb_fraction": 1, "n_positions": 0, "bos_token_id": 0, "eos_token_id": 0,
    "mlp_fc1_bias": False, "mlp_fc2_bias": False, "out_proj_bias": False, "qkv_proj_bias": False,
    "mixer": {"_target_": "BaseConv", "use_bias": True},
    "alt_mixer": {"_target_": "LinearAttention", "num_heads": 1, "feature_dim": 2,
                  "feature_map": {"_target_": "TaylorExp", "input_dim": 2}},
    "alt_mixer_2": {"_target_": "SlidingAttention", "num_heads": 1, "window_size": 4},
    "alt_mixer_layers": [1], "alt_mixer_2_layers": [2],
}


def shapes() -> dict[str, list[int]]:
    width, inner, channels = 4, 2, 3
    tensors = {"transformer.embeddings.word_embeddings.weight": [8, width],
               "transformer.ln_f.weight": [width]}
    mixers = [
        {"in_proj.weight": [2 * channels, width], "in_proj.bias": [2 * channels],
         "conv.conv.weight": [channels, 1, 2],
         "out_proj.weight": [width, channels], "out_proj.bias": [width]},
        {"proj_q.weight": [2, width], "proj_k.weight": [2, width], "proj_v.weight": [2, width],
         "out_proj.weight": [width, 2]},
        {"Wqkv.weight": [6, width], "out_proj.weight": [width, 2]},
    ]
    for layer, mixer in enumerate(mixers):
        prefix = f"transformer.layers.{layer}."
        tensors[prefix + "norm1.weight"] = [width]
        tensors[prefix + "norm2.weight"] = [width]
        tensors[prefix + "mlp.fc1.weight"] = [2 * inner, width]
        tensors[prefix + "mlp.fc2.weight"] = [width, inner]
        tensors |= {prefix + "mixer." + name: shape for name, shape in mixer.items()}
    return tensors


def model_file(dtype: str, element: bytes, tensors: dict[str, list[int]], prefix: str = "") -> bytes:
    header, data = {}, b""
    for name, shape in tensors.items():
        count = 1
        for dim in shape:
            count *= dim
        header[prefix + name] = entry(dtype, shape, len(data), len(data) + count * len(element))
        data += element * count
    return safetensors(header, data)


def checkpoints() -> None:
    config = json.dumps(CONFIG).encode() + b"\0"
    half = struct.pack("<f", 0.5)
    write("checkpoint", "sound-f32", config + model_file("F32", half, shapes()))
    write("checkpoint", "sound-bf16-prefixed", config + model_file("BF16", half[2:], shapes(), "model."))
    write("checkpoint", "sound-f16", config + model_file("F16", b"\0\x38", shapes()))
    write("checkpoint", "nan", config + model_file("F32", b"\0\0\xc0\x7f", shapes()))
    write("checkpoint", "infinity-bf16", config + model_file("BF16", b"\x80\x7f", shapes()))
    write("checkpoint", "integer-weights", config + model_file("I32", bytes(4), shapes()))
    without_norm = {k: v for k, v in shapes().items() if "ln_f" not in k}
    write("checkpoint", "tensor-missing", config + model_file("F32", half, without_norm))
    write("checkpoint", "tensor-unknown",
          config + model_file("F32", half, shapes() | {"transformer.extra": [1]}))
    wide = shapes() | {"transformer.layers.1.mixer.proj_q.weight": [2, 5]}
    write("checkpoint", "wrong-shape", config + model_file("F32", half, wide))
    other = changed(CONFIG, alt_mixer_layers=[2], alt_mixer_2_layers=[1]).encode() + b"\0"
    write("checkpoint", "other-mixers", other + model_file("F32", half, shapes()))
    flat = shapes() | {"transformer.layers.0.mixer.conv.conv.weight": [0, 1, 2]}
    write("checkpoint", "no-channels", config + model_file("F32", half, flat))
    write("checkpoint", "no-tensors", config + safetensors({}, b""))
    write("checkpoint", "truncated", config + model_file("F32", half, shapes())[:-1])


def configs() -> None:
    golden = json.loads((GOLDEN / "tiny-a" / "config.json").read_text())
    write("config", "tiny-a", json.dumps(golden))
    write("config", "all-mixers", json.dumps(CONFIG))
    write("config", "truncated", json.dumps(golden)[:-20])
    write("config", "huge-width", changed(golden, n_embd=2**31))
    write("config", "huge-number", json.dumps(golden).replace('"n_layer": 6', '"n_layer": 1e400'))
    write("config", "negative-layers", changed(golden, n_layer=-1))
    write("config", "fraction", changed(golden, n_layer=2.5))
    write("config", "most-layers", changed(golden, n_layer=1024))
    write("config", "padding-overflows", changed(golden, vocab_size=10_000_000, pad_vocab_size_multiple=65536))
    write("config", "layer-outside", changed(golden, alt_mixer_layers=[6]))
    write("config", "layers-nested", changed(golden, alt_mixer_layers=[[1]]))
    write("config", "mixer-unknown", changed(golden, mixer={"_target_": "Hyena"}))
    write("config", "mixer-missing", changed(golden, mixer=None))
    write("config", "bos-outside", changed(golden, bos_token_id=61))
    write("config", "nan", json.dumps(golden).replace("1e-05", "NaN"))
    write("config", "twice", '{"n_embd": 4, "n_embd": 8}')
    write("config", "deep", '{"a":' * 2000 + "1" + "}" * 2000)
    write("config", "array", "[]")
    write("config", "not-utf8", b'{"n_embd\xff": "\xc0\x80"}')


def tensor_files() -> None:
    two = {"a": entry("F32", [2], 0, 8), "b": entry("BF16", [1, 2], 8, 12)}
    data = bytes(range(12))
    write("safetensors", "sound", safetensors(two, data))
    write("safetensors", "metadata", safetensors({"__metadata__": {"format": "pt"}, **two}, data))
    write("safetensors", "empty", safetensors({}, b""))
    write("safetensors", "scalar-and-void",
          safetensors({"s": entry("I64", [], 0, 8), "v": entry("F64", [0, 7], 8, 8)}, bytes(8)))
    write("safetensors", "unaligned",
          safetensors({"u": entry("U8", [1], 0, 1), "f": entry("F64", [1], 1, 9)}, bytes(9)))
    golden = (GOLDEN / "tiny-a" / "golden.safetensors").read_bytes()
    write("safetensors", "golden-head", golden[:2048])
    write("safetensors", "truncated-data", safetensors(two, data[:-1]))
    write("safetensors", "truncated-header", safetensors(two, b"")[:40])
    write("safetensors", "length-lies", safetensors(two, data, length=2**63))
    write("safetensors", "length-wraps", safetensors(two, data, length=2**64 - 8))
    write("safetensors", "length-short", safetensors(two, data, length=10))
    write("safetensors", "overlap",
          safetensors({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, data))
    write("safetensors", "hole",
          safetensors({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, data))
    write("safetensors", "backwards", safetensors({"a": entry("F32", [1], 8, 4)}, data))
    write("safetensors", "negative", safetensors({"a": entry("F32", [-1], 0, -4)}, data))
    write("safetensors", "product-wraps",
          safetensors({"a": entry("F32", [2**32, 2**32, 4], 0, 0)}, b""))
    write("safetensors", "offset-huge",
          safetensors({"a": entry("F32", [3], 2**64 - 12, 2**64)}, data))
    write("safetensors", "number-huge",
          safetensors('{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,12]}}', data))
    write("safetensors", "dtype-unknown", safetensors({"a": entry("Q4", [3], 0, 12)}, data))
    write("safetensors", "deep", safetensors('{"a":' + "[" * 5000, data))
    write("safetensors", "twice",
          safetensors('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                      '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"))


def tokenizers() -> None:
    golden = json.loads((GOLDEN / "tokenizer" / "tokenizer.json").read_text())
    # Single bytes and the first merges over them: the whole file would only slow the fuzzer down.
    bytes_only = [token for token in golden["model"]["vocab"] if len(token) == 1]
    merges = [["a", "b"], ["ab", "c"], ["\u0120", "a"]]
    vocab = {token: i for i, token in enumerate(bytes_only)}
    for left, right in merges:
        vocab[left + right] = len(vocab)
    end = len(vocab)
    added = {"id": end, "content": "<|endoftext|>", "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}
    small = {**golden, "added_tokens": [added],
             "model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    text = "\0" + "abc abcab <|endoftext|> \u00e9\u6f22 123's\n\n"
    write("tokenizer", "sound", json.dumps(small) + text)
    strip = [{**added, "lstrip": True, "rstrip": True},
             {**added, "id": end + 1, "content": " ", "normalized": True, "rstrip": True},
             {**added, "id": end + 2, "content": "ab", "single_word": True}]
    write("tokenizer", "strip", changed(small, added_tokens=strip) + "\0  ab \u2003 <|endoftext|>   ab")
    split = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}|\s+(?!\S)"}, "behavior": "Isolated",
         "invert": False},
        {"type": "Split", "pattern": {"String": "ab"}, "behavior": "Removed", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": True, "use_regex": False}]}
    write("tokenizer", "sequence", changed(small, pre_tokenizer=split) + text)
    for name, pattern in {"regex-empty": "a*", "regex-nested": "(a+)+b", "regex-unclosed": "(a",
                          "regex-class": "[a", "regex-big": "(((a{1,999}){1,999}){1,999}){1,999}",
                          "regex-look": "(?=a)|(?<!b)c", "regex-utf8": "[\u00e9-\u6f22]+"}.items():
        stage = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
        chain = {"type": "Sequence", "pretokenizers": [stage, split["pretokenizers"][2]]}
        write("tokenizer", name, changed(small, pre_tokenizer=chain) + "\0" + "a" * 60)
    model = small["model"]
    few = {"a": 0, "b": 1, "ab": 2}
    write("tokenizer", "unknown-fused", changed(small, added_tokens=[], model={
        "type": "BPE", "vocab": {**few, "?": 3}, "merges": ["a b"], "unk_token": "?",
        "fuse_unk": True, "ignore_merges": True}) + text)
    write("tokenizer", "bytes-missing", changed(small, added_tokens=[], model={
        **model, "vocab": few, "merges": ["a b"]}) + text)
    write("tokenizer", "id-huge", changed(small, model={**model, "vocab": {"a": 2**40}}))
    write("tokenizer", "id-negative", changed(small, model={**model, "vocab": {"a": -1}}))
    write("tokenizer", "id-twice", changed(small, model={**model, "vocab": {"a": 0, "b": 0}}))
    write("tokenizer", "merge-unknown", changed(small, model={**model, "merges": [["a", "zz"]]}))
    write("tokenizer", "merge-spaces", changed(small, model={**model, "merges": ["a  b"]}))
    write("tokenizer", "added-empty", changed(small, added_tokens=[{**added, "content": ""}]))
    write("tokenizer", "normalizer", changed(small, normalizer={"type": "NFC"}))
    write("tokenizer", "surrogate", '{"model":{"vocab":{"\\ud800":0},"merges":[]}}')
    write("tokenizer", "deep", '{"model":' * 3000)
    write("tokenizer", "truncated", json.dumps(small)[:-30])
    pair = json.dumps({**vocab, "<|endoftext|>": end}) + "\0"
    write("tokenizer", "pair", "v" + pair + "#version: 0.2\na b\nab c\r\n\u0120 a\n" + text)
    write("tokenizer", "pair-no-newline", "v" + pair + "a b" + text)
    write("tokenizer", "pair-blank-line", "v" + pair + "a b\n\nab c" + text)
    write("tokenizer", "pair-long-word", "v" + pair + "a b\nab c\n\0" + "abc" * 170)


def streams() -> None:
    stops = bytes([3, 2]) + b"bc" + bytes([4]) + b"abcd" + bytes([0])
    write("text", "stop", stops + b"\x01" + b"xxabcdbc")
    write("text", "stop-held", stops + b"\x07" + b"xxababababa")
    write("text", "characters", b"\0\x03" + "a\u00e9\u6f22\U0001f600".encode())
    write("text", "ill-formed", b"\0\x05" + b"\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xff")
    write("text", "incomplete", b"\0\x09" + b"ok\xf0\x9f\x98")
    write("text", "overlapping-stops", bytes([2, 3]) + b"aab" + bytes([2]) + b"ab\x02" + b"aaaaab")
    generator = random.Random(1)
    write("text", "random", generator.randbytes(256))
    for seed in range(8):
        size = (0, 16, 64, 128, 256, 512, 1024, 2048)[seed]
        write("scheduler", f"random-{size}", random.Random(seed).randbytes(size))
    write("scheduler", "lowest", bytes(256))
    write("scheduler", "highest", b"\xff" * 256)
    write("scheduler", "alternating", b"\x00\x00\xff\xff" * 128)


def requests() -> None:
    texts = {
        "text": 'text: "Hello" sampling { temperature: 0.8 top_k: 40 top_p: 0.95 seed: 7 }',
        "ids": "token_ids { ids: [1, 2, 299] } stop { max_tokens: 5 token_ids: [3] }",
        "ids-outside": "token_ids { ids: [1, -2147483648, 300] }",
        "nothing": "",
        "empty-text": 'text: ""',
        "ill-formed": 'text: "ok\\xff\\xc0"',
        "nan": 'text: "a" sampling { temperature: nan }',
        "infinity": 'text: "a" sampling { temperature: inf top_p: -inf min_p: nan }',
        "negative-zero": 'text: "a" sampling { temperature: -0.0 top_p: -0.0 }',
        "no-tokens": 'text: "a" stop { max_tokens: 0 }',
        "tokens-huge": 'text: "a" stop { max_tokens: 9223372036854775807 }',
        "stops": 'text: "a" stop { strings: ["", "x", "\\377"] ignore_eos: true }',
        "stops-many": 'text: "a" stop { ' + 'strings: "x" ' * 17 + "}",
        "n": 'text: "a" n: -1 best_of: 2147483647',
        "priority": 'text: "a" priority: PRIORITY_BATCH',
        "not-served": 'text: "a" tenant: "t" sampling { logit_bias { key: 1 value: nan } }',
        "output": 'text: "a" output { text: false token_ids: true tokens_per_message: 0 }',
        "model": 'model: "other" text: "a"',
        "chat": 'chat { messages: "[{\\"role\\":\\"user\\",\\"content\\":\\"a\\"}]" }',
        "chat-wrong": 'chat { messages: "[{\\"role\\":1}]" chat_template_kwargs: "[" }',
        "chat-beside-session": 'chat { messages: "[{}]" } state { session: "s" }',
    }
    texts |= {
        "rules": 'text: "abab" sampling { repetition_penalty: 1.5 presence_penalty: 0.5 '
                 'frequency_penalty: -0.5 typical_p: 0.6 top_p: 0.9 min_p: 0.01 seed: 3 '
                 'logit_bias { key: 4 value: 2 } bad_words: "ab" bad_words: "c" } '
                 'stop { max_tokens: 12 min_tokens: 3 include_stop: true }',
        "allowed-leaves-nothing": 'token_ids { ids: 5 } sampling { allowed_token_ids: 98 '
                                  'bad_words: "b" }',
        "several": 'text: "a" n: 2 best_of: 5 stop { max_tokens: 6 } output { logprobs: true '
                   'top_logprobs: 2 echo: true prompt_logprobs: true tokens_per_message: 3 }',
        "several-ids": 'token_ids { ids: [7, 8, 9] } n: 4 output { text: false token_ids: true '
                       'delta_interval_ms: 1 } stop { max_tokens: 9 ignore_eos: true }',
        "text-stops": 'text: "x" stop { strings: ["a", "\\343\\201"] token_ids: [9, 1] } '
                      'sampling { temperature: 3 }',
    }
    for name, text in texts.items():
        write("request", f"{name}.txt", bytes([7]) + text.encode())
        write("request", f"{name}-no-tokenizer.txt", bytes([4]) + text.encode())
    context = "context_ids { ids: [1, 2, 3, 4, 5, 6, 7, 8, 9] }"
    scores = {
        "score": 'pairs { context: "ab" continuation: "c" } pairs { continuation: "abc" }',
        "score-shared": " ".join(f"pairs {{ {context} continuation_ids {{ ids: [{i}, 4] }} }}"
                                 for i in range(40)),
        "score-wrong": "pairs { context_ids { ids: 1 } continuation_ids { ids: 300 } }",
        "score-both": 'pairs { context: "a" continuation_ids { ids: 3 } } token_logprobs: true',
    }
    for name, text in scores.items():
        write("request", f"{name}.txt", bytes([15]) + text.encode())
    write("request", "wire", bytes([3]) + b"\x12\x05Hello\x22\x05\x0d\x00\x00\x00\x3f")
    write("request", "wire-truncated", bytes([3]) + b"\x12\x7fHello")
    write("request", "wire-unknown-field", bytes([3]) + b"\x12\x01a\xfa\x3f\x02hi")
    write("request", "wire-group-nesting", bytes([3]) + b"\x0b" * 400)
    write("request", "wire-priority-unknown", bytes([3]) + b"\x12\x01a\x50\xff\xff\xff\xff\x07")


def schemas() -> None:
    person = {"type": "object", "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20, "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
        "mail": {"type": ["string", "null"], "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["a", "b\"", 1.5, None]}, "maxItems": 3}},
        "required": ["name", "tags"], "additionalProperties": False}
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {
        "v": {"type": "number", "multipleOf": 0.5, "minimum": -1.25},
        "k": {"type": "array", "items": {"$ref": "#/$defs/t"}}}, "required": ["v"]}}}
    texts = {
        "person": person, "tree": tree, "true": True, "false": False, "empty": {},
        "endless": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        "loop": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        "one-of": {"oneOf": [{"type": "object", "properties": {"k": {"const": c}},
                              "required": ["k"]} for c in "abc"]},
        "conjunction": {"allOf": [{"anyOf": [{"minimum": i}, {"maxLength": i}]}
                                  for i in range(5)]},
        "tuple": {"type": "array", "prefixItems": [{"type": "null"}, {"const": [1, {}]}],
                  "items": {"type": "boolean"}, "minItems": 1, "maxItems": 4},
        "names": {"propertyNames": {"pattern": "^x?$", "maxLength": 3}, "required": ["x"],
                  "additionalProperties": {"type": "string", "format": "ipv6"}},
        "huge-counts": {"type": "string", "minLength": 20000, "maxLength": 1e300},
        "huge-numbers": {"type": "integer", "minimum": -1e300, "maximum": 1e300,
                         "multipleOf": 1023},
        "wrong-types": {"type": 3, "required": {}, "enum": 1, "properties": [], "allOf": 0},
        "pointer": {"$ref": "#/%7e1~0/~2/%zz"},
        "not": {"properties": {"a": {"not": {}}}},
    }
    for name, schema in texts.items():
        write("json_schema", name, json.dumps(schema))
    write("json_schema", "deep", '{"items":' * 2000)
    write("json_schema", "twice", '{"type":"null","type":"null"}')
    write("json_schema", "truncated", json.dumps(person)[:-40])
    write("json_schema", "not-utf8", b'{"const": "\xff"}')


def expressions() -> None:
    texts = {
        "plain": r"^[A-Z][a-z]+(-\d{2,4})?$", "unicode": "[\u00e9-\u6f22]+\\u{1f600}\\ud83d\\ude00",
        "category": r"\p{Lu}\P{L}[\p{Nd}\-]", "anchors": "(^|a)b($|c)^", "lazy": "a*?b+?c??d{1,3}?",
        "groups": "(?:a|(?<n>b)|(?P<m>c)|)", "nothing": "a^b", "empty": "", "dot": ".{0,40}",
        "nested-repeat": "((a{1,99}){1,99}){1,99}", "exponential": "(.*a){3}.{30}",
        "backtracking": "(a*)*(a|aa)+$", "lookahead": "a(?=b)", "backreference": r"(a)\1",
        "boundary": r"\ba", "braces": "a{2,1}{", "class": "[a-", "escapes": r"[\d\s\W\b\x41\0-z]",
        "deep": "(" * 300, "surrogate": r"\ud800", "repeat-huge": "a{99999999999999999999}",
    }
    for name, text in texts.items():
        write("regex", name, text)
    write("regex", "not-utf8", b"a\xff")


def grammars() -> None:
    json_grammar = """root ::= ws value ws
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (pair (ws "," ws pair)*)? ws "}"
pair ::= string ws ":" ws value
array ::= "[" ws (value (ws "," ws value)*)? ws "]"
string ::= "\\"" ([^"\\\\\\x00-\\x1F] | "\\\\" (["\\\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
ws ::= [ \\t\\n]{0,3}
"""
    texts = {
        "json": json_grammar,
        "choice": 'root ::= "yes" | "no" | "not" | \'it"s\'',
        "left-recursion": "root ::= sum\nsum ::= more term | term\nmore ::= sum '+'\nterm ::= [0-9]+",
        "hidden-left-recursion": 'root ::= e root "x" | "y"  e ::= "a"?',
        "ambiguous": 'root ::= root root | root root root | "a" | ""',
        "exponential": 'root ::= [ab]* "a" [ab]{40}',
        "exponential-readings": 'root ::= "a" x "b" | "a" y "c" | "d" x ::= root | "e" y ::= root | "f"',
        "deep": 'root ::= "[" root* "]"',
        "must-be-deep": 'root ::= "a" b "a" b ::= "b" c "b" | root c ::= "c" root "c" | ""',
        "unicode": "root ::= [\u00e0-\u00ff\U0001f600-\U0001f64f]+ . [^a-z]",
        "empty-loops": 'root ::= ((""* "a"?)* | (("")+){3})* "b"{0}',
        "repeats": 'root ::= (("a"{3}){2,}){1,4} "b"{,3}',
        "many": 'root ::= ("ab"{99}){99}{99}',
        "endless": 'root ::= "a" | b b ::= "c" b',
        "undefined": "root ::= nothing",
        "twice": 'root ::= "a" root ::= "b"',
        "comments": "# one\nroot # two\n ::= # three\n 'a' # four",
        "surrogate": 'root ::= "\\uD800"',
        "open-class": "root ::= [a-",
        "open-text": 'root ::= "abc\\',
        "groups": "root ::= " + "(" * 300,
        "same-rule": "root ::= root",
    }
    for name, text in texts.items():
        write("ebnf", name, text.encode() + b"\0" + bytes(range(0, 256, 5)))
    write("ebnf", "ill-formed", b'root ::= "\xc0\x80"')


def chat_templates() -> None:
    messages = json.dumps([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "h\u00e9"},
                           {"role": "assistant", "content": None, "x": [1, -2.5, {"y": [True]}]}],
                          ensure_ascii=False)
    texts = {
        "chatml": "{% for m in messages %}\n{{ '<|im_start|>' + m['role'] + '\\n' + m.content|default('', true) "
                  "+ '<|im_end|>\\n' }}\n{%- endfor %}{% if add_generation_prompt %}a{% endif %}",
        "namespace": "{% set ns = namespace(n=0) %}{% for m in messages if m.content %}{% set ns.n = ns.n + 1 %}"
                     "{{ loop.index }}{{ loop.previtem.role }}{{ ns.n }}{% else %}none{% endfor %}",
        "macro": "{% macro m(a, b='c') %}<{{ a ~ b }}>{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}{{ m() }}",
        "filters": "{{ messages|tojson(indent=2) }}{{ messages|map(attribute='role')|join(',') }}"
                   "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ 'a-b'|title|replace('a', 'b') }}",
        "slices": "{{ messages[::-1][0:2]|length }}{{ 'h\u00e9llo'[::-2] }}{{ 'abc'[-9:9] }}{{ [1, 2][5] }}",
        "raise": "{{ raise_exception('no ' + messages[0].role) }}",
        "whitespace": "a \n {%- if true +%}\n  {#- x -#} {{- 1 -}} \n{% endif %}\r\n",
        "strings": "{{ 'a\\x41\\u00e9\\U0001f642\\'' \"b\" }}{{ ' a b '.split()[1] }}{{ 'x'.strip('x') }}",
        "steps": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "growth": "{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = ns.t * 2 %}{% endfor %}",
        "nested-values": "{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "cycle": "{% set ns = namespace() %}{% set ns.x = ns %}",
        "deep": "{{ " + "(" * 500,
        "long": "{{ 1" + " + 1" * 500 + " }}",
        "numbers": "{{ 9223372036854775807 * 2 }}{{ -7 // 2 }}{{ 7 % -3 }}{{ 1e308 * 10 }}{{ 1 // 0 }}",
        "smallest": "{{ (-9223372036854775807 - 1) // -1 }}{{ -(-9223372036854775807 - 1) }}",
        "unclosed": "{{ 'abc",
        "brackets": "{{ {'a': {'b': 1}} }}{{ ) }}",
        "time": "{{ strftime_now('%d %b %Y') }}",
    }
    for name, text in texts.items():
        write("chat_template", name, messages.encode() + b"\0" + text.encode())
    write("chat_template", "not-utf8", b"[]\0{{ 'a\xff' }}")
    write("chat_template", "not-json", b"[\0{{ messages }}")


chat_templates()
checkpoints()
configs()
schemas()
expressions()
grammars()
requests()
tensor_files()
tokenizers()
streams()

"""Random schemas and regular expressions against PyPI's jsonschema and Python's re.

What a constraint offers must be valid, and valid variations of it must match (as far as
deploy/docs/structured_output.md promises that).
"""

import json
import random
import re

import jsonschema
import pytest

from constraint_probe import Probe

FORMATS = ("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER
# Written so that Python and ECMA-262 agree on them.
PATTERNS = (r"^[a-z]+$", r"^\d{2,4}$", r"a.c", r"^(foo|ba[rz])*$", r"x{2}", r"^[^0-9]{0,5}$",
            "^\u00e9?[\u4e00-\u4e10]$", r"(^a|b$)", r"^$|^-?[1-9]", "\U0001f600", r"\\|/|\"")


@pytest.fixture(scope="module")
def probe():
    running = Probe()
    yield running
    running.close()


class Schemas:
    """Random schemas within the supported subset."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def make(self):
        schema = self.schema(3)
        if isinstance(schema, dict) and self.rng.random() < 0.3:
            schema["$defs"] = {"tree": {"type": "object", "properties": {
                "v": self.leaf(), "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "required": ["v"], "additionalProperties": False}}
            schema.setdefault("properties", {})["tree"] = {"$ref": "#/$defs/tree"}
        return schema

    def schema(self, depth):
        kind = self.rng.random()
        if depth == 0 or kind < 0.35:
            return self.leaf()
        if kind < 0.65:
            return self.object(depth)
        if kind < 0.8:
            return self.array(depth)
        if kind < 0.88:
            return {"anyOf": [self.schema(depth - 1) for _ in range(self.rng.randint(1, 3))]}
        if kind < 0.94:
            return {"allOf": [self.schema(depth - 1), self.schema(depth - 1)]}
        return {"oneOf": [{"type": "object", "properties": {
            "kind": {"const": name}, "value": self.schema(depth - 1)}, "required": ["kind"],
            "additionalProperties": False} for name in ("a", "b", "c")[:self.rng.randint(1, 3)]]}

    def leaf(self):
        return self.rng.choice((self.string, self.string, self.number, self.number, self.values,
                                self.free))()

    def free(self):
        return self.rng.choice(({}, True, {"type": "boolean"}, {"type": ["null", "boolean"]},
                                {"type": ["string", "null"]}, {"type": "array"},
                                {"type": "object"}, {"type": "number"}))

    def values(self):
        pool = ("a", "b", "", "q\"\\\u00e9\n", 0, -3, 1.5, True, None, [1, {"x": None}], {"k": []})
        if self.rng.random() < 0.3:
            return {"const": self.rng.choice(pool)}
        return {"enum": self.rng.sample(pool, self.rng.randint(1, 5))}

    def string(self):
        schema = {"type": "string"}
        if self.rng.random() < 0.2:
            schema["format"] = self.rng.choice(FORMATS)
            return schema
        if self.rng.random() < 0.4:
            schema["minLength"] = self.rng.randint(0, 4)
        if self.rng.random() < 0.4:
            schema["maxLength"] = self.rng.randint(2, 9)
        if self.rng.random() < 0.4:
            schema["pattern"] = self.rng.choice(PATTERNS)
        return schema

    def number(self):
        schema = {"type": self.rng.choice(("integer", "integer", "number"))}
        if schema["type"] == "integer":
            bounds = [self.rng.randint(-10 ** k, 10 ** k) for k in (1, 3, self.rng.randint(1, 17))]
            if self.rng.random() < 0.3:
                schema["multipleOf"] = self.rng.choice((1, 2, 3, 5, 7, 10, 64, 0.5))
        else:
            bounds = [round(self.rng.uniform(-20, 20), self.rng.randint(0, 3)) for _ in range(3)]
            if self.rng.random() < 0.2:
                schema["multipleOf"] = self.rng.choice((0.5, 0.25, 2, 0.125))
        for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
            if self.rng.random() < 0.25:
                schema[key] = self.rng.choice(bounds)
        return schema

    def object(self, depth):
        names = self.rng.sample(("a", "b", "name", "\u00e9", "x y", "q\"", "long_name_of_it"),
                                self.rng.randint(0, 4))
        schema = {"type": "object",
                  "properties": {name: self.schema(depth - 1) for name in names}}
        schema["required"] = [name for name in names if self.rng.random() < 0.5]
        if self.rng.random() < 0.1:
            schema["required"].append("more")
        if self.rng.random() < 0.7:
            schema["additionalProperties"] = (
                False if self.rng.random() < 0.7 else self.schema(depth - 1))
        if self.rng.random() < 0.1:
            schema["propertyNames"] = {"maxLength": 6}
        return schema

    def array(self, depth):
        schema = {"type": "array", "items": self.schema(depth - 1)}
        if self.rng.random() < 0.3:
            schema["prefixItems"] = [self.schema(depth - 1)
                                     for _ in range(self.rng.randint(1, 3))]
        if self.rng.random() < 0.4:
            schema["minItems"] = self.rng.randint(0, 3)
        if self.rng.random() < 0.4:
            schema["maxItems"] = self.rng.randint(1, 5)
        return schema


def loads_once(text):
    """The value, or None where an object has a name twice: then its text says more than it."""
    twice = []

    def members(pairs):
        names = [name for name, _ in pairs]
        twice.extend(name for name in names if names.count(name) > 1)
        return dict(pairs)

    value = json.loads(text, object_pairs_hook=members)
    return None if twice else value


def variation(value, rng):
    """The value with one small change; numbers stay plain."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        changed = dict(value)
        name = rng.choice(list(changed))
        if rng.random() < 0.3:
            del changed[name]
        else:
            changed[name] = variation(changed[name], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        changed = list(value)
        if rng.random() < 0.4:
            return changed[:-1] if rng.random() < 0.5 else changed + [changed[-1]]
        at = rng.randrange(len(changed))
        changed[at] = variation(changed[at], rng)
        return changed
    if isinstance(value, dict):
        return {**value, "zz": 1}
    if isinstance(value, str):
        return rng.choice((value[1:], value + "a", value[:-1] + "\u00e9", "c" + value))
    if isinstance(value, int) and not isinstance(value, bool):
        return value + rng.choice((-1, 1, -10, 10))
    return rng.choice((None, True, 0, "", [], {}))


def plain(value):
    """Without numbers that may be written in more than one way."""
    if isinstance(value, float):
        return False
    if isinstance(value, int) and abs(value) >= 10 ** 15:
        return False
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(plain(item) for item in inner)


def has_format(schema):
    return '"format"' in json.dumps(schema)


def test_schemas(probe):
    rng = random.Random(7)
    accepted = members = agreed = valid_variations = 0
    for seed in range(1500):
        schema = Schemas(seed).make()
        text = json.dumps(schema, ensure_ascii=seed % 2 == 0)
        answer = probe.ask("schema", text, members=6, seed=seed, length=rng.choice((5, 40, 200)))
        if "error" in answer:
            assert answer["error"].startswith("INVALID_ARGUMENT: schema at #"), (schema, answer)
            assert " is not supported" not in answer["error"], (schema, answer)
            continue
        accepted += 1
        validator = jsonschema.Draft202012Validator(schema, format_checker=CHECKER)
        variations = []
        for member in answer["members"]:
            members += 1
            value = json.loads(member)
            assert validator.is_valid(value), (schema, member)
            if loads_once(member) is not None and not has_format(schema):
                variations += [value, variation(value, rng), variation(value, rng)]
        variations = [value for value in variations if plain(value)]
        again = probe.ask("schema", text, match=[json.dumps(value) for value in variations])
        for value, matched in zip(variations, again["matches"]):
            assert matched == validator.is_valid(value), (schema, value, matched)
            agreed += 1
            valid_variations += matched
    assert accepted >= 1000 and members >= 6000, (accepted, members)
    assert agreed >= 6000 and agreed - valid_variations >= 1500, (agreed, valid_variations)


def test_any_json(probe):
    answer = probe.ask("json", members=500, length=300)
    kinds = {type(json.loads(member)) for member in answer["members"]}
    assert kinds == {dict, list, str, int, float, bool, type(None)}
    values = [{"a": [1, -2.5e3, {"b": None}], "\u00e9\U0001f600\n": [[], {}, ""]}, [0.1, 1e-7], "x"]
    layouts = ({}, {"indent": 4}, {"separators": (",", ":")}, {"ensure_ascii": False})
    texts = [json.dumps(value, **layout) for value in values for layout in layouts]
    assert all(probe.ask("json", match=texts)["matches"])
    wrong = ["", "01", "1.", ".5", "+1", "nul", "[1 ,2]", "{'a':1}", "[1,]", '"\n"', '"\\x"', "1 ",
             '"\\ud83d"', "[1  ]", '{"a":1,}', '{"a" :1}', "NaN", '"\t"', "--1", "1e", "[", "1e999"]
    assert not any(probe.ask("json", match=wrong)["matches"])


SPACES = "\\t-\\r \\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000\\ufeff"


class Patterns:
    """Random expressions, each as we read it and as Python's re must be told."""

    ATOMS = (("a", "a"), ("b", "b"), ("[a-c]", "[a-c]"), ("[^a]", "[^a]"), (r"\d", "[0-9]"),
             (r"\w", "[0-9A-Za-z_]"), (r"\W", "[^0-9A-Za-z_]"), (r"\s", f"[{SPACES}]"),
             (r"\S", f"[^{SPACES}]"), (".", "[^\\n\\r\\u2028\\u2029]"), ("\u00e9", "\u00e9"),
             (r"\u{1f600}", "\U0001f600"), (r"\ud83d\ude00", "\U0001f600"), (r"\.", r"\."),
             (r"[\d\-x]", r"[0-9\-x]"), (r"\x41", "A"), (r"\n", r"\n"), ("^", r"\A"), ("$", r"\Z"))

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def make(self, depth=3):
        kind = self.rng.random()
        if depth == 0 or kind < 0.25:
            return self.rng.choice(self.ATOMS)
        if kind < 0.6:
            parts = [self.make(depth - 1) for _ in range(self.rng.randint(1, 4))]
            return tuple("".join(side) for side in zip(*parts))
        if kind < 0.8:
            parts = [self.make(depth - 1) for _ in range(self.rng.randint(1, 3))]
            name = self.rng.choice(("", "?:"))
            return tuple(f"({name}{'|'.join(side)})" for side in zip(*parts))
        quantifier = self.rng.choice(("*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "{2,3}?", "{0}"))
        inner = self.make(depth - 1)
        return tuple(f"(?:{side}){quantifier}" for side in inner)


def test_regular_expressions(probe):
    rng = random.Random(11)
    accepted = members = matched_texts = 0
    for seed in range(2000):
        ours, python = Patterns(seed).make()
        texts = ["".join(rng.choice("aabbc1A. x-_\n\u00e9\U0001f600\u2028") for _ in range(
            rng.randint(0, 5))) for _ in range(12)]
        answer = probe.ask("regex", ours, members=6, seed=seed, length=12, match=texts)
        expression = re.compile(python)
        if "error" in answer:
            assert "no text matches it" in answer["error"], (ours, answer)
            assert not any(expression.fullmatch(text) for text in texts), ours
            continue
        accepted += 1
        for member in answer["members"]:
            members += 1
            assert expression.fullmatch(member), (ours, member)
        for text, matched in zip(texts, answer["matches"]):
            assert matched == bool(expression.fullmatch(text)), (ours, text, matched)
            matched_texts += matched
    assert accepted >= 1500 and members >= 9000 and matched_texts >= 800, (
        accepted, members, matched_texts)

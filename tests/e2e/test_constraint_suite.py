"""Every case of the public JSON-Schema-Test-Suite whose schema is supported.

The suite is part of the source distribution of PyPI's jsonschema, which tests/run.sh fetches into
build/.
Valid instances must match in each of three common layouts, invalid ones in none; what else may
happen is listed here and documented in deploy/docs/structured_output.md.
"""

import json
import tarfile

import pytest

from constraint_probe import ROOT, Probe

FOLDER = ROOT / "build" / "json_schema_suite"

# Valid instances that are not offered, by the file's name and a part of the case's description.
NOT_OFFERED = {
    # 1.0 is an integer in JSON schema; it is written 1, as is a 1 that enum or const list.
    "const.json": ("float zero is valid", "float one is valid", "float is valid"),
    "enum.json": ("float zero is valid", "float one is valid", "[0.0] is valid", "[1.0] is valid"),
    "type.json": ("a float with zero fractional part is an integer",),
    # More digits than are ever offered.
    "bignum.json": ("a bignum is a", "a negative bignum is a", "comparison works for"),
    "float-overflow.json": ("valid if optional overflow handling is implemented",),
    # format is more than an annotation.
    "format.json": ("is only an annotation by default",),
    # Formats are offered in part.
    "date-time.json": ("with a leap second",),
    "time.json": ("leap second",),
    "email.json": ("a quoted string", "address-literal"),
    "hostname.json": ("punycoded", "single label with hyphens"),
    # Says by a metaschema elsewhere that keywords mean nothing.
    "vocabulary.json": ("no validation: invalid number, but it still validates",),
}

LAYOUTS = (
    {},
    {"separators": (",", ":"), "ensure_ascii": False},
    {"indent": 2},
)


def suite():
    archive = next(FOLDER.glob("jsonschema-*.tar.gz"), None)
    if archive is None:
        pytest.skip(f"{FOLDER} holds no source distribution of jsonschema: run tests/run.sh")
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            if "json/tests/draft2020-12/" in member.name and member.name.endswith(".json"):
                yield member.name.rpartition("/")[2], json.load(files.extractfile(member))


def names_in_order(schema, names):
    """Every name of the schema's text, in the order in which it comes first."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            names.setdefault(key, len(names))
            names_in_order(value, names)
    elif isinstance(schema, list):
        for value in schema:
            if isinstance(value, str):
                names.setdefault(value, len(names))
            names_in_order(value, names)
    return names


def in_order(value, names):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: names.get(key, len(names)))
        return {key: in_order(value[key], names) for key in keys}
    if isinstance(value, list):
        return [in_order(item, names) for item in value]
    return value


def excused(file, case):
    return case["valid"] and any(part in case["description"] for part in NOT_OFFERED.get(file, ()))


def test_suite():
    probe = Probe()
    schemas = valid = invalid = not_offered = 0
    faults = []
    for file, groups in suite():
        for group in groups:
            names = names_in_order(group["schema"], {})
            cases = [(case, [json.dumps(in_order(case["data"], names), **layout)
                             for layout in LAYOUTS]) for case in group["tests"]]
            answer = probe.ask("schema", json.dumps(group["schema"]),
                               match=[text for _, texts in cases for text in texts])
            if "error" in answer:
                assert "INVALID_ARGUMENT: schema at #" in answer["error"]
                if "no value is allowed" in answer["error"] and any(
                        case["valid"] for case, _ in cases):
                    faults.append(f"{file}: {group['description']}: {answer['error']}")
                continue
            schemas += 1
            matches = iter(answer["matches"])
            for case, texts in cases:
                for text in texts:
                    matched = next(matches)
                    if matched == case["valid"]:
                        valid += case["valid"]
                        invalid += not case["valid"]
                    elif excused(file, case):
                        not_offered += 1
                    else:
                        faults.append(f"{file}: {group['description']}: {case['description']}: "
                                      f"{text} matches: {matched}")
    probe.close()
    assert not faults, "\n".join(faults)
    # The suite cannot shrink to nothing unnoticed.
    assert schemas >= 180 and valid >= 1380 and invalid >= 1150, (schemas, valid, invalid)
    assert not_offered <= 130

"""`based generate` has a flag for each field of GenerateRequest, called as the field is or naming it
in brackets in its help; it sets that field and no other."""

import re

import pytest
from conftest import run_based
from google.protobuf.descriptor import FieldDescriptor as Field
from test_batch import moody  # noqa: F401, a fixture


def leaves(descriptor, path=()):
    """The fields that hold values, as paths, with their descriptors."""
    for field in descriptor.fields:
        message = field.message_type
        if message is None or message.GetOptions().map_entry:
            yield (*path, field.name), field
        else:
            yield from leaves(message, (*path, field.name))


def flags_of_fields():
    """Flags by the dotted paths that their help names in brackets, and all flags' names."""
    text = run_based("generate", "--help").stdout
    helps = re.findall(r"^  --(\w+).*\n((?:      .*\n)+)", text, re.MULTILINE)
    named = {}
    for flag, help_text in helps:
        for path in re.findall(r"\(([a-z_.]+)\)", " ".join(help_text.split())):
            assert named.setdefault(path, flag) == flag
    return named, {flag for flag, _ in helps}


def value_of(field):
    """A value for the field, and how a command line gives it."""
    if field.message_type is not None:
        return {4: -1.5}, "4:-1.5"
    if field.type == Field.TYPE_BOOL:
        # What is on where the field is unset.
        return (False, "false") if field.full_name.endswith("OutputOptions.text") else (True, "true")
    if field.type == Field.TYPE_ENUM:
        return 2, "batch"
    if field.type in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        return 0.25, "0.25"
    if field.type in (Field.TYPE_STRING, Field.TYPE_BYTES):
        value = "a1" if field.type == Field.TYPE_STRING else b"a1"
        return ([value] if field.label == Field.LABEL_REPEATED else value), "a1"
    return ([3, 5], "3,5") if field.label == Field.LABEL_REPEATED else (3, "3")


def set_fields(message, path=()):
    """The leaves that are set, by their paths; a message that holds none is as good as none."""
    values = {}
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            values[(*path, field.name)] = value
        else:
            values.update(set_fields(value, (*path, field.name)))
    return values


def put(message, path, value):
    for name in path[:-1]:
        message = getattr(message, name)
    if isinstance(value, dict):
        getattr(message, path[-1]).update(value)
    elif isinstance(value, list):
        getattr(message, path[-1]).extend(value)
    else:
        setattr(message, path[-1], value)


def test_every_field_has_a_flag_that_sets_it(proto, moody):  # noqa: F811
    heard = []
    server = moody(lambda context, request, number: heard.append(request))
    named, flags = flags_of_fields()
    fields = dict(leaves(proto.completion.GenerateRequest.DESCRIPTOR))
    assert len(fields) > 40
    paths = {".".join(path) for path in fields}
    assert {path for path in named if "." in path} <= paths
    named = {path: flag for path, flag in named.items() if path in paths}
    for path, field in fields.items():
        flag = named.get(".".join(path), path[-1])
        assert flag in flags, f"no flag sets {'.'.join(path)}"
        # One name for two fields: the one that the flag does not set needs another.
        assert ".".join(path) in named or flag not in named.values(), path
        value, text = value_of(field)
        arguments = ["--json", f"--address={server.address}", f"--{flag}={text}"]
        expected = proto.completion.GenerateRequest()
        if path[0] not in ("text", "token_ids", "chat"):
            arguments.append("--text=x")
            expected.text = b"x"
        put(expected, path, value)
        heard.clear()
        done = run_based("generate", *arguments)
        assert done.returncode == 0, (flag, done.stderr)
        assert list(map(set_fields, heard)) == [set_fields(expected)], flag


@pytest.mark.parametrize("flags, path, value", [
    (["--prompt=a"], ("text",), b"a"),
    (["--text=x", "--stop=a", "--strings=b"], ("stop", "strings"), [b"b", b"a"]),
])
def test_short_names(proto, moody, flags, path, value):  # noqa: F811
    heard = []
    server = moody(lambda context, request, number: heard.append(request))
    done = run_based("generate", f"--address={server.address}", *flags)
    assert done.returncode == 0, done.stderr
    assert len(heard) == 1 and set_fields(heard[0])[path] == value

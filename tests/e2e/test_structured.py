"""Structured output over the wire: every whole text is checked by Python's re, json and jsonschema."""

import json
import random
import re

import grpc
import jsonschema
import openai
import pytest
from conftest import DEMO, run_based

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "colour": {"enum": ["red", "green", "dark blue"]},
        "ships": {"type": "array", "items": {"$ref": "#/$defs/ship"}, "maxItems": 3},
    },
    "required": ["name", "age", "colour", "ships"],
    "additionalProperties": False,
    "$defs": {
        "ship": {
            "type": "object",
            "properties": {"built": {"type": "integer", "minimum": 1700, "maximum": 1899},
                           "sunk": {"type": "boolean"}},
            "required": ["built", "sunk"],
            "additionalProperties": False,
        }
    },
}
EXPRESSIONS = [r"[A-Z][a-z]{2,9}, (yes|no) \d{1,3}", r"(\d{4})-(0[1-9]|1[0-2])-[0-3]\d",
               r"[^\n]{5,20}!", r"(ab|cd?e)*f{2,3}", r"\w+(, \w+){2}"]


def ask(daemon, proto, seed, max_tokens=300, **constraint):
    """(text of each completion, Done of each) under a constraint."""
    message = proto.completion.GenerateRequest(text=b"It was a dark night and", n=2)
    message.stop.max_tokens = max_tokens
    message.sampling.seed = seed
    message.sampling.temperature = 0.9
    for name, value in constraint.items():
        if name == "choice":
            message.constraint.choice.values.extend(value)
        else:
            setattr(message.constraint, name, value)
    texts, done = ["", ""], [None, None]
    with daemon.channel() as channel:
        stub = proto.completion_grpc.CompletionServiceStub(channel)
        for event in stub.Generate(message, timeout=60):
            if event.HasField("delta"):
                texts[event.delta.index] += event.delta.text
            if event.HasField("done"):
                done[event.done.index] = event.done
    return texts, done


def is_whole(proto, done):
    return done.finish_reason in (proto.completion.FINISH_REASON_CONSTRAINT,
                                  proto.completion.FINISH_REASON_END_OF_TEXT)


def test_texts_match_their_expression(demo, proto):
    whole = 0
    for seed, expression in enumerate(EXPRESSIONS * 3):
        for text, done in zip(*ask(demo, proto, seed, 40 if seed % 2 else 300, regex=expression)):
            if is_whole(proto, done):
                whole += 1
                assert re.fullmatch(expression, text, re.ASCII), (expression, text)
            else:
                assert done.finish_reason == proto.completion.FINISH_REASON_MAX_TOKENS
    assert whole >= 15


def test_texts_follow_their_schema(demo, proto):
    whole = 0
    for seed in range(12):
        schema = dict(PERSON, required=random.Random(seed).sample(PERSON["required"], 2))
        for text, done in zip(*ask(demo, proto, seed, json_schema=json.dumps(schema))):
            if not is_whole(proto, done):
                continue
            whole += 1
            value = json.loads(text)
            jsonschema.Draft202012Validator(schema).validate(value)
            # In the order of the schema.
            order = list(PERSON["properties"])
            assert sorted(value, key=order.index) == list(value)
    assert whole >= 12


def test_any_json_and_choices(demo, proto):
    whole = 0
    for seed in range(8):
        for text, done in zip(*ask(demo, proto, seed, 60, json=True)):
            if is_whole(proto, done):
                json.loads(text)
                whole += 1
    assert whole >= 4
    for seed in range(4):
        texts, _ = ask(demo, proto, seed, choice=["aye", "nay", "perhaps not"])
        assert set(texts) <= {"aye", "nay", "perhaps not"}


@pytest.mark.parametrize("constraint, message", [
    ({"regex": "a(?=b)"}, "constraint.regex: "),
    ({"regex": "(" * 20}, "constraint.regex: "),
    ({"regex": "(a{1000}){1000}"}, "constraint.regex: "),
    ({"json_schema": '{"type":'}, "constraint.json_schema: "),
    ({"json_schema": '{"type": "strin"}'}, "constraint.json_schema: "),
    ({"json_schema": '{"type": "integer", "minimum": 3, "maximum": 2}'}, "constraint.json_schema: "),
    ({"json_schema": '{"not": {}}'}, "constraint.json_schema: "),
    ({"json_schema": '{"$ref": "#"}'}, "constraint.json_schema: "),
    ({"json_schema": " " * (1 << 20) + "{}"}, "constraint.json_schema: "),
    ({"grammar": "root ::= word"}, "constraint.grammar: "),
    ({"choice": [""]}, "constraint.choice: "),
])
def test_bad_constraints_are_refused(demo, proto, constraint, message):
    with pytest.raises(grpc.RpcError) as error:
        ask(demo, proto, 1, **constraint)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith(message)


def test_openai_formats(demo):
    with openai.OpenAI(base_url=f"http://{demo.http_address}/v1", api_key="none", max_retries=0,
                       timeout=60) as client:
        def create(seed, **options):
            return client.completions.create(model="demo", prompt="A ship:", seed=seed,
                                             max_tokens=300, extra_body=options).choices[0]

        schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
        whole = [c for c in (create(seed, response_format=schema) for seed in range(6))
                 if c.finish_reason == "stop"]
        assert len(whole) >= 3
        for choice in whole:
            jsonschema.validate(json.loads(choice.text), PERSON)
        chat = client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Who?"}], seed=2, max_tokens=300,
            response_format=schema)
        if chat.choices[0].finish_reason == "stop":
            jsonschema.validate(json.loads(chat.choices[0].message.content), PERSON)
        assert create(1, guided_regex="[ab]{4}").text.strip("ab") == ""
        assert create(1, structured_outputs={"choice": ["x", "y"]}).text in ("x", "y")
        with pytest.raises(openai.BadRequestError) as error:
            create(1, response_format={"type": "json_schema", "json_schema": {"schema": {"not": {}}}})
        assert "response_format.json_schema.schema" in str(error.value)
        with pytest.raises(openai.BadRequestError, match="guided_regex"):
            create(1, guided_regex="(")


def test_command_line_here_and_at_a_daemon(demo):
    flags = ["--prompt=A ship:", "--seed=5", "--max_tokens=300",
             f"--json_schema={json.dumps(PERSON)}"]
    local = run_based("generate", "--local", f"--model={DEMO}", *flags)
    remote = run_based("generate", f"--address={demo.address}", *flags)
    assert local.returncode == remote.returncode == 0, remote.stderr
    assert local.stdout == remote.stdout
    jsonschema.validate(json.loads(local.stdout), PERSON)
    refused = run_based("generate", "--local", f"--model={DEMO}", "--prompt=a", "--regex=(")
    assert refused.returncode == 1
    assert "INVALID_ARGUMENT: constraint.regex" in refused.stderr

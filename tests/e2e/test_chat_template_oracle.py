"""Chat templates against Jinja itself: the same templates and values, rendered here by the package
jinja2 as transformers sets it up and there by the daemon's own interpreter, byte for byte.

Templates are the well-known shapes, short, and programs drawn at random.
"""

import json
import os
import pathlib
import random
import subprocess

import jinja2
import jinja2.ext
import jinja2.sandbox
import pytest

from template_programs import Program

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What template.h says is refused though Jinja renders it.
REFUSED = ("is not supported", "in ASCII alone", "is not called", "is too large", "may become too long",
           "or has not its number of arguments", "map takes no such filter")


class Raised(jinja2.exceptions.TemplateError):
    pass


def jinja_environment():
    def raise_exception(message):
        raise Raised(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment


class Ours:
    def __init__(self):
        binaries = pathlib.Path(os.environ.get("BASED_BIN_DIR", ROOT / "build" / "bin"))
        program = binaries.resolve().parent / "tests" / "render_templates"
        assert program.exists(), f"{program} is not built: run tests/run.sh"
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, template, variables):
        ask = json.dumps({"template": template, "globals": variables})
        self._process.stdin.write(ask.encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def ours():
    made = Ours()
    yield made
    made.close()


ENVIRONMENT = jinja_environment()


def by_jinja(template, variables):
    try:
        return {"text": ENVIRONMENT.from_string(template).render(**variables)}
    except Raised as raised:
        return {"error": str(raised), "raised": True}
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ArithmeticError, AttributeError,
            KeyError, RecursionError, OverflowError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


# --- the well-known shapes

SHAPES = {
    "chatml": """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{% for message in messages %}
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "chatml with a default system message": """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "thinking that is cut from the past": """\
{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- set reasoning = '' %}
    {%- if message.reasoning_content is string %}
        {%- set reasoning = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > ns.last and (loop.last or reasoning) %}
        {{- '<' + message.role + '>' + '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
    {%- else %}
        {{- '<' + message.role + '>' + content }}
    {%- endif %}
{%- endfor %}""",
    "llama 2": """\
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "llama 3": """\
{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}""",
    "llama 3 with tools": """\
{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}

{#- The system message comes first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- Users and the model take turns. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- elif message == user_messages[-1] %}
            {{- "[INST]  " + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
""",
    "gemma": """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}""",
    "gemma 3": """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
""",
    "zephyr": """\
{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}""",
    "phi 3": """\
{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}""",
    "deepseek": """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}""",
    "one with macros": """\
{%- macro turn(role, text='', end=eos_token) -%}
    <{{ role | capitalize }}>{{ text | trim }}{{ end }}
{%- endmacro -%}
{% for m in messages if m.role in ['user', 'assistant'] %}
{{ turn(m.role, m.content) }}
{% else %}
{{ turn('nobody', end='.') }}
{% endfor %}
{{ messages | map(attribute='role') | join(', ') }}
{{ messages | rejectattr('role', 'equalto', 'user') | list | length }}""",
    "alpaca": """\
{% for m in messages %}{% if m.role == 'system' %}{{ m.content ~ '\\n\\n' }}{% else %}### {{ 'Instruction' if m.role == 'user' else 'Response' }}:\\n{{ m.content | replace('\\n\\n', '\\n') }}\\n\\n{% endif %}{% endfor %}{{ '### Response:\\n' if add_generation_prompt }}""",
}

PIECES = ["", " ", "\n", "\n\n", "  spaces\t", "Hello", "héllo wörld", "日本語", "🙂", "\u00a0", "\u2028",
          "<|im_end|>", "</s>", "[INST]", "</think>", "<think>", "{{ 7 }}", "{% if x %}", "\\n", "'", '"',
          "\x1f", "\x85", "a" * 50, "- item\n- item", "\u3000x", "1", "True"]


def conversation(rng):
    def text():
        return "".join(rng.choice(PIECES) for _ in range(rng.randrange(6)))

    messages = []
    if rng.random() < 0.4:
        messages.append({"role": "system", "content": text()})
    for i in range(rng.randrange(6)):
        message = {"role": ("user", "assistant")[i % 2], "content": text()}
        if rng.random() < 0.08:
            message["role"] = rng.choice(["user", "system", "tool", "assistant", "ipython", "Odd one"])
        if rng.random() < 0.05:
            message["content"] = rng.choice([None, [{"type": "text", "text": text()}, {"type": "image"}]])
        if rng.random() < 0.05:
            del message["content"]
        if rng.random() < 0.1:
            message["tool_calls"] = rng.choice([None, [{"function": {
                "name": "f", "arguments": {"x": [1, 2.5, -0.0, text()], "y": {"z": None}}}}]])
        if rng.random() < 0.1:
            message["reasoning_content"] = text()
        messages.append(message)
    variables = {"messages": messages or [{"role": "user", "content": text()}], "bos_token": "<s>"}
    if rng.random() < 0.9:
        variables["eos_token"] = "</s>"
    if rng.random() < 0.8:
        variables["add_generation_prompt"] = rng.random() < 0.5
    if rng.random() < 0.5:
        variables["tools"] = None
    if rng.random() < 0.2:
        variables["enable_thinking"] = rng.random() < 0.5
    # Keys in alphabetical order, as the daemon sees them.
    return json.loads(json.dumps(variables, sort_keys=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(ours, shape):
    rng = random.Random(shape)
    rendered = 0
    for _ in range(60):
        variables = conversation(rng)
        expected, got = by_jinja(SHAPES[shape], variables), ours.render(SHAPES[shape], variables)
        if "as text is not supported" in got.get("error", ""):
            continue
        if "text" in expected:
            assert got == expected, variables
            rendered += 1
        elif expected.get("raised"):
            assert got == {"error": expected["error"]}, variables
        else:
            assert "error" in got, (variables, expected)
    assert rendered >= 15


NUMBERS = ["0x1", "0b1", "0o7", "1_000", "1__0", "_1", "1_", " 7\\n", "+7", "+ 7", "-5.9", "1_0.5", "1.", ".5e1",
           "1e400", "inf", "-Infinity", "nan", "nan(1)", "0x1p3", "", "007", "1e3", "1e_3", "9" * 18]
TEXTS = ["", " ", "a", " a ", "a b", " a  b\\t", "a b c \\n", "\u3000a\u3000b\u3000", "a\u00a0\u00a0b "]
CHAINS = [" + ", " - ", " * ", " ~ ", " or ", " and "]


def same(ours, expression, **variables):
    template = "{{ " + expression + " }}"
    assert ours.render(template, variables) == by_jinja(template, variables), template


def test_integers_of_texts(ours):
    for text in NUMBERS:
        same(ours, f"'{text}'|int")
        same(ours, f"'{text}'|int(5)")


def test_splits_at_whitespace(ours):
    for text in TEXTS:
        for cuts in ("", "none", "none, 0", "none, 1", "none, 2", "none, -1"):
            same(ours, f"'{text}'.split({cuts})|tojson")


def test_long_chains(ours):
    rng = random.Random(1)
    for operator in CHAINS:
        # Jinja's own time grows with the cube of the length.
        for length in [101] + [20] * 10:
            same(ours, operator.join(rng.choice(["0", "1", "n", "2"]) for _ in range(length)), n=3)
    for _ in range(20):
        links = [rng.choice(["0", "1", "n", "''"]) + rng.choice([" or ", " and "]) for _ in range(20)]
        same(ours, "".join(links) + "1", n=3)
        sums = [rng.choice(["1", "2", "n"]) + rng.choice([" + ", " - ", " * ", " // "])
                for _ in range(20)]
        same(ours, "".join(sums) + "1", n=3)


# --- programs at random

@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of the code that Jinja makes
def test_random_programs(ours):
    rng = random.Random(20)
    same = raised = refused = 0
    for _ in range(1500):
        template = Program(rng).template()
        variables = {"s": rng.choice(["abc", "", " é x ", "A,b"]), "n": rng.randrange(-2, 5), "f": 0.5,
                     "l": ["p", 2, None], "d": {"a": "1", "b": {"c": [True]}}, "nil": None, "t": rng.random() < 0.5,
                     "messages": conversation(rng)["messages"]}
        expected, got = by_jinja(template, variables), ours.render(template, variables)
        if "error" in got and any(words in got["error"] for words in REFUSED):
            refused += 1
        elif "error" in expected:
            assert "error" in got, (template, variables, expected, got)
            raised += 1
        else:
            assert got == expected, (template, variables)
            same += 1
    assert same > 500, (same, raised, refused)

"""Keyword arguments as requests."""

from __future__ import annotations

import json as json_text
from typing import Any, Iterable, Mapping, Optional, Sequence, Union

from based.v1 import completion_pb2 as pb

# Text, token ids, a chat's messages ({"role": ..., "content": ...}), or a whole request.
Prompt = Union[str, bytes, Sequence[int], Sequence[Mapping[str, Any]], pb.GenerateRequest]


def as_bytes(text: Union[str, bytes]) -> bytes:
    return text.encode() if isinstance(text, str) else text


def set_prompt(prompt: Union[str, bytes, Sequence[int], Sequence[Mapping[str, Any]]],
               request: pb.GenerateRequest) -> None:
    if isinstance(prompt, (str, bytes)):
        request.text = as_bytes(prompt)
    elif len(prompt) > 0 and isinstance(prompt[0], Mapping):
        request.chat.messages = json_text.dumps(list(prompt))
    else:
        request.token_ids.ids.extend(prompt)
        request.token_ids.SetInParent()  # an empty prompt is a prompt


def _set(message: Any, **fields: Any) -> None:
    for name, value in fields.items():
        if value is None:
            continue
        if isinstance(value, (list, tuple)):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)


def _set_constraint(request: pb.GenerateRequest, **kinds: Any) -> None:
    given = {name: value for name, value in kinds.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; expected one constraint on the text")
    for name, value in given.items():
        request.constraint.Clear()
        if name == "choice":
            if isinstance(value, (str, bytes)):
                raise ValueError(f"choice is {value!r}; expected a list of texts")
            request.constraint.choice.SetInParent()  # an empty list is refused by the daemon
            request.constraint.choice.values.extend(value)
        elif name == "json_schema" and not isinstance(value, str):
            request.constraint.json_schema = json_text.dumps(value)
        else:
            setattr(request.constraint, name, value)


def make_request(
    prompt: Prompt,
    *,
    model: Optional[str] = None,
    max_tokens: Optional[int] = None,
    min_tokens: Optional[int] = None,
    stop: Union[str, bytes, Iterable[Union[str, bytes]]] = (),
    stop_token_ids: Sequence[int] = (),
    ignore_eos: Optional[bool] = None,
    include_stop: Optional[bool] = None,
    temperature: Optional[float] = None,
    top_k: Optional[int] = None,
    top_p: Optional[float] = None,
    min_p: Optional[float] = None,
    typical_p: Optional[float] = None,
    repetition_penalty: Optional[float] = None,
    presence_penalty: Optional[float] = None,
    frequency_penalty: Optional[float] = None,
    logit_bias: Optional[Mapping[int, float]] = None,
    bad_words: Sequence[Union[str, bytes]] = (),
    allowed_token_ids: Sequence[int] = (),
    seed: Optional[int] = None,
    n: Optional[int] = None,
    best_of: Optional[int] = None,
    json_schema: Union[str, bool, Mapping[str, Any], None] = None,
    json: Optional[bool] = None,
    regex: Optional[str] = None,
    choice: Optional[Sequence[str]] = None,
    grammar: Optional[str] = None,
    text: Optional[bool] = None,
    token_ids: Optional[bool] = None,
    logprobs: Optional[bool] = None,
    top_logprobs: Optional[int] = None,
    prompt_logprobs: Optional[bool] = None,
    echo: Optional[bool] = None,
    priority: Optional[str] = None,
    tenant: Optional[str] = None,
    tokens_per_message: Optional[int] = None,
    delta_interval_ms: Optional[int] = None,
    session: Optional[str] = None,
    create_session: Optional[bool] = None,
    session_tokens: Optional[int] = None,
) -> pb.GenerateRequest:
    """The request for a prompt. Names, units, ranges and defaults are those of completion.proto;
    None leaves a field unset. `text` and `token_ids` say what comes back (output.text,
    output.token_ids). `priority` is "interactive" or "batch".

    Of the constraints on the text (json_schema, json, regex, choice, grammar) at most one may be
    given: ValueError otherwise. `json_schema` is a schema as JSON text, or as Python's dict or bool.
    `choice` are the texts of which the completion is one.

    A GenerateRequest as `prompt` is copied, then changed."""
    request = pb.GenerateRequest()
    if isinstance(prompt, pb.GenerateRequest):
        request.CopyFrom(prompt)
    else:
        set_prompt(prompt, request)
    level = None if priority is None else pb.Priority.Value(f"PRIORITY_{priority.upper()}")
    _set(request, model=model, n=n, best_of=best_of, priority=level, tenant=tenant)
    strings = [stop] if isinstance(stop, (str, bytes)) else list(stop)
    _set(request.stop, max_tokens=max_tokens, min_tokens=min_tokens, ignore_eos=ignore_eos,
         include_stop=include_stop, strings=[as_bytes(text) for text in strings],
         token_ids=list(stop_token_ids))
    _set(request.sampling, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
         typical_p=typical_p, repetition_penalty=repetition_penalty,
         presence_penalty=presence_penalty, frequency_penalty=frequency_penalty, seed=seed,
         bad_words=[as_bytes(word) for word in bad_words],
         allowed_token_ids=list(allowed_token_ids))
    request.sampling.logit_bias.update(logit_bias or {})
    _set_constraint(request, json_schema=json_schema, json=json, regex=regex,
                    choice=choice, grammar=grammar)
    _set(request.output, text=text, token_ids=token_ids, logprobs=logprobs, top_logprobs=top_logprobs,
         prompt_logprobs=prompt_logprobs, echo=echo, tokens_per_message=tokens_per_message,
         delta_interval_ms=delta_interval_ms)
    if session is not None:
        _set(request.state, session=session, create_session=create_session,
             session_tokens=session_tokens)
    return request

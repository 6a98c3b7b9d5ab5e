"""What comes back, as plain data."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional

from based.v1 import completion_pb2 as pb


@dataclasses.dataclass(frozen=True)
class TokenLogprob:
    token_id: int
    logprob: float
    alternatives: Dict[int, float]  # the most likely tokens here, with their log-probabilities


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A part of a completion."""

    index: int  # which of the n completions
    text: str
    token_ids: List[int]
    logprobs: List[TokenLogprob]
    prompt_logprobs: List[TokenLogprob]


@dataclasses.dataclass
class Choice:
    """One completion."""

    index: int
    text: str = ""
    token_ids: List[int] = dataclasses.field(default_factory=list)
    logprobs: List[TokenLogprob] = dataclasses.field(default_factory=list)
    # "end_of_text", "stop_string", "stop_token", "max_tokens" or "constraint".
    finish_reason: str = ""
    stop_string: Optional[str] = None
    stop_token_id: Optional[int] = None
    generated_tokens: int = 0
    cumulative_logprob: float = 0.0
    seed: int = 0  # that it was drawn with: a request of its own with this seed gives it again


@dataclasses.dataclass
class Result:
    """All completions of a prompt."""

    request_id: str = ""
    seed: int = 0  # the one in use: the request's, or the daemon's choice
    prompt_tokens: int = 0  # with a session, of the whole conversation
    reused_tokens: int = 0  # of those, found computed in the session
    session_tokens: int = 0  # that the session holds after the call
    choices: List[Choice] = dataclasses.field(default_factory=list)
    prompt_logprobs: List[TokenLogprob] = dataclasses.field(default_factory=list)
    queue_s: float = 0.0  # the daemon's times, of the completion that ended last
    prefill_s: float = 0.0
    decode_s: float = 0.0

    @property
    def text(self) -> str:
        """Of the first completion."""
        return self.choices[0].text if self.choices else ""

    @property
    def token_ids(self) -> List[int]:
        """Of the first completion."""
        return self.choices[0].token_ids if self.choices else []

    @property
    def generated_tokens(self) -> int:
        return sum(choice.generated_tokens for choice in self.choices)


@dataclasses.dataclass(frozen=True)
class Score:
    """How likely a continuation is."""

    logprob: float
    is_greedy: bool  # every token of it is the most likely one where it stands
    tokens: int
    token_logprobs: List[TokenLogprob]


def logprobs_of(tokens) -> List[TokenLogprob]:
    return [TokenLogprob(t.token_id, t.logprob, {a.token_id: a.logprob for a in t.alternatives})
            for t in tokens]


def score_of(score: pb.Score) -> Score:
    return Score(score.logprob, score.is_greedy, score.tokens, logprobs_of(score.token_logprobs))


class Collector:
    """Puts the messages of one stream together."""

    def __init__(self) -> None:
        self.result = Result()

    def add(self, message: pb.GenerateResponse) -> Optional[Chunk]:
        """The message's part of the output, if it is one."""
        if message.HasField("delta"):
            return self._add_delta(message.delta)
        if message.HasField("started"):
            self.result.request_id = message.started.request_id
            self.result.seed = message.started.seed
            self.result.prompt_tokens = message.started.prompt_tokens
            self.result.reused_tokens = message.started.reused_tokens
        elif message.HasField("done"):
            self._add_done(message.done)
        return None

    def _choice(self, index: int) -> Choice:
        while len(self.result.choices) <= index:
            self.result.choices.append(Choice(len(self.result.choices)))
        return self.result.choices[index]

    def _add_delta(self, delta: pb.Delta) -> Chunk:
        chunk = Chunk(delta.index, delta.text, list(delta.token_ids), logprobs_of(delta.logprobs),
                      logprobs_of(delta.prompt_logprobs))
        choice = self._choice(delta.index)
        choice.text += chunk.text
        choice.token_ids += chunk.token_ids
        choice.logprobs += chunk.logprobs
        self.result.prompt_logprobs += chunk.prompt_logprobs
        return chunk

    def _add_done(self, done: pb.Done) -> None:
        choice = self._choice(done.index)
        reason = pb.FinishReason.Name(done.finish_reason)
        choice.finish_reason = reason.replace("FINISH_REASON_", "").lower()
        if done.HasField("stop_string"):
            choice.stop_string = done.stop_string.decode()
        if done.HasField("stop_token_id"):
            choice.stop_token_id = done.stop_token_id
        choice.generated_tokens = done.usage.generated_tokens
        choice.cumulative_logprob = done.cumulative_logprob
        choice.seed = done.seed
        self.result.session_tokens = done.session_tokens
        self.result.queue_s = done.timings.queue_us * 1e-6
        self.result.prefill_s = done.timings.prefill_us * 1e-6
        self.result.decode_s = done.timings.decode_us * 1e-6

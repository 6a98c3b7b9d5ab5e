"""Conversations that the daemon keeps."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Dict, Optional

from based.v1 import session_pb2

from ._request import Prompt
from ._result import Result


@dataclasses.dataclass(frozen=True)
class SessionInfo:
    id: str
    tokens: int  # of the whole conversation
    bytes: int  # of the daemon's memory, the same for every session
    busy: bool  # a call is using it
    age_s: float
    idle_s: float


def info_of(session: session_pb2.Session) -> SessionInfo:
    return SessionInfo(session.id, session.tokens, session.bytes, session.busy,
                       session.age_ms / 1000, session.idle_ms / 1000)


def new_id(given: Optional[str]) -> str:
    return uuid.uuid4().hex if given is None else given


class _Turns:
    """What both kinds of session know of the conversation."""

    def __init__(self, client: Any, id: str, tokens: int, tenant: str):
        self._client = client
        self._tenant = tenant
        self.id = id
        # Of the conversation, as its last call said; 0: the next call makes the session.
        self.tokens = tokens

    def _fields(self) -> Dict[str, Any]:
        # With the number of tokens a call that is tried again cannot be said twice.
        return {"session": self.id, "create_session": self.tokens == 0 or None,
                "session_tokens": self.tokens, "tenant": self._tenant or None}

    def _ended(self, result: Result) -> None:
        self.tokens = result.session_tokens


class Session(_Turns):
    """A conversation whose state the daemon keeps: each call says what comes next, and nothing is
    computed again. Made by Client.new_session and Client.session; one call at a time.

    A call that fails leaves the conversation as it was. NOT_FOUND means that the daemon has dropped
    it (for others, idle for too long, or started anew): begin another with the whole text.
    """

    def stream(self, prompt: Prompt, **fields: Any) -> Any:
        """As Client.stream. A stream that is left early leaves the conversation as it was; where it
        had come to its end already, the next call fails with FAILED_PRECONDITION: `refresh` then
        says how long the conversation is."""
        return self._client.stream(prompt, on_end=self._ended, **self._fields(), **fields)

    def generate(self, prompt: Prompt, **fields: Any) -> Result:
        """As Client.generate."""
        stream = self.stream(prompt, **fields)
        for _ in stream:
            pass
        return stream.result

    def refresh(self) -> SessionInfo:
        """Asks the daemon, and takes its `tokens` as the conversation's."""
        info = self._client.session_info(self.id, tenant=self._tenant)
        self.tokens = info.tokens
        return info

    def fork(self, id: Optional[str] = None) -> "Session":
        """A copy, which goes its own way from here."""
        request = session_pb2.ForkSessionRequest(id=self.id, new_id=new_id(id),
                                                 tenant=self._tenant)
        copy = self._client._call(self._client._sessions.ForkSession, request, None)
        return Session(self._client, copy.id, copy.tokens, self._tenant)

    def delete(self) -> None:
        request = session_pb2.DeleteSessionRequest(id=self.id, tenant=self._tenant)
        self._client._call(self._client._sessions.DeleteSession, request, None)
        self.tokens = 0


class AsyncSession(_Turns):
    """Session for asyncio, made by AsyncClient.new_session and AsyncClient.session."""

    def stream(self, prompt: Prompt, **fields: Any) -> Any:
        return self._client.stream(prompt, on_end=self._ended, **self._fields(), **fields)

    async def generate(self, prompt: Prompt, **fields: Any) -> Result:
        stream = self.stream(prompt, **fields)
        async for _ in stream:
            pass
        return stream.result

    async def refresh(self) -> SessionInfo:
        info = await self._client.session_info(self.id, tenant=self._tenant)
        self.tokens = info.tokens
        return info

    async def fork(self, id: Optional[str] = None) -> "AsyncSession":
        request = session_pb2.ForkSessionRequest(id=self.id, new_id=new_id(id),
                                                 tenant=self._tenant)
        copy = await self._client._call(self._client._sessions.ForkSession, request, None)
        return AsyncSession(self._client, copy.id, copy.tokens, self._tenant)

    async def delete(self) -> None:
        request = session_pb2.DeleteSessionRequest(id=self.id, tenant=self._tenant)
        await self._client._call(self._client._sessions.DeleteSession, request, None)
        self.tokens = 0

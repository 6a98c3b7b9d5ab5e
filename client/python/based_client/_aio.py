"""The client for asyncio."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator, Callable, Iterable, List, Optional, Sequence, Tuple, Union

import grpc
import grpc.aio
from based.v1 import completion_pb2_grpc, model_pb2, model_pb2_grpc
from based.v1 import session_pb2, session_pb2_grpc, tokenizer_pb2, tokenizer_pb2_grpc

from ._channel import DEFAULT_OPTIONS, Options, Tls, metadata_of
from ._errors import error_of
from ._request import Prompt, as_bytes, make_request
from ._result import Chunk, Collector, Result, Score, score_of
from ._retry import RetryPolicy, Tries
from ._session import AsyncSession, SessionInfo, info_of, new_id
from ._sync import score_request


class AsyncStream:
    """Iterates over the chunks of a completion as they come; `result` gathers them.

    Leaving it early (`cancel()`, or the end of an `async with` block) ends the request in the
    daemon.
    """

    def __init__(self, start: Callable[[], Any], policy: RetryPolicy,
                 on_end: Optional[Callable[[Result], None]] = None):
        self._start = start
        self._on_end = on_end
        self._tries = Tries(policy)
        self._collector = Collector()
        self._call = start()

    @property
    def result(self) -> Result:
        """What has come so far; all of it once the iteration has ended."""
        return self._collector.result

    def cancel(self) -> None:
        self._call.cancel()

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        begun = False
        while True:
            try:
                async for message in self._call:
                    begun = True
                    chunk = self._collector.add(message)
                    if chunk is not None:
                        yield chunk
                if self._on_end is not None:
                    self._on_end(self.result)
                return
            except grpc.RpcError as failure:
                error = error_of(failure)
                wait = None if begun else self._tries.wait_before_next(error)
                if wait is None:
                    raise error from failure
            await asyncio.sleep(wait)
            self._call = self._start()


class AsyncClient:
    """A connection to one daemon, for one event loop. Arguments and methods are those of Client;
    close it, or use it in an `async with` block."""

    def __init__(self, address: str = "127.0.0.1:7433", *, api_key: Optional[str] = None,
                 tls: Union[bool, Tls] = False, retry: RetryPolicy = RetryPolicy(),
                 timeout: Optional[float] = None, options: Options = ()):
        options = [*DEFAULT_OPTIONS, *options]
        if tls:
            tls = tls if isinstance(tls, Tls) else Tls()
            self._channel = grpc.aio.secure_channel(address, tls.credentials(),
                                                    [*options, *tls.options()])
        else:
            self._channel = grpc.aio.insecure_channel(address, options)
        self._metadata = metadata_of(api_key)
        self._retry = retry
        self._timeout = timeout
        self._completions = completion_pb2_grpc.CompletionServiceStub(self._channel)
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)
        self._tokenizers = tokenizer_pb2_grpc.TokenizerServiceStub(self._channel)
        self._sessions = session_pb2_grpc.SessionServiceStub(self._channel)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all calls of this client."""
        await self._channel.close()

    def stream(self, prompt: Prompt, *, timeout: Optional[float] = None,
               request_id: Optional[str] = None,
               on_end: Optional[Callable[[Result], None]] = None, **fields: Any) -> AsyncStream:
        """Streams a completion: `async for chunk in client.stream(...)`."""
        request = make_request(prompt, **fields)
        metadata = self._metadata + ((("x-request-id", request_id),) if request_id else ())
        limit = self._timeout if timeout is None else timeout
        return AsyncStream(
            lambda: self._completions.Generate(request, timeout=limit, metadata=metadata),
            self._retry, on_end)

    async def generate(self, prompt: Prompt, *, timeout: Optional[float] = None,
                       request_id: Optional[str] = None, **fields: Any) -> Result:
        """The whole completion at once."""
        stream = self.stream(prompt, timeout=timeout, request_id=request_id, **fields)
        async for _ in stream:
            pass
        return stream.result

    async def score(self, pairs: Iterable[Tuple[Union[str, bytes, Sequence[int]],
                                                Union[str, bytes, Sequence[int]]]],
                    *, token_logprobs: bool = False, model: str = "",
                    timeout: Optional[float] = None) -> List[Score]:
        """How likely each pair's second part is after its first. Both are text, or both ids."""
        request = score_request(pairs, token_logprobs, model)
        reply = await self._call(self._completions.Score, request, timeout)
        return [score_of(score) for score in reply.scores]

    async def tokenize(self, text: Union[str, bytes], *, model: str = "",
                       timeout: Optional[float] = None) -> List[int]:
        request = tokenizer_pb2.TokenizeRequest(model=model, text=as_bytes(text))
        return list((await self._call(self._tokenizers.Tokenize, request, timeout)).ids)

    async def detokenize(self, ids: Sequence[int], *, model: str = "",
                         timeout: Optional[float] = None) -> str:
        request = tokenizer_pb2.DetokenizeRequest(model=model, ids=ids)
        return (await self._call(self._tokenizers.Detokenize, request, timeout)).text

    async def model(self, model: str = "", *,
                    timeout: Optional[float] = None) -> model_pb2.GetModelResponse:
        """What the daemon serves; fields as in model.proto."""
        request = model_pb2.GetModelRequest(model=model)
        return await self._call(self._models.GetModel, request, timeout)

    async def capacity(self, model: str = "", *,
                       timeout: Optional[float] = None) -> model_pb2.GetCapacityResponse:
        """Slots and queue at this moment; fields as in model.proto."""
        request = model_pb2.GetCapacityRequest(model=model)
        return await self._call(self._models.GetCapacity, request, timeout)

    def new_session(self, id: Optional[str] = None, *, tenant: str = "") -> AsyncSession:
        """A conversation that its first call makes; by default with an id of its own."""
        return AsyncSession(self, new_id(id), 0, tenant)

    async def session(self, id: str, *, tenant: str = "") -> AsyncSession:
        """The conversation that the daemon keeps under `id`; NOT_FOUND if it keeps none."""
        info = await self.session_info(id, tenant=tenant)
        return AsyncSession(self, id, info.tokens, tenant)

    async def session_info(self, id: str, *, tenant: str = "",
                     timeout: Optional[float] = None) -> SessionInfo:
        request = session_pb2.GetSessionRequest(id=id, tenant=tenant)
        return info_of(await self._call(self._sessions.GetSession, request, timeout))

    async def sessions(self, *, tenant: str = "",
                 timeout: Optional[float] = None) -> List[SessionInfo]:
        """All of the tenant's, by id."""
        infos: List[SessionInfo] = []
        request = session_pb2.ListSessionsRequest(tenant=tenant)
        while True:
            reply = await self._call(self._sessions.ListSessions, request, timeout)
            infos += map(info_of, reply.sessions)
            if not reply.next_page_token:
                return infos
            request.page_token = reply.next_page_token

    async def _call(self, method: Callable[..., Any], request: Any,
                    timeout: Optional[float]) -> Any:
        tries = Tries(self._retry)
        limit = self._timeout if timeout is None else timeout
        while True:
            try:
                return await method(request, timeout=limit, metadata=self._metadata)
            except grpc.RpcError as failure:
                error = error_of(failure)
                wait = tries.wait_before_next(error)
                if wait is None:
                    raise error from failure
            await asyncio.sleep(wait)

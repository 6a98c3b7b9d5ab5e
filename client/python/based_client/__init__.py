"""Client of the based-serve daemon.

    from based_client import Client

    with Client("127.0.0.1:7433") as client:
        print(client.generate("The sea was calm when", max_tokens=40).text)
        for chunk in client.stream("Once upon a time", max_tokens=40):
            print(chunk.text, end="", flush=True)

`AsyncClient` has the same methods as coroutines. Fields that the keyword arguments lack are set on
a `based.v1.completion_pb2.GenerateRequest`, which both take in place of a prompt.
"""

from ._aio import AsyncClient, AsyncStream
from ._channel import Tls
from ._errors import BasedError
from ._request import Prompt, make_request
from ._result import Choice, Chunk, Result, Score, TokenLogprob
from ._retry import RetryPolicy
from ._session import AsyncSession, Session, SessionInfo
from ._sync import Client, Stream

__all__ = [
    "AsyncClient", "AsyncSession", "AsyncStream", "BasedError", "Choice", "Chunk", "Client",
    "Prompt", "Result", "RetryPolicy", "Score", "Session", "SessionInfo", "Stream", "Tls",
    "TokenLogprob", "make_request",
]

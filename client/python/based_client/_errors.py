"""Errors of calls."""

from __future__ import annotations

from typing import Any, Optional

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
_PUSHBACK = "grpc-retry-pushback-ms"


class BasedError(Exception):
    """A call failed.

    code         gRPC's status code
    message      the daemon's message, which names field, value and what was expected
    field        the request's field that is wrong, as "sampling.top_p"; None where none is named
    retry_after  seconds after which the daemon asks to try again; None where it does not ask
    """

    def __init__(self, code: grpc.StatusCode, message: str, field: Optional[str] = None,
                 retry_after: Optional[float] = None):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after


def error_of(failure: Any) -> BasedError:
    """The error of a grpc.RpcError, sync or async."""
    trailers = {key: value for key, value in (failure.trailing_metadata() or ())}
    field = None
    retry_after = None
    status = status_pb2.Status()
    try:
        status.ParseFromString(trailers.get(_DETAILS, b""))
    except DecodeError:
        pass  # of something between us and the daemon
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            field = info.metadata.get("field") or None
        elif detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + 1e-9 * retry.retry_delay.nanos
    try:
        retry_after = max(int(trailers[_PUSHBACK]), 0) / 1000 if _PUSHBACK in trailers else retry_after
    except ValueError:
        pass
    return BasedError(failure.code(), failure.details() or "", field, retry_after)

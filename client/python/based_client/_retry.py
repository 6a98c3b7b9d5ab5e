"""When to try a call again."""

from __future__ import annotations

import dataclasses
import random
import time
from typing import Optional

import grpc

from ._errors import BasedError


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """Tries of a call that the daemon did not begin.

    Tried again: UNAVAILABLE, ABORTED (another call uses the session), and RESOURCE_EXHAUSTED where
    the daemon asks for another try. The wait is what the daemon asks for, else `first_wait_s` doubled for each try up to `longest_wait_s`;
    to both up to a quarter is added at random. A stream that has given tokens is not tried again.
    The last error is raised after `attempts` tries, or when the next would begin later than
    `limit_s` after the first. RetryPolicy(attempts=1) never tries again.
    """

    attempts: int = 6
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    limit_s: float = 60.0


class Tries:
    """The tries of one call."""

    def __init__(self, policy: RetryPolicy):
        self._policy = policy
        self._began = time.monotonic()
        self._failed = 0

    def wait_before_next(self, error: BasedError) -> Optional[float]:
        """Seconds to wait, or None when the error is final."""
        self._failed += 1
        asked = error.retry_after
        if error.code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            if asked is None:
                return None
        elif error.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED):
            return None
        if self._failed >= self._policy.attempts:
            return None
        doubled = self._policy.first_wait_s * 2 ** (self._failed - 1)
        wait = min(doubled, self._policy.longest_wait_s) if asked is None else asked
        wait *= 1 + random.random() / 4
        if time.monotonic() + wait - self._began > self._policy.limit_s:
            return None
        return wait

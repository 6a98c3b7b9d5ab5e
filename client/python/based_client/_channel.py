"""What both clients need to reach a daemon."""

from __future__ import annotations

import dataclasses
import os
from typing import Optional, Sequence, Tuple

import grpc

Options = Sequence[Tuple[str, object]]

# A long completion in one message may be larger than gRPC's default of 4 MiB.
DEFAULT_OPTIONS: Options = (("grpc.max_receive_message_length", -1),)


@dataclasses.dataclass(frozen=True)
class Tls:
    """TLS to the daemon; all are PEM bytes.

    Without `ca` the system's certificate authorities are trusted. `certificate` and `key` go
    together, for a daemon that asks clients for one. `server_name` is the name that the daemon's
    certificate must hold, where it differs from the address.
    """

    ca: Optional[bytes] = None
    certificate: Optional[bytes] = None
    key: Optional[bytes] = None
    server_name: Optional[str] = None

    def credentials(self) -> grpc.ChannelCredentials:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("Tls.certificate and Tls.key go together; expected both or neither")
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    def options(self) -> Options:
        if self.server_name is None:
            return ()
        return (("grpc.ssl_target_name_override", self.server_name),)


def metadata_of(api_key: Optional[str]) -> Tuple[Tuple[str, str], ...]:
    """Metadata of every call; without a key that of the environment variable BASED_API_KEY."""
    key = os.environ.get("BASED_API_KEY", "") if api_key is None else api_key
    return (("authorization", f"Bearer {key}"),) if key else ()

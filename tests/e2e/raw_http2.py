"""HTTP/2 by hand, for what no well-behaved client would send. Headers are literals, never indexed."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
GENERATE = "/based.v1.CompletionService/Generate"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream) + payload


def _length(value):
    """An HPACK string's length, 7-bit prefix."""
    if value < 127:
        return bytes([value])
    out, value = b"\x7f", value - 127
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def literal(name, value):
    name = name.encode() if isinstance(name, str) else name
    value = value.encode() if isinstance(value, str) else value
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def call_headers(path=GENERATE, extra=()):
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"),
              ("te", "trailers"), ("content-type", "application/grpc"), *extra]
    return b"".join(literal(name, value) for name, value in fields)


def message(payload, compressed=0):
    return bytes([compressed]) + struct.pack(">I", len(payload)) + payload


class Connection:
    """`polite`: the server's settings are waited for and acknowledged before anything is sent; its
    limit on headers holds from then on. Who acknowledges before, or never (`acknowledges`), gets
    gRPC's own, 16 MiB, and no limit on streams. `tls`: an ssl.SSLContext. `window`: bytes that
    the server may send on a stream."""

    def __init__(self, daemon, polite=True, acknowledges=True, tls=None, window=65_535):
        host, port = daemon.address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)
        self.buffer = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window)))
        if polite:
            next(one for one in self.frames() if one[0] == SETTINGS)
        if acknowledges:
            self.send(frame(SETTINGS, ACK, 0))

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def call(self, stream, payload, path=GENERATE, extra=(), compressed=0):
        self.send(frame(HEADERS, END_HEADERS, stream, call_headers(path, extra)),
                  frame(DATA, END_STREAM, stream, message(payload, compressed)))

    def frames(self):
        """(kind, flags, stream, payload) until the server closes the connection."""
        while True:
            while len(self.buffer) < 9 or len(self.buffer) < 9 + self._size():
                try:
                    got = self.socket.recv(1 << 16)
                except ConnectionError:
                    return
                if not got:
                    return
                self.buffer += got
            size = self._size()
            kind, flags = self.buffer[3], self.buffer[4]
            stream = struct.unpack(">I", self.buffer[5:9])[0] & 0x7FFFFFFF
            payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
            if kind == PING and not flags & ACK:
                self.send(frame(PING, ACK, 0, payload))
            yield kind, flags, stream, payload

    def _size(self):
        return int.from_bytes(self.buffer[:3], "big")

    def end_of(self, stream):
        """Bytes of the headers that ended `stream`, b"reset" or b"closed"."""
        for kind, flags, on, payload in self.frames():
            if on == stream and kind == HEADERS and flags & END_STREAM:
                return payload
            if on == stream and kind == RST_STREAM:
                return b"reset"
            if kind == GOAWAY:
                return b"closed"
        return b"closed"

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

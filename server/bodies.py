"""How much of a request's body is kept: what is above the limit of its path is read away, never stored.

Waitress keeps a body before anybody looks at it. Here it stops keeping at the limit and goes on reading, because a
client that still sends would lose our answer with the connection. The view then sees the length, and no content.
"""

from __future__ import annotations

from collections.abc import Iterable

from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer

from server.api.wire import MAX_JSON_BYTES
from server.storage.model_files import MAX_BYTES

UPLOAD_BYTES = MAX_BYTES + 1_100_000  # the file, its card, and the form around them
UPLOAD_PATHS = {"/api/models/upload", "/models"}
READ_AWAY_BYTES = 10 * MAX_BYTES  # above it the connection is closed at once


def limit_of(path: str) -> int:
    """How many bytes the body of a request to *path* may have."""
    return UPLOAD_BYTES if path in UPLOAD_PATHS else MAX_JSON_BYTES


def bound(listeners: Iterable[object]) -> None:
    """Make those of *listeners* that take connections keep no body above its limit."""
    for listener in listeners:
        if isinstance(listener, BaseWSGIServer):
            listener.channel_class = _Channel


class _Bounded(OverflowableBuffer):
    """Counts everything and keeps it up to *limit* bytes."""

    def __init__(self, overflow: int, limit: int) -> None:
        super().__init__(overflow)
        self._limit = limit
        self._dropped = 0

    def append(self, data: bytes) -> None:
        if self._dropped or super().__len__() + len(data) > self._limit:
            self._dropped += len(data)
        else:
            super().append(data)

    def __len__(self) -> int:
        return int(super().__len__()) + self._dropped


class _Parser(HTTPRequestParser):
    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        limit = limit_of(self.path)
        is_large = self.content_length > limit
        asks_first: bool = self.expect_continue  # type: ignore[has-type]
        if is_large and asks_first:  # the client asks before it sends: the answer is no
            self.expect_continue = False
            self.headers["CONNECTION"] = "close"
            self.body_rcv = None
        elif self.body_rcv is not None:
            self.body_rcv.buf = _Bounded(self.adj.inbuf_overflow, 0 if is_large else limit)


class _Channel(HTTPChannel):
    parser_class = _Parser

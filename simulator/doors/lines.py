"""The open websocket connections of all doors: choosing some of them, and ending those."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from simulator.doors.sockets import Connection


@dataclass(frozen=True, slots=True)
class Line:
    """One connection, the market streams it listens to, and the API keys whose user streams it carries."""

    connection: Connection
    streams: Collection[str] = ()
    api_keys: Collection[str] = ()


class HasLines(Protocol):
    """A door for websockets."""

    def lines(self) -> list[Line]:
        """Who is connected."""


class Lines:
    """All websocket connections of *market* (streams) and *api* (websocket API)."""

    def __init__(self, market: HasLines, api: HasLines) -> None:
        self._market = market
        self._api = api
        self._closing: set[asyncio.Task[None]] = set()

    def chosen(self, select: str, stream: str = "", api_key: str = "") -> list[Connection]:
        """Connections of one sort: *select* "stream" is those to market streams, "user" those with a user stream,
        "all" any. *stream*: only those that listen to one with that in its name; *api_key*: only with that user."""
        doors = {"stream": [self._market], "user": [self._api]}.get(select, [self._market, self._api])
        return [
            line.connection
            for door in doors
            for line in door.lines()
            if (select != "user" or line.api_keys)
            and (not stream or any(stream in name for name in line.streams))
            and (not api_key or api_key in line.api_keys)
        ]

    def abort(self, connections: Sequence[Connection]) -> None:
        """Cut them without a closing handshake."""
        for connection in connections:
            connection.abort()

    def close(self, connections: Sequence[Connection], code: int) -> None:
        """Close them cleanly; does not wait for the handshakes."""
        for connection in connections:
            task = asyncio.create_task(connection.close(code))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

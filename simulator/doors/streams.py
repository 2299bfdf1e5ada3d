"""Market streams: who listens to what.

Raw (``/ws/<stream>``) and combined (``/stream?streams=``) connections, SUBSCRIBE and its kin. A message is written
once, however many listen. Who comes late gets nothing old. What is told, and when, is ``market_feed.py``'s business.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from aiohttp import web

from simulator.core.rules import ApiError
from simulator.doors.lines import Line
from simulator.doors.market_feed import MarketFeed
from simulator.doors.sockets import Connection, Gate, refusal, shutdown_event
from simulator.doors.stream_control import BadControl, Control, invalid, parse
from simulator.faults import Faults
from simulator.market.candles import Trade
from simulator.venue import Listener, Venue

MAX_STREAMS = 1024


class _Listener:
    """One connection and what it subscribed to."""

    def __init__(self, connection: Connection, combined: bool) -> None:
        self.connection = connection
        self.combined = combined
        self.streams: dict[str, None] = {}


class Streams(Listener):
    """Listener of the venue, and handler of ``/ws`` and ``/stream``."""

    def __init__(self, venue: Venue, faults: Faults, gate: Gate) -> None:
        self._venue = venue
        self._faults = faults
        self._gate = gate
        self._clients: set[_Listener] = set()
        self._by_stream: dict[str, set[_Listener]] = {}
        self._feed = MarketFeed(venue, self._by_stream, self._publish)

    # the venue tells

    def on_trade(self, symbol: str, trade: Trade) -> None:
        """A market trade."""
        self._feed.on_trade(symbol, trade)

    def on_second(self, symbol: str, second: int) -> None:
        """A market second has ended."""
        self._feed.on_second(symbol, second)

    def on_book(self, symbol: str) -> None:
        """Customers changed the book."""
        self._feed.on_book(symbol)

    def _publish(self, stream: str, event: Callable[[], object]) -> None:
        clients = self._by_stream.get(stream)
        if not clients:
            return
        raw = json.dumps(event(), separators=(",", ":"))
        both = f'{{"stream":"{stream}","data":{raw}}}'
        now = self._venue.wall()
        for client in tuple(clients):
            self._faults.deliver(stream, both if client.combined else raw, client.connection.send, now)

    # clients ask

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from handshake to end."""
        try:
            connection = self._gate.open(request)
        except ApiError as error:
            return refusal(error)
        combined = request.path.startswith("/stream")
        streams = _named(request, combined)
        bad = [name for name in streams if not self._feed.is_served(name)]
        if bad:
            return web.Response(status=400, text=f"Unknown stream {bad[0][:80]!r}.\n")
        if len(streams) > MAX_STREAMS:
            return web.Response(status=400, text=f"More than {MAX_STREAMS} streams.\n")
        client = _Listener(connection, combined)

        def opened() -> None:
            self._clients.add(client)
            self._subscribe(client, streams)

        try:
            return await client.connection.run(opened, lambda text: self._control(client, text))
        finally:
            self._clients.discard(client)
            self._unsubscribe(client, list(client.streams))

    async def close(self) -> None:
        """Say goodbye to everybody."""
        for client in list(self._clients):
            await client.connection.close()

    def connected(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    def shut_down(self, grace_s: float) -> None:
        """Announce a serverShutdown to everybody, and close *grace_s* seconds later."""
        raw = shutdown_event(self._venue.wall())
        both = f'{{"stream":"!serverShutdown","data":{raw}}}'
        for client in list(self._clients):
            client.connection.shut_down(both if client.combined else raw, grace_s)

    def lines(self) -> list[Line]:
        """Who is connected, and to what."""
        return [Line(client.connection, streams=client.streams) for client in self._clients]

    def _subscribe(self, client: _Listener, streams: Iterable[str]) -> None:
        for stream in streams:
            client.streams[stream] = None
            if stream not in self._by_stream:
                self._by_stream[stream] = set()
                self._feed.begin(stream)
            self._by_stream[stream].add(client)

    def _unsubscribe(self, client: _Listener, streams: Iterable[str]) -> None:
        for stream in streams:
            client.streams.pop(stream, None)
            listeners = self._by_stream.get(stream)
            if listeners is None:
                continue
            listeners.discard(client)
            if not listeners:
                del self._by_stream[stream]
                self._feed.end(stream)

    def _control(self, client: _Listener, text: str) -> None:
        try:
            asked = parse(text)
            try:
                answer: dict[str, object] = {"result": self._run(client, asked), "id": asked.request_id}
            except BadControl as error:
                error.request_id = asked.request_id
                raise
        except BadControl as error:
            answer = {"code": error.code, "msg": error.msg, "id": error.request_id}
        client.connection.send(json.dumps(answer, separators=(",", ":")))

    def _run(self, client: _Listener, asked: Control) -> object:
        match asked.method:
            case "LIST_SUBSCRIPTIONS":
                return list(client.streams)
            case "GET_PROPERTY":
                return client.combined
            case "SET_PROPERTY":
                client.combined = asked.value
            case "UNSUBSCRIBE":
                self._unsubscribe(client, asked.streams)
            case "SUBSCRIBE":
                bad = [name for name in asked.streams if not self._feed.is_served(name)]
                if bad:
                    raise invalid(f"unknown stream {bad[0][:80]!r}")
                if len(client.streams.keys() | set(asked.streams)) > MAX_STREAMS:
                    raise invalid(f"more than {MAX_STREAMS} streams")
                self._subscribe(client, asked.streams)
        return None


def _named(request: web.Request, combined: bool) -> list[str]:
    """Streams in the address. Below ``/ws``, clients also connect to names of their own, such as a number."""
    if combined:
        names = request.query.get("streams", "").replace(" ", "+").split("/")  # a plus sign in a query is a space
        return [name for name in names if name]
    names = request.path.removeprefix("/ws").split("/")
    return [name for name in names if "@" in name or "!" in name]

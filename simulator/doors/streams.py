"""Market streams: who listens to what, and what they are told.

Raw (``/ws/<stream>``) and combined (``/stream?streams=``) connections, SUBSCRIBE and its kin. A second's kline is
sent closed right after the second, also when nothing traded; longer klines every two seconds and at their close.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from aiohttp import web

from simulator.api import market_wire as wire
from simulator.doors.sockets import Connection
from simulator.faults import Faults
from simulator.market.candles import INTERVALS, Trade, next_open, open_of
from simulator.venue import Listener, Venue

MAX_STREAMS = 1024
KINDS = frozenset({"aggTrade", "trade", "bookTicker", *(f"kline_{interval}" for interval in INTERVALS)})
_ID = re.compile(r"^[a-zA-Z0-9-_]{1,36}$")


class BadRequest(Exception):
    """A control message that cannot be served: *code* 2, or 3 when it is not JSON."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code, self.msg = code, msg


class _Listener:
    """One connection and what it subscribed to."""

    def __init__(self, connection: Connection, combined: bool) -> None:
        self.connection = connection
        self.combined = combined
        self.streams: dict[str, None] = {}


class Streams(Listener):
    """Listener of the venue, and handler of ``/ws`` and ``/stream``."""

    def __init__(self, venue: Venue, faults: Faults) -> None:
        self._venue = venue
        self._faults = faults
        self._clients: set[_Listener] = set()
        self._by_stream: dict[str, set[_Listener]] = {}
        self._shown: dict[str, object] = {}

    # the venue tells

    def on_trade(self, symbol: str, trade: Trade) -> None:
        """aggTrade, trade, and bookTicker when the touch moved."""
        name, rules = symbol.lower(), self._venue.exchange.symbols[symbol]
        self._publish(f"{name}@aggTrade", lambda: wire.agg_trade_event(rules, trade))
        self._publish(f"{name}@trade", lambda: wire.trade_event(rules, trade))
        if f"{name}@bookTicker" in self._by_stream:
            bids, asks = self._venue.exchange.books[symbol].levels(1, trade.time_ms // 1000)
            if self._shown.get(symbol) != (bids, asks):
                self._shown[symbol] = (bids, asks)
                self._publish(f"{name}@bookTicker", lambda: wire.book_ticker_event(rules, bids, asks, trade.id))

    def on_second(self, symbol: str, second: int) -> None:
        """The second's own candle, and the longer ones that are due."""
        end_ms = (second + 1) * 1000
        for interval in INTERVALS:
            stream = f"{symbol.lower()}@kline_{interval}"
            if stream not in self._by_stream:
                continue
            opened = open_of(interval, second * 1000)
            closed = next_open(interval, opened) == end_ms
            if closed or end_ms % 2000 == 0:
                self._publish_kline(stream, symbol, interval, opened, closed)

    def _publish_kline(self, stream: str, symbol: str, interval: str, open_ms: int, closed: bool) -> None:
        rules = self._venue.exchange.symbols[symbol]
        now = self._venue.now_ms()
        until = min(now, next_open(interval, open_ms) - 1)
        candle = self._venue.histories[symbol].candle(interval, open_ms, until)
        if len(candle):
            self._publish(stream, lambda: wire.kline_event(rules, interval, candle, now, closed))

    def _publish(self, stream: str, event: Callable[[], wire.Json]) -> None:
        clients = self._by_stream.get(stream)
        if not clients:
            return
        raw = json.dumps(event(), separators=(",", ":"))
        both = f'{{"stream":"{stream}","data":{raw}}}'
        now = self._venue.wall()
        for client in clients:
            self._faults.deliver(stream, both if client.combined else raw, client.connection.send, now)

    # clients ask

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from handshake to end."""
        if request.query.get("timeUnit", "MILLISECOND").upper() != "MILLISECOND":
            return web.Response(status=400, text="Times are in milliseconds here: leave timeUnit out.\n")
        combined = request.path.startswith("/stream")
        named = request.query.get("streams", "") if combined else request.path.removeprefix("/ws").lstrip("/")
        streams = [name for name in named.split("/") if "@" in name]
        bad = [name for name in streams if not self._is_served(name)]
        if bad:
            return web.Response(status=400, text=f"Unknown stream {bad[0]!r}.\n")
        client = _Listener(Connection(request), combined)

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

    def abort(self) -> None:
        """Cut all lines."""
        for client in list(self._clients):
            client.connection.abort()

    def _is_served(self, stream: str) -> bool:
        symbol, _, kind = stream.partition("@")
        return symbol == symbol.lower() and symbol.upper() in self._venue.exchange.symbols and kind in KINDS

    def _subscribe(self, client: _Listener, streams: list[str]) -> None:
        for stream in streams:
            client.streams[stream] = None
            self._by_stream.setdefault(stream, set()).add(client)

    def _unsubscribe(self, client: _Listener, streams: list[str]) -> None:
        for stream in streams:
            client.streams.pop(stream, None)
            listeners = self._by_stream.get(stream, set())
            listeners.discard(client)
            if not listeners:
                self._by_stream.pop(stream, None)

    def _control(self, client: _Listener, text: str) -> None:
        request_id: object = None
        try:
            try:
                message = json.loads(text)
            except ValueError:
                raise BadRequest(3, "Invalid JSON: expected value at line 1 column 1") from None
            if not isinstance(message, dict):
                raise BadRequest(2, "Invalid request: request must be an object")
            request_id = _request_id(message.get("id"))
            answer: wire.Json = {"result": self._run(client, message), "id": request_id}
        except BadRequest as error:
            answer = {"code": error.code, "msg": error.msg, "id": request_id}
        client.connection.send(json.dumps(answer, separators=(",", ":")))

    def _run(self, client: _Listener, message: dict[str, object]) -> object:
        method, params = message.get("method"), message.get("params", [])
        if method == "LIST_SUBSCRIPTIONS":
            return list(client.streams)
        if not isinstance(params, list) or not params:
            raise BadRequest(2, "Invalid request: params must be a list with something in it")
        match method:
            case "SUBSCRIBE" | "UNSUBSCRIBE":
                streams = [str(name) for name in params]
                bad = [name for name in streams if not self._is_served(name)]
                if bad and method == "SUBSCRIBE":
                    raise BadRequest(2, f"Invalid request: unknown stream {bad[0][:80]!r}")
                if method == "UNSUBSCRIBE":
                    self._unsubscribe(client, streams)
                elif len(client.streams.keys() | set(streams)) > MAX_STREAMS:
                    raise BadRequest(2, f"Invalid request: more than {MAX_STREAMS} streams")
                else:
                    self._subscribe(client, streams)
                return None
            case "SET_PROPERTY" if len(params) == 2 and params[0] == "combined" and isinstance(params[1], bool):
                client.combined = params[1]
                return None
            case "GET_PROPERTY" if params == ["combined"]:
                return client.combined
        raise BadRequest(2, f"Invalid request: unknown method or params for {str(method)[:40]!r}")


def _request_id(value: object) -> object:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and _ID.match(value):
        return value
    raise BadRequest(2, "Invalid request: request ID must be an unsigned integer or a short text")

"""The websocket API: the endpoints of ``api.py`` by method name, and the user data stream.

A subscription belongs to its connection and dies with it; nothing is replayed to who was away.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from aiohttp import web

from simulator.api import order_wire as wire
from simulator.api.endpoints import ENDPOINTS
from simulator.api.order_wire import Json
from simulator.core.orders import Order, OrderFact
from simulator.core.rules import ApiError, mandatory
from simulator.doors.door import Door
from simulator.doors.params import SIGNING, Params
from simulator.doors.sockets import Connection
from simulator.venue import Listener

_METHODS = {endpoint.ws_method: endpoint for endpoint in ENDPOINTS}
SUBSCRIBE, UNSUBSCRIBE = "userDataStream.subscribe.signature", "userDataStream.unsubscribe"
RETIRED = frozenset({"userDataStream.start", "userDataStream.ping", "userDataStream.stop"})
CONNECT_WEIGHT, SUBSCRIBE_WEIGHT = 2, 2


class _Client:
    """One connection and its subscriptions: subscription id -> API key."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.subscriptions: dict[int, str] = {}
        self.given = 0
        self.tasks: set[asyncio.Task[None]] = set()


class WsApi(Listener):
    """Handler of ``/ws-api/v3`` and listener of the venue."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._clients: set[_Client] = set()

    # the venue tells

    def on_fact(self, fact: OrderFact, order: Order) -> None:
        """An executionReport to the order's owner."""
        api_key = order.placed.api_key
        if any(api_key in client.subscriptions.values() for client in self._clients):
            rules = self._door.venue.exchange.symbols[order.placed.symbol]
            self._tell(api_key, wire.execution_report(rules, order, fact))

    def on_accounts(self, touched: Mapping[str, set[str]], time_ms: int) -> None:
        """An outboundAccountPosition to each account, with the assets that were touched."""
        for api_key, assets in touched.items():
            account = self._door.venue.exchange.accounts[api_key]
            self._tell(api_key, wire.account_position(account, assets, time_ms))

    def _tell(self, api_key: str, event: Json) -> None:
        for client in self._clients:
            for number, subscriber in client.subscriptions.items():
                if subscriber == api_key:
                    client.connection.send(_text({"subscriptionId": number, "event": event}))

    # clients ask

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from handshake to end."""
        client = _Client(Connection(request))
        now = self._door.venue.wall()
        try:
            self._door.limits.spend_weight(client.connection.address, CONNECT_WEIGHT, now)
        except ApiError as error:
            return web.Response(status=error.status, text=error.msg, headers=error.headers)

        def on_text(text: str) -> None:
            task = asyncio.create_task(self._answer(client, text))
            client.tasks.add(task)
            task.add_done_callback(client.tasks.discard)

        try:
            return await client.connection.run(lambda: self._clients.add(client), on_text)
        finally:
            self._clients.discard(client)

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

    async def _answer(self, client: _Client, text: str) -> None:
        request_id: object = None
        try:
            message = _parsed(text)
            request_id = message.get("id")
            result = await self._run(client, message)
            answer: Json = {"id": request_id, "status": 200, "result": result}
        except ApiError as error:
            answer = {"id": request_id, "status": error.status, "error": {"code": error.code, "msg": error.msg}}
        used = self._door.limits.weight_used(client.connection.address, self._door.venue.wall())
        answer["rateLimits"] = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000, "count": used}
        ]
        client.connection.send(_text(answer))

    async def _run(self, client: _Client, message: dict[str, object]) -> object:
        method, values = _method(message), _values(message)
        if method == UNSUBSCRIBE:
            return self._unsubscribe(client, Params(values))
        if method in RETIRED:
            raise ApiError(-1020, "This operation is not supported.", 410)
        api_key = values.get("apiKey")
        signed_text = "&".join(f"{k}={v}" for k, v in sorted(values.items()) if k != "signature").encode()
        address = client.connection.address
        if method == SUBSCRIBE:
            self._door.limits.spend_weight(address, SUBSCRIBE_WEIGHT, self._door.venue.wall())
            return self._subscribe(client, values, api_key, signed_text)
        endpoint = _METHODS.get(method)
        if endpoint is None:
            raise ApiError(-1020, "This operation is not supported.")
        rest = {name: value for name, value in values.items() if name != "apiKey"}
        return await self._door.call(endpoint, rest, address, api_key, signed_text)

    def _subscribe(self, client: _Client, values: dict[str, str], api_key: str | None, signed_text: bytes) -> object:
        if not api_key:
            raise mandatory("apiKey")
        params = Params(values)
        params.known_only(SIGNING | {"apiKey"})
        self._door.customer(params, api_key, signed_text)
        if api_key in client.subscriptions.values():
            raise ApiError(-2035, "User Data Stream subscription already active.")
        number = client.given
        client.given += 1
        client.subscriptions[number] = api_key
        return {"subscriptionId": number}

    def _unsubscribe(self, client: _Client, params: Params) -> object:
        params.known_only({"subscriptionId"})
        number = params.integer("subscriptionId")
        if number is None:
            client.subscriptions.clear()
        elif client.subscriptions.pop(number, None) is None:
            raise ApiError(-2036, "User Data Stream subscription not active.")
        return {}


def _parsed(text: str) -> dict[str, object]:
    try:
        message = json.loads(text)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise ApiError(-1135, "Invalid JSON Request")
    return message


def _method(message: dict[str, object]) -> str:
    method = message.get("method")
    if not isinstance(method, str) or not method:
        raise mandatory("method")
    return method.removeprefix("v3/")


def _values(message: dict[str, object]) -> dict[str, str]:
    params = message.get("params") or {}
    if not isinstance(params, dict):
        raise ApiError(-1135, "Invalid JSON Request")
    return {str(name): _plain(value) for name, value in params.items() if name != "returnRateLimits"}


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

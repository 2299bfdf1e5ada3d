"""The websocket API: the exchange's endpoints by method name, sessions, and the user data stream.

A connection may log on with an Ed25519 key, and listen to the events of accounts. Session and subscriptions belong to
their connection and die with it; nothing is replayed to who was away. How a message is written is ``ws_message.py``'s
business, what an endpoint does ``api``'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from simulator.api import order_wire as wire
from simulator.api.endpoints import ENDPOINTS
from simulator.api.order_wire import Json
from simulator.core.accounts import Account
from simulator.core.orders import Order, OrderFact, OrderList, Transferred
from simulator.core.rules import ApiError, mandatory
from simulator.doors.door import Door
from simulator.doors.limits import rate_limits
from simulator.doors.lines import Line
from simulator.doors.params import SIGNING, Params
from simulator.doors.signing import ED25519
from simulator.doors.sockets import Connection, Gate, refusal, shutdown_event
from simulator.doors.ws_message import Message, answer_text, event_text, flag, id_text, json_object, read_message
from simulator.faults import Asked, Cut, Faults, perform
from simulator.store import StateError
from simulator.venue import Listener

CONNECT_WEIGHT, SESSION_WEIGHT = 2, 2
MAX_PENDING = 1000  # requests of one connection that wait for their answers
MAX_SUBSCRIPTIONS, MAX_SUBSCRIPTION_ID = 1000, 65_535
RETIRED = frozenset({"userDataStream.start", "userDataStream.ping", "userDataStream.stop"})

_METHODS = {endpoint.ws_method: endpoint for endpoint in ENDPOINTS}


@dataclass(frozen=True, slots=True)
class _Subscription:
    """To the events of one account; *of_session* ones end with the session."""

    api_key: str
    of_session: bool


@dataclass(slots=True, eq=False)
class _Client:
    """One connection: who logged on, and its subscriptions by id."""

    connection: Connection
    connected_ms: int
    returns_limits: bool
    session: Account | None = None
    authorized_ms: int | None = None
    subscriptions: dict[int, _Subscription] = field(default_factory=dict)
    given: int = 0
    pending: set[asyncio.Task[None]] = field(default_factory=set)


class WsApi(Listener):
    """Handler of ``/ws-api/v3`` and listener of the venue."""

    def __init__(self, door: Door, faults: Faults, gate: Gate) -> None:
        self._door = door
        self._faults = faults
        self._gate = gate
        self._clients: set[_Client] = set()
        self._listeners: dict[str, dict[_Client, int]] = {}  # API key -> who listens, under which subscription
        self._own: dict[str, tuple[frozenset[str], Callable[[_Client, Message], object]]] = {
            "session.logon": (SIGNING | {"apiKey"}, self._logon),
            "session.status": (frozenset(), self._status),
            "session.logout": (frozenset(), self._logout),
            "session.subscriptions": (frozenset(), self._subscriptions),
            "userDataStream.subscribe": (frozenset(), self._subscribe),
            "userDataStream.subscribe.signature": (SIGNING | {"apiKey"}, self._subscribe_signed),
            "userDataStream.unsubscribe": (frozenset({"subscriptionId"}), self._unsubscribe),
        }

    # the venue tells

    def on_fact(self, fact: OrderFact, order: Order) -> None:
        """An executionReport to the order's owner."""
        api_key = order.placed.api_key
        if api_key in self._listeners and wire.is_told(fact):
            rules = self._door.venue.exchange.symbols[order.placed.symbol]
            self._tell(api_key, wire.execution_report(rules, order, fact))

    def on_accounts(self, touched: Mapping[str, set[str]], time_ms: int) -> None:
        """An outboundAccountPosition to each account, with the assets that were touched."""
        for api_key in touched.keys() & self._listeners.keys():
            account = self._door.venue.exchange.accounts[api_key]
            self._tell(api_key, wire.account_position(account, touched[api_key], time_ms))

    def on_list(self, found: OrderList) -> None:
        """A listStatus to the owner of an order list."""
        exchange, api_key = self._door.venue.exchange, found.opened.api_key
        if api_key in self._listeners:
            self._tell(api_key, wire.list_status(found, exchange.legs(found)))

    def on_transfer(self, fact: Transferred) -> None:
        """A balanceUpdate to the account."""
        self._tell(fact.api_key, wire.balance_update(fact.asset, fact.atoms, fact.time_ms))

    def _tell(self, api_key: str, event: Json) -> None:
        channel, text, now = f"user@{event['e']}", _json(event), self._door.venue.wall()
        for client, number in list(self._listeners.get(api_key, {}).items()):
            self._faults.deliver(channel, event_text(number, text), client.connection.send, now, api_key)

    # the operator tells

    async def close(self) -> None:
        """Say goodbye to everybody."""
        await asyncio.gather(*(client.connection.close() for client in self._clients))

    def connected(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    def lines(self) -> list[Line]:
        """Who is connected, with whose user streams."""
        return [
            Line(client.connection, api_keys={each.api_key for each in client.subscriptions.values()})
            for client in self._clients
        ]

    def shut_down(self, grace_s: float) -> None:
        """Announce a serverShutdown to everybody, and close *grace_s* seconds later."""
        notice = f'{{"event":{shutdown_event(self._door.venue.wall())}}}'
        for client in list(self._clients):
            client.connection.shut_down(notice, grace_s)

    def deafen(self, api_key: str = "") -> None:
        """Forget the subscriptions to an account, or to all, without a word: their connections stay open."""
        for client in list(self._clients):
            for number, subscription in list(client.subscriptions.items()):
                if api_key in ("", subscription.api_key):
                    self._forget(client, number)

    # clients ask

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One connection, from handshake to end."""
        now = self._door.venue.wall()
        try:
            connection = self._gate.open(request)
            returns_limits = flag("returnRateLimits", request.query.get("returnRateLimits", "true").lower())
            if request.query.get("responseFormat", "json").lower() != "json":
                raise ApiError(-1155, "SBE is not enabled.")
            self._door.limits.spend_weight(connection.address, CONNECT_WEIGHT, now)
        except ApiError as error:
            return refusal(error)
        client = _Client(connection, now, returns_limits)

        def on_text(text: str) -> None:
            task = asyncio.create_task(self._answer(client, text))
            client.pending.add(task)
            task.add_done_callback(client.pending.discard)

        try:
            return await connection.run(lambda: self._clients.add(client), on_text)
        finally:
            self._clients.discard(client)
            for number in list(client.subscriptions):
                self._forget(client, number)

    async def _answer(self, client: _Client, text: str) -> None:
        request_id, status, message = "null", 200, None
        try:
            fields = json_object(text)
            request_id = id_text(fields)
            message = read_message(fields)
            if len(client.pending) > MAX_PENDING:
                raise ApiError(-1003, "Too many requests queued.", 429, {"Retry-After": "1"})
            body: Json = {"result": await self._run(client, message)}
        except Cut:
            client.connection.abort()
            return
        except StateError:
            status, body = 503, {"error": {"code": -1001, "msg": "Internal error; unable to process your request."}}
        except ApiError as error:
            status, body = error.status, {"error": self._error(error)}
        wanted = message.returns_limits if message is not None else None
        if client.returns_limits if wanted is None else wanted:
            body["rateLimits"] = self._rate_limits(client, message)
        client.connection.send(answer_text(request_id, status, body))

    async def _run(self, client: _Client, message: Message) -> object:
        """The result of a request, unless a fault says otherwise."""
        endpoint = _METHODS.get(message.method)
        api_key = message.api_key or (client.session.api_key if client.session is not None else "")
        asked = Asked(
            door="ws", path=endpoint.path if endpoint else "", method=endpoint.method if endpoint else "",
            ws_method=message.method, address=client.connection.address, api_key=api_key,
            symbol=message.values.get("symbol", ""),
        )  # fmt: skip
        return await perform(self._faults, asked, lambda: self._execute(client, message), self._door.venue.wall())

    async def _execute(self, client: _Client, message: Message) -> object:
        if message.method in RETIRED:
            raise ApiError(-1020, "This operation is not supported.", 410)
        address = client.connection.address
        if message.method in self._own:
            names, handler = self._own[message.method]
            self._door.limits.spend_weight(address, SESSION_WEIGHT, self._door.venue.wall())
            Params(message.values).known_only(names)
            return handler(client, message)
        endpoint = _METHODS.get(message.method)
        if endpoint is None:
            raise ApiError(-1020, "This operation is not supported.")
        if endpoint.signed and not message.api_key and (client.session is None or message.is_signed()):
            raise mandatory("apiKey")
        values = {name: value for name, value in message.values.items() if name != "apiKey"}
        return await self._door.call(
            endpoint, values, address, message.api_key, message.signed_text, session=client.session
        )

    def _error(self, error: ApiError) -> Json:
        body = error.body()
        if error.status in (418, 429) and error.data is None:
            now = self._door.venue.api_ms()
            body["data"] = {"serverTime": now, "retryAfter": now + 1000 * int(error.headers.get("Retry-After", 1))}
        return body

    def _rate_limits(self, client: _Client, message: Message | None) -> list[Json]:
        """The limits that apply to the call and how far they are used: the weight, and orders where orders are made."""
        limits, now = self._door.limits, self._door.venue.wall()
        counts = {("REQUEST_WEIGHT", "MINUTE"): limits.weight_used(client.connection.address, now)}
        account = message.api_key if message is not None else None
        account = account or (client.session.api_key if client.session is not None else None)
        if message is not None and _makes_orders(message.method) and account in self._door.venue.exchange.accounts:
            counts["ORDERS", "SECOND"], counts["ORDERS", "DAY"] = limits.orders_used(str(account), now)
        rows = sorted(rate_limits(), key=lambda row: str(row["rateLimitType"]))
        named = [(row, (str(row["rateLimitType"]), str(row["interval"]))) for row in rows]
        return [{**row, "count": counts[name]} for row, name in named if name in counts]

    # sessions

    def _logon(self, client: _Client, message: Message) -> object:
        account = self._signer(message)
        if account.key_kind != ED25519:
            name = "HMAC_SHA256" if account.key_kind == "HMAC" else account.key_kind
            raise ApiError(-4056, f"{name} API key is not supported.")
        client.session, client.authorized_ms = account, self._door.venue.wall()
        return self._status(client, message)

    def _status(self, client: _Client, message: Message) -> object:
        return {
            "apiKey": client.session.api_key if client.session is not None else None,
            "authorizedSince": client.authorized_ms,
            "connectedSince": client.connected_ms,
            "returnRateLimits": client.returns_limits,
            "serverTime": self._door.venue.api_ms(),
            "userDataStream": bool(client.subscriptions),
        }

    def _logout(self, client: _Client, message: Message) -> object:
        self._end(client, [number for number, each in client.subscriptions.items() if each.of_session])
        client.session = client.authorized_ms = None
        return self._status(client, message)

    def _signer(self, message: Message) -> Account:
        if not message.api_key:
            raise mandatory("apiKey")
        return self._door.customer(Params(message.values), message.api_key, message.signed_text)

    # subscriptions

    def _subscriptions(self, client: _Client, message: Message) -> object:
        return [{"subscriptionId": number} for number in client.subscriptions]

    def _subscribe(self, client: _Client, message: Message) -> object:
        if client.session is None:
            raise ApiError(-1002, "You are not authorized to execute this request.", 401)
        return self._listen(client, client.session.api_key, of_session=True)

    def _subscribe_signed(self, client: _Client, message: Message) -> object:
        return self._listen(client, self._signer(message).api_key, of_session=False)

    def _listen(self, client: _Client, api_key: str, of_session: bool) -> object:
        if client in self._listeners.get(api_key, {}):
            raise ApiError(-2035, "User Data Stream subscription already active.")
        if client.given > MAX_SUBSCRIPTION_ID:
            raise ApiError(-2042, "Maximum subscription ID reached for this connection.")
        if len(client.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise ApiError(
                -1191,
                f"Too many subscriptions. Connection may create up to '{MAX_SUBSCRIPTIONS}' subscriptions at a time.",
            )
        number = client.given
        client.given += 1
        client.subscriptions[number] = _Subscription(api_key, of_session)
        self._listeners.setdefault(api_key, {})[client] = number
        return {"subscriptionId": number}

    def _unsubscribe(self, client: _Client, message: Message) -> object:
        number = Params(message.values).integer("subscriptionId")
        if number is None:
            self._end(client, list(client.subscriptions))
        elif number in client.subscriptions:
            self._end(client, [number])
        else:
            raise ApiError(-2036, "User Data Stream subscription not active.")
        return {}

    def _end(self, client: _Client, numbers: list[int]) -> None:
        event = _json({"e": "eventStreamTerminated", "E": self._door.venue.now_ms()})
        for number in numbers:
            self._forget(client, number)
            client.connection.send(event_text(number, event))

    def _forget(self, client: _Client, number: int) -> None:
        api_key = client.subscriptions.pop(number).api_key
        listeners = self._listeners[api_key]
        del listeners[client]
        if not listeners:
            del self._listeners[api_key]


def _makes_orders(method: str) -> bool:
    return ".place" in method or method == "order.cancelReplace"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

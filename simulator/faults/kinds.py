"""Which faults there are: one frozen description for each kind, with its fields, defaults and one line of help.

Owns the table that the route, the page and the documentation are made from, and the check of a description at the
door. The first line of a kind's docstring is its help. What a fault does when it is on is said elsewhere: ``calls``,
``messages`` and ``plant``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

from simulator.faults.rules import (
    BadFault,
    choice,
    decimal,
    flag,
    is_required,
    name,
    number,
    rule_of,
    shown,
    text,
    whole,
)

MOMENT_S, DAY_S = 0.001, 86_400
MAX_COUNT = 1_000_000
REQUESTS, STREAMS, EXCHANGE = "requests", "streams", "exchange"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault as it was asked for."""

    kind: ClassVar[str]

    @property
    def lasting_s(self) -> float | None:
        """Seconds after which it ends by itself; ``None``: not by time."""
        return None

    @property
    def strikes(self) -> int | None:
        """How often it strikes before it is used up; ``None``: until it is cleared."""
        return None

    def asked(self) -> dict[str, object]:
        """Its fields as JSON, without those that say nothing."""
        values = {described.name: getattr(self, described.name) for described in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, "")}


@dataclass(frozen=True, slots=True)
class FieldHelp:
    """One field in the table of kinds."""

    name: str
    type: str
    required: bool
    default: object
    choices: tuple[str | int, ...]
    low: float
    high: float
    help: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of kinds. *example* is a body for ``POST /sim/faults``."""

    name: str
    group: str
    help: str
    example: Mapping[str, object]
    fields: tuple[FieldHelp, ...]
    type: type[Fault]


KINDS: dict[str, Kind] = {}
_Described = TypeVar("_Described", bound=type[Fault])


def _kind(name: str, group: str, **example: object) -> Callable[[_Described], _Described]:
    def listed(described: _Described) -> _Described:
        described.kind = name
        rows = tuple(
            FieldHelp(
                field.name, rule_of(field).type, is_required(field), None if is_required(field) else field.default,
                rule_of(field).choices, rule_of(field).low, rule_of(field).high, rule_of(field).help,
            )
            for field in fields(described)
        )  # fmt: skip
        help_text = (described.__doc__ or "").partition("\n")[0]
        KINDS[name] = Kind(name, group, help_text, {"kind": name, **example}, rows, described)
        return described

    return listed


def described(body: Mapping[str, object]) -> Fault:
    """The fault that a JSON object describes; raises `BadFault` naming field, value and remedy."""
    asked = body.get("kind")
    kind = KINDS.get(asked) if isinstance(asked, str) else None
    if kind is None:
        raise BadFault(f"kind is {shown(asked)}: give one of {', '.join(KINDS)}.")
    rules = {field.name: rule_of(field) for field in fields(kind.type)}
    unknown = sorted(map(str, set(body) - rules.keys() - {"kind"}))
    if unknown:
        takes = f"it takes {', '.join(rules)}" if rules else "it takes no other fields"
        raise BadFault(f"{asked} does not take {', '.join(unknown)[:80]}: {takes}.")
    missing = [row.name for row in kind.fields if row.required and row.name not in body]
    if missing:
        raise BadFault(f"{asked} lacks {', '.join(missing)}: for example {_flat(kind.example)}.")
    values = {key: rules[key].read(key, value) for key, value in body.items() if key != "kind"}
    return kind.type(**values)


def kinds_table() -> list[dict[str, object]]:
    """The table of kinds as JSON."""
    return [
        {
            "name": kind.name,
            "group": kind.group,
            "help": kind.help,
            "example": dict(kind.example),
            "fields": [
                {
                    "name": row.name, "type": row.type, "required": row.required, "default": row.default,
                    "choices": list(row.choices), "low": row.low, "high": row.high, "help": row.help,
                }
                for row in kind.fields
            ],
        }
        for kind in KINDS.values()
    ]  # fmt: skip


def _flat(example: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in example.items() if name != "kind")


# --- requests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFault(Fault):
    """Meets calls over REST and over the websocket API, of any path, method, key and symbol unless it names them."""

    path: str = text("REST path (/api/v3/order) or websocket method (order.place) of the operation; empty: any")
    method: str = text("HTTP method; also for websocket calls, by the operation's REST method; empty: any", upper=True)
    api_key: str = text("API key of the caller; empty: any")
    symbol: str = text("symbol parameter of the call; empty: any", upper=True)
    over: str = choice("only calls over rest or over ws; empty: both", "", "rest", "ws", default="")
    every: int = whole("strike each n-th call that it meets", 1, MAX_COUNT, default=1)
    count: int = whole("how often to strike", 1, MAX_COUNT, default=1)

    @property
    def strikes(self) -> int | None:
        """`count`."""
        return self.count


ORDER = {"path": "/api/v3/order", "method": "POST"}


@_kind("lose_ack", REQUESTS, **ORDER, count=1)
@dataclass(frozen=True, slots=True, kw_only=True)
class LoseAck(CallFault):
    """The call is executed, then the connection is cut without an answer."""


@_kind("refuse", REQUESTS, **ORDER, status=503, count=3)
@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(CallFault):
    """The call is not executed: an HTML page with the status, or with code a JSON error."""

    status: int = whole("HTTP status", 400, 599, default=503)
    code: int | None = whole("error code for a JSON answer, such as -1008; without it the answer is HTML",
                             -9999, -1, default=None)  # fmt: skip
    msg: str = text("error text beside code")


@_kind("unknown", REQUESTS, **ORDER, executed=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(CallFault):
    """A 5xx with -1006 or -1007: the execution status is unknown, and the call was or was not executed."""

    executed: bool = flag("was the call executed?", default=True)
    code: int = choice("-1006 unexpected response, -1007 timeout", -1006, -1007, default=-1007)
    status: int = whole("HTTP status", 500, 599, default=504)


@_kind("html", REQUESTS, **ORDER, status=502, executed=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Html(CallFault):
    """A 5xx HTML page from in front of the exchange, and the call was or was not executed."""

    executed: bool = flag("was the call executed?", default=False)
    status: int = whole("HTTP status", 500, 599, default=502)


@_kind("delay", REQUESTS, path="/api/v3/order", seconds=3, when="after")
@dataclass(frozen=True, slots=True, kw_only=True)
class Delay(CallFault):
    """The call waits before it is executed, or its answer waits after."""

    seconds: float = number("how long", MOMENT_S, 3600)
    when: str = choice("before or after execution", "before", "after", default="after")


@_kind("rate_limit", REQUESTS, seconds=10)
@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit(CallFault):
    """The next call gets 429 with Retry-After, and whoever calls again from that address meanwhile 418, banned."""

    seconds: float = number("until calls are taken again", 1, DAY_S, default=10.0)


@_kind("order_limit", REQUESTS, count=2)
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLimit(CallFault):
    """A new order is refused with 429, -1015: too many orders."""

    seconds: float = number("Retry-After, rounded up", 1, DAY_S, default=10.0)


# --- streams and user events ----------------------------------------------------------------------------------------

CHANNEL = "part of the channel: a stream's name (btcusdt@kline_1s), or user@ and the event's type; empty: any"
LASTING = "seconds after which it ends by itself; without: not by time"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFault(Fault):
    """Meets messages of market streams and user events, all of them unless it names channel or key."""

    stream: str = text(CHANNEL)
    api_key: str = text("API key whose user events it meets; empty: any, and market streams too")

    def meets(self, channel: str, owner: str) -> bool:
        """Is this one of its messages?"""
        return self.stream in channel and self.api_key in ("", owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedMessages(MessageFault):
    """Ends after some seconds, some strikes, both or neither."""

    count: int | None = whole("how many messages; each receiver's copy counts; without: no limit",
                              1, MAX_COUNT, default=None)  # fmt: skip
    seconds: float | None = number(LASTING, MOMENT_S, DAY_S, default=None)

    @property
    def lasting_s(self) -> float | None:
        """`seconds`."""
        return self.seconds

    @property
    def strikes(self) -> int | None:
        """`count`."""
        return self.count


@_kind("silence", STREAMS, stream="btcusdt@kline_1s", seconds=30)
@dataclass(frozen=True, slots=True, kw_only=True)
class Silence(MessageFault):
    """Nothing arrives any more, while the connection stays open and answers pings."""

    seconds: float = number("how long", MOMENT_S, DAY_S)

    @property
    def lasting_s(self) -> float | None:
        """`seconds`."""
        return self.seconds


@_kind("drop", STREAMS, stream="@kline_1s", every=5)
@dataclass(frozen=True, slots=True, kw_only=True)
class Drop(CountedMessages):
    """Messages are lost: the next ones, or each n-th."""

    every: int = whole("lose each n-th message of a receiver", 1, MAX_COUNT, default=1)


@_kind("duplicate", STREAMS, stream="user@executionReport", count=3)
@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(CountedMessages):
    """Messages arrive twice."""


@_kind("reorder", STREAMS, stream="user@", count=2)
@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder(CountedMessages):
    """Neighbours change places: a message waits for the next of its stream or user, and arrives after it."""


@_kind("delay_events", STREAMS, stream="user@", seconds=2)
@dataclass(frozen=True, slots=True, kw_only=True)
class DelayEvents(MessageFault):
    """Messages arrive late, in their order."""

    seconds: float = number("how late", MOMENT_S, 3600)
    lasting: float | None = number(LASTING, MOMENT_S, DAY_S, default=None)
    count: int | None = whole("how many messages; without: no limit", 1, MAX_COUNT, default=None)

    @property
    def lasting_s(self) -> float | None:
        """`lasting`."""
        return self.lasting

    @property
    def strikes(self) -> int | None:
        """`count`."""
        return self.count


@_kind("lose_fill", STREAMS, count=1)
@dataclass(frozen=True, slots=True, kw_only=True)
class LoseFill(CountedMessages):
    """The executionReport of a fill (x is TRADE) never arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act(Fault):
    """Done at once, and over."""


ALL, STREAM, USER = "all", "stream", "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangup(Act):
    """Ends websocket connections."""

    select: str = choice("all, stream: those to market streams, user: those with a user stream",
                         ALL, STREAM, USER, default=ALL)  # fmt: skip
    stream: str = text("only connections that listen to a stream with this in its name; empty: any")
    api_key: str = text("only connections with a user stream of this API key; empty: any")


@_kind("deafen", STREAMS)
@dataclass(frozen=True, slots=True, kw_only=True)
class Deafen(Act):
    """User streams end without a word: the subscription is gone, the socket stays open and answers pings."""

    api_key: str = text("whose; empty: everybody's")


@_kind("disconnect", STREAMS, select="user")
@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect(Hangup):
    """Websocket connections are cut without a closing handshake."""


@_kind("close", STREAMS, select="stream", code=1001)
@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Hangup):
    """Websocket connections are closed cleanly."""

    code: int = choice("closing code", 1000, 1001, default=1001)


# --- the exchange ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Fault):
    """Holds until it ends by itself or is cleared, and is undone then."""


@_kind("clock_skew", EXCHANGE, ms=-3000)
@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSkew(State):
    """The exchange's clock is off: server time and the check of timestamps are shifted."""

    ms: int = whole("milliseconds that it is ahead; negative: behind", -DAY_S * 1000, DAY_S * 1000)
    seconds: float | None = number(LASTING, MOMENT_S, DAY_S, default=None)

    @property
    def lasting_s(self) -> float | None:
        """`seconds`."""
        return self.seconds


@_kind("halt", EXCHANGE, symbol="BTCUSDT", seconds=60)
@dataclass(frozen=True, slots=True, kw_only=True)
class Halt(State):
    """A symbol is not traded."""

    symbol: str = name("which symbol", upper=True)
    seconds: float | None = number(LASTING, MOMENT_S, DAY_S, default=None)
    status: str = choice("its status meanwhile", "HALT", "BREAK", "CANCEL_ONLY", default="HALT")

    @property
    def lasting_s(self) -> float | None:
        """`seconds`."""
        return self.seconds


@_kind("maintenance", EXCHANGE, seconds=60)
@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance(State):
    """The exchange is away: REST answers 503 with HTML, websockets are closed and refused."""

    seconds: float = number("how long", MOMENT_S, DAY_S)

    @property
    def lasting_s(self) -> float | None:
        """`seconds`."""
        return self.seconds


@_kind("filters", EXCHANGE, symbol="BTCUSDT", min_notional="10", tick_size="0.1")
@dataclass(frozen=True, slots=True, kw_only=True)
class Filters(Act):
    """The limits or fees of a symbol change, for good."""

    symbol: str = name("which symbol", upper=True)
    tick_size: str = decimal("PRICE_FILTER", default="")
    min_price: str = decimal("PRICE_FILTER", default="")
    max_price: str = decimal("PRICE_FILTER", default="")
    step_size: str = decimal("LOT_SIZE", default="")
    min_qty: str = decimal("LOT_SIZE", default="")
    max_qty: str = decimal("LOT_SIZE", default="")
    max_market_qty: str = decimal("MARKET_LOT_SIZE", default="")
    min_notional: str = decimal("NOTIONAL", default="")
    max_notional: str = decimal("NOTIONAL", default="")
    multiplier_up: str = decimal("PERCENT_PRICE_BY_SIDE", default="")
    multiplier_down: str = decimal("PERCENT_PRICE_BY_SIDE", default="")
    max_num_orders: str = decimal("MAX_NUM_ORDERS", default="")
    max_num_algo_orders: str = decimal("MAX_NUM_ALGO_ORDERS", default="")
    max_num_order_lists: str = decimal("MAX_NUM_ORDER_LISTS", default="")
    max_position: str = decimal("MAX_POSITION", default="")
    maker_fee: str = decimal("fee of a maker, as a fraction", default="")
    taker_fee: str = decimal("fee of a taker, as a fraction", default="")

    def changes(self) -> dict[str, str]:
        """Limit -> new value, of those that were given."""
        return {name: str(value) for name, value in self.asked().items() if name != "symbol"}


@_kind("balance", EXCHANGE, api_key="…", asset="BTC", amount="-0.5")
@dataclass(frozen=True, slots=True, kw_only=True)
class Balance(Act):
    """A balance changes behind the account's back, as by a deposit or withdrawal; sends balanceUpdate."""

    api_key: str = name("whose balance, by API key")
    asset: str = name("which asset", upper=True)
    amount: str = decimal("how much; negative: taken away")


@_kind("server_shutdown", EXCHANGE, grace=10)
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerShutdown(Act):
    """Every websocket is sent serverShutdown, and closed after a moment of grace."""

    grace: float = number("seconds between the event and the close", 0, 3600, default=10.0)


@_kind("day_cut", EXCHANGE)
@dataclass(frozen=True, slots=True, kw_only=True)
class DayCut(Act):
    """The cut after 24 hours: every websocket is closed cleanly, without an event before."""

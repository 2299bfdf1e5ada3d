"""The JSON lines that every worker writes: one envelope, one typed payload per event type.

A line is ``{"v":1,"bot_id":3,"run_id":"3.7","seq":17,"ts":1760000000123,"type":"order","data":{…}}``; `seq` starts at 1
in each run and has no gap. ``python -m shared.events`` prints the JSON Schema of every type. Readers ignore fields that
they do not know, so that a newer writer never breaks an older reader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from shared.json_lines import json_line
from shared.positions import Amount, Counters, Leg, Terms
from shared.states import BotState, OrderState, OrderType, PositionState, Role, Side

VERSION: Final = 1
MAX_LINE_BYTES: Final = 65_536


class Payload:
    """Base of every event's data; *type* is its name in the envelope."""

    __slots__ = ()
    type: ClassVar[str]


P = TypeVar("P", bound=type[Payload])
PAYLOADS: dict[str, type[Payload]] = {}


def _event(name: str) -> Any:
    def register(kind: P) -> P:
        kind.type = name
        PAYLOADS[name] = kind
        return kind

    return register


# --- what happens to orders and positions -------------------------------------------------------------------------


@_event("position")
@dataclass(slots=True, kw_only=True)
class Position(Payload):
    """The whole round trip as it stands: enough to go on guarding it after any crash.

    `position_key` is the decision candle's close time (market ms). `quantity` is what was bought after fees taken in
    base; `cost` is what that took in quote, fees in quote included. `pnl` is net of fees: sells − fees − cost of what
    was sold; what was too small to sell has moved to the dust account at `dust_cost`.
    """

    position_key: int
    symbol: str
    side: Side
    status: PositionState
    terms: Terms
    opened_ms: int
    config_version: int
    model_id: int | None = None
    confidence: float | None = None
    entry_logic: str = ""
    exit_logic: str = ""
    activated_ms: int | None = None
    closed_ms: int | None = None
    entry_deadline_ms: int | None = None
    exit_deadline_ms: int | None = None
    target_price: Amount | None = None
    stop_price: Amount | None = None
    exiting: str | None = None
    exit_reason: str | None = None
    target_watched: bool = False
    retry_at_ms: int | None = None
    exit_attempts: int = 0
    quantity: Amount = Decimal(0)
    sold_quantity: Amount = Decimal(0)
    entry_price: Amount | None = None
    exit_price: Amount | None = None
    cost: Amount = Decimal(0)
    proceeds: Amount = Decimal(0)
    fees: Amount = Decimal(0)
    dust_quantity: Amount = Decimal(0)
    dust_cost: Amount = Decimal(0)
    pnl: Amount | None = None
    pnl_pct: float | None = None
    legs: list[Leg] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Pending or active."""
        return self.status in (PositionState.PENDING, PositionState.ACTIVE)

    @property
    def held(self) -> Decimal:
        """Base quantity bought and not yet sold."""
        return self.quantity - self.sold_quantity


@_event("order.intent")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntent(Payload):
    """On disk before the order is sent. *price* is None for market orders."""

    client_order_id: str
    position_key: int
    symbol: str
    role: Role
    side: Side
    order_type: OrderType
    quantity: Amount
    price: Amount | None
    time_ms: int


@_event("order")
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChange(Payload):
    """An exchange order's state after a change; *reason* says why it was refused or cancelled."""

    client_order_id: str
    position_key: int
    symbol: str
    role: Role
    side: Side
    order_type: OrderType
    status: OrderState
    quantity: Amount
    price: Amount | None
    executed_quantity: Amount
    executed_quote: Amount
    exchange_order_id: int | None
    time_ms: int
    reason: str | None = None


@_event("fill")
@dataclass(frozen=True, slots=True, kw_only=True)
class FillBooked(Payload):
    """One execution. *fee* in *fee_asset*; *fee_quote* is its worth in quote, None while unknown."""

    trade_id: int
    order_id: int
    client_order_id: str
    position_key: int
    symbol: str
    role: Role
    side: Side
    price: Amount
    quantity: Amount
    fee: Amount
    fee_asset: str
    fee_quote: Amount | None
    is_maker: bool
    time_ms: int


@_event("signal")
@dataclass(frozen=True, slots=True, kw_only=True)
class SignalTaken(Payload):
    """A decision that leads to an action. *decision_ms* is the candle's close, *values* the inputs for people."""

    decision_ms: int
    action: str
    price: float
    score: float | None
    threshold: float | None
    values: dict[str, float]
    feature_digest: str | None = None


@_event("risk")
@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRefusal(Payload):
    """An entry that a limit or a guard held back, with the figures. Written when the reason changes."""

    code: str
    message: str
    time_ms: int


# --- life of a run ------------------------------------------------------------------------------------------------


@_event("started")
@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Payload):
    """First line of a run."""

    version: str
    pid: int
    strategy: str
    symbol: str
    exchange: str
    mode: str
    interval: str
    config_version: int
    model_sha256: str | None


@_event("snapshot")
@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Payload):
    """All that a bot must remember; opens every run and every rotated file.

    *commands_done* is the number of the last one-shot command that was carried out.
    """

    last_event_ms: int
    counters: Counters
    positions: list[Position]
    commands_done: int = 0


@_event("stats")
@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(Payload):
    """Running totals after an entry's first fill or a position's close."""

    counters: Counters


@_event("ready")
@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(Payload):
    """Config, model and balances are there and every order is reconciled; trading may begin."""

    reconciled_orders: int
    open_positions: int
    seconds: float


@_event("rotate")
@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate(Payload):
    """Last line of a journal file; *next* is the file name that goes on."""

    next: str


@_event("exit")
@dataclass(frozen=True, slots=True, kw_only=True)
class Exit(Payload):
    """Last line of a run."""

    code: int
    reason: str


@_event("status")
@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Payload):
    """The bot's state and, in words, why."""

    status: BotState
    reason: str | None = None


@_event("heartbeat")
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Payload):
    """Written each 5 s from the trading loop. Latencies in µs, lag in ms, memory in MiB, times in market ms."""

    last_candle_ms: int | None
    last_price: float | None
    loop_lag_ms: float
    latency_p50_us: float | None
    latency_p99_us: float | None
    decisions: int
    above_threshold: int
    blocked: dict[str, int]
    best_score: float | None
    last_decision_ms: int | None
    decision_digest: str
    open_orders: int
    positions: int
    unrealised_pnl: Amount
    rss_mib: float
    cpu_s: float
    config_version: int
    errors: dict[str, int]
    streams: dict[str, str]


@_event("config.applied")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigApplied(Payload):
    """The version now in force and the fields that changed."""

    version: int
    changed: list[str]


@_event("config.rejected")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRejected(Payload):
    """A version that the bot refused; the one before stays in force."""

    version: int
    message: str
    fields: dict[str, str]


@_event("command.done")
@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDone(Payload):
    """A one-shot command was carried out, and what came of it."""

    number: int
    result: str


@_event("halt")
@dataclass(frozen=True, slots=True, kw_only=True)
class HaltSeen(Payload):
    """The bot is halted, or no longer; again at each change. Confirmed once *waiting* and *unknown* are 0.

    *waiting* and *unknown* are entry orders still in the book, and with no answer yet; *without_stop* of *positions*.
    """

    halted: bool
    reason: str | None
    waiting: int
    unknown: int
    positions: int
    without_stop: int


@_event("balance")
@dataclass(frozen=True, slots=True, kw_only=True)
class Balance(Payload):
    """The account's two assets of the symbol, as the exchange states them."""

    base_asset: str
    base_free: Amount
    base_locked: Amount
    quote_asset: str
    quote_free: Amount
    quote_locked: Amount
    time_ms: int


@_event("error")
@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSeen(Payload):
    """Something failed and was handled; *correlation_id* finds it in the log."""

    kind: str
    message: str
    correlation_id: str


@_event("alert")
@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(Payload):
    """Something that a person must see."""

    kind: str
    message: str


@_event("log")
@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine(Payload):
    """A log line for people."""

    level: str
    message: str


@_event("progress")
@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Payload):
    """How far a job is: *done* of *total* in *step*."""

    step: str
    done: int
    total: int


@_event("result")
@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Payload):
    """What a job made."""

    data: dict[str, Any]


# --- on the wire --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What surrounds every payload. *ts* is the wall clock in UTC ms when the line was written."""

    bot_id: int
    run_id: str
    seq: int
    ts: int
    type: str
    data: dict[str, Any]
    v: int = VERSION


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def to_data(payload: Payload) -> dict[str, Any]:
    """The JSON form of *payload*: money as strings, states as values. A snapshot leaves out what is as by default."""
    kind: Any = type(payload)
    data: dict[str, Any] = _adapter(kind).dump_python(payload, mode="json", exclude_defaults=kind is Snapshot)
    return data


def from_data(type_: str, data: Mapping[str, Any]) -> Payload:
    """The payload of an event. Raises ``KeyError`` for an unknown type, ``pydantic.ValidationError`` for bad data."""
    kind: Any = PAYLOADS[type_]
    payload: Payload = _adapter(kind).validate_python(dict(data))
    return payload


def encode_line(*, bot_id: int, run_id: str, seq: int, ts: int, payload: Payload) -> bytes:
    """One line with its newline. Where it would be too long, long texts in it are cut: those are only for people."""
    head: dict[str, Any] = {"v": VERSION, "bot_id": bot_id, "run_id": run_id, "seq": seq, "ts": ts}
    head["type"] = payload.type
    kind: Any = type(payload)
    try:
        data = _adapter(kind).dump_json(payload, exclude_defaults=kind is Snapshot)
    except ValueError:  # broken characters, which the longer way replaces
        return json_line({**head, "data": to_data(payload)}, MAX_LINE_BYTES)
    line = json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"data":' + data + b"}\n"
    return line if len(line) <= MAX_LINE_BYTES else json_line({**head, "data": to_data(payload)}, MAX_LINE_BYTES)


def decode_line(line: bytes) -> Envelope:
    """The envelope of one line. Raises ``ValueError`` that says what is wrong with it."""
    try:
        document = json.loads(line)
        envelope: Envelope = _adapter(Envelope).validate_python(document)
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, e["loc"])) or "line" for e in error.errors())
        raise ValueError(f"not an event line: missing or wrong: {wrong}") from None
    except ValueError as error:
        raise ValueError(f"not an event line: {error}") from None
    return envelope


def json_schema() -> dict[str, Any]:
    """JSON Schema of the envelope and of every event type's data."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "envelope": _adapter(Envelope).json_schema(),
        "types": {name: _schema(kind) for name, kind in sorted(PAYLOADS.items())},
    }


def _schema(kind: Any) -> dict[str, Any]:
    return _adapter(kind).json_schema(mode="serialization")


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))

"""The states of bots, positions and orders, and the moves that are allowed between them, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class DesiredState(StrEnum):
    """What a person wants a bot to do; a row in the database, never a command."""

    STOPPED = "stopped"
    RUNNING = "running"
    PAUSED = "paused"


class RunKind(StrEnum):
    """Who started a run: the supervisor, or a person on its host (`MANUAL`) or on another one (`REMOTE`)."""

    SUPERVISED = "supervised"
    MANUAL = "manual"
    REMOTE = "remote"


class BotState(StrEnum):
    """What a bot is seen to do. `PAUSED` takes no entries but guards its positions."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    ERROR = "error"


class PositionState(StrEnum):
    """The round trip from entry to exit. `ACTIVE` from the first fill on; `CANCELLED` if nothing was ever filled."""

    PENDING = "pending"
    ACTIVE = "active"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class OrderState(StrEnum):
    """One order at the exchange. `INTENT` is journalled but not yet answered; `UNKNOWN` is being asked about."""

    INTENT = "intent"
    UNKNOWN = "unknown"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        """Nothing can happen to the order any more."""
        return self in FINAL_ORDER_STATES


FINAL_ORDER_STATES: Final = frozenset(
    {OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED}
)


class Side(StrEnum):
    """Direction of an order or of a position's entry."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """Order types in use, spelled as on Binance's wire."""

    LIMIT = "LIMIT"
    LIMIT_MAKER = "LIMIT_MAKER"
    MARKET = "MARKET"


class Role(StrEnum):
    """What an order is for within its position."""

    ENTRY = "entry"
    TARGET = "target"
    EXIT = "exit"

    @property
    def letter(self) -> str:
        """Its sign in client order ids."""
        return {Role.ENTRY: "e", Role.TARGET: "t", Role.EXIT: "x"}[self]


BOT_MOVES: Final[Mapping[BotState, frozenset[BotState]]] = {
    BotState.STOPPED: frozenset({BotState.STARTING, BotState.ERROR}),
    BotState.STARTING: frozenset(
        {BotState.RUNNING, BotState.PAUSED, BotState.STOPPING, BotState.STOPPED, BotState.ERROR}
    ),
    BotState.RUNNING: frozenset(
        {BotState.PAUSED, BotState.STARTING, BotState.STOPPING, BotState.STOPPED, BotState.ERROR}
    ),
    BotState.PAUSED: frozenset(
        {BotState.RUNNING, BotState.STARTING, BotState.STOPPING, BotState.STOPPED, BotState.ERROR}
    ),
    BotState.STOPPING: frozenset({BotState.STOPPED, BotState.STARTING, BotState.ERROR}),
    BotState.ERROR: frozenset({BotState.STARTING, BotState.STOPPED}),
}

POSITION_MOVES: Final[Mapping[PositionState, frozenset[PositionState]]] = {
    PositionState.PENDING: frozenset({PositionState.ACTIVE, PositionState.CANCELLED}),
    PositionState.ACTIVE: frozenset({PositionState.CLOSED}),
    PositionState.CLOSED: frozenset(),
    PositionState.CANCELLED: frozenset(),
}


def order_move_allowed(before: OrderState, after: OrderState) -> bool:
    """Whether an order seen in *before* can later be in *after*; a late or repeated report never moves it back."""
    rank = {
        OrderState.INTENT: 0,
        OrderState.UNKNOWN: 1,
        OrderState.NEW: 2,
        OrderState.PARTIALLY_FILLED: 3,
    }
    return not before.is_final and rank.get(after, 4) >= rank[before]

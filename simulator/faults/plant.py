"""What the exchange itself lets a fault do, and how each kind uses it.

``Plant`` is the whole surface between faults and the rest: symbols, limits, balances, the clock, the websockets.
Statuses, limits and balances are facts of the exchange, so they outlive the process; what a fault changed for a time
is put back by ``undo``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from simulator.core.rules import TRADING
from simulator.faults.kinds import (
    Balance,
    ClockSkew,
    Close,
    DayCut,
    Deafen,
    Disconnect,
    Fault,
    Filters,
    Halt,
    Hangup,
    Maintenance,
    ServerShutdown,
)
from simulator.faults.rules import BadFault

ATOM_DIGITS = 8
GOING_AWAY = 1001


class Plant(Protocol):
    """What a fault may touch. A ``ValueError`` carries a sentence for whoever asked."""

    def set_status(self, symbol: str, status: str) -> None:
        """TRADING, HALT, BREAK or CANCEL_ONLY."""

    def change_filters(self, symbol: str, changes: dict[str, str]) -> None:
        """New limits by name, such as ``{"tick_size": "0.1"}``."""

    def transfer(self, api_key: str, asset: str, atoms: int) -> None:
        """Add *atoms* (negative: take away) to what an account has free."""

    def set_skew(self, ms: int) -> None:
        """The API clock is *ms* ahead of the wall."""

    def deafen(self, api_key: str) -> None:
        """End the user streams of an account ("": of all) without telling."""

    def abort(self, which: Hangup) -> None:
        """Cut websocket connections."""

    def close(self, which: Hangup, code: int) -> None:
        """Close websocket connections cleanly."""

    def shut_down(self, grace_s: float) -> None:
        """Announce the end to all websockets, and close them *grace_s* later."""


def act(fault: Fault, plant: Plant) -> None:
    """Do what *fault* does to the exchange at once; raises `BadFault`."""
    try:
        match fault:
            case Halt():
                plant.set_status(fault.symbol, fault.status)
            case ClockSkew():
                plant.set_skew(fault.ms)
            case Maintenance():
                plant.close(Close(), GOING_AWAY)
            case Filters():
                _change_filters(fault, plant)
            case Balance():
                plant.transfer(fault.api_key, fault.asset, int(Decimal(fault.amount).scaleb(ATOM_DIGITS)))
            case Deafen():
                plant.deafen(fault.api_key)
            case Disconnect():
                plant.abort(fault)
            case Close():
                plant.close(fault, fault.code)
            case DayCut():
                plant.close(Close(), GOING_AWAY)
            case ServerShutdown():
                plant.shut_down(fault.grace)
    except ValueError as error:
        raise BadFault(str(error)) from None


def undo(fault: Fault, plant: Plant) -> None:
    """Put back what *fault* held."""
    match fault:
        case Halt():
            plant.set_status(fault.symbol, TRADING)
        case ClockSkew():
            plant.set_skew(0)


def _change_filters(fault: Filters, plant: Plant) -> None:
    changes = fault.changes()
    if not changes:
        raise BadFault("filters names no limit to change: give one or more, such as min_notional.")
    plant.change_filters(fault.symbol, changes)

"""What is asked of the exchange, what happened there, and what became of each order and order list.

Pure data. *Facts* are the exchange's memory: written down in order, they make the whole state again. New fields of a
fact come last and have defaults, so that a log written by an earlier version still reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

OPEN_STATES = frozenset({"NEW", "PARTIALLY_FILLED"})
STOP_TYPES = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"})
NO_LIST = -1


class AccountOpened(NamedTuple):
    """A customer with first deposits in atoms. Fees of -1 are the symbol's own."""

    api_key: str
    api_secret: str
    name: str
    uid: int
    time_ms: int
    deposits: dict[str, int]
    key_kind: str = "HMAC"
    can_trade: bool = True
    maker_ppm: int = -1
    taker_ppm: int = -1
    pays_in_bnb: bool = False


class Transferred(NamedTuple):
    """A free balance was changed from outside by *atoms*, signed."""

    api_key: str
    asset: str
    atoms: int
    time_ms: int


class SymbolChanged(NamedTuple):
    """A symbol's status, or its filters (name → text as in ``filters.CHANGEABLE``), are others from now on."""

    symbol: str
    status: str
    filters: dict[str, str]
    time_ms: int


class OrderPlaced(NamedTuple):
    """An accepted order. *price* 0: at market; *stop* above 0: waits for that price. *locked* atoms of the asset it
    pays with are set aside; of an order list, by the list. *ahead* lots of the crowd were at its price first."""

    order_id: int
    api_key: str
    symbol: str
    client_id: str
    side: str
    type: str
    tif: str
    price: int
    qty: int
    quote_qty: int
    stp: str
    locked: int
    time_ms: int
    stop: int = 0
    list_id: int = NO_LIST
    ahead: int = 0


class ListOpened(NamedTuple):
    """An order list; its orders follow. *locked* is what the dearest of them needs."""

    list_id: int
    api_key: str
    symbol: str
    side: str
    client_id: str
    contingency: str
    order_ids: list[int]
    locked: int
    time_ms: int


class Triggered(NamedTuple):
    """A waiting order's stop price was reached: it is worked now, with *locked* atoms set aside."""

    order_id: int
    ahead: int
    locked: int
    time_ms: int


class Queued(NamedTuple):
    """Market volume moved a resting order up in its queue: *ahead* lots are left before it."""

    order_id: int
    ahead: int
    time_ms: int


class Filled(NamedTuple):
    """One execution: *qty* lots at *price* ticks, *fee* atoms of *fee_asset* (empty: the asset received). *against* is
    the other customer's order, which has a fill with the same trade id, or 0: the market."""

    trade_id: int
    order_id: int
    price: int
    qty: int
    fee: int
    is_maker: bool
    time_ms: int
    fee_asset: str = ""
    against: int = 0


class Prevented(NamedTuple):
    """Self-trade prevention took *qty* lots off an order that would have met *against* of the same account, where
    *met* lots would have been exchanged. *is_end*: the order ends with it, as the next fact about it says."""

    match_id: int
    order_id: int
    against: int
    qty: int
    price: int
    time_ms: int
    met: int = 0
    is_maker: bool = False
    is_end: bool = False


class Ended(NamedTuple):
    """An order ends with its rest unfilled: CANCELED, EXPIRED or EXPIRED_IN_MATCH. *cancel_id* names the cancel
    request, *reason* why it expired."""

    order_id: int
    status: str
    cancel_id: str
    time_ms: int
    reason: str = ""


OrderFact = OrderPlaced | Triggered | Queued | Filled | Prevented | Ended
Fact = AccountOpened | Transferred | SymbolChanged | ListOpened | OrderFact


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An order as a customer asks for it, in atoms; ``None`` is 'not sent'."""

    api_key: str
    symbol: str
    side: str
    type: str
    tif: str
    qty: int | None
    quote_qty: int | None
    price: int | None
    client_id: str
    stp: str
    stop: int | None = None


@dataclass(slots=True)
class Order:
    """An order and what has become of it. Prices in ticks, quantities in lots, money in atoms of quote."""

    placed: OrderPlaced
    status: str = "NEW"
    filled: int = 0
    spent: int = 0
    prevented: int = 0
    locked: int = 0
    updated_ms: int = 0
    triggered_ms: int = 0
    is_resting: bool = False
    ended: Ended | None = None
    fills: list[Filled] = field(default_factory=list)
    preventions: list[tuple[int, Prevented]] = field(default_factory=list)  # each with the number of fills before it

    @property
    def is_open(self) -> bool:
        """Not ended."""
        return self.status in OPEN_STATES

    @property
    def is_waiting(self) -> bool:
        """Open, and its stop price not reached yet."""
        return bool(self.placed.stop) and not self.triggered_ms and self.status in OPEN_STATES

    @property
    def left(self) -> int:
        """Lots neither filled nor prevented."""
        return self.placed.qty - self.filled - self.prevented

    @property
    def working_ms(self) -> int:
        """When it reached the book; -1: not yet."""
        if self.placed.stop:
            return self.triggered_ms or -1
        return self.placed.time_ms


@dataclass(slots=True)
class OrderList:
    """An order list. It is done when none of its orders is open."""

    opened: ListOpened
    locked: int
    is_done: bool = False
    updated_ms: int = 0

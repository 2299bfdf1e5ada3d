"""What goes into `Trader.step` beside candles, and the commands that come out; facts come out as event payloads.

Times are market time in UTC ms. An exchange adapter answers each `PlaceOrder` with exactly one firm outcome
(`OrderReport`, `OrderRefused` or `OrderAbsent`), however long it has to ask; `OrderUnknown` may come before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from shared.config import TradingConfig
from shared.states import DesiredState, OrderState, OrderType, Side


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed without a candle."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class PriceSeen:
    """The last price by REST, while the stream is silent: guards positions, decides nothing."""

    time_ms: int
    price: float


@dataclass(frozen=True, slots=True)
class Quote:
    """The best bid and ask, as last seen."""

    bid: float
    ask: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution as the exchange states it; *fee* in *fee_asset*."""

    trade_id: int
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    is_maker: bool
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """The state of an order at the exchange; *executions* may repeat known ones or be incomplete."""

    client_order_id: str
    exchange_order_id: int
    status: OrderState
    executed_quantity: Decimal
    executed_quote: Decimal
    time_ms: int
    executions: tuple[Execution, ...] = ()
    reason: str | None = None


class Refusal(StrEnum):
    """Why an order was definitely not taken."""

    POST_ONLY = "post_only"
    BALANCE = "insufficient_balance"
    FILTER = "filter"
    NO_SUCH_ORDER = "no_such_order"
    OTHER = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefused:
    """The exchange said no; nothing happened."""

    client_order_id: str
    kind: Refusal
    message: str


@dataclass(frozen=True, slots=True)
class OrderAbsent:
    """Asked until it was certain: the order never reached the exchange."""

    client_order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderUnknown:
    """Sent, and no answer: the adapter is asking."""

    client_order_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSeen:
    """Free and locked amounts of the symbol's two assets, absolute."""

    base_free: Decimal
    base_locked: Decimal
    quote_free: Decimal
    quote_locked: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged:
    """A new, already checked config."""

    version: int
    config: TradingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlChanged:
    """What people want now. *close_positions* comes with a halt: hold nothing while it lasts."""

    desired: DesiredState
    halted: bool = False
    halt_reason: str | None = None
    close_positions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandGiven:
    """A one-shot command; it may be given again, and is carried out once."""

    number: int
    verb: str
    position_key: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Something in the shell holds entries back (*reason*), or no longer does (None). One reason per *source*."""

    source: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """Send this order; its intent has been written before."""

    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderType
    quantity: Decimal
    price: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """Cancel, and answer with an `OrderReport` of how the order ended."""

    client_order_id: str
    symbol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOrder:
    """Ask for the order and all its executions."""

    client_order_id: str
    symbol: str


Command = PlaceOrder | CancelOrder | QueryOrder

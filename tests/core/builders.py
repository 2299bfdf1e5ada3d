"""A trader at its desk: candles and the exchange's answers go in by hand, what it wrote and ordered is kept.

One second lasts 1000 ms; second 0 is noon. BASE is bought with QUOTE at prices around 100: tick 0.01, lot 0.001, least
order 5 QUOTE. Fees are 0.1 % of what is received, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bots.core.candles import Candle, Window
from bots.core.memory import recall
from bots.core.messages import (
    AccountSeen,
    CancelOrder,
    ControlChanged,
    Execution,
    OrderRefused,
    OrderReport,
    PlaceOrder,
    QueryOrder,
    Refusal,
    Tick,
)
from bots.core.strategy import Action, Decision
from bots.core.trader import Event, Trader
from shared.config import TradingConfig, parse_config
from shared.events import Alert, Payload, Position, Snapshot, decode_line, encode_line, from_data
from shared.positions import Counters, Leg
from shared.states import DesiredState, OrderState, OrderType, Side
from shared.symbols import SymbolRules

NOON_MS = 1_700_049_600_000
ENTER = Decision(Action.ENTER, score=0.7, threshold=0.4)
EXIT = Decision(Action.EXIT, score=0.1, threshold=0.4)
RULES = SymbolRules(
    symbol="BASEQUOTE",
    base="BASE",
    quote="QUOTE",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.001"),
    min_quantity=Decimal("0.001"),
    max_quantity=Decimal(1000),
    min_notional=Decimal(5),
)
PLAIN = {
    "capital_per_trade": "100",
    "max_positions": 2,
    "entry_price": "close",
    "profit_target_pct": 0.01,
    "stop_loss_pct": 0.02,
    "holding_time": 600,
    "maker_order_timeout": 60,
}


def d(text: str | int) -> Decimal:
    return Decimal(text)


def at(second: float) -> int:
    """Market time *second* seconds after noon."""
    return NOON_MS + round(second * 1000)


def a_config(**changes: Any) -> TradingConfig:
    return parse_config(TradingConfig, PLAIN | changes)


def a_candle(
    second: int, close: float = 100.0, *, low: float | None = None, high: float | None = None, backfilled: bool = False
) -> Candle:
    """The candle that closes at *second*."""
    low, high = min(close, low or close), max(close, high or close)
    return Candle(at(second - 1), 1000, close, high, low, close, 1.0, close, 1, 0.5, close / 2, backfilled)


@dataclass
class Scripted:
    """A strategy that decides what it is told to."""

    next: Decision | None = None
    bars_needed: int = 0
    values: dict[str, float] = field(default_factory=lambda: {"close": 1.0})
    seen: list[int] = field(default_factory=list)

    def on_candle(self, bar: Candle, window: Window, config: Any) -> Decision | None:
        self.seen.append(bar.end_ms)
        decision, self.next = self.next, None
        return decision

    def entry_logic(self, config: Any) -> str:
        return "scripted"

    def explain(self) -> tuple[dict[str, float], str | None]:
        return self.values, None


def through_a_file(payloads: Iterable[Payload]) -> list[Payload]:
    """*payloads* as they come back from the journal."""
    lines = [encode_line(bot_id=3, run_id="3.1", seq=n, ts=0, payload=p) for n, p in enumerate(payloads, 1)]
    envelopes = [decode_line(line) for line in lines]
    return [from_data(e.type, e.data) for e in envelopes]


@dataclass
class Desk:
    """One trader and everything that it said."""

    config: TradingConfig = field(default_factory=a_config)
    rules: SymbolRules = RULES
    memory: Snapshot | None = None
    running: bool = True
    interval: str = "1s"

    def __post_init__(self) -> None:
        self.strategy = Scripted()
        self.journal: list[Payload] = []
        self.orders: list[PlaceOrder] = []
        self.cancels: list[CancelOrder] = []
        self.questions: list[QueryOrder] = []
        self.second = 0
        self._trades = 0
        self.start(self.memory)

    def start(self, memory: Snapshot | None) -> None:
        self.trader = Trader(
            id_prefix="fabc-3",
            rules=self.rules,
            interval=self.interval,
            strategy=self.strategy,
            config=self.config,
            config_version=1,
            memory=memory,
        )
        first = memory or Snapshot(last_event_ms=0, counters=Counters(), positions=[])
        self.journal += through_a_file([first])
        if self.running:
            self.feed(ControlChanged(desired=DesiredState.RUNNING))

    def die_and_return(self) -> Desk:
        """Kill the trader; a new one remembers what the journal says."""
        self.start(recall(through_a_file(self.journal)))
        return self

    # --- what goes in ----------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> list[Any]:
        outputs = self.trader.step(event)
        facts = [o for o in outputs if isinstance(o, Payload)]
        assert outputs[: len(facts)] == facts, "facts come before commands"
        self.journal += through_a_file(facts)
        for command in outputs[len(facts) :]:
            kept = {PlaceOrder: self.orders, CancelOrder: self.cancels, QueryOrder: self.questions}[type(command)]
            kept.append(command)
        return outputs

    def candle(self, close: float = 100.0, *, decide: Decision | None = None, **shape: Any) -> list[Any]:
        """The next second's candle."""
        self.second += 1
        self.strategy.next = decide
        return self.feed(a_candle(self.second, close, **shape))

    def candles(self, count: int, close: float = 100.0) -> None:
        for _ in range(count):
            self.candle(close)

    def tick(self, second: float) -> list[Any]:
        return self.feed(Tick(at(second)))

    def report(
        self,
        status: str,
        *fills: tuple[str, str],
        order: PlaceOrder | None = None,
        executed: str | None = None,
        fee: str | None = None,
        fee_asset: str | None = None,
        second: float | None = None,
        told: bool = True,
    ) -> OrderReport:
        """A report on *order* (the last one) with new *fills* (price, quantity); executed sums up all of them."""
        order = order or self.orders[-1]
        when = at(self.second if second is None else second)
        executions = tuple(self._execution(order, *fill, fee, fee_asset, when) for fill in fills)
        leg = self.leg(order)
        already = leg.booked_quantity if leg else Decimal(0)
        new = sum((e.quantity for e in executions), Decimal(0))
        return OrderReport(
            client_order_id=order.client_order_id,
            exchange_order_id=1000 + self.orders.index(order),
            status=OrderState(status),
            executed_quantity=Decimal(executed) if executed else already + new,
            executed_quote=sum((e.price * e.quantity for e in executions), leg.booked_quote if leg else Decimal(0)),
            time_ms=when,
            executions=executions if told else (),
        )

    def answer(self, status: str, *fills: tuple[str, str], **more: Any) -> list[Any]:
        """Let the exchange report on the last order; see `report`."""
        return self.feed(self.report(status, *fills, **more))

    def refuse(self, kind: Refusal, message: str = "no", order: PlaceOrder | None = None) -> list[Any]:
        order = order or self.orders[-1]
        return self.feed(OrderRefused(client_order_id=order.client_order_id, kind=kind, message=message))

    def sees_account(self, *, base: str = "0", quote: str = "1000") -> None:
        self.feed(AccountSeen(base_free=d(base), base_locked=d(0), quote_free=d(quote), quote_locked=d(0)))

    # --- short cuts to where a test begins -------------------------------------------------------------------------

    def enters(self, close: float = 100.0) -> PlaceOrder:
        """A candle on which the strategy enters; the entry order."""
        before = len(self.orders)
        self.candle(close, decide=ENTER)
        assert len(self.orders) == before + 1, self.facts_of("risk")
        return self.orders[-1]

    def holds(self, *, price: str = "100", quantity: str = "1", fee: str = "0") -> Position:
        """An entry, filled in full; a resting target, if the config wants one, is in the book."""
        self.enters(float(price))
        self.answer("filled", (price, quantity), fee=fee)
        if self.orders[-1].side is Side.SELL:
            self.answer("new")
        return self.position

    # --- what came out ---------------------------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        """The newest position as last written."""
        positions: list[Position] = self.facts_of("position")
        return positions[-1]

    def leg(self, order: PlaceOrder) -> Leg | None:
        found = self.trader.orders._orders.find(order.client_order_id)
        return found[1] if found else None

    def facts_of(self, type_: str) -> list[Any]:
        return [fact for fact in self.journal if fact.type == type_]

    @property
    def alerts(self) -> list[str]:
        return [fact.kind for fact in self.journal if isinstance(fact, Alert)]

    @property
    def counters(self) -> Counters:
        return self.trader.orders.counters

    def _execution(
        self, order: PlaceOrder, price: str, quantity: str, fee: str | None, fee_asset: str | None, when: int
    ) -> Execution:
        self._trades += 1
        buys = order.side is Side.BUY
        received = d(quantity) if buys else d(price) * d(quantity)
        return Execution(
            trade_id=self._trades,
            price=d(price),
            quantity=d(quantity),
            fee=received / 1000 if fee is None else d(fee),
            fee_asset=fee_asset or (self.rules.base if buys else self.rules.quote),
            is_maker=order.order_type is not OrderType.MARKET,
            time_ms=when,
        )

"""Guard positions from entry to exit: pending → active → closed or cancelled.

Level-triggered: after anything that happens to a position, `_advance` looks at where it stands and does the one next
thing. So a position restored after a crash goes on from the same place, by the same code. Nothing here knows
strategies; times are market time in ms, and deadlines are absolute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from bots.core import accounting
from bots.core.messages import OrderAbsent, OrderRefused, OrderReport, OrderUnknown, QueryOrder, Refusal
from bots.core.open_orders import OpenOrders
from bots.core.open_orders import Output as Output
from shared.events import Alert, Payload, Position, Stats
from shared.positions import Counters, Leg, Terms
from shared.states import OrderState, OrderType, PositionState, Role, Side
from shared.symbols import SymbolRules
from shared.units import ZERO, exact, plain

LONGEST_EXIT_RETRY_S: Final = 60
LONGEST_ENTRY_PAUSE_S: Final = 300
GIVE_UP_MISSING_AFTER: Final = 6
"""After so many tries, with the back-off about a minute, one last order asks whether missing coins are truly gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry that has passed all checks. *price* is None for a market order."""

    quantity: Decimal
    order_type: OrderType
    price: Decimal | None
    terms: Terms
    config_version: int
    model_id: int | None
    confidence: float | None
    entry_logic: str
    exit_logic: str


class OrderManager:
    """The open positions of one bot. Outputs of a step gather until `flush`."""

    def __init__(
        self, *, id_prefix: str, rules: SymbolRules, positions: Iterable[Position], counters: Counters
    ) -> None:
        self.rules = rules
        self.counters = counters
        self.positions: dict[int, Position] = {p.position_key: p for p in positions}
        self.entries_allowed = False
        self.base_free: Decimal | None = None
        self.entry_pause_until_ms = 0
        self._close: float | None = None
        self._entry_refusals = 0
        self._counted = False
        self._orders = OpenOrders(id_prefix, rules, self.positions.values())

    @property
    def price(self) -> Decimal | None:
        """The last price; None before the first."""
        return None if self._close is None else exact(self._close)

    # --- asked by the trader ---------------------------------------------------------------------------------------

    def enter(self, now_ms: int, entry: Entry) -> None:
        """Open a position decided at *now_ms*; one per decision time."""
        position = Position(
            position_key=now_ms,
            symbol=self.rules.symbol,
            side=Side.BUY,
            status=PositionState.PENDING,
            terms=entry.terms,
            opened_ms=now_ms,
            config_version=entry.config_version,
            model_id=entry.model_id,
            confidence=entry.confidence,
            entry_logic=entry.entry_logic,
            exit_logic=entry.exit_logic,
            entry_deadline_ms=now_ms + entry.terms.maker_order_timeout * 1000,
        )
        self.positions[now_ms] = position
        self._orders.place(position, Role.ENTRY, entry.order_type, entry.quantity, entry.price, now_ms)

    def on_market(self, now_ms: int, low: float, close: float, is_live: bool = True) -> None:
        """Look at stops, watched targets and deadlines after a closed one-second candle."""
        self._close = close
        if not self.positions:
            return
        exact_low, exact_close = exact(low), exact(close)
        for position in list(self.positions.values()):
            if position.exiting is None:
                self._look_at_price(position, now_ms, exact_low, exact_close, is_live)
            if position.exiting is None:
                self._look_at_clock(position, now_ms)
            self._advance(position, now_ms)

    def on_time(self, now_ms: int) -> None:
        """Look at deadlines while the stream is silent."""
        for position in list(self.positions.values()):
            if position.exiting is None:
                self._look_at_clock(position, now_ms)
            self._advance(position, now_ms)

    def exit(self, position: Position, reason: str, now_ms: int) -> None:
        """Sell *position* at market, whatever rests of it; a pending one is withdrawn."""
        if position.exiting is None:
            self._exit(position, reason)
        self._advance(position, now_ms)

    def withdraw_entry(self, position: Position, reason: str, now_ms: int) -> None:
        """Cancel what is still unfilled of the entry; what is held stays guarded."""
        entry = _last(position, Role.ENTRY)
        if entry.is_settled or entry.reason is not None:
            return
        entry.reason = reason
        position.entry_deadline_ms = min(position.entry_deadline_ms or now_ms, now_ms)
        position.terms.on_entry_timeout = "cancel"
        self._orders.touch(position)
        self._advance(position, now_ms)

    def forget(self, position: Position, now_ms: int) -> None:
        """Let go of *position* as it stands: nobody can know any more what became of it, so it has no PNL."""
        text = (
            f"Position {position.position_key} was forgotten by hand: {plain(position.held)} {self.rules.base} of it "
            "are no longer guarded, and it counts in no PNL. Look at the account and its orders."
        )
        self.tell(Alert(kind="position_forgotten", message=text))
        position.exiting = position.exit_reason = "forgotten"
        position.closed_ms = now_ms
        self._finish(position, PositionState.CLOSED if position.quantity else PositionState.CANCELLED)

    def unsettled(self) -> list[QueryOrder]:
        """A question for each order whose end is not known, for reconciling with the exchange."""
        return [
            QueryOrder(client_order_id=leg.client_order_id, symbol=position.symbol)
            for position in self.positions.values()
            for leg in position.legs
            if not leg.is_settled
        ]

    def knows(self, client_order_id: str) -> bool:
        """Whether the order belongs to an open position."""
        return self._orders.find(client_order_id) is not None

    @property
    def open_orders(self) -> int:
        """Orders that are not final yet."""
        return sum(not leg.status.is_final for p in self.positions.values() for leg in p.legs)

    @property
    def unanswered(self) -> int:
        """Orders that were sent, or are about to be, and have no answer yet."""
        waiting = (OrderState.INTENT, OrderState.UNKNOWN)
        return sum(leg.status in waiting for p in self.positions.values() for leg in p.legs)

    @property
    def pending(self) -> int:
        """Positions without a fill yet."""
        return sum(p.status is PositionState.PENDING for p in self.positions.values())

    def unrealised(self) -> Decimal:
        """Open profit or loss at the last price, in quote; 0 before the first candle."""
        price = self.price
        if price is None:
            return ZERO
        return sum((accounting.unrealised(p, price) for p in self.positions.values()), ZERO)

    def tell(self, fact: Payload) -> None:
        """Add *fact* to the outputs of this step."""
        self._orders.tell(fact)

    def flush(self, last: Sequence[Payload] = ()) -> list[Output]:
        """The outputs of this step; each position that changed follows as its whole document, then *last*."""
        stats = [Stats(counters=replace(self.counters))] if self._counted else []
        self._counted = False
        return self._orders.flush([*stats, *last])

    # --- told by the exchange --------------------------------------------------------------------------------------

    def on_report(self, report: OrderReport, now_ms: int) -> None:
        """Take an order's state and executions; repeated, late and out-of-order reports change nothing."""
        taken = self._orders.take(report)
        if taken is None:
            return
        position, leg, has_settled = taken
        if leg.role is Role.ENTRY:
            self._entry_refusals = 0
            if position.quantity:
                self._arm(position)
        if has_settled and leg.status is not OrderState.FILLED:
            if leg.role is Role.TARGET:
                self._watch_lost_target(position, leg)
            elif leg.role is Role.EXIT:
                self._retry_exit_later(position, now_ms)
        self._advance(position, now_ms)

    def on_refused(self, refused: OrderRefused, now_ms: int) -> None:
        """The exchange took nothing."""
        self._never_placed(refused.client_order_id, str(refused.kind), refused.message, now_ms)

    def on_absent(self, absent: OrderAbsent, now_ms: int) -> None:
        """The order is known never to have arrived."""
        self._never_placed(absent.client_order_id, "not_placed", "the order never reached the exchange", now_ms)

    def on_unknown(self, unknown: OrderUnknown) -> None:
        """No answer yet; the outcome will follow."""
        self._orders.unanswered(unknown.client_order_id, unknown.reason)

    # --- when to leave ---------------------------------------------------------------------------------------------

    def _look_at_price(self, position: Position, now_ms: int, low: Decimal, close: Decimal, is_live: bool) -> None:
        """A candle that ended before the first fill says nothing about the position: history comes after a restart."""
        if position.activated_ms is None or now_ms <= position.activated_ms:
            return
        if position.stop_price is not None and low <= position.stop_price:
            self._exit(position, "stop_loss")
        elif is_live and position.target_price is not None and close >= position.target_price:
            if position.terms.take_profit_order == "watched" or position.target_watched:
                self._exit(position, "take_profit")
            else:
                self.withdraw_entry(position, "target_reached", now_ms)

    def _look_at_clock(self, position: Position, now_ms: int) -> None:
        if _is_due(position.exit_deadline_ms, now_ms):
            self._exit(position, "holding_time")

    def _exit(self, position: Position, reason: str) -> None:
        position.exiting = reason
        self._orders.touch(position)

    def _arm(self, position: Position) -> None:
        """Set stop, target and deadline from the mean entry price; the deadline counts from the first fill."""
        terms, price = position.terms, accounting.mean_price(position, Side.BUY)
        assert price is not None
        assert position.activated_ms is not None
        if position.status is PositionState.PENDING:
            accounting.count_entry(self.counters, position.activated_ms)
            self._counted = True
        position.status = PositionState.ACTIVE
        if terms.holding_time is not None:
            position.exit_deadline_ms = position.activated_ms + terms.holding_time * 1000
        if terms.stop_loss_pct is not None:
            position.stop_price = self.rules.round_price_down(price * (1 - terms.stop_loss_pct))
        if terms.profit_target_pct is not None:
            position.target_price = self.rules.round_price_up(price * (1 + terms.profit_target_pct))

    # --- the one next thing ----------------------------------------------------------------------------------------

    def _advance(self, position: Position, now_ms: int) -> None:
        if not position.is_open:
            return
        entry = _last(position, Role.ENTRY)
        if not entry.is_settled:
            if position.exiting is not None or _is_due(position.entry_deadline_ms, now_ms):
                self._orders.cancel(position, entry, position.exiting or "entry_timeout", now_ms)
        elif position.quantity == ZERO:
            self._after_empty_entry(position, entry, now_ms)
        elif self._wants_target(position):
            quantity = self.rules.round_quantity(position.held)
            self._orders.place(position, Role.TARGET, OrderType.LIMIT, quantity, position.target_price, now_ms)
        else:
            self._sell_rest(position, now_ms)

    def _after_empty_entry(self, position: Position, entry: Leg, now_ms: int) -> None:
        timed_out = entry.status is OrderState.CANCELLED and _is_due(position.entry_deadline_ms, now_ms)
        if timed_out and position.terms.on_entry_timeout == "market" and position.exiting is None:
            quantity = self._late_quantity(entry)
            if quantity:
                position.entry_deadline_ms = now_ms + position.terms.maker_order_timeout * 1000
                self._orders.place(position, Role.ENTRY, OrderType.MARKET, quantity, None, now_ms)
                return
        position.exit_reason = position.exiting or entry.reason or entry.status.value
        position.closed_ms = now_ms
        self._finish(position, PositionState.CANCELLED)

    def _late_quantity(self, entry: Leg) -> Decimal:
        """What to buy at market after a limit entry timed out: for no more money than that; 0 while it may not be."""
        price = self.price
        if entry.price is None or price is None or not self.entries_allowed:
            return ZERO
        affordable = min(entry.quantity, entry.quantity * entry.price / price)
        quantity = self.rules.round_quantity(min(affordable, self.rules.max_market_quantity))
        return quantity if self.rules.is_tradable(quantity, price) else ZERO

    def _wants_target(self, position: Position) -> bool:
        return (
            position.exiting is None
            and position.target_price is not None
            and position.terms.take_profit_order == "resting"
            and not position.target_watched
            and not any(leg.role is Role.TARGET for leg in position.legs)
            and self.rules.is_tradable(self.rules.round_quantity(position.held), position.target_price)
        )

    def _sell_rest(self, position: Position, now_ms: int) -> None:
        waiting = [leg for leg in position.legs if leg.side is Side.SELL and not leg.is_settled]
        if waiting:
            if position.exiting is not None and waiting[-1].role is Role.TARGET:
                self._orders.cancel(position, waiting[-1], position.exiting, now_ms)
            return
        price = self.price if position.exiting is not None else position.entry_price
        price = price if price is not None else position.entry_price
        assert price is not None
        if not self.rules.is_tradable(self.rules.round_quantity(position.held), price):
            self._close_position(position, now_ms)
        elif position.exiting is not None and _is_due(position.retry_at_ms or 0, now_ms):
            self._sell_at_market(position, price, now_ms)

    def _sell_at_market(self, position: Position, price: Decimal, now_ms: int) -> None:
        quantity = self.rules.round_quantity(min(position.held, self.rules.max_market_quantity))
        if self._was_refused_for_balance(position) and self.base_free is not None:
            there = min(quantity, self.rules.round_quantity(self.base_free))
            if self.rules.is_tradable(there, price):
                quantity = there
            elif position.exit_attempts < GIVE_UP_MISSING_AFTER:
                self._retry_exit_later(position, now_ms)
                return
            elif position.exit_attempts > GIVE_UP_MISSING_AFTER:
                self._close_missing(position, now_ms)
                return
        self._orders.place(position, Role.EXIT, OrderType.MARKET, quantity, None, now_ms)

    def _was_refused_for_balance(self, position: Position) -> bool:
        exits = [leg for leg in position.legs if leg.role is Role.EXIT]
        return bool(exits) and exits[-1].reason == Refusal.BALANCE

    def _close_missing(self, position: Position, now_ms: int) -> None:
        """Someone else has taken the coins: never sell others in their place."""
        text = (
            f"{plain(position.held)} {self.rules.base} of position {position.position_key} are no longer in the "
            f"account ({plain(self.base_free or ZERO)} are free). The position is closed; its PNL counts only what the "
            "bot sold itself."
        )
        self.tell(Alert(kind="position_missing", message=text))
        position.exiting = "external"
        self._close_position(position, now_ms)

    def _close_position(self, position: Position, now_ms: int) -> None:
        sells = [leg for leg in position.legs if leg.side is Side.SELL and leg.booked_quantity]
        position.closed_ms = max((leg.updated_ms for leg in sells), default=now_ms)
        by_target = bool(sells) and sells[-1].role is Role.TARGET and position.exiting != "external"
        position.exit_reason = "take_profit" if by_target else position.exiting or "too_small_to_sell"
        accounting.settle(position)
        accounting.count(self.counters, position)
        self._counted = True
        if position.dust_quantity >= self.rules.lot_size and position.exiting != "external":
            text = (
                f"{plain(position.dust_quantity)} {self.rules.base} of position {position.position_key} are worth less "
                f"than the exchange's minimum order of {plain(self.rules.min_notional)} {self.rules.quote}, so they "
                "were not sold and now count as dust."
            )
            self.tell(Alert(kind="too_small_to_sell", message=text))
        self._finish(position, PositionState.CLOSED)

    def _finish(self, position: Position, state: PositionState) -> None:
        position.status = state
        del self.positions[position.position_key]
        self._orders.forget(position)

    # --- what went wrong -------------------------------------------------------------------------------------------

    def _never_placed(self, client_order_id: str, reason: str, message: str, now_ms: int) -> None:
        rejected = self._orders.reject(client_order_id, reason)
        if rejected is None:
            return
        position, leg = rejected
        if leg.role is Role.TARGET:
            position.target_watched = True
        elif leg.role is Role.EXIT:
            self._retry_exit_later(position, now_ms)
        elif reason != Refusal.POST_ONLY:
            self._pause_entries(now_ms)
        if reason != Refusal.POST_ONLY and (leg.role is not Role.EXIT or _is_power_of_two(position.exit_attempts)):
            text = f"Order {client_order_id} ({leg.role} {leg.side} {plain(leg.quantity)}) was not placed: {message}"
            self.tell(Alert(kind=f"order_{reason}", message=text))
        self._advance(position, now_ms)

    def _retry_exit_later(self, position: Position, now_ms: int) -> None:
        position.exit_attempts += 1
        delay_s = min(2 ** min(position.exit_attempts - 1, 10), LONGEST_EXIT_RETRY_S)
        position.retry_at_ms = now_ms + delay_s * 1000
        self._orders.touch(position)

    def _pause_entries(self, now_ms: int) -> None:
        """What the exchange has just refused it will refuse again: ask more and more rarely."""
        self._entry_refusals += 1
        pause_s = min(2 ** min(self._entry_refusals, 10), LONGEST_ENTRY_PAUSE_S)
        self.entry_pause_until_ms = now_ms + pause_s * 1000

    def _watch_lost_target(self, position: Position, leg: Leg) -> None:
        if position.exiting is not None or position.target_watched:
            return
        position.target_watched = True
        text = f"Target order {leg.client_order_id} was {leg.status} by someone else; the bot now watches the price."
        self.tell(Alert(kind="target_lost", message=text))


def _last(position: Position, role: Role) -> Leg:
    return [leg for leg in position.legs if leg.role is role][-1]


def _is_due(deadline_ms: int | None, now_ms: int) -> bool:
    return deadline_ms is not None and now_ms >= deadline_ms


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0

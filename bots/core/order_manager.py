"""Guard positions from entry to exit: pending → active → closed or cancelled.

Level-triggered: after anything that happens to a position, `_advance` looks at where it stands and does the one next
thing. So a position restored after a crash goes on from the same place, by the same code. Nothing here knows
strategies; times are market time in ms, and deadlines are absolute.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bots.core import accounting
from bots.core.messages import (
    CancelOrder,
    Command,
    Execution,
    OrderAbsent,
    OrderRefused,
    OrderReport,
    OrderUnknown,
    PlaceOrder,
    QueryOrder,
    Refusal,
)
from shared.events import Alert, Counters, FillBooked, Leg, OrderChange, OrderIntent, Payload, Position, Stats, Terms
from shared.states import OrderState, OrderType, PositionState, Role, Side, order_move_allowed
from shared.symbols import SymbolRules
from shared.units import ZERO, exact, plain

RECANCEL_MS: Final = 10_000
LONGEST_EXIT_RETRY_S: Final = 60

Output = Command | Payload


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
    """The open positions of one bot. Outputs of a step gather in `out` until `flush`."""

    def __init__(
        self, *, id_prefix: str, rules: SymbolRules, positions: Iterable[Position], counters: Counters
    ) -> None:
        self.rules = rules
        self.counters = counters
        self.positions: dict[int, Position] = {p.position_key: p for p in positions}
        self.price: Decimal | None = None
        self.out: list[Output] = []
        self._touched: dict[int, Position] = {}
        self._id_prefix = id_prefix
        self._legs: dict[str, tuple[Position, Leg]] = {}
        for position in self.positions.values():
            for leg in position.legs:
                self._legs[leg.client_order_id] = (position, leg)

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
        self._place(position, Role.ENTRY, Side.BUY, entry.order_type, entry.quantity, entry.price, now_ms)

    def on_market(self, now_ms: int, low: float, close: float) -> None:
        """Look at stops, watched targets and deadlines after a closed one-second candle."""
        self.price = exact(close)
        if not self.positions:
            return
        exact_low = exact(low)
        for position in list(self.positions.values()):
            if position.exiting is None:
                reason = self._exit_reason(position, now_ms, exact_low, self.price)
                if reason is not None:
                    self._exit(position, reason)
            self._advance(position, now_ms)

    def on_time(self, now_ms: int) -> None:
        """Look at deadlines while the stream is silent."""
        for position in list(self.positions.values()):
            if position.exiting is None and _is_due(position.exit_deadline_ms, now_ms):
                self._exit(position, "holding_time")
            self._advance(position, now_ms)

    def exit(self, position: Position, reason: str, now_ms: int) -> None:
        """Sell *position* at market, whatever rests of it; a pending one is withdrawn."""
        if position.exiting is None:
            self._exit(position, reason)
        self._advance(position, now_ms)

    def withdraw_entry(self, position: Position, now_ms: int) -> None:
        """Cancel what is still unfilled of the entry; what is held stays guarded."""
        position.entry_deadline_ms = min(position.entry_deadline_ms or now_ms, now_ms)
        position.terms.on_entry_timeout = "cancel"
        self._touch(position)
        self._advance(position, now_ms)

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
        return client_order_id in self._legs

    @property
    def open_orders(self) -> int:
        """Orders that are not final yet."""
        return sum(not leg.status.is_final for p in self.positions.values() for leg in p.legs)

    def unrealised(self) -> Decimal:
        """Open profit or loss at the last price, in quote; 0 before the first candle."""
        if self.price is None:
            return ZERO
        return sum((accounting.unrealised(p, self.price) for p in self.positions.values()), ZERO)

    def flush(self) -> list[Output]:
        """The outputs of this step; each position that changed follows as its whole document."""
        out, self.out = self.out, []
        if self._touched:
            facts: list[Output] = [o for o in out if isinstance(o, Payload)]
            commands: list[Output] = [o for o in out if not isinstance(o, Payload)]
            closed = [p for p in self._touched.values() if p.status is PositionState.CLOSED]
            facts.extend(self._touched.values())
            if closed:
                facts.append(Stats(counters=self.counters))
            self._touched = {}
            return facts + commands
        return out

    # --- told by the exchange --------------------------------------------------------------------------------------

    def on_report(self, report: OrderReport, now_ms: int) -> None:
        """Take an order's state and executions; repeated, late and out-of-order reports change nothing."""
        known = self._legs.get(report.client_order_id)
        if known is None:
            return
        position, leg = known
        for execution in report.executions:
            if execution.trade_id not in leg.trade_ids:
                self._book(position, leg, execution, report.exchange_order_id)
        changed = self._update_leg(leg, report)
        if changed:
            self._order_changed(position, leg)
        if leg.booked_quantity != leg.executed_quantity:
            self.out.append(QueryOrder(client_order_id=leg.client_order_id, symbol=position.symbol))
        if leg.role is Role.TARGET and leg.is_settled and leg.status is not OrderState.FILLED:
            self._watch_target_if_lost(position, leg)
        if leg.role is Role.EXIT and leg.is_settled and leg.status is not OrderState.FILLED:
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
        known = self._legs.get(unknown.client_order_id)
        if known is not None and known[1].status is OrderState.INTENT:
            known[1].status = OrderState.UNKNOWN
            known[1].reason = unknown.reason
            self._order_changed(*known)

    # --- the one next thing ----------------------------------------------------------------------------------------

    def _advance(self, position: Position, now_ms: int) -> None:
        if not position.is_open:
            return
        entry = _last(position, Role.ENTRY)
        if not entry.is_settled:
            if position.exiting is not None or _is_due(position.entry_deadline_ms, now_ms):
                self._cancel(position, entry, now_ms)
        elif position.quantity == ZERO:
            self._after_empty_entry(position, entry, now_ms)
        elif position.exiting is None and self._rests_target(position):
            self._place_target(position, now_ms)
        else:
            self._sell_rest(position, now_ms)

    def _after_empty_entry(self, position: Position, entry: Leg, now_ms: int) -> None:
        timed_out = entry.status is OrderState.CANCELLED and _is_due(position.entry_deadline_ms, now_ms)
        buys_late = timed_out and position.terms.on_entry_timeout == "market" and position.exiting is None
        if buys_late and entry.order_type is not OrderType.MARKET:
            self._place(position, Role.ENTRY, Side.BUY, OrderType.MARKET, entry.quantity, None, now_ms)
            return
        position.exit_reason = (
            position.exiting or ("entry_timeout" if timed_out else entry.reason) or entry.status.value
        )
        position.closed_ms = now_ms
        self._finish(position, PositionState.CANCELLED)

    def _rests_target(self, position: Position) -> bool:
        return (
            position.target_price is not None
            and position.terms.take_profit_order == "resting"
            and not position.target_watched
            and not any(leg.role is Role.TARGET for leg in position.legs)
            and self.rules.is_tradable(self.rules.round_quantity(position.held), position.target_price)
        )

    def _place_target(self, position: Position, now_ms: int) -> None:
        quantity = self.rules.round_quantity(position.held)
        self._place(position, Role.TARGET, Side.SELL, OrderType.LIMIT, quantity, position.target_price, now_ms)

    def _sell_rest(self, position: Position, now_ms: int) -> None:
        waiting = [leg for leg in position.legs if leg.role is not Role.ENTRY and not leg.is_settled]
        if waiting:
            if position.exiting is not None and waiting[-1].role is Role.TARGET:
                self._cancel(position, waiting[-1], now_ms)
            return
        quantity = self.rules.round_quantity(position.held)
        price = self.price if position.exiting is not None else position.entry_price
        if quantity == ZERO or (price is not None and not self.rules.is_tradable(quantity, price)):
            self._close(position, now_ms)
        elif price is not None and position.exiting is not None and _is_due(position.retry_at_ms or 0, now_ms):
            self._place(position, Role.EXIT, Side.SELL, OrderType.MARKET, quantity, None, now_ms)

    def _close(self, position: Position, now_ms: int) -> None:
        sells = [leg for leg in position.legs if leg.side is Side.SELL and leg.booked_quantity]
        position.closed_ms = max((leg.updated_ms for leg in sells), default=now_ms)
        by_target = bool(sells) and sells[-1].role is Role.TARGET
        position.exit_reason = "take_profit" if by_target else position.exiting or "too_small_to_sell"
        accounting.settle(position)
        accounting.count(self.counters, position)
        self._finish(position, PositionState.CLOSED)

    def _finish(self, position: Position, state: PositionState) -> None:
        position.status = state
        self._touch(position)
        del self.positions[position.position_key]
        for leg in position.legs:
            del self._legs[leg.client_order_id]

    def _exit_reason(self, position: Position, now_ms: int, low: Decimal, close: Decimal) -> str | None:
        if position.stop_price is not None and low <= position.stop_price:
            return "stop_loss"
        watched = position.terms.take_profit_order == "watched" or position.target_watched
        if watched and position.target_price is not None and close >= position.target_price:
            return "take_profit"
        if _is_due(position.exit_deadline_ms, now_ms):
            return "holding_time"
        return None

    def _exit(self, position: Position, reason: str) -> None:
        position.exiting = reason
        self._touch(position)

    # --- orders ----------------------------------------------------------------------------------------------------

    def _place(
        self,
        position: Position,
        role: Role,
        side: Side,
        order_type: OrderType,
        quantity: Decimal,
        price: Decimal | None,
        now_ms: int,
    ) -> None:
        number = 1 + sum(leg.role is role for leg in position.legs)
        leg = Leg(
            client_order_id=f"{self._id_prefix}-{position.position_key}-{role.letter}{number}",
            role=role,
            side=side,
            order_type=order_type,
            status=OrderState.INTENT,
            quantity=quantity,
            price=price,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        position.legs.append(leg)
        self._legs[leg.client_order_id] = (position, leg)
        self._touch(position)
        self.out.append(
            OrderIntent(
                client_order_id=leg.client_order_id,
                position_key=position.position_key,
                symbol=position.symbol,
                role=role,
                side=side,
                order_type=order_type,
                quantity=quantity,
                price=price,
                time_ms=now_ms,
            )
        )
        self.out.append(
            PlaceOrder(
                client_order_id=leg.client_order_id,
                symbol=position.symbol,
                side=side,
                order_type=order_type,
                quantity=quantity,
                price=price,
            )
        )

    def _cancel(self, position: Position, leg: Leg, now_ms: int) -> None:
        if leg.status not in (OrderState.NEW, OrderState.PARTIALLY_FILLED):
            return
        if leg.cancel_requested_ms is not None and now_ms < leg.cancel_requested_ms + RECANCEL_MS:
            return
        leg.cancel_requested_ms = now_ms
        self._touch(position)
        self.out.append(CancelOrder(client_order_id=leg.client_order_id, symbol=position.symbol))

    def _update_leg(self, leg: Leg, report: OrderReport) -> bool:
        before = (leg.status, leg.executed_quantity, leg.exchange_order_id)
        leg.exchange_order_id = report.exchange_order_id
        if report.executed_quantity > leg.executed_quantity:
            leg.executed_quantity = report.executed_quantity
            leg.executed_quote = report.executed_quote
        if order_move_allowed(leg.status, report.status):
            leg.status = report.status
            leg.reason = report.reason or None
            leg.updated_ms = max(leg.updated_ms, report.time_ms)
        return before != (leg.status, leg.executed_quantity, leg.exchange_order_id)

    def _book(self, position: Position, leg: Leg, fill: Execution, exchange_order_id: int) -> None:
        fee_quote = accounting.book(position, leg, fill, self.rules)
        if leg.booked_quantity > leg.executed_quantity:
            leg.executed_quantity, leg.executed_quote = leg.booked_quantity, leg.booked_quote
        if fee_quote is None:
            text = f"The fee of {plain(fill.fee)} {fill.fee_asset} of trade {fill.trade_id} is not in the PNL."
            self.out.append(Alert(kind="fee_not_valued", message=text))
        if leg.side is Side.BUY:
            self._arm(position, fill.time_ms)
        self._touch(position)
        self.out.append(
            FillBooked(
                trade_id=fill.trade_id,
                order_id=exchange_order_id,
                client_order_id=leg.client_order_id,
                position_key=position.position_key,
                symbol=position.symbol,
                role=leg.role,
                side=leg.side,
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
                fee_asset=fill.fee_asset,
                fee_quote=fee_quote,
                is_maker=fill.is_maker,
                time_ms=fill.time_ms,
            )
        )

    def _arm(self, position: Position, time_ms: int) -> None:
        """Set stop, target and deadline from the mean entry price; the deadline counts from the first fill."""
        terms, price = position.terms, position.entry_price
        assert price is not None
        if position.status is PositionState.PENDING:
            position.status = PositionState.ACTIVE
            position.activated_ms = time_ms
            if terms.holding_time is not None:
                position.exit_deadline_ms = time_ms + terms.holding_time * 1000
        if terms.stop_loss_pct is not None:
            position.stop_price = self.rules.round_price_down(price * (1 - terms.stop_loss_pct))
        if terms.profit_target_pct is not None:
            position.target_price = self.rules.round_price_up(price * (1 + terms.profit_target_pct))

    def _never_placed(self, client_order_id: str, reason: str, message: str, now_ms: int) -> None:
        known = self._legs.get(client_order_id)
        if known is None or known[1].status.is_final:
            return
        position, leg = known
        leg.status, leg.reason = OrderState.REJECTED, reason
        self._order_changed(position, leg)
        if leg.role is Role.TARGET:
            position.target_watched = True
        if leg.role is Role.EXIT:
            self._retry_exit_later(position, now_ms)
        if reason != Refusal.POST_ONLY:
            text = f"Order {client_order_id} ({leg.role} {leg.side} {plain(leg.quantity)}) was not placed: {message}"
            self.out.append(Alert(kind=f"order_{reason}", message=text))
        self._advance(position, now_ms)

    def _retry_exit_later(self, position: Position, now_ms: int) -> None:
        position.exit_attempts += 1
        delay_s = min(2 ** (position.exit_attempts - 1), LONGEST_EXIT_RETRY_S)
        position.retry_at_ms = now_ms + delay_s * 1000
        self._touch(position)

    def _watch_target_if_lost(self, position: Position, leg: Leg) -> None:
        if leg.cancel_requested_ms is None and not position.target_watched:
            position.target_watched = True
            self._touch(position)
            text = (
                f"Target order {leg.client_order_id} was {leg.status} by someone else; the bot now watches the price."
            )
            self.out.append(Alert(kind="target_lost", message=text))

    def _order_changed(self, position: Position, leg: Leg) -> None:
        self._touch(position)
        self.out.append(
            OrderChange(
                client_order_id=leg.client_order_id,
                position_key=position.position_key,
                symbol=position.symbol,
                role=leg.role,
                side=leg.side,
                order_type=leg.order_type,
                status=leg.status,
                quantity=leg.quantity,
                price=leg.price,
                executed_quantity=leg.executed_quantity,
                executed_quote=leg.executed_quote,
                exchange_order_id=leg.exchange_order_id,
                time_ms=leg.updated_ms,
                reason=leg.reason,
            )
        )

    def _touch(self, position: Position) -> None:
        self._touched[position.position_key] = position


def _last(position: Position, role: Role) -> Leg:
    return [leg for leg in position.legs if leg.role is role][-1]


def _is_due(deadline_ms: int | None, now_ms: int) -> bool:
    return deadline_ms is not None and now_ms >= deadline_ms

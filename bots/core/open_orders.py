"""The orders of a bot's open positions: their intents, their states at the exchange, the booking of their fills.

Knows what became of an order, not what should follow from it. The outputs of a step gather here until `flush`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from bots.core import accounting
from bots.core.messages import CancelOrder, Command, Execution, OrderReport, PlaceOrder, QueryOrder
from shared.events import Alert, FillBooked, OrderChange, OrderIntent, Payload, Position
from shared.positions import Leg
from shared.states import OrderState, OrderType, Role, Side, order_move_allowed
from shared.symbols import SymbolRules
from shared.units import ZERO, plain

RECANCEL_MS: Final = 10_000
DEAD_LEGS_KEPT: Final = 3
FINISHED_KEPT: Final = 200

Output = Command | Payload


class OpenOrders:
    """The legs of *positions*, by client order id."""

    def __init__(self, id_prefix: str, rules: SymbolRules, positions: Iterable[Position]) -> None:
        self._rules = rules
        self._id_prefix = id_prefix
        self._legs: dict[str, tuple[Position, Leg]] = {}
        self._finished: dict[str, Decimal] = {}
        self._facts: list[Output] = []
        self._commands: list[Output] = []
        self._touched: dict[int, Position] = {}
        for position in positions:
            for leg in position.legs:
                leg.cancel_requested_ms = None
                self._legs[leg.client_order_id] = (position, leg)

    def find(self, client_order_id: str) -> tuple[Position, Leg] | None:
        """The order and its position, if that is open."""
        return self._legs.get(client_order_id)

    # --- what goes out ---------------------------------------------------------------------------------------------

    def place(
        self,
        position: Position,
        role: Role,
        order_type: OrderType,
        quantity: Decimal,
        price: Decimal | None,
        now_ms: int,
    ) -> None:
        """Write the intent of a new order of *position*, then the order to send it."""
        same_role = [leg for leg in position.legs if leg.role is role]
        number = 1 + (int(same_role[-1].client_order_id.rpartition(role.letter)[2]) if same_role else 0)
        self._drop_dead(position, same_role)
        leg = Leg(
            client_order_id=f"{self._id_prefix}-{position.position_key}-{role.letter}{number}",
            role=role,
            side=Side.BUY if role is Role.ENTRY else Side.SELL,
            order_type=order_type,
            status=OrderState.INTENT,
            quantity=quantity,
            price=price,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        position.legs.append(leg)
        self._legs[leg.client_order_id] = (position, leg)
        self.touch(position)
        self._facts.append(
            OrderIntent(
                client_order_id=leg.client_order_id,
                position_key=position.position_key,
                symbol=position.symbol,
                role=role,
                side=leg.side,
                order_type=order_type,
                quantity=quantity,
                price=price,
                time_ms=now_ms,
            )
        )
        self._commands.append(
            PlaceOrder(
                client_order_id=leg.client_order_id,
                symbol=position.symbol,
                side=leg.side,
                order_type=order_type,
                quantity=quantity,
                price=price,
            )
        )

    def cancel(self, position: Position, leg: Leg, reason: str, now_ms: int) -> None:
        """Ask for the end of an order that is in the book; again after `RECANCEL_MS` without an end."""
        if leg.status not in (OrderState.NEW, OrderState.PARTIALLY_FILLED):
            return
        if leg.cancel_requested_ms is not None and now_ms < leg.cancel_requested_ms + RECANCEL_MS:
            return
        leg.cancel_requested_ms = now_ms
        leg.reason = leg.reason or reason
        self.touch(position)
        self._commands.append(CancelOrder(client_order_id=leg.client_order_id, symbol=position.symbol))

    def touch(self, position: Position) -> None:
        """Write *position* down at the end of the step."""
        self._touched[position.position_key] = position

    def tell(self, fact: Payload) -> None:
        """Write *fact* down."""
        self._facts.append(fact)

    def forget(self, position: Position) -> None:
        """Let go of a position that is finished."""
        self.touch(position)
        for leg in position.legs:
            self._let_go(leg)

    def flush(self, last: Sequence[Payload]) -> list[Output]:
        """The outputs of this step: facts, each position that changed as its whole document, *last*, commands."""
        if not (self._facts or self._commands or self._touched or last):
            return []
        out = [*self._facts, *self._touched.values(), *last, *self._commands]
        self._facts, self._commands, self._touched = [], [], {}
        return out

    # --- what comes back -------------------------------------------------------------------------------------------

    def take(self, report: OrderReport) -> tuple[Position, Leg, bool] | None:
        """Book what is new in *report*. The position, the leg, and whether the order has settled just now.

        Repeated, late and out-of-order reports change nothing; executions that are missing are asked for.
        """
        known = self._legs.get(report.client_order_id)
        if known is None:
            self._notice_stray(report)
            return None
        position, leg = known
        was_settled = leg.is_settled
        for execution in report.executions:
            if execution.trade_id not in leg.trade_ids:
                self._book(position, leg, execution, report.exchange_order_id)
        if self._update(leg, report):
            self._order_changed(position, leg, leg.reason)
        if leg.booked_quantity != leg.executed_quantity:
            self._commands.append(QueryOrder(client_order_id=leg.client_order_id, symbol=position.symbol))
        return position, leg, leg.is_settled and not was_settled

    def reject(self, client_order_id: str, reason: str) -> tuple[Position, Leg] | None:
        """The exchange does not have the order. None if that is no news."""
        known = self._legs.get(client_order_id)
        if known is None or known[1].is_settled:
            return None
        position, leg = known
        if not leg.status.is_final:
            leg.status = OrderState.CANCELLED if leg.booked_quantity else OrderState.REJECTED
            leg.reason = reason
        # An exchange that has forgotten an order will never tell its missing executions.
        leg.executed_quantity, leg.executed_quote = leg.booked_quantity, leg.booked_quote
        self._order_changed(position, leg, reason)
        return position, leg

    def unanswered(self, client_order_id: str, reason: str) -> None:
        """Sent, and nobody knows whether it arrived."""
        known = self._legs.get(client_order_id)
        if known is not None and known[1].status is OrderState.INTENT:
            known[1].status = OrderState.UNKNOWN
            self._order_changed(*known, reason)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _update(self, leg: Leg, report: OrderReport) -> bool:
        before = (leg.status, leg.executed_quantity, leg.exchange_order_id)
        leg.exchange_order_id = report.exchange_order_id
        if report.executed_quantity > leg.executed_quantity:
            leg.executed_quantity = report.executed_quantity
            leg.executed_quote = report.executed_quote
        if leg.status is not report.status and order_move_allowed(leg.status, report.status):
            leg.status = report.status
            leg.reason = report.reason or leg.reason
        if before == (leg.status, leg.executed_quantity, leg.exchange_order_id):
            return False
        leg.updated_ms = max(leg.updated_ms, report.time_ms)
        return True

    def _book(self, position: Position, leg: Leg, fill: Execution, exchange_order_id: int) -> None:
        fee_quote = accounting.book(position, leg, fill, self._rules)
        if leg.booked_quantity > leg.executed_quantity:
            leg.executed_quantity, leg.executed_quote = leg.booked_quantity, leg.booked_quote
        if fee_quote is None:
            text = f"The fee of {plain(fill.fee)} {fill.fee_asset} of trade {fill.trade_id} is not in the PNL."
            self.tell(Alert(kind="fee_not_valued", message=text))
        self.touch(position)
        self.tell(
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

    def _order_changed(self, position: Position, leg: Leg, reason: str | None) -> None:
        self.touch(position)
        self.tell(
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
                reason=reason,
            )
        )

    def _drop_dead(self, position: Position, same_role: list[Leg]) -> None:
        """An order that is refused for hours must not make the position's document grow without end."""
        dead = [leg for leg in same_role if leg.is_settled and not leg.booked_quantity]
        for leg in dead[:-DEAD_LEGS_KEPT]:
            position.legs.remove(leg)
            self._let_go(leg)

    def _let_go(self, leg: Leg) -> None:
        del self._legs[leg.client_order_id]
        self._finished[leg.client_order_id] = leg.booked_quantity
        if len(self._finished) > FINISHED_KEPT:
            del self._finished[next(iter(self._finished))]

    def _notice_stray(self, report: OrderReport) -> None:
        """A late repetition is nothing; but what an order did after its position was finished, a person must see."""
        client_order_id = report.client_order_id
        booked = self._finished.get(client_order_id, ZERO)
        if report.executed_quantity > booked and client_order_id.startswith(self._id_prefix + "-"):
            self._finished[client_order_id] = report.executed_quantity
            text = (
                f"Order {client_order_id} executed {plain(report.executed_quantity)} {self._rules.base}, of which "
                f"{plain(booked)} belong to a position: look at the account and trade the difference by hand."
            )
            self.tell(Alert(kind="stray_fill", message=text))

"""The smallest exchange that can go wrong in every way: what it holds is the truth that a trader is compared with.

Commands lie on the wire until `take` says what becomes of them; what the trader may come to hear lies in `said`, and
`heard` picks from it in any order, once or more often. Firm answers to commands stay until heard; the rest may be lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from bots.core.messages import (
    AccountSeen,
    CancelOrder,
    Command,
    Execution,
    OrderAbsent,
    OrderRefused,
    OrderReport,
    OrderUnknown,
    PlaceOrder,
    Refusal,
)
from shared.states import OrderState, OrderType, Side
from shared.symbols import SymbolRules

_ATOM = Decimal("0.00000001")
_OPEN = (OrderState.NEW, OrderState.PARTIALLY_FILLED)


@dataclass
class BookedOrder:
    """An order that arrived."""

    number: int
    asked: PlaceOrder
    status: OrderState = OrderState.NEW
    trades: list[Execution] = field(default_factory=list)

    @property
    def executed(self) -> Decimal:
        return sum((t.quantity for t in self.trades), Decimal(0))

    @property
    def rest(self) -> Decimal:
        return self.asked.quantity - self.executed

    @property
    def is_open(self) -> bool:
        return self.status in _OPEN


@dataclass
class ReferenceExchange:
    """One account in one market."""

    rules: SymbolRules
    fee_in_quote: bool
    quote: Decimal = Decimal(10_000)
    base: Decimal = Decimal(0)
    price: Decimal = Decimal(100)
    now_ms: int = 0
    book: dict[str, BookedOrder] = field(default_factory=dict)
    wire: list[Command] = field(default_factory=list)
    said: list[tuple[object, bool]] = field(default_factory=list)
    trades: int = 0

    # --- what becomes of commands ----------------------------------------------------------------------------------

    def take(self, index: int, fate: str, share: Decimal) -> None:
        """Let the command at *index* of the wire arrive, or not, as *fate* says."""
        command = self.wire.pop(index % len(self.wire))
        name = command.client_order_id
        if isinstance(command, PlaceOrder):
            if fate == "refused" or (fate == "post_only" and command.order_type is OrderType.LIMIT_MAKER):
                kind = Refusal.POST_ONLY if fate == "post_only" else Refusal.FILTER
                self.say(OrderRefused(client_order_id=name, kind=kind, message=fate), firm=True)
                return
            if fate in ("vanishes", "unanswered"):
                self.say(OrderUnknown(client_order_id=name, reason="time-out"))
            if fate != "vanishes":
                self._place(command, share)
        elif isinstance(command, CancelOrder) and fate != "vanishes":
            order = self.book.get(name)
            if order is not None and order.is_open:
                order.status = OrderState.CANCELLED
        self.say(self.answer(name), firm=True)

    def answer(self, client_order_id: str) -> OrderReport | OrderAbsent:
        """The whole truth about one order."""
        order = self.book.get(client_order_id)
        if order is None:
            return OrderAbsent(client_order_id)
        return self._report(order, tuple(order.trades))

    def _place(self, command: PlaceOrder, share: Decimal) -> None:
        assert command.client_order_id not in self.book, "an order was placed twice"
        order = BookedOrder(len(self.book) + 1, command)
        self.book[command.client_order_id] = order
        self.say(self._report(order, ()))
        if command.order_type is OrderType.MARKET:
            self.match(order, share)
            if order.is_open:
                order.status = OrderState.EXPIRED
                self.say(self._report(order, ()))

    def match(self, order: BookedOrder, share: Decimal) -> None:
        """Execute *share* of the order's rest, at its price or at the market's."""
        lot = self.rules.lot_size
        quantity = max(self.rules.round_quantity(order.rest * share), lot)
        price = order.asked.price or self.price
        amount = price * quantity
        buys = order.asked.side is Side.BUY
        in_quote = self.fee_in_quote or not buys
        fee = ((amount if in_quote else quantity) / 1000).quantize(_ATOM, rounding=ROUND_DOWN)
        self.quote += (-amount if buys else amount) - (fee if in_quote else 0)
        self.base += (quantity if buys else -quantity) - (0 if in_quote else fee)
        self.trades += 1
        trade = Execution(
            trade_id=self.trades,
            price=price,
            quantity=quantity,
            fee=fee,
            fee_asset=self.rules.quote if in_quote else self.rules.base,
            is_maker=order.asked.order_type is not OrderType.MARKET,
            time_ms=self.now_ms,
        )
        order.trades.append(trade)
        order.status = OrderState.PARTIALLY_FILLED if order.rest else OrderState.FILLED
        self.say(self._report(order, (trade,)))

    # --- what can be heard -----------------------------------------------------------------------------------------

    def say(self, message: object, firm: bool = False) -> None:
        self.said.append((message, firm))

    def heard(self, index: int, again: bool) -> object:
        """One message; *again*: it will come once more."""
        index %= len(self.said)
        message, firm = self.said[index]
        if again:
            self.said[index] = (message, False)
            self.said.append((message, firm))
        else:
            del self.said[index]
        return message

    def lose(self, index: int) -> None:
        """A message that nobody waits for is lost."""
        index %= len(self.said)
        if not self.said[index][1]:
            del self.said[index]

    def account(self) -> AccountSeen:
        locked = sum((o.rest for o in self.open_orders if o.asked.side is Side.SELL), Decimal(0))
        return AccountSeen(
            base_free=self.base - locked, base_locked=locked, quote_free=self.quote, quote_locked=Decimal(0)
        )

    @property
    def open_orders(self) -> list[BookedOrder]:
        return [order for order in self.book.values() if order.is_open]

    def sellable(self, position_key: str) -> Decimal:
        """What one position has bought, after fees, and neither sold nor offered for sale yet; the wire counts too."""
        mine = [o for name, o in self.book.items() if name.split("-")[2] == position_key]
        left = Decimal(0)
        for order in mine:
            fees = sum((t.fee for t in order.trades if t.fee_asset == self.rules.base), Decimal(0))
            if order.asked.side is Side.BUY:
                left += order.executed - fees
            else:
                left -= order.executed + (order.rest if order.is_open else 0)
        return left - sum(
            c.quantity
            for c in self.wire
            if isinstance(c, PlaceOrder) and c.side is Side.SELL and c.client_order_id.split("-")[2] == position_key
        )

    def _report(self, order: BookedOrder, trades: tuple[Execution, ...]) -> OrderReport:
        return OrderReport(
            client_order_id=order.asked.client_order_id,
            exchange_order_id=order.number,
            status=order.status,
            executed_quantity=order.executed,
            executed_quote=sum((t.price * t.quantity for t in order.trades), Decimal(0)),
            time_ms=self.now_ms,
            executions=trades,
        )

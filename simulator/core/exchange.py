"""The exchange's state and decisions: accounts, orders, fills.

Pure: no clock, no I/O, no randomness; the time and the keys come with each call. A decision (`place`, `cancel`,
`trade`) checks everything and returns *facts*; nothing changes until a fact is applied, and `apply` is the only thing
that changes anything. So the facts, written down in order, are the whole memory of the exchange, and replaying them
is a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulator.core.accounts import Account
from simulator.core.matching import BUY, Book, touch_after
from simulator.core.rules import ATOMS, MAX_OPEN_ORDERS, ApiError, SymbolRules, filter_failure, rejected
from simulator.market.candles import Trade

PPM = 1_000_000
OPEN_STATES = frozenset({"NEW", "PARTIALLY_FILLED"})


@dataclass(frozen=True, slots=True)
class AccountOpened:
    """A customer with first deposits in atoms. *api_secret* is the public key (PEM) unless *key_kind* is HMAC."""

    api_key: str
    api_secret: str
    name: str
    uid: int
    time_ms: int
    deposits: dict[str, int]
    key_kind: str = "HMAC"


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    """An accepted order. *price* 0: at market. *locked* atoms of the asset it pays with are set aside."""

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


@dataclass(frozen=True, slots=True)
class Filled:
    """One execution: *qty* lots at *price* ticks, *fee* atoms of the asset received."""

    trade_id: int
    order_id: int
    price: int
    qty: int
    fee: int
    is_maker: bool
    time_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An order leaves the book with its rest unfilled: CANCELED or EXPIRED. *cancel_id* names the cancel request."""

    order_id: int
    status: str
    cancel_id: str
    time_ms: int


Fact = AccountOpened | OrderPlaced | Filled | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An order as a customer asks for it, in atoms; ``None`` is 'not sent'. *price* comes with limit types only."""

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


@dataclass(slots=True)
class Order:
    """An order and what has become of it. Prices in ticks, quantities in lots, money in atoms of quote."""

    placed: OrderPlaced
    status: str = "NEW"
    filled: int = 0
    spent: int = 0
    locked: int = 0
    updated_ms: int = 0
    fills: list[Filled] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Still on the book."""
        return self.status in OPEN_STATES

    @property
    def left(self) -> int:
        """Lots not filled."""
        return self.placed.qty - self.filled


class Exchange:
    """Everything the exchange knows. *symbols* are those it lists."""

    def __init__(self, symbols: dict[str, SymbolRules]) -> None:
        self.symbols = symbols
        self.books = {symbol: Book() for symbol in symbols}
        self.accounts: dict[str, Account] = {}
        self.orders: dict[int, Order] = {}
        self.by_account: dict[str, list[Order]] = {}
        self.fees: dict[str, int] = {}
        self.last_trade_id = 0
        self._by_client_id: dict[tuple[str, str, str], Order] = {}
        self._open: dict[tuple[str, str], dict[int, Order]] = {}

    # decisions

    def place(self, ask: Request, now_ms: int) -> list[Fact]:
        """Facts of a new order: placed, and whatever happens to it at once. Raises `ApiError`."""
        rules, book = self.symbols[ask.symbol], self.books[ask.symbol]
        touch = book.touch
        if touch is None or book.halted:
            raise rejected("Market is closed.")
        limit = None if ask.price is None else rules.check_price(ask.price, touch.last.price, ask.side)
        takes = book.taken_at(ask.side, limit)
        qty = self._lots(ask, rules, takes)
        if ask.qty is not None:
            rules.check_notional(rules.cost(limit or touch.last.price, qty))
        if ask.type == "LIMIT_MAKER" and takes is not None:
            raise rejected("Order would immediately match and take.")
        open_orders = self._open.get((ask.api_key, ask.symbol), {})
        if len(open_orders) >= MAX_OPEN_ORDERS:
            raise filter_failure("MAX_NUM_ORDERS")
        known = self._by_client_id.get((ask.api_key, ask.symbol, ask.client_id))
        if known is not None and known.is_open:
            raise rejected("Duplicate order sent.")
        locked = self._locked(rules, ask.side, limit or takes or 0, qty)
        if self.accounts[ask.api_key].free(_paid(rules, ask.side)) < locked:
            raise rejected("Account has insufficient balance for requested action.")

        order_id = len(self.orders) + 1
        placed = OrderPlaced(
            order_id, ask.api_key, ask.symbol, ask.client_id, ask.side, ask.type, ask.tif, limit or 0, qty,
            ask.quote_qty or 0, ask.stp, locked, now_ms,
        )  # fmt: skip
        if takes is not None:
            return [placed, self._fill(placed, self.last_trade_id + 1, takes, qty, False, now_ms)]
        if ask.tif in ("IOC", "FOK"):
            return [placed, Ended(order_id, "EXPIRED", "", now_ms)]
        return [placed]

    def cancel(self, order: Order, cancel_id: str, now_ms: int) -> list[Fact]:
        """Facts of cancelling *order*; -2011 when it is no longer open."""
        if not order.is_open:
            raise ApiError(-2011, "Unknown order sent.")
        return [Ended(order.placed.order_id, "CANCELED", cancel_id, now_ms)]

    def trade(self, symbol: str, trade: Trade) -> list[Fact]:
        """Facts of a market trade: the fills of resting orders. Moves the touch."""
        book = self.books[symbol]
        book.touch = touch_after(trade)
        return [
            self._fill(self.orders[match.order_id].placed, number, match.price, match.qty, True, trade.time_ms)
            for number, match in enumerate(book.matches(trade), self.last_trade_id + 1)
        ]

    def _lots(self, ask: Request, rules: SymbolRules, takes: int | None) -> int:
        if ask.qty is not None:
            return rules.check_qty(ask.qty)
        assert ask.quote_qty is not None
        assert takes is not None
        rules.check_notional(ask.quote_qty)
        lots = ask.quote_qty // rules.cost(takes, 1)
        if not rules.min_lots <= lots <= rules.max_qty * ATOMS // rules.lot_atoms:
            raise filter_failure("LOT_SIZE")
        return lots

    def _locked(self, rules: SymbolRules, side: str, price: int, qty: int) -> int:
        return rules.cost(price, qty) if side == BUY else qty * rules.lot_atoms

    def _fill(self, placed: OrderPlaced, trade_id: int, price: int, qty: int, is_maker: bool, now_ms: int) -> Filled:
        rules = self.symbols[placed.symbol]
        received = qty * rules.lot_atoms if placed.side == BUY else rules.cost(price, qty)
        fee = received * (rules.maker_ppm if is_maker else rules.taker_ppm) // PPM
        return Filled(trade_id, placed.order_id, price, qty, fee, is_maker, now_ms)

    # facts

    def apply(self, fact: Fact) -> None:
        """Make *fact* true."""
        match fact:
            case AccountOpened():
                self.accounts[fact.api_key] = Account(
                    fact.api_key, fact.api_secret, fact.name, fact.uid, fact.time_ms, fact.deposits,
                    key_kind=fact.key_kind,
                )  # fmt: skip
                self.by_account[fact.api_key] = []
            case OrderPlaced():
                self._apply_placed(fact)
            case Filled():
                self._apply_filled(fact)
            case Ended():
                order = self.orders[fact.order_id]
                order.status = fact.status
                self._leave_book(order, order.left, fact.time_ms)
                self._release(order, 0)

    def _apply_placed(self, placed: OrderPlaced) -> None:
        order = Order(placed, locked=placed.locked, updated_ms=placed.time_ms)
        self.orders[placed.order_id] = order
        self.by_account[placed.api_key].append(order)
        self._by_client_id[placed.api_key, placed.symbol, placed.client_id] = order
        self._open.setdefault((placed.api_key, placed.symbol), {})[placed.order_id] = order
        self.accounts[placed.api_key].lock(_paid(self.symbols[placed.symbol], placed.side), placed.locked)
        if placed.price:
            self.books[placed.symbol].rest(placed.order_id, placed.side, placed.price, placed.qty)

    def _apply_filled(self, fill: Filled) -> None:
        order = self.orders[fill.order_id]
        placed = order.placed
        rules = self.symbols[placed.symbol]
        cost, base = rules.cost(fill.price, fill.qty), fill.qty * rules.lot_atoms
        paid, received = (cost, base) if placed.side == BUY else (base, cost)
        asset = fee_asset(rules, placed.side)
        self.accounts[placed.api_key].exchange((_paid(rules, placed.side), paid), (asset, received - fill.fee))
        self.fees[asset] = self.fees.get(asset, 0) + fill.fee
        self.last_trade_id = fill.trade_id
        order.fills.append(fill)
        order.filled += fill.qty
        order.spent += cost
        order.locked -= paid
        order.status = "PARTIALLY_FILLED" if order.left else "FILLED"
        self._leave_book(order, fill.qty, fill.time_ms)
        self._release(order, self._locked(rules, placed.side, placed.price, order.left) if order.left else 0)

    def _leave_book(self, order: Order, qty: int, now_ms: int) -> None:
        placed = order.placed
        if placed.price:
            self.books[placed.symbol].reduce(placed.order_id, placed.side, placed.price, qty)
        if not order.is_open:
            self._open[placed.api_key, placed.symbol].pop(placed.order_id, None)
        order.updated_ms = self.accounts[placed.api_key].updated_ms = now_ms

    def _release(self, order: Order, needed: int) -> None:
        placed = order.placed
        asset = _paid(self.symbols[placed.symbol], placed.side)
        self.accounts[placed.api_key].lock(asset, needed - order.locked)
        order.locked = needed

    # questions

    def find(self, api_key: str, symbol: str, order_id: int | None, client_id: str | None) -> Order | None:
        """The order with that id, else the latest with that client id, if it belongs to the account and symbol."""
        if order_id is None:
            return self._by_client_id.get((api_key, symbol, client_id or ""))
        order = self.orders.get(order_id)
        if order is None or order.placed.api_key != api_key or order.placed.symbol != symbol:
            return None
        if client_id is not None and order.placed.client_id != client_id:
            raise ApiError(-2039, "Client order ID is not correct for this order ID.")
        return order

    def open_orders(self, api_key: str, symbol: str | None) -> list[Order]:
        """Open orders of an account, oldest first."""
        symbols = self.symbols if symbol is None else (symbol,)
        found = [order for s in symbols for order in self._open.get((api_key, s), {}).values()]
        return sorted(found, key=lambda order: order.placed.order_id)


def _paid(rules: SymbolRules, side: str) -> str:
    return rules.quote if side == BUY else rules.base


def fee_asset(rules: SymbolRules, side: str) -> str:
    """The asset an order receives, out of which its fee is taken."""
    return rules.base if side == BUY else rules.quote

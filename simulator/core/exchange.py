"""The exchange's state: accounts, books, orders and lists, and how facts change it.

Pure: no clock, no I/O, no randomness. ``decisions.py`` checks what is asked and returns facts; nothing changes until a
fact is applied, and `apply` is the only thing that changes anything. So the facts, written down in order, are the
whole memory of the exchange, and applying them again is a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b

from simulator.core.accounts import Account
from simulator.core.crowd import Crowd
from simulator.core.filters import changed
from simulator.core.matching import BUY, MARKET, Book
from simulator.core.orders import (
    OPEN_STATES,
    AccountOpened,
    Ended,
    Fact,
    Filled,
    ListOpened,
    Order,
    OrderList,
    OrderPlaced,
    Prevented,
    Queued,
    SymbolChanged,
    Transferred,
    Triggered,
)
from simulator.core.rules import TRADING, ApiError, SymbolRules
from simulator.core.stops import Stops

USUAL_LOTS = 1000  # a usual trade, where nobody says how large it is


class Exchange:
    """Everything the exchange knows. *symbols* are those it lists, *seed* chooses the crowd, *usual* is the size of a
    usual market trade of each symbol in lots."""

    def __init__(
        self, symbols: Mapping[str, SymbolRules], seed: int = 0, usual: Mapping[str, int] | None = None
    ) -> None:
        self.symbols = dict(symbols)
        self.statuses = dict.fromkeys(symbols, TRADING)
        self.over: set[str] = set()  # symbols whose tape has ended
        self.books = {name: Book(Crowd(_key(seed, name), (usual or {}).get(name, USUAL_LOTS))) for name in symbols}
        self.stops = {name: Stops() for name in symbols}
        self.accounts: dict[str, Account] = {}
        self.transfers: dict[str, list[Transferred]] = {}
        self.orders: dict[int, Order] = {}
        self.by_account: dict[str, list[Order]] = {}
        self.lists: dict[int, OrderList] = {}
        self.lists_by_account: dict[str, list[OrderList]] = {}
        self.fees: dict[str, int] = {}
        self.market: dict[str, int] = {}  # what customers lost to the market, asset by asset; negative: won
        self.last_trade_id = 0
        self.last_match_id = -1
        self.waiting_algos: dict[tuple[str, str], int] = {}
        self._by_client_id: dict[tuple[str, str, str], Order] = {}
        self._lists_by_client_id: dict[tuple[str, str], OrderList] = {}
        self._open: dict[tuple[str, str], dict[int, Order]] = {}
        self._apply: dict[type, Callable[..., None]] = {
            AccountOpened: self._open_account,
            Transferred: self._transfer,
            SymbolChanged: self._change_symbol,
            ListOpened: self._open_list,
            OrderPlaced: self._place,
            Triggered: self._trigger,
            Queued: self._requeue,
            Filled: self._fill,
            Prevented: self._prevent,
            Ended: self._end,
        }

    def apply(self, fact: Fact) -> None:
        """Make *fact* true."""
        self._apply[type(fact)](fact)

    # facts

    def _open_account(self, fact: AccountOpened) -> None:
        self.accounts[fact.api_key] = Account(
            fact.api_key, fact.api_secret, fact.name, fact.uid, fact.time_ms, fact.deposits, fact.key_kind,
            fact.can_trade, fact.maker_ppm, fact.taker_ppm, fact.pays_in_bnb,
        )  # fmt: skip
        self.by_account[fact.api_key] = []
        self.lists_by_account[fact.api_key] = []
        self.transfers[fact.api_key] = []

    def _transfer(self, fact: Transferred) -> None:
        account = self.accounts[fact.api_key]
        account.credit(fact.asset, fact.atoms)
        account.updated_ms = fact.time_ms
        self.transfers[fact.api_key].append(fact)

    def _change_symbol(self, fact: SymbolChanged) -> None:
        self.statuses[fact.symbol] = fact.status
        if fact.filters:
            self.symbols[fact.symbol] = changed(self.symbols[fact.symbol], fact.filters)

    def _open_list(self, fact: ListOpened) -> None:
        found = OrderList(fact, fact.locked, updated_ms=fact.time_ms)
        self.lists[fact.list_id] = found
        self.lists_by_account[fact.api_key].append(found)
        self._lists_by_client_id[fact.api_key, fact.client_id] = found
        self.accounts[fact.api_key].lock(paid_asset(self.symbols[fact.symbol], fact.side), fact.locked)

    def _place(self, placed: OrderPlaced) -> None:
        order_id, api_key, symbol, side = placed.order_id, placed.api_key, placed.symbol, placed.side
        key = (api_key, symbol)
        order = Order(placed, updated_ms=placed.time_ms)
        self.orders[order_id] = order
        self.by_account[api_key].append(order)
        self._by_client_id[api_key, symbol, placed.client_id] = order
        opened = self._open.get(key)
        if opened is None:
            opened = self._open[key] = {}
        opened[order_id] = order
        if placed.list_id < 0:
            order.locked = placed.locked
            self.accounts[api_key].lock(paid_asset(self.symbols[symbol], side), placed.locked)
        if placed.stop:
            self.stops[symbol].add(placed)
            self.waiting_algos[key] = self.waiting_algos.get(key, 0) + 1
        elif placed.price and placed.tif == "GTC":
            order.is_resting = True
            self.books[symbol].rest(order_id, side, placed.price, placed.qty, placed.ahead)

    def _trigger(self, fact: Triggered) -> None:
        order = self.orders[fact.order_id]
        placed = order.placed
        order.triggered_ms = order.updated_ms = fact.time_ms
        self._leave_stops(placed)
        self._lock(order, fact.locked)
        if placed.price and placed.tif == "GTC":
            order.is_resting = True
            self.books[placed.symbol].rest(placed.order_id, placed.side, placed.price, order.left, fact.ahead)

    def _requeue(self, fact: Queued) -> None:
        placed = self.orders[fact.order_id].placed
        self.books[placed.symbol].requeue(fact.order_id, placed.side, placed.price, fact.ahead)

    def _fill(self, fill: Filled) -> None:
        trade_id, order_id, price, qty, fee, is_maker, now_ms, fee_in, against = fill
        order = self.orders[order_id]
        placed = order.placed
        rules = self.symbols[placed.symbol]
        account = self.accounts[placed.api_key]
        is_buy = placed.side == BUY
        cost, base = price * qty * rules.notional_atoms, qty * rules.lot_atoms
        if is_buy:
            paid, paid_in, received, got_in = cost, rules.quote, base, rules.base
        else:
            paid, paid_in, received, got_in = base, rules.base, cost, rules.quote
        account.pay(paid_in, paid)
        order.locked -= paid
        account.credit(got_in, received)
        if fee:
            fee_in = fee_in or got_in
            account.credit(fee_in, -fee)
            self.fees[fee_in] = self.fees.get(fee_in, 0) + fee
        if against == MARKET:
            market = self.market
            market[paid_in] = market.get(paid_in, 0) + paid
            market[got_in] = market.get(got_in, 0) - received
            if not is_maker:
                self.books[placed.symbol].take(-1 if is_buy else 1, price, qty, now_ms // 1000)
        if trade_id > self.last_trade_id:
            self.last_trade_id = trade_id
        order.fills.append(fill)
        order.filled += qty
        order.spent += cost
        order.status = "PARTIALLY_FILLED" if order.left else "FILLED"
        self._shrink(order, qty, now_ms)

    def _prevent(self, fact: Prevented) -> None:
        order = self.orders[fact.order_id]
        order.preventions.append((len(order.fills), fact))
        order.prevented += fact.qty
        self.last_match_id = max(self.last_match_id, fact.match_id)
        self._shrink(order, fact.qty, fact.time_ms)

    def _end(self, fact: Ended) -> None:
        order = self.orders[fact.order_id]
        if order.is_waiting:
            self._leave_stops(order.placed)
        order.status = fact.status
        order.ended = fact
        self._shrink(order, order.left, fact.time_ms)

    # what facts have in common

    def _shrink(self, order: Order, qty: int, now_ms: int) -> None:
        """*qty* lots of *order* are gone, and all of it if it is no longer open; what it need not hold is freed."""
        placed = order.placed
        account, symbol, side = self.accounts[placed.api_key], placed.symbol, placed.side
        order.updated_ms = account.updated_ms = now_ms
        if order.is_resting and qty:
            self.books[symbol].reduce(placed.order_id, side, placed.price, qty)
        if order.status not in OPEN_STATES:
            order.is_resting = False
            self._lock(order, 0)
            self._open[placed.api_key, symbol].pop(placed.order_id, None)
            if placed.list_id >= 0:
                self._leave_list(order, now_ms)
        elif side != BUY:
            self._lock(order, order.left * self.symbols[symbol].lot_atoms)
        elif placed.price:  # a buy at market keeps what it set aside until it ends
            self._lock(order, order.left * placed.price * self.symbols[symbol].notional_atoms)

    def _lock(self, order: Order, atoms: int) -> None:
        if atoms != order.locked:
            placed = order.placed
            asset = paid_asset(self.symbols[placed.symbol], placed.side)
            self.accounts[placed.api_key].lock(asset, atoms - order.locked)
            order.locked = atoms

    def _leave_list(self, order: Order, now_ms: int) -> None:
        """An order of a list has ended: the one that is left takes over what the list has set aside."""
        found = self.lists[order.placed.list_id]
        found.updated_ms = now_ms
        left = [self.orders[n] for n in found.opened.order_ids if n in self.orders and self.orders[n].is_open]
        found.is_done = not left
        if found.locked:
            heir = left[0] if left else order
            heir.locked += found.locked
            found.locked = 0
            self._lock(heir, heir.placed.locked if left else 0)

    def _leave_stops(self, placed: OrderPlaced) -> None:
        self.stops[placed.symbol].remove(placed)
        self.waiting_algos[placed.api_key, placed.symbol] -= 1

    # questions

    def is_trading(self, symbol: str) -> bool:
        """New orders are taken."""
        return (
            self.statuses[symbol] == TRADING and symbol not in self.over and self.books[symbol].touch is not None
        )

    def status(self, symbol: str) -> str:
        """The symbol's status as exchangeInfo shows it: HALT before its tape begins and after it has ended."""
        if symbol in self.over or self.books[symbol].touch is None:
            return "HALT"
        return self.statuses[symbol]

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

    def find_list(self, api_key: str, list_id: int | None, client_id: str | None) -> OrderList | None:
        """The order list with that id, else the latest with that client id, if it belongs to the account."""
        if list_id is None:
            return self._lists_by_client_id.get((api_key, client_id or ""))
        found = self.lists.get(list_id)
        if found is None or found.opened.api_key != api_key:
            return None
        return found if client_id in (None, found.opened.client_id) else None

    def open_orders(self, api_key: str, symbol: str | None) -> list[Order]:
        """Open orders of an account, oldest first."""
        symbols = self.symbols if symbol is None else (symbol,)
        found = [order for s in symbols for order in self._open.get((api_key, s), {}).values()]
        return sorted(found, key=lambda order: order.placed.order_id)

    def count_open(self, api_key: str, symbol: str) -> int:
        """How many orders of an account are open in a symbol."""
        return len(self._open.get((api_key, symbol), ()))

    def has_open_orders(self, symbol: str) -> bool:
        """Does anybody have an order open in *symbol*?"""
        return any(opened for (_, s), opened in self._open.items() if s == symbol)

    def legs(self, found: OrderList) -> list[Order]:
        """The orders of a list."""
        return [self.orders[number] for number in found.opened.order_ids]

    def fee_ppm(self, account: Account, rules: SymbolRules, is_maker: bool) -> int:
        """Fee of an execution, in millionths of what is received."""
        own = account.maker_ppm if is_maker else account.taker_ppm
        return own if own >= 0 else (rules.maker_ppm if is_maker else rules.taker_ppm)


def paid_asset(rules: SymbolRules, side: str) -> str:
    """The asset an order pays with."""
    return rules.quote if side == BUY else rules.base


def received_asset(rules: SymbolRules, side: str) -> str:
    """The asset an order receives, out of which its fee is taken unless that is paid in BNB."""
    return rules.base if side == BUY else rules.quote


def _key(seed: int, symbol: str) -> int:
    return int.from_bytes(blake2b(f"{seed}/{symbol}/crowd".encode(), digest_size=8).digest(), "big")

"""An account as its owner knows it: balances, open orders and order lists, from answers and account events alone.

The reference that the exchange is compared with: decimals, a few plain rules of what an order sets aside, and nothing
of the simulator's own. Events come as JSON values; whatever does not fit raises `Mismatch`. Leaves out what the market
does and what the exchange may refuse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Json = Mapping[str, Any]
ZERO = Decimal(0)
ENDS = {"FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH"}
NO_LIST = -1


class Mismatch(AssertionError):
    """The exchange told something that contradicts what it told before."""


@dataclass(slots=True)
class Known:
    """One order, as far as it was told. *stop* 0: it never waits; *price* 0: at market."""

    symbol: str
    side: str
    kind: str
    tif: str
    client_id: str
    list_id: int
    price: Decimal
    stop: Decimal
    qty: Decimal
    filled: Decimal = ZERO
    spent: Decimal = ZERO
    prevented: Decimal = ZERO
    status: str = "NEW"
    waits: bool = False

    @property
    def left(self) -> Decimal:
        """Neither filled nor prevented."""
        return self.qty - self.filled - self.prevented

    @property
    def is_open(self) -> bool:
        """Not ended."""
        return self.status not in ENDS

    def needs(self) -> Decimal:
        """What it holds: the base it sells, or the quote it may come to pay."""
        return self.left if self.side == "SELL" else self.left * (self.price or self.stop)


@dataclass(slots=True)
class Model:
    """One account. *pairs* maps a symbol to its base and quote, *total* is free and locked together."""

    pairs: Mapping[str, tuple[str, str]]
    total: defaultdict[str, Decimal]
    orders: dict[int, Known] = field(default_factory=dict)
    open: dict[int, Known] = field(default_factory=dict)
    lists: dict[int, list[int]] = field(default_factory=dict)
    list_status: dict[int, str] = field(default_factory=dict)
    trades: dict[int, Json] = field(default_factory=dict)
    told: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)  # free and locked by the last position

    # what is heard

    def hear(self, event: Json) -> None:
        """One account event."""
        match event["e"]:
            case "executionReport":
                self._report(event)
            case "balanceUpdate":
                self.total[event["a"]] += Decimal(event["d"])
            case "listStatus":
                self._list_status(event)
            case "outboundAccountPosition":
                self._position(event)
            case other:
                raise Mismatch(f"{other} is no account event")

    def _report(self, event: Json) -> None:
        number, what = event["i"], event["x"]
        order = self.open.get(number)
        if what == "NEW" and number not in self.orders:
            order = self._opened(event)
        elif order is None:
            raise Mismatch(f"{what} of order {number}, which is not open: {event}")
        match what:
            case "NEW":
                _same("status", event["X"], "PARTIALLY_FILLED" if order.filled else "NEW")
                order.waits = bool(order.stop) and not event["w"] and "W" not in event
            case "TRADE":
                self._trade(number, order, event)
            case "TRADE_PREVENTION":
                order.prevented += Decimal(event["B"])
                _same("prevented", Decimal(event["A"]), order.prevented)
            case "CANCELED" | "EXPIRED":
                _same("has ended", event["X"] in ENDS - {"FILLED"}, True)
                _same("original id", event["C"], order.client_id if what == "CANCELED" else "")
            case other:
                raise Mismatch(f"execution type {other}")
        order.status = event["X"]
        _same("filled", (Decimal(event["z"]), Decimal(event["Z"])), (order.filled, order.spent))
        if order.left < 0:
            raise Mismatch(f"order {number} got more than it asked for: {event}")
        if not order.is_open:
            del self.open[number]

    def _opened(self, event: Json) -> Known:
        number, list_id = event["i"], event["g"]
        if any(o.client_id == event["c"] for o in self.of(event["s"])):
            raise Mismatch(f"order {number} has the id of an order that is open: {event}")
        order = Known(
            event["s"], event["S"], event["o"], event["f"], event["c"], list_id, Decimal(event["p"]),
            Decimal(event["P"]), Decimal(event["q"]),
        )  # fmt: skip
        if order.qty <= 0 or order.price < 0:
            raise Mismatch(f"order {number} is for nothing: {event}")
        self.orders[number] = self.open[number] = order
        if list_id != NO_LIST:
            self.lists.setdefault(list_id, []).append(number)
        return order

    def _trade(self, number: int, order: Known, event: Json) -> None:
        qty, price, cost, fee = (Decimal(event[name]) for name in ("l", "L", "Y", "n"))
        _same("worth", cost, qty * price)
        if qty <= 0 or price <= 0 or fee < 0 or event["t"] in self.trades:
            raise Mismatch(f"such a trade cannot be: {event}")
        if order.price and (price > order.price if order.side == "BUY" else price < order.price):
            raise Mismatch(f"order {number} with limit {order.price} was filled at {price}")
        base, quote = self.pairs[order.symbol]
        sign = 1 if order.side == "BUY" else -1
        self.total[base] += sign * qty
        self.total[quote] -= sign * cost
        self.total[event["N"]] -= fee
        order.filled += qty
        order.spent += cost
        self.trades[event["t"]] = event
        _same("status", event["X"], "PARTIALLY_FILLED" if order.left else "FILLED")

    def _list_status(self, event: Json) -> None:
        number = event["g"]
        _same("orders of the list", [one["i"] for one in event["O"]], self.lists.get(number))
        is_open = any(leg in self.open for leg in self.lists[number])
        _same("list status", event["l"], "EXEC_STARTED" if is_open else "ALL_DONE")
        self.list_status[number] = event["L"]

    def _position(self, event: Json) -> None:
        """Whoever only follows positions knows every balance after each of them."""
        for row in event["B"]:
            self.told[row["a"]] = Decimal(row["f"]), Decimal(row["l"])
        _same("positions told", _something(self.told), _something(self.balances()))

    # what is known

    def balances(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Free and locked by asset."""
        locked = self._locked()
        return {asset: (self.total[asset] - locked[asset], locked[asset]) for asset in {*self.total, *locked}}

    def _locked(self) -> defaultdict[str, Decimal]:
        """A pair of orders holds what the dearer one needs, for only one of them can be filled."""
        locked: defaultdict[str, Decimal] = defaultdict(Decimal)
        pairs: dict[tuple[int, str], Decimal] = {}
        for order in self.open.values():
            base, quote = self.pairs[order.symbol]
            asset = base if order.side == "SELL" else quote
            if order.list_id == NO_LIST:
                locked[asset] += order.needs()
            else:
                key = (order.list_id, asset)
                pairs[key] = max(pairs.get(key, ZERO), order.needs())
        for (_, asset), needed in pairs.items():
            locked[asset] += needed
        return locked

    def of(self, symbol: str) -> list[Known]:
        """Open orders of one symbol."""
        return [order for order in self.open.values() if order.symbol == symbol]

    # what is asked

    def check_account(self, answer: Json) -> None:
        """GET account shows the balances that are known, and none below 0."""
        shown = {row["asset"]: (Decimal(row["free"]), Decimal(row["locked"])) for row in answer["balances"]}
        _same("balances", _something(shown), _something(self.balances()))
        if any(free < 0 or locked < 0 for free, locked in shown.values()):
            raise Mismatch(f"a balance is below 0: {shown}")

    def check_open_orders(self, rows: Iterable[Json], symbol: str | None = None) -> None:
        """GET openOrders shows exactly the orders that are known to be open."""
        rows = list(rows)
        wanted = [number for number, order in self.open.items() if symbol in (None, order.symbol)]
        _same("open orders", [row["orderId"] for row in rows], sorted(wanted))
        for row in rows:
            self.check_order(row)

    def check_open_lists(self, rows: Iterable[Json]) -> None:
        """GET openOrderList shows exactly the lists with an open order."""
        wanted = [number for number, legs in self.lists.items() if any(leg in self.open for leg in legs)]
        _same("open lists", [row["orderListId"] for row in rows], sorted(wanted))

    def check_order(self, row: Json) -> None:
        """Any answer that shows an order, whatever part of it."""
        order = self.orders.get(row["orderId"])
        if order is None:
            raise Mismatch(f"an order that nobody told of: {row}")
        is_cancel = "origClientOrderId" in row
        shown = {
            "symbol": order.symbol, "orderListId": order.list_id, "side": order.side, "type": order.kind,
            "timeInForce": order.tif, "status": order.status,
            "origClientOrderId" if is_cancel else "clientOrderId": order.client_id,
        }  # fmt: skip
        for name, value in shown.items():
            _same(f"{name} of order {row['orderId']}", row.get(name, value), value)
        amounts = {
            "price": order.price, "origQty": order.qty, "executedQty": order.filled, "stopPrice": order.stop,
            "cummulativeQuoteQty": order.spent, "preventedQuantity": order.prevented,
        }  # fmt: skip
        for name, amount in amounts.items():
            _same(f"{name} of order {row['orderId']}", Decimal(row.get(name, amount)), amount)
        if "isWorking" in row and order.is_open:
            _same(f"isWorking of order {row['orderId']}", row["isWorking"], not order.waits)
        for fill in row.get("fills", ()):
            told = self.trades[fill["tradeId"]]
            _same("fill", [fill[k] for k in ("price", "qty", "commission")], [told[k] for k in ("L", "l", "n")])

    def check_trade(self, row: Json) -> None:
        """A row of myTrades."""
        told = self.trades.get(row["id"])
        if told is None:
            raise Mismatch(f"a trade that nobody told of: {row}")
        shown = ("orderId", "price", "qty", "quoteQty", "commission", "commissionAsset", "isMaker", "symbol", "time")
        _same("trade", [row[k] for k in shown], [told[k] for k in ("i", "L", "l", "Y", "n", "N", "m", "s", "T")])


def model_of(pairs: Mapping[str, tuple[str, str]], deposits: Mapping[str, str]) -> Model:
    """An account that was just opened with *deposits*."""
    total = defaultdict(Decimal, {asset: Decimal(amount) for asset, amount in deposits.items()})
    found = Model(pairs, total)
    found.told = found.balances()
    return found


def _something(balances: Mapping[str, tuple[Decimal, Decimal]]) -> dict[str, tuple[Decimal, Decimal]]:
    return {asset: pair for asset, pair in balances.items() if pair[0] or pair[1]}


def _same(what: str, told: object, known: object) -> None:
    if told != known:
        raise Mismatch(f"{what}: told {told}, known {known}")

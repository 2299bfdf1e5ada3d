"""A ledger as it was written, read into exact figures: the shape of ``GET /sim/ledger``, and nothing about its truth.

Everything that a proof needs must be there, in the form in which the ledger promises it: amounts as plain decimal text,
ids and times as whole numbers. What is missing or malformed is `Unreadable`, with the place where it is; what is there
beyond that is left alone. Shares no code with the exchange that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

SIDES = ("BUY", "SELL")
OPEN = ("NEW", "PARTIALLY_FILLED")
ENDED = ("FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH")
CHANGES = ("NEW", "TRIGGERED", "TRADE", "PREVENTED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH")
LIST_STATES = ("EXECUTING", "ALL_DONE")
_AMOUNT = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,20})?", re.ASCII)
_MAX_INT = 1 << 63

Money = dict[str, Decimal]
T = TypeVar("T")


class Unreadable(ValueError):
    """This is no ledger; the text says where and what should be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step in an order's life. *filled_qty* is what was filled after it; *trade_id* belongs to TRADE alone."""

    what: str
    time: int
    status: str
    filled_qty: Decimal
    trade_id: int | None
    prevented_qty: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as it stands. *price* 0: at market; *quote_order_qty* 0: none given."""

    order_id: int
    client_order_id: str
    order_list_id: int
    symbol: str
    base: str
    quote: str
    side: str
    status: str
    price: Decimal
    qty: Decimal
    quote_order_qty: Decimal
    filled_qty: Decimal
    filled_quote: Decimal
    prevented_qty: Decimal
    locked: Decimal
    locked_asset: str
    changes: tuple[Change, ...]

    @property
    def is_open(self) -> bool:
        """By its own word, the order can still trade."""
        return self.status in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderList:
    """Orders that lock one amount together."""

    order_list_id: int
    symbol: str
    status: str
    order_ids: tuple[int, ...]
    locked: Decimal
    locked_asset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution. *against* 0: the market; else the other customer's order."""

    trade_id: int
    order_id: int
    client_order_id: str
    symbol: str
    side: str
    price: Decimal
    qty: Decimal
    quote_qty: Decimal
    fee: Decimal
    fee_asset: str
    is_maker: bool
    against: int
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One customer. `balances` maps an asset to (free, locked); `transfers` are sums per asset."""

    api_key: str
    name: str
    deposits: Money
    transfers: Money
    balances: dict[str, tuple[Decimal, Decimal]]
    orders: tuple[Order, ...]
    lists: tuple[OrderList, ...]
    fills: tuple[Fill, ...]

    @property
    def label(self) -> str:
        """How sentences call the account: its name and the last characters of its key."""
        return f"{self.name} (…{self.api_key[-4:]})" if self.name else f"…{self.api_key[-4:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All accounts; *fees* and *market* are what the exchange says it took, and what its market gained or lost."""

    accounts: tuple[Account, ...]
    fees: Money
    market: Money


def read(document: object) -> Ledger:
    """The ledger in *document*, which came out of JSON. Raises `Unreadable`."""
    top = _Node(document, "the ledger")
    exchange = top.node("exchange")
    return Ledger(
        accounts=top.each("accounts", _account),
        fees=exchange.money("fees"),
        market=exchange.money("market"),
    )


class _Node:
    """One JSON object and the path to it."""

    def __init__(self, value: object, path: str) -> None:
        self._path = path
        if not isinstance(value, Mapping):
            raise Unreadable(f"{path} is {_shown(value)}: it must be an object.")
        self._value = value

    def has(self, name: str) -> bool:
        return self._value.get(name) is not None

    def node(self, name: str) -> _Node:
        return _Node(self._get(name), self._at(name))

    def each(self, name: str, read_one: Callable[[_Node], T]) -> tuple[T, ...]:
        rows = self._list(name)
        return tuple(read_one(_Node(row, f"{self._at(name)}[{number}]")) for number, row in enumerate(rows))

    def names(self) -> list[str]:
        return list(self._value)

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        value = self._get(name)
        if value not in choices or not isinstance(value, str):
            raise self._wrong(name, value, f"one of {', '.join(choices)}")
        return value

    def whole(self, name: str) -> int:
        return self._whole(name, self._get(name))

    def wholes(self, name: str) -> tuple[int, ...]:
        return tuple(self._whole(name, value) for value in self._list(name))

    def truth(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def amount(self, name: str) -> Decimal:
        value = self._get(name)
        if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
            raise self._wrong(name, value, 'a decimal text such as "0.00100000"')
        return Decimal(value)

    def money(self, name: str) -> Money:
        amounts = self.node(name)
        return {asset: amounts.amount(asset) for asset in amounts.names()}

    def _get(self, name: str) -> object:
        if name not in self._value:
            raise Unreadable(f"{self._at(name)} is missing: a ledger as GET /sim/ledger answers it has it.")
        return self._value[name]

    def _list(self, name: str) -> list[object]:
        value = self._get(name)
        if not isinstance(value, list):
            raise self._wrong(name, value, "a list")
        return value

    def _whole(self, name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not -_MAX_INT <= value < _MAX_INT:
            raise self._wrong(name, value, "a whole number of 64 bits")
        return value

    def _at(self, name: str) -> str:
        return name if self._path == "the ledger" else f"{self._path}.{name}"

    def _wrong(self, name: str, value: object, wanted: str) -> Unreadable:
        return Unreadable(f"{self._at(name)} is {_shown(value)}: it must be {wanted}.")


def _account(node: _Node) -> Account:
    balances = node.node("balances")
    transfers: Money = {}
    for asset, amount in node.each("transfers", lambda row: (row.text("asset"), row.amount("amount"))):
        transfers[asset] = transfers.get(asset, Decimal(0)) + amount
    return Account(
        api_key=node.text("api_key"),
        name=node.text("name"),
        deposits=node.money("deposits"),
        transfers=transfers,
        balances={asset: _balance(balances.node(asset)) for asset in balances.names()},
        orders=node.each("orders", _order),
        lists=node.each("lists", _list),
        fills=node.each("fills", _fill),
    )


def _balance(node: _Node) -> tuple[Decimal, Decimal]:
    return node.amount("free"), node.amount("locked")


def _order(node: _Node) -> Order:
    return Order(
        order_id=node.whole("order_id"),
        client_order_id=node.text("client_order_id"),
        order_list_id=node.whole("order_list_id"),
        symbol=node.text("symbol"),
        base=node.text("base"),
        quote=node.text("quote"),
        side=node.one_of("side", SIDES),
        status=node.one_of("status", OPEN + ENDED),
        price=node.amount("price"),
        qty=node.amount("qty"),
        quote_order_qty=node.amount("quote_order_qty"),
        filled_qty=node.amount("filled_qty"),
        filled_quote=node.amount("filled_quote"),
        prevented_qty=node.amount("prevented_qty"),
        locked=node.amount("locked"),
        locked_asset=node.text("locked_asset"),
        changes=node.each("changes", _change),
    )


def _change(node: _Node) -> Change:
    return Change(
        what=node.one_of("what", CHANGES),
        time=node.whole("time"),
        status=node.one_of("status", OPEN + ENDED),
        filled_qty=node.amount("filled_qty"),
        trade_id=node.whole("trade_id") if node.has("trade_id") else None,
        prevented_qty=node.amount("prevented_qty") if node.has("prevented_qty") else Decimal(0),
    )


def _list(node: _Node) -> OrderList:
    return OrderList(
        order_list_id=node.whole("order_list_id"),
        symbol=node.text("symbol"),
        status=node.one_of("status", LIST_STATES),
        order_ids=node.wholes("order_ids"),
        locked=node.amount("locked"),
        locked_asset=node.text("locked_asset"),
    )


def _fill(node: _Node) -> Fill:
    return Fill(
        trade_id=node.whole("trade_id"),
        order_id=node.whole("order_id"),
        client_order_id=node.text("client_order_id"),
        symbol=node.text("symbol"),
        side=node.one_of("side", SIDES),
        price=node.amount("price"),
        qty=node.amount("qty"),
        quote_qty=node.amount("quote_qty"),
        fee=node.amount("fee"),
        fee_asset=node.text("fee_asset"),
        is_maker=node.truth("is_maker"),
        against=node.whole("against"),
        time=node.whole("time"),
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"

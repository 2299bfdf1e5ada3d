"""An exchange in this process with a wall clock of its own, asked in raw text as REST gets it.

Keeps a `Model` of each customer, which hears what a client would hear, and knows how to ask as that customer. What is
asked is for ``steps.py`` to choose, what must hold for ``test_requests.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import inspect
import json
from collections.abc import Mapping
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import quote

from simulator.api import order_wire
from simulator.api.call import Endpoint
from simulator.api.endpoints import ENDPOINTS
from simulator.core.exchange import Exchange
from simulator.core.orders import AccountOpened, Order, OrderFact, OrderList, Transferred
from simulator.core.rules import SYMBOLS, ApiError, parse_atoms
from simulator.doors.door import Door
from simulator.doors.limits import Limits
from simulator.doors.params import merged, signed_text
from simulator.doors.sockets import Gate
from simulator.doors.streams import Streams
from simulator.doors.ws_api import WsApi
from simulator.faults import BadFault, Faults
from simulator.market.candles import History
from simulator.market.clock import MarketClock
from simulator.market.generated import PROFILES, GeneratedTape
from simulator.venue import Listener, Venue
from simulator.works import Works
from tests.simulator.fuzz.model import Model, model_of

START_MS = 1_767_268_800_000  # 2026-01-01, noon
NAMES = ("BTCUSDT", "BNBUSDT", "BTCUSDC")
PAIRS = {name: (SYMBOLS[name].base, SYMBOLS[name].quote) for name in NAMES}
BY_CALL = {(endpoint.method, endpoint.path.removeprefix("/api/v3/")): endpoint for endpoint in ENDPOINTS}
RICH, SAVER, POOR, READER = "rich", "saver", "poor", "reader"
DEPOSITS: dict[str, dict[str, str]] = {
    RICH: {"USDT": "1000000", "USDC": "500000", "BTC": "20", "BNB": "2000"},
    SAVER: {"USDT": "50000", "USDC": "20000", "BTC": "1", "BNB": "9"},  # pays its fees in BNB
    POOR: {"USDT": "60", "USDC": "0.00000001", "BTC": "0.0004", "BNB": "0.02"},
    READER: {"USDT": "1000"},
}
KEYS = {who: hashlib.sha256(who.encode()).hexdigest() for who in DEPOSITS}
SECRETS = {who: f"secret of {who}" for who in DEPOSITS}
_FEES = {POOR: (0, 250)}
# The market is the same for all: what is computed once serves every exchange.
_TAPES = {name: GeneratedTape(SYMBOLS[name], 7) for name in NAMES}
_HISTORIES = {name: History(tape) for name, tape in _TAPES.items()}
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

Digest = tuple[object, ...]


class House(Listener):
    """One exchange and its customers. Raises `Mismatch` as soon as a customer is told what cannot be."""

    def __init__(self, runner: asyncio.Runner, enforced: bool) -> None:
        self._runner = runner
        self._auditors = count()
        self.wall_ms = START_MS
        symbols = {name: SYMBOLS[name] for name in NAMES}
        self.exchange = Exchange(symbols, 7, {name: int(PROFILES[name].lots) for name in NAMES})
        clock = MarketClock(START_MS, START_MS, 1.0)
        self.venue = Venue(self.exchange, dict(_TAPES), clock, None, wall=lambda: self.wall_ms)
        self.venue.histories = dict(_HISTORIES)
        limits = Limits(enforced)
        self.door = Door(self.venue, limits)
        self.faults = Faults()
        gate = Gate(limits, self.venue.wall)
        streams, ws_api = Streams(self.venue, self.faults, gate), WsApi(self.door, self.faults, gate)
        self.venue.listeners += [self.door, ws_api, self]
        self.faults.install(Works(self.venue, streams, ws_api), self.venue.now_ms, {})
        self.models: dict[str, Model] = {}
        self.touched: set[str] = set()
        for who, amounts in DEPOSITS.items():
            deposits = {asset: parse_atoms(asset, amount) for asset, amount in amounts.items()}
            maker, taker = _FEES.get(who, (-1, -1))
            self.venue.open_account(
                AccountOpened(
                    KEYS[who], SECRETS[who], who, 0, 0, deposits, can_trade=who != READER, maker_ppm=maker,
                    taker_ppm=taker, pays_in_bnb=who == SAVER,
                )
            )  # fmt: skip
            self.models[who] = model_of(PAIRS, amounts)
        self._by_key = {KEYS[who]: who for who in DEPOSITS}

    # what customers hear

    def on_fact(self, fact: OrderFact, order: Order) -> None:
        """An executionReport."""
        if order_wire.is_told(fact):
            rules = self.exchange.symbols[order.placed.symbol]
            self._tell(order.placed.api_key, order_wire.execution_report(rules, order, fact))

    def on_list(self, found: OrderList) -> None:
        """A listStatus."""
        self._tell(found.opened.api_key, order_wire.list_status(found, self.exchange.legs(found)))

    def on_transfer(self, fact: Transferred) -> None:
        """A balanceUpdate."""
        self._tell(fact.api_key, order_wire.balance_update(fact.asset, fact.atoms, fact.time_ms))

    def on_accounts(self, touched: Mapping[str, set[str]], time_ms: int) -> None:
        """An outboundAccountPosition to each."""
        for key, assets in touched.items():
            self._tell(key, order_wire.account_position(self.exchange.accounts[key], assets, time_ms))

    def _tell(self, key: str, event: object) -> None:
        who = self._by_key[key]
        self.touched.add(who)
        self.models[who].hear(json.loads(_encode(event)))

    # what customers ask

    def ask(self, endpoint: Endpoint, query: str, body: str, key: str | None, address: str = "fuzz") -> Any:
        """The answer, as JSON makes it, to what REST would get. Raises `ApiError`."""
        call = self.door.call(endpoint, merged(query, body), address, key, signed_text(query, body))
        if inspect.iscoroutinefunction(endpoint.handler):
            return json.loads(_encode(self._runner.run(call)))
        try:
            call.send(None)
        except StopIteration as done:
            return json.loads(_encode(done.value))
        call.close()
        raise AssertionError(f"{endpoint.path} waits, but its handler is no coroutine")

    def read(self, who: str, path: str, **params: str) -> Any:
        """The answer to a signed GET that nothing is wrong with, at an address of its own that no limit stops."""
        query = encoded([*params.items(), ("timestamp", str(self.venue.api_ms()))])
        query += f"&signature={signed(who, query)}"
        return self.ask(BY_CALL["GET", path], query, "", KEYS[who], f"auditor {next(self._auditors)}")

    def last(self, symbol: str) -> int:
        """The last price in ticks."""
        touch = self.exchange.books[symbol].touch
        assert touch is not None
        return touch.last.price

    # what is done from outside

    def wait(self, ms: int) -> None:
        """Let time pass, and the market with it."""
        self.wall_ms += ms
        self.venue.advance()
        self.faults.end_due(self.wall_ms)

    def break_something(self, fault: Mapping[str, object]) -> bool:
        """Switch a fault on; false when its description is refused."""
        try:
            self.faults.add(fault, self.wall_ms)
        except BadFault:
            return False
        return True

    # what must hold

    def audit(self, who: str) -> None:
        """What the exchange shows a customer is what the customer knows."""
        model = self.models[who]
        model.check_account(self.read(who, "account"))
        model.check_open_orders(self.read(who, "openOrders"))

    def digest(self) -> Digest:
        """Everything in the ledger that a request can change."""
        exchange = self.exchange
        return (
            [(key, {a: (*pair,) for a, pair in one.balances.items()}) for key, one in exchange.accounts.items()],
            len(exchange.orders),
            len(exchange.lists),
            exchange.last_trade_id,
            exchange.last_match_id,
            [[n.placed.order_id for n in exchange.open_orders(key, None)] for key in exchange.accounts],
        )

    def missing(self) -> dict[str, int]:
        """Atoms that came in and are nowhere now, or that came from nowhere, by asset: none, when all is well."""
        exchange = self.exchange
        atoms = {asset: -amount for asset, amount in exchange.fees.items()}
        for asset, amount in exchange.market.items():
            atoms[asset] = atoms.get(asset, 0) - amount
        for account in exchange.accounts.values():
            for asset, amount in account.deposits.items():
                atoms[asset] = atoms.get(asset, 0) + amount
            for transfer in exchange.transfers[account.api_key]:
                atoms[transfer.asset] = atoms.get(transfer.asset, 0) + transfer.atoms
            for asset, (free, locked) in account.balances.items():
                atoms[asset] = atoms.get(asset, 0) - free - locked
        return {asset: amount for asset, amount in atoms.items() if amount}


def encoded(pairs: list[tuple[str, str]]) -> str:
    """A query or form body."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def signed(who: str, text: str) -> str:
    """The signature of *text*."""
    return hmac.new(SECRETS[who].encode(), text.encode(), hashlib.sha256).hexdigest()


def decimal_text(ticks: int, unit: int) -> str:
    """*ticks* of *unit* atoms as a plain decimal."""
    text = f"{Decimal(ticks * unit).scaleb(-8):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def refused(error: ApiError) -> None:
    """A refusal is one in the exchange's own words, and can be sent."""
    assert 400 <= error.status < 500, (error.status, error.code, error.msg)
    assert error.code < 0, (error.code, error.msg)
    assert error.msg, error.code
    json.loads(_encode(error.body()))

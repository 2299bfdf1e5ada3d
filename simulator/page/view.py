"""What the page shows, as plain data: one frozen tree of texts and numbers, built from the running exchange.

Reads and never changes. Everything is formatted here, so that the template only places it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import nlargest

from simulator.core.exchange import received_asset
from simulator.core.orders import Filled, Order
from simulator.core.rules import SymbolRules, fixed
from simulator.faults import Faults
from simulator.faults.switchboard import MARKET
from simulator.page import figures
from simulator.page.desk import meets
from simulator.page.figures import Amount
from simulator.page.recent import Recent
from simulator.page.sparkline import Spark, sparkline
from simulator.venue import Venue

LEVELS = 5
SPARK_S = 60
MOST_ACCOUNTS, MOST_ORDERS = 12, 40
SAME_CLOCK_MS = 1500  # clocks that differ by less show no difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One price of the book; *share* is its part of the largest quantity shown, in percent."""

    price: str
    qty: str
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One symbol. *trend* is up, down or flat, as *change* over the last minute says; texts are empty before the first
    trade."""

    symbol: str
    base: str
    quote: str
    status: str
    last: str
    trend: str
    change: str
    spread: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    spark: Spark | None

    @property
    def rows(self) -> list[tuple[Level | None, Level | None]]:
        """Bid and ask beside one another, best first."""
        count = max(len(self.bids), len(self.asks))
        bids, asks = ([*side, *[None] * (count - len(side))] for side in (self.bids, self.asks))
        return list(zip(bids, asks, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """One customer."""

    name: str
    last4: str
    balances: tuple[tuple[str, Amount, Amount], ...]
    open_orders: int
    orders: int
    fills: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """One open order. *filled* is in percent; *ahead* and *stop* are empty when there is none."""

    order_id: int
    client_id: str
    symbol: str
    side: str
    type: str
    price: str
    stop: str
    qty: str
    filled: str
    ahead: str
    account: str
    age: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FillView:
    """One execution."""

    trade_id: int
    order_id: int
    time: str
    moment: str
    symbol: str
    side: str
    price: str
    qty: str
    fee: Amount
    fee_asset: str
    role: str
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultView:
    """One fault that is on: what it meets in words, and what is left of it."""

    id: str
    kind: str
    meets: str
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The whole page. `more_accounts` and `more_orders` are how many are not shown."""

    about: str
    market_clock: str
    market_day: str
    wall_clock: str
    wall_day: str
    offset: str
    speed: str
    connections: tuple[tuple[str, int], ...]
    markets: tuple[Market, ...]
    accounts: tuple[AccountView, ...]
    more_accounts: int
    orders: tuple[OrderView, ...]
    more_orders: int
    fills: tuple[FillView, ...]
    faults: tuple[FaultView, ...]

    @property
    def trading(self) -> int:
        """How many symbols are traded now."""
        return sum(market.status == "TRADING" for market in self.markets)

    @property
    def account_count(self) -> int:
        """All accounts, shown or not."""
        return len(self.accounts) + self.more_accounts

    @property
    def order_count(self) -> int:
        """All open orders, shown or not."""
        return len(self.orders) + self.more_orders


def view(
    venue: Venue, faults: Faults, recent: Recent, about: str, connected: Mapping[str, Callable[[], int]]
) -> View:
    """The exchange as it stands at this moment of both clocks."""
    market_ms, wall_ms = venue.advance(), venue.wall()
    exchange = venue.exchange
    open_orders = {key: exchange.open_orders(key, None) for key in exchange.accounts}
    latest = sorted((order for orders in open_orders.values() for order in orders), key=_number, reverse=True)
    accounts = nlargest(MOST_ACCOUNTS, exchange.accounts.values(), key=lambda account: account.updated_ms)
    return View(
        about=about,
        market_clock=figures.clock(market_ms),
        market_day=figures.day(market_ms),
        wall_clock=figures.clock(wall_ms),
        wall_day=figures.day(wall_ms),
        offset=_offset(market_ms - wall_ms),
        speed=f"{venue.clock.speed:g}",
        connections=tuple((name, count()) for name, count in connected.items()),
        markets=tuple(_market(venue, symbol, market_ms) for symbol in exchange.symbols),
        accounts=tuple(
            AccountView(
                name=account.name,
                last4=account.api_key[-4:],
                balances=_balances(account.balances),
                open_orders=len(open_orders[account.api_key]),
                orders=len(exchange.by_account[account.api_key]),
                fills=recent.counts[account.api_key],
            )
            for account in sorted(accounts, key=lambda account: account.uid)
        ),
        more_accounts=len(exchange.accounts) - len(accounts),
        orders=tuple(_order(venue, order, market_ms) for order in latest[:MOST_ORDERS]),
        more_orders=max(0, len(latest) - MOST_ORDERS),
        fills=tuple(_fill(venue, order, fill) for order, fill in reversed(recent.fills)),
        faults=tuple(_fault(row) for row in faults.listed(wall_ms)),
    )


def _market(venue: Venue, symbol: str, market_ms: int) -> Market:
    rules, touch = venue.exchange.symbols[symbol], venue.exchange.books[symbol].touch
    closes = venue.histories[symbol].klines("1s", None, None, SPARK_S, market_ms).close.tolist()
    change = figures.percent(closes[-1], closes[0]) if closes else ""
    bids, asks = venue.book_levels(symbol, LEVELS)
    largest = max((qty for _, qty in bids + asks), default=1)
    gap = asks[0][0] - bids[0][0] if bids and asks else 0
    return Market(
        symbol=symbol,
        base=rules.base,
        quote=rules.quote,
        status=venue.exchange.status(symbol),
        last="" if touch is None else figures.price(rules, touch.last.price),
        trend={"+": "up", "−": "down"}.get(change[:1], "flat"),
        change=change,
        spread=f"{figures.price(rules, gap)} · {gap / asks[0][0] * 10_000:.3f} bp" if gap else "",
        bids=_levels(rules, bids, largest),
        asks=_levels(rules, asks, largest),
        spark=_spark(rules, closes),
    )


def _levels(rules: SymbolRules, levels: list[tuple[int, int]], largest: int) -> tuple[Level, ...]:
    return tuple(
        Level(price=figures.price(rules, price), qty=figures.quantity(rules, qty), share=max(1, qty * 100 // largest))
        for price, qty in levels
    )


def _spark(rules: SymbolRules, closes: list[int]) -> Spark | None:
    if len(closes) < 2:
        return None
    return sparkline(closes, figures.price(rules, min(closes)), figures.price(rules, max(closes)))


def _balances(balances: Mapping[str, list[int]]) -> tuple[tuple[str, Amount, Amount], ...]:
    """What an account has or has locked; assets that are used up are left out, unless all are."""
    kept = {asset: both for asset, both in sorted(balances.items()) if any(both)} or balances
    return tuple(
        (asset, figures.amount(fixed(free)), figures.amount(fixed(locked))) for asset, (free, locked) in kept.items()
    )


def _order(venue: Venue, order: Order, market_ms: int) -> OrderView:
    placed, rules = order.placed, venue.exchange.symbols[order.placed.symbol]
    return OrderView(
        order_id=placed.order_id,
        client_id=placed.client_id,
        symbol=placed.symbol,
        side=placed.side,
        type=words(placed.type),
        price=figures.price(rules, placed.price) if placed.price else "",
        stop=figures.price(rules, placed.stop) if placed.stop else "",
        qty=figures.quantity(rules, placed.qty),
        filled=f"{order.filled * 100 // placed.qty}",
        ahead=_ahead(venue, order),
        account=_account(venue, placed.api_key),
        age=figures.duration(max(0, market_ms - placed.time_ms) / 1000),
        since=figures.moment(placed.time_ms),
    )


def _ahead(venue: Venue, order: Order) -> str:
    """What of the market stands before a resting order; empty for one that is not in the book."""
    placed = order.placed
    if not order.is_resting:
        return ""
    lots = venue.exchange.books[placed.symbol].ahead_of(placed.order_id, placed.side, placed.price)
    return figures.quantity(venue.exchange.symbols[placed.symbol], lots)


def _fill(venue: Venue, order: Order, fill: Filled) -> FillView:
    placed, rules = order.placed, venue.exchange.symbols[order.placed.symbol]
    return FillView(
        trade_id=fill.trade_id,
        order_id=fill.order_id,
        time=figures.clock(fill.time_ms),
        moment=figures.moment(fill.time_ms),
        symbol=placed.symbol,
        side=placed.side,
        price=figures.price(rules, fill.price),
        qty=figures.quantity(rules, fill.qty),
        fee=figures.amount(fixed(fill.fee)),
        fee_asset=fill.fee_asset or received_asset(rules, placed.side),
        role="maker" if fill.is_maker else "taker",
        account=_account(venue, placed.api_key),
    )


def _fault(row: Mapping[str, object]) -> FaultView:
    left = [f"{row['count']}×"] if "count" in row else []
    if "left_s" in row:
        of_market = " of market time" if row.get("clock") == MARKET else ""
        left.append(figures.duration(float(str(row["left_s"]))) + of_market)
    words_of = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in meets(row)}
    if "api_key" in words_of:
        words_of["api_key"] = f"…{words_of['api_key'][-4:]}"
    shown = [f"{words(name)} {value}" for name, value in words_of.items()]
    if row.get("hits"):
        shown.append(f"struck {row['hits']}×")
    return FaultView(
        id=str(row["id"]), kind=str(row["kind"]), meets=" · ".join(shown),
        left=f"{' or '.join(left)} left" if left else "until cleared",
    )  # fmt: skip


def _account(venue: Venue, api_key: str) -> str:
    return venue.exchange.accounts[api_key].name or f"…{api_key[-4:]}"


def _offset(ms: int) -> str:
    """How the market's clock stands to the wall's; empty when they agree."""
    if abs(ms) < SAME_CLOCK_MS:
        return ""
    return f"{figures.duration(abs(ms) / 1000)} {'ahead of' if ms > 0 else 'behind'} the wall"


def words(name: str) -> str:
    """``STOP_LOSS_LIMIT`` as people say it."""
    return name.replace("_", " ").lower()


def _number(order: Order) -> int:
    return order.placed.order_id

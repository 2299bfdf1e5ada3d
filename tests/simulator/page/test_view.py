"""What the page shows of an exchange, without a server: plain data, and the HTML made of it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from simulator.core.exchange import Exchange
from simulator.core.orders import AccountOpened, Request
from simulator.core.rules import SYMBOLS
from simulator.faults import Faults
from simulator.market.candles import Trades
from simulator.market.clock import MarketClock
from simulator.market.replay import ReplayTape
from simulator.page.page import HEADERS, SCRIPT, STYLE, written
from simulator.page.recent import SHOWN, Recent
from simulator.page.view import MOST_ACCOUNTS, View, view
from simulator.venue import Venue

BTC = SYMBOLS["BTCUSDT"]
START_MS = 1_767_225_600_000  # 2026-01-01
PRICE = 6_000_000
COIN = 10**8


class Desk:
    """A venue whose wall the test moves: one trade a second, the price one tick up each time."""

    def __init__(self, store=None) -> None:
        self.wall_ms = START_MS + 100_000
        count = 400
        tape = ReplayTape(
            BTC,
            Trades(
                id=np.arange(1, count + 1, dtype=np.int64),
                time_ms=START_MS + 1000 * np.arange(count, dtype=np.int64),
                price=PRICE + np.arange(count, dtype=np.int64),
                qty=np.full(count, 500, np.int64),
                buyer_maker=np.zeros(count, np.bool_),
            ),
        )
        clock = MarketClock(START_MS + 100_000, START_MS + 100_000, 1.0)
        self.venue = Venue(Exchange({"BTCUSDT": BTC}), {"BTCUSDT": tape}, clock, store, lambda: self.wall_ms)
        self.recent = Recent(self.venue.exchange)
        self.venue.listeners.append(self.recent)
        self.faults = Faults()

    def account(self, name: str, number: int = 1) -> str:
        key = f"{number:064d}"
        self.venue.open_account(AccountOpened(key, "s", name, 0, 0, {"USDT": 10_000 * COIN, "BTC": COIN}))
        return key

    def order(self, api_key: str, side: str, lots: int, ticks: int | None = None, client_id: str = "") -> None:
        self.venue.place(
            Request(
                api_key=api_key, symbol="BTCUSDT", side=side, type="LIMIT" if ticks else "MARKET", tif="GTC",
                qty=lots * BTC.lot_atoms, quote_qty=None, price=ticks and ticks * BTC.tick_atoms,
                client_id=client_id or f"c{len(self.venue.exchange.orders)}", stp="EXPIRE_MAKER",
            )
        )  # fmt: skip

    def view(self) -> View:
        return view(self.venue, self.faults, self.recent, "a test", {"streams": lambda: 2, "API": lambda: 1})

    def page(self) -> str:
        return written(self.view(), "127.0.0.1:9700")


@pytest.fixture
def desk() -> Desk:
    """An exchange nobody has traded at."""
    return Desk()


def test_the_market_is_shown_with_its_last_price_touch_and_last_minute(desk):
    (market,) = desk.view().markets

    assert (market.base, market.quote, market.status, market.last) == ("BTC", "USDT", "TRADING", "60,001.00")
    assert (market.bids[0].price, market.asks[0].price) == ("60,000.99", "60,001.00")
    assert (market.trend, market.change) == ("flat", "0.00 %")
    assert market.spread.startswith("0.01 · 0.002 bp")
    assert market.spark is not None
    assert (market.spark.high, len(market.spark.points.split())) == ("60,001.00", 60)


def test_the_ladder_has_five_levels_a_side_best_first_and_the_largest_fills_its_row(desk):
    (market,) = desk.view().markets
    bids, asks = ([float(level.price.replace(",", "")) for level in side] for side in (market.bids, market.asks))

    assert (len(bids), len(asks)) == (5, 5)
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert max(level.share for level in market.bids + market.asks) == 100


def test_both_clocks_are_shown_with_how_they_stand_to_one_another(desk):
    assert (desk.view().market_clock, desk.view().offset) == ("00:01:40", "")

    desk.venue.clock = MarketClock(desk.wall_ms, START_MS + 100_000, 5.0)
    desk.wall_ms += 10_000

    seen = desk.view()
    assert (seen.market_clock, seen.wall_clock, seen.speed) == ("00:02:30", "00:01:50", "5")
    assert seen.offset == "40 s ahead of the wall"


def test_a_market_at_its_end_is_halted_in_words_and_colour(desk):
    desk.wall_ms += 3_600_000

    assert desk.view().markets[0].status == "HALT"
    assert '<span class="pill pill-bad">halt</span>' in desk.page()


def test_a_market_that_has_not_begun_says_so():
    desk = Desk()
    desk.venue.exchange.books["BTCUSDT"].touch = None
    market = replace(desk.view().markets[0], last="", bids=(), asks=(), spark=None)

    assert "No trade yet: its tape has not begun." in written(replace(desk.view(), markets=(market,)), "h")


def test_an_account_shows_balances_and_how_much_it_has_done(desk):
    key = desk.account("Ada")
    desk.order(key, "BUY", 1_000)
    desk.order(key, "BUY", 1_000, PRICE - 5000)

    (account,) = desk.view().accounts

    assert (account.name, account.last4, account.open_orders, account.orders) == ("Ada", "0001", 1, 2)
    assert account.fills == len(desk.venue.exchange.orders[1].fills) > 0
    free = {asset: (str(free), str(locked)) for asset, free, locked in account.balances}
    assert free["BTC"] == ("1.00999000", "0.00000000")
    assert free["USDT"][1] == "599.50000000"


def test_an_open_order_shows_what_is_filled_what_is_ahead_and_its_age(desk):
    key = desk.account("Ada")
    desk.order(key, "BUY", 700, PRICE + 90, "mine")
    desk.wall_ms += 65_000

    (order,) = desk.view().orders

    assert (order.client_id, order.side, order.type, order.account) == ("mine", "BUY", "limit", "Ada")
    assert (order.price, order.stop, order.qty, order.filled) == ("60,000.90", "", "0.00700", "0")
    assert re.fullmatch(r"0\.\d{5}", order.ahead)
    assert (order.age, order.since) == ("1 min 5 s", "2026-01-01 00:01:40.000 UTC")


def test_the_newest_orders_and_the_accounts_active_last_are_shown_and_the_rest_counted(desk):
    for number in range(1, MOST_ACCOUNTS + 4):
        key = desk.account(f"a{number}", number)
        desk.wall_ms += 1000
        desk.order(key, "BUY", 1_000, PRICE - 5000)

    seen = desk.view()

    assert [account.name for account in seen.accounts] == [f"a{n}" for n in range(4, MOST_ACCOUNTS + 4)]
    assert (seen.more_accounts, seen.account_count, seen.order_count) == (3, MOST_ACCOUNTS + 3, MOST_ACCOUNTS + 3)
    assert seen.orders[0].account == f"a{MOST_ACCOUNTS + 3}"
    assert "the 12 active last" in desk.page()


def test_the_last_fills_come_newest_first_and_stay_few(desk):
    key = desk.account("Ada")
    for _ in range(SHOWN + 5):
        desk.order(key, "SELL", 100)

    fills = desk.view().fills

    assert len(fills) == SHOWN
    assert [fill.trade_id for fill in fills] == sorted((fill.trade_id for fill in fills), reverse=True)
    assert (fills[0].side, fills[0].role, fills[0].fee_asset) == ("SELL", "taker", "USDT")


def test_fills_from_before_a_restart_are_known(desk):
    key = desk.account("Ada")
    for _ in range(SHOWN + 5):
        desk.order(key, "SELL", 100)

    again = Recent(desk.venue.exchange)

    assert list(again.fills) == list(desk.recent.fills)
    assert again.counts == desk.recent.counts


class Elements(HTMLParser):
    """All elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_nothing_from_anywhere_and_keeps_its_own_policy(desk):
    key = desk.account("Ada")
    desk.order(key, "BUY", 1_000)
    desk.order(key, "BUY", 1_000, PRICE - 5000)
    text = desk.page()

    for tag, attributes in Elements(text).found:
        assert not any(name == "style" or name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "action"):
            assert str(attributes.get(name, "/")).startswith(("/", "#", "data:")), (tag, attributes)
    assert re.findall(r"<style>(.*?)</style>", text, re.DOTALL) == [STYLE]
    assert re.findall(r"<script>(.*?)</script>", text, re.DOTALL) == [SCRIPT]
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_ids_are_unique_so_that_each_part_finds_its_place_again(desk):
    desk.account("Ada")
    ids = [attributes["id"] for _, attributes in Elements(desk.page()).found if "id" in attributes]
    assert len(ids) == len(set(ids))
    live = [attributes for _, attributes in Elements(desk.page()).found if "data-live" in attributes]
    assert len(live) > 5
    assert all("id" in attributes for attributes in live)


def test_what_customers_call_themselves_is_only_text(desk):
    key = desk.account("<script>alert(1)</script>")
    desk.order(key, "BUY", 1_000, PRICE - 5000, "a-b_c")

    text = written(desk.view(), 'evil"><b>', error="<i>no</i>", form={"kind": '"><u>'})

    assert "<script>alert" not in text
    assert "evil&#34;&gt;&lt;b&gt;" in text
    assert "&lt;i&gt;no&lt;/i&gt;" in text
    assert "<u>" not in text


def test_an_empty_exchange_says_what_to_do(desk):
    text = desk.page()
    assert "No account yet. This opens one" in text
    assert "curl http://127.0.0.1:9700/sim/accounts -d" in text
    assert "No order is open." in text
    assert "Nothing is filled yet." in text
    assert "Nothing is broken." in text
    assert "ws://127.0.0.1:9700/ws-api/v3" in text

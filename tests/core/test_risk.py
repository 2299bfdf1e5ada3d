"""Which entries are held back, and how large the others may be."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.core.risk import Account, HeldBack, check_entry, size_entry
from shared.positions import Counters
from tests.core.builders import RULES, a_config, at, d


def an_account(*, open_positions=0, pending=0, unrealised="0", paused_until_ms=0, **counters) -> Account:
    return Account(
        open_positions=open_positions,
        pending=pending,
        unrealised=d(unrealised),
        counters=Counters(**counters),
        paused_until_ms=paused_until_ms,
    )


NOW_MS = at(100)


def verdict(account, now_ms=NOW_MS, rules=RULES, **config):
    return check_entry(now_ms, account, a_config(**config), rules)


def test_nothing_forbids_an_entry_where_no_limit_is_set():
    assert verdict(an_account(day_entries=10**6, day_pnl=d(-(10**6)))) is None


def test_the_number_of_positions_is_limited():
    assert verdict(an_account(open_positions=1), max_positions=2) is None
    assert verdict(an_account(open_positions=2), max_positions=2) == HeldBack(
        "max_positions", "2 of 2 positions are open"
    )


@pytest.mark.parametrize(("second", "waits"), [(109, True), (110, False)])
def test_a_cooldown_counts_from_the_last_close(second, waits):
    refused = verdict(an_account(last_closed_ms=at(100)), at(second), cooldown=10)

    assert (refused is not None) is waits


@pytest.mark.parametrize(
    ("day_pnl", "unrealised", "loss"),
    [
        ("-49.99", "0", None),
        ("-50", "0", "50"),
        ("-40", "-11", "51"),  # 40 realised + 11 open
        ("-60", "20", None),  # 60 − 20 = 40
        ("10", "-55", None),  # 55 − 10 = 45
    ],
)
def test_the_daily_loss_counts_what_is_realised_and_what_is_open(day_pnl, unrealised, loss):
    refused = verdict(an_account(day_pnl=d(day_pnl), unrealised=unrealised), max_daily_loss=50)

    assert refused == (
        HeldBack("max_daily_loss", f"lost {loss} of at most 50 QUOTE today, until 00:00 UTC") if loss else None
    )


def test_the_daily_trades_are_limited():
    assert verdict(an_account(day_entries=2), max_daily_trades=3) is None
    assert verdict(an_account(day_entries=3), max_daily_trades=3) == HeldBack(
        "max_daily_trades", "3 of 3 entries today"
    )
    assert verdict(an_account(day_entries=1, pending=1), max_daily_trades=3) is None
    assert verdict(an_account(day_entries=1, pending=2), max_daily_trades=3) == HeldBack(
        "max_daily_trades", "1 of 3 entries today, 2 pending"
    )


def test_a_symbol_that_is_halted_is_not_bought():
    refused = verdict(an_account(), rules=replace(RULES, status="HALT"))

    assert refused == HeldBack("not_trading", "BASEQUOTE is not traded now: the exchange says HALT")


def test_after_a_refused_entry_the_next_one_waits():
    assert verdict(an_account(paused_until_ms=at(101)), at(100)).code == "entries_refused"
    assert verdict(an_account(paused_until_ms=at(100)), at(100)) is None


@pytest.mark.parametrize(
    ("price", "free", "config", "quantity"),
    [
        ("100", None, {}, "1"),  # 100 ÷ 100
        ("99.99", None, {}, "1"),  # 1.00010001 in lots of 0.001
        ("30", "1000", {}, "3.333"),  # 3.3333…
        ("100", "55.5", {}, "0.555"),  # only 55.5 are free
        ("100", "1000", {"max_position_size": 20}, "0.2"),
        ("0.01", None, {"capital_per_trade": 100_000}, "1000"),  # the exchange takes no more at once
    ],
)
def test_an_entry_is_as_large_as_the_smallest_of_its_sizes(price, free, config, quantity):
    assert size_entry(d(price), d(free) if free else None, a_config(**config), RULES) == d(quantity)


@pytest.mark.parametrize(
    ("price", "free", "config", "code"),
    [
        ("100", "3", {}, "insufficient_balance"),
        ("100", "0", {}, "insufficient_balance"),
        ("100", "-1", {}, "insufficient_balance"),
        ("100", None, {"capital_per_trade": "4.9"}, "order_too_small"),
        # buys 0.051 worth 5.10; after the fee at most 0.050, at the stop of 98 worth 4.90 < 5
        ("100", None, {"capital_per_trade": "5.1", "stop_loss_pct": 0.02}, "order_too_small"),
        ("0", None, {}, "no_price"),
        ("-2", None, {}, "no_price"),
    ],
)
def test_an_entry_that_could_not_be_bought_or_not_be_sold_again_is_refused(price, free, config, code):
    refused = size_entry(d(price), d(free) if free else None, a_config(**config), RULES)

    assert isinstance(refused, HeldBack)
    assert refused.code == code


@pytest.mark.parametrize(("order_type", "quantity"), [("market", "0.7"), ("limit", "1"), ("limit_maker", "1")])
def test_an_entry_at_market_is_no_larger_than_one_market_order_may_be(order_type, quantity):
    rules = replace(RULES, market_maximum=d("0.7"))

    assert size_entry(d(100), None, a_config(entry_order_type=order_type), rules) == d(quantity)


def test_without_a_stop_only_the_fee_is_kept_in_reserve():
    config = a_config(capital_per_trade="5.1", stop_loss_pct=None)

    assert size_entry(d(100), None, config, RULES) == d("0.051")  # 0.050 × 100 = 5.00


@given(
    price=st.decimals("0.01", "100000", places=2),
    capital=st.decimals("0.01", "1000000", places=2),
    free=st.none() | st.decimals("0", "1000000", places=8),
)
def test_an_entry_never_costs_more_than_allowed(price, capital, free):
    size = size_entry(price, free, a_config(capital_per_trade=capital), RULES)

    if isinstance(size, Decimal):
        assert size * price <= min(capital, free if free is not None else capital)
        assert size % RULES.lot_size == 0
        assert RULES.is_tradable(size, price)
        assert size <= RULES.max_quantity

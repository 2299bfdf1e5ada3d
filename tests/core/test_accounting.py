"""What fills mean in money, figures shown."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.core import accounting
from bots.core.messages import Execution
from shared.events import Position
from shared.positions import Counters, Leg, Terms
from shared.states import OrderState, OrderType, PositionState, Role, Side
from tests.core.builders import RULES, at, d

DAY_MS = 86_400_000


def a_position() -> Position:
    terms = Terms(
        profit_target_pct=None, stop_loss_pct=None, holding_time=None, take_profit_order="resting",
        maker_order_timeout=60, on_entry_timeout="cancel",
    )  # fmt: skip
    return Position(
        position_key=at(1), symbol="BASEQUOTE", side=Side.BUY, status=PositionState.ACTIVE, terms=terms,
        opened_ms=at(1), config_version=1,
    )  # fmt: skip


def a_leg(position: Position, role: Role) -> Leg:
    leg = Leg(
        client_order_id=f"{role}-{len(position.legs)}", role=role, side=Side.BUY if role is Role.ENTRY else Side.SELL,
        order_type=OrderType.LIMIT, status=OrderState.NEW, quantity=d(100),
    )  # fmt: skip
    position.legs.append(leg)
    return leg


def a_fill(price, quantity, fee="0", fee_asset="QUOTE", trade_id=1, second=2) -> Execution:
    return Execution(
        trade_id=trade_id, price=d(price), quantity=d(quantity), fee=d(fee), fee_asset=fee_asset, is_maker=True,
        time_ms=at(second),
    )  # fmt: skip


def booked(buys, sells) -> Position:
    position = a_position()
    for role, fills in ((Role.ENTRY, buys), (Role.EXIT, sells)):
        leg = a_leg(position, role)
        for fill in fills:
            accounting.book(position, leg, a_fill(*fill), RULES)
    return position


@pytest.mark.parametrize(
    ("buys", "sells", "pnl", "dust", "dust_cost"),
    [
        # no fees: 101 − 100
        ([("100", "1")], [("101", "1")], "1", "0", "0"),
        # fees in quote: 101 − 0.101 − (100 + 0.1)
        ([("100", "1", "0.1")], [("101", "1", "0.101")], "0.799", "0", "0"),
        # fee in base: 0.999 sold at 101 = 100.899, less 0.100899, less 100
        ([("100", "1", "0.001", "BASE")], [("101", "0.999", "0.100899")], "0.798101", "0", "0"),
        # fee in base leaves 0.4995, of which 0.499 are sold: 50.399 − (50 − 50 × 0.0005 ÷ 0.4995)
        ([("100", "0.5", "0.0005", "BASE")], [("101", "0.499")], "0.44905005", "0.0005", "0.05005005"),
        # two prices: cost 30 + 69.3 = 99.3; proceeds 50 + 49.5
        ([("100", "0.3"), ("99", "0.7")], [("100", "0.5"), ("99", "0.5")], "0.2", "0", "0"),
        # nothing sold: all of it is dust at what it cost, fee included
        ([("100", "0.04", "0.004")], [], "0", "0.04", "4.004"),
    ],
)
def test_the_pnl_is_sells_less_fees_less_the_cost_of_what_was_sold(buys, sells, pnl, dust, dust_cost):
    position = booked(buys, sells)

    accounting.settle(position)

    assert position.pnl == d(pnl)
    assert (position.dust_quantity, position.dust_cost) == (d(dust), d(dust_cost))


def test_fees_are_valued_in_quote_for_the_statistics():
    position = booked([("100", "1", "0.001", "BASE")], [("101", "0.999", "0.2")])

    assert position.fees == d("0.001") * 100 + d("0.2")


def test_a_fee_in_a_third_asset_is_unknown_and_left_out():
    position = a_position()

    worth = accounting.book(position, a_leg(position, Role.ENTRY), a_fill("100", "1", "0.0001", "BNB"), RULES)

    assert worth is None
    assert (position.quantity, position.cost, position.fees) == (d(1), d(100), d(0))


def test_no_fee_in_a_third_asset_is_worth_nothing():
    assert accounting.fee_in_quote(a_fill("100", "1", "0", "BNB"), RULES) == 0


def test_prices_are_means_over_all_orders_of_a_side():
    position = booked([("100", "0.3"), ("99", "0.7")], [("101", "0.2"), ("102", "0.1")])

    assert position.entry_price == d("99.3")  # (30 + 69.3) ÷ 1
    assert position.exit_price == d("101.33333333")  # (20.2 + 10.2) ÷ 0.3


def test_the_position_begins_with_its_first_fill_in_whatever_order_they_come():
    position = a_position()
    leg = a_leg(position, Role.ENTRY)

    accounting.book(position, leg, a_fill("100", "1", trade_id=2, second=5), RULES)
    accounting.book(position, leg, a_fill("100", "1", trade_id=1, second=3), RULES)

    assert position.activated_ms == at(3)
    assert leg.updated_ms == at(5)


def test_the_open_result_values_the_rest_at_the_price():
    position = booked([("100", "1", "0.1")], [("101", "0.4")])

    assert accounting.unrealised(position, d("102")) == d("40.4") + d("0.6") * 102 - d("100.1")
    assert accounting.unrealised(a_position(), d("102")) == 0


amounts = st.decimals("0.001", "1000", places=3)
prices = st.decimals("0.01", "100000", places=2)


@given(st.lists(st.tuples(prices, amounts), min_size=1, max_size=5), prices, st.booleans(), st.floats(0, 1))
def test_cash_and_inventory_are_conserved(buys, price, in_base, share):
    position = a_position()
    entry = a_leg(position, Role.ENTRY)
    quote = base = Decimal(0)
    for n, (paid, quantity) in enumerate(buys):
        fee = (quantity if in_base else paid * quantity) / 1000
        fill = a_fill(str(paid), str(quantity), str(fee), "BASE" if in_base else "QUOTE", n)
        accounting.book(position, entry, fill, RULES)
        quote -= paid * quantity + (0 if in_base else fee)
        base += quantity - (fee if in_base else 0)
    sold = RULES.round_quantity(position.held * Decimal(str(share)))
    if sold:
        accounting.book(position, a_leg(position, Role.EXIT), a_fill(str(price), str(sold), "0.01"), RULES)
        quote += price * sold - Decimal("0.01")
        base -= sold

    accounting.settle(position)

    assert position.pnl == quote + position.dust_cost
    assert position.dust_quantity == base
    assert position.dust_cost >= 0


# --- totals -------------------------------------------------------------------------------------------------------


def closed(pnl, when) -> Position:
    position = a_position()
    position.pnl, position.closed_ms, position.fees = d(pnl), when, d("0.1")
    return position


def test_totals_count_wins_losses_and_neither():
    counters = Counters()
    for pnl in ("2", "-1", "0"):
        accounting.count(counters, closed(pnl, at(5)))

    assert (counters.trades, counters.wins, counters.losses) == (3, 1, 1)
    assert (counters.pnl, counters.fees, counters.last_closed_ms) == (d(1), d("0.3"), at(5))


def test_the_days_figures_begin_anew_at_midnight_utc():
    midnight = (at(0) // DAY_MS + 1) * DAY_MS
    counters = Counters()
    accounting.count_entry(counters, midnight - 1)
    accounting.count(counters, closed("-3", midnight - 1))
    assert (counters.day_entries, counters.day_pnl) == (1, d(-3))

    accounting.roll_day(counters, midnight)

    assert (counters.day_entries, counters.day_pnl, counters.pnl) == (0, d(0), d(-3))


def test_what_happened_before_midnight_but_was_heard_of_after_is_none_of_the_new_days():
    midnight = (at(0) // DAY_MS + 1) * DAY_MS
    counters = Counters()
    accounting.count_entry(counters, midnight)

    accounting.count_entry(counters, midnight - 300)
    accounting.count(counters, closed("-3", midnight - 200))

    assert (counters.day_entries, counters.day_pnl, counters.pnl) == (1, d(0), d(-3))

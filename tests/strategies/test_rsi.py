from __future__ import annotations

from decimal import Decimal

import pytest

from bots.core.candles import Candle, Window
from bots.core.strategy import Action
from bots.strategies import DEFINITIONS, build
from shared.config import Refused, merge_config, parse_config
from shared.intervals import INTERVAL_MS

CONFIG = DEFINITIONS["rsi"].config
MINUTE_MS = 60_000
FALLING = [1000.0 - n for n in range(200)]
RISING = [1000.0 + n for n in range(200)]
STILL = [1000.0] * 200


def run(closes, config, interval_ms=MINUTE_MS):
    strategy = build("rsi", interval_ms, config, None)
    decisions = [
        strategy.on_candle(Candle(n * interval_ms, interval_ms, c, c, c, c, 1.0, c, 1, 0.5, c / 2), Window(), config)
        for n, c in enumerate(closes)
    ]
    return strategy, decisions


def test_it_enters_below_buy_below():
    _, decisions = run(FALLING, CONFIG(rsi_period=5, buy_below=25))

    assert (decisions[-1].action, decisions[-1].score, decisions[-1].threshold) == (Action.ENTER, 0.0, 25.0)


def test_it_exits_above_sell_above_what_is_far_enough_in_profit():
    _, decisions = run(RISING, CONFIG(rsi_period=5, sell_above=80, min_profit_pct=0.002))

    last = decisions[-1]
    assert (last.action, last.score, last.threshold) == (Action.EXIT, 100.0, 80.0)
    assert last.min_profit == Decimal("0.002")


def test_it_does_nothing_between_the_levels():
    _, decisions = run(STILL, CONFIG(rsi_period=5))

    assert (decisions[-1].action, decisions[-1].score) == (Action.NONE, 50.0)


def test_a_changed_level_acts_on_the_next_bar():
    config = CONFIG(rsi_period=5, buy_below=25)
    strategy, _ = run(STILL, config)
    n = len(STILL)
    bar = Candle(n * MINUTE_MS, MINUTE_MS, *[1000.0] * 4, 1.0, 1000.0, 1, 0.5, 500.0)

    decision = strategy.on_candle(bar, Window(), merge_config(config, {"buy_below": 60}))

    assert decision.action is Action.ENTER


def test_it_has_decided_once_the_history_it_asks_for_is_there():
    strategy, decisions = run(RISING, CONFIG(rsi_period=5))

    assert strategy.bars_needed == 100
    assert None not in decisions[strategy.bars_needed - 1 :]


def test_it_explains_the_last_decision():
    strategy, _ = run(RISING, CONFIG(rsi_period=5))

    assert strategy.explain() == ({"rsi": 100.0, "close": 1199.0}, None)
    assert strategy.entry_logic(CONFIG(buy_below=25)) == "rsi RSI(5) < 25"


@pytest.mark.parametrize("interval", INTERVAL_MS)
def test_it_runs_on_every_interval(interval):
    _, decisions = run(RISING, CONFIG(rsi_period=5), INTERVAL_MS[interval])

    assert decisions[-1].action is Action.EXIT


@pytest.mark.parametrize("changes", [{"buy_below": 70}, {"sell_above": 30}, {"buy_below": 60, "sell_above": 50}])
def test_levels_that_cross_are_refused_with_both_names(changes):
    with pytest.raises(Refused) as caught:
        parse_config(CONFIG, changes)

    assert list(caught.value.fields) == ["sell_above"]
    assert "must be above buy_below" in caught.value.fields["sell_above"]


@pytest.mark.parametrize(
    ("field", "value"), [("rsi_period", 1), ("rsi_period", 101), ("buy_below", -1), ("min_profit_pct", -0.1)]
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(Refused) as caught:
        parse_config(CONFIG, {field: value})

    assert list(caught.value.fields) == [field]

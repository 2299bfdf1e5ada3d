"""The fleet and its days in a few lines; each currency stands for itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import insert

from server.notify import summaries
from server.storage.engine import read, write
from server.storage.models import Event, TradingOrder, TradingStats
from server.storage.times import day_of, now_ms

DAY = 20_777  # 2026-11-20


def a_day(house: Any, bot_id: int, pnl: str, *, day: int = DAY, trades: int = 1, wins: int = 0) -> None:
    row = {
        "bot_id": bot_id, "day": day, "trades": trades, "wins": wins, "losses": trades - wins, "holding_ms": 1,
        "gross_pnl": Decimal(pnl), "pnl": Decimal(pnl), "fees": Decimal("0.1"), "gains": Decimal(0),
        "losses_sum": Decimal(0),
    }  # fmt: skip
    with write(house.engine) as connection:
        connection.execute(insert(TradingStats).values(**row))


def daily(house: Any, day: int = DAY) -> str:
    with read(house.engine) as connection:
        return summaries.daily_text(connection, day)


def test_the_daily_summary_adds_up_each_quote_asset_by_itself(house):
    a, b, c = house.add_bot("a"), house.add_bot("b"), house.add_bot("c", symbol="BTCUSDC")
    a_day(house, a, "2.5", trades=3, wins=2)
    a_day(house, b, "-4", trades=2, wins=0)
    a_day(house, c, "0.75", trades=1, wins=1)
    a_day(house, a, "1000", day=DAY - 1)
    with write(house.engine) as connection:
        facts = {"bot_id": a, "run_id": "1.1", "data": {}}
        connection.execute(insert(Event).values(**facts, seq=1, type="error", ts=DAY * 86_400_000))
        connection.execute(insert(Event).values(**facts, seq=2, type="error", ts=(DAY + 1) * 86_400_000))
        order = {
            "bot_id": b, "position_key": 1, "symbol": "ETHUSDT", "side": "BUY", "status": "active", "quantity": 1,
            "opened_ms": 1, "fees": 0, "entry_logic": "", "exit_logic": "", "config_version": 1,
            "exchange": "simulator", "mode": "trade", "document": {},
        }  # fmt: skip
        connection.execute(insert(TradingOrder).values(**order))

    assert daily(house).splitlines() == [
        "Summary of 2026-11-20 (UTC)",
        "+0.75 USDC: 1 trade, 1 won, fees 0.1",
        "-1.5 USDT: 5 trades, 2 won, fees 0.2",
        "  best a (1) +2.5, worst b (2) -4",
        "1 open position, 1 error",
    ]


def test_a_bot_that_is_switched_off_is_not_in_the_daily_summary(house):
    a_day(house, house.add_bot("quiet", config={"notify_daily": False}), "7")

    assert daily(house).splitlines() == [
        "Summary of 2026-11-20 (UTC)",
        "No closed position.",
        "0 open positions, 0 errors",
    ]


def test_a_day_is_summarised_once_also_after_a_restart_and_never_the_day_before_the_first(house):
    house.add_bot()
    for today in (DAY, DAY, DAY + 1, DAY + 1, DAY, DAY + 4):
        with write(house.engine) as connection:
            summaries.write_daily(connection, today, now_ms())

    assert [row.text.splitlines()[0] for row in house.rows()] == [
        "Summary of 2026-11-20 (UTC)",
        "Summary of 2026-11-23 (UTC)",
    ]


def test_the_status_names_what_is_wrong_and_keeps_currencies_apart(house):
    good = house.add_bot("good")
    house.add_bot("bad", status="error", status_reason="Crash loop", symbol="BTCUSDC")
    a_day(house, good, "1.25", day=day_of(now_ms()))

    with read(house.engine) as connection:
        text = summaries.status_text(connection)

    assert text.splitlines() == [
        "2 bots (SIM): 1 running, 1 error",
        "0 open positions",
        "PNL today 0 USDC",
        "PNL today +1.25 USDT",
        "! 2 bad [SIM]: Crash loop",
    ]


def test_results_are_of_today_or_of_all_days(house):
    bot_id = house.add_bot()
    a_day(house, bot_id, "1", day=day_of(now_ms()))
    a_day(house, bot_id, "2")

    with read(house.engine) as connection:
        assert "+1 USDT" in summaries.pnl_text(connection, "today")
        assert "+3 USDT" in summaries.pnl_text(connection, "total")

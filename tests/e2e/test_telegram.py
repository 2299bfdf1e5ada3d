"""A real supervisor, a real bot on the simulator, and a Bot API that people look at."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.notify.bot_api import CHAT, OTHER_CHAT, StandIn

QUICK: dict[str, Any] = {
    "capital_per_trade": "200",
    "max_positions": 1,
    "entry_order_type": "market",
    "holding_time": 4,
    "profit_target_pct": 0.05,
    "stop_loss_pct": 0.2,
    "rsi_period": 5,
    "buy_below": 95,
    "sell_above": 99.9,
    "cooldown": 2,
}


@pytest.fixture
def bot_api() -> Iterator[StandIn]:
    server = StandIn()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def told_fleet(fleet: Any, bot_api: StandIn) -> Any:
    fleet.environment |= {
        "FLOTILLA_TELEGRAM_TOKEN": bot_api.token,
        "FLOTILLA_TELEGRAM_CHAT_ID": str(CHAT),
        "FLOTILLA_TELEGRAM_URL": bot_api.url,
    }
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    return fleet


def test_a_bots_life_arrives_on_the_phone_with_the_figures_of_the_api(told_fleet, bot_api, wait_for):
    bot_id, _ = told_fleet.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    told_fleet.start_bot(bot_id)
    environment = Path(f"/proc/{told_fleet.bot(bot_id)['pid']}/environ").read_text()
    assert "FLOTILLA_TELEGRAM" not in environment
    wait_for("positions close", lambda: len(told_fleet.positions(bot_id, "closed")) >= 2, 60)
    bot_api.say(f"/stop {bot_id}")
    wait_for("the bot answers", lambda: bot_api.told(f"{bot_id} rsi"))
    if bot_api.told("Stop?"):  # it holds a position just now
        bot_api.press("Stop")
    wait_for("it stops", lambda: told_fleet.bot(bot_id)["status"] == "stopped", 40)

    wait_for("that arrives", lambda: bot_api.told(": stopped"))

    closed = told_fleet.positions(bot_id, "closed")
    wait_for("all is sent", lambda: not told_fleet.call("GET", "/api/notifications?state=queued")["items"])
    texts = "\n".join(bot_api.texts())
    assert texts.count("[SIM] rsi-") >= 2 + 2 * len(closed)
    for words in (": started", ": stopped"):
        assert texts.count(words) == 1
    assert texts.count("opened BTCUSDT") == len(closed)
    results = [f"closed BTCUSDT {signed(p['pnl'])} USDT" for p in closed]
    assert [texts.count(result) for result in results] == [results.count(result) for result in results]
    assert {m["chat_id"] for m in bot_api.sent} == {CHAT}
    assert "holding time over" in texts
    audit = told_fleet.call("GET", "/api/audit?action=bot.stop")["items"][0]
    assert (audit["actor"], audit["via"]) == ("ada", "telegram")
    told_fleet.kill("supervisor")
    assert bot_api.token.partition(":")[2] not in (told_fleet.home / "supervisor.log").read_text()


def test_a_telegram_that_hangs_or_is_dead_holds_up_no_bot_and_no_booking(told_fleet, bot_api, wait_for):
    bot_api.failure = lambda method, body: 30
    bot_id, _ = told_fleet.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    told_fleet.start_bot(bot_id)
    wait_for("it trades while Telegram hangs", lambda: told_fleet.positions(bot_id, "closed"), 60)
    bot_api.stop()
    before = len(told_fleet.positions(bot_id, "closed"))
    wait_for("it trades on", lambda: len(told_fleet.positions(bot_id, "closed")) > before, 60)
    assert told_fleet.call("GET", "/health/ready")["status"] == "ready"
    told_fleet.kill("supervisor")
    bot_api.failure = None
    bot_api.start()
    told_fleet.start_supervisor()

    wait_for("what waited arrives", lambda: bot_api.told(": started"), 60)

    told_fleet.stop_bot(bot_id)
    wait_for("all is sent", lambda: not told_fleet.call("GET", "/api/notifications?state=queued")["items"], 60)
    booked = told_fleet.call("GET", f"/api/trading/bots/{bot_id}/stats")["totals"]["trades"]
    states = [n["state"] for n in told_fleet.pages("/api/notifications") if n["kind"] == "closed"]
    assert states == ["sent"] * booked


def test_strangers_learn_nothing(told_fleet, bot_api, wait_for):
    bot_api.say("/halt all", chat=OTHER_CHAT)
    bot_api.say("/status")

    wait_for("the known chat is answered", lambda: bot_api.told("There are no bots yet."))

    assert not bot_api.texts(OTHER_CHAT)
    assert not (told_fleet.home / "var" / "halt").exists()


def signed(pnl: str) -> str:
    return pnl if Decimal(pnl) <= 0 else f"+{pnl}"

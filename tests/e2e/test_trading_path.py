"""From candles to closed positions through every process, with the exchange's own ledger as the witness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

TRADES = Path(__file__).parents[3] / "shared" / "data" / "BTCUSDT-spot-20240808T2354-trades.csv.gz"

QUICK: dict[str, Any] = {
    "capital_per_trade": "200",
    "max_positions": 2,
    "holding_time": 8,
    "maker_order_timeout": 4,
    "profit_target_pct": 0.0002,
    "stop_loss_pct": 0.003,
}
EAGER_RSI = QUICK | {"rsi_period": 5, "buy_below": 45, "sell_above": 60}


def test_fills_pnl_and_balances_agree_with_the_exchange_on_a_generated_market(fleet, wait_for, check_books_agree):
    fleet.start_simulator("--seed", "11")
    fleet.start_web()
    fleet.start_supervisor()
    model_id = fleet.upload_model("BTCUSDC", "--hours", "1")
    scalper, scalper_key = fleet.create_bot(
        strategy="lightgbm_scalper",
        symbol="BTCUSDC",
        config=QUICK | {"model_id": model_id, "confidence_threshold": 0.3},
        USDC="10000",
    )
    rsi, rsi_key = fleet.create_bot(strategy="rsi", symbol="ETHUSDT", config=EAGER_RSI, USDT="10000")
    for bot_id in (scalper, rsi):
        fleet.start_bot(bot_id)

    for bot_id in (scalper, rsi):
        wait_for(f"bot {bot_id} closes positions", lambda b=bot_id: len(fleet.positions(b, "closed")) >= 2, 90)
        fleet.stop_bot(bot_id)

    check_books_agree(fleet, scalper, scalper_key, base="BTC", quote="USDC", deposit="10000")
    check_books_agree(fleet, rsi, rsi_key, base="ETH", quote="USDT", deposit="10000")


@pytest.mark.skipif(not TRADES.exists(), reason=f"the recorded trades are not here: {TRADES.name}")
def test_fills_pnl_and_balances_agree_with_the_exchange_on_recorded_trades(fleet, wait_for, check_books_agree):
    options = ("--replay", str(TRADES), "--speed", "10", "--history", "120", "--start-delay", "12")
    fleet.start_simulator(*options)
    fleet.start_web()
    fleet.start_supervisor()
    config = EAGER_RSI | {"holding_time": 30, "maker_order_timeout": 20}
    bot_id, key = fleet.create_bot(strategy="rsi", symbol="BTCUSDT", config=config, USDT="10000")
    fleet.start_bot(bot_id)

    wait_for("positions close", lambda: len(fleet.positions(bot_id, "closed")) >= 3, 75)
    fleet.stop_bot(bot_id)

    check_books_agree(fleet, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_one_bot_that_cannot_run_says_why_and_the_others_trade_on(fleet, wait_for):
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    model_id = fleet.upload_model("BTCUSDC", "--hours", "1")
    good, _ = fleet.create_bot(strategy="rsi", symbol="ETHUSDC", config=EAGER_RSI, USDC="10000")
    damaged, _ = fleet.create_bot(
        strategy="lightgbm_scalper", symbol="BTCUSDC", config=QUICK | {"model_id": model_id}, USDC="10000"
    )
    unlisted, _ = fleet.create_bot(strategy="rsi", symbol="DOGEBTC", config=EAGER_RSI, USDC="10000")
    stranger, _ = fleet.create_bot(strategy="rsi", symbol="ETHUSDC", config=EAGER_RSI, USDC="10000")
    wrong = fleet.call(
        "POST",
        "/api/credentials",
        expect=201,
        json={"name": "wrong", "exchange": "simulator", "api_key": "x" * 64, "api_secret": "y" * 64},
    )
    fleet.call("PUT", f"/api/bots/{stranger}", json={"credential_id": wrong["id"]})
    model_file = next((fleet.home / "var" / "models").glob("*.txt"))
    model_file.write_bytes(model_file.read_bytes()[:2000])

    fleet.start_bot(good)
    reasons = {}
    for bot_id in (damaged, unlisted, stranger):
        fleet.call("POST", f"/api/bots/{bot_id}/start", expect=202)
    for bot_id in (damaged, unlisted, stranger):
        wait_for(f"bot {bot_id} gives up", lambda b=bot_id: fleet.bot(b)["status"] == "error", 30)
        reasons[bot_id] = fleet.bot(bot_id)["status_reason"]

    assert "is damaged" in reasons[damaged]
    assert "upload the model again" in reasons[damaged]
    assert "does not list DOGEBTC" in reasons[unlisted]
    assert "refuses the API key" in reasons[stranger]
    assert fleet.bot(good)["status"] == "running"
    wait_for("the good bot trades", lambda: fleet.fills(good), 60)

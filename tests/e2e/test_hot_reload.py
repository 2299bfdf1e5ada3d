"""A changed config acts in the running process, without a restart."""

from __future__ import annotations

from bots.utils.config_loader import POLL_S
from tests.waiting import AT_ONCE_S

QUIET = {"capital_per_trade": "200", "confidence_threshold": 1.0, "maker_order_timeout": 5}


def applied(fleet, bot_id: int, version: int) -> bool:
    return any(e["data"]["version"] == version for e in fleet.events(bot_id, "config.applied"))


def test_a_changed_threshold_is_applied_at_once_and_by_the_poll_without_a_supervisor(fleet, wait_for):
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    model_id = fleet.upload_model("BTCUSDC", "--hours", "1")
    bot_id, _ = fleet.create_bot(
        strategy="lightgbm_scalper", symbol="BTCUSDC", config=QUIET | {"model_id": model_id}, USDC="10000"
    )
    fleet.start_bot(bot_id)
    before = fleet.bot(bot_id)

    changed = fleet.call("PUT", f"/api/trading/bots/{bot_id}/config", json={"confidence_threshold": 0.50})
    assert changed["confidence_threshold"] == 0.50
    wait_for("config.applied", lambda: applied(fleet, bot_id, changed["version"]), AT_ONCE_S)
    after = wait_for(
        "the bot shows the version",
        lambda: (b := fleet.bot(bot_id))["applied_config_version"] == changed["version"] and b,
        AT_ONCE_S,
    )
    assert (after["pid"], after["run_id"]) == (before["pid"], before["run_id"])
    wait_for("the new threshold acts", lambda: fleet.events(bot_id, "signal"), 60)

    fleet.kill("supervisor", 15)
    again = fleet.call("PUT", f"/api/trading/bots/{bot_id}/config", json={"confidence_threshold": 0.60})
    journal = fleet.home / "var" / "journals" / str(bot_id) / f"{before['run_id']}.jsonl"
    told = f'"type":"config.applied","data":{{"version":{again["version"]},'
    wait_for("the poll brings it", lambda: told in journal.read_text(), 2 * POLL_S)
    assert fleet.bot_pids() == [before["pid"]]

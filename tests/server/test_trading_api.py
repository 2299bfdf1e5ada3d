from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert

from server.storage.engine import write
from server.storage.figures import max_drawdown, sharpe
from server.storage.models import Event, Fill
from server.storage.times import day_of, now_ms

Make = Callable[..., Any]


def config_path(bot_id: int) -> str:
    return f"/api/trading/bots/{bot_id}/config"


def test_the_config_is_flat_and_has_its_version(api: Any, a_bot: Make):
    config = api.get(config_path(a_bot())).json

    assert (config["version"], config["capital_per_trade"], config["holding_time"]) == (1, "200.00", 2000)
    assert isinstance(config["stop_loss_pct"], float)


def test_put_merges_and_post_replaces(api: Any, a_bot: Make):
    bot_id = a_bot(config={"holding_time": 1234, "max_positions": 4})

    merged = api.put(config_path(bot_id), {"max_positions": 5}).json
    replaced = api.post(config_path(bot_id), {"max_positions": 6}).json

    assert (merged["version"], merged["holding_time"], merged["max_positions"]) == (2, 1234, 5)
    assert (replaced["version"], replaced["holding_time"], replaced["max_positions"]) == (3, 3600, 6)


@pytest.mark.parametrize("amount", ["200.00", "200", 200, 200.0, "2E2"])
def test_the_same_config_written_otherwise_is_no_new_version(api: Any, a_bot: Make, amount: Any):
    answer = api.put(config_path(a_bot()), {"capital_per_trade": amount})

    assert (answer.status_code, answer.json["version"]) == (200, 1)


def test_a_config_read_can_be_sent_back_with_its_version(api: Any, a_bot: Make):
    bot_id = a_bot()
    config = api.get(config_path(bot_id)).json

    answer = api.post(config_path(bot_id), {**config, "max_positions": 7})

    assert (answer.json["version"], answer.json["max_positions"]) == (2, 7)


def test_each_bad_field_is_named_and_nothing_changes(api: Any, a_bot: Make):
    bot_id = a_bot()

    answer = api.put(config_path(bot_id), {"holding_time": -1, "max_positions": "many", "holding_tme": 1})

    assert answer.status_code == 422
    assert set(answer.json["error"]["fields"]) == {"holding_time", "max_positions", "holding_tme"}
    assert api.get(config_path(bot_id)).json["version"] == 1


@pytest.mark.parametrize(
    "value",
    [True, [], {}, "NaN", "1e400", 10**400, -0.0, "x" * 10_000, "1" * 5000, "\u0661"],
    ids=lambda v: str(v)[:12],
)
def test_no_amount_whatever_is_a_servers_fault(api: Any, a_bot: Make, value: Any):
    status = api.put(config_path(a_bot()), {"capital_per_trade": value}).status_code

    assert status in (200, 400, 422)


def test_an_edit_of_an_old_version_is_refused(api: Any, a_bot: Make):
    bot_id = a_bot()
    etag = api.get(config_path(bot_id)).headers["ETag"]
    changed = api.put(config_path(bot_id), {"max_positions": 2}, headers={"If-Match": etag})

    stale = api.put(config_path(bot_id), {"max_positions": 3}, headers={"If-Match": etag})
    fresh = api.put(config_path(bot_id), {"max_positions": 3}, headers={"If-Match": changed.headers["ETag"]})

    assert (changed.status_code, stale.status_code, fresh.status_code) == (200, 412, 200)


def test_who_has_the_newest_config_is_told_so_in_one_line(api: Any, a_bot: Make):
    bot_id = a_bot()
    etag = api.get(config_path(bot_id)).headers["ETag"]

    answer = api.get(config_path(bot_id), headers={"If-None-Match": etag})

    assert (answer.status_code, answer.data) == (304, b"")


def test_versions_tell_who_changed_what_and_can_be_restored(api: Any, a_bot: Make):
    bot_id = a_bot()
    api.put(config_path(bot_id), {"max_positions": 2})

    newest, oldest = api.get(f"{config_path(bot_id)}/versions").json["items"]
    assert (newest["version"], newest["diff"]) == (2, {"max_positions": {"from": 1, "to": 2}})
    assert newest["author"] == "a admin"

    restored = api.post(f"{config_path(bot_id)}/versions/1/restore").json
    assert (restored["version"], restored["max_positions"]) == (3, oldest["config"]["max_positions"])
    assert api.post(f"{config_path(bot_id)}/versions/99/restore").status_code == 404


def test_a_model_that_is_unknown_or_deleted_is_refused(api: Any, a_bot: Make, a_model: Make):
    bot_id, model_id = a_bot(strategy="lightgbm_scalper", interval="1s", config={}), a_model()
    api.delete(f"/api/models/{model_id}")

    for number in (model_id, 99, 2**40):
        answer = api.put(config_path(bot_id), {"model_id": number})
        assert (answer.status_code, list(answer.json["error"]["fields"])) == (422, ["model_id"])


def test_orders_are_positions_with_their_legs_by_state(api: Any, a_bot: Make, a_position: Make):
    bot_id = a_bot(tags=["demo"])
    a_position(
        bot_id, status="closed", closed_ms=now_ms(), exit_price=Decimal("3400"), pnl=Decimal("-0.10"), position_key=1
    )
    a_position(bot_id, status="active", position_key=2)

    everything = api.get(f"/api/trading/bots/{bot_id}/orders").json["items"]
    closed = api.get(f"/api/trading/bots/{bot_id}/orders?status=closed").json["items"]

    assert [o["status"] for o in everything] == ["active", "closed"]
    (order,) = closed
    assert (order["quantity"], order["entry_price"], order["pnl"], order["tags"]) == (
        "0.0589",
        "3388.1",
        "-0.1",
        ["demo"],
    )
    assert order["legs"][0]["role"] == "entry"
    assert order["opened_at"].endswith("Z")
    assert [o["id"] for o in api.get(f"/api/bots/{bot_id}/positions").json["items"]] == [everything[0]["id"]]
    assert api.get(f"/api/trading/bots/{bot_id}/orders?status=open").status_code == 422


def test_fills_and_events_are_newest_first(api: Any, a_bot: Make, engine: Any):
    bot_id = a_bot()
    fill = {"client_order_id": "f", "position_key": 1, "symbol": "ETHUSDT", "side": "BUY", "fee_asset": "ETH"}
    amounts = {"price": Decimal("0.0000001"), "quantity": Decimal("1E+3"), "fee": Decimal(0), "fee_quote": None}
    with write(engine) as connection:
        for trade_id in (1, 2):
            row = {**fill, **amounts, "trade_id": trade_id, "order_id": 5, "is_maker": True, "time_ms": trade_id}
            connection.execute(insert(Fill).values(bot_id=bot_id, **row))
            line = {"run_id": f"{bot_id}.1", "seq": trade_id, "ts": 5, "type": "fill", "data": {"trade_id": trade_id}}
            connection.execute(insert(Event).values(bot_id=bot_id, **line))

    fills = api.get(f"/api/trading/bots/{bot_id}/fills").json["items"]
    events = api.get(f"/api/bots/{bot_id}/events?type=fill").json["items"]

    assert [f["trade_id"] for f in fills] == [2, 1]
    assert (fills[0]["price"], fills[0]["quantity"], fills[0]["fee_quote"]) == ("0.0000001", "1000", None)
    assert [e["data"]["trade_id"] for e in events] == [2, 1]
    assert set(events[0]) == {"v", "bot_id", "run_id", "seq", "ts", "type", "data"}
    assert api.get(f"/api/bots/{bot_id}/events?type=order").json["items"] == []


def test_stats_have_totals_and_days(api: Any, a_bot: Make, a_day: Make, a_position: Make):
    bot_id, today = a_bot(config={"capital_per_trade": 100, "max_positions": 1}), day_of(now_ms())
    a_day(bot_id, today - 1, "3")
    a_day(bot_id, today, "-1.5")
    for key, pnl in ((1, "3"), (2, "-1.5")):
        a_position(
            bot_id, status="closed", closed_ms=(today - 2 + key) * 86_400_000, pnl=Decimal(pnl), position_key=key
        )

    stats = api.get(f"/api/trading/bots/{bot_id}/stats").json

    totals = stats["totals"]
    assert (totals["trades"], totals["wins"], totals["losses"], totals["win_rate"]) == (2, 1, 1, 0.5)
    assert (totals["pnl"], totals["gross_pnl"], totals["fees"]) == ("1.5", "1.7", "0.2")
    assert totals["profit_factor"] == 2.0  # 3 ÷ 1.5
    assert (totals["max_drawdown"], totals["max_drawdown_pct"]) == ("1.5", pytest.approx(1.5 / 103))
    assert totals["avg_holding_time"] == 60.0
    assert totals["sharpe"] == pytest.approx(0.0075 / 0.0318198 * 365**0.5, rel=1e-4)  # mean ÷ stdev of 0.03, −0.015
    assert [d["pnl"] for d in stats["by_day"]] == ["-1.5", "3"]
    assert stats == api.get(f"/api/bots/{bot_id}/stats").json


def test_a_drawdown_is_the_largest_fall_from_a_peak():
    steps = [Decimal(n) for n in (10, -4, 5, -20, 30)]

    # 100 → 110 → 106 → 111 → 91 → 121
    assert max_drawdown(steps, Decimal(100)) == (Decimal(20), pytest.approx(20 / 111))
    assert max_drawdown([], Decimal(0)) == (Decimal(0), None)


def test_days_without_a_trade_count_in_the_sharpe_ratio(api: Any, a_bot: Make, a_day: Make):
    bot_id, today = a_bot(config={"capital_per_trade": 100, "max_positions": 1}), day_of(now_ms())
    a_day(bot_id, today - 3, "3")
    a_day(bot_id, today, "1")

    totals = api.get(f"/api/trading/bots/{bot_id}/stats").json["totals"]

    # mean of 0.03, 0, 0, 0.01 is 0.01; their sample deviation is √(0.0006 ÷ 3) = 0.0141421
    assert totals["sharpe"] == pytest.approx(0.01 / 0.0141421 * 365**0.5, rel=1e-4)


def test_a_sharpe_ratio_needs_two_days_that_differ():
    assert sharpe([Decimal(1)]) is None
    assert sharpe([Decimal(1), Decimal(1)]) is None


@pytest.mark.parametrize(
    "path", ["config", "config/versions", "orders", "fills", "stats"], ids=lambda p: p.replace("/", "-")
)
def test_what_belongs_to_no_bot_is_not_found(api: Any, path: str):
    assert api.get(f"/api/trading/bots/99/{path}").status_code == 404

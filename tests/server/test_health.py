from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from server.app import create_app
from server.settings import load_settings
from server.storage.engine import write
from server.storage.models import SupervisorBeat
from server.storage.times import now_ms


def beat(engine: Any, age_ms: int) -> None:
    with write(engine) as connection:
        row = {"pid": 1, "started_ms": 1, "beat_ms": now_ms() - age_ms}
        connection.execute(insert(SupervisorBeat).values(**row))


def test_health_needs_nothing(app: Any):
    assert app.test_client().get("/health", headers={"Authorization": "Bearer nonsense"}).json == {"status": "ok"}


@pytest.mark.parametrize(("age_ms", "status", "state"), [(1_000, 200, "ok"), (11_000, 503, "failed")])
def test_readiness_wants_a_supervisor_seen_in_the_last_ten_seconds(
    app: Any, engine: Any, age_ms: int, status: int, state: str
):
    beat(engine, age_ms)

    answer = app.test_client().get("/health/ready")

    assert (answer.status_code, answer.json["parts"]["supervisor"]["state"]) == (status, state)
    assert answer.json["parts"]["database"]["state"] == "ok"


def test_a_database_that_was_never_migrated_is_not_ready(tmp_path: Any):
    app = create_app(load_settings({"FLOTILLA_HOME": str(tmp_path)}))

    answer = app.test_client().get("/health/ready")

    assert (answer.status_code, answer.json["parts"]["database"]["state"]) == (503, "failed")
    assert answer.headers["Retry-After"]


def test_metrics_are_prometheus_text_whatever_a_bot_is_called(
    app: Any, engine: Any, a_bot: Callable[..., int], a_day: Callable[..., None], observe: Callable[..., None]
):
    bot_id = a_bot(name='a "quoted" \\ name{}')
    a_day(bot_id, 20_000, "-1.25")
    observe(bot_id, status="running", heartbeat_ms=now_ms() - 4_000)
    beat(engine, 0)

    answer = app.test_client().get("/metrics")

    families = {f.name: f.samples for f in text_string_to_metric_families(answer.text)}
    assert answer.content_type.startswith("text/plain")
    assert {s.labels["status"]: s.value for s in families["flotilla_bots"]}["running"] == 1
    (pnl,) = families["flotilla_bot_pnl_quote"]
    assert (pnl.value, pnl.labels["name"]) == (-1.25, 'a "quoted" \\ name{}')
    assert 4 <= families["flotilla_bot_heartbeat_age_seconds"][0].value < 30
    assert families["flotilla_bot_fills"][0].value == 0
    assert "flotilla_supervisor_beat_age_seconds" in families

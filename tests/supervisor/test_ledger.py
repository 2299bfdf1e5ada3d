"""Events become rows exactly once, however often and in whatever portions they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, StaticPool, create_engine, delete, insert, select

from server.storage.engine import read, tune, write
from server.storage.ledger import BotRef, add_note, apply_events, open_run
from server.storage.models import (
    Bot,
    BotRun,
    Event,
    ExchangeOrder,
    Fill,
    TradingOrder,
    TradingStats,
    db,
)
from shared.events import (
    ConfigApplied,
    Envelope,
    Exit,
    FillBooked,
    Heartbeat,
    LogLine,
    OrderChange,
    OrderIntent,
    Payload,
    Position,
    Status,
    to_data,
)
from shared.positions import Terms
from shared.states import BotState, OrderState, OrderType, PositionState, Role, Side

DAY = 86_400_000
BOT = BotRef(id=1, exchange="simulator", mode="paper")


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    tune(made)
    db.metadata.create_all(made)
    return made


@pytest.fixture
def ledger(engine: Engine) -> Engine:
    return fresh(engine)


def fresh(engine: Engine) -> Engine:
    with write(engine) as connection:
        for table in reversed(db.metadata.sorted_tables):
            connection.execute(delete(table))
        connection.execute(
            insert(Bot).values(
                id=1, name="b", description="", strategy="rsi", symbol="BTCUSDC", exchange="simulator", mode="paper",
                interval="1s", tags=[], desired_state="running", halted=False, config_version=1, generation=0,
                created_ms=0, updated_ms=0, start_requests=1, status="starting",
            )
        )  # fmt: skip
        open_run(connection, 1, 5)
    return engine


def event(seq: int, payload: Payload) -> Envelope:
    return Envelope(bot_id=1, run_id="1.1", seq=seq, ts=1000 + seq, type=payload.type, data=to_data(payload))


def apply(engine: Engine, events: Sequence[Envelope], run_id: str = "1.1") -> None:
    with write(engine) as connection:
        apply_events(connection, BOT, run_id, events)


def content(engine: Engine) -> dict[str, list[Any]]:
    tables: list[Any] = [Bot, BotRun, Event, ExchangeOrder, Fill, TradingOrder, TradingStats]
    with read(engine) as connection:
        return {t.__tablename__: [tuple(r) for r in connection.execute(select(t).order_by(t.id))] for t in tables}


def position(key: int = 1, **facts: Any) -> Position:
    terms = Terms(
        profit_target_pct=None, stop_loss_pct=None, holding_time=None, take_profit_order="resting",
        maker_order_timeout=60, on_entry_timeout="cancel",
    )  # fmt: skip
    base: dict[str, Any] = {
        "position_key": key, "symbol": "BTCUSDC", "side": Side.BUY, "status": PositionState.PENDING, "terms": terms,
        "opened_ms": 10 * DAY, "config_version": 1,
    }  # fmt: skip
    return Position(**(base | facts))


def closed(key: int, pnl: str, fees: str = "0.2", closed_ms: int = 10 * DAY + 5000) -> Position:
    return position(
        key, status=PositionState.CLOSED, pnl=Decimal(pnl), fees=Decimal(fees), closed_ms=closed_ms,
        activated_ms=10 * DAY + 1000,
    )  # fmt: skip


def order(status: OrderState, executed: str = "0", **facts: Any) -> OrderChange:
    base: dict[str, Any] = {
        "client_order_id": "fx-1-1-e1", "position_key": 1, "symbol": "BTCUSDC", "role": Role.ENTRY, "side": Side.BUY,
        "order_type": OrderType.LIMIT, "status": status, "quantity": Decimal(2), "price": Decimal("10.5"),
        "executed_quantity": Decimal(executed), "executed_quote": Decimal(executed) * Decimal("10.5"),
        "exchange_order_id": 77, "time_ms": 50,
    }  # fmt: skip
    return OrderChange(**(base | facts))


def intent() -> OrderIntent:
    return OrderIntent(
        client_order_id="fx-1-1-e1", position_key=1, symbol="BTCUSDC", role=Role.ENTRY, side=Side.BUY,
        order_type=OrderType.LIMIT, quantity=Decimal(2), price=Decimal("10.5"), time_ms=40,
    )  # fmt: skip


def fill(trade_id: int = 5, **facts: Any) -> FillBooked:
    base: dict[str, Any] = {
        "trade_id": trade_id, "order_id": 77, "client_order_id": "fx-1-1-e1", "position_key": 1, "symbol": "BTCUSDC",
        "role": Role.ENTRY, "side": Side.BUY, "price": Decimal("10.5"), "quantity": Decimal(1), "fee": Decimal("0.01"),
        "fee_asset": "USDC", "fee_quote": Decimal("0.01"), "is_maker": True, "time_ms": 50,
    }  # fmt: skip
    return FillBooked(**(base | facts))


def heartbeat(version: int = 1) -> Heartbeat:
    return Heartbeat(
        last_candle_ms=9, last_price=1.0, loop_lag_ms=0, latency_p50_us=None, latency_p99_us=None, decisions=0,
        above_threshold=0, blocked={}, best_score=None, last_decision_ms=8, decision_digest="", open_orders=0,
        positions=0, unrealised_pnl=Decimal(0), rss_mib=60.0, cpu_s=0, config_version=version, errors={}, streams={},
    )  # fmt: skip


STORY: list[Payload] = [
    Status(status=BotState.RUNNING),
    heartbeat(),
    position(1),
    intent(),
    order(OrderState.NEW),
    fill(5),
    order(OrderState.PARTIALLY_FILLED, "1"),
    fill(5),
    heartbeat(2),
    fill(6),
    order(OrderState.FILLED, "2"),
    position(1, status=PositionState.ACTIVE, quantity=Decimal(2)),
    ConfigApplied(version=2, changed=["cooldown"]),
    closed(1, "1.5"),
    LogLine(level="info", message="hello"),
    closed(2, "-0.5"),
    closed(3, "0"),
    closed(4, "2", closed_ms=11 * DAY),
    closed(1, "1.5"),
    heartbeat(2),
    Status(status=BotState.STOPPING, reason="asked to stop"),
    Exit(code=0, reason="asked to stop"),
]
EVENTS = [event(seq, payload) for seq, payload in enumerate(STORY, start=1)]


@given(cuts=st.lists(st.tuples(st.integers(1, len(EVENTS)), st.integers(0, len(EVENTS))), max_size=8))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_events_told_again_in_any_portions_give_the_same_rows(engine: Engine, cuts: list[tuple[int, int]]) -> None:
    apply(fresh(engine), EVENTS)
    expected = content(engine)

    fresh(engine)
    reached = 0
    for size, back in [*cuts, (len(EVENTS), 0), (0, len(EVENTS))]:
        start = max(reached - back, 0)  # what was read before a crash is read again from further back
        reached = max(reached, min(reached + size, len(EVENTS)))
        apply(engine, EVENTS[start:reached])

    assert content(engine) == expected


def test_the_day_s_statistics_are_those_of_its_closed_positions(ledger: Engine) -> None:
    apply(ledger, EVENTS)

    with read(ledger) as connection:
        first, second = connection.execute(select(TradingStats).order_by(TradingStats.day)).all()

    # 1.5 − 0.5 + 0 = 1.0 net; three times 0.2 of fees; held from 1 s to 5 s each
    assert (first.day, first.trades, first.wins, first.losses) == (10, 3, 1, 1)
    assert (first.pnl, first.fees, first.gross_pnl) == (Decimal("1.0"), Decimal("0.6"), Decimal("1.6"))
    assert (first.gains, first.losses_sum, first.holding_ms) == (Decimal("1.5"), Decimal("0.5"), 12_000)
    assert (second.day, second.trades, second.pnl) == (11, 1, Decimal(2))


def test_a_corrected_result_replaces_the_first_one(ledger: Engine) -> None:
    apply(ledger, [event(1, closed(1, "1.5")), event(2, closed(1, "-0.1", fees="1.8"))])

    with read(ledger) as connection:
        row = connection.execute(select(TradingStats)).one()
    assert (row.trades, row.wins, row.losses, row.pnl, row.fees) == (1, 0, 1, Decimal("-0.1"), Decimal("1.8"))
    assert (row.gains, row.losses_sum, row.holding_ms) == (0, Decimal("0.1"), 4000)


def test_of_heartbeats_one_a_minute_is_kept(ledger: Engine) -> None:
    beats = [replace(event(seq, heartbeat()), ts=seq * 20_000) for seq in range(1, 8)]  # 20 s to 140 s
    apply(ledger, beats[:4])
    apply(ledger, beats[4:])

    with read(ledger) as connection:
        kept = connection.execute(select(Event.ts).order_by(Event.id)).scalars().all()
    assert kept == [20_000, 60_000, 120_000]


def test_an_order_never_moves_back(ledger: Engine) -> None:
    late = [order(OrderState.NEW), order(OrderState.PARTIALLY_FILLED, "1"), intent()]
    apply(ledger, [event(1, order(OrderState.FILLED, "2")), *(event(n, p) for n, p in enumerate(late, start=2))])

    with read(ledger) as connection:
        row = connection.execute(select(ExchangeOrder)).one()
    assert (row.status, row.executed_quantity) == ("filled", Decimal(2))


def test_a_position_that_is_over_stays_over(ledger: Engine) -> None:
    apply(ledger, [event(1, closed(1, "1")), event(2, position(1, status=PositionState.ACTIVE))])

    with read(ledger) as connection:
        assert connection.execute(select(TradingOrder.status)).scalar_one() == "closed"


def test_an_execution_reported_twice_counts_once_and_learns_its_fee(ledger: Engine) -> None:
    apply(ledger, [event(1, fill(fee_quote=None)), event(2, fill(fee_quote=Decimal("0.3")))])

    with read(ledger) as connection:
        row = connection.execute(select(Fill)).one()
    assert row.fee_quote == Decimal("0.3")


def test_lines_of_an_earlier_run_do_not_change_what_is_seen_of_the_present_one(ledger: Engine) -> None:
    with write(ledger) as connection:
        open_run(connection, 1, 6)
    apply(
        ledger, [event(1, Status(status=BotState.ERROR, reason="old")), event(2, heartbeat()), event(3, closed(1, "1"))]
    )

    with read(ledger) as connection:
        bot = connection.execute(select(Bot)).one()
        assert (bot.status, bot.heartbeat_ms) == ("starting", None)
        assert connection.execute(select(TradingOrder.status)).scalar_one() == "closed"


def test_a_newer_bot_s_unknown_event_is_kept_as_it_is(ledger: Engine) -> None:
    unknown = replace(event(1, LogLine(level="info", message="")), type="weather", data={"rain": True})
    apply(ledger, [unknown])

    with read(ledger) as connection:
        assert connection.execute(select(Event.type, Event.data)).one() == ("weather", {"rain": True})


def test_the_supervisor_s_own_notes_never_collide_with_a_bot_s_lines(ledger: Engine) -> None:
    apply(ledger, EVENTS[:3])
    with write(ledger) as connection:
        add_note(connection, 1, "1.1", "bot_ended", "first", 9)
        add_note(connection, 1, "1.1", "bot_ended", "second", 9)

    with read(ledger) as connection:
        notes = connection.execute(select(Event.seq, Event.data).where(Event.type == "alert").order_by(Event.id)).all()
    assert [(n.seq, n.data["message"]) for n in notes] == [(-1, "first"), (-2, "second")]


def test_a_new_generation_is_higher_than_any_before_and_closes_what_was_left_open(ledger: Engine) -> None:
    with write(ledger) as connection:
        assert open_run(connection, 1, 9) == 2
        assert open_run(connection, 1, 9, above=6) == 7

    with read(ledger) as connection:
        states = connection.execute(select(BotRun.generation, BotRun.state).order_by(BotRun.generation)).all()
    assert [tuple(r) for r in states] == [(1, "settled"), (2, "settled"), (7, "spawning")]

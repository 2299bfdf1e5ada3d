from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bots import trading_bot
from bots.core.feature_engineering import FEATURES
from shared.config import TradingConfig
from shared.events import Position, Snapshot
from shared.positions import Counters, Terms
from shared.states import DesiredState, PositionState, Side
from shared.tickets import ModelReference
from tests.ports import free_port
from tests.waiting import AT_ONCE_S

HOLDING = Snapshot(
    last_event_ms=1,
    counters=Counters(),
    positions=[
        Position(
            position_key=1,
            symbol="BTCUSDT",
            side=Side.BUY,
            status=PositionState.ACTIVE,
            terms=Terms(
                profit_target_pct=None,
                stop_loss_pct=None,
                holding_time=None,
                take_profit_order="watched",
                maker_order_timeout=60,
                on_entry_timeout="cancel",
            ),
            opened_ms=1,
            config_version=1,
        )
    ],
)


def is_open(position: dict) -> bool:
    return position["status"] == "active"


def is_closed(position: dict) -> bool:
    return position["status"] == "closed"


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_opens_with_its_snapshot_and_ends_with_its_exit(bot):
    bot.start()
    bot.wait("status", lambda s: s["status"] == "running")

    assert bot.stop() == 0

    lines = bot.lines()
    assert [line.type for line in lines[:3]] == ["started", "status", "snapshot"]
    assert lines[-1].type == "exit"
    assert lines[-1].data == {"code": 0, "reason": "stopped"}
    assert [s["status"] for s in bot.events("status")][-1] == "stopping"
    bot.check_journals()


def test_what_the_journal_tells_is_what_the_exchange_did(bot):
    bot.start()
    bot.wait("position", is_closed)
    bot.wait("stats", lambda s: s["counters"]["trades"] == 2, within_s=30)

    assert bot.stop() == 0

    bot.check_journals()
    bot.check_books()


def test_a_second_process_for_the_same_bot_is_refused(bot):
    bot.start()
    first = bot.process
    bot.process = None

    bot.start(until=None)

    assert bot.ends() == 73
    assert bot.lines() == []
    assert first.poll() is None
    bot.process = first


# --- signals ----------------------------------------------------------------------------------------------------------


def blocks_signals(process: subprocess.Popen[bytes]) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
    return bool(blocked & 1 << signal.SIGHUP - 1)


def test_signals_that_come_while_it_starts_are_kept_for_later(bot, eventually):
    bot.start(until=None)
    eventually(lambda: blocks_signals(bot.process))

    def poke() -> bool:
        bot.signal(signal.SIGHUP)
        return bot.count("ready") > 0

    eventually(poke)
    assert bot.stop() == 0


def test_a_stop_that_comes_before_anything_else_ends_it_in_order(bot, eventually):
    bot.start(until=None)
    eventually(lambda: blocks_signals(bot.process))

    assert bot.stop() == 0

    assert bot.lines()[-1].type == "exit"
    assert bot.events("order.intent") == []
    bot.check_journals()


def test_several_stops_are_one(bot):
    bot.start()
    bot.wait("position", is_open)

    for _ in range(5):
        bot.signal(signal.SIGTERM)
    assert bot.ends() == 0

    assert bot.lines()[-1].type == "exit"
    bot.check_books()


def test_sighup_applies_a_hot_config_at_once(bot):
    bot.start()
    pid = bot.process.pid

    bot.configure(holding_time=77, cooldown=5)
    bot.signal(signal.SIGHUP)
    applied = bot.wait("config.applied", within_s=AT_ONCE_S)

    assert applied == {"version": 2, "changed": ["cooldown", "holding_time"]}
    assert bot.process.pid == pid
    assert bot.process.poll() is None


def test_a_config_that_cannot_be_accepted_is_refused_by_name_and_the_old_one_stays(bot):
    bot.start()

    bot.configure(holding_time=-1, no_such_field=3)
    bot.signal(signal.SIGHUP)
    rejected = bot.wait("config.rejected", within_s=AT_ONCE_S)

    assert rejected["version"] == 2
    assert set(rejected["fields"]) == {"holding_time", "no_such_field"}
    assert bot.wait("heartbeat")["config_version"] == 1


def test_a_field_that_needs_a_restart_waits_for_it(bot):
    bot.start()

    bot.configure(model_id=9, cooldown=4)
    bot.signal(signal.SIGHUP)

    assert bot.wait("config.applied", within_s=AT_ONCE_S)["changed"] == ["cooldown"]
    assert "model_id" in bot.wait("alert", lambda a: a["kind"] == "restart_needed")["message"]


def test_a_halt_shows_as_such_and_wins_over_running(bot):
    bot.start()

    bot.control(DesiredState.RUNNING, halted=True)
    bot.signal(signal.SIGHUP)

    bot.wait("status", lambda s: (s["status"], s["reason"]) == ("paused", "halted"), within_s=AT_ONCE_S)


def test_a_pause_takes_no_entries_until_it_is_lifted(bot):
    bot.start(until=None)
    bot.wait("order.intent")

    bot.control(DesiredState.PAUSED)
    bot.signal(signal.SIGHUP)
    bot.wait("status", lambda s: s["status"] == "paused", within_s=AT_ONCE_S)
    bot.wait("position", is_closed)
    entries = len([i for i in bot.events("order.intent") if i["role"] == "entry"])
    decisions = bot.wait("heartbeat")["decisions"]
    bot.wait("heartbeat", lambda h: h["decisions"] > decisions)
    assert len([i for i in bot.events("order.intent") if i["role"] == "entry"]) == entries

    bot.control(DesiredState.RUNNING)
    bot.signal(signal.SIGHUP)
    bot.wait("position", lambda p: is_open(p) and p["opened_ms"] > bot.positions("closed")[0]["closed_ms"])


def test_a_bot_that_is_told_to_stop_by_the_server_stops(bot):
    bot.start()
    bot.wait("position", is_open)

    bot.control(DesiredState.STOPPED)
    bot.signal(signal.SIGHUP)

    assert bot.ends() == 0
    assert bot.positions("closed")[0]["exit_reason"] == "bot_stopped"
    bot.check_books()


def test_a_bot_that_starts_to_be_stopped_closes_what_it_held(make_bot):
    bot = make_bot(holding_time=1000)
    bot.start()
    bot.wait("position", is_open)
    bot.kill()

    bot.control(DesiredState.STOPPED)
    bot.start(until=None)

    assert bot.ends() == 0
    assert bot.positions("closed")[0]["exit_reason"] == "bot_stopped"
    bot.check_books()


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_stopping_closes_the_position_first(make_bot):
    bot = make_bot(holding_time=1000)
    bot.start()
    bot.wait("position", is_open)

    assert bot.stop() == 0

    assert bot.positions("closed")[0]["exit_reason"] == "bot_stopped"
    assert Decimal(bot.ledger()["balances"]["BTC"]["free"]) < Decimal("0.00002")
    bot.check_books()


def test_stopping_cancels_an_entry_that_waits(make_bot):
    bot = make_bot(entry_order_type="limit_maker", entry_offset_ticks=10_000, maker_order_timeout=1000)
    bot.start()
    bot.wait("order", lambda o: o["status"] == "new")

    assert bot.stop() == 0

    assert [order["status"] for order in bot.ledger()["orders"]] == ["CANCELED"]
    assert bot.positions("cancelled")


def test_holding_keeps_the_position_and_the_next_run_guards_it_on_its_own_terms(make_bot):
    bot = make_bot(on_stop="hold", holding_time=15)
    bot.start()
    held = bot.wait("position", lambda p: is_open(p) and p["legs"][0]["status"] == "filled")
    assert bot.stop() == 0
    assert not bot.positions("closed")
    assert len(bot.ledger()["orders"]) == 1

    bot.configure(holding_time=1000, stop_loss_pct=0.9, profit_target_pct=0.9, cooldown=1000)
    bot.start()
    assert [p["position_key"] for p in bot.events("snapshot")[0]["positions"]] == [held["position_key"]]
    closed = bot.wait("position", is_closed)

    for name in ("terms", "stop_price", "target_price", "exit_deadline_ms", "activated_ms", "position_key"):
        assert closed[name] == held[name], name
    assert closed["exit_reason"] == "holding_time"
    assert closed["closed_ms"] >= held["exit_deadline_ms"]
    assert bot.stop() == 0
    bot.check_books()


# --- what cannot run --------------------------------------------------------------------------------------------------


def ends_with_a_sentence(bot, code: int = 78) -> str:
    assert bot.ends() == code
    last = bot.lines()[-1]
    assert (last.type, last.data["code"]) == ("exit", code)
    reason = last.data["reason"]
    assert reason[0].isupper()
    assert reason.endswith((".", "!"))
    assert "Traceback" not in reason
    bot.check_journals()
    return str(reason)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"symbol": "NOPEUSDT"}, "Exchange simulator does not list NOPEUSDT"),
        ({"strategy": "astrology"}, "no strategy 'astrology'; there are lightgbm_scalper"),
        ({"mode": "paper"}, "Mode paper on exchange simulator is not available"),
        ({"exchange": "binance"}, "Mode trade on exchange binance is not available"),
        ({"api_secret": "wrong"}, "refuses the API key"),
        ({"api_key": "b" * 64}, "refuses the API key"),
    ],
)
def test_a_ticket_that_cannot_be_traded_is_refused_in_words(bot, changes, words):
    bot.start(until=None, **changes)

    assert words in ends_with_a_sentence(bot)


def test_a_config_that_cannot_be_traded_is_refused_in_words(bot):
    bot.configure(holding_time="soon", nonsense=1)
    bot.start(until=None)

    reason = ends_with_a_sentence(bot)
    assert "holding_time" in reason
    assert "nonsense" in reason


def test_a_journal_that_cannot_be_read_is_refused_and_stays_what_is_remembered(make_bot):
    bot = make_bot(holding_time=1000, on_stop="hold")
    bot.start()
    bot.wait("position", is_open)
    bot.kill()
    path = bot.home / "1.1.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"position_key":', b'"position":'))
    for _ in range(2):
        bot.start(until=None)
        assert bot.ends() == 78
        assert "of the journal" in bot.events("exit")[0]["reason"]
        assert not bot.events("snapshot")

    path.write_bytes(whole)
    bot.start()
    assert bot.events("ready")[0]["open_positions"] == 1


def test_a_ticket_that_cannot_be_read_leaves_no_line_on_stdout(tmp_path):
    paper = tmp_path / "ticket"
    paper.write_text("not a ticket")
    program = Path(__file__).parents[2] / "bots" / "trading_bot.py"
    with paper.open("rb") as ticket:
        done = subprocess.run(
            [sys.executable, str(program), "--bot-id", "1", "--ticket-fd", str(ticket.fileno())],
            pass_fds=(ticket.fileno(),),
            capture_output=True,
            timeout=20,
            check=False,
        )

    assert done.returncode != 0
    assert done.stdout == b""


def reference(path: Path) -> ModelReference:
    text = path.read_bytes() if path.exists() else b""
    return ModelReference(id=1, sha256=hashlib.sha256(text).hexdigest(), path=str(path))


def test_a_bot_with_a_model_decides_by_it_and_stays_small(make_bot, model):
    bot = make_bot(holding_time=2)
    bot.start()
    bot.wait("position", is_closed)
    beat = bot.wait("heartbeat", lambda h: h["decisions"] > 0)

    assert bot.stop() == 0

    signal_taken = bot.events("signal")[0]
    assert set(signal_taken["values"]) == set(FEATURES)
    assert bot.events("started")[0]["model_sha256"] == reference(model).sha256
    assert beat["rss_mib"] <= 70
    bot.check_journals()
    bot.check_books()


def missing(folder: Path, good: Path, train: Any) -> ModelReference:
    return reference(folder / "nowhere.txt")


def truncated(folder: Path, good: Path, train: Any) -> ModelReference:
    path = folder / "truncated.txt"
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    return replace(reference(good), path=str(path))


def truncated_and_registered(folder: Path, good: Path, train: Any) -> ModelReference:
    path = folder / "truncated.txt"
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    return reference(path)


def of_another_schema(folder: Path, good: Path, train: Any) -> ModelReference:
    return reference(train([f"v9.{name}" for name in FEATURES], folder / "other.txt"))


def none_at_all(folder: Path, good: Path, train: Any) -> None:
    return None


MODELS = pytest.mark.parametrize(
    ("broken", "words"),
    [
        (missing, "cannot be read"),
        (truncated, "is damaged"),
        (truncated_and_registered, "cut off"),
        (of_another_schema, "feature schema v9"),
        (none_at_all, "cannot run without a model"),
    ],
)


@MODELS
def test_a_model_that_cannot_be_used_is_refused_in_words(
    make_bot, model, tmp_path, train_model, broken: Callable[[Path, Path, Any], ModelReference | None], words
):
    bot = make_bot()
    bot.start(until=None, model=broken(tmp_path, model, train_model))

    assert words in ends_with_a_sentence(bot)


def test_a_position_is_guarded_to_its_end_even_when_the_model_is_lost(make_bot, model, tmp_path):
    bot = make_bot(holding_time=4, on_stop="hold")
    bot.start()
    held = bot.wait("position", is_open)
    bot.kill()

    bot.start(until="alert", model=missing(tmp_path, model, None))
    assert "no entries" in bot.wait("alert", lambda a: a["kind"] == "guard_only")["message"]
    closed = bot.wait("position", is_closed)

    assert closed["exit_deadline_ms"] == held["exit_deadline_ms"]
    assert "cannot be read" in ends_with_a_sentence(bot)
    bot.check_books()


def test_a_position_is_guarded_to_its_end_even_when_the_config_is_lost(make_bot):
    bot = make_bot(holding_time=4)
    bot.start()
    bot.wait("position", is_open)
    bot.kill()

    bot.configure(holding_time="soon")
    bot.start(until="alert")

    assert bot.wait("position", is_closed)["exit_reason"] == "holding_time"
    assert "holding_time" in ends_with_a_sentence(bot)
    bot.check_books()


def test_a_position_is_held_as_configured_even_when_the_config_is_lost(make_bot):
    bot = make_bot(holding_time=1000, on_stop="hold")
    bot.start()
    bot.wait("position", is_open)
    bot.kill()

    bot.configure(holding_time="soon")
    bot.start()
    assert bot.stop() == 0

    assert [order["side"] for order in bot.ledger()["orders"]] == ["BUY"]


@pytest.mark.parametrize("error", [ImportError("no lightgbm"), RuntimeError("a bug")])
def test_whatever_keeps_a_strategy_from_being_built_open_positions_are_guarded(make_bot, monkeypatch, error):
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(trading_bot, "build", broken)
    bot = make_bot(on_stop="hold")

    loaded = trading_bot.load_or_guard_only(bot.ticket, HOLDING)
    assert loaded.strategy is None
    assert loaded.trouble is not None
    assert str(error) in loaded.trouble
    assert loaded.config.on_stop == "hold"
    with pytest.raises(type(error)):
        trading_bot.load_or_guard_only(bot.ticket, None)


@pytest.mark.parametrize(
    ("config", "on_stop"),
    [
        ({"on_stop": "hold", "nonsense": 1}, "hold"),
        ({"on_stop": "perhaps"}, TradingConfig().on_stop),
        ({"nonsense": 1}, TradingConfig().on_stop),
    ],
)
def test_what_happens_on_stop_outlives_an_unreadable_config(make_bot, config, on_stop):
    bot = make_bot()
    ticket = replace(bot.ticket, document=replace(bot.ticket.document, config=config))

    assert trading_bot.load_or_guard_only(ticket, HOLDING).config.on_stop == on_stop


def test_a_bot_that_only_guards_can_be_stopped_like_any_other(make_bot):
    bot = make_bot(holding_time=1000, on_stop="hold")
    bot.start()
    bot.wait("position", is_open)
    bot.kill()
    bot.start(model=None)

    assert bot.stop() == 0


# --- the exchange at the start ----------------------------------------------------------------------------------------


def test_an_exchange_that_is_down_is_waited_for(bot, start_simulator, simulator):
    port = free_port()
    there = {name: getattr(simulator.endpoints, name).replace(str(simulator.port), str(port))
             for name in ("rest", "streams", "ws_api")}  # fmt: skip
    bot.start(until=None, endpoints=replace(simulator.endpoints, **there))

    waiting = bot.wait("status", lambda s: s["reason"] is not None)

    assert waiting["status"] == "starting"
    assert waiting["reason"].startswith("waiting for the exchange")

    late = start_simulator("--unlimited", port=port)
    bot.wait("exit")  # this exchange does not know the key
    assert "refuses the API key" in ends_with_a_sentence(bot)
    bot.simulator = late
    key, secret = late.account()
    bot.ticket = replace(bot.ticket, api_key=key, api_secret=secret, endpoints=late.endpoints)
    bot.start()
    bot.wait("position", is_closed)
    assert bot.stop() == 0
    bot.check_books()


def test_a_bot_that_waits_for_its_exchange_can_be_stopped(bot, simulator):
    bot.start(until=None, endpoints=replace(simulator.endpoints, rest="http://127.0.0.1:1/api"))
    bot.wait("status", lambda s: s["reason"] is not None)

    assert bot.stop() == 0

    assert bot.lines()[-1].data["reason"] == "stopped while it waited for the exchange"

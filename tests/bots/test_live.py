"""What goes wrong outside, and what a running bot makes of it."""

from __future__ import annotations

import asyncio
import hmac
import os
import resource
import time
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bots.core.candles import Candle
from bots.core.messages import PlaceOrder
from bots.core.order_manager import OrderManager
from bots.core.predictor import Predictor
from bots.core.strategy import Strategy
from bots.core.trader import Trader
from bots.live import Live
from bots.market import backfill
from bots.reporters.journal import Journal
from bots.strategies import build
from bots.strategies.lightgbm_scalper import LightGBMConfig
from bots.trading.binance_client import BinanceClient
from bots.trading.exchange import KeysRefused, Unreachable
from bots.utils.config_loader import ConfigLoader
from shared.config import TradingConfig, parse_config
from shared.events import Snapshot, decode_line
from shared.states import DesiredState, OrderType, Side
from shared.tickets import Control
from tests.waiting import DEADLINE_S, until

ORDER_PATH = "/api/v3/order"
RESTING = {"take_profit_order": "resting"}


def is_open(position: dict) -> bool:
    return position["status"] == "active"


def is_closed(position: dict) -> bool:
    return position["status"] == "closed"


# --- lost answers -----------------------------------------------------------------------------------------------------


def test_an_entry_whose_answer_was_lost_is_found_and_not_sent_again(bot, simulator):
    simulator.fault("lose_ack", path=ORDER_PATH, method="POST")
    bot.start()

    bot.wait("position", is_closed)

    assert bot.stop() == 0
    assert "outcome_unknown" in {e["kind"] for e in bot.events("error")}
    bot.check_books()


def test_an_exit_whose_answer_was_lost_is_found_and_not_sent_again(make_bot, simulator):
    bot = make_bot(cooldown=1000)
    simulator.fault("lose_ack", path=ORDER_PATH, method="POST", api_key=bot.ticket.api_key, every=2)
    bot.start()

    bot.wait("position", is_closed)

    assert bot.stop() == 0
    assert "outcome_unknown" in {e["kind"] for e in bot.events("error")}
    assert len(bot.ledger()["orders"]) == 2
    bot.check_books()


def test_an_exit_that_never_arrived_is_sent_again_under_a_new_id_once_that_is_certain(make_bot, simulator):
    bot = make_bot(cooldown=1000, holding_time=1)
    simulator.fault("refuse", path=ORDER_PATH, method="POST", status=504, api_key=bot.ticket.api_key, every=2)
    bot.start()

    bot.wait("position", is_closed, within_s=40)

    assert bot.stop() == 0
    exits = [i["client_order_id"][-2:] for i in bot.events("order.intent") if i["role"] == "exit"]
    assert exits == ["x1", "x2"]
    bot.check_books()


# --- the exchange goes away -------------------------------------------------------------------------------------------


def test_an_exchange_that_is_killed_and_comes_back_finds_the_position_guarded(make_bot, start_simulator, tmp_path):
    first = start_simulator("--unlimited", "--state", tmp_path / "state")
    bot = make_bot(at=first, holding_time=3, cooldown=1000)
    bot.start()
    held = bot.wait("position", is_open)

    first.end()
    bot.wait("status", lambda s: s["reason"] is not None and "no candle" in s["reason"])
    bot.simulator = start_simulator("--unlimited", "--state", tmp_path / "state", port=first.port)
    closed = bot.wait("position", is_closed, within_s=60)

    assert closed["exit_deadline_ms"] == held["exit_deadline_ms"]
    assert bot.stop() == 0
    bot.check_journals()
    bot.check_books()


def test_lines_that_are_cut_again_and_again_cost_nothing(bot, simulator):
    bot.start()
    for trades in (1, 2):
        bot.wait("position", is_open)
        simulator.fault("disconnect")
        bot.wait("stats", lambda s: s["counters"]["trades"] == trades, within_s=30)  # noqa: B023

    assert bot.stop() == 0
    bot.check_journals()
    bot.check_books()


def test_while_the_candles_are_silent_there_are_no_entries_and_deadlines_fire(make_bot, simulator):
    bot = make_bot(holding_time=4, cooldown=0)
    bot.start()
    bot.wait("position", is_open)
    simulator.fault("silence", stream="btcusdt@kline_1s", seconds=600)

    bot.wait("status", lambda s: s["reason"] is not None and "no candle for more than 3 s" in s["reason"])
    closed = bot.wait("position", is_closed)

    assert closed["exit_reason"] == "holding_time"
    assert closed["closed_ms"] >= closed["exit_deadline_ms"]
    simulator.clear_faults()
    bot.wait("status", lambda s: s["status"] == "running" and s["reason"] is None, within_s=20)
    bot.wait("position", lambda p: is_open(p) and p["position_key"] > closed["position_key"], within_s=20)
    assert bot.stop() == 0
    bot.check_books()


def test_a_silent_account_stream_is_made_up_for_by_asking(make_bot, simulator):
    bot = make_bot(**RESTING, profit_target_pct=0.5, holding_time=3, cooldown=1000)
    bot.start()
    bot.wait("position", is_open)
    for _ in range(3):
        simulator.fault("disconnect")

    bot.wait("position", is_closed, within_s=30)

    assert bot.stop() == 0
    bot.check_books()


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_entries_not_exits_and_loses_no_line(make_bot, eventually):
    bot = make_bot(holding_time=3, cooldown=0)
    bot.start()
    bot.wait("position", is_open)
    size = (bot.home / "1.1.jsonl").stat().st_size

    resource.prlimit(bot.process.pid, resource.RLIMIT_FSIZE, (size + 300, resource.RLIM_INFINITY))
    bought = len(bot.ledger()["orders"])
    sold = eventually(lambda: next((o for o in bot.ledger()["orders"] if o["side"] == "SELL"), None))
    assert sold["status"] == "FILLED"
    candles = simulator_seconds(bot)
    eventually(lambda: simulator_seconds(bot) >= candles + 4)
    assert len(bot.ledger()["orders"]) == bought + 1

    resource.prlimit(bot.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    first = bot.wait("position", is_closed)
    bot.wait("position", lambda p: is_open(p) and p["position_key"] > first["position_key"])
    assert bot.stop() == 0
    assert "the journal cannot be written" in str(bot.events("risk") + bot.events("status") + bot.events("order"))
    bot.check_journals()
    bot.check_books()


def simulator_seconds(bot: Any) -> int:
    return int(bot.simulator.sim("GET", "clock")["market_ms"]) // 1000


# --- inside one process -----------------------------------------------------------------------------------------------


class Stage:
    """A `Live` in this process against the simulator, with a journal to read."""

    def __init__(self, bot: Any, folder: Path, model: Predictor) -> None:
        self.model = model
        self.bot, self.ticket = bot, bot.ticket
        self.path = folder / "1.1.jsonl"
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.journal = Journal(fd, bot_id=1, run_id="1.1", folder=folder)
        self.live: Live
        self.exchange: BinanceClient

    def events(self, type_: str) -> list[dict[str, Any]]:
        return [line.data for line in map(decode_line, self.path.read_bytes().splitlines()) if line.type == type_]

    def play(
        self,
        act: Callable[[asyncio.Task[None]], Awaitable[None]],
        *,
        memory: Snapshot | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        async def whole() -> None:
            ticket = self.ticket
            self.exchange = await BinanceClient.connect(ticket.endpoints, ticket.api_key, ticket.api_secret)
            rules = await self.exchange.rules(ticket.symbol)
            assert rules is not None
            config = parse_config(LightGBMConfig, ticket.document.config)

            def fresh_strategy(config: TradingConfig) -> Strategy:
                return build("lightgbm_scalper", 1000, config, self.model)

            trader = Trader(
                id_prefix=f"f{ticket.install}-1",
                rules=rules,
                interval="1s",
                strategy=fresh_strategy(config),
                config=config,
                config_version=1,
                memory=memory,
            )
            self.trader = trader
            offset = self.exchange.clock_offset_ms
            self.live = Live(ticket, trader, self.exchange, self.journal, offset, fresh_strategy=fresh_strategy)
            prepare()
            task = asyncio.create_task(self.live.run())
            try:
                await act(task)
                self.live.stop()
                async with asyncio.timeout(DEADLINE_S):
                    await task
                assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await self.exchange.close()

        asyncio.run(whole())


@pytest.fixture
def stage(bot, tmp_path, model) -> Stage:
    folder = tmp_path / "stage"
    folder.mkdir()
    return Stage(bot, folder, Predictor(model.read_bytes()))


async def enters_nothing(stage: Stage) -> None:
    """For five seconds of the market, in which it would else; what went out before is waited for."""
    await until(lambda: not stage.trader.orders.unanswered)
    orders = len(stage.bot.ledger()["orders"])
    candles = stage.live._last_candle.end_ms
    await until(lambda: stage.live._last_candle.end_ms >= candles + 5_000)
    assert [o for o in stage.bot.ledger()["orders"][orders:] if o["side"] == "BUY"] == []


def test_a_server_that_is_out_of_reach_for_too_long_stops_entries(stage, monkeypatch):
    monkeypatch.setattr(ConfigLoader, "age_s", lambda self: 601.0)

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: any("out of reach" in str(s["reason"]) for s in stage.events("status")))
        await enters_nothing(stage)

    stage.play(act)


def test_a_run_that_the_server_does_not_know_any_more_enters_nothing_at_once(stage, monkeypatch):
    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: stage.events("ready"))
        stage.live._loader.refused = "the server does not know this run any more"
        said = "no entries: the server does not know this run any more"
        await until(lambda: any(str(s["reason"]).startswith(said) for s in stage.events("status")))
        await enters_nothing(stage)

    stage.play(act)


def test_what_breaks_in_the_core_ends_the_run(stage, monkeypatch):
    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: stage.events("ready"))
        step = Trader.step

        def broken(trader: Trader, event: Any) -> Any:
            if isinstance(event, Candle):
                raise RuntimeError("a bug in the core")
            return step(trader, event)

        monkeypatch.setattr(Trader, "step", broken)
        with pytest.raises(RuntimeError, match="a bug in the core"):
            async with asyncio.timeout(DEADLINE_S):
                await task

    with pytest.raises(RuntimeError, match="a bug in the core"):
        stage.play(act)


def test_keys_that_are_revoked_while_it_trades_end_the_run(stage, monkeypatch):
    monkeypatch.setattr("bots.live.RECONCILE_S", 0.1)

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: stage.events("ready"))
        stage.exchange._client.API_SECRET = "revoked"
        async with asyncio.timeout(DEADLINE_S):
            await task

    with pytest.raises(KeysRefused):
        stage.play(act)


def test_while_the_stream_is_silent_the_rest_price_guards_the_stop(stage, monkeypatch):
    monkeypatch.setattr("bots.live.REST_PRICE_AFTER_S", 2.0)
    stage.ticket.document.config.update(holding_time=1000, cooldown=1000)

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: any(is_open(p) for p in stage.events("position")))

        async def crash(symbol: str) -> float:
            return 1.0

        monkeypatch.setattr(stage.exchange, "last_price", crash)
        await asyncio.to_thread(stage.bot.simulator.fault, "silence", stream="kline_1s", seconds=600)
        await until(lambda: any(is_closed(p) for p in stage.events("position")))
        assert next(p for p in stage.events("position") if is_closed(p))["exit_reason"] == "stop_loss"
        await asyncio.to_thread(stage.bot.simulator.clear_faults)

    stage.play(act)


def test_a_rest_that_hangs_does_not_hold_up_the_deadline(stage, monkeypatch):
    monkeypatch.setattr("bots.live.REST_PRICE_AFTER_S", 1.0)
    stage.ticket.document.config.update(holding_time=6, cooldown=1000)

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: any(is_open(p) for p in stage.events("position")))

        async def hang(symbol: str) -> float:
            await asyncio.Event().wait()
            return 0.0

        monkeypatch.setattr(stage.exchange, "last_price", hang)
        await asyncio.to_thread(stage.bot.simulator.fault, "silence", stream="kline_1s", seconds=600)
        await until(lambda: any(is_closed(p) for p in stage.events("position")))
        assert next(p for p in stage.events("position") if is_closed(p))["exit_reason"] == "holding_time"
        await asyncio.to_thread(stage.bot.simulator.clear_faults)

    stage.play(act)


def test_a_gap_whose_filling_hangs_does_not_hold_up_the_deadline(stage, monkeypatch):
    monkeypatch.setattr("bots.market.backfill.FILL_S", 600.0)
    stage.ticket.document.config.update(holding_time=6, cooldown=1000)

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: any(is_open(p) for p in stage.events("position")))

        async def hang(*_: object) -> list[Candle]:
            await asyncio.Event().wait()
            return []

        monkeypatch.setattr(stage.exchange, "candles", hang)
        stage.live._row._end_ms -= 5_000
        await until(lambda: any(is_closed(p) for p in stage.events("position")))
        assert next(p for p in stage.events("position") if is_closed(p))["exit_reason"] == "holding_time"

    stage.play(act)


async def no_candles(*_: object) -> list[Candle]:
    raise Unreachable("503")


def test_a_hole_in_the_candles_stops_entries_until_a_fresh_strategy_has_seen_them(stage, monkeypatch):
    monkeypatch.setattr("bots.live.RETRY_S", 0.05)
    monkeypatch.setattr("bots.market.backfill.PAUSES_S", ())

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: stage.events("ready"))
        first = stage.trader._strategy
        candles = stage.exchange.candles
        monkeypatch.setattr(stage.exchange, "candles", no_candles)
        stage.live._row._end_ms -= 5_000
        await until(lambda: stage.trader.entry_hold == "history incomplete, loading it again")
        await until(lambda: stage.events("error"))
        assert stage.trader._strategy is first
        monkeypatch.setattr(stage.exchange, "candles", candles)
        await until(lambda: stage.trader.entry_hold is None)
        assert stage.trader._strategy is not first
        assert stage.trader.window.full

    stage.play(act)


def test_an_open_position_is_guarded_while_no_history_can_be_had(stage, monkeypatch):
    monkeypatch.setattr("bots.live.RETRY_S", 0.05)
    stage.ticket.document.config.update(holding_time=4, cooldown=1000, on_stop="hold")

    async def open_one(task: asyncio.Task[None]) -> None:
        await until(lambda: any(is_open(p) for p in stage.events("position")))

    stage.play(open_one)
    memory = stage.trader.snapshot()
    assert memory.positions

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: any(is_closed(p) for p in stage.events("position")))
        assert stage.trader.entry_hold == "history incomplete, loading it again"
        monkeypatch.undo()
        await until(lambda: stage.trader.entry_hold is None)
        assert stage.trader.window.full

    stage.play(
        act, memory=memory, prepare=lambda: monkeypatch.setattr(BinanceClient, "candles", no_candles)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("history", "delivered", "joined"),
    [
        ([1, 2, 3], [2, 3, 4], [1, 2, 3, 4]),
        ([1, 2, 3], [4, 5], [1, 2, 3, 4, 5]),
        ([1, 2, 3], [5], []),
        ([1, 2, 3], [4, 6], []),
        ([3, 4, 5], [1, 3], [3]),
        ([3, 4, 5], [1], []),
        ([1, 3, 4], [4, 5], [1, 3, 4, 5]),
        ([1, 2], [], []),
        ([], [1], []),
    ],
)
def test_history_is_joined_with_what_was_delivered_only_without_a_hole(history, delivered, joined):
    def candles(seconds: list[int]) -> list[Candle]:
        return [Candle(second * 1000, 1000, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0, 0.0, 0.0) for second in seconds]

    assert [c.open_ms // 1000 for c in backfill.joined(candles(history), candles(delivered))] == joined


def test_what_goes_wrong_again_and_again_is_told_once_a_minute_and_counted_each_time(stage, monkeypatch):
    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: stage.events("ready"))
        for number in range(5):
            stage.live._on_error("query_failed", f"order a: try {number}")
            stage.live._on_error("query_failed", f"order b: try {number}")
            stage.live._on_error("cancel_failed", f"order a: try {number}")
        assert [e["message"] for e in stage.events("error")] == ["order a: try 0", "order b: try 0", "order a: try 0"]
        counted = stage.live._vitals.heartbeat(stage.live._trader, None, {}).errors
        assert counted == {"query_failed": 10, "cancel_failed": 5}
        monkeypatch.setattr("bots.vitals.ERROR_AGAIN_S", 0.0)
        stage.live._on_error("query_failed", "order a: try 6")
        assert stage.events("error")[-1]["message"] == "order a: try 6"

    stage.play(act)


def targets(stage) -> list[Decimal]:
    """Prices of the targets that rest."""
    legs = [leg for position in stage.events("position") if is_open(position) for leg in position["legs"]]
    return [Decimal(leg["price"]) for leg in legs if leg["role"] == "target" and leg["status"] == "new"]


def buy_up_to(simulator, keys: tuple[str, str], price: Decimal) -> None:
    """Another customer buys all that is offered up to *price*."""
    order = {
        "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "IOC", "quantity": "100",
        "price": str(price), "timestamp": time.time_ns() // 1_000_000,
    }  # fmt: skip
    text = urllib.parse.urlencode(order)
    signature = hmac.new(keys[1].encode(), text.encode(), "sha256").hexdigest()
    url = f"{simulator.url}{ORDER_PATH}?{text}&signature={signature}"
    request = urllib.request.Request(url, method="POST", headers={"X-MBX-APIKEY": keys[0]})
    urllib.request.urlopen(request, timeout=10).close()


@pytest.mark.parametrize(("silenced", "reconcile_s"), [("_on_user_event", 0.3), ("_ask_about_open_orders", 1000.0)])
def test_a_target_that_the_market_fills_is_learned_by_asking_or_by_the_stream(
    stage, monkeypatch, silenced, reconcile_s
):
    monkeypatch.setattr("bots.live.RECONCILE_S", reconcile_s)
    monkeypatch.setattr(Live, silenced, lambda *_: None)
    # One tick above the entry: somebody else buys all that is offered up to there.
    changes = {"profit_target_pct": 0.0000001, "holding_time": 1000, "cooldown": 0, "max_positions": 20}
    stage.ticket.document.config.update(RESTING, **changes)

    def rested(position: dict[str, Any]) -> bool:
        return any(leg["role"] == "target" and leg["status"] == "filled" for leg in position["legs"])

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: targets(stage))
        keys = stage.bot.simulator.account(USDT="1000000000")
        await asyncio.to_thread(buy_up_to, stage.bot.simulator, keys, targets(stage)[-1])
        await until(lambda: any(is_closed(p) and rested(p) for p in stage.events("position")), 90)
        monkeypatch.undo()  # stopping cancels the targets that still rest

    stage.play(act)


def test_a_stop_under_way_is_not_undone_by_the_server(stage):
    stage.ticket.document.config.update(holding_time=1000, on_stop="hold")

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: any(is_open(p) for p in stage.events("position")))
        stage.live.stop()
        await until(lambda: stage.live._trader.entry_hold == "stopped")
        paused = replace(stage.ticket.document, control=Control(desired=DesiredState.PAUSED))
        for document in (paused, stage.ticket.document):
            stage.live._on_document(document)
            assert stage.live._trader.entry_hold == "stopped"

    stage.play(act)


def test_a_halt_withdraws_entries_also_while_the_bot_hands_over(stage, monkeypatch, tmp_path):
    file = tmp_path / "halt"
    stage.ticket = replace(stage.ticket, halt_file=str(file))
    stage.ticket.document.config.update(
        entry_order_type="limit_maker", entry_offset_ticks=10_000, maker_order_timeout=1000
    )

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: any(o["status"] == "new" for o in stage.events("order")))
        monkeypatch.setattr(OrderManager, "unanswered", 1)
        stage.live.hand_over()
        await until(lambda: stage.events("status")[-1]["status"] == "stopping")
        file.touch()
        await until(lambda: any(p["status"] == "cancelled" for p in stage.events("position")))
        assert not task.done()
        monkeypatch.undo()

    stage.play(act)

    assert stage.events("halt")[-1]["halted"]


def test_orders_that_belong_to_nothing_are_cancelled_at_the_start_and_others_left_alone(stage):
    async def place_strays() -> None:
        client = await BinanceClient.connect(stage.ticket.endpoints, stage.ticket.api_key, stage.ticket.api_secret)
        price = Decimal(int(await client.last_price("BTCUSDT") * 0.9))
        for client_order_id in ("fabc123-1-77-e1", "fabc123-11-77-e1", "by-hand"):
            await client.place(
                PlaceOrder(
                    client_order_id=client_order_id,
                    symbol="BTCUSDT",
                    side=Side.BUY,
                    order_type=OrderType.LIMIT,
                    quantity=Decimal("0.001"),
                    price=price,
                )
            )
        await client.close()

    asyncio.run(place_strays())

    async def act(task: asyncio.Task[None]) -> None:
        await until(lambda: stage.events("ready"))

    stage.play(act)

    states = {o["client_order_id"]: o["status"] for o in stage.bot.ledger()["orders"]}
    assert [states[i] for i in ("fabc123-1-77-e1", "fabc123-11-77-e1", "by-hand")] == ["CANCELED", "NEW", "NEW"]
    assert "fabc123-1-77-e1" in next(a for a in stage.events("alert") if a["kind"] == "stray_order")["message"]

"""Bots that are killed at any moment, again and again: nothing lost, nothing twice."""

from __future__ import annotations

import random
import resource
import time

import pytest

pytestmark = pytest.mark.timeout(600)  # they wait for many starts, one after another

KILLS = 10
TERMS = ("terms", "stop_price", "target_price", "exit_deadline_ms", "activated_ms", "entry_deadline_ms")


@pytest.mark.slow
def test_bots_killed_at_random_moments_lose_nothing_and_do_nothing_twice(make_bot, eventually):
    chance = random.Random(11)
    takers = make_bot(holding_time=1, cooldown=0, max_positions=2)
    makers = make_bot(
        entry_order_type="limit_maker",
        entry_offset_ticks=0,
        maker_order_timeout=2,
        holding_time=2,
        cooldown=0,
        max_positions=3,
        profit_target_pct=0.0001,
        take_profit_order="resting",
    )
    bots = (takers, makers)
    due = {}
    for bot in bots:
        bot.start(until=None)
        due[bot.ticket.bot_id] = time.monotonic() + chance.uniform(0.5, 2.2)
    kills = 0
    while kills < 2 * KILLS:
        bot = min(bots, key=lambda b: due[b.ticket.bot_id])
        time.sleep(max(0.0, due[bot.ticket.bot_id] - time.monotonic()))
        bot.kill()
        kills += 1
        bot.start(until=None)
        due[bot.ticket.bot_id] = time.monotonic() + chance.uniform(0.5, 2.2)

    for bot in bots:
        bot.wait("ready", within_s=40)
        bot.wait("position", lambda p: p["status"] in ("closed", "cancelled"), within_s=40)
        eventually(lambda bot=bot: len(bot.ledger()["orders"]) > 5, within_s=60)
        assert bot.stop(within_s=40) == 0
        bot.check_journals()
        bot.check_books()
        check_terms(bot)


def test_bots_killed_as_soon_as_an_intent_is_on_disk_find_out_what_became_of_it(make_bot, eventually):
    bots = []
    for role in ("entry", "target", "exit"):
        bot = make_bot(holding_time=2, cooldown=1000, profit_target_pct=0.5, take_profit_order="resting")
        bot.start(until=None)
        bot.wait("order.intent", lambda intent: intent["role"] == role)  # noqa: B023
        bot.kill()
        bot.start(until=None)
        bots.append(bot)

    for bot in bots:
        bot.wait("ready", within_s=40)
        # On a slow machine the kill may come when all is done already.
        eventually(lambda: bot.all_events("position")[-1]["status"] in ("closed", "cancelled"), 40)  # noqa: B023
        assert bot.stop() == 0
        bot.check_journals()
        bot.check_books()
        check_terms(bot)


def test_an_exit_that_no_journal_tells_of_is_not_sent_again(make_bot, eventually):
    """The disk was full when it was sent, and the bot was killed then. Others hold coins in the same account."""
    bot = make_bot(holding_time=3, cooldown=1000, balances={"USDT": "1000", "BTC": "1"})
    bot.start()
    bot.wait("position", lambda p: p["status"] == "active")
    size = (bot.home / "1.1.jsonl").stat().st_size
    resource.prlimit(bot.process.pid, resource.RLIMIT_FSIZE, (size + 30, resource.RLIM_INFINITY))
    eventually(lambda: [order for order in bot.ledger()["orders"] if order["side"] == "SELL"])
    bot.kill()

    bot.start()
    bot.wait("position", lambda p: p["status"] == "closed")

    assert bot.stop() == 0
    assert [order["side"] for order in bot.ledger()["orders"]] == ["BUY", "SELL"]
    bot.check_books()


def check_terms(bot) -> None:
    """Once its entry is settled, a position's stop, target and deadlines stay what they are, whoever guards it."""
    seen: dict[int, dict] = {}
    for position in bot.all_events("position") + [p for s in bot.all_events("snapshot") for p in s["positions"]]:
        entries = [leg for leg in position["legs"] if leg["role"] == "entry"]
        settled = all(
            leg["status"] in ("filled", "cancelled", "expired", "rejected")
            and leg["booked_quantity"] == leg["executed_quantity"]
            for leg in entries
        )
        if position["status"] == "active" and settled:
            terms = {name: position[name] for name in TERMS}
            assert seen.setdefault(position["position_key"], terms) == terms

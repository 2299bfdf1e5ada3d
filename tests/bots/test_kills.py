"""Bots that are killed at any moment, again and again: nothing lost, nothing twice."""

from __future__ import annotations

import random
import time

import pytest

KILLS = 12
TERMS = ("terms", "stop_price", "target_price", "exit_deadline_ms", "activated_ms", "entry_deadline_ms")


@pytest.mark.slow
def test_bots_killed_at_random_moments_lose_nothing_and_do_nothing_twice(make_bot):
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
        assert bot.stop(within_s=40) == 0
        bot.check_journals()
        bot.check_books()
        check_terms(bot)
        assert len(bot.ledger()["orders"]) > 5


@pytest.mark.parametrize("role", ["entry", "target", "exit"])
def test_a_bot_killed_as_soon_as_an_intent_is_on_disk_finds_out_what_became_of_it(make_bot, role):
    bot = make_bot(holding_time=2, cooldown=1000, profit_target_pct=0.5, take_profit_order="resting")
    bot.start(until=None)
    bot.wait("order.intent", lambda intent: intent["role"] == role)
    bot.kill()

    bot.start(until=None)
    bot.wait("ready", within_s=40)
    bot.wait("position", lambda p: p["status"] in ("closed", "cancelled"), within_s=40)

    assert bot.events("ready")[0]["reconciled_orders"] >= 1
    assert bot.stop() == 0
    bot.check_journals()
    bot.check_books()
    check_terms(bot)


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

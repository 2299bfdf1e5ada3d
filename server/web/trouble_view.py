"""What each kind of trouble means for money, and what a person can do about it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.storage.times import iso
from server.storage.trouble import Trouble
from server.web.formats import duration
from server.web.observed import STALE_MS
from shared.states import BotState


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One line of *Needs attention*. *id* is its element's; *short* is what the key figures have room for."""

    id: str
    bot_id: int
    bot: str
    level: str
    icon: str
    title: str
    short: str
    count: int
    first: str
    last: str
    last_ms: int
    means: str
    todo: str


_GUARDED = "Open positions stay guarded."
_WORDS: dict[str, tuple[str, str, str, str]] = {
    # kind: (level, short words, what it means for money, what to do)
    "bot_fault": ("bad", "gave up", "It takes no entries; a position is retried once a minute to guard it.",
                  "Read the last lines of its log, mend the cause, then start it again."),
    "bot_ended": ("warn", "ended", "The supervisor starts it again; between the two nobody watches its stops.",
                  "Nothing, if it happened once. Read its log if it goes on."),
    "unreachable": ("warn", "exchange", "No entries while it lasts; deadlines and stops are kept as far as prices "
                    "arrive.", "Check the network and the exchange's status page; it goes on by itself."),
    "outcome_unknown": ("warn", "no answer", "An order's fate is being asked for; it is never sent twice.",
                        "Nothing: it is settled by asking. Look at the exchange if it stays so for minutes."),
    "cancel_failed": ("warn", "cancel", "An order may still rest at the exchange; it is asked about again.",
                      "Look at the order at the exchange if it stays so."),
    "query_failed": ("warn", "query", "An order's state is not known for the moment; it is asked for again.",
                     "Nothing, if it ends. Look at the order at the exchange if it stays so."),
    "target_lost": ("warn", "target lost", "The bot watches the price itself and sells at market at the target.",
                    "Nothing. Do not cancel a bot's orders by hand."),
    "stray_order": ("warn", "stray order", "An order of this bot belonged to no position and was cancelled.",
                    "Compare the account with the positions."),
    "stray_fill": ("bad", "stray fill", "Something was bought or sold that belongs to no position.",
                   "Look at the account and trade the difference by hand."),
    "position_missing": ("bad", "missing", "What the position held is no longer in the account; its result is not "
                         "complete.", "Find out who moved it; give each bot an account of its own."),
    "too_small_to_sell": ("warn", "dust", "The rest is kept at cost on the bot's dust account.",
                          "There is nothing to do."),
    "fee_not_valued": ("warn", "fee", "A fee in a third asset is not in the result.",
                       "Keep no fee asset in the account, or pay fees in quote."),
    "strategy_failed": ("bad", "strategy", f"No more entries. {_GUARDED}",
                        "Restart it once its positions are closed; report what its log says."),
    "guard_only": ("bad", "guards only", f"It takes no entries. {_GUARDED}",
                   "Mend what its log names, then restart it."),
    "restart_needed": ("warn", "restart", "The version before stays in force for the named fields.",
                       "Restart the bot when it suits."),
    "journal_gap": ("bad", "journal gap", "Lines of its journal are missing; figures may be incomplete.",
                    "Compare its positions with the account at the exchange."),
    "journal_unreadable": ("bad", "journal", "What it did since is not in the figures yet; nothing is lost.",
                           "Mend the rights or the disk; it is booked once the file can be read."),
    "lock_held": ("warn", "runs twice", "Another process of this bot holds its lock; this one did nothing.",
                  "End the other process, or leave it and stop this one."),
    "bug": ("bad", "bug", f"A request broke inside the bot. {_GUARDED}", "Report it with the lines around it."),
}  # fmt: skip
_REFUSED = ("bad", "order refused", "The order was not placed; nothing was bought or sold by it.",
            "Read the exchange's words: free some balance, or change the size in its config.")  # fmt: skip
_UNKNOWN = ("warn", "", "It was handled; the log has the lines around it.", "Read its log.")


def attention(
    troubles: Sequence[Trouble], bots: Sequence[Mapping[str, Any]], silent_ms: Mapping[int, int], now: int
) -> list[Attention]:
    """What needs somebody, the worst first. *silent_ms*: how long each bot that should speak has been silent."""
    names = {bot["id"]: bot["name"] for bot in bots}
    lines = [_silent(bot, silent_ms[bot["id"]], now) for bot in bots if bot["id"] in silent_ms]
    told = {trouble.bot_id for trouble in troubles if trouble.kind in ("bot_fault", "bot_ended")}
    lines += [_faulted(bot, now) for bot in bots if bot["status"] == BotState.ERROR and bot["id"] not in told]
    lines += [_line(trouble, names[trouble.bot_id]) for trouble in troubles if trouble.bot_id in names]
    return sorted(lines, key=lambda line: (line.level != "bad", -line.last_ms))


def _line(trouble: Trouble, bot: str) -> Attention:
    level, short, means, todo = _WORDS.get(trouble.kind, _REFUSED if trouble.kind.startswith("order_") else _UNKNOWN)
    return Attention(
        id=f"alert-{zlib.crc32(trouble.fingerprint.encode())}",
        bot_id=trouble.bot_id,
        bot=bot,
        level=level,
        icon="alert",
        title=trouble.message or trouble.kind,
        short=short or trouble.kind.replace("_", " "),
        count=trouble.count,
        first=clock_time(trouble.first_ms),
        last=clock_time(trouble.last_ms),
        last_ms=trouble.last_ms,
        means=means,
        todo=todo,
    )


def _silent(bot: Mapping[str, Any], silent_ms: int, now: int) -> Attention:
    since = now - silent_ms
    return Attention(
        id=f"silent-{bot['id']}",
        bot_id=bot["id"],
        bot=bot["name"],
        level="warn",
        icon="clock",
        title=f"no heartbeat for more than {duration(STALE_MS)}",
        short="silent",
        count=1,
        first=clock_time(since),
        last=clock_time(since),
        last_ms=since,
        means="Its figures are grey until it answers; nobody knows whether its stops are watched.",
        todo="The supervisor kills and restarts a bot that stays silent. Check the supervisor on the system page.",
    )


def _faulted(bot: Mapping[str, Any], now: int) -> Attention:
    since = bot["status_since"] or now
    _, short, means, todo = _WORDS["bot_fault"]
    return Attention(
        id=f"fault-{bot['id']}",
        bot_id=bot["id"],
        bot=bot["name"],
        level="bad",
        icon="alert",
        title=bot["status_reason"] or "it gave up",
        short=short,
        count=1,
        first=clock_time(since),
        last=clock_time(since),
        last_ms=since,
        means=means,
        todo=todo,
    )


def clock_time(ms: int) -> str:
    """``14:31:40``, UTC."""
    return (iso(ms) or "")[11:19]

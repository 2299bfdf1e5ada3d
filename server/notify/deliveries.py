"""Decide what goes out next on a channel, and write down how it went.

One message after the other in the order of their causes; nothing overtakes a message that is being tried again. Many at
once become one message that lists them, and what is old (it waited through a downtime) becomes one line in all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from server.notify.outbox import FAILED, QUEUED, SENT
from server.storage.models import Notification, Setting
from server.storage.times import DAY_MS, iso

BURST = 5
"""More messages than this at once become one that lists them."""
OLD_MS = 900_000
"""What is older than this when it could be sent is only counted."""
NEVER_FOLDED = frozenset({"daily", "kill_switch", "halted", "released", "fault"})
MOST_CHARS = 3_900
"""A little below Telegram's limit for one message, counted as it counts (UTF-16)."""
_MOST_LOADED = 2_000


class Trouble(StrEnum):
    """Why a message did not go out."""

    PASSING = "passing"
    """No answer, a server error, too many requests: it is tried again."""
    REFUSED = "refused"
    """The token or the chat is not accepted: nothing will go out until somebody changes that."""
    UNSENDABLE = "unsendable"
    """This one message is not accepted; others may be."""


class Undelivered(Exception):
    """A message did not go out, or nobody knows whether it did. *retry_after_s* is what the other side asks for."""

    def __init__(self, trouble: Trouble, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.trouble, self.message, self.retry_after_s = trouble, message, retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A notification that waits."""

    id: int
    created_ms: int
    kind: str
    text: str
    attempts: int
    next_try_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as it goes out, and the notifications that it stands for."""

    text: str
    ids: tuple[int, ...]
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to wait after a failure, and when to give up."""

    first_s: float = 1.0
    most_s: float = 300.0
    attempts: int = 80
    """With these pauses about six hours."""
    refused_first_s: float = 600.0
    refused_most_s: float = 3600.0
    refused_attempts: int = 6

    def pause_s(self, trouble: Undelivered, attempts: int, jitter: float) -> float:
        """Seconds until the next attempt after *attempts* failed ones; *jitter* from 0 to 1."""
        if trouble.retry_after_s is not None:
            return trouble.retry_after_s + jitter
        refused = trouble.trouble is Trouble.REFUSED
        first, most = (self.refused_first_s, self.refused_most_s) if refused else (self.first_s, self.most_s)
        pause: float = min(most, first * 2 ** min(attempts - 1, 20))
        return pause * (0.5 + jitter / 2)

    def gives_up(self, trouble: Undelivered, attempts: int) -> bool:
        """Whether *attempts* failed ones are enough."""
        match trouble.trouble:
            case Trouble.UNSENDABLE:
                return True
            case Trouble.REFUSED:
                return attempts >= self.refused_attempts
        return attempts >= self.attempts


def next_delivery(queue: Sequence[Queued], now: int, *, burst: int = BURST) -> Delivery | None:
    """What to send now of *queue* (oldest first); None while its first message has to wait."""
    if not queue or now < queue[0].next_try_ms <= now + DAY_MS:  # one further off comes from a clock that lied
        return None
    first = queue[0]
    if _is_old(first, now):
        old = [m for m in queue if _is_old(m, now)]
        return _delivery(_folded(old), old)
    fresh = [m for m in queue if not _is_old(m, now)]
    if len(fresh) <= burst:
        return _delivery(cut(first.text), [first])
    return _listed(fresh)


def load_queue(connection: Connection, channel: str, *, most: int = _MOST_LOADED) -> list[Queued]:
    """What waits for *channel*, oldest first."""
    table = Notification
    rows = connection.execute(
        select(table.id, table.created_ms, table.kind, table.text, table.attempts, table.next_try_ms)
        .where(table.state == QUEUED, table.channel == channel)
        .order_by(table.id)
        .limit(most)
    )
    return [Queued(**row._mapping) for row in rows]


def write_sent(connection: Connection, delivery: Delivery, now: int) -> None:
    """*delivery* went out."""
    sent = {"state": SENT, "sent_ms": now, "error": None, "attempts": Notification.attempts + 1}
    connection.execute(update(Notification).where(Notification.id.in_(delivery.ids)).values(**sent))


def write_failure(
    connection: Connection, delivery: Delivery, failure: Undelivered, now: int, policy: RetryPolicy, jitter: float
) -> float | None:
    """*delivery* did not go out: seconds until it is tried again, None if it was given up."""
    attempts = delivery.attempts + 1
    mine = Notification.id.in_(delivery.ids)
    tried = {"attempts": Notification.attempts + 1, "error": failure.message}
    if policy.gives_up(failure, attempts):
        connection.execute(update(Notification).where(mine).values(**tried, state=FAILED))
        return None
    pause_s = policy.pause_s(failure, attempts, jitter)
    connection.execute(update(Notification).where(mine).values(**tried, next_try_ms=now + int(1000 * pause_s)))
    return pause_s


def write_channel_state(connection: Connection, channel: str, failure: Undelivered | None, now: int) -> bool:
    """How *channel* is, for people to see; whether that was known already."""
    state = "ok" if failure is None else "refused" if failure.trouble is Trouble.REFUSED else "failing"
    if failure is not None and failure.trouble is Trouble.UNSENDABLE:
        return True  # that says nothing of the channel
    before = channel_state(connection, channel)
    if before is not None and before["state"] == state:
        return True
    name = f"channel.{channel}"
    value = json.dumps({"state": state, "error": failure and failure.message, "since_ms": now})
    connection.execute(delete(Setting).where(Setting.name == name))
    connection.execute(insert(Setting).values(name=name, value=value))
    return False


def channel_state(connection: Connection, channel: str) -> dict[str, Any] | None:
    """``{state, error, since_ms}`` of *channel*, its *state* ok, failing or refused; None if nothing was sent yet."""
    value = connection.execute(select(Setting.value).where(Setting.name == f"channel.{channel}")).scalar_one_or_none()
    return None if value is None else dict(json.loads(value))


def cut(text: str, most: int = MOST_CHARS) -> str:
    """*text* shortened to what one message may hold."""
    if _length(text) <= most:
        return text
    while _length(text) > most - 1:
        text = text[: most // 2] if len(text) > 4 * most else text[:-50]
    return text + "…"


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _is_old(message: Queued, now: int) -> bool:
    return message.created_ms < now - OLD_MS and message.kind not in NEVER_FOLDED


def _delivery(text: str, messages: Sequence[Queued]) -> Delivery:
    return Delivery(text=text, ids=tuple(m.id for m in messages), attempts=messages[0].attempts)


def _folded(old: Sequence[Queued]) -> str:
    """``12 messages from 10:02–11:40 UTC could not be sent then: 5 × closed, …``."""
    begin, end = min(m.created_ms for m in old), max(m.created_ms for m in old)
    counts = ", ".join(f"{count} × {kind}" for kind, count in Counter(m.kind for m in old).most_common())
    what = "1 message" if len(old) == 1 else f"{len(old)} messages"
    return (
        f"{what} of {_minute(begin)} to {_minute(end)} UTC could not be sent then: {counts}. /pnl and /bots tell more."
    )


def _listed(messages: Sequence[Queued]) -> Delivery:
    """As many of *messages* as one message holds, a line each."""
    lines: list[str] = []
    room = MOST_CHARS - 40
    for message in messages:
        line = "• " + cut(message.text.replace("\n", " · "), 600)
        room -= _length(line) + 1
        if room < 0:
            break
        lines.append(line)
    return _delivery("\n".join([f"{len(lines)} messages:", *lines]), messages[: len(lines)])


def _minute(ms: int) -> str:
    text = iso(ms) or ""
    return f"{text[5:10]} {text[11:16]}"

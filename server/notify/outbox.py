"""Write what people are to be told into the outbox, in the transaction that books its cause.

So a message is there exactly when its cause is, whatever is killed; `dispatcher.py` sends it afterwards. Which channels
there are is itself a row, put there by the supervisor: without a channel nothing is written. A message that cannot be
made is logged and left out; it never keeps an event from being booked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import structlog
from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import OperationalError

from server.notify import templates
from server.notify.templates import BotFacts, Message
from server.storage.models import Bot, Event, Notification, Setting, TradingConfigVersion
from server.storage.times import iso, now_ms
from shared.events import Envelope, Payload
from shared.states import BotState

log = structlog.get_logger(__name__)

QUEUED, SENT, FAILED, DROPPED = "queued", "sent", "failed", "dropped"
REPEATS_MS = 600_000
"""An error of the same kind is told once in this time."""

_MOST_COUNTED = 1000
_CHANNELS = "notify.channels"


def channels(connection: Connection) -> list[str]:
    """Names of the channels that messages go to, such as ``telegram:123456789``."""
    value = connection.execute(select(Setting.value).where(Setting.name == _CHANNELS)).scalar_one_or_none()
    return value.split(",") if value else []


def set_channels(connection: Connection, names: Iterable[str]) -> None:
    """From now on messages go to *names*; what waits for another channel is dropped."""
    wanted = list(names)
    connection.execute(delete(Setting).where(Setting.name == _CHANNELS))
    if wanted:
        connection.execute(insert(Setting).values(name=_CHANNELS, value=",".join(wanted)))
    connection.execute(
        update(Notification)
        .where(Notification.state == QUEUED, Notification.channel.not_in(wanted))
        .values(state=DROPPED, error="Its channel is no longer set up.")
    )


def tell_event(connection: Connection, bot_id: int, envelope: Envelope, payload: Payload) -> None:
    """Tell of an event that was just booked, if it is one that people are told of."""
    if type(payload) not in templates.TOLD:
        return
    run_id, seq = envelope.run_id, envelope.seq
    _tell(connection, bot_id, lambda bot: templates.message_of(bot, run_id, seq, payload), envelope.ts)


def tell_status(connection: Connection, bot_id: int, status: BotState, reason: str | None, now: int) -> None:
    """Tell of a bot's change into *status*."""
    if status is BotState.STOPPED:
        _tell(connection, bot_id, lambda bot: templates.stopped(bot, reason, now), now)


def tell_note(connection: Connection, bot_id: int, run_id: str, kind: str, message: str, now: int) -> None:
    """Tell of an alert of the supervisor's own."""
    if kind == "bot_fault":
        _tell(connection, bot_id, lambda bot: templates.fault(bot, message, run_id, now), now)
    else:
        _tell(connection, bot_id, lambda bot: templates.noted(bot, kind, message), now)


_VERBS = {"bot.halt": "halted", "bot.release": "released", "bot.launch": "launched"}
_SWITCH = {"system.halt": True, "system.release": False}


def tell_change(
    connection: Connection, action: str, bot_id: int | None, actor: str, via: str, reason: str | None, now: int
) -> None:
    """Tell of a change that somebody made (an action of the audit log), if it is one that people are told of."""
    if action in _VERBS and bot_id is not None:
        _tell(connection, bot_id, lambda bot: templates.changed(bot, _VERBS[action], actor, via, reason, now), now)
    elif action in _SWITCH:
        tell(connection, templates.kill_switch(_SWITCH[action], actor, via, reason, now), now)


def tell(
    connection: Connection, message: Message, ts: int, *, bot_id: int | None = None, only: str | None = None
) -> None:
    """Queue *message*, whose cause happened at *ts*, for every channel (or *only* one), unless it is there already."""
    names = channels(connection)
    for name in names if only is None else [only]:
        key = f"{name}|{message.key}"
        if message.repeats:
            key = f"{key}|{ts // REPEATS_MS}"
        if connection.execute(select(Notification.id).where(Notification.dedup_key == key)).first() is not None:
            continue
        connection.execute(
            insert(Notification).values(
                created_ms=ts, channel=name, kind=message.kind, bot_id=bot_id, dedup_key=key, text=message.text,
                state=QUEUED, attempts=0, next_try_ms=now_ms(),
            )
        )  # fmt: skip


def queue_test(connection: Connection, channel: str, actor: str) -> int:
    """Queue a test message for *channel*; its id."""
    now = now_ms()
    text = f"Test message from Flotilla, asked for by {templates.one_line(actor, templates.NAME_CHARS)}."
    tell(connection, Message(kind="test", text=text, key=f"test:{now}"), now, only=channel)
    newest = select(func.max(Notification.id)).where(Notification.kind == "test", Notification.channel == channel)
    return int(connection.execute(newest).scalar_one())


def entries(
    connection: Connection, *, limit: int, before: int | None = None, state: str | None = None
) -> list[Row[Any]]:
    """Up to *limit* + 1 notifications, newest first, of all states if *state* is None."""
    query = select(Notification)
    if before is not None:
        query = query.where(Notification.id < before)
    if state is not None:
        query = query.where(Notification.state == state)
    return list(connection.execute(query.order_by(Notification.id.desc()).limit(limit + 1)))


def entry(connection: Connection, notification_id: int) -> Row[Any]:
    """One notification, which there is."""
    return connection.execute(select(Notification).where(Notification.id == notification_id)).one()


def entry_document(row: Row[Any]) -> dict[str, Any]:
    """A notification as the API shows it."""
    return {
        "id": row.id,
        "created_at": iso(row.created_ms),
        "channel": row.channel,
        "kind": row.kind,
        "bot_id": row.bot_id,
        "text": row.text,
        "state": row.state,
        "attempts": row.attempts,
        "next_try_at": iso(row.next_try_ms) if row.state == QUEUED else None,
        "sent_at": iso(row.sent_ms),
        "error": row.error,
    }


def _tell(connection: Connection, bot_id: int, make: Callable[[BotFacts], Message | None], ts: int) -> None:
    names = channels(connection)
    if not names:
        return
    try:
        with connection.begin_nested():
            _tell_of_bot(connection, names[0], bot_id, make, ts)
    except OperationalError:
        raise  # the database, not the message: all of the transaction is done again
    except Exception:
        log.exception("notification_not_written", bot_id=bot_id)


def _tell_of_bot(
    connection: Connection, channel: str, bot_id: int, make: Callable[[BotFacts], Message | None], ts: int
) -> None:
    newest = (TradingConfigVersion.bot_id == Bot.id) & (TradingConfigVersion.version == Bot.config_version)
    row = connection.execute(
        select(Bot.id, Bot.name, Bot.symbol, Bot.exchange, Bot.mode, TradingConfigVersion.config)
        .join(TradingConfigVersion, newest, isouter=True)
        .where(Bot.id == bot_id)
    ).one()
    bot = BotFacts(id=row.id, name=row.name, symbol=row.symbol, exchange=row.exchange, mode=row.mode)
    message = make(bot)
    if message is None or (message.switch is not None and not (row.config or {}).get(message.switch, True)):
        return
    if message.repeats:
        last_ms = _last_told_ms(connection, f"{channel}|{message.key}", ts)
        if last_ms is not None and ts - last_ms < REPEATS_MS:
            return
        message = _counted(connection, bot_id, message, last_ms, ts)
    tell(connection, message, ts, bot_id=bot_id)


def _last_told_ms(connection: Connection, key: str, ts: int) -> int | None:
    window = ts // REPEATS_MS
    newest = select(func.max(Notification.created_ms))
    keys = [f"{key}|{window}", f"{key}|{window - 1}"]
    return connection.execute(newest.where(Notification.dedup_key.in_(keys))).scalar_one()


def _counted(connection: Connection, bot_id: int, message: Message, last_ms: int | None, ts: int) -> Message:
    """*message* with how often the same was seen since it was last told."""
    if last_ms is None:
        return message
    _, type_, kind = message.key.split(":", 2)
    newest = select(Event.ts, Event.data).where(Event.bot_id == bot_id, Event.type == type_).order_by(Event.id.desc())
    rows = connection.execute(newest.limit(_MOST_COUNTED))
    times = sum(last_ms < row.ts <= ts and row.data.get("kind") == kind for row in rows)
    if times < 2:
        return message
    since = (iso(last_ms) or "")[11:16]
    text = f"{message.text}\n{times} times since {since} UTC"
    return Message(kind=message.kind, text=text, key=message.key, switch=message.switch, repeats=True)

"""A bot's events of a stretch of market time, found over the index by bot, type and id.

Events are numbered in the order in which they were told, so market time rises with the id but for a few that came
late; where it begins is found by halving, and only events near it are read, however many there are.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, Select, func, select, union

from server.storage.models import Event

MINUTE_MS: Final = 60_000
_TIME_FIELD: Final = {"signal": "decision_ms"}


def first_id(connection: Connection, bot_id: int, type_: str, time_ms: int) -> int:
    """The id from which events of this type lie at *time_ms* or later; one past the newest if none does."""
    mine = (Event.bot_id == bot_id, Event.type == type_)
    low, newest = connection.execute(select(func.min(Event.id), func.max(Event.id)).where(*mine)).one()
    if low is None:
        return 0
    high, field = newest + 1, _TIME_FIELD.get(type_, "time_ms")
    while low < high:
        middle = (low + high) // 2
        probe = select(Event.id, Event.data).where(*mine, Event.id >= middle).order_by(Event.id).limit(1)
        found = connection.execute(probe).one()
        if int(found.data.get(field) or 0) < time_ms:
            low = found.id + 1
        else:
            high = middle
    return int(low)


def events_within(
    connection: Connection, bot_id: int, type_: str, start_ms: int, end_ms: int | None, *, most: int
) -> list[Row[Any]]:
    """Events of one type in ``[start, end)``, give or take a minute, oldest first.

    At most *most* of its beginning and as many of its end: of a longer stretch the middle is left out.
    """
    mine: Select[*tuple[Any, ...]] = select(Event.id).where(
        Event.bot_id == bot_id, Event.type == type_,
        Event.id >= first_id(connection, bot_id, type_, start_ms - MINUTE_MS),
    )  # fmt: skip
    if end_ms is not None:
        mine = mine.where(Event.id < first_id(connection, bot_id, type_, end_ms + MINUTE_MS))
    ends = union(
        select(mine.order_by(Event.id).limit(most).subquery().c.id),
        select(mine.order_by(Event.id.desc()).limit(most).subquery().c.id),
    ).subquery()
    found = select(Event.id, Event.ts, Event.type, Event.data).join(ends, ends.c.id == Event.id)
    return list(connection.execute(found.order_by(Event.id)))

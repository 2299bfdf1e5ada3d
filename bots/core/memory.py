"""What a bot remembers, folded from its journal: the latest snapshot and what was written after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bots.core import accounting
from shared.events import CommandDone, Heartbeat, Payload, Position, Snapshot, Stats
from shared.positions import Counters
from shared.states import PositionState


def recall(facts: Iterable[Payload]) -> Snapshot | None:
    """The state after *facts* (one journal file, in order); None where no snapshot was written yet.

    A position's event holds the whole position, so the last one of each key is the truth. The totals follow from the
    positions; `Stats`, written after them, says the same again, unless the process died in between.
    """
    positions: dict[int, Position] = {}
    counters: Counters | None = None
    last_event_ms = commands_done = 0
    for fact in facts:
        if isinstance(fact, Snapshot):
            positions = {p.position_key: p for p in fact.positions}
            counters, last_event_ms = replace(fact.counters), fact.last_event_ms
            commands_done = fact.commands_done
        elif isinstance(fact, Position):
            if counters is not None:
                _count(counters, fact, positions.get(fact.position_key))
            if fact.is_open:
                positions[fact.position_key] = fact
            else:
                positions.pop(fact.position_key, None)
            last_event_ms = max(last_event_ms, fact.opened_ms, *(leg.updated_ms for leg in fact.legs))
        elif isinstance(fact, Stats):
            counters = replace(fact.counters)
        elif isinstance(fact, CommandDone):
            commands_done = max(commands_done, fact.number)
        elif isinstance(fact, Heartbeat) and fact.last_candle_ms is not None:
            last_event_ms = max(last_event_ms, fact.last_candle_ms)
    if counters is None:
        return None
    return Snapshot(
        last_event_ms=last_event_ms,
        counters=counters,
        positions=list(positions.values()),
        commands_done=commands_done,
    )


def _count(counters: Counters, position: Position, before: Position | None) -> None:
    if position.activated_ms is not None and (before is None or before.activated_ms is None):
        accounting.count_entry(counters, position.activated_ms)
    if position.status is PositionState.CLOSED and position.pnl is not None:  # None: forgotten
        accounting.count(counters, position)

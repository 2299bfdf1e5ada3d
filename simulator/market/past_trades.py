"""Which trades of a tape a request asks for: the newest, those from a time on, those from an id on.

Pure. Knows of the tape only that ids and times ascend together, and reads it in pieces that a tape keeps at hand, so
that neither a month of dense trades nor years of sparse ones cost more than the answer is long.
"""

from __future__ import annotations

from simulator.market.candles import Tape, Trade

PIECE_MS = 600_000  # as the generated market computes it
NEAR_MS = 60_000  # a search by id ends when it is this close


def newest(tape: Tape, before_ms: int, limit: int, now_ms: int) -> list[Trade]:
    """The last *limit* trades with time < before_ms that have happened at *now_ms*, ascending."""
    first, stop = tape.first_ms(now_ms), _stop(tape, before_ms, now_ms)
    found: list[Trade] = []
    length = PIECE_MS
    while stop > first and len(found) < limit:
        start = max(first, (stop - 1) // PIECE_MS * PIECE_MS - (length - PIECE_MS))
        piece = tape.trades(start, stop)
        missing = limit - len(found)
        found = piece.pick(slice(-missing, None)).rows() + found
        stop = start
        length = length * 2 if len(piece.id) < missing // 4 else length
    return found


def oldest(tape: Tape, start_ms: int, before_ms: int, limit: int, now_ms: int, from_id: int = 0) -> list[Trade]:
    """The first *limit* trades with start_ms <= time < before_ms and id >= from_id that have happened at *now_ms*."""
    start, stop = max(start_ms, tape.first_ms(now_ms)), _stop(tape, before_ms, now_ms)
    found: list[Trade] = []
    length = PIECE_MS
    while start < stop and len(found) < limit:
        end = min(stop, start // PIECE_MS * PIECE_MS + length)
        piece = tape.trades(start, end)
        low = int(piece.id.searchsorted(from_id))
        found += piece.pick(slice(low, low + limit - len(found))).rows()
        start = end
        length = length * 2 if len(piece.id) < limit // 4 else length
    return found


def from_id(tape: Tape, trade_id: int, limit: int, now_ms: int) -> list[Trade]:
    """The first *limit* trades with an id of at least *trade_id* that have happened at *now_ms*."""
    start = _before_id(tape, trade_id, now_ms)
    return [] if start is None else oldest(tape, start, now_ms + 1, limit, now_ms, trade_id)


def _stop(tape: Tape, before_ms: int, now_ms: int) -> int:
    end = tape.end_ms()
    return min(at for at in (before_ms, now_ms + 1, end) if at is not None)


def _before_id(tape: Tape, trade_id: int, now_ms: int) -> int | None:
    """A time, shortly before the first trade with an id of at least *trade_id*; ``None`` when that is yet to come.

    Ids grow about evenly with time, so a straight line between two known points leads near; every third step halves,
    in case they do not.
    """
    low = tape.first_ms(now_ms)
    high = _stop(tape, now_ms + 1, now_ms)
    latest, earliest = tape.last_trade(high), tape.last_trade(low)
    if latest is None or latest.id < trade_id:
        return None
    low_id, high_id = earliest.id if earliest else 0, latest.id
    if trade_id <= low_id:
        return low
    step = 0
    while high - low > NEAR_MS:
        if step % 3 == 2:
            probe = (low + high) // 2
        else:
            slack = NEAR_MS // 2 if step % 3 else -NEAR_MS // 2
            probe = low + (high - low) * (trade_id - low_id) // max(1, high_id - low_id) + slack
            probe = min(max(probe, low + 1), high - 1)
        seen = tape.last_trade(probe)
        if seen is not None and seen.id >= trade_id:
            high, high_id = probe, seen.id
        else:
            low, low_id = probe, seen.id if seen else low_id
        step += 1
    return low

"""The kill switch: one latch over all bots, a row *and* a file, so that it holds with the server down.

Either of the two engaged means engaged; the file is written first and read by each local bot itself, the row is what
everybody else reads. Both change under the database's write lock, so that the supervisor, which keeps them alike, never
undoes a release. A release clears both.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from server.storage import audit
from server.storage.audit import Author, Via
from server.storage.models import KillSwitch
from server.storage.times import now_ms
from shared.errors import Conflict
from shared.halt import HaltOrder, halt_order

ROW_ID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """The row, or what it would be before the first use."""

    number: int = 0
    engaged: bool = False
    close_positions: bool = False
    engaged_ms: int | None = None
    engaged_by: str | None = None
    reason: str | None = None
    released_ms: int | None = None
    released_by: str | None = None
    release_reason: str | None = None

    @property
    def closes_since_ms(self) -> int:
        """Since when everything is to be sold; 0 where nobody asked for that."""
        return (self.engaged_ms or 0) if self.engaged and self.close_positions else 0

    @property
    def order(self) -> HaltOrder:
        """What the halt file has to say while the row is engaged."""
        return HaltOrder(
            by=self.engaged_by or "somebody",
            reason=self.reason or "no reason given",
            at_ms=self.engaged_ms or 0,
            close_positions=self.close_positions,
        )


def state(connection: Connection) -> Latch:
    """The latch as the row has it."""
    row = connection.execute(select(KillSwitch).where(KillSwitch.id == ROW_ID)).first()
    return Latch() if row is None else Latch(**{n: getattr(row, n) for n in Latch.__dataclass_fields__})


def in_force(row: Latch, order: HaltOrder | None, file: Path) -> Latch:
    """The latch as it holds: *row*, and what *file* orders where it halts alone or asks for more."""
    if order is None:
        return row
    if row.engaged:
        return replace(row, close_positions=row.close_positions or order.close_positions)
    return replace(
        row,
        number=row.number + 1,
        engaged=True,
        close_positions=order.close_positions,
        engaged_ms=order.at_ms or _changed_ms(file),
        engaged_by=order.by,
        reason=order.reason,
        released_ms=None,
        released_by=None,
        release_reason=None,
    )


def _changed_ms(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns // 1_000_000
    except OSError:
        return now_ms()


def halt(
    connection: Connection, file: Path, author: Author, reason: str | None = None, *, close_positions: bool = False
) -> Latch:
    """Engage: file first, then the row. Asked again, it can only ask for more (close positions too), never for less."""
    why = (reason or "").strip()[: audit.REASON_LENGTH] or "no reason given"  # an emergency is not refused for words
    before = state(connection)
    order = HaltOrder(by=author.name, reason=why, at_ms=now_ms(), close_positions=close_positions)
    if before.engaged:
        order = replace(before.order, close_positions=before.close_positions or close_positions)
    _engage(connection, before, engage_file(file, order))
    audit.note(
        connection, author, "system.halt", target="kill switch", before=_facts(before), after=_facts(state(connection)),
        reason=why,
    )  # fmt: skip
    return state(connection)


def release(connection: Connection, file: Path, author: Author, reason: str) -> Latch:
    """Lift the latch: bots go on as they are wanted to. Raises `Conflict` where it is not engaged."""
    audit.bounded(reason)
    before = state(connection)
    if not before.engaged and order_in(file) is None:
        raise Conflict("The kill switch is not engaged, so there is nothing to release.")
    file.unlink(missing_ok=True)
    values = {"engaged": False, "released_ms": now_ms(), "released_by": author.name, "release_reason": reason}
    connection.execute(update(KillSwitch).where(KillSwitch.id == ROW_ID).values(**values))
    after = state(connection)
    audit.note(
        connection, author, "system.release", target="kill switch", before=_facts(before), after=_facts(after),
        reason=reason,
    )  # fmt: skip
    return after


def keep_alike(connection: Connection, file: Path) -> None:
    """Make row and file agree: engaged if either is. Raises `OSError` where the file cannot be looked at or written."""
    row, order = state(connection), order_in(file)
    if row.engaged and (order is None or (row.close_positions and not order.close_positions)):
        write_file(file, row.order)
    elif order is not None and (not row.engaged or (order.close_positions and not row.close_positions)):
        _engage(connection, row, order)
        finder = Author(order.by, Via.SYSTEM)
        facts = _facts(state(connection))
        audit.note(
            connection, finder, "system.halt", target="halt file", before=_facts(row), after=facts, reason=order.reason
        )


def are_alike(connection: Connection, file: Path) -> bool:
    """Whether `keep_alike` would change nothing; needs no write lock. Raises `OSError` as it does."""
    row, order = state(connection), order_in(file)
    if order is None:
        return not row.engaged
    return row.engaged and row.close_positions == order.close_positions


def order_in(file: Path) -> HaltOrder | None:
    """What the halt file orders; None where there is none. Raises `OSError` where nobody can say whether it is there.

    One that is there and cannot be read engages, as for a bot. But what only could not be looked at, for want of a
    descriptor or for a fault of the disk, must not latch a fleet until a person releases it.
    """
    try:
        file.stat()
    except FileNotFoundError:
        return None
    return halt_order(file.read_bytes)


def engage_file(file: Path, order: HaltOrder) -> HaltOrder:
    """Engage by the file alone, which halts every bot of this machine; what it orders then.

    A file that is there keeps who engaged it and why, and can only be asked for more.
    """
    there = halt_order(file.read_bytes)
    if there is not None:
        known = there if there.at_ms else order
        order = replace(known, close_positions=there.close_positions or order.close_positions)
    if order != there:
        write_file(file, order)
    return order


def write_file(file: Path, order: HaltOrder) -> None:
    """Put the halt file in its place, whole or not at all, and on disk when this returns."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.", suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as new:
            new.write(order.to_json())
            new.flush()
            os.fsync(new.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # or a loss of power takes the new name away
    finally:
        os.close(folder)


def _engage(connection: Connection, before: Latch, order: HaltOrder) -> None:
    close_positions = order.close_positions or (before.engaged and before.close_positions)
    values: dict[str, Any] = {"engaged": True, "close_positions": close_positions}
    if not before.engaged:
        values |= {"number": before.number + 1, "engaged_ms": order.at_ms or now_ms()}
        values |= {"engaged_by": order.by, "reason": order.reason}
        values |= {"released_ms": None, "released_by": None, "release_reason": None}
    if not connection.execute(update(KillSwitch).where(KillSwitch.id == ROW_ID).values(**values)).rowcount:
        connection.execute(insert(KillSwitch).values(id=ROW_ID, **values))


def _facts(latch: Latch) -> dict[str, Any]:
    return {"engaged": latch.engaged, "close_positions": latch.close_positions, "number": latch.number}

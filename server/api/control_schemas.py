"""The bodies of what people tell bots: the kill switch, single positions, copies, runs and curves."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from server.api.schemas import BotPath, Given, Reason, Taken
from server.api.wire import MAX_ID, documented
from shared.states import BotState

_AT = "2026-11-20T14:32:08.000Z"


class OrderPath(BotPath):
    order_id: int = Field(ge=0, le=MAX_ID, description="The position's id.", json_schema_extra={"example": 17})


class HaltBody(Taken):
    reason: Reason = Field(examples=["fills that nobody can explain"])
    close_positions: bool = Field(False, description="Also sell everything at market.", examples=[False])


class ReleaseBody(Taken):
    reason: Reason = Field(examples=["found the cause: a wrong tick size"])


class HaltTotals(Given):
    bots: int
    confirmed: int = Field(description="Bots that have no entry order left, by their own word.")
    cancelled: int = Field(description="Entry orders cancelled since.")
    waiting: int = Field(description="Entry orders still in the book.")
    unknown: int = Field(description="Entry orders without an answer yet; they are being asked about.")
    positions: int = Field(description="Positions that are held, and guarded.")
    without_stop: int = Field(description="Of these, without a stop price.")


class HaltLine(Given):
    bot_id: int
    name: str
    status: BotState
    cancelled: int
    waiting: int
    unknown: int
    confirmed: bool
    positions: int
    without_stop: int
    note: str


class HaltState(Given):
    """The kill switch; the checklist is there while it is engaged."""

    engaged: bool
    in_database: bool
    in_file: bool
    number: int = Field(description="How often it was used.")
    close_positions: bool
    reason: str | None
    engaged_by: str | None
    engaged_at: str | None
    released_by: str | None
    released_at: str | None
    release_reason: str | None
    totals: HaltTotals
    bots: list[HaltLine]


_COUNTS: dict[str, Any] = {"cancelled": 1, "waiting": 0, "unknown": 0, "positions": 1, "without_stop": 0}
documented(HaltBody, {"reason": "fills that nobody can explain", "close_positions": False})
documented(ReleaseBody, {"reason": "found the cause: a wrong tick size"})
documented(
    HaltState,
    {
        "engaged": True,
        "in_database": True,
        "in_file": True,
        "number": 2,
        "close_positions": False,
        "reason": "fills that nobody can explain",
        "engaged_by": "admin",
        "engaged_at": _AT,
        "released_by": None,
        "released_at": None,
        "release_reason": None,
        "totals": {"bots": 1, "confirmed": 1, **_COUNTS},
        "bots": [
            {
                "bot_id": 3,
                "name": "eth-scalper",
                "status": "paused",
                "confirmed": True,
                "note": "halted, no entry order is left",
                **_COUNTS,
            }
        ],
    },
)

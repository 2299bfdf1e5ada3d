"""The bodies of what people tell bots: the kill switch, single positions, copies, runs and curves."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from server.api.schemas import BotPath, Given, Name, NewBot, Reason, Taken, list_of
from server.api.wire import MAX_ID, documented
from shared.states import BotState, RunKind

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
    without_stop: int = Field(description="Of these, without a stop, or with no process to watch it.")


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


class CloneBody(Taken):
    name: Name | None = None


class ImportedFields(NewBot):
    """What a document says of the bot itself; keys do not travel."""


class BotDocument(BaseModel):
    """The nested bot document: broker, strategy, data, trading, risk_management, notifications."""

    model_config = ConfigDict(extra="allow")


class Run(Given):
    run_id: str
    generation: int
    kind: RunKind
    state: str
    started_by: str | None
    host: str | None
    pid: int | None
    started_at: str
    ended_at: str | None
    uptime: int = Field(description="Seconds.")
    exit_code: int | None = Field(description="Minus the signal that ended it; empty where nobody could collect it.")
    reason: str | None
    wanted: bool | None = Field(description="Whether somebody wanted it to end.")


class EquityPoint(Given):
    time: int = Field(description="When a position closed, market time in UTC ms.")
    equity: str
    pnl: str = Field(description="Of all positions closed until then, net of fees.")
    drawdown: float | None = Field(description="Fraction below the highest equity until then.")


class Equity(Given):
    bot_id: int
    allocated: str = Field(description="Capital per trade times positions, in quote.")
    positions: int
    points: list[EquityPoint]


RunList = list_of(
    Run,
    {
        "run_id": "3.7",
        "generation": 7,
        "kind": "supervised",
        "state": "ended",
        "started_by": None,
        "host": None,
        "pid": 4711,
        "started_at": _AT,
        "ended_at": _AT,
        "uptime": 3600,
        "exit_code": 0,
        "reason": "stopped",
        "wanted": True,
    },
)
documented(
    Equity,
    {
        "bot_id": 3,
        "allocated": "400",
        "positions": 1,
        "points": [{"time": 1_795_185_128_000, "equity": "401.2", "pnl": "1.2", "drawdown": 0.0}],
    },
)
documented(
    BotDocument,
    {
        "name": "eth-rsi",
        "description": "",
        "symbol": "ETHUSDT",
        "tags": ["demo"],
        "broker": {"type": "simulator", "trading_mode": "trade"},
        "strategy": {"type": "rsi", "parameters": {"rsi_period": 14, "buy_below": 30}},
        "data": {"interval": "1m"},
        "trading": {"capital_per_trade": "200", "max_positions": 1},
        "risk_management": {"stop_loss_pct": 3.0, "take_profit_pct": 6.0, "max_daily_trades": 5},
        "notifications": {"positions": True, "errors": True},
    },
)
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

"""Turn what bots report into rows, each event exactly once.

The caller owns the transaction and commits the journal's offset in the same one. A repeated event changes nothing:
events are known by (run, seq), fills by the exchange's trade id, orders never move back, and a position's figures enter
the day's statistics when it closes; a later correction replaces them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from server.notify import outbox
from server.storage import commands
from server.storage.models import (
    Bot,
    BotRun,
    Event,
    ExchangeOrder,
    Fill,
    JournalOffset,
    TradingOrder,
    TradingStats,
)
from server.storage.queries import is_faulted
from server.storage.times import day_of
from shared.events import (
    PAYLOADS,
    Alert,
    CommandDone,
    ConfigApplied,
    ConfigRejected,
    Envelope,
    Exit,
    FillBooked,
    Heartbeat,
    OrderChange,
    OrderIntent,
    Payload,
    Position,
    Ready,
    Started,
    Status,
    from_data,
    to_data,
)
from shared.states import BotState, OrderState, PositionState, RunKind, order_move_allowed
from shared.units import ZERO

_MINUTE_MS = 60_000
SPAWNING, RUNNING, ENDED, SETTLED = "spawning", "running", "ended", "settled"
"""States of a run. `SETTLED`: ended, and its death no longer counts towards a crash loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BotRef:
    """What the ledger has to know of the bot whose events it books."""

    id: int
    exchange: str
    mode: str


def apply_events(connection: Connection, bot: BotRef, run_id: str, envelopes: Sequence[Envelope]) -> None:
    """Book *envelopes*, which are in order and all of *run_id*. Raises ``ValueError`` for data that fits no schema."""
    fresh = _unseen(connection, run_id, envelopes)
    kept = [_event_row(e) for e in _thinned(connection, bot.id, fresh)]
    if kept:
        connection.execute(insert(Event), kept)
    run = _Run(connection, bot, run_id)
    for envelope in fresh:
        payload = payload_of(envelope)
        handler = _HANDLERS.get(type(payload))
        if handler is not None:
            handler(run, envelope, payload)
        if payload is not None:
            outbox.tell_event(connection, bot.id, envelope, payload)
    run.note_last_heartbeat()


def _thinned(connection: Connection, bot_id: int, envelopes: Sequence[Envelope]) -> Iterator[Envelope]:
    """*envelopes* without the heartbeats of a minute that already has one: those come every five seconds."""
    newest = select(Event.ts).where(Event.bot_id == bot_id, Event.type == Heartbeat.type).order_by(Event.id.desc())
    last_ms = connection.execute(newest.limit(1)).scalar_one_or_none()
    for envelope in envelopes:
        if envelope.type == Heartbeat.type:
            if last_ms is not None and envelope.ts // _MINUTE_MS == last_ms // _MINUTE_MS:
                continue
            last_ms = envelope.ts
        yield envelope


def payload_of(envelope: Envelope) -> Payload | None:
    """The typed data of an event; None for a type that only a newer bot knows. Raises ``ValueError``."""
    return from_data(envelope.type, envelope.data) if envelope.type in PAYLOADS else None


def set_status(connection: Connection, bot_id: int, status: BotState, reason: str | None, now: int) -> None:
    """Write a bot's observed state; *status_since_ms* moves only when the state does."""
    before = connection.execute(select(Bot.status, Bot.status_reason).where(Bot.id == bot_id)).one()
    if (before.status, before.status_reason) == (status, reason):
        return
    values: dict[str, Any] = {"status": status.value, "status_reason": reason}
    if before.status != status:
        values["status_since_ms"] = now
    _set_bot(connection, bot_id, **values)
    if before.status != status:
        outbox.tell_status(connection, bot_id, status, reason, now)


def add_note(connection: Connection, bot_id: int, run_id: str, kind: str, message: str, now: int) -> None:
    """An alert of the supervisor's own among a run's events; its seq is below zero, which no bot writes."""
    lowest = connection.execute(select(func.min(Event.seq)).where(Event.run_id == run_id)).scalar_one()
    connection.execute(
        insert(Event).values(
            bot_id=bot_id,
            run_id=run_id,
            seq=min(lowest or 0, 0) - 1,
            ts=now,
            type=Alert.type,
            data=to_data(Alert(kind=kind, message=message)),
        )
    )
    outbox.tell_note(connection, bot_id, run_id, kind, message, now)


def open_run(connection: Connection, bot_id: int, now: int, *, above: int = 0, **columns: Any) -> int:
    """Take a bot's next generation, higher than *above*, with *columns* of its row. Commit before the process starts.

    Only for a bot that does not run: a run that was still open is over by that.
    """
    mine = BotRun.bot_id == bot_id
    over = {"state": SETTLED, "ended_ms": now, "exit_reason": "replaced by a later run"}
    connection.execute(update(BotRun).where(mine, BotRun.state.in_([SPAWNING, RUNNING])).values(**over))
    known = connection.execute(select(func.max(BotRun.generation)).where(mine)).scalar_one() or 0
    taken = connection.execute(select(Bot.generation).where(Bot.id == bot_id)).scalar_one()
    generation: int = max(known, taken, above) + 1
    asked = connection.execute(select(Bot.restart_requests, Bot.start_requests).where(Bot.id == bot_id)).one()
    row = {"bot_id": bot_id, "generation": generation, "state": SPAWNING, "created_ms": now, "wanted": False}
    connection.execute(insert(BotRun).values(**row, **asked._mapping, **columns))
    _set_bot(
        connection, bot_id, generation=generation, run_id=f"{bot_id}.{generation}", pid=None, started_ms=None,
        heartbeat_ms=None, heartbeat=None,
    )  # fmt: skip
    return generation


def give_up_run(connection: Connection, bot_id: int, generation: int, reason: str, now: int) -> None:
    """Nobody waits for this run any more. It counts as no death, and what it still has to tell stays welcome."""
    over = {"state": SETTLED, "ended_ms": now, "exit_reason": reason, "wanted": False}
    mine = (BotRun.bot_id == bot_id, BotRun.generation == generation)
    connection.execute(update(BotRun).where(*mine).values(**over))
    offset = (JournalOffset.bot_id == bot_id, JournalOffset.generation == generation)
    connection.execute(update(JournalOffset).where(*offset).values(done=True))


# --- one handler per payload --------------------------------------------------------------------------------------


class _Run:
    """The run whose events are being booked, and whether it is the one the bot is in now."""

    def __init__(self, connection: Connection, bot: BotRef, run_id: str) -> None:
        self.connection, self.bot, self.run_id = connection, bot, run_id
        self.generation = int(run_id.partition(".")[2])
        state = connection.execute(select(BotRun.state).where(*self.key)).scalar_one_or_none()
        now = connection.execute(
            select(Bot.run_id, Bot.heartbeat_ms, Bot.start_requests, Bot.faulted_at_start_request).where(
                Bot.id == bot.id
            )
        ).one()
        faulted = is_faulted(now.faulted_at_start_request, now.start_requests)
        self.is_latest = now.run_id == run_id
        # A close-only run after a fault does not hide the fault.
        self.speaks_for_bot = self.is_latest and state not in (ENDED, SETTLED) and not faulted
        self.heartbeat_ms = now.heartbeat_ms or 0
        self.heartbeat: tuple[Envelope, Heartbeat] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return BotRun.bot_id == self.bot.id, BotRun.generation == self.generation

    def set_bot(self, **values: Any) -> None:
        if self.is_latest:
            _set_bot(self.connection, self.bot.id, **values)

    def note_last_heartbeat(self) -> None:
        if self.heartbeat is None or self.heartbeat[0].ts < self.heartbeat_ms:
            return
        envelope, beat = self.heartbeat
        self.set_bot(
            heartbeat_ms=envelope.ts, heartbeat=envelope.data, market_ms=beat.last_candle_ms,
            last_decision_ms=beat.last_decision_ms, rss_mib=beat.rss_mib,
        )  # fmt: skip


def _on_started(run: _Run, envelope: Envelope, payload: Started) -> None:
    run.set_bot(pid=payload.pid, started_ms=envelope.ts, applied_config_version=payload.config_version)


def _on_status(run: _Run, envelope: Envelope, payload: Status) -> None:
    if run.speaks_for_bot:
        set_status(run.connection, run.bot.id, payload.status, payload.reason, envelope.ts)


def _on_ready(run: _Run, envelope: Envelope, payload: Ready) -> None:
    status = run.connection.execute(select(Bot.status).where(Bot.id == run.bot.id)).scalar_one()
    if run.speaks_for_bot and status == BotState.STARTING:
        set_status(run.connection, run.bot.id, BotState.RUNNING, None, envelope.ts)


def _on_heartbeat(run: _Run, envelope: Envelope, payload: Heartbeat) -> None:
    run.heartbeat = (envelope, payload)


def _on_config_applied(run: _Run, envelope: Envelope, payload: ConfigApplied) -> None:
    run.set_bot(applied_config_version=payload.version)


def _on_config_rejected(run: _Run, envelope: Envelope, payload: ConfigRejected) -> None:
    if run.speaks_for_bot:
        run.set_bot(status_reason=f"Config version {payload.version} was refused: {payload.message}")


def _on_command_done(run: _Run, envelope: Envelope, payload: CommandDone) -> None:
    commands.mark_done(run.connection, run.bot.id, payload.number, payload.result, envelope.ts)


def _on_balance(run: _Run, envelope: Envelope, payload: Payload) -> None:
    run.set_bot(balance=envelope.data)


def _on_exit(run: _Run, envelope: Envelope, payload: Exit) -> None:
    said = {"exit_code": payload.code, "exit_reason": payload.reason}
    run.connection.execute(update(BotRun).where(*run.key, BotRun.exit_reason.is_(None)).values(**said))
    # One that was replaced unheard tells its end late: the code says that it did.
    late = (BotRun.kind == RunKind.REMOTE, BotRun.exit_code.is_(None))
    run.connection.execute(update(BotRun).where(*run.key, *late).values(exit_code=payload.code))


def _on_intent(run: _Run, envelope: Envelope, payload: OrderIntent) -> None:
    if _order_row(run, payload.client_order_id) is None:
        _insert_order(run, payload, status=OrderState.INTENT, executed_quantity=ZERO, executed_quote=ZERO)


def _on_order(run: _Run, envelope: Envelope, payload: OrderChange) -> None:
    row = _order_row(run, payload.client_order_id)
    if row is None:
        _insert_order(
            run, payload, status=payload.status, executed_quantity=payload.executed_quantity,
            executed_quote=payload.executed_quote, exchange_order_id=payload.exchange_order_id, reason=payload.reason,
        )  # fmt: skip
        return
    before = OrderState(row.status)
    if before != payload.status and not order_move_allowed(before, payload.status):
        return
    values: dict[str, Any] = {"status": payload.status.value, "price": payload.price, "updated_ms": payload.time_ms}
    if payload.executed_quantity >= row.executed_quantity:
        values |= {"executed_quantity": payload.executed_quantity, "executed_quote": payload.executed_quote}
    if payload.exchange_order_id is not None:
        values["exchange_order_id"] = payload.exchange_order_id
    if payload.reason is not None:
        values["reason"] = payload.reason
    run.connection.execute(update(ExchangeOrder).where(ExchangeOrder.id == row.id).values(**values))


def _order_row(run: _Run, client_order_id: str) -> Any:
    table = ExchangeOrder
    return run.connection.execute(
        select(table.id, table.status, table.executed_quantity).where(
            table.bot_id == run.bot.id, table.client_order_id == client_order_id
        )
    ).first()


def _insert_order(run: _Run, payload: OrderIntent | OrderChange, **state: Any) -> None:
    run.connection.execute(
        insert(ExchangeOrder).values(
            bot_id=run.bot.id,
            client_order_id=payload.client_order_id,
            position_key=payload.position_key,
            symbol=payload.symbol,
            role=payload.role.value,
            side=payload.side.value,
            order_type=payload.order_type.value,
            quantity=payload.quantity,
            price=payload.price,
            created_ms=payload.time_ms,
            updated_ms=payload.time_ms,
            **state,
        )
    )


def _on_fill(run: _Run, envelope: Envelope, payload: FillBooked) -> None:
    known = run.connection.execute(
        select(Fill.id, Fill.fee_quote).where(
            Fill.bot_id == run.bot.id,
            Fill.symbol == payload.symbol,
            Fill.trade_id == payload.trade_id,
            Fill.order_id == payload.order_id,
            Fill.client_order_id == payload.client_order_id,
        )
    ).first()
    if known is None:
        row = {name: getattr(payload, name) for name in _FILL_COLUMNS}
        run.connection.execute(insert(Fill).values(bot_id=run.bot.id, side=payload.side.value, **row))
    elif known.fee_quote is None and payload.fee_quote is not None:
        run.connection.execute(update(Fill).where(Fill.id == known.id).values(fee_quote=payload.fee_quote))


_FILL_COLUMNS = (
    "trade_id", "order_id", "client_order_id", "position_key", "symbol", "price", "quantity", "fee", "fee_asset",
    "fee_quote", "is_maker", "time_ms",
)  # fmt: skip


def _on_position(run: _Run, envelope: Envelope, payload: Position) -> None:
    table, connection = TradingOrder, run.connection
    row = connection.execute(
        select(table.id, table.status, table.document).where(
            table.bot_id == run.bot.id, table.position_key == payload.position_key
        )
    ).first()
    values = _position_values(run.bot, payload, envelope.data)
    if row is None:
        connection.execute(insert(table).values(bot_id=run.bot.id, position_key=payload.position_key, **values))
    elif _is_over(row.status) and row.status != payload.status:
        return
    else:
        connection.execute(update(table).where(table.id == row.id).values(**values))
    if row is not None and row.status == PositionState.CLOSED:
        before = from_data(Position.type, row.document)
        assert isinstance(before, Position)
        _book(connection, run.bot.id, before, -1)
    if payload.status is PositionState.CLOSED:
        _book(connection, run.bot.id, payload, +1)


def _is_over(status: str) -> bool:
    return status in (PositionState.CLOSED, PositionState.CANCELLED)


def _position_values(bot: BotRef, position: Position, document: dict[str, Any]) -> dict[str, Any]:
    same = {name: getattr(position, name) for name in _POSITION_COLUMNS}
    return same | {
        "side": position.side.value,
        "status": position.status.value,
        "exchange": bot.exchange,
        "mode": bot.mode,
        "document": document,
    }


_POSITION_COLUMNS = (
    "symbol", "quantity", "entry_price", "exit_price", "opened_ms", "closed_ms", "fees", "pnl", "pnl_pct", "confidence",
    "exit_reason", "entry_logic", "exit_logic", "config_version", "model_id",
)  # fmt: skip


def _book(connection: Connection, bot_id: int, position: Position, sign: int) -> None:
    """Add a closed position to its day's figures, or with *sign* −1 take it out again; a forgotten one is in none."""
    if position.pnl is None:
        return
    closed_ms = position.closed_ms if position.closed_ms is not None else position.opened_ms
    pnl = position.pnl
    share: dict[str, int | Decimal] = {
        "trades": 1,
        "wins": int(pnl > 0),
        "losses": int(pnl < 0),
        "gross_pnl": pnl + position.fees,
        "pnl": pnl,
        "fees": position.fees,
        "gains": max(pnl, ZERO),
        "losses_sum": max(-pnl, ZERO),
        "holding_ms": closed_ms - (position.activated_ms or position.opened_ms),
    }
    key = {"bot_id": bot_id, "day": day_of(closed_ms)}
    table = TradingStats
    row = connection.execute(select(table).where(table.bot_id == bot_id, table.day == key["day"])).first()
    if row is None:
        connection.execute(insert(table).values(**key, **{n: sign * v for n, v in share.items()}))
        return
    sums = {name: getattr(row, name) + sign * value for name, value in share.items()}
    connection.execute(update(table).where(table.id == row.id).values(**sums))


_HANDLERS: dict[type[Payload] | type[None], Callable[[_Run, Envelope, Any], None]] = {
    Started: _on_started,
    Status: _on_status,
    Ready: _on_ready,
    Heartbeat: _on_heartbeat,
    ConfigApplied: _on_config_applied,
    ConfigRejected: _on_config_rejected,
    CommandDone: _on_command_done,
    PAYLOADS["balance"]: _on_balance,
    Exit: _on_exit,
    OrderIntent: _on_intent,
    OrderChange: _on_order,
    FillBooked: _on_fill,
    Position: _on_position,
}


def _unseen(connection: Connection, run_id: str, envelopes: Sequence[Envelope]) -> list[Envelope]:
    if not envelopes:
        return []
    low, high = min(e.seq for e in envelopes), max(e.seq for e in envelopes)
    seen = set(
        connection.execute(select(Event.seq).where(Event.run_id == run_id, Event.seq.between(low, high))).scalars()
    )
    fresh = []
    for envelope in envelopes:
        if envelope.seq not in seen:
            seen.add(envelope.seq)
            fresh.append(envelope)
    return fresh


def _event_row(envelope: Envelope) -> dict[str, Any]:
    names = ("bot_id", "run_id", "seq", "ts", "type", "data")
    return {name: getattr(envelope, name) for name in names}


def _set_bot(connection: Connection, bot_id: int, **values: Any) -> None:
    connection.execute(update(Bot).where(Bot.id == bot_id).values(**values))

"""The tables. Column names are the field's words; times end in ``_ms`` and are UTC milliseconds; money is exact text.

Web requests write what people want (desired state, config versions, users, credentials); the supervisor alone writes
what bots report (runs, events, orders, fills, positions, stats, and the observed columns of `Bot`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, MetaData, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry

from server.storage.columns import Exact

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Declarative base whose constraints all have predictable names, as batch migrations need."""

    registry = registry(
        metadata=MetaData(naming_convention=_NAMES),
        type_annotation_map={
            Decimal: Exact,
            dict[str, Any]: JSON,
            list[str]: JSON,
            str: Text,
            int: BigInteger().with_variant(Integer(), "sqlite"),  # times in ms need 64 bits; SQLite's always have them
        },
    )


db = SQLAlchemy(model_class=Base)

if TYPE_CHECKING:
    Table = Base
else:
    Table = db.Model


class Setting(Table):
    """One value of the installation by name, such as ``install`` (the random part of client order ids)."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class User(Table):
    """A person. *role* is viewer, trader or admin; *preferences* are those of the pages (theme, keys, time zone)."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    role: Mapped[str]
    created_ms: Mapped[int]
    disabled: Mapped[bool] = mapped_column(default=False)
    preferences: Mapped[dict[str, Any]] = mapped_column(default=dict)


class ApiToken(Table):
    """A revocable token: an opaque API token, a login's JWT (by its jti), a page session, or a bot run's token.

    Opaque secrets are kept as *prefix* and SHA-256 only. *kind* is api, login, page or bot; *bot_id* narrows a bot's.
    """

    __tablename__ = "api_tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(index=True)
    sha256: Mapped[str]
    role: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    bot_id: Mapped[int | None] = mapped_column(ForeignKey("bots.id"))
    created_ms: Mapped[int]
    expires_ms: Mapped[int | None]
    last_used_ms: Mapped[int | None]
    revoked_ms: Mapped[int | None]


class Credential(Table):
    """Exchange keys; the secret part is encrypted with the installation's keys and never leaves through the API."""

    __tablename__ = "credentials"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    exchange: Mapped[str]
    api_key_last4: Mapped[str]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_ms: Mapped[int]


class Model(Table):
    """A validated LightGBM model; its file is ``models/<sha256>.txt`` below the home folder.

    *card* is what training wrote beside it (symbol, range, scores), if it was uploaded too.
    """

    __tablename__ = "models"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    symbol: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    trees: Mapped[int]
    features: Mapped[list[str]]
    schema_version: Mapped[str]
    card: Mapped[dict[str, Any] | None]
    uploaded_by: Mapped[str]
    created_ms: Mapped[int]
    deleted_ms: Mapped[int | None]


class Bot(Table):
    """A configured bot; ids are never used again, deleted bots are archived.

    The upper part is what people want; the part from *status* on is what the supervisor observed.
    """

    __tablename__ = "bots"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    strategy: Mapped[str]
    symbol: Mapped[str]
    exchange: Mapped[str]
    mode: Mapped[str]
    interval: Mapped[str]
    tags: Mapped[list[str]]
    credential_id: Mapped[int | None] = mapped_column(ForeignKey("credentials.id"))
    desired_state: Mapped[str] = mapped_column(default="stopped")
    halted: Mapped[bool] = mapped_column(default=False)
    halt_reason: Mapped[str | None]
    config_version: Mapped[int] = mapped_column(default=1)
    generation: Mapped[int] = mapped_column(default=0)
    created_ms: Mapped[int]
    updated_ms: Mapped[int]
    archived_ms: Mapped[int | None]
    start_requests: Mapped[int] = mapped_column(default=0)
    restart_requests: Mapped[int] = mapped_column(default=0)

    status: Mapped[str] = mapped_column(default="stopped")
    status_reason: Mapped[str | None]
    status_since_ms: Mapped[int | None]
    faulted_at_start_request: Mapped[int | None]
    pid: Mapped[int | None]
    run_id: Mapped[str | None]
    started_ms: Mapped[int | None]
    heartbeat_ms: Mapped[int | None]
    heartbeat: Mapped[dict[str, Any] | None]
    last_decision_ms: Mapped[int | None]
    market_ms: Mapped[int | None]
    applied_config_version: Mapped[int | None]
    rss_mib: Mapped[float | None]
    balance: Mapped[dict[str, Any] | None]


class BotRun(Table):
    """One process lifetime. The row is there before the process is forked.

    *kind* is supervised, manual (by hand on this host) or remote (by hand on another one, which posts its events);
    *restart_requests* is the bot's when the run began: the bot's being higher means that a restart is wanted; so is
    *start_requests*: the bot's being higher means that somebody has pressed start since.
    """

    __tablename__ = "bot_runs"
    __table_args__ = (UniqueConstraint("bot_id", "generation"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    generation: Mapped[int]
    state: Mapped[str]
    pid: Mapped[int | None]
    created_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    exit_code: Mapped[int | None]
    exit_reason: Mapped[str | None]
    wanted: Mapped[bool] = mapped_column(default=False)
    kind: Mapped[str] = mapped_column(default="supervised")
    started_by: Mapped[str | None]
    host: Mapped[str | None]
    heard_ms: Mapped[int | None]
    restart_requests: Mapped[int] = mapped_column(default=0)
    start_requests: Mapped[int | None]


class TradingConfigVersion(Table):
    """One accepted version of a bot's trading config."""

    __tablename__ = "trading_configs"
    __table_args__ = (UniqueConstraint("bot_id", "version"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    version: Mapped[int]
    config: Mapped[dict[str, Any]]
    diff: Mapped[dict[str, Any]]
    author: Mapped[str]
    created_ms: Mapped[int]


class BotCommand(Table):
    """A numbered one-shot command to a bot, such as ``close_positions``; part of its control until it is done."""

    __tablename__ = "bot_commands"
    __table_args__ = (UniqueConstraint("bot_id", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    number: Mapped[int]
    verb: Mapped[str]
    args: Mapped[dict[str, Any]]
    author: Mapped[str]
    created_ms: Mapped[int]
    done_ms: Mapped[int | None]
    result: Mapped[str | None]


class TradingOrder(Table):
    """A position: the round trip from entry to exit, with its latest document as the bot wrote it."""

    __tablename__ = "trading_orders"
    __table_args__ = (
        UniqueConstraint("bot_id", "position_key"),
        Index(None, "bot_id", "status"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    position_key: Mapped[int]
    symbol: Mapped[str]
    side: Mapped[str]
    status: Mapped[str]
    quantity: Mapped[Decimal]
    entry_price: Mapped[Decimal | None]
    exit_price: Mapped[Decimal | None]
    opened_ms: Mapped[int]
    closed_ms: Mapped[int | None] = mapped_column(index=True)
    fees: Mapped[Decimal]
    pnl: Mapped[Decimal | None]
    pnl_pct: Mapped[float | None]
    confidence: Mapped[float | None]
    exit_reason: Mapped[str | None]
    entry_logic: Mapped[str]
    exit_logic: Mapped[str]
    config_version: Mapped[int]
    model_id: Mapped[int | None]
    exchange: Mapped[str]
    mode: Mapped[str]
    document: Mapped[dict[str, Any]]


class ExchangeOrder(Table):
    """One order at the exchange, from its intent on."""

    __tablename__ = "exchange_orders"
    __table_args__ = (
        UniqueConstraint("bot_id", "client_order_id"),
        Index(None, "bot_id", "position_key"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    client_order_id: Mapped[str]
    position_key: Mapped[int]
    symbol: Mapped[str]
    role: Mapped[str]
    side: Mapped[str]
    order_type: Mapped[str]
    status: Mapped[str]
    quantity: Mapped[Decimal]
    price: Mapped[Decimal | None]
    executed_quantity: Mapped[Decimal]
    executed_quote: Mapped[Decimal]
    exchange_order_id: Mapped[int | None]
    reason: Mapped[str | None]
    created_ms: Mapped[int]
    updated_ms: Mapped[int]


class Fill(Table):
    """One execution, counted once whatever reports it again."""

    __tablename__ = "fills"
    __table_args__ = (
        UniqueConstraint("bot_id", "symbol", "trade_id", "order_id", "client_order_id"),
        Index(None, "bot_id", "time_ms"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    trade_id: Mapped[int]
    order_id: Mapped[int]
    client_order_id: Mapped[str]
    position_key: Mapped[int]
    symbol: Mapped[str]
    side: Mapped[str]
    price: Mapped[Decimal]
    quantity: Mapped[Decimal]
    fee: Mapped[Decimal]
    fee_asset: Mapped[str]
    fee_quote: Mapped[Decimal | None]
    is_maker: Mapped[bool]
    time_ms: Mapped[int]


class TradingStats(Table):
    """A bot's closed positions of one UTC day (market time)."""

    __tablename__ = "trading_stats"
    __table_args__ = (UniqueConstraint("bot_id", "day"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    day: Mapped[int]
    trades: Mapped[int]
    wins: Mapped[int]
    losses: Mapped[int]
    gross_pnl: Mapped[Decimal]
    pnl: Mapped[Decimal]
    fees: Mapped[Decimal]
    gains: Mapped[Decimal]
    losses_sum: Mapped[Decimal]
    holding_ms: Mapped[int]


TROUBLE = "type IN ('error', 'alert')"
"""Which events have an index of their own by time; a query has to say it in these words to use it."""


class Event(Table):
    """One JSON line of a run; of heartbeats one a minute, and the latest on the bot."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("run_id", "seq"),
        Index(None, "bot_id", "id"),
        Index(None, "bot_id", "type", "id"),
        Index("ix_events_trouble", "ts", sqlite_where=text(TROUBLE), postgresql_where=text(TROUBLE)),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    run_id: Mapped[str]
    seq: Mapped[int]
    ts: Mapped[int]
    type: Mapped[str]
    data: Mapped[dict[str, Any]]


class JournalOffset(Table):
    """How far a run's journal was read; committed together with the rows that were made from it."""

    __tablename__ = "journal_offsets"
    __table_args__ = (UniqueConstraint("bot_id", "generation"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int] = mapped_column(ForeignKey("bots.id"))
    generation: Mapped[int]
    file: Mapped[str]
    offset: Mapped[int]
    last_seq: Mapped[int]
    done: Mapped[bool] = mapped_column(default=False)


class DeadLetter(Table):
    """A journal line that could not be read, kept so that nothing is lost."""

    __tablename__ = "dead_letters"
    id: Mapped[int] = mapped_column(primary_key=True)
    bot_id: Mapped[int]
    file: Mapped[str]
    offset: Mapped[int]
    line: Mapped[bytes] = mapped_column(LargeBinary)
    reason: Mapped[str]
    created_ms: Mapped[int]


class SupervisorBeat(Table):
    """The supervisor's sign of life; one row. *facts*: what the system page shows of it (clock offset, weight used)."""

    __tablename__ = "supervisor"
    id: Mapped[int] = mapped_column(primary_key=True)
    pid: Mapped[int]
    started_ms: Mapped[int]
    beat_ms: Mapped[int]
    journal_lag_bytes: Mapped[int] = mapped_column(default=0)
    facts: Mapped[dict[str, Any] | None]


class KillSwitch(Table):
    """The latch over all bots; one row once it was ever used. *number* counts its uses."""

    __tablename__ = "kill_switch"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    engaged: Mapped[bool]
    close_positions: Mapped[bool]
    engaged_ms: Mapped[int]
    engaged_by: Mapped[str]
    reason: Mapped[str]
    released_ms: Mapped[int | None]
    released_by: Mapped[str | None]
    release_reason: Mapped[str | None]


class AuditEntry(Table):
    """What somebody changed, and from where (*via*: web, api, cli, telegram). Rows are only ever added."""

    __tablename__ = "audit_log"
    id: Mapped[int] = mapped_column(primary_key=True)
    ts: Mapped[int] = mapped_column(index=True)
    actor: Mapped[str]
    via: Mapped[str]
    action: Mapped[str]
    bot_id: Mapped[int | None] = mapped_column(index=True)
    target: Mapped[str | None]
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    reason: Mapped[str | None]


class Notification(Table):
    """A message to people, written in the transaction that books its cause and sent afterwards.

    *created_ms* is when the cause happened. *state* is queued, sent, failed (given up) or dropped (its channel is no
    longer set up).
    """

    __tablename__ = "notifications"
    __table_args__ = (Index(None, "state", "next_try_ms"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    created_ms: Mapped[int]
    channel: Mapped[str]
    kind: Mapped[str]
    bot_id: Mapped[int | None] = mapped_column(ForeignKey("bots.id"))
    dedup_key: Mapped[str | None] = mapped_column(unique=True)
    text: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    next_try_ms: Mapped[int]
    sent_ms: Mapped[int | None]
    error: Mapped[str | None]


class BotDraft(Table):
    """A bot that somebody is about to create, as typed so far; *bot_id* once it was created."""

    __tablename__ = "bot_drafts"
    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    document: Mapped[dict[str, Any]]
    bot_id: Mapped[int | None] = mapped_column(ForeignKey("bots.id"))
    created_ms: Mapped[int]
    updated_ms: Mapped[int]


class IdempotencyKey(Table):
    """The answer already given to a keyed POST, so that a repeat changes nothing."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("owner", "key"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    key: Mapped[str]
    request_sha256: Mapped[str]
    status: Mapped[int]
    answer: Mapped[dict[str, Any]]
    created_ms: Mapped[int]

"""What the config tab of a bot shows: the form, what is saved and what runs, the versions and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage import queries
from server.storage.models import Event, Model, TradingConfigVersion
from server.storage.strategies import definitions
from server.web.bot_read import BotSeen
from server.web.config_form import ConfigForm, ModelChoice, config_form, field_label, value_text
from server.web.formats import split_symbol
from shared.config import config_diff
from shared.errors import NotFound
from shared.states import BotState
from shared.strategy_spec import StrategyDefinition

VERSIONS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that differs between two versions; None on the side that does not know it."""

    label: str
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version with what it changed. *state*: pending, running, or empty."""

    number: int
    author: str
    at_ms: int
    state: str
    is_newest: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """What is saved, what runs, and the words between the two."""

    saved: int
    running: int | None
    is_pending: bool
    text: str
    is_bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Somebody saved *newest* while this page still edited *based*."""

    based: int
    newest: int
    author: str
    at_ms: int
    changes: tuple[Change, ...]
    both: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigTab:
    """All of the tab. *form* is None for a strategy that this server does not know any more."""

    version: int
    form: ConfigForm | None
    ack: Ack
    versions: tuple[Version, ...]
    compared: tuple[int, int, tuple[Change, ...]] | None
    stale: Stale | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What a form sent, and what became of it."""

    values: Mapping[str, str]
    errors: Mapping[str, str]
    based: int


def config_tab(
    connection: Connection, seen: BotSeen, *, typed: Typed | None = None, compare: tuple[int, int] | None = None
) -> ConfigTab:
    """The tab for *seen*, with what was *typed* on top."""
    strategy = definitions().get(seen.row.strategy)
    quote = split_symbol(seen.row.symbol)[1]
    rows = _version_rows(connection, seen.row.id)
    by_number = {row.version: row for row in rows}
    newest = seen.row.config_version
    stale = None
    form = None
    if strategy is not None:
        values: Mapping[str, str] = typed.values if typed else {}
        newer: Mapping[str, Any] = {}
        if typed is not None and typed.based != newest:
            stale, values, newer = _stale(connection, seen, strategy, typed, quote)
        form = config_form(
            strategy, seen.config, quote=quote, models=_models(connection), typed=values, saved=seen.config,
            newer=newer, errors=typed.errors if typed else {},
        )  # fmt: skip
    return ConfigTab(
        version=newest,
        form=form,
        ack=ack_of(connection, seen),
        versions=tuple(_version(row, seen, strategy, quote) for row in rows),
        compared=_compared(by_number, compare, strategy, quote),
        stale=stale,
    )


def changes_of(
    before: Mapping[str, Any], after: Mapping[str, Any], strategy: StrategyDefinition | None, quote: str
) -> tuple[Change, ...]:
    """The fields that differ, in words."""
    return _changes(config_diff(before, after), strategy, quote)


def _changes(diff: Mapping[str, Any], strategy: StrategyDefinition | None, quote: str) -> tuple[Change, ...]:
    parameters = {p.name: p for p in strategy.parameters} if strategy else {}

    def text(name: str, value: Any) -> str:
        return value_text(parameters.get(name), value, quote)

    return tuple(
        Change(
            label=field_label(name),
            name=name,
            before=text(name, change["from"]) if "from" in change else None,
            after=text(name, change["to"]) if "to" in change else None,
        )
        for name, change in sorted(diff.items())
    )


def _version_rows(connection: Connection, bot_id: int) -> list[Row[Any]]:
    query = select(TradingConfigVersion).where(TradingConfigVersion.bot_id == bot_id)
    return list(connection.execute(query.order_by(TradingConfigVersion.version.desc()).limit(VERSIONS_SHOWN)))


def _version(row: Row[Any], seen: BotSeen, strategy: StrategyDefinition | None, quote: str) -> Version:
    newest, running = seen.row.config_version, seen.row.applied_config_version
    runs = row.version == running and BotState(seen.row.status) is not BotState.STOPPED
    state = "running" if runs else "pending" if row.version == newest and not seen.is_archived else ""
    first = row.version == 1
    return Version(
        number=row.version,
        author=row.author,
        at_ms=row.created_ms,
        state=state,
        is_newest=row.version == newest,
        changes=() if first else _changes(row.diff, strategy, quote),
    )


def ack_of(connection: Connection, seen: BotSeen) -> Ack:
    """Whether the bot runs what is saved, and when it will."""
    newest, running = seen.row.config_version, seen.row.applied_config_version
    status = BotState(seen.row.status)
    if running == newest:
        words = "The bot runs it." if status is not BotState.STOPPED else "The last run had it."
        return Ack(saved=newest, running=running, is_pending=False, text=words)
    if status in (BotState.STOPPED, BotState.ERROR):
        return Ack(saved=newest, running=running, is_pending=False, text="The bot takes it when it starts.")
    refused = connection.execute(
        select(Event.data)
        .where(Event.bot_id == seen.row.id, Event.type == "config.rejected")
        .order_by(Event.id.desc())
        .limit(1)
    ).scalar()
    if refused and refused.get("version") == newest:
        words = f"The bot refused v{newest}: {refused.get('message', '')} v{running} stays in force."
        return Ack(saved=newest, running=running, is_pending=True, text=words, is_bad=True)
    words = "The bot is told at once, and asks by itself every 30 s; figures stay as they are until it says so."
    return Ack(saved=newest, running=running, is_pending=True, text=words)


def _models(connection: Connection) -> tuple[ModelChoice, ...]:
    rows = connection.execute(
        select(Model.id, Model.name, Model.symbol).where(Model.deleted_ms.is_(None)).order_by(Model.id.desc())
    )
    return tuple(ModelChoice(id=row.id, label=f"{row.name}, {row.symbol}") for row in rows)


def _compared(
    rows: Mapping[int, Row[Any]],
    compare: tuple[int, int] | None,
    strategy: StrategyDefinition | None,
    quote: str,
) -> tuple[int, int, tuple[Change, ...]] | None:
    if compare is None or compare[0] not in rows or compare[1] not in rows:
        return None
    before, after = compare
    return before, after, changes_of(rows[before].config, rows[after].config, strategy, quote)


def _stale(
    connection: Connection, seen: BotSeen, strategy: StrategyDefinition, typed: Typed, quote: str
) -> tuple[Stale | None, dict[str, str], dict[str, Any]]:
    """The conflict, the values that this person changed, and the newer values of fields that both changed."""
    try:
        based = queries.config_of(connection, seen.row.id, typed.based)
    except NotFound:
        return None, dict(typed.values), {}
    parameters = {p.name for p in strategy.parameters}
    mine = config_form(strategy, based, quote=quote, typed=typed.values, saved=based).changed
    kept = {field.name: typed.values[field.name] for field in mine if field.name in typed.values}
    theirs = {name: change["to"] for name, change in config_diff(based, seen.config).items() if name in parameters}
    both = {name: value for name, value in theirs.items() if name in kept}
    row = connection.execute(
        select(TradingConfigVersion).where(
            TradingConfigVersion.bot_id == seen.row.id, TradingConfigVersion.version == seen.row.config_version
        )
    ).one()
    stale = Stale(
        based=typed.based,
        newest=seen.row.config_version,
        author=row.author,
        at_ms=row.created_ms,
        changes=changes_of(based, seen.config, strategy, quote),
        both=tuple(field_label(name) for name in both),
    )
    return stale, kept, both

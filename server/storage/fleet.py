"""What a fleet is made of: bots are created, changed and archived. What they are told to do is in `verbs.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from server.security.tokens import revoke_bot_tokens
from server.storage import audit, configs
from server.storage.audit import Author
from server.storage.models import Bot, Credential, JournalOffset
from server.storage.queries import bot_row, open_positions
from server.storage.strategies import definition, definitions
from server.storage.times import now_ms
from shared.errors import Conflict, Refused
from shared.states import BotState, DesiredState

_EXCHANGES = ("simulator", "binance", "binance_testnet")
_MODES = ("trade", "paper")
_FIXED_WHILE_IN_USE = ("strategy", "symbol", "exchange", "mode", "interval", "credential_id")
AT_REST = {BotState.STOPPED, BotState.ERROR}


def create_bot(connection: Connection, wanted: Mapping[str, Any], author: Author) -> int:
    """Add a bot, stopped; its id. *wanted* has the bot's fields and its ``config``. Raises `Refused`."""
    fields = {name: value for name, value in wanted.items() if name != "config"}
    _check(connection, fields)
    strategy = definition(fields["strategy"])
    fields["interval"] = fields.get("interval") or strategy.intervals[0]
    now = now_ms()
    try:
        config = configs.check_config(connection, strategy, wanted.get("config") or {})
    except Refused as refusal:
        named = {f"config.{name}": reason for name, reason in refusal.fields.items()}
        raise Refused(refusal.message, fields=named) from None
    result = connection.execute(insert(Bot).values(**fields, created_ms=now, updated_ms=now, status_since_ms=now))
    bot_id: int = result.inserted_primary_key[0]  # type: ignore[index]
    configs.first_version(connection, bot_id, config, author)
    audit.note(connection, author, "bot.create", bot_id=bot_id, target=fields["name"], after=fields)
    return bot_id


def change_bot(connection: Connection, bot_id: int, changes: Mapping[str, Any], author: Author) -> None:
    """Set some of a bot's fields. Raises `NotFound`, `Refused`, and `Conflict` for what needs a bot at rest."""
    bot = bot_row(connection, bot_id)
    real = {name: value for name, value in changes.items() if getattr(bot, name) != value}
    fixed = [name for name in _FIXED_WHILE_IN_USE if name in real]
    if fixed:
        require_rest(connection, bot, f"change its {' and '.join(fixed)}")
    after = {name: getattr(bot, name) for name in _FIXED_WHILE_IN_USE} | real
    if "strategy" in real and "interval" not in real and real["strategy"] in definitions():
        kept = bot.interval in definition(real["strategy"]).intervals
        real["interval"] = after["interval"] = bot.interval if kept else definition(real["strategy"]).intervals[0]
    _check(connection, after)
    if "strategy" in real:
        configs.adopt_strategy(connection, bot, definition(real["strategy"]), author)
    if real:
        connection.execute(update(Bot).where(Bot.id == bot_id).values(**real, updated_ms=now_ms()))
        before = {name: getattr(bot, name) for name in real}
        audit.note(connection, author, "bot.change", bot_id=bot_id, target=bot.name, before=before, after=real)


def archive_bot(connection: Connection, bot_id: int, author: Author) -> None:
    """Take a bot out of the fleet; its history stays. Raises `NotFound`, `Conflict`."""
    bot = bot_row(connection, bot_id)
    require_rest(connection, bot, "delete it")
    connection.execute(update(Bot).where(Bot.id == bot_id).values(archived_ms=now_ms(), updated_ms=now_ms()))
    revoke_bot_tokens(connection, bot_id)
    audit.note(connection, author, "bot.archive", bot_id=bot_id, target=bot.name)


def require_rest(connection: Connection, bot: Row[Any], purpose: str) -> None:
    """Raises `Conflict` unless *bot* is stopped, its journal read to the end, and holds no position."""
    if bot.desired_state != DesiredState.STOPPED or bot.status not in AT_REST:
        seen = f"{bot.status}, wanted {bot.desired_state}"
        raise Conflict(f"Bot {bot.id} must be stopped to {purpose}; it is {seen}. Stop it and wait for `stopped`.")
    if is_unread(connection, bot.id):
        raise Conflict(
            f"Bot {bot.id} must be flat to {purpose}; its journal is still being read; try again in a moment."
        )
    held = open_positions(connection, [bot.id]).get(bot.id, 0)
    if held:
        raise Conflict(
            f"Bot {bot.id} must be flat to {purpose}; it holds {held} position(s). "
            "Close them first: POST /api/bots/{id}/close-positions."
        )


def is_unread(connection: Connection, bot_id: int) -> bool:
    """Whether the bot may have reported what is in no row yet."""
    unread = select(JournalOffset.id).where(JournalOffset.bot_id == bot_id, JournalOffset.done.is_(False)).limit(1)
    return connection.execute(unread).first() is not None


def _check(connection: Connection, fields: Mapping[str, Any]) -> None:
    """Raises `Refused` that names each field of a bot that cannot be."""
    wrong = {}
    strategy = definitions().get(fields["strategy"])
    if strategy is None:
        wrong["strategy"] = f"there is no strategy {fields['strategy']!r}; allowed: {', '.join(sorted(definitions()))}"
    elif fields.get("interval") and fields["interval"] not in strategy.intervals:
        wrong["interval"] = f"{fields['interval']!r} is not one of this strategy's: {', '.join(strategy.intervals)}"
    wrong |= place_problems(fields["exchange"], fields["mode"])
    if fields.get("credential_id") is not None and "exchange" not in wrong:
        reason = credential_problem(connection, fields["credential_id"], fields["exchange"])
        if reason:
            wrong["credential_id"] = reason
    if wrong:
        raise Refused(f"The bot has {len(wrong)} field(s) that cannot be accepted.", fields=wrong)


def place_problems(exchange: str, mode: str) -> dict[str, str]:
    """Why bots cannot trade at this place today: field → reason; empty if they can."""
    wrong = {}
    if exchange not in _EXCHANGES:
        wrong["exchange"] = f"{exchange!r} is not known; allowed: {', '.join(_EXCHANGES)}"
    elif exchange != "simulator":
        wrong["exchange"] = f"{exchange} is not available yet; use exchange simulator with mode trade"
    if mode not in _MODES:
        wrong["mode"] = f"{mode!r} is not known; allowed: {', '.join(_MODES)}"
    elif mode != "trade":
        wrong["mode"] = f"mode {mode} is not available yet; use exchange simulator with mode trade"
    return wrong


def credential_problem(connection: Connection, credential_id: int, exchange: str) -> str | None:
    """Why a bot for *exchange* cannot use these keys; None if it can."""
    found = connection.execute(select(Credential.exchange).where(Credential.id == credential_id)).scalar_one_or_none()
    if found is None:
        return f"there is no credential {credential_id}; POST /api/credentials makes one"
    return None if found == exchange else f"credential {credential_id} is for {found}, the bot is for {exchange}"

"""What people do with bots: create, change, start, stop, archive. Only what is wanted changes here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from server.security.tokens import revoke_bot_tokens
from server.storage import configs
from server.storage.models import Bot, Credential, JournalOffset
from server.storage.queries import bot_row, config_of, is_faulted, open_positions
from server.storage.strategies import definition, definitions
from server.storage.times import now_ms
from shared.errors import Conflict, Refused
from shared.states import BotState, DesiredState

_EXCHANGES = ("simulator", "binance", "binance_testnet")
_MODES = ("trade", "paper")
_FIXED_WHILE_IN_USE = ("strategy", "symbol", "exchange", "mode", "interval", "credential_id")
_AT_REST = {BotState.STOPPED, BotState.ERROR}


def create_bot(connection: Connection, wanted: Mapping[str, Any], author: str) -> int:
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
    return bot_id


def change_bot(connection: Connection, bot_id: int, changes: Mapping[str, Any], author: str) -> None:
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


def archive_bot(connection: Connection, bot_id: int) -> None:
    """Take a bot out of the fleet; its history stays. Raises `NotFound`, `Conflict`."""
    bot = bot_row(connection, bot_id)
    require_rest(connection, bot, "delete it")
    connection.execute(update(Bot).where(Bot.id == bot_id).values(archived_ms=now_ms(), updated_ms=now_ms()))
    revoke_bot_tokens(connection, bot_id)


def start(connection: Connection, bot_id: int) -> None:
    """Want the bot to run. Asking again lifts an error it gave up with. Raises `NotFound`, `Conflict`, `Refused`."""
    bot = bot_row(connection, bot_id)
    if bot.halted:
        raise Conflict(f"Bot {bot_id} is halted. Release it first, with a reason.")
    _require_startable(connection, bot)
    given_up = is_faulted(bot.faulted_at_start_request, bot.start_requests)
    again = bot.desired_state != DesiredState.RUNNING or bot.status == BotState.ERROR or given_up
    _want(connection, bot, DesiredState.RUNNING, start_requests=bot.start_requests + (1 if again else 0))


def stop(connection: Connection, bot_id: int) -> None:
    """Want the bot to end in order. Raises `NotFound`."""
    _want(connection, bot_row(connection, bot_id), DesiredState.STOPPED)


def pause(connection: Connection, bot_id: int) -> None:
    """Want no new entries; positions stay guarded. Raises `NotFound`, `Conflict` for a stopped bot."""
    bot = bot_row(connection, bot_id)
    if bot.desired_state == DesiredState.STOPPED:
        raise Conflict(f"Bot {bot_id} is stopped, so there is nothing to pause. Start it first.")
    _want(connection, bot, DesiredState.PAUSED)


def resume(connection: Connection, bot_id: int) -> None:
    """Want entries again. Raises `NotFound`, `Conflict` for a stopped bot."""
    bot = bot_row(connection, bot_id)
    if bot.desired_state == DesiredState.STOPPED:
        raise Conflict(f"Bot {bot_id} is stopped, so there is nothing to resume. Start it.")
    if bot.halted:
        raise Conflict(f"Bot {bot_id} is halted. Release it first, with a reason.")
    _want(connection, bot, DesiredState.RUNNING)


VERBS = {"start": start, "stop": stop, "pause": pause, "resume": resume}
"""What can be asked of a bot, by its name in the path."""


def require_rest(connection: Connection, bot: Row[Any], purpose: str) -> None:
    """Raises `Conflict` unless *bot* is stopped, its journal read to the end, and holds no position."""
    if bot.desired_state != DesiredState.STOPPED or bot.status not in _AT_REST:
        seen = f"{bot.status}, wanted {bot.desired_state}"
        raise Conflict(f"Bot {bot.id} must be stopped to {purpose}; it is {seen}. Stop it and wait for `stopped`.")
    unread = select(JournalOffset.id).where(JournalOffset.bot_id == bot.id, JournalOffset.done.is_(False)).limit(1)
    if connection.execute(unread).first() is not None:  # it may hold what is in no row yet
        raise Conflict(
            f"Bot {bot.id} must be flat to {purpose}; its journal is still being read; try again in a moment."
        )
    held = open_positions(connection, [bot.id]).get(bot.id, 0)
    if held:
        raise Conflict(
            f"Bot {bot.id} must be flat to {purpose}; it holds {held} position(s). "
            "Start it and let it close them, with on_stop set to close."
        )


def _want(connection: Connection, bot: Row[Any], desired: DesiredState, **more: Any) -> None:
    connection.execute(
        update(Bot).where(Bot.id == bot.id).values(desired_state=desired.value, updated_ms=now_ms(), **more)
    )


def _require_startable(connection: Connection, bot: Row[Any]) -> None:
    if bot.credential_id is None:
        remedy = "store exchange keys with POST /api/credentials and set credential_id on the bot"
        raise Refused(
            f"Bot {bot.id} has no credential, so it cannot trade on {bot.exchange}.", fields={"credential_id": remedy}
        )
    strategy = definition(bot.strategy)
    config = config_of(connection, bot.id, bot.config_version)
    if strategy.needs_model and config.get("model_id") is None:
        remedy = "upload a model with POST /api/models/upload and set model_id in the bot's config"
        raise Refused(f"{strategy.name} needs a model.", fields={"model_id": remedy})
    configs.check_config(connection, strategy, config)


def _check(connection: Connection, fields: Mapping[str, Any]) -> None:
    """Raises `Refused` that names each field of a bot that cannot be."""
    wrong = {}
    strategy = definitions().get(fields["strategy"])
    if strategy is None:
        wrong["strategy"] = f"there is no strategy {fields['strategy']!r}; allowed: {', '.join(sorted(definitions()))}"
    elif fields.get("interval") and fields["interval"] not in strategy.intervals:
        wrong["interval"] = f"{fields['interval']!r} is not one of this strategy's: {', '.join(strategy.intervals)}"
    if fields["exchange"] not in _EXCHANGES:
        wrong["exchange"] = f"{fields['exchange']!r} is not known; allowed: {', '.join(_EXCHANGES)}"
    elif fields["exchange"] != "simulator":
        wrong["exchange"] = f"{fields['exchange']} is not available yet; use exchange simulator with mode trade"
    if fields["mode"] not in _MODES:
        wrong["mode"] = f"{fields['mode']!r} is not known; allowed: {', '.join(_MODES)}"
    elif fields["mode"] != "trade":
        wrong["mode"] = f"mode {fields['mode']} is not available yet; use exchange simulator with mode trade"
    if fields.get("credential_id") is not None and "exchange" not in wrong:
        reason = _credential_problem(connection, fields["credential_id"], fields["exchange"])
        if reason:
            wrong["credential_id"] = reason
    if wrong:
        raise Refused(f"The bot has {len(wrong)} field(s) that cannot be accepted.", fields=wrong)


def _credential_problem(connection: Connection, credential_id: int, exchange: str) -> str | None:
    found = connection.execute(select(Credential.exchange).where(Credential.id == credential_id)).scalar_one_or_none()
    if found is None:
        return f"there is no credential {credential_id}; POST /api/credentials makes one"
    return None if found == exchange else f"credential {credential_id} is for {found}, the bot is for {exchange}"

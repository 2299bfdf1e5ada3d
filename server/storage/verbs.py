"""What bots are told to do: start, take over, stop, pause, resume, restart, halt, release, close, reset errors.

Desired state is declared, not commanded: a row changes here, and the supervisor makes it so. Each verb is one function
of the same shape, checks what the state allows, and writes its line into the audit log.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from sqlalchemy import Connection, Row, select, update

from server.storage import audit, commands, configs, kill_switch, ledger
from server.storage.audit import Author
from server.storage.models import Bot, BotRun
from server.storage.queries import bot_row, config_of, is_faulted
from server.storage.strategies import definition
from server.storage.times import now_ms
from shared.errors import Conflict, Refused
from shared.states import BotState, DesiredState, RunKind


class Verb(Protocol):
    """What each verb looks like; *reason* is for the audit log."""

    def __call__(self, connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None: ...


def start(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Want the bot to run. Asking again lifts an error it gave up with. Raises `NotFound`, `Conflict`, `Refused`.

    A run on another host that is lost stays what it is: see `take_over`.
    """
    bot = bot_row(connection, bot_id)
    _require_not_lost(connection, bot)
    _require_released(connection, bot)
    _require_startable(connection, bot)
    again = bot.desired_state != DesiredState.RUNNING or bot.status == BotState.ERROR or _is_given_up(bot)
    again = again or _runs_by_hand(connection, bot)  # its end, if it comes now, is not what was wanted last
    _want(
        connection, bot, author, "bot.start", reason,
        desired_state=DesiredState.RUNNING.value, start_requests=bot.start_requests + (1 if again else 0),
    )  # fmt: skip


def take_over(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Give up a run on another host that is lost, and want the bot to run here.

    Whoever asks says that nothing trades there any more. Raises `NotFound`, `Conflict`, `Refused` without a *reason*.
    """
    bot = bot_row(connection, bot_id)
    why = require_reason(reason, "take a bot over from another host")
    run = _lost_run(connection, bot)
    if run is None:
        raise Conflict(f"Bot {bot_id} has no run on another host that is lost, so there is nothing to take over.")
    _require_released(connection, bot)
    _require_startable(connection, bot)
    ledger.give_up_run(connection, bot_id, run.generation, f"taken over from host {run.host}", now_ms())
    _want(
        connection, bot, author, "bot.take-over", f"{why} (run {bot.run_id} on host {run.host})",
        desired_state=DesiredState.RUNNING.value, start_requests=bot.start_requests + 1,
    )  # fmt: skip
    ledger.set_status(connection, bot_id, BotState.STARTING, f"Taking over from host {run.host}.", now_ms())


def stop(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Want the bot to end in order. Raises `NotFound`."""
    bot = bot_row(connection, bot_id)
    _want(connection, bot, author, "bot.stop", reason, desired_state=DesiredState.STOPPED.value)


def pause(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Want no new entries; positions stay guarded. Raises `NotFound`, `Conflict` for a stopped bot."""
    bot = bot_row(connection, bot_id)
    if bot.desired_state == DesiredState.STOPPED:
        raise Conflict(f"Bot {bot_id} is stopped, so there is nothing to pause. Start it first.")
    _want(connection, bot, author, "bot.pause", reason, desired_state=DesiredState.PAUSED.value)


def resume(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Want entries again. Raises `NotFound`, `Conflict` for a stopped or halted bot."""
    bot = bot_row(connection, bot_id)
    if bot.desired_state == DesiredState.STOPPED:
        raise Conflict(f"Bot {bot_id} is stopped, so there is nothing to resume. Start it.")
    _require_released(connection, bot)
    _want(connection, bot, author, "bot.resume", reason, desired_state=DesiredState.RUNNING.value)


def restart(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Want a new process that takes up the positions of this one. Raises `NotFound`, `Conflict` for a stopped bot."""
    bot = bot_row(connection, bot_id)
    if bot.desired_state == DesiredState.STOPPED:
        raise Conflict(f"Bot {bot_id} is stopped, so there is nothing to restart. Start it.")
    if _runs_by_hand(connection, bot):
        raise Conflict(f"Bot {bot_id} was launched by hand. End it where it was launched, and launch it again there.")
    changes = {"restart_requests": bot.restart_requests + 1}
    if _is_given_up(bot):
        changes["start_requests"] = bot.start_requests + 1
    _want(connection, bot, author, "bot.restart", reason, **changes)


def halt(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Withdraw the bot's entry orders now, and hold that until it is released. Raises `NotFound`."""
    bot = bot_row(connection, bot_id)
    why = f"halted by {author.name}" + (f": {reason}" if reason else "")
    _want(connection, bot, author, "bot.halt", reason, halted=True, halt_reason=why)


def release(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Lift a halt; the bot goes on as it is wanted to. Raises `NotFound`, `Refused` without a *reason*."""
    bot = bot_row(connection, bot_id)
    require_reason(reason, "release a bot")
    _want(connection, bot, author, "bot.release", reason, halted=False, halt_reason=None)


def close_positions(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Have the bot sell all it holds at market, whether it runs or not. Raises `NotFound`."""
    bot = bot_row(connection, bot_id)
    audit.bounded(reason)
    number = commands.give(connection, bot, commands.CLOSE_POSITIONS, {}, author)
    audit.note(connection, author, "bot.close-positions", bot_id=bot_id, target=f"command {number}", reason=reason)


def reset_errors(connection: Connection, bot_id: int, author: Author, reason: str | None = None) -> None:
    """Lift the fault of a bot that was given up: it starts again if it is wanted to run, else it is stopped.

    Raises `NotFound`, `Conflict` for one whose run on another host is lost.
    """
    bot = bot_row(connection, bot_id)
    _require_not_lost(connection, bot)
    changes = {"start_requests": bot.start_requests + 1} if _is_given_up(bot) else {}
    _want(connection, bot, author, "bot.reset-errors", reason, **changes)


VERBS: Final[dict[str, Verb]] = {
    "start": start,
    "take-over": take_over,
    "stop": stop,
    "pause": pause,
    "resume": resume,
    "restart": restart,
    "halt": halt,
    "release": release,
    "close-positions": close_positions,
    "reset-errors": reset_errors,
}
"""What can be asked of a bot, by its name in the path."""


def require_reason(reason: str | None, purpose: str) -> str:
    """*reason*. Raises `Refused` where there is none, or too much of it."""
    if reason is None or not reason.strip():
        raise Refused(f"A reason is needed to {purpose}.", fields={"reason": "say why, for the audit log"})
    audit.bounded(reason.strip())
    return reason.strip()


def _want(
    connection: Connection, bot: Row[Any], author: Author, action: str, reason: str | None, **changes: Any
) -> None:
    audit.bounded(reason)
    real = {name: value for name, value in changes.items() if getattr(bot, name) != value}
    if real:
        connection.execute(update(Bot).where(Bot.id == bot.id).values(**real, updated_ms=now_ms()))
    before = {name: getattr(bot, name) for name in real}
    audit.note(connection, author, action, bot_id=bot.id, target=bot.name, before=before, after=real, reason=reason)


def _is_given_up(bot: Row[Any]) -> bool:
    return is_faulted(bot.faulted_at_start_request, bot.start_requests)


def _runs_by_hand(connection: Connection, bot: Row[Any]) -> bool:
    newest = (BotRun.bot_id == bot.id, BotRun.generation == bot.generation, BotRun.ended_ms.is_(None))
    by_hand = BotRun.kind != RunKind.SUPERVISED.value
    return connection.execute(select(BotRun.id).where(*newest, by_hand)).first() is not None


def _lost_run(connection: Connection, bot: Row[Any]) -> Row[Any] | None:
    """The bot's run on another host, if it was given up because nothing was heard of it."""
    newest = (BotRun.bot_id == bot.id, BotRun.generation == bot.generation, BotRun.ended_ms.is_(None))
    run = connection.execute(select(BotRun).where(*newest, BotRun.kind == RunKind.REMOTE.value)).first()
    return run if run is not None and _is_given_up(bot) else None


def _require_not_lost(connection: Connection, bot: Row[Any]) -> None:
    run = _lost_run(connection, bot)
    if run is None:
        return
    heard_ms = run.heard_ms if run.heard_ms is not None else run.created_ms
    minutes = max(0, now_ms() - heard_ms) // 60_000
    raise Conflict(
        f"Bot {bot.id} runs on host {run.host} as run {bot.run_id}, which was not heard for {minutes} minutes and may "
        "still trade there. End it on that host with Ctrl-C, or launch it there again. If nothing runs there any more "
        f"for certain, take it over: POST /api/bots/{bot.id}/take-over with a reason."
    )


def _require_released(connection: Connection, bot: Row[Any]) -> None:
    latch = kill_switch.state(connection)
    if latch.engaged:
        raise Conflict(f"The kill switch is engaged ({latch.reason}). Release it first, with a reason.")
    if bot.halted:
        raise Conflict(f"Bot {bot.id} is {bot.halt_reason or 'halted'}. Release it first, with a reason.")


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

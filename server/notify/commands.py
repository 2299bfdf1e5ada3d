"""What can be asked for in a chat, and what each command does: from its text to an answer, within one transaction.

Commands change only what is wanted, through the same verbs as pages and API; the supervisor makes it so. What costs
money or stops something is not done at once: the answer is then a question that states the effect in figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, func, select

from server.notify import summaries
from server.notify.summaries import bot_label, fleet_documents, state_text
from server.notify.templates import one_line, signed
from server.storage import halt_checklist, kill_switch, verbs
from server.storage.audit import Author
from server.storage.models import Bot, ExchangeOrder, TradingOrder
from server.storage.queries import OPEN, config_of
from server.storage.times import now_ms
from server.web.formats import place_of, split_symbol
from shared.errors import FlotillaError, Refused
from shared.states import FINAL_ORDER_STATES, BotState, DesiredState, Role
from shared.units import ZERO, plain

HELP = """\
/status – the fleet at a glance
/bots – every bot: id, name, state, PNL of today
/pnl [today|total] – results per currency
/pause <id|name|all> – no new entries; positions stay guarded
/resume <id|name|all> – entries again
/stop <id|name|all> – end in order
/start_bot <id|name|all> – let it trade
/halt <id|name> – withdraw its entry orders, and latch
/halt all – the kill switch
A halt is released in the pages or on the command line, with a reason."""

_COMMAND = re.compile(r"/([a-z_]+)(?:@(\w+))?(?:\s+(.*))?", re.IGNORECASE | re.DOTALL)
_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Command:
    """A command as somebody wrote it; *argument* is what stands behind it."""

    name: str
    argument: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A change that is wanted: *verb* for each of *bot_ids*, or the kill switch if that is None."""

    verb: str
    bot_ids: tuple[int, ...] | None


KILL_SWITCH: Final = Plan("halt", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said. *asks*: the change that it asks to confirm. *done*: the change that was made, to be watched.

    *hint* is only for the one who pressed a button.
    """

    text: str = ""
    hint: str | None = None
    asks: Plan | None = None
    done: Plan | None = None


def parse(text: str, username: str) -> Command | None:
    """The command in *text*; None for other talk, and for commands to another bot of the same group."""
    found = _COMMAND.fullmatch(text.strip())
    if found is None or (found[2] and found[2].lower() != username.lower()):
        return None
    return Command(found[1].lower(), (found[3] or "").strip())


def answer(connection: Connection, command: Command, author: Author, halt_file: Path) -> Answer:
    """What to say to *command*; a change that needs no confirmation is made."""
    if command.name in _READS:
        return Answer(text=_READS[command.name](connection, command.argument))
    verb = _VERBS.get(command.name)
    if verb is None:
        return Answer(text=f"There is no command /{one_line(command.name, 30)}. /help lists those there are.")
    try:
        plan = _plan(connection, command.name, verb, command.argument)
    except FlotillaError as error:
        return Answer(text=error.message)
    question = _question(connection, plan)
    return carry_out(connection, plan, author, halt_file) if question is None else Answer(text=question, asks=plan)


def carry_out(connection: Connection, plan: Plan, author: Author, halt_file: Path) -> Answer:
    """Make the change of *plan*; says what is wanted now, and what could not be had."""
    if plan.bot_ids is None:
        latch = kill_switch.halt(connection, halt_file, author)
        return Answer(text=f"Kill switch engaged by {one_line(latch.engaged_by or '', 40)}.", done=plan)
    refusals, done = [], []
    for bot_id in plan.bot_ids:
        try:
            with connection.begin_nested():
                verbs.VERBS[plan.verb](connection, bot_id, author)
            done.append(bot_id)
        except FlotillaError as error:
            refusals.append(error.message)
    made = Plan(plan.verb, tuple(done))
    lines = [*refusals, *(observed(connection, made).splitlines() if done else [])]
    return Answer(text="\n".join(lines), done=made if done else None)


def observed(connection: Connection, plan: Plan) -> str:
    """How the bots of *plan* are now, beside what is wanted."""
    bots = _bots_of(connection, plan)
    if plan.verb != "halt":
        return "\n".join(f"{bot_label(bot)}: {_seen(bot)}" for bot in bots)
    lines = halt_checklist.checklist(connection, now_ms(), plan.bot_ids)
    orders = sum(line["waiting"] + line["unknown"] for line in lines)
    left = "no entry order is left" if not orders else f"{orders} entry order{'s' * (orders > 1)} still to withdraw"
    confirmed = sum(line["confirmed"] for line in lines)
    whom = "All bots" if plan.bot_ids is None else _names(bots)
    begun = "halted" if confirmed == len(lines) else "to halt"
    return f"{whom} {begun}: {confirmed} of {len(lines)} confirmed, {left}."


def _seen(bot: Mapping[str, Any]) -> str:
    reason = bot["status_reason"] if bot["status"] in (BotState.ERROR, BotState.STOPPING) else None
    return state_text(bot) + (f". {one_line(reason, 200)}" if reason else "")


def is_observed(connection: Connection, plan: Plan, since_ms: int) -> bool:
    """Whether what *plan* wants has come true, or the bot fell into error *since_ms* and will not get there."""
    if plan.verb == "halt":
        return all(line["confirmed"] for line in halt_checklist.checklist(connection, since_ms, plan.bot_ids))
    bots = _bots_of(connection, plan)
    return all(bot["status"] == _REACHED[plan.verb] or _failed(bot, since_ms) for bot in bots)


def _failed(bot: Mapping[str, Any], since_ms: int) -> bool:
    return bool(bot["status"] == BotState.ERROR and (bot["status_since"] or 0) >= since_ms)


_READS: Final[dict[str, Callable[[Connection, str], str]]] = {
    "status": lambda connection, _: summaries.status_text(connection),
    "bots": lambda connection, _: summaries.bots_text(connection),
    "pnl": lambda connection, span: summaries.pnl_text(connection, "total" if span.lower() == "total" else "today"),
    "help": lambda *_: HELP,
    "start": lambda *_: HELP,  # what every chat with a bot begins with
}
_VERBS: Final = {"pause": "pause", "resume": "resume", "stop": "stop", "start_bot": "start", "halt": "halt"}
COMMANDS: Final = frozenset(_READS) | frozenset(_VERBS)
"""All that can be written behind a slash."""
_REACHED: Final = {
    "pause": BotState.PAUSED,
    "resume": BotState.RUNNING,
    "start": BotState.RUNNING,
    "stop": BotState.STOPPED,
}
_MAKES_SENSE: Final[dict[str, Callable[[Mapping[str, Any]], bool]]] = {
    "pause": lambda bot: bot["desired_state"] == DesiredState.RUNNING,
    "resume": lambda bot: bot["desired_state"] == DesiredState.PAUSED,
    "stop": lambda bot: bot["desired_state"] != DesiredState.STOPPED or bot["status"] != BotState.STOPPED,
    "start": lambda bot: bot["desired_state"] == DesiredState.STOPPED or bot["status"] == BotState.ERROR,
}
_LABELS: Final = {"stop": "Stop", "start": "Start", "resume": "Resume", "halt": "Halt"}


def label_of(plan: Plan) -> str:
    """What the button that confirms *plan* says."""
    return _LABELS[plan.verb]


# --- whom it is about ---------------------------------------------------------------------------------------------


def _plan(connection: Connection, name: str, verb: str, argument: str) -> Plan:
    """Raises `Refused` for a target that is none."""
    bots = fleet_documents(connection)
    chosen: Sequence[Mapping[str, Any]] = bots
    if argument.lower() == "all" and verb == "halt":
        return KILL_SWITCH
    if argument.lower() == "all":
        chosen = [bot for bot in bots if _MAKES_SENSE[verb](bot)]
        if not chosen:
            raise Refused(f"There is no bot that /{name} would change.")
    elif argument:
        chosen = _named(bots, argument)
    elif len(bots) != 1 or verb == "halt":
        raise Refused(f"Which bot? Write /{name} with an id, a name or all. /bots lists them.")
    return Plan(verb, tuple(bot["id"] for bot in chosen))


def _named(bots: Sequence[Mapping[str, Any]], argument: str) -> Sequence[Mapping[str, Any]]:
    wanted = argument.casefold()
    found = [bot for bot in bots if str(bot["id"]) == wanted] or [b for b in bots if b["name"].casefold() == wanted]
    if not found:
        raise Refused(f"There is no bot {one_line(argument, 60)!r}. /bots lists those there are.")
    if len(found) > 1:
        ids = ", ".join(str(bot["id"]) for bot in found)
        raise Refused(f"Several bots are called {one_line(argument, 60)!r}: {ids}. Write the id.")
    return found


def _bots_of(connection: Connection, plan: Plan) -> list[dict[str, Any]]:
    bots = fleet_documents(connection)
    return bots if plan.bot_ids is None else [bot for bot in bots if bot["id"] in plan.bot_ids]


def _names(bots: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(bot_label(bot) for bot in bots)


# --- what it would cost -------------------------------------------------------------------------------------------


def _question(connection: Connection, plan: Plan) -> str | None:
    """What to ask before *plan* is carried out; None if it may be done at once."""
    bots = _bots_of(connection, plan)
    ids = [bot["id"] for bot in bots]
    is_live = any(place_of(bot["exchange"], bot["mode"]) == "live" for bot in bots)
    holds = any(bot["open_positions"] for bot in bots)
    match plan.verb:
        case "halt":
            whom = "Engage the kill switch, for every bot" if plan.bot_ids is None else "Halt"
            orders = _entry_orders(connection, ids)
            effects = [f"{bot_label(bot)}: {_withdrawn(orders.get(bot['id'], 0))}" for bot in bots]
            after = "No entries until somebody releases it. Stops and targets stay."
        case "stop" if holds or is_live or len(bots) > 1:
            whom, after = "Stop", ""
            effects = [f"{bot_label(bot)}: {_stopped(connection, bot)}" for bot in bots]
        case "start" | "resume" if is_live:
            whom, after = _LABELS[plan.verb], "LIVE: this trades real money."
            effects = [f"{bot_label(bot)}: {_at_stake(connection, bot)}" for bot in bots]
        case _:
            return None
    shown = effects[:_MOST_SHOWN] + ([f"and {len(effects) - _MOST_SHOWN} more"] if len(effects) > _MOST_SHOWN else [])
    return "\n".join([f"{whom}?", *shown, *([after] if after else [])])


def _withdrawn(orders: int) -> str:
    return f"{orders} entry order{'' if orders == 1 else 's'} will be withdrawn"


def _stopped(connection: Connection, bot: Mapping[str, Any]) -> str:
    if not bot["open_positions"]:
        return "flat"
    closes = config_of(connection, bot["id"], bot["config_version"]).get("on_stop", "close") == "close"
    then = "sold at market" if closes else "held without a stop (on_stop is hold)"
    return f"{_held(connection, bot)}; {then}"


def _held(connection: Connection, bot: Mapping[str, Any]) -> str:
    """``ETHUSDT 0.0589 long, cost 199.76 USDT, unrealised -0.22 USDT``."""
    base, quote = split_symbol(bot["symbol"])
    positions = list(
        connection.execute(
            select(TradingOrder.quantity, TradingOrder.document).where(
                TradingOrder.bot_id == bot["id"], TradingOrder.status.in_(OPEN)
            )
        )
    )
    quantity = sum((row.quantity - _amount(row.document.get("sold_quantity")) for row in positions), ZERO)
    cost = sum((_amount(row.document.get("cost")) for row in positions), ZERO)
    facts = [f"{plain(quantity)} {base} long", f"cost {plain(cost)} {quote}"]
    beat = connection.execute(select(Bot.heartbeat).where(Bot.id == bot["id"])).scalar_one()
    if beat and beat.get("unrealised_pnl") is not None:
        facts.append(f"unrealised {signed(_amount(beat['unrealised_pnl']))} {quote}")
    return ", ".join(facts)


def _at_stake(connection: Connection, bot: Mapping[str, Any]) -> str:
    config = config_of(connection, bot["id"], bot["config_version"])
    quote = split_symbol(bot["symbol"])[1]
    each, most = config.get("capital_per_trade", "100"), config.get("max_positions", 1)
    return f"up to {most} × {one_line(str(each), 30)} {quote} in {bot['symbol']}"


def _amount(value: Any) -> Decimal:
    return ZERO if value is None else Decimal(str(value))


def _entry_orders(connection: Connection, bot_ids: Sequence[int]) -> dict[int, int]:
    """How many entry orders of each bot are not known to be final; bots without one are left out."""
    rows = connection.execute(
        select(ExchangeOrder.bot_id, func.count())
        .where(
            ExchangeOrder.bot_id.in_(bot_ids),
            ExchangeOrder.role == Role.ENTRY.value,
            ExchangeOrder.status.not_in([state.value for state in FINAL_ORDER_STATES]),
        )
        .group_by(ExchangeOrder.bot_id)
    )
    return {row[0]: row[1] for row in rows}

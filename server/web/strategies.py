"""The catalogue of strategies: what each does, what it can be told, and which bots use it."""

from __future__ import annotations

from typing import Any

from flask import render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from server.api.wire import engine
from server.security.roles import Role, needs
from server.storage.engine import read
from server.storage.models import Bot
from server.storage.strategies import definitions
from server.web.config_form import config_form, value_text
from server.web.shell import web
from shared.strategy_spec import StrategyDefinition

_APPLIES = {"now": "at once", "next_position": "from the next position", "restart": "when it restarts"}


@web.get("/strategies")
@needs(Role.VIEWER)
def strategies_page() -> ResponseReturnValue:
    """All strategies with their parameters."""
    with read(engine()) as connection:
        bots = connection.execute(select(Bot.id, Bot.name, Bot.strategy).where(Bot.archived_ms.is_(None))).all()
    shown = [
        _shown(strategy, [(bot.id, bot.name) for bot in bots if bot.strategy == strategy.id])
        for _, strategy in sorted(definitions().items())
    ]
    return render_template("strategies.html", strategies=shown)


def _shown(strategy: StrategyDefinition, users: list[tuple[int, str]]) -> dict[str, Any]:
    fields = {f.name: f for f in config_form(strategy, {}, quote="").fields}
    return {
        "id": strategy.id,
        "name": strategy.name,
        "description": strategy.description,
        "risk_note": strategy.risk_note,
        "intervals": strategy.intervals,
        "needs_model": strategy.needs_model,
        "users": users,
        "parameters": [
            {
                "name": p.name,
                "label": fields[p.name].label,
                "default": value_text(p, p.default, "quote"),
                "help": fields[p.name].help,
                "applies": _APPLIES.get(p.applies, p.applies),
            }
            for p in strategy.parameters
        ],
    }

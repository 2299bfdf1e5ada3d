"""What bots are told to do, one route per verb. Each takes an optional reason for the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, jsonify
from sqlalchemy import Connection

from server.api.control_schemas import OrderPath
from server.api.schemas import Bot, BotPath, Order, ReasonBody
from server.api.wire import blueprint, caller, keyed, optional_body
from server.security.roles import Role, needs
from server.storage import queries, single_positions
from server.storage.verbs import VERBS

api = blueprint("verbs", "What bots are told to do")

_SUMMARIES = {
    "start": "Let the bot trade. Asking again after it gave up lets it try again; 409 where a silent host may still "
    "run it.",
    "take-over": "Run a bot here whose run on another host is lost; a reason is needed. It says that nothing trades "
    "there any more: otherwise two processes trade at once.",
    "stop": "End the bot in order; what becomes of its positions is `on_stop` in its config.",
    "pause": "No new entries; open positions stay guarded.",
    "resume": "Entries again.",
    "restart": "A new process. Positions are held over, whatever `on_stop` says, and taken up by the new one.",
    "halt": "Cancel the bot's entry orders now, and latch: exits and targets stay, positions stay guarded.",
    "release": "Lift a halt; a reason is needed. The bot goes on as it is wanted to.",
    "close-positions": "Sell all that the bot holds at market; one that does not run is started for it. A paused bot "
    "stays paused, a running one goes on trading afterwards.",
    "reset-errors": "Lift the fault of a bot in error: it starts again if it is wanted to run, else it is stopped. 409 "
    "where a silent host may still run it.",
}


def _route(name: str) -> None:
    @needs(Role.TRADER)
    def ask(path: BotPath) -> tuple[Response, int]:
        reason = optional_body(ReasonBody).reason

        def change(connection: Connection) -> tuple[dict[str, Any], int]:
            VERBS[name](connection, path.bot_id, caller().author, reason)
            return queries.bot_document(connection, path.bot_id), 202

        document, status = keyed(change)
        return jsonify(document), status

    ask.__name__, ask.__doc__ = f"{name.replace('-', '_')}_bot", _SUMMARIES[name]
    api.post(
        f"/api/bots/<int(max=2147483647):bot_id>/{name}",
        responses={202: Bot},
        openapi_extensions={"requestBody": REASON_BODY},
    )(ask)


REASON_BODY: dict[str, Any] = {
    "required": False,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": 500}},
            },
            "example": {"reason": "maintenance at the exchange"},
        }
    },
}
"""A body that may be left out."""

for _name in VERBS:
    _route(_name)


def _position_route(name: str, act: Callable[..., None], summary: str) -> None:
    @needs(Role.TRADER)
    def ask(path: OrderPath) -> tuple[Response, int]:
        reason = optional_body(ReasonBody).reason

        def change(connection: Connection) -> tuple[dict[str, Any], int]:
            act(connection, path.bot_id, path.order_id, caller().author, reason)
            bot = queries.bot_row(connection, path.bot_id)
            row = queries.position_row(connection, path.bot_id, path.order_id)
            return queries.position_document(row, bot.tags), 202

        document, status = keyed(change)
        return jsonify(document), status

    ask.__name__, ask.__doc__ = f"{name}_position", summary
    api.post(
        f"/api/trading/bots/<int(max=2147483647):bot_id>/orders/<int(max=2147483647):order_id>/{name}",
        responses={202: Order},
        openapi_extensions={"requestBody": REASON_BODY},
    )(ask)


_position_route(
    "close",
    single_positions.close,
    "Sell this position at market; a bot that does not run is started for it. Until it is sold the bot enters nothing.",
)
_position_route(
    "forget",
    single_positions.forget,
    "Give up a position of a bot that does not run and whose fate nobody can find out: it is closed without a PNL and "
    "no longer guarded. Nothing is sold; an order of it that still rests is cancelled when the bot starts again. A "
    "reason is needed.",
)

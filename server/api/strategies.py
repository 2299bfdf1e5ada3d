"""The strategies and their parameters."""

from __future__ import annotations

from flask import Response, jsonify

from server.api.examples import StrategyList
from server.api.schemas import Strategy, StrategyPath
from server.api.wire import blueprint
from server.security.roles import Role, needs
from server.storage.strategies import definition, definitions, strategy_document

api = blueprint("strategies", "What bots can run, and its parameters")


@api.get("/api/bots/strategies", responses={200: StrategyList}, operation_id="list_bot_strategies")
@api.get("/api/strategies", responses={200: StrategyList}, operation_id="list_strategies")
@needs(Role.VIEWER)
def list_strategies() -> Response:
    """All strategies with their parameters."""
    items = [strategy_document(d) for _, d in sorted(definitions().items())]
    return jsonify({"items": items, "next_cursor": None})


@api.get("/api/bots/strategies/<strategy_id>", responses={200: Strategy}, operation_id="get_bot_strategy")
@api.get("/api/strategies/<strategy_id>", responses={200: Strategy}, operation_id="get_strategy")
@needs(Role.VIEWER)
def get_strategy(path: StrategyPath) -> Response:
    """One strategy."""
    return jsonify(strategy_document(definition(path.strategy_id)))

"""The strategies that bots can run, as this server sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from bots.strategies import DEFINITIONS
from shared.errors import NotFound
from shared.strategy_spec import Parameter, StrategyDefinition

_PARAMETERS = TypeAdapter(tuple[Parameter, ...])


def definitions() -> Mapping[str, StrategyDefinition]:
    """All strategies by id."""
    return DEFINITIONS


def definition(strategy_id: str) -> StrategyDefinition:
    """One strategy. Raises `NotFound`."""
    found = definitions().get(strategy_id)
    if found is None:
        raise NotFound(f"There is no strategy {strategy_id!r}. Those there are: {', '.join(sorted(definitions()))}.")
    return found


def strategy_document(strategy: StrategyDefinition) -> dict[str, Any]:
    """A strategy as the API shows it."""
    return {
        "id": strategy.id,
        "name": strategy.name,
        "description": strategy.description,
        "risk_note": strategy.risk_note,
        "intervals": list(strategy.intervals),
        "needs_model": strategy.needs_model,
        "parameters": _PARAMETERS.dump_python(strategy.parameters, mode="json"),
    }

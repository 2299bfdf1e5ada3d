"""Where strategies register: their definitions for people, and how to build them for a bot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from bots.core.predictor import Predictor
from bots.core.strategy import Strategy
from shared.config import TradingConfig
from shared.errors import NotFound, Refused
from shared.intervals import INTERVAL_MS
from shared.strategy_spec import StrategyDefinition


class _Factory(Protocol):
    def __call__(self, interval_ms: int, config: TradingConfig, model: Predictor | None) -> Strategy: ...


F = TypeVar("F", bound=Callable[..., Strategy])

DEFINITIONS: Final[dict[str, StrategyDefinition]] = {}
_FACTORIES: Final[dict[str, _Factory]] = {}


def strategy(definition: StrategyDefinition) -> Callable[[F], F]:
    """Register a class, called as ``(interval_ms, config, model)``, under *definition*."""

    def register(factory: F) -> F:
        if definition.id in DEFINITIONS:
            raise ValueError(f"two strategies are called {definition.id}")
        DEFINITIONS[definition.id] = definition
        _FACTORIES[definition.id] = factory
        return factory

    return register


def build(strategy_id: str, interval_ms: int, config: TradingConfig, model: Predictor | None) -> Strategy:
    """A fresh strategy for one bot. Raises `NotFound` and `Refused` with what would be accepted."""
    definition = DEFINITIONS.get(strategy_id)
    if definition is None:
        raise NotFound(f"There is no strategy {strategy_id!r}; there are {', '.join(sorted(DEFINITIONS))}.")
    if interval_ms not in [INTERVAL_MS[name] for name in definition.intervals]:
        raise Refused(
            f"{definition.name} does not run on bars of {interval_ms / 1000:g} s.",
            fields={"interval": f"allowed: {', '.join(definition.intervals)}"},
        )
    if not isinstance(config, definition.config):
        raise Refused(f"{definition.name} needs a {definition.config.__name__}, not a {type(config).__name__}.")
    if definition.needs_model and model is None:
        raise Refused(
            f"{definition.name} cannot run without a model.",
            fields={"model_id": "choose a model; `python -m research train` makes one, the models page uploads it"},
        )
    return _FACTORIES[strategy_id](interval_ms, config, model)

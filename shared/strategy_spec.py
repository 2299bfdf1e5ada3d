"""What a strategy tells the world about itself: texts, intervals, and its parameters as forms and the API show them."""

from __future__ import annotations

import types
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from shared.config import TradingConfig, limits_of

ParameterType = Literal["money", "ratio", "number", "integer", "choice", "boolean", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One config field as a form shows it. *minimum* and *maximum* are in *unit*; *default* is its JSON form."""

    name: str
    type: ParameterType
    default: Any
    nullable: bool
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...] | None
    unit: str | None
    group: str
    applies: str
    help: str
    depends_on: dict[str, list[str]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyDefinition:
    """A strategy as people choose it. *config* is its trading config; *needs_model*: it runs on a LightGBM model."""

    id: str
    name: str
    description: str
    risk_note: str
    config: type[TradingConfig]
    intervals: tuple[str, ...]
    needs_model: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All fields of the config, the strategy's own first."""
        common = TradingConfig.model_fields.keys()
        defaults = self.config().model_dump(mode="json")
        fields = self.config.model_fields.items()
        own_first = sorted(fields, key=lambda item: item[0] in common)
        return tuple(_parameter(name, info, defaults[name]) for name, info in own_first)


def _parameter(name: str, info: FieldInfo, default: Any) -> Parameter:
    extra: dict[str, Any] = dict(info.json_schema_extra) if isinstance(info.json_schema_extra, dict) else {}
    low, high = limits_of(info)
    kind, nullable, choices = _kind(info, extra)
    depends: Any = extra.get("depends_on")
    return Parameter(
        name=name,
        type=kind,
        default=default,
        nullable=nullable,
        minimum=low,
        maximum=high,
        choices=choices,
        unit=extra.get("unit"),
        group=str(extra.get("group", "strategy")),
        applies=str(extra.get("applies", "restart")),
        help=info.description or "",
        depends_on=depends,
    )


def _kind(info: FieldInfo, extra: dict[str, Any]) -> tuple[ParameterType, bool, tuple[str, ...] | None]:
    annotation: Any = info.annotation
    nullable = False
    if get_origin(annotation) in (Union, types.UnionType):
        nullable = type(None) in get_args(annotation)
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Literal:
        return "choice", nullable, tuple(get_args(annotation))
    while hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    if extra.get("unit") == "model":
        return "model", nullable, None
    if annotation is bool:
        return "boolean", nullable, None
    if annotation is int:
        return "integer", nullable, None
    if annotation is Decimal:
        return ("ratio" if extra.get("unit") == "fraction" else "money"), nullable, None
    if annotation is float:
        return "number", nullable, None
    raise TypeError(f"no form shows a field of type {annotation!r}")

"""The trading config: one flat, typed, checked object per bot.

`TradingConfig` holds what all strategies share; each strategy adds its own fields by inheriting from it. Forms, the
API, the bot and the strategy definitions read the same field metadata: type, range, unit, group, help and when a
change applies. Unknown names, wrong types and values out of range are refused with field, value and remedy.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    ValidationError,
)
from pydantic.fields import FieldInfo

from shared.errors import Refused

_MOST_DIGITS = 28
_LONGEST_ECHO = 80


class Applies(StrEnum):
    """When a changed field takes effect in a running bot."""

    NOW = "now"
    NEXT_POSITION = "next_position"
    RESTART = "restart"


def _as_number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number")
    return value


def _as_decimal(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError('must be an amount such as "200.00"')
    try:
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError('must be an amount such as "200.00"') from None
    if not amount.is_finite():
        raise ValueError("must be a finite amount")
    if abs(amount.adjusted()) > _MOST_DIGITS or len(amount.as_tuple().digits) > _MOST_DIGITS:
        raise ValueError(f"must have at most {_MOST_DIGITS} digits")
    return amount


def _as_text(value: Decimal) -> str:
    return format(value, "f")


Money = Annotated[
    Decimal, BeforeValidator(_as_decimal), PlainSerializer(_as_text, return_type=str, when_used="json-unless-none")
]
"""An amount in the symbol's quote asset; a string in JSON, numbers are accepted."""

Ratio = Annotated[
    Decimal,
    BeforeValidator(_as_decimal),
    BeforeValidator(_as_number),
    PlainSerializer(float, return_type=float, when_used="json-unless-none"),
]
"""A fraction (0.009 is 0.9 %), exact; a number in JSON."""

Number = Annotated[float, BeforeValidator(_as_number), Field(allow_inf_nan=False)]
"""A plain measure without money meaning; a number in JSON."""

Whole = Annotated[int, Strict()]
"""A whole number; booleans and strings are refused."""


Flag = Annotated[bool, Strict()]
"""Yes or no; numbers and strings are refused."""


def setting(
    default: Any,
    *,
    group: str,
    help: str,
    applies: Applies,
    unit: str | None = None,
    depends_on: Mapping[str, list[str]] | None = None,
    **limits: Any,
) -> Any:
    """A config field with what a form needs to show it; *limits* are pydantic's ``ge``, ``gt``, ``le``, ``lt``.

    *depends_on* names another field and the values of it for which this one matters.
    """
    extra: dict[str, Any] = {
        "group": group,
        "unit": unit,
        "applies": applies.value,
        "depends_on": dict(depends_on) if depends_on else None,
    }
    return Field(default, description=help, json_schema_extra=extra, validate_default=True, **limits)


_NOW, _NEXT = Applies.NOW, Applies.NEXT_POSITION
_LIMIT_ENTRY = {"entry_order_type": ["limit_maker", "limit"]}


class TradingConfig(BaseModel):
    """What every strategy can be told about size, entries, exits and limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    capital_per_trade: Money = setting(
        Decimal(100),
        gt=0,
        le=1_000_000_000,
        unit="quote",
        group="size",
        applies=_NEXT,
        help="How much of the quote asset one position may use.",
    )
    max_positions: Whole = setting(
        1,
        ge=1,
        le=20,
        unit="positions",
        group="size",
        applies=_NOW,
        help="How many positions may be pending or active at once.",
    )
    max_position_size: Money | None = setting(
        None,
        gt=0,
        le=1_000_000_000,
        unit="quote",
        group="size",
        applies=_NEXT,
        help="Upper bound for one position whatever the other sizes say; empty means none.",
    )
    entry_order_type: Literal["limit_maker", "limit", "market"] = setting(
        "limit_maker",
        group="entry",
        applies=_NEXT,
        help="limit_maker never takes liquidity; limit may; market buys at once.",
    )
    entry_price: Literal["bid", "close"] = setting(
        "bid",
        group="entry",
        applies=_NEXT,
        depends_on=_LIMIT_ENTRY,
        help="Place the entry at the best bid, or at the last candle's close.",
    )
    entry_offset_ticks: Whole = setting(
        0,
        ge=0,
        le=10_000,
        unit="ticks",
        group="entry",
        applies=_NEXT,
        depends_on=_LIMIT_ENTRY,
        help="How many price steps below that price the entry is placed.",
    )
    maker_order_timeout: Whole = setting(
        60,
        ge=1,
        le=86_400,
        unit="s",
        group="entry",
        applies=_NEXT,
        depends_on=_LIMIT_ENTRY,
        help="How long an entry order may wait in the book; what is filled by then is kept.",
    )
    on_entry_timeout: Literal["cancel", "market"] = setting(
        "cancel",
        group="entry",
        applies=_NEXT,
        depends_on=_LIMIT_ENTRY,
        help="After that time: give up, or buy at market if nothing was filled.",
    )
    cooldown: Whole = setting(
        0,
        ge=0,
        le=2_592_000,
        unit="s",
        group="entry",
        applies=_NOW,
        help="Pause after a position has closed before the next entry.",
    )
    profit_target_pct: Ratio | None = setting(
        Decimal("0.003"),
        gt=0,
        le=1,
        unit="fraction",
        group="exit",
        applies=_NEXT,
        help="Take profit at this gain over the entry price; empty means no target.",
    )
    take_profit_order: Literal["resting", "watched"] = setting(
        "resting",
        group="exit",
        applies=_NEXT,
        help="resting: a limit order waits in the book; watched: sell at market when a close reaches the target.",
    )
    stop_loss_pct: Ratio | None = setting(
        Decimal("0.01"),
        gt=0,
        lt=1,
        unit="fraction",
        group="exit",
        applies=_NEXT,
        help="Sell at market when the price falls this far below the entry price; empty means no stop.",
    )
    holding_time: Whole | None = setting(
        3600,
        ge=1,
        le=31_536_000,
        unit="s",
        group="exit",
        applies=_NEXT,
        help="Sell at market when a position is this old; empty means no limit.",
    )
    max_daily_loss: Money | None = setting(
        None,
        gt=0,
        le=1_000_000_000,
        unit="quote",
        group="limits",
        applies=_NOW,
        help="No entries for the rest of the UTC day once realised and open losses reach this; empty means off.",
    )
    max_daily_trades: Whole | None = setting(
        None,
        ge=1,
        le=1_000_000,
        unit="positions",
        group="limits",
        applies=_NOW,
        help="No entries for the rest of the UTC day after this many that were filled; empty means off.",
    )
    on_stop: Literal["close", "hold"] = setting(
        "close",
        group="safety",
        applies=_NOW,
        help="When the bot is stopped: close positions at market, or leave them as they are. "
        "A held position has no stop until the bot runs again.",
    )
    orphan_after: Whole = setting(
        600,
        ge=60,
        le=86_400,
        unit="s",
        group="safety",
        applies=_NOW,
        help="No entries once the server could not be reached for this long; positions stay guarded.",
    )
    notify_start_stop: Flag = setting(
        True,
        group="notifications",
        applies=_NOW,
        help="Tell people when the bot has started and stopped.",
    )
    notify_positions: Flag = setting(
        True,
        group="notifications",
        applies=_NOW,
        help="Tell people of each position that opens or closes, with its PNL.",
    )
    notify_errors: Flag = setting(
        True,
        group="notifications",
        applies=_NOW,
        help="Tell people of errors and alerts. That a bot was given up, or halted, is told all the same.",
    )
    notify_daily: Flag = setting(
        True,
        group="notifications",
        applies=_NOW,
        help="Count the bot in the daily summary.",
    )


C = TypeVar("C", bound=TradingConfig)


def parse_config(kind: type[C], document: object) -> C:
    """The checked config of type *kind*. Raises `Refused` that names each bad field, its value and the remedy."""
    if not isinstance(document, Mapping):
        raise Refused("The config must be a JSON object of field names and values.")
    try:
        return kind.model_validate(dict(document))
    except ValidationError as error:
        fields = {_path(e["loc"]): _reason(kind, e) for e in error.errors(include_url=False)}
        raise Refused(f"The config has {len(fields)} field(s) that cannot be accepted.", fields=fields) from None


def merge_config(config: C, changes: object) -> C:
    """*config* with the fields of *changes* replaced and everything checked again. Raises `Refused`."""
    if not isinstance(changes, Mapping):
        raise Refused("The config must be a JSON object of field names and values.")
    return parse_config(type(config), {**config_document(config), **changes})


def config_document(config: TradingConfig) -> dict[str, Any]:
    """The flat JSON form of *config*: money as strings, ratios and counts as numbers."""
    return config.model_dump(mode="json")


def config_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Changed fields of two config documents as ``{name: {"from": …, "to": …}}``."""
    names = sorted(before.keys() | after.keys())
    return {n: {"from": before.get(n), "to": after.get(n)} for n in names if before.get(n) != after.get(n)}


def applies_of(kind: type[TradingConfig], name: str) -> Applies:
    """When a change of field *name* takes effect."""
    return Applies(_extra(kind.model_fields[name])["applies"])


def limits_of(info: FieldInfo) -> tuple[float | None, float | None]:
    """Smallest and largest accepted value of a field, whether or not the border itself is accepted."""
    low: Any = None
    high: Any = None
    for rule in info.metadata:
        if isinstance(rule, Ge):
            low = rule.ge
        elif isinstance(rule, Gt):
            low = rule.gt
        elif isinstance(rule, Le):
            high = rule.le
        elif isinstance(rule, Lt):
            high = rule.lt
    return low, high


def _extra(info: FieldInfo) -> dict[str, Any]:
    return dict(info.json_schema_extra) if isinstance(info.json_schema_extra, dict) else {}


def _path(loc: tuple[int | str, ...]) -> str:
    return str(loc[0]) if loc else "config"


def _reason(kind: type[TradingConfig], error: Any) -> str:
    name, given = _path(error["loc"]), _echo(error["input"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, kind.model_fields, n=1)
        return "unknown field" + (f"; did you mean {near[0]}?" if near else "; see the strategy's parameters")
    if error["type"] in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"{given} is out of range; allowed: {range_text(kind.model_fields[name])}"
    if error["type"] == "literal_error":
        return f"{given} is not a choice; allowed: {error['ctx']['expected']}"
    if error["type"] == "value_error":
        return f"{error['ctx']['error']} (got {given})"
    return f"{error['msg'].lower()} (got {given})"


def _echo(given: object) -> str:
    """What was given, as JSON shows it; a long one is cut."""
    try:
        text = str(given) if isinstance(given, Decimal) else json.dumps(given)
    except (TypeError, ValueError):
        text = type(given).__name__
    return text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + "…"


def range_text(info: FieldInfo) -> str:
    """The allowed range of a field in words, such as ``above 0, at most 1``."""
    words = []
    for rule in info.metadata:
        if isinstance(rule, Ge):
            words.append(f"at least {rule.ge}")
        elif isinstance(rule, Gt):
            words.append(f"above {rule.gt}")
        elif isinstance(rule, Le):
            words.append(f"at most {rule.le}")
        elif isinstance(rule, Lt):
            words.append(f"below {rule.lt}")
    return ", ".join(words) or "any"

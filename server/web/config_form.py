"""The form of a trading config: made from the strategy's definition, and read back into a config document.

Pure. People see ratios in percent, amounts in the quote asset and "empty" for off; the document holds fractions, exact
amounts and null. Whatever was typed is kept and shown again, with the error beside its field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from annotated_types import Ge, Gt, Le, Lt

from server.web.formats import duration
from shared.config import config_document, parse_config
from shared.errors import Refused
from shared.strategy_spec import Parameter, StrategyDefinition
from shared.units import plain

_LONGEST = 60
_MOST_DIGITS = 28
_NO_LIMIT = 1_000_000_000
_AMOUNT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_WHOLE = re.compile(r"[+-]?\d+")

# Group of a parameter → title and the line under it, in the order of the page.
_GROUPS: Final = {
    "signal": ("Strategy", "What it looks at before it buys."),
    "size": ("Size", "What one trade may cost."),
    "entry": ("Entry", "When and how it buys."),
    "exit": ("Exit", "An open position keeps the terms it was opened with."),
    "limits": ("Limits", "Past one of these it enters nothing more."),
    "safety": ("Safety", "What happens when it ends or is left alone."),
    "notifications": ("Messages", "What people are told of it."),
}
_LABELS: Final = {
    "capital_per_trade": "Capital per trade",
    "max_positions": "Open positions at most",
    "max_position_size": "Position cap",
    "risk_per_trade": "Risk per trade",
    "entry_order_type": "Entry order",
    "entry_price": "Entry price",
    "entry_offset_ticks": "Below that price by",
    "maker_order_timeout": "Give up after",
    "on_entry_timeout": "Then",
    "cooldown": "Pause between",
    "profit_target_pct": "Profit target",
    "take_profit_order": "Target order",
    "take_profit_steps": "Target steps",
    "stop_loss_pct": "Stop loss",
    "trailing_stop_pct": "Trailing stop",
    "break_even_pct": "Break even from",
    "holding_time": "Hold at most",
    "max_daily_loss": "Daily loss",
    "max_daily_loss_pct": "Daily loss, share",
    "max_daily_trades": "Trades a day",
    "max_drawdown_pct": "Drawdown",
    "trading_hours": "Trading hours",
    "on_stop": "When stopped",
    "orphan_after": "Alone at most",
    "confidence_threshold": "Score needed",
    "signal_interval": "Decides every",
    "model_id": "Model",
    "rsi_period": "RSI period",
    "min_profit_pct": "Least profit to sell",
    "notify_start_stop": "Starts and stops",
    "notify_positions": "Positions",
    "notify_errors": "Errors and alerts",
    "notify_daily": "Daily summary",
}
# Rarely touched: folded away while they are as by default, as are those that are off.
_RARE: Final = {
    "entry_price",
    "entry_offset_ticks",
    "on_entry_timeout",
    "take_profit_order",
    "orphan_after",
    "cooldown",
}
_APPLIES: Final = {
    "now": ("badge-ok", "check", "now"),
    "next_position": ("", "flow", "next position"),
    "restart": ("badge-want", "restart", "restart"),
}
_UNITS: Final = {"fraction": "%", "positions": None, "model": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A model that a config can name, as the list shows it."""

    id: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One field. *value* is its text; *was* what is saved, if that differs; *newer* what somebody else saved."""

    name: str
    label: str
    kind: str
    value: str
    options: tuple[tuple[str, str], ...]
    unit: str | None
    help: str
    applies: str
    applies_css: str
    applies_icon: str
    applies_text: str
    depends: str | None
    was: str | None
    newer: str | None
    error: str | None
    is_folded: bool

    @property
    def is_changed(self) -> bool:
        """It differs from what is saved."""
        return self.was is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldGroup:
    """Fields that stand under one heading."""

    key: str
    title: str
    help: str
    fields: tuple[FormField, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigForm:
    """All fields: *groups* in sight, *folded* behind one line that says what they are."""

    groups: tuple[FieldGroup, ...]
    folded: tuple[FieldGroup, ...]

    @property
    def fields(self) -> tuple[FormField, ...]:
        """Every field in the order of the page."""
        return tuple(f for group in (*self.groups, *self.folded) for f in group.fields)

    @property
    def folded_fields(self) -> tuple[FormField, ...]:
        """Those behind the line."""
        return tuple(f for group in self.folded for f in group.fields)

    @property
    def changed(self) -> tuple[FormField, ...]:
        """Those that differ from what is saved."""
        return tuple(f for f in self.fields if f.is_changed)

    @property
    def wrong(self) -> tuple[FormField, ...]:
        """Those to correct; the first one gets the focus."""
        return tuple(f for f in self.fields if f.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadForm:
    """What was typed, as a whole config document; empty if there are *errors* (field → reason)."""

    document: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def config_form(
    strategy: StrategyDefinition,
    document: Mapping[str, Any],
    *,
    quote: str,
    models: Sequence[ModelChoice] = (),
    typed: Mapping[str, str] | None = None,
    saved: Mapping[str, Any] | None = None,
    newer: Mapping[str, Any] | None = None,
    errors: Mapping[str, str] | None = None,
) -> ConfigForm:
    """The form that shows *document*, or what was *typed* instead.

    *saved*: the config in force, for "was …"; *newer*: fields that somebody else changed meanwhile, with their values.
    """
    shown = [
        _field(strategy, p, document, quote, models, typed or {}, saved, newer or {}, errors or {})
        for p in strategy.parameters
    ]
    by_group = {p.name: p.group if p.group in _GROUPS else "signal" for p in strategy.parameters}

    def groups(folded: bool) -> tuple[FieldGroup, ...]:
        found = []
        for key, (title, text) in _GROUPS.items():
            fields = tuple(f for f in shown if by_group[f.name] == key and f.is_folded is folded)
            if fields:
                found.append(FieldGroup(key=key, title=title, help=text, fields=fields))
        return tuple(found)

    return ConfigForm(groups=groups(False), folded=groups(True))


def read_form(strategy: StrategyDefinition, form: Mapping[str, str], base: Mapping[str, Any] | None = None) -> ReadForm:
    """The config that *form* means, checked as a whole; what it leaves out is taken from *base*, else the default."""
    values: dict[str, Any] = {k: v for k, v in (base or {}).items() if k in strategy.config.model_fields}
    errors: dict[str, str] = {}
    for parameter in strategy.parameters:
        if parameter.name not in form:
            continue
        try:
            values[parameter.name] = _value(parameter, form[parameter.name].strip())
        except ValueError as error:
            errors[parameter.name] = str(error)
            values.pop(parameter.name, None)
    try:
        config = parse_config(strategy.config, values)
    except Refused as refusal:
        return ReadForm(errors={**{n: _in_percent(strategy, n, r, form) for n, r in refusal.fields.items()}, **errors})
    return ReadForm(errors=errors) if errors else ReadForm(document=config_document(config))


def value_text(parameter: Parameter | None, value: Any, quote: str = "") -> str:
    """A value of a document as people read it: ``0.35 %``, ``2,000 s``, ``off``. Without *parameter* as it is."""
    if value is None:
        return "off"
    if parameter is None:
        return str(value)
    if parameter.type == "model":
        return f"#{value}"
    if parameter.type == "boolean":
        return "yes" if value else "no"
    if parameter.type == "choice":
        return _choice_text(str(value))
    unit = quote if parameter.unit == "quote" else _UNITS.get(parameter.unit or "", parameter.unit)
    text = _number_text(parameter, value)
    text = f"{Decimal(text):,f}" if _AMOUNT.fullmatch(text) else text
    return f"{text} {unit}" if unit else text


def field_label(name: str) -> str:
    """What a field is called on pages."""
    if name in _LABELS:
        return _LABELS[name]
    words = name.removesuffix("_pct").replace("_", " ")
    return words[:1].upper() + words[1:]


# Showing


def _field(
    strategy: StrategyDefinition,
    parameter: Parameter,
    document: Mapping[str, Any],
    quote: str,
    models: Sequence[ModelChoice],
    typed: Mapping[str, str],
    saved: Mapping[str, Any] | None,
    newer: Mapping[str, Any],
    errors: Mapping[str, str],
) -> FormField:
    name = parameter.name
    held = document.get(name, parameter.default)
    text = typed.get(name, _input_text(parameter, held))
    was = _was(parameter, text, saved, quote)
    css, icon, words = _APPLIES.get(parameter.applies, _APPLIES["restart"])
    at_default = was is None and name not in errors and name not in newer and held == parameter.default
    is_rare = parameter.default is None or name in _RARE or parameter.group == "notifications"
    return FormField(
        name=name,
        label=field_label(name),
        kind={"choice": "choice", "model": "choice", "boolean": "boolean"}.get(parameter.type, "number"),
        value=text[:200],
        options=_options(parameter, models, text),
        unit=quote or "quote" if parameter.unit == "quote" else _UNITS.get(parameter.unit or "", parameter.unit),
        help=_help(strategy, parameter, text),
        applies=parameter.applies,
        applies_css=css,
        applies_icon=icon,
        applies_text=words,
        depends=_depends(parameter),
        was=was,
        newer=value_text(parameter, newer[name], quote) if name in newer else None,
        error=errors.get(name),
        is_folded=at_default and is_rare and parameter.type != "model",
    )


def _was(parameter: Parameter, text: str, saved: Mapping[str, Any] | None, quote: str) -> str | None:
    if saved is None:
        return None
    before = saved.get(parameter.name, parameter.default)
    try:
        same = _same(_value(parameter, text.strip()), _value(parameter, _input_text(parameter, before)))
    except ValueError:
        same = False
    return None if same else value_text(parameter, before, quote)


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None or isinstance(one, bool):
        return one is other
    if isinstance(one, str) and isinstance(other, str) and _AMOUNT.fullmatch(one) and _AMOUNT.fullmatch(other):
        return Decimal(one) == Decimal(other)
    return bool(one == other)


def _input_text(parameter: Parameter, value: Any) -> str:
    if value is None:
        return ""
    if parameter.type == "boolean":
        return "on" if value else "off"
    return _number_text(parameter, value) if parameter.type in ("ratio", "number") else str(value)


def _number_text(parameter: Parameter, value: Any) -> str:
    if parameter.type == "ratio":
        return plain(Decimal(str(value)).scaleb(2))
    if parameter.type == "number":
        return plain(Decimal(repr(float(value))))
    return str(value)


def _options(parameter: Parameter, models: Sequence[ModelChoice], chosen: str) -> tuple[tuple[str, str], ...]:
    if parameter.type == "choice":
        return tuple((choice, _choice_text(choice)) for choice in parameter.choices or ())
    if parameter.type != "model":
        return ()
    known = [(str(model.id), f"#{model.id} {model.label}") for model in models]
    if chosen and chosen not in {value for value, _ in known}:
        known.append((chosen, f"#{chosen}, no longer there"))
    return (("", "choose a model"), *known)


def _choice_text(choice: str) -> str:
    return choice.replace("_", " ")


def _help(strategy: StrategyDefinition, parameter: Parameter, text: str) -> str:
    words = [parameter.help]
    if parameter.type in ("money", "ratio", "number", "integer"):
        limits = _range(strategy, parameter)
        words.append(f"{limits[0].upper()}{limits[1:]}." if limits else "")
        if parameter.unit == "s" and text.isdecimal() and len(text) < 10 and int(text) >= 120:
            words.append(f"{text} s is {duration(int(text) * 1000)}.")
    return " ".join(word for word in words if word)


def _range(strategy: StrategyDefinition, parameter: Parameter) -> str:
    """The allowed range in the form's unit: ``above 0, at most 100 %``; limits that nobody meets are left out."""
    info = strategy.config.model_fields[parameter.name]
    words = []
    for rule in info.metadata:
        for kind, name, word in ((Ge, "ge", "from"), (Gt, "gt", "above"), (Le, "le", "to"), (Lt, "lt", "below")):
            if isinstance(rule, kind):
                limit = Decimal(str(getattr(rule, name)))
                if abs(limit) < _NO_LIMIT:
                    limit = limit.scaleb(2) if parameter.type == "ratio" else limit
                    words.append(f"{word} {Decimal(plain(limit)):,f}")
    text = " ".join(words) if len(words) > 1 and words[0].startswith("from") else ", ".join(words)
    return f"{text} %" if text and parameter.type == "ratio" else text


def _depends(parameter: Parameter) -> str | None:
    if not parameter.depends_on:
        return None
    return "; ".join(
        f"only with {field_label(name).lower()} {' or '.join(_choice_text(str(v)) for v in values)}"
        for name, values in parameter.depends_on.items()
    )


# Reading


def _value(parameter: Parameter, text: str) -> Any:
    """The document's value for *text*. Raises `ValueError` in words."""
    if parameter.type == "boolean":
        return text == "on"
    if text == "":
        if parameter.nullable:
            return None
        raise ValueError("Choose one." if parameter.type in ("choice", "model") else "Fill this in.")
    if parameter.type == "choice":
        return text
    if len(text) > _LONGEST:
        raise ValueError(f"Too long: at most {_LONGEST} characters.")
    text = text.replace("−", "-")
    if parameter.type in ("integer", "model"):
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"“{text}” is not a whole number.")
        return int(text)
    amount = _amount(text.removesuffix("%").rstrip() if parameter.type == "ratio" else text)
    if parameter.type == "ratio":
        return amount.scaleb(-2)
    return float(amount) if parameter.type == "number" else plain_kept(amount)


def plain_kept(amount: Decimal) -> str:
    """*amount* as it was typed, without an exponent: ``200.00`` stays ``200.00``."""
    return format(amount, "f")


def _amount(text: str) -> Decimal:
    if "," in text:
        raise ValueError(f"“{text}” has a comma. Write decimals with a point, and no commas between thousands.")
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"“{text}” is not a number.")
    amount = Decimal(text)
    if len(amount.as_tuple().digits) > _MOST_DIGITS:
        raise ValueError(f"Too many digits: at most {_MOST_DIGITS}.")
    return amount


def _in_percent(strategy: StrategyDefinition, name: str, reason: str, form: Mapping[str, str]) -> str:
    """*reason* in the form's words: ranges of ratios in percent."""
    parameter = next((p for p in strategy.parameters if p.name == name), None)
    if parameter is None or "out of range" not in reason:
        return reason[:1].upper() + reason[1:] + ("" if reason.endswith((".", "?")) else ".")
    given = form.get(name, "").strip().removesuffix("%").rstrip() + (" %" if parameter.type == "ratio" else "")
    return f"{given} is out of range: {_range(strategy, parameter)}."

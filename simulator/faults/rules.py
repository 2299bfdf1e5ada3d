"""How one field of a fault is described and checked.

A field is declared with ``text()``, ``name()``, ``choice()``, ``whole()``, ``number()``, ``flag()`` or ``decimal()``
where a kind is defined; the rule travels in the dataclass's metadata and serves the check at the door and the table of
kinds. Knows nothing of any particular kind.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, dataclass, field
from decimal import Decimal
from typing import Any

MAX_TEXT = 200
_DECIMAL = re.compile(r"^-?[0-9]{1,15}(\.[0-9]{1,8})?$")


class BadFault(ValueError):
    """The description of a fault cannot be used; the text says what and what to give instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a field takes. *type*: text, whole, number, flag or decimal (a text such as "-0.5"); *low* and *high*
    bound numbers, inclusive."""

    type: str
    help: str
    low: float = 0
    high: float = 0
    choices: tuple[str | int, ...] = ()
    upper: bool = False

    def read(self, name: str, value: object) -> object:
        """*value* as the field holds it; raises `BadFault`."""
        if self.choices and (isinstance(value, bool) or value not in self.choices):
            raise BadFault(f"{name} is {shown(value)}: give one of {', '.join(map(str, self.choices))}.")
        match self.type:
            case "text":
                if not isinstance(value, str) or len(value) > MAX_TEXT or not is_whole(value):
                    raise BadFault(f"{name} is {shown(value)}: give a text of at most {MAX_TEXT} characters.")
                if len(value) < self.low:
                    raise BadFault(f"{name} is empty: say {self.help}.")
                return value.upper() if self.upper else value
            case "whole":
                if isinstance(value, bool) or not isinstance(value, int) or not self._fits(value):
                    raise BadFault(
                        f"{name} is {shown(value)}: give a whole number from {self.low:.0f} to {self.high:.0f}."
                    )
                return value
            case "number":
                if isinstance(value, bool) or not isinstance(value, int | float) or not self._fits(value):
                    raise BadFault(f"{name} is {shown(value)}: give a number from {self.low:g} to {self.high:g}.")
                return float(value)
            case "flag":
                if not isinstance(value, bool):
                    raise BadFault(f"{name} is {shown(value)}: give true or false.")
                return value
        text = decimal_text(value)
        if text is None:
            raise BadFault(
                f'{name} is {shown(value)}: give a decimal of at most 15 digits and 8 places, such as "0.25".'
            )
        return text

    def _fits(self, value: float) -> bool:
        return self.low <= value <= self.high  # not a number fits nowhere


def decimal_text(value: object) -> str | None:
    """*value* (a text or a number) as a plain decimal text, or ``None`` when it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)
    return text if _DECIMAL.match(text) and not text.endswith("\n") else None


def is_whole(text: str) -> bool:
    """Are these all characters? JSON and YAML can hold half of one, which no page and no file can."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def shown(value: object) -> str:
    """*value* for a sentence, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def rule_of(described: Field[Any]) -> Rule:
    """The rule a field was declared with."""
    rule: Rule = described.metadata["rule"]
    return rule


def is_required(described: Field[Any]) -> bool:
    """A field without default must be given."""
    return described.default is MISSING


def text(help_text: str, default: Any = "", *, upper: bool = False) -> Any:
    """A text; *upper* makes it capitals."""
    return _declared(default, Rule(type="text", help=help_text, upper=upper))


def name(help_text: str, *, upper: bool = False) -> Any:
    """A text that must be given and says something."""
    return _declared(MISSING, Rule(type="text", help=help_text, upper=upper, low=1))


def choice(help_text: str, *choices: str | int, default: Any = MISSING) -> Any:
    """One of *choices*: all texts, or all whole numbers."""
    kind = "text" if isinstance(choices[0], str) else "whole"
    numbers = [float(c) for c in choices if isinstance(c, int)]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 0.0)
    return _declared(default, Rule(type=kind, help=help_text, choices=choices, low=low, high=high))


def whole(help_text: str, low: int, high: int, default: Any = MISSING) -> Any:
    """A whole number."""
    return _declared(default, Rule(type="whole", help=help_text, low=low, high=high))


def number(help_text: str, low: float, high: float, default: Any = MISSING) -> Any:
    """A number, with or without a fraction."""
    return _declared(default, Rule(type="number", help=help_text, low=low, high=high))


def flag(help_text: str, default: Any = MISSING) -> Any:
    """true or false."""
    return _declared(default, Rule(type="flag", help=help_text))


def decimal(help_text: str, default: Any = MISSING) -> Any:
    """An exact decimal, kept as text."""
    return _declared(default, Rule(type="decimal", help=help_text))


def _declared(default: Any, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule}) if default is not MISSING else field(metadata={"rule": rule})

"""Reading a YAML document strictly: what may be where, and a sentence where it is not.

A ``Node`` is a value with its path in the document (``faults[2].at``), so that every refusal names file, path, value
and remedy. Times stay texts, and a key given twice is an error instead of a silent last word.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from simulator.faults.rules import decimal_text, is_whole, shown

MAX_BYTES = 1 << 20
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class BadScenario(Exception):
    """The scenario cannot be played; the text says where and what to write instead."""


class _Loader(yaml.SafeLoader):
    """Plain data only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown(key)} stands there twice", key_node.start_mark
                )
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown(key)} is no text to name a field", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Node:
    """A value at *path* in *file*."""

    file: str
    path: str
    value: object

    def refuse(self, remedy: str) -> NoReturn:
        """Raise `BadScenario` about this value; *remedy* says what to give, without a full stop."""
        raise BadScenario(f"{self.file}: {self.path or 'the document'} is {shown(self.value)}: {remedy}.")

    def refuse_unseen(self, remedy: str) -> NoReturn:
        """`refuse` for a secret, which no error may show."""
        raise BadScenario(f"{self.file}: {self.path} cannot be used: {remedy}.")

    def fields(self, required: str = "", optional: str = "") -> dict[str, Node]:
        """The fields of a mapping by name; both lists are names parted by blanks."""
        needed, known = required.split(), [*required.split(), *optional.split()]
        if not isinstance(self.value, dict):
            self.refuse(f"give a mapping with {', '.join(known)}")
        for name in self.value:
            if name not in known:
                raise BadScenario(f"{self.file}: {self._at(name)} is not known: give {', '.join(known)}.")
        for name in needed:
            if name not in self.value:
                raise BadScenario(f"{self.file}: {self.path or 'the document'} lacks {name}: add it.")
        return {name: Node(self.file, self._at(name), value) for name, value in self.value.items()}

    def mapping(self, what: str) -> dict[str, Node]:
        """The entries of a mapping with any names."""
        if not isinstance(self.value, dict) or not self.value:
            self.refuse(f"give {what}")
        return {name: Node(self.file, self._at(name), value) for name, value in self.value.items()}

    def items(self) -> Iterator[Node]:
        """The elements of a list."""
        if not isinstance(self.value, list):
            self.refuse("give a list")
        for number, value in enumerate(self.value):
            yield Node(self.file, f"{self.path}[{number}]", value)

    def text(self, pattern_help: str, longest: int = 100) -> str:
        """A text that says something."""
        if not isinstance(self.value, str) or not 0 < len(self.value) <= longest or not is_whole(self.value):
            self.refuse(f"give {pattern_help}")
        return self.value

    def flag(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            self.refuse("give true or false")
        return self.value

    def whole(self, low: int, high: int) -> int:
        """A whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            self.refuse(f"give a whole number from {low} to {high}")
        return self.value

    def seconds_ms(self, low_ms: int, high_s: int) -> int:
        """Seconds, with or without a fraction, in milliseconds."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.refuse("give a number of seconds")
        if not low_ms <= round(value * 1000) <= high_s * 1000:
            self.refuse(f"give seconds from {low_ms / 1000:g} to {high_s}")
        return round(value * 1000)

    def decimal(self) -> str:
        """An exact decimal that is not negative, as text."""
        text = decimal_text(self.value)
        if text is None or text.startswith("-"):
            self.refuse('give a decimal of at most 15 digits and 8 places, such as "250.5"')
        return text

    def _at(self, name: object) -> str:
        return f"{self.path}.{name}" if self.path else str(name)


def load_document(path: Path) -> Node:
    """The YAML in *path*; raises `BadScenario`."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadScenario(f"Cannot read {path}: {error.strerror}. Give another --scenario.") from None
    if len(text) > MAX_BYTES:
        raise BadScenario(f"{path} is larger than {MAX_BYTES} bytes: repeat steps with every and times instead.")
    try:
        return Node(path.name, "", yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadScenario(f"{path.name}{where} is not readable: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else "it is nested too deeply"
        raise BadScenario(f"{path.name} is not readable: {reason.rstrip('.')}.") from None

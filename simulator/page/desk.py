"""The fault desk of the page: what its form shows of each kind of fault, and what a submitted form asks for.

Made from the table of kinds alone, so that a new kind has its form. Turns a form into the JSON object that
``POST /sim/faults`` takes, so that page and route refuse alike. Leaves out what faults do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulator.faults import KINDS, Kind
from simulator.faults.kinds import FieldHelp


@dataclass(frozen=True, slots=True)
class KindForm:
    """One kind as the form shows it: *usual* fields at once, *rare* ones on demand."""

    kind: Kind
    usual: tuple[FieldHelp, ...]
    rare: tuple[FieldHelp, ...]


def forms() -> list[KindForm]:
    """All kinds. A field is usual when it must be given, or when the kind's example gives it."""
    found = []
    for kind in KINDS.values():
        usual = tuple(field for field in kind.fields if field.required or field.name in kind.example)
        found.append(KindForm(kind, usual, tuple(field for field in kind.fields if field not in usual)))
    return found


def asked(form: Mapping[str, str]) -> dict[str, object]:
    """The JSON object that a submitted form stands for. Its fields are named ``kind.field``, and only those of the
    chosen kind count; what is empty is left out."""
    chosen = form.get("kind", "")
    types = {field.name: field.type for field in KINDS[chosen].fields} if chosen in KINDS else {}
    body: dict[str, object] = {"kind": chosen}
    for key, text in form.items():
        kind, _, name = key.partition(".")
        if kind == chosen and name and text.strip():
            body[name] = _value(types.get(name, "text"), text.strip())
    return body


def _value(type_name: str, text: str) -> object:
    """What JSON would have held; a text that is none of its type stays a text, for the check to refuse."""
    try:
        match type_name:
            case "whole":
                return int(text)
            case "number":
                return float(text)
            case "flag":
                return {"true": True, "false": False}.get(text, text)
    except ValueError:
        pass
    return text


def meets(row: Mapping[str, object]) -> list[tuple[str, object]]:
    """What a fault that is on (a row of ``GET /sim/faults``) was asked for beyond the defaults of its kind."""
    kind = KINDS[str(row["kind"])]
    return [
        (field.name, row[field.name])
        for field in kind.fields
        if field.name in row and field.name != "count" and row[field.name] != field.default
    ]

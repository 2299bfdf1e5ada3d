"""One JSON document as one line that any reader takes: no NaN, no broken characters, not too long."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Final

LONGEST_TEXT: Final = 2_000


def json_line(document: dict[str, Any], max_bytes: int) -> bytes:
    """*document* with a newline; where it would pass *max_bytes*, its long texts, which are for people, are cut.

    Numbers that JSON does not have become null.
    """
    line = _line(document)
    return line if len(line) <= max_bytes else _line(_with_texts_cut(document))


def _line(document: Any) -> bytes:
    try:
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode(errors="replace") + b"\n"


def _with_texts_cut(data: Any) -> Any:
    if isinstance(data, str):
        return data if len(data) <= LONGEST_TEXT else data[:LONGEST_TEXT] + " … (cut)"
    if isinstance(data, dict):
        return {key: _with_texts_cut(value) for key, value in data.items()}
    return [_with_texts_cut(value) for value in data] if isinstance(data, list) else data


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list) else data

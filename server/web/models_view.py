"""What the model pages show of a model: its check, its card, and two of them side by side. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from server.storage.times import iso

_TOP = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """One model as the list and its own page show it; texts of its card are "–" without one."""

    id: int
    name: str
    symbol: str
    sha256: str
    size: str
    trees: int
    features: int
    schema: str
    uploaded_by: str
    created_ms: int
    trained: str
    trained_more: str
    auc: str
    auc_share: float
    task: str
    users: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure of two models. *css* and *word* say whether the first is better."""

    name: str
    one: str
    other: str
    change: str
    css: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Share of splits that one feature decides, in each of the models, in percent."""

    name: str
    one: float
    other: float | None


def model_line(row: Row[Any], users: Sequence[tuple[int, str]]) -> ModelLine:
    """A model as pages show it."""
    card = row.card or {}
    train, score = _at(card, "split", "train"), _number(_at(card, "scores", "auc"))
    candles = _number(_at(card, "candles", "count"))
    return ModelLine(
        id=row.id,
        name=row.name,
        symbol=row.symbol,
        sha256=row.sha256,
        size=size_text(row.size_bytes),
        trees=row.trees,
        features=len(row.features),
        schema=row.schema_version,
        uploaded_by=row.uploaded_by,
        created_ms=row.created_ms,
        trained=_span(train),
        trained_more=f"{int(candles):,} candles" if candles else "no card was uploaded",
        auc="–" if score is None else f"{score:.3f}",
        auc_share=0.0 if score is None else round(min(1.0, max(0.0, (score - 0.5) * 2)) * 60, 1),
        task=_task(card.get("task")),
        users=tuple(users),
    )


def card_facts(card: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The card in words: ``(name, value)``; empty without a card."""
    if not card:
        return []
    found = [
        ("Market", str(card.get("symbol", "–"))),
        ("Aim", _task(card.get("task"))),
        ("Trained on", _span(_at(card, "split", "train"))),
        ("Scored on, unseen", _span(_at(card, "split", "test"))),
        ("Left out between", f"{_at(card, 'split', 'purged_s')} s"),
    ]
    for name, key in (("AUC, unseen", "scores"), ("AUC, seen", "scores_in_sample")):
        value = _number(_at(card, key, "auc"))
        found.append((name, "–" if value is None else f"{value:.3f}"))
    rows = [(name, _number(_at(card, "scores", key))) for name, key in _SCORES]
    found += [(name, f"{value:.4f}") for name, value in rows if value is not None]
    return found


_SCORES = (
    ("Log loss, unseen", "logloss"),
    ("Log loss without a model", "logloss_base_rate"),
    ("Base rate", "base_rate"),
)


def hit_rates(card: Mapping[str, Any] | None) -> list[tuple[str, str, str, str]]:
    """``(threshold, decisions, share, hit rate)`` of unseen data, where there were decisions."""
    rows = _at(card or {}, "scores", "hit_rates")
    found = []
    for row in rows if isinstance(rows, list) else ():
        numbers = [_number(_at(row, key)) for key in ("threshold", "decisions", "share", "hit_rate")]
        if None not in numbers and numbers[1]:
            threshold, decisions, share, rate = (float(n or 0) for n in numbers)
            found.append((f"{threshold:.2f}", f"{decisions:,.0f}", f"{share:.1%}", f"{rate:.1%}"))
    return found


def compared(one: Row[Any], other: Row[Any]) -> list[Measure]:
    """Two models measure by measure."""
    found = []
    for name, path, decimals, more_is_better in (
        ("AUC, unseen", ("scores", "auc"), 3, True),
        ("AUC, seen", ("scores_in_sample", "auc"), 3, None),
        ("Log loss, unseen", ("scores", "logloss"), 4, False),
        ("Base rate", ("scores", "base_rate"), 3, None),
        ("Decisions scored", ("scores", "rows"), 0, None),
    ):
        values = [_number(_at(row.card or {}, *path)) for row in (one, other)]
        judged = more_is_better if one.symbol == other.symbol else None  # of two markets, neither is better
        found.append(_measure(name, values[0], values[1], decimals, judged))
    found.append(_measure("Trees", one.trees, other.trees, 0, None))
    found.append(_measure("Size, kB", one.size_bytes / 1000, other.size_bytes / 1000, 0, None))
    return found


def shares(one: Mapping[str, int], other: Mapping[str, int] | None = None) -> list[Importance]:
    """The features that decide most in the first model, with their share in both."""
    total, total_other = sum(one.values()) or 1, sum((other or {}).values()) or 1
    top = sorted(one.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    return [
        Importance(
            name=name,
            one=round(count / total * 100, 1),
            other=None if other is None else round(other.get(name, 0) / total_other * 100, 1),
        )
        for name, count in top
    ]


def size_text(size: int) -> str:
    """``283 kB``, ``1.2 MB``."""
    return f"{size / 1_000_000:.1f} MB" if size >= 1_000_000 else f"{max(1, round(size / 1000))} kB"


def _measure(name: str, one: float | None, other: float | None, decimals: int, more_is_better: bool | None) -> Measure:
    shown = ["–" if value is None else f"{value:,.{decimals}f}" for value in (one, other)]
    change, css = "–", "muted"
    if one is not None and other is not None:
        difference = one - other
        sign = "+" if difference > 0 else "−" if difference < 0 else ""
        change = f"{sign}{abs(difference):,.{decimals}f}"
        if more_is_better is not None and round(difference, decimals):
            is_better = (difference > 0) is more_is_better
            change, css = f"{change} {'better' if is_better else 'worse'}", "up" if is_better else "down"
    return Measure(name=name, one=shown[0], other=shown[1], change=change, css=css)


def _at(document: Any, *path: str) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None


def _span(span: Any) -> str:
    first, last = (_number(_at(span, key)) for key in ("first_ms", "last_ms"))
    if first is None or last is None or not 0 <= first <= last < 2**42:
        return "–"
    texts = [str(iso(int(ms)))[:16].replace("T", " ") for ms in (first, last)]
    return f"{texts[0]} – {texts[1][11:] if texts[0][:10] == texts[1][:10] else texts[1]} UTC"


def _task(task: Any) -> str:
    horizon, target, stop = (_number(_at(task, key)) for key in ("horizon", "target", "stop"))
    if horizon is None or target is None or stop is None:
        return "–"
    return f"+{target * 100:g} % within {horizon:g} s, before −{stop * 100:g} %"

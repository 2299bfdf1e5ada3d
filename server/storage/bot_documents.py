"""The nested bot document that users bring along and take away: read it, write it. Pure; nothing is stored here.

Percent there, fractions here, in the part ``risk_management``; elsewhere names and values are those of the flat config.
What no field of ours means is refused by its path, never dropped. `id`, `enabled` and `broker.name` are labels of the
system that a document comes from; an imported bot is always stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from shared.config import TradingConfig
from shared.errors import Refused
from shared.units import plain

_LABELS = {("id",), ("enabled",), ("broker", "name")}
_BOT_FIELDS = {
    ("name",): "name",
    ("description",): "description",
    ("symbol",): "symbol",
    ("tags",): "tags",
    ("broker", "type"): "exchange",
    ("broker", "trading_mode"): "mode",
    ("strategy", "type"): "strategy",
    ("data", "interval"): "interval",
}
_RISK_NAMES = {"take_profit_pct": "profit_target_pct"}
_RISK = ("max_position_size", "stop_loss_pct", "profit_target_pct", "max_daily_loss", "max_daily_trades")
_NOTICES = {
    "positions": "notify_positions",
    "position_opened": "notify_positions",
    "position_closed": "notify_positions",
    "errors": "notify_errors",
    "error_notifications": "notify_errors",
    "start_stop": "notify_start_stop",
    "daily": "notify_daily",
    "performance_summaries": "notify_daily",
}
_DAILY = {"daily": True, "none": False, True: True, False: False}


@dataclass
class Reading:
    """A document on its way into a bot: its fields, its flat config, and which path of the document each came from."""

    fields: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    source: Any = None
    """Where its market data come from, if it says so."""

    def path_of(self, name: str) -> str:
        """Where in the document the bot's field or ``config.<field>`` stands."""
        return self.paths.get(name, name)


def read_document(document: Mapping[str, Any]) -> Reading:
    """What *document* says. Raises `Refused` that names each path with no meaning here."""
    reading = Reading()
    for path, value in _leaves(document):
        _take(reading, path, value)
    for name in ("name", "symbol", "exchange", "mode", "strategy"):
        if name not in reading.fields:
            where = next(".".join(path) for path, known in _BOT_FIELDS.items() if known == name)
            reading.wrong.setdefault(where, "is required")
    exchange = reading.fields.get("exchange")
    if reading.source is not None and reading.source != exchange:
        reading.wrong["data.data_source"] = f"must be {exchange}, where the bot trades"
    if reading.wrong:
        raise Refused(f"The document has {len(reading.wrong)} field(s) that cannot be taken.", fields=reading.wrong)
    return reading


def write_document(bot: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """*bot* and its flat *config* as one nested document, which `read_document` takes back without a difference."""
    common = set(TradingConfig.model_fields)
    risk = {name: config[name] for name in _RISK if name in config}
    notices = {name: config[known] for name, known in _NOTICES.items() if known == f"notify_{name}" and known in config}
    placed = {*risk, *(f"notify_{name}" for name in notices)}
    return {
        "name": bot["name"],
        "description": bot["description"],
        "symbol": bot["symbol"],
        "tags": list(bot["tags"]),
        "broker": {"type": bot["exchange"], "trading_mode": bot["mode"]},
        "strategy": {
            "type": bot["strategy"],
            "parameters": {name: value for name, value in config.items() if name not in common},
        },
        "data": {"interval": bot["interval"]},
        "trading": {name: value for name, value in config.items() if name in common - placed},
        "risk_management": {name: _in_percent(name, value) for name, value in risk.items()},
        "notifications": notices,
    }


def _leaves(document: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in document.items():
        path = (*above, name)
        if isinstance(value, Mapping) and (len(path) == 1 or path == ("strategy", "parameters")):
            yield from _leaves(value, path)
        else:
            yield path, value


def _take(reading: Reading, path: tuple[str, ...], value: Any) -> None:
    text = ".".join(path)
    if path in _LABELS:
        return
    if path in _BOT_FIELDS:
        reading.fields[_BOT_FIELDS[path]] = value
        reading.paths[_BOT_FIELDS[path]] = text
        return
    taker = _PARTS.get(path[:-1])
    if taker is None:
        reading.wrong[text] = "has no meaning here; take it out"
        return
    taker(reading, path[-1], value, text)


def _parameter(reading: Reading, name: str, value: Any, path: str) -> None:
    _set(reading, name, value, path)


def _trading(reading: Reading, name: str, value: Any, path: str) -> None:
    if name in TradingConfig.model_fields:
        _set(reading, name, value, path)
    else:
        reading.wrong[path] = "is no field of the trading config; take it out"


def _risk(reading: Reading, name: str, value: Any, path: str) -> None:
    known = _RISK_NAMES.get(name, name)
    if known not in TradingConfig.model_fields:
        reading.wrong[path] = "is no limit that bots have; take it out"
    elif known.endswith("_pct") and value is not None:
        try:
            _set(reading, known, float(Decimal(str(value)) / 100), path)
        except InvalidOperation:
            reading.wrong[path] = "must be a number of percent"
    else:
        _set(reading, known, value, path)


def _notice(reading: Reading, name: str, value: Any, path: str) -> None:
    known = _NOTICES.get(name)
    if known is None:
        reading.wrong[path] = "is no notice of a bot; channels are set up for all bots together"
        return
    if known == "notify_daily":
        if not isinstance(value, bool | str) or value not in _DAILY:
            reading.wrong[path] = "must be true, false, daily or none"
            return
        value = _DAILY[value]
    _set(reading, known, value, path)


def _source(reading: Reading, name: str, value: Any, path: str) -> None:
    if name != "data_source":
        reading.wrong[path] = "has no meaning here; take it out"
    else:
        reading.source = value


def _set(reading: Reading, name: str, value: Any, path: str) -> None:
    if name in reading.config and reading.config[name] != value:
        reading.wrong[path] = f"contradicts {reading.path_of(f'config.{name}')}"
        return
    reading.config[name] = value
    reading.paths[f"config.{name}"] = path


_PARTS: dict[tuple[str, ...], Callable[[Reading, str, Any, str], None]] = {
    ("strategy", "parameters"): _parameter,
    ("trading",): _trading,
    ("risk_management",): _risk,
    ("notifications",): _notice,
    ("data",): _source,
}


def _in_percent(name: str, value: Any) -> Any:
    if value is None or not name.endswith("_pct"):
        return value
    return float(plain(Decimal(str(value)) * 100))

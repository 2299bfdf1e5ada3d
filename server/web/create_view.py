"""What the steps of *Create bot* show, and what was typed into them means. Pure: the views read and write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from server.storage.fleet import place_problems
from server.web.config_form import read_form
from server.web.formats import Pnl, duration, pnl, split_symbol
from shared.strategy_spec import StrategyDefinition
from shared.symbols import SymbolRules
from shared.units import ZERO, plain

STEPS: Final = {"strategy": "Strategy", "market": "Market and budget", "parameters": "Parameters", "review": "Review"}
MARKET_FIELDS: Final = ("name", "place", "symbol", "interval", "credential_id", "tags", "description")
BUDGET_FIELDS: Final = ("capital_per_trade", "max_positions")
LONGEST_TYPED: Final = 4_000
FEE: Final = Decimal("0.001")  # a side, what takers pay at the usual exchanges
_UNPRINTABLE = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f�]")
_SYMBOL = re.compile(r"[A-Z0-9]{5,20}")
_PICTURES = {
    "lightgbm_scalper": (
        "M2 24l12-6 10 5 12-9 10 8 12-10 12 9 10-5 12 8 12-12 12 7 12-9 12 10 12-8 12 6 12-9 12 7 8-4",
        "M58 14v-8M106 10v-7M154 14v-8",
    ),
    "rsi": ("M2 8h196M2 32h196", "M2 20c15 0 20-14 40-14s25 28 45 28 25-26 45-26 25 26 40 26 16-10 26-12"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a bot can trade; *why_not* is the server's reason if it cannot today."""

    value: str
    title: str
    text: str
    why_not: str | None

    @property
    def exchange(self) -> str:
        """The exchange's name."""
        return self.value.partition(":")[0]

    @property
    def mode(self) -> str:
        """trade or paper."""
        return self.value.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyCard:
    """A strategy as people choose it. *lead* is its first sentence; *line* and *hint* draw its picture."""

    id: str
    name: str
    lead: str
    text: str
    risk: str
    facts: str
    line: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the row on top."""

    key: str
    title: str
    text: str
    is_done: bool
    is_here: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMarket:
    """What was typed into *Market and budget*: the bot's fields, and what is wrong (field → reason)."""

    fields: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """What a config can cost, in the quote asset. Amounts are texts; None where there is no limit."""

    tied_up: str
    sum: str
    loss: Pnl | None
    loss_pct: str | None
    daily: str
    stop: str
    warnings: tuple[str, ...]


def places() -> tuple[Place, ...]:
    """All places, the safest first."""
    texts = {
        "simulator:trade": ("Simulator", "A market made on this machine. Play money, real orders."),
        "binance:paper": ("Paper", "Live prices of Binance, simulated orders. No real money."),
        "binance_testnet:trade": ("Testnet", "Binance’s test network. No real money."),
        "binance:trade": ("Live", "Real money on Binance."),
    }
    found = []
    for value, (title, text) in texts.items():
        exchange, _, mode = value.partition(":")
        problems = place_problems(exchange, mode)
        found.append(Place(value=value, title=title, text=text, why_not=next(iter(problems.values()), None)))
    return tuple(found)


def place(value: str | None) -> Place:
    """The place with this value; the simulator if there is none."""
    known = places()
    return next((p for p in known if p.value == value), known[0])


def card(strategy: StrategyDefinition) -> StrategyCard:
    """A strategy's card."""
    lead, _, rest = strategy.description.partition(". ")
    risk = strategy.risk_note.partition(": ")[0].partition(". ")[0]
    line, hint = _PICTURES.get(strategy.id, ("M2 32 40 22 80 26 120 12 160 18 198 6", ""))
    needs = "needs a model" if strategy.needs_model else "needs no model"
    return StrategyCard(
        id=strategy.id,
        name=strategy.name,
        lead=f"{lead.rstrip('.')}.",
        text=rest,
        risk=risk.rstrip("."),
        facts=f"{' · '.join(strategy.intervals[:6])} · {needs}",
        line=line,
        hint=hint,
    )


def steps(here: str, strategy: StrategyDefinition | None, typed: Mapping[str, Any], complete: set[str]) -> list[Step]:
    """The row on top; *complete* are the steps that are right as they are."""
    market: Mapping[str, str] = typed.get("market", {})
    words = {
        "strategy": strategy.name if strategy else "what decides",
        "market": " · ".join(filter(None, [market.get("symbol"), place(market.get("place")).title.lower()])),
        "parameters": f"{len(strategy.parameters)} fields" if strategy else "all fields have defaults",
        "review": "worst case, JSON",
    }
    return [
        Step(key=key, title=title, text=words[key], is_done=key in complete and key != here, is_here=key == here)
        for key, title in STEPS.items()
    ]


def cleaned(form: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """What was typed into these fields, as it can be stored: cut when absurdly long, NUL shown as �."""
    return {n: _UNPRINTABLE.sub("�", form[n])[:LONGEST_TYPED] for n in names if n in form}


def read_market(
    strategy: StrategyDefinition, typed: Mapping[str, Any], symbols: Sequence[SymbolRules] | None
) -> ReadMarket:
    """What the second step means. *symbols*: what the exchange lists; None if it does not answer."""
    market: Mapping[str, str] = typed.get("market", {})
    errors: dict[str, str] = {}
    chosen = place(market.get("place"))
    if chosen.why_not:
        errors["place"] = f"{chosen.title}: {chosen.why_not}."
    name, symbol = market.get("name", "").strip(), market.get("symbol", "").strip().upper()
    errors |= _named("name", _name_problem(name)) | _named("symbol", _symbol_problem(symbol, symbols))
    interval = market.get("interval") or strategy.intervals[0]
    if interval not in strategy.intervals:
        errors["interval"] = f"{strategy.name} runs on {', '.join(strategy.intervals)}."
    description = market.get("description", "").strip()
    if len(description) > 2000:
        errors["description"] = f"At most 2,000 characters; these are {len(description):,}."
    tags = list(dict.fromkeys(filter(None, (tag.strip() for tag in market.get("tags", "").split(",")))))
    errors |= _named("tags", _tags_problem(tags))
    credential = market.get("credential_id", "")
    if credential and not (credential.isascii() and credential.isdigit() and 0 < int(credential[:12]) < 2**31):
        errors["credential_id"] = "Choose one of the list."
    errors |= _budget_problems(strategy, typed, symbol, symbols)
    fields = {
        "name": name,
        "symbol": symbol,
        "exchange": chosen.exchange,
        "mode": chosen.mode,
        "interval": interval,
        "description": description,
        "tags": tags,
        "credential_id": int(credential[:12]) if credential and "credential_id" not in errors else None,
    }
    return ReadMarket(fields=fields, errors=errors)


def rules_in(symbols: Sequence[SymbolRules] | None, symbol: str) -> SymbolRules | None:
    """The rules of *symbol*, if the exchange lists it."""
    return next((rules for rules in symbols or () if rules.symbol == symbol.strip().upper()), None)


def quote_of(symbols: Sequence[SymbolRules] | None, symbol: str) -> str:
    """The quote asset of *symbol*, as the exchange says or else as a person reads it."""
    rules = rules_in(symbols, symbol)
    return rules.quote if rules else split_symbol(symbol.strip().upper())[1]


def worst_case(config: Mapping[str, Any], quote: str) -> WorstCase:
    """What *config* can tie up and lose: positions × size, and the loss if all of them end at their stop, with fees."""
    size = Decimal(str(config["capital_per_trade"]))
    if config.get("max_position_size") is not None:
        size = min(size, Decimal(str(config["max_position_size"])))
    positions = int(config["max_positions"])
    stop = None if config.get("stop_loss_pct") is None else Decimal(str(config["stop_loss_pct"]))
    one = None if stop is None else size * (stop + FEE + (1 - stop) * FEE)
    daily = config.get("max_daily_loss")
    warnings = []
    if stop is None:
        warnings.append("There is no stop loss: a position can lose all of its size.")
    if daily is None:
        warnings.append("There is no daily loss limit: it may lose at its stop again and again on one day.")
    target = config.get("profit_target_pct")
    if target is not None and Decimal(str(target)) <= 2 * FEE:
        percent = plain(Decimal(str(target)).scaleb(2))
        warnings.append(f"The profit target of {percent} % is not above the usual fees of {_percent(2 * FEE)} %.")
    return WorstCase(
        tied_up=amount(size * positions),
        sum=f"{positions} position{'' if positions == 1 else 's'} × {amount(size)} {quote}".strip(),
        loss=None if one is None else pnl(-one * positions),
        loss_pct=None if one is None else f"{one / size * 100:.2f} %",
        daily="off" if daily is None else f"{amount(Decimal(str(daily)))} {quote}".strip(),
        stop=_stop_text(config),
        warnings=tuple(warnings),
    )


def amount(value: Decimal) -> str:
    """An amount without a sign: ``1,500.00``."""
    text = plain(value)
    decimals = max(2, len(text.partition(".")[2]))
    return f"{value:,.{min(decimals, 8)}f}"


def model_warning(model_symbol: str | None, symbol: str) -> str | None:
    """A word of warning if a model was trained on another market than the bot's."""
    if model_symbol is None or not symbol or model_symbol == symbol:
        return None
    return f"The model was trained on {model_symbol}, this bot trades {symbol}. What it learned may not hold there."


def _stop_text(config: Mapping[str, Any]) -> str:
    if config.get("on_stop") == "hold":
        return "It leaves its positions as they are; they have no stop until it runs again."
    held = config.get("holding_time")
    most = f" While it runs, none is held longer than {duration(int(held) * 1000)}." if held else ""
    return f"It cancels its orders and sells what it holds at market.{most}"


def _named(name: str, problem: str | None) -> dict[str, str]:
    return {name: problem} if problem else {}


def _name_problem(name: str) -> str | None:
    if not name:
        return "Give it a name, such as eth-rsi."
    if len(name) > 100:
        return f"At most 100 characters; these are {len(name):,}."
    return "Holds characters that cannot be shown." if _CONTROL.search(name) else None


def _symbol_problem(symbol: str, symbols: Sequence[SymbolRules] | None) -> str | None:
    if not symbol:
        return "Choose a market."
    if not _SYMBOL.fullmatch(symbol):
        return "Write it as the exchange does, such as ETHUSDC."
    if symbols is not None and rules_in(symbols, symbol) is None:
        near = difflib.get_close_matches(symbol, [rules.symbol for rules in symbols], n=3)
        return f"The exchange lists no {symbol}. " + (
            f"Near: {', '.join(near)}." if near else "Choose one of the list."
        )
    return None


def _tags_problem(tags: Sequence[str]) -> str | None:
    if len(tags) > 20:
        return f"At most 20 tags; these are {len(tags)}."
    if any(len(tag) > 40 for tag in tags):
        return "A tag may have at most 40 characters."
    return None


def _budget_problems(
    strategy: StrategyDefinition, typed: Mapping[str, Any], symbol: str, symbols: Sequence[SymbolRules] | None
) -> dict[str, str]:
    read = read_form(strategy, {n: t for n, t in typed.get("parameters", {}).items() if n in BUDGET_FIELDS})
    wrong = {name: reason for name, reason in read.errors.items() if name in BUDGET_FIELDS}
    rules = rules_in(symbols, symbol)
    if not wrong and rules is not None:
        size = Decimal(str(read.document["capital_per_trade"]))
        if ZERO < size < rules.min_notional:
            least = f"{amount(rules.min_notional)} {rules.quote}"
            wrong["capital_per_trade"] = f"Below the exchange’s minimum: an order must be worth {least} or more."
    return wrong


def _percent(fraction: Decimal) -> str:
    return plain((fraction * 100).normalize())

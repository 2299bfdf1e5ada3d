"""How a draft is shown, step by step, and what it means: as a bot, or as what is still wrong with it."""

from __future__ import annotations

import json
from typing import Any

from flask import g, render_template
from sqlalchemy import Connection, Row, select
from werkzeug.exceptions import NotFound as NoSuchPage

from server.api.market import market
from server.api.wire import caller, engine
from server.market import ExchangeSilent
from server.security.roles import Role
from server.storage import drafts, fleet, model_files, queries
from server.storage.engine import read
from server.storage.models import Credential
from server.storage.strategies import definition, definitions
from server.web.config_form import ModelChoice, config_form, field_label, read_form, value_text
from server.web.create_view import (
    BUDGET_FIELDS,
    MARKET_FIELDS,
    ReadMarket,
    amount,
    card,
    model_warning,
    place,
    places,
    quote_of,
    read_market,
    rules_in,
    steps,
    worst_case,
)
from server.web.formats import price
from server.web.shell import bot_ribbon
from shared.config import config_document
from shared.errors import NotFound, Refused
from shared.strategy_spec import StrategyDefinition
from shared.symbols import SymbolRules


def show(step: str, row: Row[Any], errors: dict[str, str]) -> str:
    document = row.document
    chosen = place(document["market"].get("place"))
    g.ribbon = bot_ribbon(chosen.exchange, chosen.mode)
    if step == "strategy":
        return show_strategy(row, document)
    draw = {"market": _show_market, "parameters": _show_parameters, "review": _show_review}[step]
    return draw(row, document, errors)


def show_strategy(
    row: Row[Any] | None,
    document: dict[str, Any],
    *,
    copied: Row[Any] | dict[str, Any] | None = None,
    unfinished: list[dict[str, Any]] | None = None,
    error: str | None = None,
) -> str:
    return render_template(
        "create_strategy.html",
        **_frame_of("strategy", row, document),
        cards=[card(strategy) for _, strategy in sorted(definitions().items())],
        copied=copied,
        unfinished=unfinished or [],
        error=error,
    )


def _show_market(row: Row[Any], document: dict[str, Any], errors: dict[str, str]) -> str:
    strategy = definition(document["strategy"])
    typed = document["market"]
    chosen, symbols = place(typed.get("place")), symbols_at(typed.get("place"))
    rules = rules_in(symbols, typed.get("symbol", ""))
    quote = quote_of(symbols, typed.get("symbol", ""))
    form = config_form(strategy, {}, quote=quote, typed=document["parameters"], errors=errors)
    read_budget = read_form(strategy, document["parameters"])
    with read(engine()) as connection:
        accounts = _accounts(connection, chosen.exchange)
    return render_template(
        "create_market.html",
        **_frame_of("market", row, document),
        typed={"interval": strategy.intervals[0], "place": chosen.value} | typed,
        places=places(),
        intervals=strategy.intervals,
        symbols=symbols,
        rules=rules,
        price_now=_price(chosen.exchange, rules),
        budget=[f for f in form.fields if f.name in BUDGET_FIELDS],
        worst=worst_case(read_budget.document, quote) if read_budget.document else None,
        quote=quote,
        accounts=accounts,
        may_make_account=caller().role == Role.ADMIN,
        errors=errors,
        first_wrong=next((n for n in (*MARKET_FIELDS[:3], *BUDGET_FIELDS, *MARKET_FIELDS) if n in errors), None),
        amount=amount,
    )


def _show_parameters(row: Row[Any], document: dict[str, Any], errors: dict[str, str]) -> str:
    strategy = definition(document["strategy"])
    symbols = symbols_at(document["market"].get("place"))
    symbol = document["market"].get("symbol", "").strip().upper()
    quote = quote_of(symbols, symbol)
    with read(engine()) as connection:
        models = _models(connection, symbol)
    read_now = read_form(strategy, document["parameters"])
    form = config_form(strategy, {}, quote=quote, models=models, typed=document["parameters"], errors=errors)
    return render_template(
        "create_parameters.html",
        **_frame_of("parameters", row, document),
        form=form,
        rules=rules_in(symbols, symbol),
        quote=quote,
        worst=worst_case(read_now.document, quote) if read_now.document else None,
        warning=_model_warning(read_now.document, symbol),
        lacks_model=strategy.needs_model and not models,
        amount=amount,
    )


def _show_review(row: Row[Any], document: dict[str, Any], _errors: dict[str, str]) -> str:
    strategy = definition(document["strategy"])
    problems = {step: problems_of(document, step) for step in ("market", "parameters")}
    worst = body = None
    changed: list[tuple[str, str, str]] = []
    warnings: list[str] = []
    if not any(problems.values()):
        body = body_of(document)
        quote = quote_of(symbols_at(document["market"].get("place")), body["symbol"])
        worst = worst_case(body["config"], quote)
        changed = _changed(strategy, body["config"], quote)
        warnings = [*filter(None, [_model_warning(body["config"], body["symbol"])]), *worst.warnings]
    return render_template(
        "create_review.html",
        **_frame_of("review", row, document),
        problems={
            step: {field_label(name): reason for name, reason in found.items()}
            for step, found in problems.items()
            if found
        },
        body=body,
        text=json.dumps(body, indent=2, ensure_ascii=False) if body else "",
        place=place(document["market"].get("place")),
        account=_account_name(body),
        worst=worst,
        changed=changed,
        warnings=warnings,
        quote=quote_of(None, body["symbol"]) if body else "",
    )


def _frame_of(here: str, row: Row[Any] | None, document: dict[str, Any]) -> dict[str, Any]:
    strategy = definitions().get(document.get("strategy") or "")
    complete = {"strategy"} if strategy else set()
    if row is not None:
        complete |= {step for step in ("market", "parameters") if not problems_of(document, step)}
    return {
        "draft_id": None if row is None else row.id,
        "saved_ms": None if row is None else row.updated_ms,
        "strategy": strategy,
        "here": here,
        "steps": steps(here, strategy, document, complete),
    }


# Meaning


def problems_of(document: dict[str, Any], step: str) -> dict[str, str]:
    """What is wrong in a step as it was typed: field → reason."""
    strategy = definitions().get(document["strategy"])
    if strategy is None:
        return {"strategy": "Choose one."}
    if step == "market":
        found = _market_of(strategy, document)
        errors = dict(found.errors)
        if found.fields["credential_id"] is not None and "place" not in errors:
            with read(engine()) as connection:
                problem = fleet.credential_problem(connection, found.fields["credential_id"], found.fields["exchange"])
            errors |= {"credential_id": problem} if problem else {}
        return errors
    if step == "parameters":
        return _parameter_problems(strategy, document)
    return {}


def _parameter_problems(strategy: StrategyDefinition, document: dict[str, Any]) -> dict[str, str]:
    found = read_form(strategy, document["parameters"])
    if not found.errors and strategy.needs_model:
        model_id = found.document.get("model_id")
        if model_id is None:
            return {"model_id": "Choose the model that decides."}
        if _model(model_id) is None:
            return {"model_id": f"Model {model_id} is not there any more. Choose another one."}
    return found.errors


def _market_of(strategy: StrategyDefinition, document: dict[str, Any]) -> ReadMarket:
    return read_market(strategy, document, symbols_at(document["market"].get("place")))


def body_of(document: dict[str, Any]) -> dict[str, Any]:
    """The draft as ``POST /api/bots`` takes it. Raises `Refused`."""
    strategy = definition(document["strategy"])
    found, config = _market_of(strategy, document), read_form(strategy, document["parameters"])
    if found.errors or config.errors:
        raise Refused("Something in an earlier step is not right.", fields=found.errors | config.errors)
    return {"name": found.fields["name"], "strategy": strategy.id, **found.fields, "config": config.document}


def _changed(strategy: StrategyDefinition, config: dict[str, Any], quote: str) -> list[tuple[str, str, str]]:
    """What differs from the defaults: ``(label, value, default)``."""
    form = config_form(strategy, config, quote=quote)
    labels = {f.name: f.label for f in form.fields}
    plain_config = config_document(strategy.config())
    return [
        (labels[p.name], value_text(p, config.get(p.name), quote), value_text(p, plain_config.get(p.name), quote))
        for p in strategy.parameters
        if value_text(p, config.get(p.name), quote) != value_text(p, plain_config.get(p.name), quote)
    ]


# Reading


def draft_of(draft_id: str) -> Row[Any]:
    with read(engine()) as connection:
        return drafts.draft_row(connection, caller().owner, draft_id[:100])


def draft_line(row: Row[Any]) -> dict[str, Any]:
    typed, strategy = row.document.get("market", {}), definitions().get(row.document.get("strategy", ""))
    words = [typed.get("name", "").strip(), strategy.name if strategy else "", typed.get("symbol", "").strip().upper()]
    return {"id": row.id, "text": " · ".join(filter(None, words))[:120], "saved_ms": row.updated_ms}


def copied_bot(bot_id: str) -> dict[str, Any] | None:
    """The bot that a new one is to be like, with its config. Raises `NoSuchPage`."""
    if not bot_id:
        return None
    if not (bot_id.isascii() and bot_id.isdigit() and len(bot_id) < 10):
        raise NoSuchPage
    with read(engine()) as connection:
        bot = queries.bot_row(connection, int(bot_id))
        return {**bot._asdict(), "config": queries.config_of(connection, bot.id, bot.config_version)}


def typed_like(bot: dict[str, Any]) -> dict[str, Any]:
    """What would have been typed to get *bot*."""
    form = config_form(definition(bot["strategy"]), bot["config"], quote="")
    return {
        "market": {
            "name": f"{bot['name'][:93]} copy",
            "place": f"{bot['exchange']}:{bot['mode']}",
            "symbol": bot["symbol"],
            "interval": bot["interval"],
            "tags": ", ".join(bot["tags"]),
            "description": bot["description"],
            "credential_id": str(bot["credential_id"] or ""),
        },
        "parameters": {f.name: f.value for f in form.fields},
    }


def symbols_at(value: str | None) -> tuple[SymbolRules, ...] | None:
    try:
        return market().symbols(place(value).exchange) if place(value).why_not is None else ()
    except ExchangeSilent:
        return None


def _price(exchange: str, rules: SymbolRules | None) -> str | None:
    try:
        return None if rules is None else price(market().price(exchange, rules.symbol))
    except (ExchangeSilent, NotFound):
        return None


def _accounts(connection: Connection, exchange: str) -> list[Row[Any]]:
    columns = select(Credential.id, Credential.name, Credential.api_key_last4)
    return list(connection.execute(columns.where(Credential.exchange == exchange).order_by(Credential.name)))


def _account_name(body: dict[str, Any] | None) -> str | None:
    if body is None or body["credential_id"] is None:
        return None
    with read(engine()) as connection:
        name = select(Credential.name).where(Credential.id == body["credential_id"])
        return connection.execute(name).scalar_one_or_none()


def _models(connection: Connection, symbol: str) -> list[ModelChoice]:
    """Models to choose from, those of the bot's own market first."""
    rows = model_files.model_rows(connection, limit=500, before=None)
    rows.sort(key=lambda row: (row.symbol != symbol, -row.id))
    return [
        ModelChoice(
            id=row.id, label=f"{row.name} · {row.symbol}" + ("" if row.symbol == symbol else ", another market")
        )
        for row in rows
    ]


def _model(model_id: int) -> Row[Any] | None:
    try:
        with read(engine()) as connection:
            return model_files.model_row(connection, min(model_id, 2**31 - 1))
    except NotFound:
        return None


def _model_warning(config: dict[str, Any], symbol: str) -> str | None:
    model = _model(config["model_id"]) if config.get("model_id") is not None else None
    return model_warning(model.symbol if model else None, symbol)

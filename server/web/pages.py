"""All pages: importing this module registers their views on the blueprint."""

from __future__ import annotations

from server.web import (
    account,
    actions,
    assets,
    batch,
    bot,
    bot_close,
    bot_config_save,
    bot_log,
    chart,
    create,
    fleet,
    keys,
    kill,
    models,
    orders,
    sign_in,
    strategies,
    stream,
    system,
)
from server.web.shell import web

__all__ = [
    "account",
    "actions",
    "assets",
    "batch",
    "bot",
    "bot_close",
    "bot_config_save",
    "bot_log",
    "chart",
    "create",
    "fleet",
    "keys",
    "kill",
    "models",
    "orders",
    "sign_in",
    "strategies",
    "stream",
    "system",
    "web",
]

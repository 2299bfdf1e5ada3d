"""Examples of what the API gives, attached to its schemas, and the schemas of lists."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from server.api import schemas
from server.api.schemas import documented, list_of

_AT = "2026-11-20T14:32:08.000Z"
_MS = 1_795_185_128_000

CONFIG: dict[str, Any] = {
    "capital_per_trade": "200",
    "max_positions": 2,
    "holding_time": 2000,
    "profit_target_pct": 0.00015,
    "stop_loss_pct": 0.009,
    "maker_order_timeout": 60,
}
CONTROL: dict[str, Any] = {
    "control": {"desired": "running", "halted": False, "halt_reason": None, "close_positions": False},
    "config_version": 2,
    "config": CONFIG,
    "commands": [{"number": _MS, "verb": "close_positions", "args": {}}],
}
STATUS: dict[str, Any] = {
    "id": 3,
    "desired_state": "running",
    "halted": False,
    "halt_reason": None,
    "status": "running",
    "status_reason": None,
    "status_since": _MS,
    "pid": 4711,
    "run_id": "3.7",
    "config_version": 2,
    "applied_config_version": 2,
    "started_at": _AT,
    "heartbeat_at": _AT,
    "last_decision_at": _AT,
}
BOT: dict[str, Any] = STATUS | {
    "name": "eth-scalper",
    "description": "",
    "strategy": "rsi",
    "symbol": "ETHUSDT",
    "exchange": "simulator",
    "mode": "trade",
    "interval": "1m",
    "tags": ["demo"],
    "credential_id": 1,
    "created_at": _AT,
    "restarts_24h": 0,
    "open_positions": 1,
    "balance": "9799.42",
    "pnl_today": "12.5",
    "pnl_total": "-3.07",
    "rss_mib": 61.5,
}
RUN_TICKET: dict[str, Any] = {
    "run_id": "3.7",
    "bot_id": 3,
    "name": "eth-scalper",
    "generation": 7,
    "install": "k3x9qa",
    "strategy": "rsi",
    "symbol": "ETHUSDT",
    "exchange": "simulator",
    "mode": "trade",
    "interval": "1m",
    "document": CONTROL,
    "model": None,
    "endpoints": {
        "rest": "http://127.0.0.1:9700/api",
        "streams": "ws://127.0.0.1:9700/",
        "ws_api": "ws://127.0.0.1:9700/ws-api/v3",
    },
    "api_key": "vmPUZE6mv9SD5VNHk4HlWFsO",
    "api_secret": "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP",
    "server_url": "http://127.0.0.1:5000",
    "token": "flb_Zk3q9d2x",
    "home": "/srv/flotilla/journals/3",
    "kind": "remote",
    "memory": None,
    "memory_generation": 0,
}
BOOKED: dict[str, Any] = {"run_id": "3.7", "last_seq": 17, "replaced_by": None, "control_tag": "9f86d081884c7d65"}
MODEL: dict[str, Any] = {
    "id": 1,
    "name": "eth 2026-11",
    "symbol": "ETHUSDT",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "size_bytes": 183_204,
    "trees": 100,
    "features": ["ret_1", "ret_5"],
    "schema_version": "1",
    "uploaded_by": "admin",
    "created_at": _AT,
    "used_by": [3],
    "card": None,
}
ORDER: dict[str, Any] = {
    "id": 17,
    "bot_id": 3,
    "position_key": _MS,
    "symbol": "ETHUSDT",
    "side": "BUY",
    "status": "closed",
    "quantity": "0.0589",
    "entry_price": "3388.1",
    "exit_price": "3391.2",
    "opened_at": _AT,
    "closed_at": _AT,
    "fees": "0.4",
    "pnl": "-0.22",
    "pnl_pct": -0.0011,
    "confidence": 0.61,
    "exit_reason": "take_profit",
    "entry_logic": "rsi RSI(14) < 30",
    "exit_logic": "target +0.3%, stop -1%, after 3600 s",
    "config_version": 2,
    "model_id": None,
    "exchange": "simulator",
    "mode": "trade",
    "tags": ["demo"],
    "activated_at": _AT,
    "stop_price": "3354.21",
    "target_price": "3398.27",
    "exit_deadline_at": _AT,
    "exiting": None,
    "dust_quantity": "0.00003",
    "dust_cost": "0.101643",
    "legs": [{"client_order_id": "fabc123-3-1795185128000-e1", "role": "entry", "side": "BUY", "status": "filled"}],
}
FILL: dict[str, Any] = {
    "id": 40,
    "trade_id": 901,
    "order_id": 88,
    "client_order_id": "fabc123-3-1795185128000-e1",
    "position_key": _MS,
    "symbol": "ETHUSDT",
    "side": "BUY",
    "price": "3388.1",
    "quantity": "0.0589",
    "fee": "0.0000589",
    "fee_asset": "ETH",
    "fee_quote": "0.2",
    "is_maker": True,
    "time": _MS,
}
EVENT: dict[str, Any] = {
    "v": 1,
    "bot_id": 3,
    "run_id": "3.7",
    "seq": 17,
    "ts": _MS,
    "type": "status",
    "data": {"status": "running", "reason": None},
}
LOG_LINE: dict[str, Any] = {
    "id": 4712,
    "ts": _MS,
    "run_id": "3.7",
    "type": "fill",
    "level": "info",
    "text": "Bought 0.0589 ETHUSDT at 3388.1 as maker, fee 0.0000589 ETH (position #12, trade 901)",
}
FIGURES: dict[str, Any] = {
    "trades": 12,
    "wins": 8,
    "losses": 4,
    "win_rate": 0.667,
    "gross_pnl": "9.1",
    "pnl": "6.7",
    "fees": "2.4",
    "profit_factor": 1.9,
    "max_drawdown": "3.2",
    "max_drawdown_pct": 0.008,
    "avg_holding_time": 412.5,
}
PARAMETER: dict[str, Any] = {
    "name": "holding_time",
    "type": "integer",
    "default": 3600,
    "nullable": True,
    "minimum": 1,
    "maximum": 31_536_000,
    "choices": None,
    "unit": "s",
    "group": "exit",
    "applies": "next_position",
    "help": "Sell at market when a position is this old; empty means no limit.",
    "depends_on": None,
}
STRATEGY: dict[str, Any] = {
    "id": "rsi",
    "name": "RSI",
    "description": "Buys when the price has fallen fast.",
    "risk_note": "Loses in a long fall.",
    "intervals": ["1m", "5m"],
    "needs_model": False,
    "parameters": [PARAMETER],
}
CREDENTIAL: dict[str, Any] = {
    "id": 1,
    "exchange": "simulator",
    "name": "simulator account 1",
    "api_key_last4": "WFsO",
    "created_at": _AT,
}
TOKEN: dict[str, Any] = {
    "id": 5,
    "name": "backup script",
    "owner": "admin",
    "role": "viewer",
    "prefix": "fla_Zk3q9d2x",
    "created_at": _AT,
    "expires_at": None,
    "last_used_at": None,
}
SESSION: dict[str, Any] = {
    "id": 9,
    "kind": "page",
    "username": "admin",
    "program": "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "is_this": True,
    "created_at": _AT,
    "expires_at": "2026-11-21T02:32:08.000Z",
    "last_used_at": _AT,
}
HEALTH: dict[str, Any] = {
    "id": 3,
    "status": "running",
    "heartbeat_age_ms": 1200,
    "errors": {},
    "breakers": {},
    "streams": {"klines": "live"},
    "latency_p50_us": 180.0,
    "latency_p99_us": 410.0,
    "loop_lag_ms": 0.4,
    "rss_mib": 61.5,
    "restarts_24h": 0,
}
NEW_BOT: dict[str, Any] = {
    "name": "eth-scalper",
    "strategy": "rsi",
    "symbol": "ETHUSDT",
    "exchange": "simulator",
    "mode": "trade",
    "interval": "1m",
    "config": {"capital_per_trade": "200.00", "max_positions": 2},
    "credential_id": 1,
}

BotList = list_of(schemas.Bot, BOT)
OrderList = list_of(schemas.Order, ORDER)
FillList = list_of(schemas.Fill, FILL)
EventList = list_of(schemas.Event, EVENT)
LogLineList = list_of(schemas.LogLine, LOG_LINE)
ModelList = list_of(schemas.Model, MODEL)
StrategyList = list_of(schemas.Strategy, STRATEGY)
CredentialList = list_of(schemas.Credential, CREDENTIAL)
SessionList = list_of(schemas.Session, SESSION)
TokenList = list_of(schemas.Token, TOKEN)
ConfigVersionList = list_of(
    schemas.ConfigVersion,
    {
        "version": 2,
        "author": "admin",
        "created_at": _AT,
        "diff": {"holding_time": {"from": 3600, "to": 2000}},
        "config": CONFIG,
    },
)

AuditList = list_of(
    schemas.AuditEntry,
    {
        "id": 71,
        "at": _AT,
        "actor": "admin",
        "via": "web",
        "action": "bot.pause",
        "bot_id": 3,
        "target": "eth-scalper",
        "before": {"desired_state": "running"},
        "after": {"desired_state": "paused"},
        "reason": "news at 14:30",
    },
)

_EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    schemas.BotStatus: STATUS,
    schemas.BotHealth: HEALTH,
    schemas.Control: CONTROL,
    schemas.ConfigDocument: {"version": 2, **CONFIG},
    schemas.ConfigBody: {"holding_time": 2000, "capital_per_trade": "200.00"},
    schemas.Stats: {
        "bot_id": 3,
        "totals": FIGURES | {"sharpe": 1.4},
        "by_day": [FIGURES | {"day": "2026-11-20"}],
    },
    schemas.Ticket: RUN_TICKET,
    schemas.Booked: BOOKED,
    schemas.NewToken: TOKEN | {"token": "fla_Zk3q9d2x…"},
    schemas.TokenBody: {"name": "backup script", "role": "viewer", "expires_in": 2_592_000},
    schemas.CredentialBody: {
        "exchange": "simulator",
        "name": "simulator account 1",
        "api_key": "vmPUZE6mv9SD5VNHk4HlWFsO",
        "api_secret": "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP",
    },
    schemas.CredentialChanges: {"name": "simulator account 2"},
    schemas.Login: {"access_token": "eyJ…", "expires_in": 43_200, "role": "admin", "token_type": "Bearer"},
    schemas.LoginBody: {"username": "admin", "password": "correct horse battery staple"},
    schemas.NewBot: NEW_BOT,
    schemas.BotChanges: {"name": "eth-scalper 2", "tags": ["demo", "eth"]},
}
for _kind, _example in _EXAMPLES.items():
    documented(_kind, _example)

"""Make the ticket of one run from the rows: config, control, model, exchange keys, and a token of its own."""

from __future__ import annotations

from sqlalchemy import Connection, select

from server.security.secrets import Vault, open_credential
from server.security.tokens import issue_bot_token
from server.settings import Settings
from server.storage.engine import install_id
from server.storage.memory import memory_from_rows, unheard_runs
from server.storage.models import Model
from server.storage.queries import bot_row, control_document
from shared.errors import NotFound, Refused
from shared.states import RunKind
from shared.tickets import Endpoints, ModelReference, RunTicket

_ENDPOINTS = {
    "binance": Endpoints(
        rest="https://api.binance.com/api",
        streams="wss://stream.binance.com:9443/",
        ws_api="wss://ws-api.binance.com:443/ws-api/v3",
    ),
    "binance_testnet": Endpoints(
        rest="https://testnet.binance.vision/api",
        streams="wss://stream.testnet.binance.vision/",
        ws_api="wss://ws-api.testnet.binance.vision/ws-api/v3",
    ),
}


def make_ticket(
    connection: Connection,
    settings: Settings,
    vault: Vault,
    bot_id: int,
    generation: int,
    kind: RunKind = RunKind.SUPERVISED,
) -> RunTicket:
    """The ticket of run *generation*; its token replaces those of earlier runs. Raises `FlotillaError` in words."""
    bot = bot_row(connection, bot_id)
    document = control_document(connection, bot_id)
    key, secret = ("", "")
    if bot.credential_id is not None:
        key, secret = open_credential(connection, vault, bot.credential_id)
    elif bot.mode == "trade":
        raise Refused(f"Bot {bot.name} has no exchange credential. Choose one, or switch the bot to paper trading.")
    model_id = document.config.get("model_id")
    memory_generation, memory = memory_from_rows(connection, bot_id, generation, for_other_host=kind is RunKind.REMOTE)
    return RunTicket(
        bot_id=bot_id,
        name=bot.name,
        generation=generation,
        install=install_id(connection),
        strategy=bot.strategy,
        symbol=bot.symbol,
        exchange=bot.exchange,
        mode=bot.mode,
        interval=bot.interval,
        document=document,
        model=_model(connection, settings, model_id) if model_id is not None else None,
        endpoints=endpoints(settings, bot.exchange),
        api_key=key,
        api_secret=secret,
        server_url=settings.base_url,
        token=issue_bot_token(connection, bot_id, f"{bot_id}.{generation}", keep=unheard_runs(connection, bot_id)),
        home=str(settings.journals(bot_id)),
        kind=kind,
        memory=memory,
        memory_generation=memory_generation,
        halt_file=str(settings.halt_file),
    )


def endpoints(settings: Settings, exchange: str) -> Endpoints:
    """Where *exchange* is reached. Raises `Refused` for one that is not known."""
    if exchange == "simulator":
        host = f"127.0.0.1:{settings.sim_port}"
        return Endpoints(rest=f"http://{host}/api", streams=f"ws://{host}/", ws_api=f"ws://{host}/ws-api/v3")
    if exchange not in _ENDPOINTS:
        known = ", ".join(["simulator", *_ENDPOINTS])
        raise Refused(f"Exchange {exchange!r} is not known. Choose one of: {known}.")
    return _ENDPOINTS[exchange]


def _model(connection: Connection, settings: Settings, model_id: int) -> ModelReference:
    row = connection.execute(select(Model.sha256).where(Model.id == model_id, Model.deleted_ms.is_(None))).first()
    if row is None:
        raise NotFound(f"There is no model {model_id}. Choose one of the registered models in the bot's config.")
    path = settings.model_file(row.sha256)
    if not path.is_file():
        raise NotFound(f"The file of model {model_id} is missing. Upload the model again.")
    return ModelReference(id=model_id, sha256=row.sha256, path=str(path), url=f"/api/models/{model_id}/download")

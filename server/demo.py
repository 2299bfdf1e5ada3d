"""The demo fleet of a new home: freshly trained models and three bots on the simulator, all made through the REST API.

Each part is looked up by its name before it is made, so a load that was cut short heals at the next start without
duplicates. That it is done is remembered in the settings table; what people do to the demo bots later stays as it is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import requests
from setproctitle import setproctitle
from sqlalchemy import insert, select

from server.play_money import NoAccount, open_account
from server.settings import CHECKOUT, Settings
from server.storage.engine import make_engine, read, write
from server.storage.models import Setting
from shared.errors import FlotillaError

DONE = "demo_loaded"
TAG = "demo"
TRAINING = {"hours": 12, "horizon": 60, "target": 0.0003, "stop": 0.003}
_PATIENCE_S = 60.0

_SHORT: dict[str, Any] = {
    "capital_per_trade": "200",
    "holding_time": 60,
    "maker_order_timeout": 10,
    "profit_target_pct": TRAINING["target"],
    "stop_loss_pct": TRAINING["stop"],
}
_SCALPER = {"confidence_threshold": 0.5, "signal_interval": 2}
_BOTS: list[dict[str, Any]] = [
    {
        "name": "btc-scalper",
        "strategy": "lightgbm_scalper",
        "symbol": "BTCUSDC",
        "description": "Scalps with a model trained on the simulator's own market.",
        "config": _SHORT | _SCALPER,
    },
    {
        "name": "eth-scalper",
        "strategy": "lightgbm_scalper",
        "symbol": "ETHUSDC",
        "description": "The same on another market, with a model of its own.",
        "config": _SHORT | _SCALPER,
    },
    {
        "name": "eth-rsi",
        "strategy": "rsi",
        "symbol": "ETHUSDC",
        "description": "Buys oversold seconds, sells overbought ones.",
        "config": _SHORT | {"rsi_period": 7, "buy_below": 40, "sell_above": 70, "min_profit_pct": 0.0012},
    },
]


class DemoFailed(FlotillaError):
    """A part of the demo could not be made."""

    code = "demo_failed"


def is_done(settings: Settings) -> bool:
    """Whether this home had its demo fleet."""
    engine = make_engine(settings.database_url)
    try:
        with read(engine) as connection:
            return connection.execute(select(Setting.value).where(Setting.name == DONE)).first() is not None
    finally:
        engine.dispose()


def load(settings: Settings) -> None:
    """Make what is missing of the demo fleet, and start it. Raises `DemoFailed`."""
    setproctitle("flotilla: demo")
    if is_done(settings):
        return
    api = Api(settings)
    simulator = f"http://127.0.0.1:{settings.sim_port}"
    _wait_for(f"{settings.base_url}/health")
    _wait_for(f"{simulator}/sim/clock")
    for bot in _BOTS:
        _make_bot(api, settings, simulator, bot)
    _remember(settings)


class Api:
    """The REST API as the local admin."""

    def __init__(self, settings: Settings) -> None:
        self._base = settings.base_url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {settings.cli_token_file.read_text().strip()}"

    def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The answer's JSON. Raises `DemoFailed` with the server's own words."""
        try:
            answer = self._session.request(method, self._base + path, timeout=60, **more)
        except requests.RequestException as error:
            raise DemoFailed(f"{method} {path} was not answered: {error}") from None
        if not answer.ok:
            raise DemoFailed(f"{method} {path} was refused with {answer.status_code}: {answer.text[:500]}")
        document: dict[str, Any] = answer.json()
        return document

    def find(self, path: str, name: str) -> int | None:
        """Id of the row with this name in a list; None if there is none."""
        cursor = None
        while True:
            page = self.ask("GET", path, params={"limit": 100} | ({"cursor": cursor} if cursor else {}))
            for item in page["items"]:
                if item["name"] == name:
                    return int(item["id"])
            cursor = page.get("next_cursor")
            if not cursor:
                return None


def _model(api: Api, settings: Settings, simulator: str, symbol: str) -> int:
    name = f"demo {symbol}"
    found = api.find("/api/models", name)
    if found is not None:
        return found
    folder = settings.home / "demo"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / f"model-{symbol}.txt"
    command = [
        sys.executable, "-m", "research", "train", "--candles", f"{simulator}/api", "--symbol", symbol,
        *(word for name, value in TRAINING.items() for word in (f"--{name}", str(value))), "--out", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise DemoFailed(f"The demo model could not be trained: {(done.stderr or done.stdout).strip()[-500:]}")
    with file.open("rb") as content, file.with_suffix(".json").open("rb") as card:
        parts = {"file": content, "card": card}
        made = api.ask("POST", "/api/models/upload", files=parts, data={"symbol": symbol, "name": name})
    return int(made["id"])


def _make_bot(api: Api, settings: Settings, simulator: str, bot: dict[str, Any]) -> None:
    found = api.find("/api/bots", bot["name"])
    if found is None:
        config = dict(bot["config"])
        if bot["strategy"] == "lightgbm_scalper":
            config["model_id"] = _model(api, settings, simulator, bot["symbol"])
        document = bot | {
            "exchange": "simulator",
            "mode": "trade",
            "interval": "1s",
            "tags": [TAG],
            "credential_id": _make_credential(api, simulator, f"simulator {bot['name']}"),
            "config": config,
        }
        found = int(api.ask("POST", "/api/bots", json=document)["id"])
    api.ask("POST", f"/api/bots/{found}/start")


def _make_credential(api: Api, simulator: str, name: str) -> int:
    found = api.find("/api/credentials", name)
    if found is not None:
        return found
    try:
        keys = open_account(simulator, {"USDC": "10000"})
    except NoAccount as error:
        raise DemoFailed(error.message) from None
    document = {"name": name, "exchange": "simulator", **keys}
    return int(api.ask("POST", "/api/credentials", json=document)["id"])


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if requests.get(address, timeout=2).ok:
                return
        except requests.RequestException:
            pass
        if time.monotonic() >= deadline:
            raise DemoFailed(f"{address} did not answer within {_PATIENCE_S:g} s.")
        time.sleep(0.2)


def _remember(settings: Settings) -> None:
    engine = make_engine(settings.database_url)
    try:
        with write(engine) as connection:
            connection.execute(insert(Setting).values(name=DONE, value="yes"))
    finally:
        engine.dispose()

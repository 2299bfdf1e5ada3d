"""A caller of the websocket API: sends requests, signs them, and waits for answers and events."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import websockets
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.simulator.conftest import WIDE_MS
from tests.waiting import DEADLINE_S, LONG_S

LISTEN, STOP = "userDataStream.subscribe.signature", "userDataStream.unsubscribe"
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001"}
FAR = "40000"  # a price that nobody trades at, inside the price band


def run(scenario: Callable[[], Awaitable[None]], within_s: float = LONG_S) -> None:
    asyncio.run(asyncio.wait_for(scenario(), within_s))


def connect(simulator, query: str = ""):
    return websockets.connect(f"{simulator.ws}/ws-api/v3{query}")


async def receive(socket) -> dict:
    return json.loads(await asyncio.wait_for(socket.recv(), DEADLINE_S))


async def ask(socket, method: str, params: dict | None = None, **more: object) -> dict:
    """Send a request and return its answer, letting events pass."""
    message = {"id": 1, "method": method, **more} | ({} if params is None else {"params": params})
    await socket.send(json.dumps(message))
    while True:
        answer = await receive(socket)
        if "id" in answer:
            return answer


async def code(socket, method: str, params: dict | None = None) -> tuple[int, int]:
    """Status and error code of the answer."""
    answer = await ask(socket, method, params)
    assert "result" not in answer
    assert answer["error"]["msg"]
    return answer["status"], answer["error"]["code"]


async def events_until(socket, wanted: Callable[[dict], bool]) -> list[dict]:
    """Frames up to and including the first that is wanted."""
    frames = [await receive(socket)]
    while not wanted(frames[-1]):
        frames.append(await receive(socket))
    return frames


def now() -> int:
    return int(time.time() * 1000)


def payload(params: dict) -> str:
    return "&".join(f"{name}={value}" for name, value in sorted(params.items()))


def signed(customer, **params: object) -> dict:
    params = {"recvWindow": WIDE_MS, **params, "apiKey": customer.api_key, "timestamp": now()}
    return {**params, "signature": customer.sign(payload(params))}


@dataclass
class KeyHolder:
    """An account with a key pair."""

    api_key: str
    key: Ed25519PrivateKey | rsa.RSAPrivateKey

    def sign(self, text: str) -> str:
        if isinstance(self.key, Ed25519PrivateKey):
            raw = self.key.sign(text.encode())
        else:
            raw = self.key.sign(text.encode(), padding.PKCS1v15(), SHA256())
        return base64.b64encode(raw).decode()


def holder(simulator, key=None) -> KeyHolder:
    key = key or Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    reply = simulator.sim("POST", "accounts", {"balances": {"USDT": "100000"}, "public_key": pem})
    return KeyHolder(reply.json["api_key"], key)

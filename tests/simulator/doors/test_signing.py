"""Signatures of the three kinds of keys: on their own, and on requests as clients send them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import quote, urlencode

import pytest
from binance import AsyncClient
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from simulator.core.rules import ApiError
from simulator.doors.signing import check_signature, is_percent_encoded, parse_public_key
from tests.simulator.ws_caller import run

ED25519 = Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS = {"ED25519": ED25519, "RSA": RSA}


def pem(key) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def sign(kind: str, payload: bytes) -> str:
    raw = ED25519.sign(payload) if kind == "ED25519" else RSA.sign(payload, padding.PKCS1v15(), SHA256())
    return base64.b64encode(raw).decode()


def is_refused(kind: str, key: str, payload: bytes, signature: str) -> bool:
    try:
        check_signature(kind, key, payload, signature)
    except ApiError as error:
        return (error.code, error.msg, error.status) == (-1022, "Signature for this request is not valid.", 400)
    return False


def test_the_exchanges_own_example_of_an_hmac_signature():
    secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
    payload = (
        b"apiKey=vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A&newOrderRespType=ACK&price=52000.00"
        b"&quantity=0.01000000&recvWindow=100&side=SELL&symbol=BTCUSDT&timeInForce=GTC&timestamp=1645423376532&type=LIMIT"
    )
    check_signature("HMAC", secret, payload, "cc15477742bd704c29492d96c7ead9414dfd8e0ec4a00f947bb5bb454ddbd08a")


def test_an_hmac_is_good_in_either_case():
    good = hmac.new(b"secret", b"a=1", hashlib.sha256).hexdigest()
    check_signature("HMAC", "secret", b"a=1", good)
    check_signature("HMAC", "secret", b"a=1", good.upper())
    assert is_refused("HMAC", "secret", b"a=2", good)
    assert is_refused("HMAC", "other", b"a=1", good)
    assert is_refused("HMAC", "secret", b"a=1", "é\ud800")


@pytest.mark.parametrize("kind", ["ED25519", "RSA"])
def test_a_key_pair_signs_in_base64_whose_case_matters(kind):
    key, good = pem(KEYS[kind]), sign(kind, b"a=1")
    check_signature(kind, key, b"a=1", good)
    assert is_refused(kind, key, b"a=2", good)
    for bad in (good.swapcase(), good[:-4], good.replace("=", ""), f" {good}", good + "\n", "é", "A" * 88, "00" * 32):
        assert is_refused(kind, key, b"a=1", bad), bad


def test_a_signature_of_another_kind_of_key_is_refused():
    assert is_refused("ED25519", pem(ED25519), b"a=1", sign("RSA", b"a=1"))
    assert is_refused("RSA", pem(RSA), b"a=1", sign("ED25519", b"a=1"))
    assert is_refused("ED25519", pem(ED25519), b"a=1", hmac.new(b"s", b"a=1", hashlib.sha256).hexdigest())


def test_a_public_key_tells_its_kind():
    assert parse_public_key(pem(ED25519)) == "ED25519"
    assert parse_public_key(pem(RSA)) == "RSA"


def private_pem(key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a PEM"),
        ("\ud800", "not a PEM"),
        ("x" * 5000, "5000 characters"),
        (private_pem(ED25519), "private key"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "neither Ed25519 nor RSA"),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "1024 bits"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_with_a_sentence(simulator, text, words):
    with pytest.raises(ValueError, match=words):
        parse_public_key(text)
    reply = simulator.sim("POST", "accounts", {"balances": {"USDT": "1"}, "public_key": text})
    assert reply.status == 422
    assert words in reply.json["error"]
    assert reply.json["error"].endswith(".")


def test_only_what_may_stand_in_a_url_is_percent_encoded():
    assert is_percent_encoded(b"a=1&b=%7B%22%7d&c=x~-._:/?@!$'()*+,;")
    for bad in (b"a=[", b'a="', b"a= ", b"a=\xc3\xa9", b"a=%2", b"a=%gg", b"a=\n", b"a={}|^`<>\\"):
        assert not is_percent_encoded(bad), bad


def with_public_key(simulator, kind: str) -> str:
    reply = simulator.sim("POST", "accounts", {"balances": {"USDT": "100000"}, "public_key": pem(KEYS[kind])})
    assert (reply.status, set(reply.json)) == (201, {"api_key"})
    return reply.json["api_key"]


@pytest.mark.parametrize("kind", ["ED25519", "RSA"])
def test_rest_takes_a_percent_encoded_signature_in_query_or_body(simulator, kind):
    headers = {"X-MBX-APIKEY": with_public_key(simulator, kind)}
    query = urlencode({"timestamp": int(time.time() * 1000)})
    signed = f"{query}&signature={quote(sign(kind, query.encode()), safe='')}"
    assert simulator.ask("GET", f"/api/v3/account?{signed}", headers=headers).status == 200

    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
    body = urlencode({**order, "timestamp": int(time.time() * 1000)})
    signed = f"{body}&signature={quote(sign(kind, body.encode()), safe='')}"
    assert simulator.ask("POST", "/api/v3/order", signed.encode(), headers).json["status"] == "FILLED"


def test_a_plus_that_was_not_encoded_is_a_space_and_fails(simulator):
    headers = {"X-MBX-APIKEY": with_public_key(simulator, "ED25519")}
    signature = query = ""
    for recv_window in range(5000, 6000):  # until a signature has a plus
        query = urlencode({"timestamp": int(time.time() * 1000), "recvWindow": recv_window})
        signature = sign("ED25519", query.encode())
        if "+" in signature:
            break
    raw = simulator.ask("GET", f"/api/v3/account?{query}&signature={signature}", headers=headers)
    assert (raw.status, raw.code) == (400, -1022)
    encoded = simulator.ask("GET", f"/api/v3/account?{query}&signature={quote(signature)}", headers=headers)
    assert encoded.status == 200


def test_a_signed_request_must_be_percent_encoded(simulator):
    customer = simulator.account()
    text = f"symbol=BTCUSDT&origClientOrderId=a[1]&timestamp={int(time.time() * 1000)}"
    path = f"/api/v3/order?{text}&signature={customer.sign(text)}"
    assert simulator.ask("GET", path, headers={"X-MBX-APIKEY": customer.api_key}).code == -1022
    encoded = text.replace("[", "%5B").replace("]", "%5D")
    path = f"/api/v3/order?{encoded}&signature={customer.sign(encoded)}"
    assert simulator.ask("GET", path, headers={"X-MBX-APIKEY": customer.api_key}).code == -1100  # not a client's id


def test_the_kind_of_a_key_outlives_a_restart(start, tmp_path):
    simulator = start("--state", tmp_path)
    headers = {"X-MBX-APIKEY": with_public_key(simulator, "ED25519")}
    simulator.stop()
    simulator = start("--state", tmp_path)
    query = urlencode({"timestamp": int(time.time() * 1000)})
    signed = f"{query}&signature={quote(sign('ED25519', query.encode()))}"
    assert simulator.ask("GET", f"/api/v3/account?{signed}", headers=headers).status == 200


@pytest.mark.parametrize("kind", ["ED25519", "RSA"])
def test_python_binance_trades_with_a_key_pair(simulator, kind):
    class Client(AsyncClient):
        API_URL = simulator.url + "/api"

    async def scenario() -> None:
        key = with_public_key(simulator, kind)
        client = await Client.create(key, "", private_key=private_pem(KEYS[kind]))
        try:
            bought = await client.order_market_buy(symbol="BTCUSDT", quantity="0.01")
            found = await client.get_order(symbol="BTCUSDT", orderId=bought["orderId"])
            assert (bought["status"], found["status"]) == ("FILLED", "FILLED")
        finally:
            await client.close_connection()

    run(scenario)

"""An account as somebody asks for it, over HTTP or in a scenario, checked field by field."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from simulator.core.orders import AccountOpened
from simulator.core.rules import ATOM_DIGITS
from simulator.doors.signing import HMAC, parse_public_key
from simulator.scenario.document import Node

ACCOUNT_FIELDS = "api_key api_secret public_key fees can_trade pays_in_bnb"
_ASSET = re.compile(r"[A-Z0-9]{1,20}")
_KEY = re.compile(r"[A-Za-z0-9]{64}")


def read_account(node: Node, new_key: Callable[[str], str]) -> AccountOpened:
    """The account that *node* asks for, without number and time; *new_key* makes the ``api_key`` or ``api_secret`` that
    is not given. A ``public_key`` (PEM, Ed25519 or RSA) stands in the secret's place. Raises ``BadScenario``."""
    fields = node.fields("balances", f"name {ACCOUNT_FIELDS}")
    kind, secret = HMAC, ""
    if "public_key" in fields:
        if "api_secret" in fields:
            fields["public_key"].refuse_unseen("give either public_key or api_secret")
        secret = str(fields["public_key"].value)
        try:
            kind = parse_public_key(secret)
        except ValueError as error:
            fields["public_key"].refuse_unseen(str(error).rstrip("."))
    else:
        secret = _secret(fields["api_secret"]) if "api_secret" in fields else new_key("api_secret")
    fees = fields["fees"].fields("", "maker taker") if "fees" in fields else {}
    return AccountOpened(
        api_key=_key(fields["api_key"]) if "api_key" in fields else new_key("api_key"),
        api_secret=secret,
        name=fields["name"].text("a name of 1 to 100 characters") if "name" in fields else "",
        uid=0,
        time_ms=0,
        deposits=_balances(fields["balances"]),
        key_kind=kind,
        can_trade=fields["can_trade"].flag() if "can_trade" in fields else True,
        maker_ppm=_ppm(fees["maker"]) if "maker" in fees else -1,
        taker_ppm=_ppm(fees["taker"]) if "taker" in fees else -1,
        pays_in_bnb=fields["pays_in_bnb"].flag() if "pays_in_bnb" in fields else False,
    )


def _key(node: Node) -> str:
    key = node.text("64 letters and digits")
    if not _KEY.fullmatch(key):
        node.refuse("give 64 letters and digits")
    return key


def _secret(node: Node) -> str:
    if not isinstance(node.value, str) or not _KEY.fullmatch(node.value):
        node.refuse_unseen("give 64 letters and digits")
    return node.value


def _balances(node: Node) -> dict[str, int]:
    found = {}
    for asset, amount in node.mapping('assets with amounts, such as {USDT: "10000"}').items():
        if not _ASSET.fullmatch(asset):
            amount.refuse(f"{asset!r} is not an asset; use up to 20 capitals and digits, such as USDT")
        found[asset] = int(Decimal(amount.decimal()).scaleb(ATOM_DIGITS))
    return found


def _ppm(node: Node) -> int:
    ppm = Decimal(node.decimal()).scaleb(6)
    if ppm != int(ppm) or ppm >= 1_000_000:
        node.refuse('give a fraction below 1 of at most 6 places, such as "0.001"')
    return int(ppm)

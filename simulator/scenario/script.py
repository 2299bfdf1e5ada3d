"""A scenario as checked data: who has an account, what goes wrong when, who places which order when.

Every field is checked here, also those of faults and orders, so that a script that was read can be played. What the
market makes of an order is known only then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from simulator.api.endpoints import ENDPOINTS
from simulator.core.orders import AccountOpened
from simulator.doors.params import SIGNING
from simulator.faults.kinds import KINDS, Fault, described
from simulator.faults.rules import BadFault, decimal_text
from simulator.scenario.accounts import ACCOUNT_FIELDS, read_account
from simulator.scenario.document import BadScenario, Node, load_document

OPERATIONS = {
    "place": "order.place",
    "replace": "order.cancelReplace",
    "cancel": "order.cancel",
    "cancel_all": "openOrders.cancelAll",
    "place_oco": "orderList.place.oco",
    "cancel_list": "orderList.cancel",
}
LONGEST_S = 10 * 366 * 86_400
MAX_TIMES = 1_000_000
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class When:
    """Market time in milliseconds; and again each *every_ms* (0: never), *times* in all (``None``: for ever)."""

    at_ms: int
    every_ms: int = 0
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """A fault to switch on; *path* is its place in the document."""

    path: str
    when: When
    fault: Fault


@dataclass(frozen=True, slots=True)
class ScriptedOrder:
    """A call by the account of *api_key*, named and written as in the websocket API."""

    path: str
    when: When
    api_key: str
    ws_method: str
    params: dict[str, str]


@dataclass(frozen=True, slots=True)
class Script:
    """A whole scenario, starting at *start_ms* of market time."""

    start_ms: int
    accounts: tuple[AccountOpened, ...]
    faults: tuple[ScriptedFault, ...]
    orders: tuple[ScriptedOrder, ...]


def read_script(path: Path, start_ms: int, seed: int, symbols: Collection[str]) -> Script:
    """The scenario in *path*. *seed* and an account's name give its keys; *symbols* are those listed. Raises
    `BadScenario`."""
    fields = load_document(path).fields("", "accounts faults orders")
    accounts = []
    for node in fields["accounts"].items() if "accounts" in fields else ():
        name = node.fields("name balances", ACCOUNT_FIELDS)["name"].text("a name of 1 to 100 characters")
        accounts.append(read_account(node, partial(derived_key, seed, name)))
    keys: dict[str, str] = {}
    for number, account in enumerate(accounts):
        if account.name in keys or account.api_key in keys.values():
            raise BadScenario(
                f"{path.name}: accounts[{number}] is {account.name!r} again: give each account its own name and key."
            )
        keys[account.name] = account.api_key
    reader = _Steps(start_ms, keys, symbols)
    return Script(
        start_ms,
        tuple(accounts),
        tuple(reader.fault(node) for node in fields["faults"].items()) if "faults" in fields else (),
        tuple(reader.order(node) for node in fields["orders"].items()) if "orders" in fields else (),
    )


def derived_key(seed: int, name: str, use: str) -> str:
    """64 letters and digits that follow from *seed*, the account's *name* and what the key is for."""
    number = int.from_bytes(hashlib.sha512(f"{seed}\n{use}\n{name}".encode()).digest())
    letters = []
    for _ in range(64):
        number, place = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[place])
    return "".join(letters)


class _Steps:
    """Reads what happens at set moments."""

    def __init__(self, start_ms: int, keys: dict[str, str], symbols: Collection[str]) -> None:
        self._start_ms = start_ms
        self._keys = keys
        self._symbols = symbols
        offered = {endpoint.ws_method: endpoint for endpoint in ENDPOINTS}
        self._operations = {name: offered[method] for name, method in OPERATIONS.items() if method in offered}

    def fault(self, node: Node) -> ScriptedFault:
        """``{at, every?, times?, fault: {kind, …}}``; in ``fault``, ``account`` may stand for an account's key."""
        fields = node.fields("at fault", "every times")
        body = {name: entry.value for name, entry in fields["fault"].mapping("a fault with its kind").items()}
        kind = KINDS.get(str(body.get("kind")))
        if "account" in body and kind is not None and any(row.name == "api_key" for row in kind.fields):
            owner = fields["fault"].mapping("a fault")["account"]
            body["api_key"] = self._account_key(owner)
            del body["account"]
        try:
            fault = described(body)
        except BadFault as error:
            raise BadScenario(f"{node.file}: {fields['fault'].path}: {error}") from None
        symbol = getattr(fault, "symbol", "")
        if symbol and symbol not in self._symbols:
            self._refuse_symbol(fields["fault"], symbol)
        return ScriptedFault(node.path, self._when(fields), fault)

    def order(self, node: Node) -> ScriptedOrder:
        """``{at, every?, times?, account, place: {…}}``, or ``cancel`` and the like in the place of ``place``."""
        fields = node.fields("at account", "every times " + " ".join(self._operations))
        named = [name for name in self._operations if name in fields]
        if len(named) != 1:
            raise BadScenario(f"{node.file}: {node.path} needs one of {', '.join(self._operations)}: give just one.")
        endpoint, sent = self._operations[named[0]], fields[named[0]]
        params = {name: _param(value) for name, value in sent.mapping("the parameters of the call").items()}
        known = sorted((endpoint.params or frozenset()) - SIGNING)
        for name in params:
            if name not in known:
                raise BadScenario(f"{node.file}: {sent.path}.{name} is not known: give {', '.join(known)}.")
        symbol = params.get("symbol")
        if symbol is None:
            raise BadScenario(f"{node.file}: {sent.path} lacks symbol: add it.")
        if symbol not in self._symbols:
            self._refuse_symbol(sent, symbol)
        account = self._account_key(fields["account"])
        return ScriptedOrder(node.path, self._when(fields), account, endpoint.ws_method, params)

    def _when(self, fields: dict[str, Node]) -> When:
        at_ms = self._moment(fields["at"])
        if "every" not in fields:
            if "times" in fields:
                fields["times"].refuse("give every beside it, the seconds from one time to the next")
            return When(at_ms)
        times = fields["times"].whole(1, MAX_TIMES) if "times" in fields else None
        return When(at_ms, fields["every"].seconds_ms(1, LONGEST_S), times)

    def _moment(self, node: Node) -> int:
        if not isinstance(node.value, str):
            return self._start_ms + node.seconds_ms(0, LONGEST_S)
        try:
            moment = datetime.fromisoformat(node.value)
        except ValueError:
            node.refuse("give seconds after the start, or a time such as 2026-01-31T12:00:00Z")
        if moment.tzinfo is None:
            node.refuse("add the time zone, such as Z for UTC")
        ms = round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
        if ms < self._start_ms:
            start = datetime.fromtimestamp(self._start_ms / 1000, UTC).isoformat(timespec="seconds")
            node.refuse(f"the market starts at {start}; give a later time")
        return ms

    def _account_key(self, node: Node) -> str:
        if not isinstance(node.value, str) or node.value not in self._keys:
            names = ", ".join(self._keys) or "none yet, add it to accounts"
            node.refuse(f"give the name of one of the accounts: {names}")
        return self._keys[node.value]

    def _refuse_symbol(self, node: Node, symbol: str) -> None:
        known = ", ".join(self._symbols)
        raise BadScenario(f"{node.file}: {node.path}.symbol is {symbol!r}: give one of {known}.")


def _param(node: Node) -> str:
    """A parameter as it is sent: texts as they are, numbers in plain decimals."""
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, str):
        return node.text("a text of 1 to 100 characters")
    text = decimal_text(node.value)
    if text is None:
        node.refuse("give a text or a number")
    return text
